//! Browsers and lanes that cannot be had: each says why, and what is left serves.

use std::{ffi::OsString, sync::Arc};

use serde_json::json;
use weft::driver::{
    cdp::CdpDriver,
    recipe::{Places, Recipe},
};

use crate::support::{FakeBrowser, TestDaemon, fleet, graphs, home, infer_x};

const RECIPE: &str = r#"
name = "absent"
product = "Absent Browser"
driver = "cdp"
find = ["weft-no-such-browser", "{cache}/no/such/browser"]
install = "run make setup"
backends = ["wasm"]

[gpu.hardware]
[gpu.software]
[limits]
instances = 1
"#;

#[tokio::test]
async fn a_browser_that_is_not_installed_says_how_to_get_it() {
    let fake = FakeBrowser::new("fake", &["wasm"]);
    let driver = fake.clone();
    let daemon = TestDaemon::start_with(
        home(),
        move |config, run, tasks| {
            let recipe = Recipe::parse("browsers/absent.toml", RECIPE).expect("a good recipe");
            let places = Places { cache: config.home.clone(), path: OsString::from(&config.home) };
            let absent = CdpDriver::new(recipe.clone(), places, run.clone(), tasks.clone());
            vec![
                fleet("absent", recipe.backends, Arc::new(absent)),
                fleet("fake", driver.backends(), Arc::new(driver.clone())),
            ]
        },
        |_| {},
    )
    .await
    .expect("a good start");
    daemon.settled().await;
    daemon.add("neg", graphs::neg()).await;
    let reason = "Absent Browser is not installed: run make setup";
    let instances = daemon.get("/api/v1/instances").await;
    let absent = &instances["items"][0];
    assert_eq!((&absent["state"], &absent["reason"]), (&json!("failed"), &json!(reason)));
    let lane = daemon.lane("absent-1/wasm").await;
    assert_eq!((&lane["state"], &lane["reason"]), (&json!("absent"), &json!(reason)));
    let mut client = daemon.client().await;
    let refused = client.ask(&infer_x("r", &json!({"browser": "absent"}))).await;
    refused.refused("no_backend", "never", &format!("no lane offers absent: absent: {reason}"));
    client.serves(&json!({"backend": ["wasm"]})).await;
    assert_eq!(daemon.get("/v2/health/ready").await["ready"], true, "a stated reason is an answer too");
    daemon.stop().await;
}

#[tokio::test]
async fn a_lane_that_cannot_be_had_is_absent_with_its_reason() {
    let browser = FakeBrowser::new("fake", &["wasm", "webgpu"]);
    browser.settings().unavailable.insert("webgpu", "navigator.gpu.requestAdapter() returned null");
    let daemon = TestDaemon::start(&[&browser]).await;
    let lane = daemon.lane("fake-1/webgpu").await;
    assert_eq!((&lane["state"], &lane["load"]), (&json!("absent"), &json!(null)));
    assert_eq!(lane["reason"], "navigator.gpu.requestAdapter() returned null");
    assert_eq!(daemon.lane("fake-1/wasm").await["state"], "ready");
    assert_eq!(daemon.get("/api/v1/instances").await["items"][0]["state"], "ready");
    daemon.stop().await;
}
