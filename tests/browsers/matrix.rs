//! `make prove`: every model in every lane, over all of its inputs. Each lane and model is a slice with a file of its
//! own, written when it is whole; it is then not run again.

use std::path::PathBuf;

use serde_json::{Value, json};

use crate::{
    daemon::{FIXTURES, served},
    magika, proof,
    serve::{Client, Lane, cache, numbers},
    silero,
};

const BACKENDS: [(&str, &[&str]); 2] =
    [("chromium", &["wasm", "webgpu"]), ("chromium-webnn", &["wasm", "webnn", "webgpu"])];

#[tokio::test]
#[ignore = "a full matrix: run by `make prove`"]
async fn every_model_in_every_lane() {
    let commit = proof::commit();
    let Some(served) = served("chromium=1,chromium-webnn=1").await else { return };
    let browsers = BACKENDS
        .iter()
        .flat_map(|(browser, backends)| backends.iter().map(|backend| Lane { browser, backend }));
    for lane in browsers.chain([Lane { browser: "native", backend: "ort-cpu" }]) {
        for model in ["silero-vad", "magika"] {
            let file = slice_file(lane, model);
            let known: Option<Value> =
                std::fs::read(&file).ok().and_then(|text| serde_json::from_slice(&text).ok());
            if let Some(known) = known {
                eprintln!("{} was run at {}", file.display(), known["commit"]);
                continue;
            }
            let mut client = served.connect().await.unwrap();
            let mut slice = match model {
                "silero-vad" => speech(&mut client, lane).await,
                _ => files(&mut client, lane).await,
            };
            slice["commit"] = json!(commit);
            slice["machine"] = json!(proof::machine());
            slice["command"] = json!(proof::COMMAND);
            std::fs::create_dir_all(file.parent().unwrap()).unwrap();
            std::fs::write(&file, format!("{slice}\n")).unwrap();
        }
    }
    served.stop().await.unwrap();
}

fn slice_file(lane: Lane, model: &str) -> PathBuf {
    let name = format!("{}-{}-{model}.json", lane.browser, lane.backend);
    PathBuf::from(FIXTURES).join("measurements/matrix").join(name)
}

/// All frames of the recording, each against the probability that the package's own loop gave.
async fn speech(client: &mut Client, lane: Lane) -> Value {
    let expected = crate::daemon::expected_probabilities();
    let samples =
        silero::samples(&std::fs::read(format!("{FIXTURES}/inputs/speech.wav")).unwrap().into()).unwrap();
    let mut state = json!(vec![0.0f32; silero::STATE_SHAPE.iter().product()]);
    let mut slice = Slice::default();
    for (frame, expected) in silero::frames(&samples).into_iter().zip(expected) {
        let answer = client.ask("silero-vad", crate::daemon::frame(&frame, &state), lane).await.unwrap();
        if !slice.take(&answer) {
            break;
        }
        let probability = numbers(&answer, "output").unwrap()[0];
        slice.differences.push((f64::from(probability) - expected).abs());
        state = answer["outputs"][1]["data"].clone();
    }
    slice.finish(crate::daemon::PROBABILITY_TOLERANCE)
}

/// All files, each against the label and probability that the package gave.
async fn files(client: &mut Client, lane: Lane) -> Value {
    let config = cache().unwrap().join("models/magika-1.0.3/config.min.json");
    let config = magika::Config::parse(&std::fs::read(config).unwrap()).unwrap();
    let expected: Value =
        serde_json::from_str(&std::fs::read_to_string(format!("{FIXTURES}/inputs/expected.json")).unwrap())
            .unwrap();
    let mut slice = Slice::default();
    for (name, expected) in expected["magika"]["files"].as_object().unwrap() {
        let features =
            config.features(&std::fs::read(format!("{FIXTURES}/inputs/files/{name}")).unwrap()).unwrap();
        let inputs =
            json!([{"name": "bytes", "datatype": "INT32", "shape": [1, features.len()], "data": features}]);
        let answer = client.ask("magika", inputs, lane).await.unwrap();
        if !slice.take(&answer) {
            break;
        }
        let probabilities = numbers(&answer, "target_label").unwrap();
        let (label, probability) = config.top(&probabilities).unwrap();
        assert_eq!(label, expected["label"], "{name} on {lane:?}");
        slice.differences.push((f64::from(probability) - expected["probability"].as_f64().unwrap()).abs());
    }
    slice.finish(crate::daemon::PROBABILITY_TOLERANCE)
}

#[derive(Default)]
struct Slice {
    refused: Option<Value>,
    provenance: Value,
    timing_us: Vec<Value>,
    differences: Vec<f64>,
}

impl Slice {
    /// Keeps an answer's figures; says whether it was one.
    fn take(&mut self, answer: &Value) -> bool {
        if let Some(error) = answer.get("error") {
            assert_eq!(error["code"], "quarantined", "{answer}");
            self.refused = Some(error.clone());
            return false;
        }
        self.provenance = answer["parameters"]["provenance"].clone();
        self.timing_us.push(answer["parameters"]["timing_us"].clone());
        true
    }

    fn finish(self, tolerance: f32) -> Value {
        let worst = self.differences.iter().copied().fold(0.0, f64::max);
        assert!(worst <= f64::from(tolerance), "{worst} from the package's own answer: {}", self.provenance);
        json!({
            "refused": self.refused,
            "provenance": self.provenance,
            "answers": self.timing_us.len(),
            "largest_difference": worst,
            "timing_us": self.timing_us,
        })
    }
}
