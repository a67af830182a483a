//! Our own kernels in real browsers: right where the library's WebGPU build is wrong or refuses.

use std::{fs, path::Path};

use serde_json::{Value, json};

use crate::{
    daemon::{FIXTURES, PROBABILITY_TOLERANCE, expected_probabilities, installed, listen, moon, top},
    graphs,
    serve::{Client, Lane, Served, numbers},
};

const BACKENDS: [&str; 2] = ["weft-wgsl", "weft-wasm"];

/// A daemon whose browser has lanes on our kernels alone.
pub(crate) async fn served(browser: &str) -> Option<Served> {
    if !installed(browser) {
        return None;
    }
    let config = format!("[lanes]\nbackends = {BACKENDS:?}\n");
    let files = [("weft.toml", config.as_str())];
    let served = Served::start_with(Path::new(env!("CARGO_BIN_EXE_weft")), browser, &files).await.unwrap();
    served.weft(&["models", "add", &format!("{FIXTURES}/models.toml")]).await.unwrap();
    Some(served)
}

/// What an answer of ours says of where it comes from.
fn proves(answer: &Value, lane: Lane) {
    let provenance = &answer["parameters"]["provenance"];
    let said = ["browser", "backend", "verdict"].map(|field| provenance[field].as_str().unwrap_or_default());
    assert_eq!(said, [lane.browser, lane.backend, "verified"], "{provenance}");
    let engine = format!("weft@{}/", env!("CARGO_PKG_VERSION"));
    assert!(provenance["engine"].as_str().unwrap().starts_with(&engine), "{provenance}");
    assert_eq!(provenance["fallback"], Value::Null, "{provenance}");
    assert_eq!(provenance["software_adapter"], lane.backend == "weft-wgsl", "{provenance}");
    let placement = provenance["placement"].as_object().unwrap();
    assert!(placement.len() == 1 && placement[lane.backend].as_u64().unwrap() > 0, "{provenance}");
}

/// The library's build refuses silero-VAD's convolutions, or computes them wrongly, on either adapter.
async fn speech_and_files(client: &mut Client, lane: Lane) {
    let answers = listen(client, lane, 30).await;
    for (answer, expected) in answers.iter().zip(&expected_probabilities()) {
        let probability = numbers(answer, "output").unwrap()[0];
        let off = (probability - *expected as f32).abs();
        assert!(off < PROBABILITY_TOLERANCE, "{probability} for {expected} on {lane:?}");
        proves(answer, lane);
    }
    let named = client.ask("magika", moon(), lane).await.unwrap();
    assert_eq!(top(&named), "python", "{named}");
    proves(&named, lane);
}

async fn add(served: &Served, name: &str, file: &[u8]) {
    let path = served.home().join(format!("{name}.onnx"));
    fs::write(&path, file).unwrap();
    served.weft(&["models", "add", path.to_str().unwrap()]).await.unwrap();
}

/// What a lane cannot compute is said by name, and the lane goes on.
async fn refusals(client: &mut Client, lane: Lane) {
    let x = json!([{"name": "x", "datatype": "FP32", "shape": [1, 4], "data": [1, 2, 3, 4]}]);
    let refused = client.ask("sharp", x, lane).await.unwrap();
    assert_eq!(refused["error"]["code"], "no_backend", "{refused}");
    assert!(refused["error"]["message"].as_str().unwrap().contains("operator Hardmax"), "{refused}");
    let places = |places: Value| json!([{"name": "x", "datatype": "INT64", "shape": [places.as_array().unwrap().len()], "data": places}]);
    for _ in 0..2 {
        let found = client.ask("table", places(json!([3, 199_999, -2])), lane).await.unwrap();
        assert_eq!(numbers(&found, "y").unwrap(), [3.0, 199_999.0, 199_998.0], "{found}");
        let wrong = [
            (json!([200_000, 1]), "an index is out of range"),
            (json!([1_i64 << 40]), "\"x\" holds a number"),
        ];
        for (indices, says) in wrong {
            let refused = client.ask("table", places(indices), lane).await.unwrap();
            assert_eq!(refused["error"]["code"], "invalid_request", "{refused}");
            assert!(refused["error"]["message"].as_str().unwrap().contains(says), "{refused}");
        }
    }
}

async fn all(browser: &'static str) {
    let Some(served) = served(&format!("{browser}=1")).await else { return };
    add(&served, "sharp", &graphs::of(&[("Hardmax", &["x"], &["y"])])).await;
    // Large enough that its weight stays in the file.
    add(&served, "table", &graphs::table(200_000)).await;
    let mut client = served.connect().await.unwrap();
    for backend in BACKENDS {
        let lane = Lane { browser, backend };
        speech_and_files(&mut client, lane).await;
        refusals(&mut client, lane).await;
    }
    served.stop().await.unwrap();
}

#[tokio::test]
async fn chromium_runs_on_our_kernels_what_the_library_computes_wrongly() {
    all("chromium").await;
}

#[tokio::test]
async fn firefox_runs_on_our_kernels_what_the_library_computes_wrongly() {
    all("firefox").await;
}
