//! Models that are loaded and unloaded by name, and how many loads go on at once.

use serde_json::{Value, json};
use tokio::sync::mpsc;

use crate::support::{
    Conduct, Deed, FakeBrowser, FakeMemory, TestDaemon, graphs, home, infer, infer_x, soon,
};

const MIB: u64 = 1 << 20;

fn pinned() -> Value {
    json!({"backend": ["wasm", "webgpu"]})
}

fn any(id: &str) -> Value {
    infer(id, "any", &json!([{"name": "x", "datatype": "FP32", "shape": [1], "data": [5]}]), &pinned())
}

/// What the model's page says of where it is: its stay, and each lane with the state there.
fn residence(shown: &Value) -> (String, Vec<(String, String)>) {
    let text = |value: &Value| value.as_str().unwrap_or_else(|| panic!("{value} in {shown}")).to_owned();
    let residence = &shown["residence"];
    let seats = residence["lanes"].as_array().unwrap_or_else(|| panic!("no seats in {shown}"));
    (text(&residence["stay"]), seats.iter().map(|seat| (text(&seat["lane"]), text(&seat["state"]))).collect())
}

fn at(seats: &[(&str, &str)]) -> Vec<(String, String)> {
    seats.iter().map(|(lane, state)| ((*lane).to_owned(), (*state).to_owned())).collect()
}

async fn shown(daemon: &TestDaemon, model: &str) -> (String, Vec<(String, String)>) {
    residence(&daemon.get(&format!("/api/v1/models/{model}")).await)
}

async fn order(daemon: &TestDaemon, what: &str) -> Value {
    let (status, said) = daemon.post(&format!("/api/v1/models/neg/{what}"), "").await;
    assert_eq!(status, 200, "{said}");
    said
}

#[tokio::test]
async fn a_loaded_model_is_in_every_lane_until_it_is_unloaded() {
    let browser = FakeBrowser::new("fake", &["wasm", "webgpu"]);
    let daemon = TestDaemon::start(&[&browser]).await;
    assert_eq!(shown(&daemon, "neg").await, ("on_demand".to_owned(), vec![]));
    let everywhere =
        at(&[("fake-1/wasm", "verified"), ("fake-1/webgpu", "verified"), ("native/ort-cpu", "reference")]);
    let said = order(&daemon, "load").await;
    assert_eq!(said["lanes"].as_array().map(Vec::len), Some(3), "{said}");
    assert_eq!(residence(&said), ("loaded".to_owned(), everywhere.clone()));
    // A lane that comes back has it again without being asked.
    let loads = browser.loads();
    browser.kill_lane("wasm");
    soon("the load in the new lane", browser.loaded(loads + 1)).await;
    let mut client = daemon.client().await;
    let wasm = json!({"backend": "wasm"});
    client.serves(&wasm).await;
    assert_eq!((shown(&daemon, "neg").await.1, browser.loads()), (everywhere, loads + 1));

    let (ask, mut asked) = mpsc::unbounded_channel();
    browser.behaves(Conduct::Ask(ask));
    for id in ["running", "running beside it", "queued"] {
        client.send(&infer_x(id, &wasm)).await;
    }
    client.caught_up().await;
    assert_eq!(residence(&order(&daemon, "unload").await), ("unloaded".to_owned(), vec![]));
    let unloaded = "neg was unloaded";
    client.reply("queued").await.refused("model_not_ready", "never", unloaded);
    client.ask(&infer_x("r", &json!({}))).await.refused("model_not_ready", "never", unloaded);
    // What a lane has already comes before its unloading.
    browser.behaves(Conduct::Compute);
    for id in ["running", "running beside it"] {
        soon("a step", asked.recv()).await.expect("the browser lives").answer(Deed::Compute);
        client.reply(id).await.negated();
    }
    // Its lanes go on with other models, and with this one when it is loaded.
    daemon.add("any", graphs::identity(graphs::FLOAT)).await;
    assert_eq!(client.ask(&any("r")).await.header["type"], "result");
    let (status, said) =
        daemon.post("/api/v1/models/neg/load", json!({"backend": ["wasm"]}).to_string()).await;
    assert_eq!((status, residence(&said)), (200, ("loaded".to_owned(), at(&[("fake-1/wasm", "verified")]))));
    client.serves(&wasm).await;
    // A name that is added anew has nothing of what was said before.
    order(&daemon, "unload").await;
    daemon.add("neg", graphs::neg()).await;
    client.serves(&wasm).await;
    assert_eq!(shown(&daemon, "neg").await.0, "on_demand");
    daemon.stop().await;
}

#[tokio::test]
async fn a_load_that_serves_nowhere_says_why_and_changes_nothing() {
    let browser = FakeBrowser::new("fake", &["wasm"]);
    browser.behaves(Conduct::Always(Deed::Wrong));
    let daemon = TestDaemon::start(&[&browser]).await;
    for (body, status, code) in [
        (json!({"browser": ["fake"]}), 409, "quarantined"),
        (json!({"browser": ["netscape"]}), 503, "no_backend"),
        (json!({"where": 1}), 422, "invalid_request"),
    ] {
        let (found, said) = daemon.post("/api/v1/models/neg/load", body.to_string()).await;
        assert_eq!((found, &said["code"]), (status, &json!(code)), "{body}: {said}");
    }
    assert_eq!(shown(&daemon, "neg").await.0, "on_demand");
    daemon.client().await.serves(&json!({})).await;
    for what in ["load", "unload"] {
        let (status, _) = daemon.post(&format!("/api/v1/models/nobody/{what}"), "").await;
        assert_eq!(status, 404, "{what}");
    }
    daemon.stop().await;
}

#[tokio::test]
async fn many_requests_for_a_model_wait_for_one_load() {
    let browser = FakeBrowser::new("fake", &["wasm"]);
    let daemon = TestDaemon::start(&[&browser]).await;
    let mut client = daemon.client().await;
    let ids: Vec<_> = (0..20).map(|id| id.to_string()).collect();
    for id in &ids {
        client.send(&infer_x(id, &pinned())).await;
    }
    for id in &ids {
        client.reply(id).await.negated();
    }
    assert_eq!(browser.loads(), 1);
    daemon.stop().await;
}

#[tokio::test]
async fn so_many_loads_go_on_in_all_lanes_together() {
    const LOADING_MAX: usize = 8;
    let names = ["a", "b", "c", "d", "e"];
    let browsers = names.map(|name| FakeBrowser::new(name, &["wasm", "webgpu"]));
    let (ask, mut asked) = mpsc::unbounded_channel();
    for browser in &browsers {
        browser.behaves(Conduct::Ask(ask.clone()));
    }
    let daemon = TestDaemon::start(&browsers.iter().collect::<Vec<_>>()).await;
    let loads = || browsers.iter().map(FakeBrowser::loads).sum::<usize>();
    let holding = async {
        // Each load is held up by its proof.
        let mut held = Vec::new();
        for _ in 0..LOADING_MAX - 1 {
            held.push(soon("a proof", asked.recv()).await.expect("the browsers live"));
        }
        let waiting = shown(&daemon, "neg").await.1;
        let preparing = waiting.iter().filter(|(_, state)| state == "preparing").count();
        assert!(loads() <= LOADING_MAX && preparing <= LOADING_MAX, "{waiting:?}");
        for browser in &browsers {
            browser.behaves(Conduct::Compute);
        }
        for step in held {
            step.answer(Deed::Compute);
        }
        // Steps that came before the conduct changed.
        while let Some(step) = asked.recv().await {
            step.answer(Deed::Compute);
        }
    };
    let said = tokio::select! {
        said = order(&daemon, "load") => said,
        () = holding => unreachable!("the test holds a sender"),
    };
    assert_eq!((said["lanes"].as_array().map(Vec::len), loads()), (Some(11), 10), "{said}");
    drop(ask);
    daemon.stop().await;
}

#[tokio::test]
async fn a_loaded_model_is_the_last_to_make_room() {
    let browser = FakeBrowser::new("fake", &["webgpu"]);
    browser.settings().memory = FakeMemory { gpu_per_load: 400 * MIB, ..FakeMemory::default() };
    let daemon = TestDaemon::start_in(home(), &[&browser], |config| config.limits.lane_memory = 1 << 30)
        .await
        .expect("a good start");
    daemon.settled().await;
    daemon.add("neg", graphs::neg()).await;
    daemon.add("any", graphs::identity(graphs::FLOAT)).await;
    daemon.add("words", graphs::identity(graphs::STRING)).await;
    order(&daemon, "load").await;
    let mut client = daemon.client().await;
    let words = json!([{"name": "x", "datatype": "BYTES", "shape": [1], "data": ["a"]}]);
    let mut gone = Vec::new();
    for (asked, goes) in [("any", None), ("words", Some("any")), ("any", Some("words"))] {
        let request = if asked == "any" { any("r") } else { infer("r", "words", &words, &pinned()) };
        assert_eq!(client.ask(&request).await.header["type"], "result", "{asked}");
        if let Some(goes) = goes {
            gone.push(daemon.get(&format!("/api/v1/models/{goes}")).await["digest"].clone());
        }
        // The loaded one was used longest ago.
        assert_eq!(json!(browser.unloads()), json!(gone), "{asked}");
    }
    daemon.stop().await;
}
