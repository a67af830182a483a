//! A model in two halves over two engines.

use std::fs;

use serde_json::{Value, json};

use crate::{
    daemon::served,
    graphs,
    serve::{Client, Served, numbers},
};

const WIDTH: u64 = 256;
const LAYERS: usize = 6;

/// The halves' answers lie next to the whole's in fp32.
const TOLERANCE: f32 = 1e-4;

/// Weights of one layer, small enough that nothing grows out of bounds, and no two layers alike.
fn weights(layer: usize) -> Vec<u8> {
    let value = |at: u64| ((at * 37 + layer as u64 * 11) % 101) as f32 / 101.0 - 0.45;
    (0..WIDTH * WIDTH).flat_map(|at| (value(at) / 16.0).to_le_bytes()).collect()
}

/// Adds the whole and both halves; answers with the halves' sizes in bytes.
async fn add_models(served: &Served) -> [u64; 2] {
    let layers: Vec<_> = (0..LAYERS).map(weights).collect();
    let (first, second) = layers.split_at(LAYERS / 2);
    let files = [
        ("whole", graphs::dense(WIDTH, &layers)),
        ("first", graphs::dense_part(WIDTH, first, "x", "m")),
        ("second", graphs::dense_part(WIDTH, second, "m", "y")),
    ];
    let sizes = [files[1].1.len() as u64, files[2].1.len() as u64];
    for (name, file) in files {
        let path = served.home().join(format!("{name}.onnx"));
        fs::write(&path, file).unwrap();
        served.weft(&["models", "add", path.to_str().unwrap()]).await.unwrap();
    }
    sizes
}

async fn make(served: &Served, fallback: &str) -> String {
    let order = json!({"model": "whole", "fallback": fallback, "stages": [
        {"model": "first", "browser": "chromium", "backend": "wasm"},
        {"model": "second", "browser": "firefox", "backend": "wasm"}]});
    let request = reqwest::Client::new().post(format!("{}/api/v1/plans", served.url)).body(order.to_string());
    let made: Value = serde_json::from_str(&request.send().await.unwrap().text().await.unwrap()).unwrap();
    made["id"].as_str().unwrap_or_else(|| panic!("{made}")).to_owned()
}

/// Asks for these rows; answers with the outputs and the message.
async fn ask(client: &mut Client, rows: u64, parameters: &Value) -> (Vec<f32>, Value) {
    let values: Vec<f32> = (0..rows * WIDTH).map(|at| (at * 29 % 83) as f32 / 83.0).collect();
    let inputs = json!([{"name": "x", "datatype": "FP32", "shape": [rows, WIDTH], "data": values}]);
    let answer = client.ask_with("whole", inputs, parameters).await.unwrap();
    (numbers(&answer, "y").unwrap_or_else(|_| panic!("{answer}")), answer)
}

#[track_caller]
fn assert_near(actual: &[f32], wanted: &[f32]) {
    let scale = wanted.iter().fold(0.0f32, |largest, value| largest.max(value.abs()));
    assert_eq!(actual.len(), wanted.len());
    assert!(scale > 0.0);
    for (at, (actual, wanted)) in actual.iter().zip(wanted).enumerate() {
        assert!((actual - wanted).abs() <= TOLERANCE * scale, "{actual} for {wanted} at {at}");
    }
}

/// Bytes of models that a browser's `wasm` lane has fetched.
async fn fetched(served: &Served, browser: &str) -> u64 {
    let metrics = reqwest::get(format!("{}/metrics", served.url)).await.unwrap().text().await.unwrap();
    let of = [format!("browser=\"{browser}\""), "backend=\"wasm\"".to_owned()];
    let lines = metrics.lines().filter(|line| {
        line.starts_with("weft_fetched_bytes_total{") && of.iter().all(|label| line.contains(label))
    });
    let value = |line: &str| line.rsplit(' ').next().unwrap().parse::<f64>().unwrap();
    lines.map(value).sum::<f64>() as u64
}

#[tokio::test]
async fn two_engines_hold_a_half_each_and_answer_as_the_whole() {
    let Some(served) = served("chromium=1,firefox=1").await else { return };
    let sizes = add_models(&served).await;
    let plan = make(&served, "none").await;
    let mut client = served.connect().await.unwrap();
    for rows in [1, 7, 64] {
        let (wanted, _) = ask(&mut client, rows, &json!({"backend": "ort-cpu"})).await;
        let (actual, answer) = ask(&mut client, rows, &json!({"plan": plan})).await;
        assert_near(&actual, &wanted);
        let stages = &answer["parameters"]["provenance"]["stages"];
        let seen: Vec<_> = (0..2).map(|at| (&stages[at]["lane"], &stages[at]["verdict"])).collect();
        let verified = json!("verified");
        let lanes = [json!("chromium-1/wasm"), json!("firefox-1/wasm")];
        assert_eq!(seen, [(&lanes[0], &verified), (&lanes[1], &verified)], "{answer}");
        assert_eq!(stages[0]["bytes_out"], rows * WIDTH * 4);
    }
    let came = [fetched(&served, "chromium").await, fetched(&served, "firefox").await];
    assert_eq!(came, sizes, "each browser has fetched its own half alone");

    // A browser that goes in the middle of a stream costs no request, and no digit.
    let plan = make(&served, "native").await;
    let (wanted, _) = ask(&mut client, 7, &json!({"backend": "ort-cpu"})).await;
    let restart = reqwest::Client::new().post(format!("{}/api/v1/instances/firefox-1/restart", served.url));
    assert_eq!(restart.send().await.unwrap().status(), 202);
    let mut elsewhere = 0;
    for _ in 0..20 {
        let (actual, answer) = ask(&mut client, 7, &json!({"plan": plan})).await;
        assert_near(&actual, &wanted);
        elsewhere += u32::from(answer["parameters"]["provenance"]["stages"][1]["fallback"].is_object());
    }
    assert!(elsewhere > 0, "the browser was away");
    served.stop().await.unwrap();
}
