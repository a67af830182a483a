//! OpenAI's own package: it lists models, and raises the exceptions that its users catch.

use crate::{add, graphs, python, run, served};

#[tokio::test]
async fn openai_lists_models_and_raises_its_own_exceptions() {
    let Some(python) = python() else { return };
    let served = served().await;
    add(&served.url, "neg", graphs::neg()).await;
    run(&python, "models.py", &[&served.url]).await;
    served.stop().await.unwrap();
}
