//! A model that is larger than what a lane can hold: whole it finds no room there, and in stages it answers.

use std::{fs, path::Path};

use serde_json::{Value, json};

use crate::{
    graphs,
    serve::{Lane, Served, numbers},
};

/// What a lane's heap may grow to. The model's weights are more.
const CEILING: u64 = 128 << 20;

const WIDTH: u64 = 2048;
const LAYERS: u64 = 13;

/// Lanes that the model is split over: as few as hold its 208 MiB by halves of their ceilings.
const STAGES: usize = 4;

/// Stages answer as the whole does natively, in fp32.
const TOLERANCE: f32 = 1e-4;

/// Weights that look like noise and keep a layer's answers as large as what it is asked.
fn noise() -> Vec<u8> {
    let scale = (6.0 / WIDTH as f32).sqrt();
    let (mut state, mut bytes) = (1_u64, Vec::with_capacity((4 * WIDTH * WIDTH) as usize));
    for _ in 0..WIDTH * WIDTH {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let value = ((state >> 40) as f32 / (1 << 23) as f32 - 1.0) * scale;
        bytes.extend_from_slice(&value.to_le_bytes());
    }
    bytes
}

/// Layers of the same noise, each moved on a little, so that no two are alike.
fn layers() -> Vec<Vec<u8>> {
    let mut weights = noise();
    let next = |_| {
        weights.rotate_left(4 * 12_347);
        weights.clone()
    };
    (0..LAYERS).map(next).collect()
}

fn question() -> Value {
    let values: Vec<f32> = (0..WIDTH).map(|at| (at * 29 % 83) as f32 / 83.0).collect();
    json!([{"name": "x", "datatype": "FP32", "shape": [1, WIDTH], "data": values}])
}

async fn served() -> Option<Served> {
    for (name, program) in
        [("chromium", "/usr/bin/chromium"), ("firefox", "/usr/lib/firefox-esr/firefox-esr")]
    {
        if !Path::new(program).exists() {
            crate::skip(name, Path::new(program));
            return None;
        }
    }
    let config = format!("lanes = {{ backends = ['wasm'], threads = 1, memory_max = {CEILING} }}\n");
    let weft = Path::new(env!("CARGO_BIN_EXE_weft"));
    let served = Served::start_with(weft, "chromium=2,firefox=2", &[("weft.toml", &config)]).await.unwrap();
    let model = served.home().join("whole.onnx");
    fs::write(&model, graphs::dense(WIDTH, &layers())).unwrap();
    served.weft(&["models", "add", model.to_str().unwrap()]).await.unwrap();
    Some(served)
}

/// Each lane with what its heap has grown to.
async fn heaps(served: &Served) -> Vec<(String, u64)> {
    let listed = reqwest::get(format!("{}/api/v1/lanes", served.url)).await.unwrap().text().await.unwrap();
    let listed: Value = serde_json::from_str(&listed).unwrap();
    let lanes = listed["items"].as_array().unwrap().iter().filter(|lane| lane["backend"] == "wasm");
    let heap = |lane: &Value| {
        assert_eq!(lane["capability"]["memory_max"], CEILING, "{lane}");
        (lane["lane"].as_str().unwrap().to_owned(), lane["memory"]["wasm_bytes"].as_u64().unwrap())
    };
    lanes.map(heap).collect()
}

#[tokio::test]
async fn what_no_lane_can_hold_answers_in_stages() {
    let Some(served) = served().await else { return };
    let mut client = served.connect().await.unwrap();
    let native = json!({"backend": "ort-cpu"});
    let wanted = client.ask_with("whole", question(), &native).await.unwrap();
    let wanted = numbers(&wanted, "y").unwrap();
    for browser in ["chromium", "firefox"] {
        let lane = Lane { browser, backend: "wasm" };
        let refused = client.ask("whole", question(), lane).await.unwrap();
        assert_eq!(refused["error"]["code"], "out_of_memory", "{browser}: {refused}");
    }
    let grown = heaps(&served).await;
    assert!(grown.iter().any(|(_, bytes)| *bytes > CEILING / 2), "the engine tried: {grown:?}");

    let plan = make(&served).await;
    let answer = client.ask_with("whole", question(), &json!({"plan": plan})).await.unwrap();
    assert_near(&numbers(&answer, "y").unwrap_or_else(|_| panic!("{answer}")), &wanted);
    let stages = answer["parameters"]["provenance"]["stages"].as_array().unwrap();
    let mut lanes: Vec<_> = stages.iter().map(|stage| stage["lane"].as_str().unwrap()).collect();
    lanes.sort_unstable();
    lanes.dedup();
    assert_eq!(lanes.len(), STAGES, "{answer}");
    assert!(stages.iter().all(|stage| stage["backend"] == "wasm" && stage["fallback"].is_null()), "{answer}");
    for (lane, bytes) in heaps(&served).await {
        eprintln!("{lane}: {} MiB of {}", bytes >> 20, CEILING >> 20);
        assert!(bytes <= CEILING, "{lane}: {bytes}");
    }
    served.stop().await.unwrap();
}

/// Has the daemon split the model over the browsers' lanes for the sake of memory alone.
async fn make(served: &Served) -> Value {
    let lanes: Vec<_> = heaps(served).await.into_iter().map(|(lane, _)| lane).collect();
    assert_eq!(lanes.len(), STAGES, "{lanes:?}");
    let split = json!({"strategy": "auto", "objective": {"for": "memory"}, "lanes": lanes});
    let order = json!({"model": "whole", "split": split, "fallback": "none"});
    let made = reqwest::Client::new().post(format!("{}/api/v1/plans", served.url)).body(order.to_string());
    let made: Value = serde_json::from_str(&made.send().await.unwrap().text().await.unwrap()).unwrap();
    assert_eq!(made["stages"].as_array().map(Vec::len), Some(STAGES), "{made}");
    made["id"].clone()
}

#[track_caller]
fn assert_near(actual: &[f32], wanted: &[f32]) {
    let scale = wanted.iter().fold(0.0f32, |largest, value| largest.max(value.abs()));
    assert!(scale > 0.0 && actual.len() == wanted.len());
    for (actual, wanted) in actual.iter().zip(wanted) {
        assert!((actual - wanted).abs() <= TOLERANCE * scale, "{actual} for {wanted}");
    }
}
