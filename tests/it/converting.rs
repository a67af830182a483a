//! Weights turned into graphs, and the graphs run by native ONNX Runtime against what `PyTorch` computes with the same
//! weights (`fixtures/checkpoints`). Each fault that is planted must fail the same comparison.

use std::path::Path;

use serde_json::{Value, json};
use weft::{
    domain::Tensor,
    onnx::{self, convert::checkpoint::Checkpoint},
};

use crate::{
    checkpoints::{FAMILIES, Original, TOLERANCE, complete, difference, floats, named, values, written},
    conversion::{Loaded, differences, load, load_bytes},
};

#[allow(clippy::print_stdout, reason = "what was measured")]
async fn every_family(read: fn(&str) -> Original) {
    let mut wrong = Vec::new();
    for family in FAMILIES {
        let difference = differences(&read(family), |_| {}).await;
        println!("{family} {difference:.1e}");
        if difference > TOLERANCE {
            wrong.push(format!("{family}: {difference:.1e}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[tokio::test]
async fn every_family_computes_what_pytorch_does() {
    every_family(Original::read).await;
}

/// `torch.save` keeps what safetensors leave out: shared weights under each of their names, and buffers.
#[tokio::test]
async fn every_family_that_torch_saved_computes_what_pytorch_does() {
    every_family(Original::pickled).await;
}

#[tokio::test]
async fn minilms_real_weights_compute_what_pytorch_does() {
    let Some(original) = Original::minilm() else { return };
    let found = differences(&original, |_| {}).await;
    println!("{found:.1e}");
    assert!(found <= TOLERANCE, "{found:.1e}");
}

/// With flat attention a wrong mask or rotation would hardly show.
#[test]
fn every_family_has_peaked_attention_and_the_page_says_how_peaked() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let read = |path: &str| std::fs::read_to_string(root.join(path)).expect("a committed file");
    let made: Value = serde_json::from_str(&read("fixtures/checkpoints/made.json")).expect("JSON");
    let page = read("docs/models.md");
    for family in FAMILIES {
        let entropy = made[family]["entropy"].as_f64().unwrap_or_else(|| panic!("{family} was not measured"));
        assert!(entropy > 0.0 && entropy < 0.6, "{family}: {entropy}");
        let told = format!("`{family}` {entropy:.2}");
        assert!(page.contains(&told), "docs/models.md does not say: {told}");
    }
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
