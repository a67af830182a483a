//! Prometheus' own parser of the text format.

use futures_util::{SinkExt as _, StreamExt as _};
use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::Message;

use crate::{add, graphs, python, run, served};

#[tokio::test]
async fn prometheus_reads_the_metrics() {
    let Some(python) = python() else { return };
    let served = served().await;
    add(&served.url, "neg", graphs::neg()).await;
    let socket = format!("{}/v2/ws", served.url.replacen("http", "ws", 1));
    let (mut socket, _) = tokio_tungstenite::connect_async(socket).await.unwrap();
    for id in ["a", "b", "c"] {
        let inputs = json!([{"name": "x", "datatype": "FP32", "shape": [1, 4], "data": [1, 2, 3, 4]}]);
        let request = json!({"type": "infer", "id": id, "model_name": "neg", "inputs": inputs});
        socket.send(Message::text(request.to_string())).await.unwrap();
        let reply: Value =
            serde_json::from_str(socket.next().await.unwrap().unwrap().to_text().unwrap()).unwrap();
        assert_eq!(reply["type"], "result", "{reply}");
    }
    run(&python, "prometheus.py", &[&served.url, "neg", "3"]).await;
    served.stop().await.unwrap();
}
