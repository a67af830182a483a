//! The API's document, judged by a validator and by the requests that schemathesis makes of it.

use crate::{add_as, graphs, guarded, python, run};

#[tokio::test]
async fn the_document_is_valid_and_the_daemon_does_what_it_says() {
    let Some(python) = python() else { return };
    let (served, key) = guarded().await;
    add_as(&key, &served.url, "neg", graphs::neg(), &[]).await;
    run(&python, "document.py", &[&served.url, &key]).await;
    served.stop().await.unwrap();
}
