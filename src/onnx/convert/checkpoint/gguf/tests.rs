//! Files and blocks of llama.cpp's own Python package, and files written by hand, to be refused.

use std::{collections::BTreeMap, path::Path};

use bytes::Bytes;
use serde::Deserialize;

use super::{Checkpoint, GgufCheckpoint, Stored, blocks::Kind};
use crate::onnx::convert::ConvertError;

fn fixture(name: &str) -> Bytes {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/checkpoints/gguf").join(name);
    std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display())).into()
}

fn unhex(text: &str) -> Vec<u8> {
    let byte =
        |pair: &[u8; 2]| u8::from_str_radix(std::str::from_utf8(pair).expect("text"), 16).expect("hex");
    text.as_bytes().as_chunks::<2>().0.iter().map(byte).collect()
}

#[derive(Deserialize)]
struct Blocks {
    number: u32,
    stored: String,
    values: String,
}

#[test]
fn blocks_are_read_as_llama_cpp_reads_them() {
    let vectors: BTreeMap<String, Blocks> = serde_json::from_slice(&fixture("blocks.json")).expect("vectors");
    assert_eq!(vectors.len(), 8);
    for (name, Blocks { number, stored, values }) in vectors {
        let kind = Kind::numbered(number).unwrap_or_else(|| panic!("{name}"));
        assert_eq!(kind.dequantise(&unhex(&stored)), unhex(&values), "{name}, bit for bit");
    }
}

#[derive(Deserialize)]
struct Model {
    config: serde_json::Value,
    tensors: BTreeMap<String, Tensor>,
}

#[derive(Deserialize)]
struct Tensor {
    element: String,
    shape: Vec<u64>,
    bytes: String,
}

#[test]
fn models_are_read_under_their_original_names_and_in_their_original_order() {
    let expected: BTreeMap<String, Model> =
        serde_json::from_slice(&fixture("expected.json")).expect("models");
    assert_eq!(expected.len(), 2);
    for (file, Model { config, tensors }) in expected {
        let opened = GgufCheckpoint::open(&fixture(&file)).unwrap_or_else(|error| panic!("{file}: {error}"));
        let said: serde_json::Value = serde_json::from_str(opened.config()).expect("JSON");
        assert_eq!(said, config, "{file}");
        assert_eq!(opened.tensors().keys().collect::<Vec<_>>(), tensors.keys().collect::<Vec<_>>(), "{file}");
        for (name, expected) in tensors {
            let Stored { element, shape } = &opened.tensors()[&name];
            assert_eq!(
                (format!("{element:?}"), shape),
                (expected.element, &expected.shape),
                "{file}: {name}"
            );
            assert_eq!(opened.bytes(&name).expect("a tensor"), unhex(&expected.bytes), "{file}: {name}");
        }
        let missing = opened.bytes("lm_head.bias").expect_err("no such tensor");
        assert!(matches!(missing, ConvertError::NoTensor { name } if name == "lm_head.bias"));
    }
}

#[test]
fn a_tensor_of_nothing_costs_nothing_however_many_rows_it_claims() {
    let claims = edited(|_, tensors| tensors.push(("blk.0.attn_q.weight", vec![0, 1 << 60], 0, 0)));
    let opened = GgufCheckpoint::open(&claims).expect("a good file");
    assert_eq!(opened.bytes("model.layers.0.self_attn.q_proj.weight").expect("a tensor").len(), 0);
}

/// A setting: its name, the number of its kind, its bytes.
type Setting = (&'static str, u32, Vec<u8>);

/// A tensor: name, sizes as the file has them, the number of its kind, where it begins.
type Place = (&'static str, Vec<u64>, u32, u64);

fn text(text: &str) -> Vec<u8> {
    [&(text.len() as u64).to_le_bytes(), text.as_bytes()].concat()
}

fn size(size: u32) -> Vec<u8> {
    size.to_le_bytes().to_vec()
}

fn file(settings: &[Setting], tensors: &[Place], bytes: usize) -> Bytes {
    let mut file = [b"GGUF".as_slice(), &3u32.to_le_bytes()].concat();
    file.extend((tensors.len() as u64).to_le_bytes());
    file.extend((settings.len() as u64).to_le_bytes());
    for (name, kind, value) in settings {
        file.extend([text(name), size(*kind), value.clone()].concat());
    }
    for (name, sizes, kind, offset) in tensors {
        file.extend([text(name), size(sizes.len() as u32)].concat());
        file.extend(sizes.iter().flat_map(|size| size.to_le_bytes()));
        file.extend([size(*kind).as_slice(), &offset.to_le_bytes()].concat());
    }
    file.resize(file.len().next_multiple_of(32) + bytes, 1);
    file.into()
}

const WHOLE: u32 = 4;
const FRACTION: u32 = 6;
const TEXT: u32 = 8;
const LIST: u32 = 9;

fn llama() -> (Vec<Setting>, Vec<Place>) {
    let settings = vec![
        ("general.architecture", TEXT, text("llama")),
        ("llama.embedding_length", WHOLE, size(4)),
        ("llama.attention.head_count", WHOLE, size(1)),
        ("llama.feed_forward_length", WHOLE, size(8)),
        ("llama.block_count", WHOLE, size(2)),
        ("llama.context_length", WHOLE, size(16)),
        ("llama.attention.layer_norm_rms_epsilon", FRACTION, 1e-5f32.to_le_bytes().to_vec()),
    ];
    (settings, vec![("token_embd.weight", vec![4, 2], 0, 0)])
}

fn edited(edit: impl FnOnce(&mut Vec<Setting>, &mut Vec<Place>)) -> Bytes {
    let (mut settings, mut tensors) = llama();
    edit(&mut settings, &mut tensors);
    file(&settings, &tensors, 32)
}

fn set(key: &'static str, kind: u32, value: Vec<u8>) -> Bytes {
    edited(|settings, _| {
        settings.retain(|(name, ..)| *name != key);
        settings.push((key, kind, value));
    })
}

#[test]
fn settings_that_a_file_leaves_out_have_their_usual_values() {
    let opened = GgufCheckpoint::open(&edited(|_, _| {})).expect("a good file");
    let config: serde_json::Value = serde_json::from_str(opened.config()).expect("JSON");
    assert_eq!(config["num_key_value_heads"], 1);
    assert_eq!(config["rope_theta"], 10_000.0);
    assert_eq!(config["rms_norm_eps"], 1e-5);
    assert_eq!(config["tie_word_embeddings"], true);
    assert_eq!(config.get("attention_bias"), None);
    let biased = edited(|_, tensors| tensors.push(("blk.0.attn_q.bias", vec![4], 0, 0)));
    let biased: serde_json::Value =
        serde_json::from_str(GgufCheckpoint::open(&biased).expect("a good file").config()).expect("JSON");
    assert_eq!(biased["attention_bias"], true);
    let linear = edited(|settings, _| {
        settings.push(("llama.rope.scaling.type", TEXT, text("linear")));
        settings.push(("llama.rope.scaling.factor", FRACTION, 2.5f32.to_le_bytes().to_vec()));
    });
    let linear: serde_json::Value =
        serde_json::from_str(GgufCheckpoint::open(&linear).expect("a good file").config()).expect("JSON");
    assert_eq!(linear["rope_scaling"], serde_json::json!({"rope_type": "linear", "factor": 2.5}));
}

#[test]
fn files_that_cannot_be_read_are_refused_by_name() {
    let tensor = |name, sizes: &[u64], kind, offset| {
        let place = (name, sizes.to_vec(), kind, offset);
        edited(|_, tensors| tensors.push(place))
    };
    let lists = (0..6).fold(text("x"), |inner, _| [size(LIST), 1u64.to_le_bytes().to_vec(), inner].concat());
    let long = [size(TEXT), u64::MAX.to_le_bytes().to_vec()].concat();
    let wide = [size(10), u64::MAX.to_le_bytes().to_vec()].concat();
    let good = edited(|_, _| {});
    let mut many = good.to_vec();
    many[8..16].copy_from_slice(&u64::MAX.to_le_bytes());
    let mut old = good.to_vec();
    old[4] = 1;
    let rope = "the factors in rope_freqs.weight are not those of Llama 3";
    let cases: Vec<(&str, Bytes, &str)> = vec![
        ("empty", Bytes::new(), "not a GGUF file"),
        ("version", old.into(), "of version 1"),
        ("counts", many.into(), "claims 18446744073709551615 tensors"),
        ("cut", good.slice(..60), "ends within its header"),
        ("cut tensors", good.slice(..good.len() - 8), "tensor \"token_embd.weight\" reaches beyond the file"),
        ("long list", set("a", LIST, long), "ends within its header"),
        ("wide list", set("a", LIST, wide), "ends within its header"),
        ("deep list", set("a", LIST, lists), "nested too deeply"),
        ("kind of value", set("a", 13, Vec::new()), "of the unknown kind 13"),
        ("no UTF-8", set("a", TEXT, [1u64.to_le_bytes().as_slice(), &[255]].concat()), "is not UTF-8"),
        ("setting twice", edited(|settings, _| settings.push(settings[0].clone())), "is there twice"),
        ("alignment", set("general.alignment", WHOLE, size(0)), "\"general.alignment\" is not a value"),
        (
            "architecture",
            set("general.architecture", TEXT, text("rwkv")),
            "\"rwkv\"; read are llama and qwen2",
        ),
        ("no architecture", file(&[], &[], 0), "does not say \"general.architecture\""),
        (
            "no heads",
            edited(|settings, _| drop(settings.remove(2))),
            "does not say \"llama.attention.head_count\"",
        ),
        ("odd heads", set("llama.attention.head_count", WHOLE, size(3)), "head_count\" is not a value"),
        (
            "heads by layer",
            set("llama.attention.head_count_kv", LIST, [size(4), vec![0; 8]].concat()),
            "head_count_kv\" is not a value",
        ),
        (
            "epsilon",
            set("llama.attention.layer_norm_rms_epsilon", FRACTION, f32::NAN.to_le_bytes().to_vec()),
            "rms_epsilon\" is not a value",
        ),
        (
            "experts",
            set("llama.expert_count", WHOLE, size(8)),
            "sets \"llama.expert_count\", and such models",
        ),
        (
            "half rotated",
            set("llama.rope.dimension_count", WHOLE, size(2)),
            "sets \"llama.rope.dimension_count\"",
        ),
        ("scaling", set("llama.rope.scaling.type", TEXT, text("yarn")), "sets \"llama.rope.scaling.type\""),
        ("no embedding", edited(|_, tensors| tensors.clear()), "does not say \"token_embd.weight\""),
        (
            "tensor twice",
            tensor("token_embd.weight", &[4, 2], 0, 0),
            "\"model.embed_tokens.weight\" is there twice",
        ),
        (
            "another tensor",
            tensor("blk.0.ffn_gate_exps.weight", &[4], 0, 0),
            "\"blk.0.ffn_gate_exps.weight\" belongs to no llama model",
        ),
        ("no layer", tensor("blk.x.attn_q.weight", &[4], 0, 0), "belongs to no llama model"),
        ("rank", tensor("output.weight", &[1, 1, 1, 1, 1], 0, 0), "has 5 dimensions"),
        ("kind", tensor("output.weight", &[4], 16, 0), "is stored in kind 16"),
        (
            "row",
            tensor("output.weight", &[4, 8], 8, 0),
            "rows of 4 elements, which are not whole blocks of 32",
        ),
        ("beyond", tensor("output.weight", &[4, 2], 0, 32), "reaches beyond the file"),
        ("overflow", tensor("output.weight", &[1 << 40, 1 << 40], 0, 0), "reaches beyond the file"),
        ("offset", tensor("output.weight", &[4, 2], 0, u64::MAX), "reaches beyond the file"),
        (
            "rows",
            tensor("blk.0.attn_q.weight", &[1, 3], 0, 0),
            "has 3 rows, which 1 heads cannot share in pairs",
        ),
        ("factors", tensor("rope_freqs.weight", &[2], 0, 0), rope),
        ("number of factors", tensor("rope_freqs.weight", &[4], 0, 0), rope),
        ("kind of factors", tensor("rope_freqs.weight", &[2], 1, 0), rope),
    ];
    for (name, file, message) in cases {
        let error = GgufCheckpoint::open(&file).expect_err(name).to_string();
        assert!(error.contains(message), "{name}: {error}");
    }
}
