//! What the dashboard stands on: its page, what goes on at the moment, runs that are asked for by what they were, and
//! suites that are being measured.

use reqwest::header::HeaderMap;
use serde_json::{Value, json};

use crate::support::{Client, FakeBrowser, TestDaemon, graphs, home, infer, infer_x, soon};

async fn get(daemon: &TestDaemon, path: &str) -> (u16, HeaderMap, String) {
    // Without the credential that the daemon's own client has.
    let client = reqwest::Client::builder().no_proxy().build().expect("an HTTP client");
    let answer = soon("an answer", client.get(format!("{}{path}", daemon.url)).send()).await;
    let answer = answer.expect("the daemon answers");
    let (status, headers) = (answer.status().as_u16(), answer.headers().clone());
    (status, headers, answer.text().await.unwrap_or_default())
}

/// The values of `name="/dashboard/…"` in the page.
fn files<'a>(page: &'a str, name: &str) -> Vec<&'a str> {
    let start = format!("{name}=\"/dashboard/");
    page.split(&start).skip(1).filter_map(|rest| rest.split('"').next()).collect()
}

/// Whoever is asked for a key is asked by the page, which therefore needs none itself.
#[tokio::test]
async fn the_page_is_open_to_all_and_loads_nothing_from_elsewhere() {
    let guarded = TestDaemon::start_in(home(), &[], |config| config.access.required = true).await;
    let daemon = guarded.expect("a good start");
    daemon.settled().await;
    let (status, headers, page) = get(&daemon, "/?view=runs&model=x").await;
    assert_eq!((status, &headers["cache-control"]), (200, &"no-cache".parse().expect("a value")));
    let policy = headers["content-security-policy"].to_str().expect("text");
    assert!(policy.starts_with("default-src 'none'; script-src 'self'; style-src 'self';"), "{policy}");
    assert!(!policy.contains("unsafe") && policy.contains("frame-ancestors 'none'"), "{policy}");
    let (scripts, styles) = (files(&page, "src"), files(&page, "href"));
    assert_eq!((scripts.len(), styles.len()), (1, 1), "{page}");
    for (file, kind) in [(scripts[0], "text/javascript"), (styles[0], "text/css")] {
        let (status, headers, _) = get(&daemon, &format!("/dashboard/{file}")).await;
        assert_eq!(status, 200, "{file}");
        assert_eq!(headers["content-encoding"], "gzip", "{file}");
        assert!(headers["cache-control"].to_str().expect("text").contains("immutable"), "{file}");
        assert!(headers["content-type"].to_str().expect("text").starts_with(kind), "{file}");
    }
    for file in ["none.js", "..%2findex.html", "index.html"] {
        assert_eq!(get(&daemon, &format!("/dashboard/{file}")).await.0, 404, "{file}");
    }
    for path in ["/api/v1/activity", "/api/v1/suites", "/api/v1/runs/times"] {
        assert_eq!(get(&daemon, path).await.0, 401, "{path}");
    }
    daemon.stop().await;
}

#[tokio::test]
async fn what_goes_on_is_told_once_a_second_to_who_follows_it() {
    let browser = FakeBrowser::new("fake", &["wasm"]);
    let daemon = TestDaemon::start(&[&browser]).await;
    daemon.verify("neg", &json!({"backend": ["wasm"]})).await;
    let mut client = daemon.client().await;
    for id in ["a", "b", "c"] {
        client.ask(&infer_x(id, &json!({"backend": "wasm"}))).await.negated();
    }
    client.ask(&infer("nobody", "no-such-model", &json!([]), &json!({}))).await;
    client.send(&json!({"type": "subscribe", "topics": ["activity"]})).await;
    // The second in which it happened is not told until it is over.
    let told = loop {
        let event = client.event().await.header;
        assert_eq!(event["topic"], "activity", "{event}");
        if event["event"]["last_minute"]["answered"] == 3 {
            break event["event"].clone();
        }
    };
    let minute = &told["last_minute"];
    assert_eq!(minute["failed"], json!({"unknown_model": 1}));
    assert!(minute["p50_us"].as_u64() <= minute["p95_us"].as_u64() && minute["p50_us"].as_u64() > Some(0));
    let seconds = minute["answered_by_second"].as_array().expect("a list");
    assert_eq!(seconds.len(), 60);
    assert_eq!(seconds.iter().filter_map(Value::as_u64).sum::<u64>(), 3);
    let lanes = told["lanes"].as_array().expect("a list");
    let lane = lanes.iter().find(|lane| lane["lane"] == "fake-1/wasm").expect("the lane");
    assert_eq!((&lane["state"], &lane["running"]), (&json!("ready"), &json!(0)), "{told}");
    assert_eq!(lane["sessions"][0]["state"], "verified", "{told}");
    assert!(lanes.iter().any(|lane| lane["lane"] == "native/ort-cpu"), "{told}");
    assert_eq!(told["instances"][0]["instance"], "fake-1");
    let asked = daemon.get("/api/v1/activity").await;
    assert_eq!(asked["last_minute"]["failed"], json!({"unknown_model": 1}));
    daemon.stop().await;
}

#[tokio::test]
async fn runs_are_found_by_what_they_were() {
    let browser = FakeBrowser::new("fake", &["wasm"]);
    let daemon = TestDaemon::start(&[&browser]).await;
    daemon.add("other", graphs::neg()).await;
    daemon.verify("neg", &json!({"backend": ["wasm"]})).await;
    let mut client = daemon.client().await;
    client.ask(&infer_x("wasm", &json!({"backend": "wasm"}))).await.negated();
    client.ask(&infer_x("native", &json!({"backend": "ort-cpu"}))).await.negated();
    client.ask(&infer_x("nowhere", &json!({"backend": "webnn"}))).await;
    let mut other = infer_x("other", &json!({"backend": "ort-cpu"}));
    other["model_name"] = json!("other");
    client.ask(&other).await.negated();
    let all = daemon.runs().await;
    let at = |run: usize| all[run]["accepted_at_us"].as_i64().expect("a number");
    let cases = [
        (String::new(), 4),
        ("model=neg".to_owned(), 3),
        ("lane=fake-1/wasm".to_owned(), 1),
        ("outcome=ok".to_owned(), 3),
        ("outcome=failed".to_owned(), 1),
        ("outcome=no_backend".to_owned(), 1),
        ("outcome=lane_lost".to_owned(), 0),
        ("plan=single".to_owned(), 3),
        ("model=neg&outcome=ok&lane=native/ort-cpu".to_owned(), 1),
        (format!("from={}", at(1)), 3),
        (format!("to={}", at(1)), 2),
        (format!("from={0}&to={0}", at(2)), 1),
        (format!("from={}", i64::MAX), 0),
        (format!("to={}", i64::MIN), 0),
    ];
    for (filter, wanted) in cases {
        let runs = daemon.get(&format!("/api/v1/runs?limit=100&{filter}")).await;
        assert_eq!(runs["items"].as_array().expect("a list").len(), wanted, "{filter}: {runs}");
        let times = daemon.get(&format!("/api/v1/runs/times?{filter}")).await;
        let totals: Vec<_> = runs["items"].as_array().expect("a list").iter().collect();
        let totals: Vec<_> = totals.iter().map(|run| run["timing"]["total"].clone()).collect();
        assert_eq!(times["total_us"], json!(totals), "{filter}: {times}");
    }
    let times = daemon.get("/api/v1/runs/times?limit=2&model=neg").await;
    let word = |names: &str, list: &str, at: usize| {
        times[list][at].as_u64().map(|place| times[names][place as usize].clone())
    };
    assert_eq!(times["total_us"].as_array().expect("a list").len(), 2, "{times}");
    assert_eq!((word("outcomes", "outcome", 0), word("lanes", "lane", 0)), (Some(json!("no_backend")), None));
    assert_eq!(word("lanes", "lane", 1), Some(json!("native/ort-cpu")));
    // A page goes on within what was asked for.
    let first = daemon.get("/api/v1/runs?limit=1&outcome=ok").await;
    let cursor = first["cursor"].as_str().expect("there are more");
    let next = daemon.get(&format!("/api/v1/runs?limit=5&outcome=ok&cursor={cursor}")).await;
    assert_eq!(next["items"].as_array().expect("a list").len(), 2, "{next}");
    let wrong = [
        ("/api/v1/runs?outcome=fine", "no outcome is called"),
        ("/api/v1/runs?colour=red", "unknown field"),
        ("/api/v1/runs?from=yesterday", "invalid digit"),
        ("/api/v1/runs/times?limit=100001", "between 1 and 100000"),
        ("/api/v1/runs/times?cursor=1", "unknown field"),
    ];
    for (path, says) in wrong {
        let (status, _, text) = get(&daemon, path).await;
        assert!(status == 422 && text.contains(says), "{path}: {status} {text}");
    }
    daemon.stop().await;
}

fn progress(id: &str, ended: u64) -> Value {
    json!({"type": "progress", "id": "p", "progress": {"id": id, "suite": "smoke", "cells": 4, "ended": ended, "failed": 0,
        "now": "measuring magika", "remaining_us": null, "at_most_us": 60_000_000}})
}

#[tokio::test]
async fn a_suite_is_known_while_its_connection_lives() {
    let daemon = TestDaemon::start(&[]).await;
    let (mut watcher, mut measures, mut other) =
        (daemon.client().await, daemon.client().await, daemon.client().await);
    watcher.send(&json!({"type": "subscribe", "topics": ["suites"]})).await;
    watcher.caught_up().await;
    measures.send(&progress("smoke-1", 0)).await;
    let told = watcher.event().await.header["event"]["progress"].clone();
    assert_eq!(
        (&told["id"], &told["caller"], &told["ended"]),
        (&json!("smoke-1"), &json!("local"), &json!(0))
    );
    measures.send(&progress("smoke-1", 3)).await;
    let later = watcher.event().await.header["event"]["progress"].clone();
    assert_eq!((&later["ended"], &later["began_at_us"]), (&json!(3), &told["began_at_us"]));
    assert_eq!(daemon.get("/api/v1/suites").await["items"], json!([later]));
    // Nobody else speaks for it.
    other.ask(&progress("smoke-1", 4)).await.refused("invalid_request", "never", "another connection");
    measures.send(&progress("smoke-2", 1)).await;
    assert_eq!(watcher.event().await.header["event"], json!({"ended": {"id": "smoke-1"}}));
    assert_eq!(watcher.event().await.header["event"]["progress"]["id"], "smoke-2");
    drop(measures);
    assert_eq!(watcher.event().await.header["event"], json!({"ended": {"id": "smoke-2"}}));
    assert_eq!(daemon.get("/api/v1/suites").await["items"], json!([]));
    let long = "x".repeat(600);
    let cases = [
        (json!({"type": "progress", "id": "p"}), "missing field"),
        (json!({"type": "progress", "id": "p", "progress": {"id": "x", "colour": "red"}}), "unknown field"),
        (progress(&long, 1), "at most 512 bytes"),
        (progress("", 1), "the id is empty"),
        (progress("x", 5), "more cells have ended"),
        (holding(&["x".to_owned(), long]), "at most 512 bytes"),
        (holding(&vec!["x".to_owned(); 65]), "at most 64 leases"),
    ];
    for (message, says) in cases {
        other.ask(&message).await.refused("invalid_request", "never", says);
    }
    daemon.stop().await;
}

/// A suite with these leases.
fn holding(leases: &[String]) -> Value {
    let mut progress = progress("x", 1);
    progress["progress"]["leases"] = json!(leases);
    progress
}

#[tokio::test]
async fn suites_are_told_by_whoever_may_lease() {
    let guarded = TestDaemon::start_in(home(), &[], |config| config.access.required = true).await;
    let daemon = guarded.expect("a good start");
    daemon.settled().await;
    let reader = daemon.key("reader", json!({})).await;
    let mut client = Client::with_key(&daemon.url, &reader).await;
    client.ask(&progress("smoke-1", 1)).await.refused("unauthorized", "never", "admin");
    daemon.stop().await;
}
