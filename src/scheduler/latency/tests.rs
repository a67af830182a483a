use super::*;
use crate::domain::{InstanceId, LaneId};

/// Of a lane that is called browser/backend.
fn environment(name: &str) -> Environment {
    let (browser, backend) = name.split_once('/').expect("a browser and a backend");
    Environment {
        instance: InstanceId::new(format!("{browser}-1")),
        lane: LaneId::new(name),
        browser: browser.to_owned(),
        browser_version: "1".to_owned(),
        backend: backend.parse().expect("a backend"),
        adapter: None,
        webnn_device: None,
        sandbox: None,
        engine: "none".to_owned(),
        threads: 1,
        flags: Vec::new(),
    }
}

#[test]
fn a_lane_that_has_run_nothing_is_thought_to_be_like_others() {
    let step = Duration::from_micros;
    let audio = BTreeMap::from([(BackendKind::Wasm, step(1_100)), (BackendKind::Webgpu, step(500))]);
    let priors = RecipePriors::from([("a".to_owned(), BTreeMap::from([(ModelKind::Audio, audio)]))]);
    let cases: [(&str, ModelKind, &[(&str, f64)], f64); 11] = [
        ("a/wasm", ModelKind::Audio, &[], 1_100.0),
        ("a/webgpu", ModelKind::Audio, &[], 500.0),
        ("a/webnn", ModelKind::Audio, &[], 4_000.0),
        // Another kind of model, or another product, of which nothing is said.
        ("a/wasm", ModelKind::Vision, &[], 8_000.0),
        ("b/wasm", ModelKind::Audio, &[], 8_000.0),
        ("b/wasm", ModelKind::Audio, &[("a/wasm", 700.0)], 700.0),
        ("b/wasm", ModelKind::Audio, &[("a/webgpu", 700.0)], 8_000.0),
        // Its own product's recipe knows more than another product's lane, and its own product's lane most.
        ("a/wasm", ModelKind::Audio, &[("b/wasm", 700.0)], 1_100.0),
        ("a/wasm", ModelKind::Audio, &[("b/wasm", 700.0), ("a/wasm", 900.0)], 900.0),
        ("native/ort-cpu", ModelKind::Audio, &[], 400.0),
        ("native/ort-cpu", ModelKind::Vision, &[], 1_000.0),
    ];
    for (name, kind, measured, micros) in cases {
        let mut means = Means::default();
        for (other, micros) in measured {
            means.measured(&environment(other), *micros);
        }
        let expected = Expected { kind, means: &means, priors: &priors };
        let difference = (expected.of(&environment(name)) - micros).abs();
        assert!(difference < 0.1, "{name} {kind:?} {measured:?}: {}", expected.of(&environment(name)));
    }
}
