//! Lanes that hold too much: sessions that go, Workers that are recycled, and no request that is lost for it.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::sync::mpsc;

use crate::support::{
    Asked, Conduct, Deed, FakeBrowser, FakeMemory, TestDaemon, graphs, home, infer, infer_x, soon,
};

const CEILING: u64 = 1 << 30;
const MIB: u64 = 1 << 20;

fn pinned() -> Value {
    json!({"backend": ["wasm", "webgpu"]})
}

/// A daemon whose lanes may hold [`CEILING`], with the models `neg` and `any`, and neither loaded.
async fn limited(browsers: &[&FakeBrowser], recycle_after: Duration) -> TestDaemon {
    let daemon = TestDaemon::start_in(home(), browsers, |config| {
        config.limits.lane_memory = CEILING;
        config.limits.recycle_after = recycle_after;
    })
    .await
    .expect("a good start");
    daemon.settled().await;
    daemon.add("neg", graphs::neg()).await;
    daemon.add("any", graphs::identity(graphs::FLOAT)).await;
    daemon
}

/// The gate compares so many input sets.
const PROOF_STEPS: usize = 3;

async fn step(asked: &mut mpsc::UnboundedReceiver<Asked>) -> Asked {
    soon("a step", asked.recv()).await.expect("the browser lives")
}

fn any(id: &str) -> Value {
    infer(id, "any", &json!([{"name": "x", "datatype": "FP32", "shape": [1], "data": [5]}]), &pinned())
}

/// The sessions that a lane holds ready.
async fn ready(daemon: &TestDaemon, lane: &str) -> Vec<String> {
    let load = daemon.lane(lane).await["load"].clone();
    let sessions = load["sessions"].as_array().unwrap_or_else(|| panic!("no sessions in {load}")).clone();
    let of = |session: &Value| session["session"].as_str().expect("a name").to_owned();
    sessions.iter().filter(|session| session["state"] == "verified").map(of).collect()
}

#[tokio::test]
async fn what_a_lane_says_it_holds_is_shown() {
    let browser = FakeBrowser::new("fake", &["wasm"]);
    browser.settings().memory =
        FakeMemory { heap_per_load: 3 * MIB, gpu_per_load: MIB, ..FakeMemory::default() };
    let daemon = limited(&[&browser], Duration::ZERO).await;
    daemon.verify("neg", &pinned()).await;
    let shown = daemon.lane("fake-1/wasm").await;
    let held = json!({"wasm_bytes": 3 * MIB, "gpu_bytes": MIB});
    assert_eq!((&shown["memory"], &shown["load"]["sessions"][0]["memory"]), (&held, &held), "{shown}");
    assert_eq!(daemon.lane("native/ort-cpu").await["load"]["sessions"][0]["memory"], Value::Null);
    daemon.stop().await;
}

#[tokio::test]
async fn sessions_used_longest_ago_make_room_on_a_gpu() {
    let browser = FakeBrowser::new("fake", &["webgpu"]);
    browser.settings().memory = FakeMemory { gpu_per_load: 600 * MIB, ..FakeMemory::default() };
    let daemon = limited(&[&browser], Duration::ZERO).await;
    let mut client = daemon.client().await;
    client.ask(&infer_x("r", &pinned())).await.negated();
    let neg = ready(&daemon, "fake-1/webgpu").await;
    assert_eq!((neg.len(), browser.unloads()), (1, vec![]));
    // The second is one too many: the first goes, and comes back when it is asked for.
    assert_eq!(client.ask(&any("r")).await.header["type"], "result");
    assert_eq!(browser.unloads(), neg);
    assert_eq!(ready(&daemon, "fake-1/webgpu").await.len(), 1);
    client.ask(&infer_x("r", &pinned())).await.negated();
    assert_eq!((ready(&daemon, "fake-1/webgpu").await, browser.unloads().len()), (neg, 2));
    assert_eq!(browser.starts(), 1, "a GPU gives memory back without a new Worker");
    daemon.stop().await;
}

#[tokio::test]
async fn a_heap_that_only_grows_is_answered_by_a_fresh_worker_and_no_request_is_lost() {
    let (alpha, beta) = (FakeBrowser::new("alpha", &["wasm"]), FakeBrowser::new("beta", &["wasm"]));
    let daemon = limited(&[&alpha, &beta], Duration::ZERO).await;
    alpha.settings().memory.heap_per_load = 600 * MIB;
    daemon.verify("neg", &pinned()).await;
    let mut client = daemon.client().await;
    let (ask, mut asked) = mpsc::unbounded_channel();
    alpha.behaves(Conduct::Ask(ask));
    let in_alpha = json!({"browser": ["alpha"]});
    let proving = async {
        for _ in 1..PROOF_STEPS {
            step(&mut asked).await.answer(Deed::Compute);
        }
        // Behind the proof's last step, so that it is still in the lane when the lane is found to be full.
        let last = step(&mut asked).await;
        client.send(&infer_x("running", &in_alpha)).await;
        let running = step(&mut asked).await;
        last.answer(Deed::Compute);
        running
    };
    let (_, running) = tokio::join!(daemon.verify("any", &in_alpha), proving);
    let load = daemon.lane("alpha-1/wasm").await["load"].clone();
    assert_eq!(load["running"], 1, "{load}");
    assert!(load["draining"].as_str().is_some_and(|reason| reason.contains("over 1073741824")), "{load}");
    // Who may go elsewhere does; who may not waits for the lane to come back.
    client.send(&infer_x("waiting", &in_alpha)).await;
    let elsewhere = client.ask(&infer_x("elsewhere", &pinned())).await;
    assert_eq!(elsewhere.negated()["browser"], "beta");
    assert!(asked.try_recv().is_err(), "a lane that drains is given nothing");
    assert_eq!(alpha.starts(), 1);
    alpha.behaves(Conduct::Compute);
    running.answer(Deed::Compute);
    assert_eq!(client.reply("running").await.negated()["attempt"], 1);
    let waited = client.reply("waiting").await;
    assert_eq!((&waited.negated()["browser"], &waited.provenance()["attempt"]), (&json!("alpha"), &json!(1)));
    assert_eq!((alpha.starts(), beta.starts(), alpha.unloads()), (2, 1, vec![]));
    let instances = daemon.get("/api/v1/instances").await;
    assert_eq!(instances["items"][0]["launches"], 1, "the browser itself lives on: {instances}");
    assert!(daemon.runs().await.iter().all(|run| run["error"].is_null()));
    daemon.stop().await;
}

#[tokio::test]
async fn a_worker_that_has_just_come_up_is_not_recycled() {
    let browser = FakeBrowser::new("fake", &["wasm"]);
    browser.settings().memory.heap_per_load = 600 * MIB;
    let daemon = limited(&[&browser], Duration::from_secs(3600)).await;
    let mut client = daemon.client().await;
    client.ask(&infer_x("r", &pinned())).await.negated();
    let neg = ready(&daemon, "fake-1/wasm").await;
    assert_eq!(client.ask(&any("r")).await.header["type"], "result");
    assert_eq!((browser.unloads(), browser.starts()), (neg, 1));
    daemon.stop().await;
}

#[tokio::test]
async fn memory_alone_never_costs_a_browser() {
    let browser = FakeBrowser::new("fake", &["wasm"]);
    browser.settings().memory.heap_per_load = 600 * MIB;
    let daemon = limited(&[&browser], Duration::ZERO).await;
    let mut client = daemon.client().await;
    // Each change of model overflows the heap; more often than a page may lose a Worker for its faults.
    for _ in 0..4 {
        client.ask(&infer_x("r", &pinned())).await.negated();
        assert_eq!(client.ask(&any("r")).await.header["type"], "result");
    }
    assert_eq!(daemon.get("/api/v1/instances").await["items"][0]["launches"], 1);
    assert!(browser.starts() > 4, "{} Workers", browser.starts());
    daemon.stop().await;
}

#[tokio::test]
async fn a_load_without_room_is_tried_once_more_where_others_left() {
    let browser = FakeBrowser::new("fake", &["wasm"]);
    browser.settings().memory.sessions_max = Some(1);
    let daemon = limited(&[&browser], Duration::ZERO).await;
    let mut client = daemon.client().await;
    client.ask(&infer_x("r", &pinned())).await.negated();
    let neg = ready(&daemon, "fake-1/wasm").await;
    assert_eq!(client.ask(&any("r")).await.header["type"], "result");
    assert_eq!(browser.unloads(), neg);
    // With nothing left to unload the load is refused by its name.
    browser.settings().memory.sessions_max = Some(0);
    client.ask(&infer_x("r", &pinned())).await.refused("out_of_memory", "elsewhere", "the fake lane is full");
    assert_eq!(browser.unloads().len(), 2, "what made room is not asked twice");
    assert_eq!(browser.starts(), 1);
    daemon.stop().await;
}
