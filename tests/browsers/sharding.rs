//! Real models, split by the daemon over two engines and the native lane, answer as the whole.

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde_json::{Value, json};

use crate::{
    daemon::{FIXTURES, PROBABILITY_TOLERANCE, expected_probabilities, frame, served},
    graphs,
    precision::{inputs, worst},
    serve::{Client, Served, numbers},
    silero,
};

/// Shards answer as the whole does natively, in fp32.
const TOLERANCE: f64 = 1e-4;

/// A model, how it is split, and over which lanes.
const CASES: [(&str, &str, usize, &[&str]); 4] = [
    ("silero-vad", "pipeline", 2, &["chromium-1/wasm", "firefox-1/wasm"]),
    ("magika", "pipeline", 2, &["firefox-1/wasm", "chromium-1/wasm"]),
    ("magika", "even", 3, &["chromium-1/wasm", "native/ort-cpu", "firefox-1/wasm"]),
    ("silero-vad", "even", 3, &["native/ort-cpu", "firefox-1/wasm", "chromium-1/wasm"]),
];

/// Layers of a model whose products can be split, and how wide they are.
const LAYERS: u64 = 4;
const WIDTH: u64 = 128;

/// What half precision may leave of the whole's largest value: its last place, some times over.
const HALF_TOLERANCE: f64 = 2e-3;

async fn answers(client: &mut Client, model: &str, parameters: &Value) -> Vec<Value> {
    let mut answers = Vec::new();
    for set in inputs(model) {
        let answer = client.ask_with(model, set, parameters).await.unwrap();
        assert!(answer["outputs"].is_array(), "{answer}");
        answers.push(answer);
    }
    answers
}

fn outputs(answers: &[Value]) -> Vec<Value> {
    answers.iter().map(|answer| answer["outputs"].clone()).collect()
}

#[tokio::test]
async fn models_that_are_split_over_engines_answer_as_the_whole() {
    let Some(served) = served("chromium=1,firefox=1").await else { return };
    let mut client = served.connect().await.unwrap();
    let http = reqwest::Client::new();
    // Who is proven for a model is there.
    let proven = http.post(format!("{}/api/v1/models/silero-vad/verify", served.url));
    let proven = proven.body(json!({"backend": ["wasm"]}).to_string()).send().await.unwrap();
    assert!(proven.status().is_success());
    for (model, strategy, stages, lanes) in CASES {
        let case = format!("{model}, {strategy} over {lanes:?}");
        let whole = outputs(&answers(&mut client, model, &json!({"backend": ["ort-cpu"]})).await);
        let order = json!({"model": model,
            "split": {"strategy": strategy, "stages": stages, "lanes": lanes}});
        let request = http.post(format!("{}/api/v1/plans", served.url)).body(order.to_string());
        let plan: Value = serde_json::from_str(&request.send().await.unwrap().text().await.unwrap()).unwrap();
        assert!(plan["id"].is_string(), "{case}: {plan}");
        let split = answers(&mut client, model, &json!({"plan": plan["id"]})).await;
        let request = http.post(format!("{}/api/v1/plans/forecast", served.url)).body(order.to_string());
        let forecast: Value =
            serde_json::from_str(&request.send().await.unwrap().text().await.unwrap()).unwrap();
        assert_eq!(forecast["forecast"]["measured"], true, "{case}: {forecast}");
        let off = worst(&whole, &outputs(&split));
        eprintln!("{case}: {off:.1e} of the largest value");
        assert!(off <= TOLERANCE, "{case}: {off}");
        let ran = split[0]["parameters"]["provenance"]["stages"].as_array().unwrap();
        assert_eq!(ran.len(), stages, "{case}");
        let mut at: Vec<_> = ran.iter().map(|stage| stage["lane"].as_str().unwrap()).collect();
        let mut meant = lanes.to_vec();
        at.sort_unstable();
        meant.sort_unstable();
        assert_eq!(at, meant, "{case}");
    }
    served.stop().await.unwrap();
}

/// Adds a model of layers of which none is like another; answers with requests of it.
async fn add_layers(served: &Served) -> Vec<Value> {
    let weight = |layer: u64, at: u64| ((at * 37 + layer * 11) % 101) as f32 / 1616.0 - 0.028;
    let weights = |layer| (0..WIDTH * WIDTH).flat_map(|at| weight(layer, at).to_le_bytes()).collect();
    let file = served.home().join("layers.onnx");
    std::fs::write(&file, graphs::dense(WIDTH, &(0..LAYERS).map(weights).collect::<Vec<_>>())).unwrap();
    served.weft(&["models", "add", file.to_str().unwrap()]).await.unwrap();
    let set = |number: u64| {
        let x: Vec<_> = (0..2 * WIDTH).map(|at| (at * (29 + number) % 83) as f32 / 83.0).collect();
        json!([{"name": "x", "datatype": "FP32", "shape": [2, WIDTH], "data": x}])
    };
    (0..3).map(set).collect()
}

#[tokio::test]
async fn products_in_two_engines_and_values_in_half_precision_answer_as_the_whole() {
    let Some(served) = served("chromium=1,firefox=1").await else { return };
    let mut client = served.connect().await.unwrap();
    let http = reqwest::Client::new();
    let sets = add_layers(&served).await;
    let proven = http.post(format!("{}/api/v1/models/layers/verify", served.url));
    let proven = proven.body(json!({"backend": ["wasm"]}).to_string()).send().await.unwrap();
    assert!(proven.status().is_success());
    let mut asked = async |parameters: Value| {
        let mut answers = Vec::new();
        for set in &sets {
            let answer = client.ask_with("layers", set.clone(), &parameters).await.unwrap();
            assert!(answer["outputs"].is_array(), "{answer}");
            answers.push(answer);
        }
        answers
    };
    let whole = outputs(&asked(json!({"backend": ["ort-cpu"]})).await);
    let native = "native/ort-cpu";
    let engines = ["chromium-1/wasm", "firefox-1/wasm"];
    // Two pairs of products, each in two ways, with their sum and what lies behind it.
    let cases = [
        (json!({"strategy": "tensor", "lanes": [engines[0], engines[1], native]}), 8, 2, TOLERANCE),
        (
            json!({"strategy": "pipeline", "stages": 2, "lanes": engines, "activations": "fp16"}),
            2,
            0,
            HALF_TOLERANCE,
        ),
    ];
    for (split, stages, sums, tolerance) in cases {
        let order = json!({"model": "layers", "split": split});
        let request = http.post(format!("{}/api/v1/plans", served.url)).body(order.to_string());
        let plan: Value = serde_json::from_str(&request.send().await.unwrap().text().await.unwrap()).unwrap();
        assert!(plan["id"].is_string(), "{split}: {plan}");
        let dealt = asked(json!({"plan": plan["id"]})).await;
        let off = worst(&whole, &outputs(&dealt));
        eprintln!("{split}: {off:.1e} of the largest value, {} when it was proven", plan["error"]);
        assert!(off <= tolerance, "{split}: {off}");
        let ran = dealt[0]["parameters"]["provenance"]["stages"].as_array().unwrap();
        let at = |lane: &str| ran.iter().filter(|stage| stage["lane"] == lane).count();
        assert_eq!((ran.len(), at(native)), (stages, sums), "{ran:?}");
        assert!(engines.iter().all(|lane| at(lane) > 0), "{ran:?}");
    }
    served.stop().await.unwrap();
}

/// Kills a browser's first process.
async fn kill_browser(served: &Served, instance: &str) {
    let listed =
        reqwest::get(format!("{}/api/v1/instances", served.url)).await.unwrap().text().await.unwrap();
    let listed: Value = serde_json::from_str(&listed).unwrap();
    let found = listed["items"].as_array().unwrap().iter().find(|item| item["instance"] == instance).unwrap();
    let process = i32::try_from(found["process"].as_i64().unwrap()).unwrap();
    kill(Pid::from_raw(process), Signal::SIGKILL).unwrap();
}

const FRAMES: usize = 40;

/// Speech as a sequence, each frame with the state of the one before, over two engines of which one dies midway.
#[tokio::test]
async fn a_sequence_goes_on_when_a_browser_of_its_plan_dies() {
    let Some(served) = served("chromium=1,firefox=1").await else { return };
    let mut client = served.connect().await.unwrap();
    let http = reqwest::Client::new();
    let proven = http.post(format!("{}/api/v1/models/silero-vad/verify", served.url));
    assert!(
        proven.body(json!({"backend": ["wasm"]}).to_string()).send().await.unwrap().status().is_success()
    );
    let split = json!({"strategy": "even", "stages": 2, "lanes": ["chromium-1/wasm", "firefox-1/wasm"]});
    let order = json!({"model": "silero-vad", "split": split, "spares": "shared"}).to_string();
    let made = http.post(format!("{}/api/v1/plans", served.url)).body(order).send().await.unwrap();
    let plan: Value = serde_json::from_str(&made.text().await.unwrap()).unwrap();
    assert!(plan["id"].is_string(), "{plan}");
    let speech = std::fs::read(format!("{FIXTURES}/inputs/speech.wav")).unwrap();
    let samples = silero::samples(&speech.into()).unwrap();
    let mut state = json!(vec![0.0f32; silero::STATE_SHAPE.iter().product()]);
    let mut moved = 0;
    for (at, (samples, expected)) in
        silero::frames(&samples).into_iter().zip(expected_probabilities()).take(FRAMES).enumerate()
    {
        if at == FRAMES / 2 {
            kill_browser(&served, "firefox-1").await;
        }
        let parameters = json!({"plan": plan["id"], "sequence_id": 1, "sequence_start": at == 0,
            "sequence_end": at + 1 == FRAMES});
        let answer = client.ask_with("silero-vad", frame(&samples, &state), &parameters).await.unwrap();
        assert_eq!(answer["type"], "result", "{answer}");
        let probability = numbers(&answer, "output").unwrap()[0];
        assert!(
            (probability - expected as f32).abs() < PROBABILITY_TOLERANCE,
            "frame {at}: {probability} for {expected}"
        );
        state = answer["outputs"][1]["data"].clone();
        let stages = answer["parameters"]["provenance"]["stages"].as_array().unwrap();
        moved += usize::from(stages.iter().any(|stage| stage["fallback"].is_object()));
    }
    assert!(moved > 0, "a stage of the dead browser ran elsewhere");
    served.stop().await.unwrap();
}
