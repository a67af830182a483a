//! Weights turned into graphs, and the graphs run by native ONNX Runtime against what `PyTorch` computes with the same
//! weights (`fixtures/checkpoints`). Each fault that is planted must fail the same comparison.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;
use weft::{
    backend::{
        Backend, LoadOrder, SessionName, Step,
        ort::{OrtLane, OrtLibrary},
    },
    domain::{Digest, DimBinding, Tensor},
    onnx::{self, convert::checkpoint::Checkpoint},
};

use crate::checkpoints::{
    FAMILIES, Original, TOLERANCE, complete, difference, floats, named, values, written,
};

const LIBRARY: &str = concat!(env!("WEFT_NATIVE_DIR"), "/libonnxruntime.so.1");

/// A part's graph in the engine.
struct Loaded {
    lane: OrtLane,
    session: SessionName,
    analysis: onnx::Analysis,
}

async fn load(path: PathBuf, analysis: onnx::Analysis) -> Loaded {
    let library = OrtLibrary::load(Path::new(LIBRARY)).expect("`make setup` has brought the library");
    let lane = OrtLane::start(&library, "cpu", 1).expect("the CPU is always there");
    let session = SessionName { model: Digest::new([0; 32]), shapes: DimBinding::new() };
    lane.load(LoadOrder { session: session.clone(), path, delivery: None }).await.expect("a good graph");
    Loaded { lane, session, analysis }
}

async fn load_bytes(file: Vec<u8>) -> Loaded {
    let home = tempfile::tempdir().expect("a temporary directory");
    let path = home.path().join("model.onnx");
    std::fs::write(&path, &file).expect("writable");
    let analysis = onnx::analyse(&file.into()).expect("a good graph");
    load(path, analysis).await
}

impl Loaded {
    async fn run(&self, inputs: Vec<Tensor>) -> Vec<Tensor> {
        self.analysis.signature.bind(&inputs).expect("what the signature says");
        let step = Step {
            session: self.session.clone(),
            inputs,
            outputs: Vec::new(),
            cancelled: CancellationToken::new(),
        };
        self.lane.execute(step).await.expect("it runs").outputs
    }
}

/// The largest difference over all outputs of all cases of all parts; `patch` changes a part's file.
async fn differences(original: &Original, patch: impl Fn(&mut Vec<u8>)) -> f64 {
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

#[tokio::test]
async fn every_family_computes_what_pytorch_does() {
    let mut wrong = Vec::new();
    for family in FAMILIES {
        let difference = differences(&Original::read(family), |_| {}).await;
        println!("{family} {difference:.1e}");
        if difference > TOLERANCE {
            wrong.push(format!("{family}: {difference:.1e}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Columns `from` to `to` of a batch of token numbers.
fn columns(tensor: &Tensor, from: u64, to: u64) -> Tensor {
    let bytes = tensor.body.contiguous();
    let row = |row: u64| {
        let at = |column: u64| ((row * tensor.shape[1] + column) * 8) as usize;
        bytes[at(from)..at(to)].to_vec()
    };
    let body: Vec<_> = (0..tensor.shape[0]).flat_map(row).collect();
    Tensor { shape: vec![tensor.shape[0], to - from], body: body.into(), ..tensor.clone() }
}

/// Three tokens at once, then one by one, each step with the cache of the one before.
async fn stepwise(loaded: &Loaded, inputs: &[Tensor], encoded: &[Tensor], wanted: &Tensor) -> f64 {
    let [batch, length, tokens] = wanted.shape[..] else { panic!("{:?}", wanted.shape) };
    let mut logits = vec![0f32; (batch * length * tokens) as usize];
    let mut cache = encoded.to_vec();
    let mut from = 0;
    for to in 3..=length {
        let step = inputs.iter().map(|input| match input.name.as_str() {
            "encoder_attention_mask" => input.clone(),
            "attention_mask" => columns(input, 0, to),
            _ => columns(input, from, to),
        });
        let answers = loaded.run(complete(&loaded.analysis.signature, step.collect(), &cache)).await;
        let scores = values(named(&answers, "logits"));
        let wide = ((to - from) * tokens) as usize;
        for row in 0..batch as usize {
            let at = (row as u64 * length + from) as usize * tokens as usize;
            logits[at..at + wide].copy_from_slice(&scores[row * wide..][..wide]);
        }
        // The encoder's keys and values stay, the decoder's grow.
        cache.retain(|tensor| answers.iter().all(|answer| answer.name != tensor.name));
        cache.extend(answers);
        from = to;
    }
    difference(wanted, &floats("logits", &wanted.shape, &logits))
}

#[tokio::test]
async fn decoders_give_step_by_step_what_pytorch_gives_at_once() {
    for family in ["llama", "llama3", "mistral", "qwen2", "whisper", "t5", "t5-gated"] {
        let original = Original::read(family);
        let mut encoded = Vec::new();
        for part in original.parts() {
            let loaded = load_bytes(written(&part)).await;
            for (case, (inputs, outputs)) in original.cases(part.name) {
                if part.name == "encoder" {
                    if case == "two" {
                        encoded = loaded.run(inputs).await;
                    }
                    continue;
                }
                let found = stepwise(&loaded, &inputs, &encoded, named(&outputs, "logits")).await;
                println!("{family} {case} {found:.1e}");
                assert!(found <= TOLERANCE, "{family} {case}: {found:.1e}");
            }
        }
    }
}

#[tokio::test]
async fn a_graph_with_its_weights_in_another_file_computes_the_same() {
    let original = Original::read("llama3");
    let [part] = &original.parts()[..] else { panic!("one part") };
    let home = tempfile::tempdir().expect("a temporary directory");
    let path = home.path().join("model.onnx");
    let (mut graph, mut weights) = (Vec::new(), Vec::new());
    part.write_external(&mut graph, &mut weights, "model.onnx_data").expect("memory takes it");
    assert!(graph.len() < weights.len() / 2, "{} bytes beside {}", graph.len(), weights.len());
    std::fs::write(&path, &graph).expect("writable");
    std::fs::write(home.path().join("model.onnx_data"), &weights).expect("writable");

    let analysis = onnx::analyse(&written(part).into()).expect("a good graph");
    let loaded = load(path, analysis).await;
    let (inputs, outputs) = original.cases("model").remove("padded").expect("a case");
    let answers = loaded.run(complete(&loaded.analysis.signature, inputs, &[])).await;
    let found = difference(named(&outputs, "logits"), named(&answers, "logits"));
    assert!(found <= TOLERANCE, "{found:.1e}");
}

enum Fault {
    /// Another value in `config.json`; the place is a path of keys.
    Setting(&'static str, Value),
    /// A constant of the graph that is another number.
    Constant(f32, f32),
    /// The rows of a projection in the order of other heads: so many, so wide.
    Heads(&'static str, usize, usize),
}

const AWAY: f32 = -30_000.0;

fn faults() -> Vec<(&'static str, &'static str, Fault)> {
    let scale = |size: f32| Fault::Constant(1.0 / size.sqrt(), 1.0 / size);
    let unmasked = || Fault::Constant(AWAY, 0.0);
    vec![
        ("llama", "the rotation's base", Fault::Setting("rope_theta", json!(5_000.0))),
        ("llama3", "frequencies that are not scaled", Fault::Setting("rope_scaling", json!(null))),
        ("llama3", "another factor", Fault::Setting("rope_scaling.factor", json!(4.0))),
        ("llama", "epsilon", Fault::Setting("rms_norm_eps", json!(1e-6))),
        ("bert", "epsilon", Fault::Setting("layer_norm_eps", json!(1e-12))),
        ("vit", "epsilon", Fault::Setting("layer_norm_eps", json!(1e-12))),
        ("clip", "epsilon", Fault::Setting("text_config.layer_norm_eps", json!(1e-5))),
        ("t5", "epsilon", Fault::Setting("layer_norm_epsilon", json!(1e-6))),
        ("wav2vec2", "epsilon", Fault::Setting("layer_norm_eps", json!(1e-5))),
        ("bert", "how many heads", Fault::Setting("num_attention_heads", json!(2))),
        ("bert-classifier", "the other approximation", Fault::Setting("hidden_act", json!("gelu"))),
        ("clip", "the other activation", Fault::Setting("vision_config.hidden_act", json!("gelu"))),
        ("clip-eos", "where a text ends", Fault::Setting("text_config.eos_token_id", json!(2))),
        ("roberta", "the token of padding", Fault::Setting("pad_token_id", json!(2))),
        ("t5", "distances", Fault::Setting("relative_attention_max_distance", json!(128))),
        ("wav2vec2-stable", "the order of norms", Fault::Setting("do_stable_layer_norm", json!(false))),
        ("bert", "no mask", unmasked()),
        ("mpnet", "no mask", unmasked()),
        ("llama", "no mask", unmasked()),
        ("clip", "no mask", unmasked()),
        ("whisper", "no mask", unmasked()),
        ("t5", "no mask", unmasked()),
        ("bert", "scale", scale(8.0)),
        ("llama", "scale", scale(8.0)),
        ("mistral", "scale", scale(12.0)),
        ("vit", "scale", scale(8.0)),
        ("clip", "scale", scale(8.0)),
        ("whisper", "scale", scale(8.0)),
        ("wav2vec2", "scale", scale(8.0)),
        ("t5", "the head's scale", scale(32.0)),
        ("bert", "heads", Fault::Heads("encoder.layer.0.attention.self.query.weight", 4, 8)),
        ("llama", "heads", Fault::Heads("model.layers.0.self_attn.k_proj.weight", 2, 8)),
        ("llama3", "halves of a head", Fault::Heads("model.layers.0.self_attn.k_proj.weight", 2, 4)),
        ("vit", "heads", Fault::Heads("encoder.layer.1.attention.attention.value.weight", 4, 8)),
        ("whisper", "heads", Fault::Heads("model.decoder.layers.0.encoder_attn.k_proj.weight", 4, 8)),
        ("t5", "heads", Fault::Heads("decoder.block.1.layer.0.SelfAttention.q.weight", 4, 8)),
        ("wav2vec2", "heads", Fault::Heads("wav2vec2.encoder.layers.0.attention.k_proj.weight", 4, 8)),
    ]
}

/// Replaces the one constant of this value, since a graph stores each once, and says how many that were: a part may
/// have no use for it.
fn replace(file: &mut [u8], from: f32, to: f32) -> usize {
    let (from, to) = (from.to_le_bytes(), to.to_le_bytes());
    let places: Vec<_> =
        file.windows(4).enumerate().filter(|(_, four)| *four == from).map(|(at, _)| at).collect();
    assert!(places.len() <= 1, "{} places", places.len());
    for at in &places {
        file[*at..at + 4].copy_from_slice(&to);
    }
    places.len()
}

#[tokio::test]
async fn planted_faults_are_seen() {
    let mut unseen = Vec::new();
    for (family, what, fault) in faults() {
        let mut original = Original::read(family);
        let replaced = std::cell::Cell::new(0);
        let found = match fault {
            Fault::Setting(path, value) => {
                let pointer = format!("/{}", path.replace('.', "/"));
                let (parent, key) = pointer.rsplit_once('/').expect("it begins with one");
                let setting = &mut original.config.pointer_mut(parent).expect("a part of the file's")[key];
                assert_ne!(*setting, value, "{family}: {what}");
                *setting = value;
                differences(&original, |_| {}).await
            }
            Fault::Constant(from, to) => {
                let patch = |file: &mut Vec<u8>| replaced.set(replaced.get() + replace(file, from, to));
                let found = differences(&original, patch).await;
                assert!(replaced.get() > 0, "{family} has {from}");
                found
            }
            Fault::Heads(tensor, count, size) => {
                let bytes = original.weights.bytes(tensor).expect("a tensor of the file's");
                let row = bytes.len() / (count * size);
                let rows = (0..size).flat_map(|within| (0..count).map(move |head| head * size + within));
                let turned: Vec<_> = rows.flat_map(|at| bytes[at * row..][..row].to_vec()).collect();
                original.weights.instead.insert(tensor.to_owned(), turned.into());
                differences(&original, |_| {}).await
            }
        };
        println!("{family}: {what}: {found:.1e}");
        if found <= TOLERANCE {
            unseen.push(format!("{family}: {what}: {found:.1e}"));
        }
    }
    assert!(unseen.is_empty(), "{}", unseen.join("\n"));
}
