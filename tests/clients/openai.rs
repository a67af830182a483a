//! OpenAI's own package: it lists models, makes vectors, and raises the exceptions that its users catch.

use crate::{add, add_as, graphs, python, run, served};

#[tokio::test]
async fn openai_lists_models_and_raises_its_own_exceptions() {
    let Some(python) = python() else { return };
    let served = served().await;
    add(&served.url, "neg", graphs::neg()).await;
    run(&python, "models.py", &[&served.url]).await;
    served.stop().await.unwrap();
}

#[tokio::test]
async fn openai_makes_vectors_of_texts_and_tokens() {
    let Some(python) = python() else { return };
    let served = served().await;
    let tokenizer = concat!(env!("CARGO_MANIFEST_DIR"), "/fixtures/inputs/modality/wordpiece.json");
    let files = [("tokenizer.json", std::fs::read(tokenizer).unwrap())];
    add_as("", &served.url, "lookup", graphs::lookup(700), &files).await;
    add(&served.url, "neg", graphs::neg()).await;
    run(&python, "embeddings.py", &[&served.url]).await;
    served.stop().await.unwrap();
}
