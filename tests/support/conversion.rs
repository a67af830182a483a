//! What converted weights compute by native ONNX Runtime, and how far that is from what `PyTorch` computes with them.

#![allow(dead_code, reason = "each target that includes this file uses its own part of it")]

use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;
use weft::{
    backend::{
        Backend, LoadOrder, SessionName, Step,
        ort::{OrtLane, OrtLibrary},
    },
    domain::{Digest, DimBinding, Tensor},
    onnx,
};

use crate::checkpoints::{MINILM, Original, cases, complete, difference, named, values, written};

const LIBRARY: &str = concat!(env!("WEFT_NATIVE_DIR"), "/libonnxruntime.so.1");

/// A part's graph in the engine.
pub(crate) struct Loaded {
    lane: OrtLane,
    session: SessionName,
    pub(crate) analysis: onnx::Analysis,
}

pub(crate) async fn load(path: PathBuf, analysis: onnx::Analysis) -> Loaded {
    let library = OrtLibrary::load(Path::new(LIBRARY)).expect("`make setup` has brought the library");
    let lane = OrtLane::start(&library, "cpu", 1).expect("the CPU is always there");
    let session = SessionName { model: Digest::new([0; 32]), shapes: DimBinding::new() };
    lane.load(LoadOrder { session: session.clone(), path, delivery: None }).await.expect("a good graph");
    Loaded { lane, session, analysis }
}

pub(crate) async fn load_bytes(file: Vec<u8>) -> Loaded {
    let home = tempfile::tempdir().expect("a temporary directory");
    let path = home.path().join("model.onnx");
    std::fs::write(&path, &file).expect("writable");
    let analysis = onnx::analyse(&file.into()).expect("a good graph");
    load(path, analysis).await
}

impl Loaded {
    pub(crate) async fn run(&self, inputs: Vec<Tensor>) -> Vec<Tensor> {
        self.analysis.signature.bind(&inputs).expect("what the signature says");
        let step = Step {
            session: self.session.clone(),
            inputs,
            outputs: Vec::new(),
            keeping: None,
            cancelled: CancellationToken::new(),
        };
        self.lane.execute(step).await.expect("it runs").outputs
    }
}

/// The largest difference over all outputs of all cases of all parts; `patch` changes a part's file.
pub(crate) async fn differences(original: &Original, patch: impl Fn(&mut Vec<u8>)) -> f64 {
    let mut worst = 0f64;
    let mut encoded = Vec::new();
    for part in original.parts() {
        let mut file = written(&part);
        patch(&mut file);
        let loaded = load_bytes(file).await;
        for (case, (inputs, outputs)) in original.cases(part.name) {
            let answers = loaded.run(complete(&loaded.analysis.signature, inputs, &encoded)).await;
            for wanted in &outputs {
                worst = worst.max(difference(wanted, named(&answers, &wanted.name)));
            }
            if part.name == "encoder" && case == "two" {
                encoded = answers;
            }
        }
    }
    worst
}

/// The largest difference of any number in a daemon's embeddings, each of length 1, of the sentences that `PyTorch` has
/// embedded with the weights that the model was made of.
pub(crate) async fn embeddings_off(url: &str, model: &str) -> f64 {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/fixtures/inputs/modality/expected.json");
    let modality: Value =
        serde_json::from_slice(&std::fs::read(path).expect("a committed file")).expect("JSON");
    let (_, wanted) = cases(&Original::outputs(MINILM), "texts").remove("sentences").expect("a case");
    let wanted = &wanted[0];
    let http = reqwest::Client::builder().no_proxy().build().expect("an HTTP client");
    let order = json!({"model": model, "input": modality["sentences"], "weft": {"backend": ["ort-cpu"]}});
    let request = http.post(format!("{url}/v1/embeddings")).body(order.to_string());
    let text = request.send().await.expect("the daemon answers").text().await.expect("a whole answer");
    let answer: Value = serde_json::from_str(&text).expect("JSON");
    let data = answer["data"].as_array().unwrap_or_else(|| panic!("{answer}"));
    assert_eq!(data.len() as u64, wanted.shape[0], "{answer}");
    let numbers = data.iter().flat_map(|of| of["embedding"].as_array().expect("a list"));
    let got: Vec<_> = numbers.filter_map(Value::as_f64).collect();
    let wanted = values(wanted);
    assert_eq!(got.len(), wanted.len());
    got.iter().zip(&wanted).map(|(got, wanted)| (got - f64::from(*wanted)).abs()).fold(0.0, f64::max)
}
