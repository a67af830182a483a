//! `tritonclient[http]`: the Open Inference Protocol's most used client.

use crate::{add, graphs, python, run, served};

#[tokio::test]
async fn tritonclient_is_served() {
    let Some(python) = python() else { return };
    let served = served().await;
    add(&served.url, "neg", graphs::neg()).await;
    run(&python, "triton.py", &[&served.url]).await;
    served.stop().await.unwrap();
}
