//! The correctness gate end to end: who is quarantined, what is remembered, who waits.

use serde_json::{Value, json};
use tokio::sync::mpsc;

use crate::support::{Conduct, Deed, FakeBrowser, TestDaemon, graphs, infer, infer_x, soon, verdicts};

fn wasm() -> Value {
    json!({"backend": ["wasm"]})
}

fn on(browser: &str) -> Value {
    json!({"browser": browser})
}

#[tokio::test]
async fn a_mismatch_quarantines_its_lane_alone_and_for_good() {
    let (alpha, beta) = (FakeBrowser::new("alpha", &["wasm"]), FakeBrowser::new("beta", &["wasm"]));
    alpha.behaves(Conduct::Always(Deed::Wrong));
    let daemon = TestDaemon::start(&[&alpha, &beta]).await;
    let verdicts = daemon.verify("neg", &wasm()).await;
    assert_eq!(verdicts["alpha/wasm"]["status"], "mismatch");
    assert!(
        verdicts["alpha/wasm"]["detail"].as_str().is_some_and(|detail| detail.contains("error 0.1")),
        "{verdicts:?}"
    );
    assert_eq!(verdicts["beta/wasm"]["status"], "verified");
    let mut client = daemon.client().await;
    let wrongly = "alpha-1/wasm computes neg wrongly";
    client.ask(&infer_x("r", &on("alpha"))).await.refused("quarantined", "elsewhere", wrongly);
    let steps = alpha.steps();
    for _ in 0..3 {
        let reply = client.ask(&infer_x("r", &wasm())).await;
        assert_eq!(
            (&reply.negated()["browser"], &reply.provenance()["verdict"]),
            (&json!("beta"), &json!("verified"))
        );
    }
    let reply = client.ask(&infer_x("r", &json!({"browser": "alpha", "fallback": "native"}))).await;
    let fallback = &reply.negated()["fallback"];
    assert!(fallback["reason"].as_str().is_some_and(|reason| reason.contains(wrongly)), "{fallback}");
    // Nor does a lane that computes rightly now get another chance, unless something in its key changes.
    alpha.behaves(Conduct::Compute);
    alpha.kill_lane("wasm");
    daemon.verify("neg", &wasm()).await;
    client.ask(&infer_x("r", &on("alpha"))).await.refused("quarantined", "elsewhere", wrongly);
    assert_eq!(alpha.steps(), steps);
    daemon.stop().await;
}

#[tokio::test]
async fn what_proves_nothing_serves_nothing() {
    let browser = FakeBrowser::new("fake", &["wasm"]);
    let daemon = TestDaemon::start(&[&browser]).await;
    daemon.add("constant", graphs::constant()).await;
    let verdicts = daemon.verify("constant", &wasm()).await;
    assert_eq!(verdicts["fake/wasm"]["status"], "unproven", "{verdicts:?}");
    let x = json!([{"name": "x", "datatype": "FP32", "shape": [1, 4], "data": [1, 2, 3, 4]}]);
    let mut client = daemon.client().await;
    let refused = client.ask(&infer("r", "constant", &x, &wasm())).await;
    refused.refused("no_backend", "elsewhere", "is unproven for constant");
    let reply = client.ask(&infer("r", "constant", &x, &json!({}))).await;
    assert_eq!(reply.provenance()["backend"], "ort-cpu");
    client.serves(&wasm()).await;
    daemon.stop().await;
}

#[tokio::test]
async fn verdicts_outlive_the_daemon_until_their_key_changes() {
    let browser = FakeBrowser::new("fake", &["wasm"]);
    let daemon = TestDaemon::start(&[&browser]).await;
    daemon.client().await.serves(&wasm()).await;
    assert_eq!(browser.steps(), 4, "three inputs prove, one serves");
    let home = daemon.stop().await;
    for (version, steps, kept) in [("1.0", 5, 1), ("2.0", 9, 2), ("1.0", 10, 2)] {
        version.clone_into(&mut browser.settings().version);
        let daemon = TestDaemon::start_in(home.clone(), &[&browser], |_| {}).await.expect("a good start");
        daemon.settled().await;
        let mut client = daemon.client().await;
        let reply = client.ask(&infer_x("r", &wasm())).await;
        let provenance = reply.negated();
        assert_eq!(
            (&provenance["browser_version"], &provenance["verdict"]),
            (&json!(version), &json!("verified"))
        );
        assert_eq!(browser.steps(), steps, "version {version}");
        let shown = daemon.get("/api/v1/models/neg").await;
        assert_eq!(shown["verdicts"].as_array().map(Vec::len), Some(kept), "{shown}");
        assert_eq!(verdicts(&shown)["fake/wasm"]["inputs"], 3);
        daemon.stop().await;
    }
}

#[tokio::test]
async fn who_is_pinned_to_an_unproven_lane_waits_and_who_is_not_does_not() {
    let browser = FakeBrowser::new("fake", &["wasm"]);
    let daemon = TestDaemon::start(&[&browser]).await;
    let (ask, mut asked) = mpsc::unbounded_channel();
    browser.behaves(Conduct::Ask(ask));
    let mut client = daemon.client().await;
    client.send(&infer_x("pinned", &wasm())).await;
    let first = soon("a proof", asked.recv()).await.expect("the browser lives");
    let reply = client.ask(&infer_x("any", &json!({}))).await;
    let wanted = json!({"wanted": "a browser", "reason": "the model is being loaded and proven there"});
    assert_eq!(reply.negated()["fallback"], wanted);
    let brief = json!({"backend": ["wasm"], "timeout": 30_000});
    client.ask(&infer_x("brief", &brief)).await.refused("deadline_exceeded", "same", "in the queue");
    first.answer(Deed::Compute);
    for _ in 0..3 {
        soon("a step", asked.recv()).await.expect("the browser lives").answer(Deed::Compute);
    }
    assert_eq!(client.reply("pinned").await.negated()["verdict"], "verified");
    assert_eq!(browser.steps(), 4, "a proof happens once");
    daemon.stop().await;
}

#[tokio::test]
async fn a_lane_that_dies_while_it_is_proven_is_proven_again() {
    let browser = FakeBrowser::new("fake", &["wasm"]);
    let daemon = TestDaemon::start(&[&browser]).await;
    let (ask, mut asked) = mpsc::unbounded_channel();
    browser.behaves(Conduct::Ask(ask));
    let mut client = daemon.client().await;
    client.send(&infer_x("r", &wasm())).await;
    soon("a proof", asked.recv()).await.expect("the browser lives").answer(Deed::Close);
    for _ in 0..4 {
        soon("a step", asked.recv()).await.expect("the browser lives").answer(Deed::Compute);
    }
    assert_eq!(client.reply("r").await.negated()["verdict"], "verified");
    daemon.stop().await;
}

/// A software adapter shows that the numbers are right; it does not make a GPU.
#[tokio::test]
async fn a_software_adapter_serves_only_who_asks_for_it() {
    let browser = FakeBrowser::new("fake", &["webgpu"]);
    browser.settings().software_adapter = true;
    let daemon = TestDaemon::start(&[&browser]).await;
    let mut client = daemon.client().await;
    assert_eq!(client.ask(&infer_x("r", &json!({}))).await.negated()["browser"], "native");
    let reply = client.ask(&infer_x("r", &json!({"backend": "webgpu"}))).await;
    let provenance = reply.negated();
    assert_eq!(
        (&provenance["software_adapter"], &provenance["adapter"]["description"]),
        (&json!(true), &json!("Fake"))
    );
    daemon.stop().await;
}
