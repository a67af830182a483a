//! `tritonclient[http]`: the Open Inference Protocol's most used client.

use crate::{add, graphs, python, run, served};

/// The protocol's datatypes, as ONNX numbers them.
const ELEMENTS: [(&str, u64); 14] = [
    ("bool", 9),
    ("uint8", 2),
    ("uint16", 4),
    ("uint32", 12),
    ("uint64", 13),
    ("int8", 3),
    ("int16", 5),
    ("int32", 6),
    ("int64", 7),
    ("fp16", 10),
    ("fp32", 1),
    ("fp64", 11),
    ("bf16", 16),
    ("bytes", 8),
];

#[tokio::test]
async fn tritonclient_is_served() {
    let Some(python) = python() else { return };
    let served = served().await;
    add(&served.url, "neg", graphs::neg()).await;
    for (name, element) in ELEMENTS {
        add(&served.url, name, graphs::identity(element)).await;
    }
    run(&python, "triton.py", &[&served.url]).await;
    served.stop().await.unwrap();
}
