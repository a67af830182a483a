//! A stock WebSocket client, in both forms of a message.

use crate::{add, graphs, python, run, served};

#[tokio::test]
async fn websockets_asks_in_text_and_in_binary() {
    let Some(python) = python() else { return };
    let served = served().await;
    add(&served.url, "neg", graphs::neg()).await;
    run(&python, "websocket.py", &[&served.url]).await;
    served.stop().await.unwrap();
}
