//! The API's document, judged by a validator and by the requests that schemathesis makes of it.

use crate::{add, graphs, python, run, served};

#[tokio::test]
async fn the_document_is_valid_and_the_daemon_does_what_it_says() {
    let Some(python) = python() else { return };
    let served = served().await;
    add(&served.url, "neg", graphs::neg()).await;
    run(&python, "document.py", &[&served.url]).await;
    served.stop().await.unwrap();
}
