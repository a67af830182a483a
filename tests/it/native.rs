//! Graph reader, native lane and the gate's pure part together, on the real models that `make setup` brings.

use std::path::{Path, PathBuf};

use tokio_util::sync::CancellationToken;
use weft::{
    backend::{
        Backend, LoadOrder, SessionName, Step,
        ort::{OrtLane, OrtLibrary},
    },
    domain::{Datatype, Digest, Dim, DimBinding, Tensor, Tolerance, VerdictStatus},
    models::gate::{compare, seeded, shape_candidates},
    onnx::{Analysis, Values, costs, open, open_whole},
};

use crate::checkpoints::{Original, TOLERANCE, cases, difference, named};

const LIBRARY: &str = concat!(env!("WEFT_NATIVE_DIR"), "/libonnxruntime.so.1");

pub(crate) fn cached(path: &str) -> PathBuf {
    let variable = |name: &str| std::env::var_os(name).map(PathBuf::from);
    let cache = variable("WEFT_CACHE")
        .or_else(|| variable("XDG_CACHE_HOME").map(|cache| cache.join("weft")))
        .or_else(|| variable("HOME").map(|home| home.join(".cache/weft")))
        .expect("WEFT_CACHE, XDG_CACHE_HOME or HOME is set");
    let path = cache.join("models").join(path);
    assert!(path.is_file(), "{} is missing: `make setup` brings it", path.display());
    path
}

pub(crate) fn silero() -> PathBuf {
    cached("silero-vad-6.2.3/silero_vad_16k_op15.onnx")
}

pub(crate) fn magika() -> PathBuf {
    cached("magika-1.0.3/model.onnx")
}

/// A native lane with one model loaded.
pub(crate) struct Loaded {
    lane: OrtLane,
    session: SessionName,
    nodes: u64,
}

pub(crate) async fn load(path: &Path, threads: u32) -> Loaded {
    let library = OrtLibrary::load(Path::new(LIBRARY)).expect("`make setup` has brought the library");
    let lane = OrtLane::start(&library, "cpu", threads).expect("the CPU is always there");
    let session = SessionName { model: Digest::new([0; 32]), shapes: DimBinding::new() };
    let order = LoadOrder { session: session.clone(), path: path.to_owned(), delivery: None };
    let loaded = lane.load(order).await.expect("a good model");
    assert_eq!(loaded.placement.keys().collect::<Vec<_>>(), ["cpu"], "everything runs on the CPU");
    Loaded { lane, session, nodes: loaded.placement["cpu"] }
}

impl Loaded {
    pub(crate) async fn run(&self, inputs: Vec<Tensor>) -> Option<Vec<Tensor>> {
        let step = Step {
            session: self.session.clone(),
            inputs,
            outputs: Vec::new(),
            keeping: None,
            cancelled: CancellationToken::new(),
        };
        self.lane.execute(step).await.ok().map(|output| output.outputs)
    }

    /// The outputs for seeded inputs of the first shapes that run.
    pub(crate) async fn answer_seeded(&self, analysis: &Analysis, seed: u64) -> Vec<Vec<Tensor>> {
        for shapes in shape_candidates(&analysis.signature) {
            let sets = seeded(&analysis.signature, &analysis.ranges, &shapes, seed, 3);
            let mut answers = Vec::new();
            for set in sets {
                answers.extend(self.run(set).await);
            }
            if answers.len() == 3 {
                return answers;
            }
        }
        panic!("no shapes run");
    }
}

pub(crate) fn floats(name: &str, shape: &[u64], values: impl Iterator<Item = f32>) -> Tensor {
    let bytes = values.flat_map(f32::to_le_bytes).collect::<Vec<_>>();
    Tensor { name: name.to_owned(), datatype: Datatype::Fp32, shape: shape.to_vec(), body: bytes.into() }
}

pub(crate) fn read(tensor: &Tensor) -> Vec<f32> {
    let bytes = tensor.body.contiguous();
    bytes.as_chunks::<4>().0.iter().map(|chunk| f32::from_le_bytes(*chunk)).collect()
}

#[test]
fn real_models_are_read() {
    let (_, analysis) = open(&silero()).expect("a good model");
    let names: Vec<_> = analysis.signature.inputs.iter().map(|port| port.name.as_str()).collect();
    assert_eq!(names, ["input", "state", "sr"]);
    let symbol = |name: &str| Dim::Symbol(name.to_owned());
    assert_eq!(analysis.signature.inputs[1].shape, [Dim::Fixed(2), symbol("batch"), Dim::Fixed(128)]);
    assert_eq!(
        (analysis.opset, analysis.parameter_bytes, analysis.tolerance),
        (15, 1_239_832, Tolerance::FP32)
    );
    assert_eq!((analysis.operators["If"], analysis.operators["Conv"]), (12, 6));

    let (_, analysis) = open(&magika()).expect("a good model");
    assert_eq!(analysis.signature.inputs[0].shape, [symbol("unk__214"), Dim::Fixed(2048)]);
    // The model's own padding token is 256, one above the largest byte.
    assert_eq!(analysis.ranges[0].values, Values::Integers { low: 0, high: 256 });
    assert_eq!((analysis.opset, analysis.parameter_bytes), (15, 3_138_152));
}

/// The figures were computed by the Python package `onnxruntime` 1.32.0 on its CPU provider.
#[tokio::test]
async fn the_native_lane_computes_what_python_does() {
    let loaded = load(&silero(), 1).await;
    let audio = (0u8..100).cycle().take(576).map(|at| f32::from(at) / 100.0 - 0.5);
    let rate = Tensor {
        name: "sr".to_owned(),
        datatype: Datatype::Int64,
        shape: Vec::new(),
        body: 16_000i64.to_le_bytes().to_vec().into(),
    };
    let inputs = vec![
        floats("input", &[1, 576], audio),
        floats("state", &[2, 1, 128], std::iter::repeat_n(0.0, 256)),
        rate,
    ];
    let outputs = loaded.run(inputs).await.expect("a good request");
    assert!((read(&outputs[0])[0] - 0.022_955_78).abs() < 1e-6, "{:?}", read(&outputs[0]));
    assert_eq!(outputs[1].shape, [2, 1, 128]);
    assert!((read(&outputs[1])[1] + 0.354_732_9).abs() < 1e-5, "{:?}", &read(&outputs[1])[..3]);

    let loaded = load(&magika(), 1).await;
    let bytes = (0i32..257).cycle().take(2048).flat_map(i32::to_le_bytes).collect::<Vec<_>>();
    let input = Tensor {
        name: "bytes".to_owned(),
        datatype: Datatype::Int32,
        shape: vec![1, 2048],
        body: bytes.into(),
    };
    let outputs = loaded.run(vec![input]).await.expect("a good request");
    let scores = read(&outputs[0]);
    let best = (0..scores.len()).max_by(|a, b| scores[*a].total_cmp(&scores[*b]));
    assert_eq!(best, Some(142));
    assert!((scores[142] - 0.487_239_36).abs() < 1e-5, "{}", scores[142]);
}

/// Of the kinds that weft does not convert.
#[tokio::test]
async fn what_pytorch_exported_answers_what_pytorch_did() {
    for name in ["detr", "xclip", "clap"] {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/checkpoints").join(name);
        let loaded = load(&folder.join("model.onnx"), 1).await;
        for (inputs, outputs) in cases(&Original::outputs(name), "model").into_values() {
            let answers = loaded.run(inputs).await.expect("an answer");
            for wanted in outputs {
                let off = difference(&wanted, named(&answers, &wanted.name));
                assert!(off <= TOLERANCE, "{name}: {} is off by {off:.1e}", wanted.name);
            }
        }
    }
}

#[tokio::test]
async fn seeded_inputs_prove_real_models_and_catch_broken_backends() {
    for path in [silero(), magika()] {
        let case = path.display();
        let (_, analysis) = open(&path).expect("a good model");
        let loaded = load(&path, 1).await;
        assert!(loaded.nodes > 50, "{case}: {} nodes", loaded.nodes);
        let reference = loaded.answer_seeded(&analysis, 42).await;
        let threaded = load(&path, 2).await.answer_seeded(&analysis, 42).await;
        let verdict = compare(&reference, &threaded, analysis.tolerance);
        assert_eq!(verdict.status, VerdictStatus::Verified, "{case}: {}", verdict.detail);

        let other_inputs = loaded.answer_seeded(&analysis, 43).await;
        let swapped = [reference[1].clone(), reference[0].clone(), reference[2].clone()];
        let constant = [reference[0].clone(), reference[0].clone(), reference[0].clone()];
        for broken in [other_inputs.as_slice(), &swapped, &constant] {
            let verdict = compare(&reference, broken, analysis.tolerance);
            assert_eq!(verdict.status, VerdictStatus::Mismatch, "{case}: {}", verdict.detail);
        }
    }
}

#[test]
fn real_models_are_put_together_well_and_cost_what_they_say() {
    for (path, nodes, known) in [(silero(), 350, 342), (magika(), 95, 95)] {
        let (file, _) = open_whole(&path).expect("a good model");
        let total = costs(&file).expect("a good model").total();
        assert_eq!((total.nodes, total.known), (nodes, known), "{}", path.display());
    }
    let file = std::fs::read(magika()).expect("the model").into();
    let total = costs(&file).expect("a good model").total();
    assert_eq!(total.flops.as_ref().map(ToString::to_string), Some("739058445·unk__214".to_owned()));
    let sizes = [("unk__214".to_owned(), 2)].into();
    assert_eq!(total.at(&sizes), Some((1_478_116_890, 122_481_908)));
}
