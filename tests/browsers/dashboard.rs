//! The dashboard in real browsers, over a real daemon with a real lane: it is logged in to, filtered, cut off, and left.

mod site;

use std::{fs, path::Path};

use futures_util::{SinkExt as _, StreamExt as _};
use serde_json::{Value, json};
use tokio::{sync::mpsc, time::timeout};
use tokio_tungstenite::tungstenite::Message;
use weft::{daemon::Record, driver::recipe::Recipe};

use crate::{
    daemon::installed,
    graphs,
    serve::Served,
    stage::{LIMIT, Stage, open},
};
use site::Site;

const COMMON: &str = include_str!("dashboard/common.js");
const FLOW: &str = include_str!("dashboard/flow.js");
const FRAMES: &str = include_str!("dashboard/frames.js");

const WIDTH: u64 = 16;

/// A daemon that wants a key, with a model, and another in two halves.
async fn served(key_wanted: bool) -> (Served, String) {
    let config = format!("[access]\nrequired = {key_wanted}\n");
    let (program, files) = (Path::new(env!("CARGO_BIN_EXE_weft")), [("weft.toml", config.as_str())]);
    let served = Served::start_with(program, "chromium=1", &files).await.unwrap();
    let key = Record::read(served.home()).expect("a running daemon has a record").key;
    let layers = [weights(1), weights(2)];
    let (first, second) = layers.split_at(1);
    let files = [
        ("neg", graphs::neg()),
        ("whole", graphs::dense(WIDTH, &layers)),
        ("first", graphs::dense_part(WIDTH, first, "x", "m")),
        ("second", graphs::dense_part(WIDTH, second, "m", "y")),
    ];
    for (name, file) in files {
        let path = served.home().join(format!("{name}.onnx"));
        fs::write(&path, file).unwrap();
        served.weft(&["models", "add", path.to_str().unwrap(), "--key", &key]).await.unwrap();
    }
    (served, key)
}

fn weights(layer: u64) -> Vec<u8> {
    (0..WIDTH * WIDTH).flat_map(|at| (((at * 37 + layer) % 101) as f32 / 400.0 - 0.1).to_le_bytes()).collect()
}

async fn post(served: &Served, key: &str, path: &str, body: &Value) -> Value {
    let asked = reqwest::Client::new().post(format!("{}{path}", served.url)).bearer_auth(key);
    let text = asked.body(body.to_string()).send().await.unwrap().text().await.unwrap();
    serde_json::from_str(&text).unwrap_or_else(|_| panic!("{text}"))
}

async fn said(telling: &mut mpsc::Receiver<String>) -> Value {
    let said = timeout(4 * LIMIT, telling.recv()).await.expect("the page tells").unwrap();
    serde_json::from_str(&said).unwrap()
}

/// A run of a suite whose name would be markup if anything took it for that; firefox is slower from its upgrade on.
fn measured(at: usize) -> Value {
    let suite = "<img src=x onerror=alert(1)>\"'&模型🦊";
    let upgraded = at >= 7;
    let place = json!({"browser_version": if upgraded { "2" } else { "1" }, "engine": "e", "threads": 1, "adapter": null,
        "software_adapter": false, "sandbox": true, "gpu": null});
    let cell = |browser: &str, middle: f64| {
        let samples: Vec<_> = (0..12).map(|sample| middle + f64::from(sample % 5) / 10.0).collect();
        json!({"model": "neg", "model_digest": null, "browser": browser, "backend": "wasm", "scenario": "single_stream",
            "outcome": "ok", "reason": null, "error": 0.0, "tolerance": 1e-3, "samples_us": samples, "warm_up_us": [],
            "warm": true, "provenance": null})
    };
    json!({"version": 2, "id": format!("{suite}-{at}"), "suite": suite, "suite_sha256": "5", "started_at_us": 1000 + at,
        "ended_at_us": 1001 + at, "complete": true, "warnings": [], "calibration_us": [1.0, 1.0],
        "cells": [cell("firefox", if upgraded { 150.0 } else { 100.0 }), cell("edge", 300.0)],
        "environment": {"weft": "0.1.0", "commit": format!("{at:040x}"), "processor": "p", "processor_flags": "",
            "cores": 2, "memory_bytes": 1, "kernel": "6", "cpu_limit": null, "memory_limit": null,
            "places": {"firefox/wasm": place}}})
}

async fn used_in(browser: &str) {
    if !installed("chromium=1,firefox=1") {
        return;
    }
    let (served, key) = served(true).await;
    let order = json!({"model": "whole", "fallback": "native", "stages": [
        {"model": "first", "browser": "chromium", "backend": "wasm"}, {"model": "second", "browser": "native"}]});
    let plan = post(&served, &key, "/api/v1/plans", &order).await;
    for at in 0..14 {
        post(&served, &key, "/api/v1/bench/runs", &measured(at)).await;
    }
    let script = format!("const KEY = {}; const PLAN = {};\n{COMMON}{FLOW}", json!(key), plan["id"]);
    let (url, site, mut telling) = Site::serve(&served.url, script).await;
    let (stage, recipe) = (Stage::set(), recipe(browser));
    let instance = open(&stage, &recipe, &format!("{url}/?view=runs&model=neg&outcome=ok")).await;
    let said = said(&mut telling).await;
    let search = "?view=runs&model=neg&outcome=ok";
    let wanted = json!({
        "guarded": {"refused": "That key is not good here.", "kept": search, "model": "neg", "outcome": "ok"},
        "requests": {
            "back": [search, "ok"], "savedAs": [true, search, "true"], "filtered": true, "label": true,
            "details": {"focused": true, "parts": true, "lane": "chromium-1/wasm", "url": true},
        },
        "pool": {"held": true, "figures": true, "during": true, "spoken": true, "same": true},
        "cut": {"lost": true, "spoken": true, "trouble": true},
        "suites": {"name": true, "left": "about 1 min 30 s left", "value": 4, "card": "ARTICLE"},
        "plans": {"moved": "64 B", "told": true, "named": true},
        "overTime": {
            "choices": ["", "edge", "firefox"], "hidden": true, "change": "▲ +50.0 % time", "upgrade": "browser: 1 → 2",
            "rows": 1, "chosen": true, "note": [true, false],
            "address": {"view": "history", "suite": true, "model": "neg", "browser": "firefox", "backend": "wasm",
                "scenario": "single_stream", "asked": "single_stream", "metric": "relative",
                "run": "<img src=x onerror=alert(1)>\"'&模型🦊-1"},
        },
        "kept": {"pages": 0, "before": false},
        "left": {"kept": "?view=suites", "cookie": ""},
        "violations": [], "images": 0, "wide": 0,
    });
    assert_eq!(said, wanted, "{browser}");
    assert!(site.asked().iter().all(|path| !path.contains(&key)), "the key is in an address");
    instance.close().await;
    stage.assert_clear().await;
    served.stop().await.unwrap();
}

fn recipe(name: &str) -> Recipe {
    Recipe::embedded().into_iter().find(|recipe| recipe.name == name).expect("a recipe of ours")
}

#[tokio::test(flavor = "multi_thread")]
async fn the_dashboard_is_used_in_chromium() {
    used_in("chromium").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_dashboard_is_used_in_firefox() {
    used_in("firefox").await;
}

/// As many requests as the chart shows, each of them answered.
const REQUESTS: usize = 100_000;

/// At most 256 may be in flight on one connection.
const IN_FLIGHT: usize = 200;

async fn ask_all(served: &Served) {
    let url = format!("{}/v2/ws", served.url.replacen("http", "ws", 1));
    let (mut socket, _) = tokio_tungstenite::connect_async(url).await.unwrap();
    let ask = |at: usize| {
        let inputs = json!([{"name": "x", "datatype": "FP32", "shape": [1, 4], "data": [1, 2, 3, 4]}]);
        let parameters = json!({"backend": "ort-cpu"});
        let ask = json!({"type": "infer", "id": at.to_string(), "model_name": "neg", "inputs": inputs, "parameters": parameters});
        Message::text(ask.to_string())
    };
    for at in 0..IN_FLIGHT {
        socket.send(ask(at)).await.unwrap();
    }
    for at in IN_FLIGHT..REQUESTS + IN_FLIGHT {
        let said = socket.next().await.unwrap().unwrap();
        assert!(said.to_text().unwrap().contains("\"result\""), "{said}");
        if at < REQUESTS {
            socket.send(ask(at)).await.unwrap();
        }
    }
}

/// First paint and frames with 100,000 points, as `docs/performance.md` has them.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "a measurement"]
async fn the_dashboard_stays_smooth_with_100_000_points() {
    if !installed("chromium=1,firefox=1") {
        return;
    }
    let (served, _) = served(false).await;
    ask_all(&served).await;
    for browser in ["chromium", "firefox"] {
        let (url, _, mut telling) = Site::serve(&served.url, format!("{COMMON}{FRAMES}")).await;
        let (stage, recipe) = (Stage::set(), recipe(browser));
        let instance = open(&stage, &recipe, &format!("{url}/")).await;
        let said = said(&mut telling).await;
        eprintln!("{browser}: {said}");
        assert!(said["first_paint_ms"].as_u64().is_some_and(|ms| ms < 1000), "{browser}: {said}");
        assert!(said["busy"]["p95"].as_f64().is_some_and(|ms| ms < 50.0), "{browser}: {said}");
        instance.close().await;
        stage.assert_clear().await;
    }
    served.stop().await.unwrap();
}
