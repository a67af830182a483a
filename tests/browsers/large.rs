//! `make prove`: a model of 2.2 GB in five files, natively and in every lane. Each lane is a slice with a file of its own,
//! as in `matrix`.

use std::{
    fs::File,
    io::{BufWriter, Write as _},
    path::{Path, PathBuf},
    time::Instant,
};

use serde_json::{Value, json};

use crate::{
    daemon::{FIXTURES, served},
    graphs,
    precision::worst,
    proof,
    serve::{Client, Lane, Served},
    webkit,
};

/// One browser at a time: while it loads, each takes some 5 GB.
const LANES: [(&str, &[&str]); 4] = [
    ("chromium", &["wasm", "webgpu"]),
    ("firefox", &["wasm", "webgpu"]),
    ("webkitgtk", &["wasm"]),
    ("chromium-webnn", &["wasm", "webgpu", "webnn"]),
];
const NATIVE: Lane = Lane { browser: "native", backend: "ort-cpu" };

const WIDTH: u64 = 2048;
const PRODUCTS: usize = 137;
const FILES: usize = 4;

#[tokio::test]
#[ignore = "needs 16 GB of memory and 12 GB of disk: run by `make prove`"]
async fn a_model_of_2_2_gb_runs_or_is_refused_in_each_lane() {
    let lanes =
        LANES.iter().flat_map(|(browser, backends)| backends.iter().map(move |backend| (*browser, *backend)));
    let wanted: Vec<_> = lanes
        .map(|(browser, backend)| Lane { browser, backend })
        .filter(|lane| !file(*lane).exists())
        .collect();
    if wanted.is_empty() {
        return;
    }
    let commit = proof::commit();
    let folder = tempfile::tempdir().unwrap();
    let model = write(folder.path());
    for (browser, _) in LANES {
        let lanes: Vec<_> = wanted.iter().filter(|lane| lane.browser == browser).collect();
        if lanes.is_empty() || browser == "webkitgtk" && !webkit::here() {
            continue;
        }
        let Some(served) = served(&format!("{browser}=1")).await else { continue };
        served.weft(&["models", "add", model.to_str().unwrap()]).await.unwrap();
        let mut client = served.connect().await.unwrap();
        let wanted = ask(&mut client, NATIVE).await;
        assert!(wanted["outputs"].is_array(), "{wanted}");
        for lane in lanes {
            let mut slice = measure(&served, &mut client, *lane, &wanted).await;
            eprintln!("{lane:?}: {slice}");
            slice["commit"] = json!(commit);
            slice["machine"] = json!(proof::machine());
            slice["command"] = json!(proof::COMMAND);
            slice["build"] = json!(if cfg!(debug_assertions) { "debug" } else { "release" });
            std::fs::create_dir_all(file(*lane).parent().unwrap()).unwrap();
            std::fs::write(file(*lane), format!("{slice}\n")).unwrap();
        }
        served.stop().await.unwrap();
    }
}

fn file(lane: Lane) -> PathBuf {
    let name = format!("{}-{}.json", lane.browser, lane.backend);
    PathBuf::from(FIXTURES).join("measurements/large").join(name)
}

/// Writes the graph and its weights into a folder.
fn write(folder: &Path) -> PathBuf {
    let names: Vec<_> = (0..FILES).map(|at| format!("weights-{at}")).collect();
    let bytes = WIDTH * WIDTH * 4;
    let place = |at: usize| (names[at % FILES].as_str(), (at / FILES) as u64 * bytes);
    let places: Vec<_> = (0..PRODUCTS).map(place).collect();
    // So that a product is as large as what goes in.
    let scale = (12.0 / WIDTH as f32).sqrt();
    let mut state = 1u32;
    let mut files: Vec<_> =
        names.iter().map(|name| BufWriter::new(File::create(folder.join(name)).unwrap())).collect();
    for at in 0..PRODUCTS {
        for _ in 0..WIDTH * WIDTH {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            let value = ((state >> 8) as f32 / (1 << 24) as f32 - 0.5) * scale;
            files[at % FILES].write_all(&value.to_le_bytes()).unwrap();
        }
    }
    for file in &mut files {
        file.flush().unwrap();
    }
    let model = folder.join("large.onnx");
    std::fs::write(&model, graphs::products_outside(WIDTH, &places)).unwrap();
    model
}

async fn ask(client: &mut Client, lane: Lane) -> Value {
    let values: Vec<_> = (0..WIDTH).map(|at| (at as f32 * 0.37).sin()).collect();
    let inputs = json!([{"name": "x", "datatype": "FP32", "shape": [1, WIDTH], "data": values}]);
    client.ask("large", inputs, lane).await.unwrap()
}

/// Loads it into the lane, which proves it there, and asks; or tells why not, and what had been fetched by then.
async fn measure(served: &Served, client: &mut Client, lane: Lane, wanted: &Value) -> Value {
    let http = reqwest::Client::new();
    let get = async |path: &str| {
        http.get(format!("{}{path}", served.url)).send().await.unwrap().text().await.unwrap()
    };
    let place = json!({"browser": [lane.browser], "backend": [lane.backend]}).to_string();
    let begun = Instant::now();
    let load =
        http.post(format!("{}/api/v1/models/large/load", served.url)).body(place).send().await.unwrap();
    let load_ms = begun.elapsed().as_millis() as u64;
    let loaded: Value = serde_json::from_str(&load.text().await.unwrap()).unwrap();
    let lanes: Value = serde_json::from_str(&get("/api/v1/lanes").await).unwrap();
    let name = format!("{}-1/{}", lane.browser, lane.backend);
    let shown = lanes["items"].as_array().unwrap().iter().find(|lane| lane["lane"] == name.as_str());
    let metrics = get("/metrics").await;
    let fetched: Vec<_> =
        metrics.lines().filter(|line| line.starts_with("weft_fetched_bytes_total")).collect();
    let answer = ask(client, lane).await;
    if let Some(error) = answer.get("error") {
        assert_eq!(error["code"], "too_large", "{answer}");
        return json!({"lane": name, "loaded": loaded, "refused": error, "fetched": fetched});
    }
    let error = worst(&[wanted["outputs"].clone()], &[answer["outputs"].clone()]);
    assert!(error <= 1e-3, "{name}: {error}");
    let unload = http.post(format!("{}/api/v1/models/large/unload", served.url)).send().await.unwrap();
    assert!(unload.status().is_success(), "{unload:?}");
    let parameters = &answer["parameters"];
    json!({
        "lane": name, "loaded": loaded, "load_ms": load_ms, "memory": shown.map(|lane| &lane["memory"]),
        "fetched": fetched, "error": error, "provenance": parameters["provenance"], "timing_us": parameters["timing_us"],
    })
}
