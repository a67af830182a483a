//! The pool at work: leases, draining, the ladder from lane to page to browser, and signs of life.

use std::{
    num::NonZero,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use serde_json::{Value, json};
use tokio::sync::mpsc;
use weft::pool::{Bounds, Fleet};

use crate::support::{
    Asked, Client, Conduct, Deed, FakeBrowser, TestDaemon, fleet, graphs, home, infer_x, soon,
};

fn here() -> Value {
    json!({"backend": ["wasm"], "browser": ["fake"]})
}

fn leased(lease: &Value) -> Value {
    json!({"backend": ["wasm"], "lease": lease})
}

async fn proven(browser: &FakeBrowser) -> (TestDaemon, Client) {
    let daemon = TestDaemon::start(&[browser]).await;
    daemon.verify("neg", &json!({"backend": ["wasm"]})).await;
    let client = daemon.client().await;
    (daemon, client)
}

/// A daemon with a fleet that is not the usual one.
async fn changed(browser: &FakeBrowser, change: impl Fn(&mut Fleet) + Send + Sync + 'static) -> TestDaemon {
    let browser = browser.clone();
    let fleets = move |_: &_, _: &_, _: &_| {
        let mut fleet = fleet(&browser.name, browser.backends(), Arc::new(browser.clone()));
        change(&mut fleet);
        vec![fleet]
    };
    let daemon = TestDaemon::start_with(home(), fleets, |_| {}).await.expect("a good start");
    daemon.settled().await;
    daemon
}

async fn instance(daemon: &TestDaemon) -> Value {
    daemon.get("/api/v1/instances").await["items"][0].clone()
}

/// The first event of the pool that this holds for.
async fn until(client: &mut Client, what: impl Fn(&Value) -> bool) -> Value {
    loop {
        let event = client.event().await.header["event"].take();
        if what(&event) {
            return event;
        }
    }
}

async fn watch(daemon: &TestDaemon) -> Client {
    let mut watcher = daemon.client().await;
    watcher.send(&json!({"type": "subscribe", "topics": ["pool"]})).await;
    watcher.caught_up().await;
    watcher
}

async fn lease(daemon: &TestDaemon, order: Value) -> (u16, Value) {
    daemon.post("/api/v1/leases", order.to_string()).await
}

async fn release(daemon: &TestDaemon, lease: &Value) -> u16 {
    let url = format!("{}/api/v1/leases/{}", daemon.url, lease.as_str().expect("an id"));
    daemon.http.delete(url).send().await.expect("an answer").status().as_u16()
}

#[tokio::test]
async fn a_lease_keeps_others_off_until_it_is_released() {
    let browser = FakeBrowser::new("fake", &["wasm"]);
    let (daemon, mut client) = proven(&browser).await;
    let (status, granted) = lease(&daemon, json!({"browser": "fake", "ttl": "30s"})).await;
    assert_eq!((status, &granted["instance"]), (200, &json!("fake-1")), "{granted}");
    assert_eq!(instance(&daemon).await["lease"], granted["lease"]);

    client.send(&infer_x("other", &here())).await;
    client.ask(&infer_x("mine", &leased(&granted["lease"]))).await.negated();
    let native = client.ask(&infer_x("anywhere", &json!({}))).await;
    assert_eq!(native.negated()["backend"], "ort-cpu");
    assert!(native.provenance()["fallback"]["reason"].as_str().is_some_and(|why| why.contains("leased")));
    let (status, busy) = lease(&daemon, json!({"browser": "fake", "wait": "10ms"})).await;
    assert_eq!((status, &busy["code"]), (503, &json!("overloaded")), "{busy}");

    assert_eq!(release(&daemon, &granted["lease"]).await, 200);
    client.reply("other").await.negated();
    assert_eq!(release(&daemon, &granted["lease"]).await, 404, "it was released");
    let late = client.ask(&infer_x("late", &leased(&granted["lease"]))).await;
    late.refused("no_backend", "never", "it was released");
    let (status, again) = lease(&daemon, json!({"browser": "fake"})).await;
    assert_eq!(status, 200, "{again}");
    daemon.stop().await;
}

#[tokio::test]
async fn a_lease_is_granted_once_the_lanes_are_free() {
    let browser = FakeBrowser::new("fake", &["wasm"]);
    let (daemon, mut client) = proven(&browser).await;
    let (ask, mut asked) = mpsc::unbounded_channel();
    browser.behaves(Conduct::Ask(ask));
    client.send(&infer_x("running", &here())).await;
    let step: Asked = soon("a step", asked.recv()).await.expect("the browser lives");
    let mut watcher = watch(&daemon).await;
    let granting = lease(&daemon, json!({"browser": "fake"}));
    let mut granting = Box::pin(granting);
    tokio::select! {
        granted = &mut granting => panic!("{granted:?} while a step runs"),
        _ = until(&mut watcher, |event| !event["lease"].is_null()) => {}
    }
    step.answer(Deed::Compute);
    client.reply("running").await.negated();
    assert_eq!((&mut granting).await.0, 200);
    drop(granting);
    daemon.stop().await;
}

#[tokio::test]
async fn bad_orders_of_leases_are_named() {
    let browser = FakeBrowser::new("fake", &["wasm"]);
    let (daemon, _) = proven(&browser).await;
    let cases = [
        (json!({"browser": "netscape"}), 422, "there are fake"),
        (json!({"browser": "fake", "ttl": "0s"}), 422, "ttl must be more than 0"),
        (json!({"browser": "fake", "ttl": "2h"}), 422, "at most 3600 s"),
        (json!({"browser": "fake", "for": "ever"}), 422, "unknown field `for`"),
        (json!({}), 422, "missing field `browser`"),
    ];
    for (order, status, says) in cases {
        let (answered, body) = lease(&daemon, order).await;
        assert_eq!(answered, status, "{body}");
        assert!(body["detail"].as_str().is_some_and(|detail| detail.contains(says)), "{says}: {body}");
    }
    assert_eq!(daemon.get("/api/v1/leases").await["items"], json!([]));
    let (status, body) = daemon.post("/api/v1/instances/other-1/restart", "").await;
    assert_eq!(status, 404);
    assert!(body["detail"].as_str().is_some_and(|detail| detail.contains("there are fake-1")), "{body}");
    daemon.stop().await;
}

#[tokio::test]
async fn a_restart_drains_first_and_loses_nothing() {
    let browser = FakeBrowser::new("fake", &["wasm"]);
    let (daemon, mut client) = proven(&browser).await;
    let (ask, mut asked) = mpsc::unbounded_channel();
    browser.behaves(Conduct::Ask(ask));
    client.send(&infer_x("running", &here())).await;
    let step: Asked = soon("a step", asked.recv()).await.expect("the browser lives");
    let mut watcher = watch(&daemon).await;
    let (status, _) = daemon.post("/api/v1/instances/fake-1/restart", "").await;
    assert_eq!(status, 202);
    until(&mut watcher, |event| event["state"] == "draining").await;
    client.send(&infer_x("waiting", &here())).await;
    client.caught_up().await;
    assert!(asked.try_recv().is_err(), "nothing new is sent to a browser that is being drained");
    step.answer(Deed::Compute);
    assert_eq!(client.reply("running").await.negated()["attempt"], 1);
    browser.behaves(Conduct::Compute);
    assert_eq!(client.reply("waiting").await.negated()["attempt"], 1);
    assert_eq!(browser.state.launches.load(Ordering::SeqCst), 2);
    daemon.stop().await;
}

#[tokio::test]
async fn a_restart_gives_lanes_the_threads_that_it_names() {
    let browser = FakeBrowser::new("fake", &["wasm"]);
    let (daemon, mut client) = proven(&browser).await;
    let mut watcher = watch(&daemon).await;
    let cores = std::thread::available_parallelism().map_or(1, NonZero::get);
    let path = "/api/v1/instances/fake-1/restart";
    for body in [json!({"threads": 0}), json!({"threads": cores + 1}), json!({"thread": 1}), json!([])] {
        let (status, said) = daemon.post(path, body.to_string()).await;
        assert_eq!((status, &said["code"]), (422, &json!("invalid_request")), "{body}: {said}");
    }
    for (body, threads) in [(json!({"threads": cores}).to_string(), cores), (String::new(), 1)] {
        assert_eq!(daemon.post(path, body).await.0, 202);
        until(&mut watcher, |event| event["state"] == "draining").await;
        let ready = until(&mut watcher, |event| event["state"] == "ready").await;
        assert_eq!(ready["lanes"]["fake-1/wasm"]["capability"]["threads"], threads, "{ready}");
        let answer = client.ask(&infer_x("r", &here())).await;
        assert_eq!(answer.negated()["threads"], threads);
    }
    assert_eq!(browser.state.launches.load(Ordering::SeqCst), 3);
    daemon.stop().await;
}

#[tokio::test]
async fn a_page_that_is_lost_is_loaded_anew_before_its_browser_is() {
    let browser = FakeBrowser::new("fake", &["wasm"]);
    let (daemon, mut client) = proven(&browser).await;
    let mut watcher = watch(&daemon).await;
    let counts =
        || (browser.state.launches.load(Ordering::SeqCst), browser.state.pages.load(Ordering::SeqCst));
    assert_eq!(counts(), (1, 1));
    for (launches, pages) in [(1, 2), (1, 3), (2, 4)] {
        browser.close_page();
        until(&mut watcher, |event| event["state"] == "recovering").await;
        until(&mut watcher, |event| event["state"] == "ready").await;
        client.ask(&infer_x("r", &here())).await.negated();
        assert_eq!(counts(), (launches, pages), "two pages anew, then another browser");
    }
    daemon.stop().await;
}

#[tokio::test]
async fn a_silent_page_gets_no_new_steps_until_it_speaks() {
    let browser = FakeBrowser::new("fake", &["wasm"]);
    let (daemon, mut client) = proven(&browser).await;
    let mut watcher = watch(&daemon).await;
    browser.state.mute.store(true, Ordering::SeqCst);
    let silent = until(&mut watcher, |event| event["state"] == "degraded").await;
    assert_eq!(silent["reason"], "no heartbeat for 3 s");
    let steps = browser.steps();
    let native = client.ask(&infer_x("anywhere", &json!({}))).await;
    assert_eq!(native.negated()["backend"], "ort-cpu", "{native:?}");
    client.send(&infer_x("pinned", &here())).await;
    client.caught_up().await;
    assert_eq!(browser.steps(), steps);
    browser.state.mute.store(false, Ordering::SeqCst);
    client.reply("pinned").await.negated();
    until(&mut watcher, |event| event["state"] == "ready").await;
    assert_eq!(browser.state.launches.load(Ordering::SeqCst), 1);
    daemon.stop().await;
}

#[tokio::test]
async fn a_browser_of_another_version_than_its_recipe_wants_is_refused() {
    let browser = FakeBrowser::new("fake", &["wasm"]);
    let daemon = changed(&browser, |fleet| fleet.version = Some("2".to_owned())).await;
    let shown = instance(&daemon).await;
    assert_eq!(shown["state"], "failed");
    assert_eq!(shown["reason"], "its recipe wants version 2, and it answered 1.0");
    browser.settings().version = "2.7".to_owned();
    assert_eq!(daemon.post("/api/v1/instances/fake-1/restart", "").await.0, 202);
    daemon.add("neg", graphs::neg()).await;
    let mut client = daemon.client().await;
    assert_eq!(client.ask(&infer_x("r", &here())).await.negated()["browser_version"], "2.7");
    daemon.stop().await;
}

#[tokio::test]
async fn an_instance_is_launched_anew_after_its_runs() {
    let browser = FakeBrowser::new("fake", &["wasm"]);
    let daemon = changed(&browser, |fleet| fleet.limits.runs = Some(1)).await;
    daemon.add("neg", graphs::neg()).await;
    let (mut client, mut watcher) = (daemon.client().await, watch(&daemon).await);
    client.ask(&infer_x("r", &here())).await.negated();
    let draining = soon("recycling", until(&mut watcher, |event| event["state"] == "draining")).await;
    assert!(draining["reason"].as_str().is_some_and(|why| why.starts_with("it has run ")), "{draining}");
    client.ask(&infer_x("again", &here())).await.negated();
    tokio::time::timeout(Duration::from_secs(10), until(&mut watcher, |event| event["state"] == "ready"))
        .await
        .expect("it comes back");
    assert_eq!(browser.state.launches.load(Ordering::SeqCst), 2);
    daemon.stop().await;
}

#[tokio::test]
async fn a_recipe_grows_when_its_lanes_are_busy_and_requests_wait() {
    let browser = FakeBrowser::new("fake", &["wasm"]);
    let daemon = changed(&browser, |fleet| fleet.instances = Bounds { least: 1, most: 2 }).await;
    daemon.add("neg", graphs::neg()).await;
    daemon.verify("neg", &here()).await;
    let (mut client, mut watcher) = (daemon.client().await, watch(&daemon).await);
    let (ask, mut asked) = mpsc::unbounded_channel();
    browser.behaves(Conduct::Ask(ask));
    for id in ["one", "two", "three"] {
        client.send(&infer_x(id, &here())).await;
    }
    let first: Asked = soon("a step", asked.recv()).await.expect("the browser lives");
    assert_eq!(first.lane, "fake-1/wasm");
    soon("growth", until(&mut watcher, |event| event["instance"] == "fake-2" && event["state"] == "ready"))
        .await;
    browser.behaves(Conduct::Compute);
    first.answer(Deed::Compute);
    while let Ok(step) = asked.try_recv() {
        step.answer(Deed::Compute);
    }
    for id in ["one", "two", "three"] {
        client.reply(id).await.negated();
    }
    daemon.stop().await;
}

#[tokio::test]
async fn a_browser_whose_lane_goes_first_costs_a_retry_and_no_request() {
    let browser = FakeBrowser::new("fake", &["wasm"]);
    let (daemon, mut client) = proven(&browser).await;
    for _ in 0..3 {
        let (ask, mut asked) = mpsc::unbounded_channel();
        browser.behaves(Conduct::Ask(ask));
        client.send(&infer_x("running", &here())).await;
        let _step: Asked = soon("a step", asked.recv()).await.expect("the browser lives");
        browser.behaves(Conduct::Compute);
        browser.kill_lane("wasm");
        browser.close_page();
        browser.crash();
        assert_eq!(client.reply("running").await.negated()["attempt"], 2);
    }
    daemon.stop().await;
}
