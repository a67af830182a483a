//! Configurations, files and weights that are wrong, by name; and what a written file holds. That the graphs compute what
//! they should is shown by `tests/it/converting.rs`.

use std::{collections::BTreeMap, io::Write};

use bytes::Bytes;
use half::{bf16, f16};
use prost::Message;
use serde_json::{Value, json};

use super::{
    ARCHITECTURES, ConvertError, Part,
    checkpoint::{
        Checkpoint, Element, Stored,
        safetensors::{Safetensors, shards},
    },
    convert,
};
use crate::onnx::{
    self,
    proto::{EXTERNAL, ModelProto, TensorProto, element},
};

macro_rules! fixture {
    ($family:literal) => {
        (
            $family,
            include_str!(concat!("../../../fixtures/checkpoints/", $family, "/config.json")),
            include_bytes!(concat!("../../../fixtures/checkpoints/", $family, "/model.safetensors"))
                .as_slice(),
        )
    };
}

const FIXTURES: [(&str, &str, &[u8]); 8] = [
    fixture!("bert"),
    fixture!("clip"),
    fixture!("llama3"),
    fixture!("mistral"),
    fixture!("qwen2"),
    fixture!("t5"),
    fixture!("vit"),
    fixture!("wav2vec2"),
];

/// A checkpoint in memory, of which a test can change everything.
struct Weights {
    tensors: BTreeMap<String, Stored>,
    bytes: BTreeMap<String, Bytes>,
}

impl Checkpoint for Weights {
    fn tensors(&self) -> &BTreeMap<String, Stored> {
        &self.tensors
    }

    fn bytes(&self, name: &str) -> Result<Bytes, ConvertError> {
        self.bytes.get(name).cloned().ok_or_else(|| ConvertError::NoTensor { name: name.to_owned() })
    }
}

fn original(family: &str) -> (Value, Weights) {
    let (_, config, file) = FIXTURES.iter().find(|(name, ..)| *name == family).expect("a fixture");
    let file = Safetensors::new(&Bytes::from_static(file)).expect("a good file");
    let bytes =
        file.tensors().keys().map(|name| (name.clone(), file.bytes(name).expect("just listed"))).collect();
    (serde_json::from_str(config).expect("JSON"), Weights { tensors: file.tensors().clone(), bytes })
}

fn try_convert<'c>(config: &Value, weights: &'c Weights) -> Result<Vec<Part<'c>>, ConvertError> {
    convert(config.to_string().as_bytes(), weights)
}

fn written(part: &Part<'_>) -> Vec<u8> {
    let mut file = Vec::new();
    part.write(&mut file).expect("memory takes it");
    file
}

fn decoded(file: &[u8]) -> ModelProto {
    ModelProto::decode(file).expect("what was written is ONNX")
}

fn initializers(file: &[u8]) -> Vec<TensorProto> {
    decoded(file).graph.expect("a graph").initializer
}

#[test]
fn settings_that_change_what_is_computed_are_refused_by_name() {
    let refused = [
        ("bert", "/hidden_act", json!("mish"), r#""hidden_act" to "mish""#),
        ("bert", "/position_embedding_type", json!("relative_key"), "position_embedding_type"),
        ("bert", "/is_decoder", json!(true), r#""is_decoder" to true"#),
        ("bert", "/architectures", json!(["BertForQuestionAnswering"]), "…ForSequenceClassification"),
        ("bert", "/model_type", json!("deberta-v2"), "bert, distilbert, roberta"),
        ("bert", "/model_type", json!(["bert"]), r#""model_type""#),
        ("bert", "/quantization_config", json!({"bits": 4}), "quantization_config"),
        ("llama3", "/attention_bias", json!(true), r#""attention_bias" to true"#),
        ("llama3", "/mlp_bias", json!(true), "mlp_bias"),
        ("llama3", "/partial_rotary_factor", json!(0.5), r#""partial_rotary_factor" to 0.5"#),
        ("llama3", "/rope_scaling/rope_type", json!("yarn"), r#""rope_scaling.rope_type" to "yarn""#),
        ("llama3", "/architectures", json!(["LlamaForSequenceClassification"]), "…ForCausalLM"),
        ("mistral", "/sliding_window", json!(4096), r#""sliding_window" to 4096"#),
        ("qwen2", "/use_sliding_window", json!(true), "use_sliding_window"),
        ("vit", "/qkv_bias", json!(false), "qkv_bias"),
        ("t5", "/feed_forward_proj", json!("gated-mish"), "feed_forward_proj"),
        ("wav2vec2", "/add_adapter", json!(true), "add_adapter"),
        ("wav2vec2", "/feat_extract_norm", json!("batch"), "feat_extract_norm"),
        // Out of bounds, or of another kind.
        ("bert", "/num_hidden_layers", json!(1_000_000_000), "num_hidden_layers"),
        ("bert", "/hidden_size", json!(0), "hidden_size"),
        ("bert", "/hidden_size", json!(-32), "hidden_size"),
        ("bert", "/hidden_size", json!("32"), "hidden_size"),
        ("bert", "/vocab_size", json!(1e300), "vocab_size"),
        ("bert", "/num_attention_heads", json!(5), "a divisor of the width"),
        ("bert", "/layer_norm_eps", json!(0.0), "layer_norm_eps"),
        ("llama3", "/num_key_value_heads", json!(3), "a divisor of 4"),
        ("llama3", "/rope_theta", json!(1e300), "rope_theta"),
        ("wav2vec2", "/conv_kernel", json!([10, 3]), "conv_kernel"),
        ("t5", "/relative_attention_num_buckets", json!(1), "at least 4"),
        ("t5", "/relative_attention_max_distance", json!(1 << 20), "at most 65536"),
        // Absent.
        ("bert", "/layer_norm_eps", Value::Null, r#"no "layer_norm_eps""#),
        ("bert", "/intermediate_size", Value::Null, r#"no "intermediate_size""#),
        ("llama3", "/rms_norm_eps", Value::Null, "rms_norm_eps"),
        ("llama3", "/rope_scaling/factor", Value::Null, "rope_scaling.factor"),
        ("clip", "/text_config", Value::Null, "text_config"),
    ];
    for (family, path, value, wanted) in refused {
        let (mut config, weights) = original(family);
        let (parent, key) = path.rsplit_once('/').expect("a path");
        config.pointer_mut(parent).expect("there")[key] = value;
        let error = try_convert(&config, &weights).map(|_| ()).expect_err(path).to_string();
        assert!(error.contains(wanted), "{family} {path}: {error}");
    }
}

#[test]
fn a_configuration_that_is_none_is_an_error() {
    let (_, weights) = original("bert");
    let deep = format!(r#"{{"model_type":{}1{}}}"#, "[".repeat(10_000), "]".repeat(10_000));
    for (config, wanted) in
        [("", "EOF"), ("[]", "an object"), ("{}", "model_type"), (&deep, "recursion limit")]
    {
        let error = convert(config.as_bytes(), &weights).map(|_| ()).expect_err(wanted).to_string();
        assert!(error.contains(wanted), "{error}");
    }
}

#[test]
fn weights_that_contradict_the_configuration_are_named() {
    let (mut config, mut weights) = original("bert");
    config["intermediate_size"] = json!(64);
    let error = try_convert(&config, &weights).map(|_| ()).expect_err("another width").to_string();
    assert_eq!(
        error,
        r#"tensor "encoder.layer.0.intermediate.dense.weight" has shape [48, 32], and after config.json it is [64, 32]"#
    );

    let (config, _) = original("bert");
    let name = "encoder.layer.1.output.LayerNorm.bias";
    let stored = weights.tensors.remove(name).expect("there");
    let error = try_convert(&config, &weights).map(|_| ()).expect_err("one is missing");
    assert!(matches!(&error, ConvertError::NoTensor { name: missing } if missing == name), "{error}");

    weights.tensors.insert(name.to_owned(), Stored { element: Element::I32, ..stored.clone() });
    let error = try_convert(&config, &weights).map(|_| ()).expect_err("no float");
    assert!(matches!(&error, ConvertError::NotFloat { tensor, .. } if tensor == name), "{error}");

    weights.tensors.insert(name.to_owned(), stored.clone());
    weights.tensors.insert("encoder.layer.0.adapter.down.weight".to_owned(), stored);
    let error = try_convert(&config, &weights).map(|_| ()).expect_err("more than is used").to_string();
    assert!(error.starts_with("1 tensors") && error.contains("adapter.down"), "{error}");

    // Bytes that are not what the description says show when they are needed.
    weights.tensors.remove("encoder.layer.0.adapter.down.weight");
    weights.bytes.insert(name.to_owned(), Bytes::from_static(&[0; 4]));
    let parts = try_convert(&config, &weights).expect("the description is good");
    let error = parts[0].write(&mut Vec::new()).expect_err("too few bytes");
    assert!(matches!(&error, ConvertError::Bytes { tensor, .. } if tensor == name), "{error}");
}

#[test]
fn what_can_be_read_is_written_and_read_again() {
    for (family, ..) in FIXTURES {
        let (config, weights) = original(family);
        let stored: usize = weights.bytes.values().map(Bytes::len).sum();
        let mut bytes = 0;
        for part in try_convert(&config, &weights).expect("supported") {
            let file = written(&part);
            assert_eq!(file.len() as u64, part.file_bytes(), "{family}");
            bytes += file.len();
            let model = decoded(&file);
            let entries: BTreeMap<_, _> =
                model.metadata_props.iter().map(|entry| (entry.key.as_str(), entry.value.as_str())).collect();
            assert_eq!(model.producer_name, "weft");
            assert_eq!(entries["architecture"], config["model_type"].as_str().expect("a text"));
            assert_eq!((entries["part"], entries["source_dtype"]), (part.name, "f32"));
            let analysis = onnx::analyse(&Bytes::from(file)).expect("a good graph");
            assert_eq!(analysis.opset, 17);
            assert_eq!(analysis.signature.batch_symbol(), Some("batch"), "{family} {}", part.name);
        }
        // Weights that are shared are stored once; the rest are the nodes.
        assert!(bytes < stored + 80_000, "{family}: {bytes} bytes of {stored}");
    }
}

/// The weights of a graph, in whatever type the checkpoint has them.
fn floats_of(element: Element, convert: impl Fn(f32) -> Vec<u8>) -> Vec<TensorProto> {
    let (config, mut weights) = original("bert");
    for stored in weights.tensors.values_mut() {
        stored.element = element;
    }
    for bytes in weights.bytes.values_mut() {
        *bytes =
            bytes.as_chunks::<4>().0.iter().flat_map(|four| convert(f32::from_le_bytes(*four))).collect();
    }
    let parts = try_convert(&config, &weights).expect("supported");
    initializers(&written(&parts[0]))
}

#[test]
fn every_type_of_float_becomes_the_nearest() {
    let rounded = |round: fn(f32) -> f32| {
        let (config, weights) = original("bert");
        let parts = try_convert(&config, &weights).expect("supported");
        let mut tensors = initializers(&written(&parts[0]));
        // The converter's own constants are no weights.
        for tensor in
            tensors.iter_mut().filter(|tensor| tensor.name.contains('.') && !tensor.name.contains('/'))
        {
            let values = tensor.raw_data.as_chunks::<4>().0.iter();
            tensor.raw_data =
                values.flat_map(|four| round(f32::from_le_bytes(*four)).to_le_bytes()).collect();
        }
        tensors
    };
    let f64s = floats_of(Element::F64, |value| f64::from(value).to_le_bytes().to_vec());
    assert!(f64s == rounded(|value| value), "f64");
    let f16s = floats_of(Element::F16, |value| f16::from_f32(value).to_le_bytes().to_vec());
    assert!(f16s == rounded(|value| f16::from_f32(value).to_f32()), "f16");
    let bf16s = floats_of(Element::Bf16, |value| bf16::from_f32(value).to_le_bytes().to_vec());
    assert!(bf16s == rounded(|value| bf16::from_f32(value).to_f32()), "bf16");
}

#[test]
fn external_weights_lie_on_pages_and_constants_beside_the_nodes() {
    let (config, weights) = original("llama3");
    let parts = try_convert(&config, &weights).expect("supported");
    let (mut graph, mut data) = (Vec::new(), Vec::new());
    parts[0].write_external(&mut graph, &mut data, "weights.bin").expect("memory takes it");
    let whole: BTreeMap<_, _> =
        initializers(&written(&parts[0])).into_iter().map(|tensor| (tensor.name, tensor.raw_data)).collect();
    let mut external = 0;
    for tensor in initializers(&graph) {
        let bytes = if tensor.data_location == EXTERNAL {
            let entries: BTreeMap<_, _> =
                tensor.external_data.iter().map(|entry| (entry.key.as_str(), entry.value.as_str())).collect();
            assert_eq!(entries["location"], "weights.bin");
            let number = |key: &str| entries[key].parse::<usize>().expect("a number");
            assert_eq!(number("offset") % 4096, 0);
            external += 1;
            Bytes::copy_from_slice(&data[number("offset")..][..number("length")])
        } else {
            assert!(tensor.raw_data.len() < 1024, "{}", tensor.name);
            tensor.raw_data.clone()
        };
        assert!(bytes == whole[&tensor.name], "{}", tensor.name);
    }
    assert_eq!(external, 17, "two layers of seven matrices, the embedding, cosines and sines");
}

#[test]
fn a_part_too_large_for_a_file_is_refused_before_its_weights_are_read() {
    let (mut config, mut weights) = original("bert");
    config["vocab_size"] = json!(1 << 24);
    let embedding = weights.tensors.get_mut("embeddings.word_embeddings.weight").expect("there");
    embedding.shape[0] = 1 << 24;
    weights.bytes.clear();
    let parts = try_convert(&config, &weights).expect("the description is good");
    let error = parts[0].write(&mut Vec::new()).expect_err("over 2 GiB");
    assert!(matches!(error, ConvertError::TooLarge { part: "model", bytes } if bytes > 1 << 31), "{error}");
}

/// Takes so many bytes and no more.
struct Full(usize);

impl Write for Full {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let taken = bytes.len().min(self.0);
        self.0 -= taken;
        if taken == 0 { Err(std::io::ErrorKind::StorageFull.into()) } else { Ok(taken) }
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[test]
fn a_full_disk_is_an_error_wherever_it_happens() {
    let (config, weights) = original("bert");
    let parts = try_convert(&config, &weights).expect("supported");
    for room in (0..parts[0].file_bytes() as usize).step_by(997) {
        let error = parts[0].write(&mut Full(room)).expect_err("no room");
        assert!(matches!(error, ConvertError::Write { .. }), "{room}: {error}");
    }
}

fn file(tensors: &[(&str, &str, &[usize])]) -> Bytes {
    let mut header = serde_json::Map::new();
    let mut end = 0;
    for (name, dtype, shape) in tensors {
        let from = end;
        end += shape.iter().product::<usize>() * if *dtype == "F32" { 4 } else { 1 };
        header
            .insert((*name).to_owned(), json!({"dtype": dtype, "shape": shape, "data_offsets": [from, end]}));
    }
    let header = Value::Object(header).to_string();
    let mut file = (header.len() as u64).to_le_bytes().to_vec();
    file.extend_from_slice(header.as_bytes());
    file.resize(file.len() + end, 7);
    file.into()
}

#[test]
fn several_files_are_one_checkpoint() {
    let (a, b) = (file(&[("x", "F32", &[2, 3])]), file(&[("y", "F32", &[4]), ("z", "I8", &[2])]));
    let index = json!({"metadata": {}, "weight_map": {"x": "a", "y": "b", "z": "b"}}).to_string();
    assert_eq!(shards(index.as_bytes()).expect("an index"), ["a", "b"]);
    let files = |files: &[(&str, &Bytes)]| -> BTreeMap<String, Bytes> {
        files.iter().map(|(name, file)| ((*name).to_owned(), (*file).clone())).collect()
    };
    let both =
        Safetensors::sharded(index.as_bytes(), &files(&[("a", &a), ("b", &b)])).expect("two good files");
    assert_eq!(both.tensors()["x"], Stored { element: Element::F32, shape: vec![2, 3] });
    assert_eq!(both.tensors()["z"], Stored { element: Element::I8, shape: vec![2] });
    let bytes = both.bytes("x").expect("there");
    assert!(a.as_ptr_range().contains(&bytes.as_ptr()), "no copy");

    let broken = |index: &str, given: &[(&str, &Bytes)]| {
        Safetensors::sharded(index.as_bytes(), &files(given)).map(|_| ()).expect_err(index).to_string()
    };
    assert!(broken(&index, &[("a", &a)]).contains(r#""b", which is missing"#));
    assert!(broken(&index, &[("a", &a), ("b", &a)]).contains("is in another file too"));
    let more = json!({"weight_map": {"x": "a", "w": "a"}}).to_string();
    assert!(broken(&more, &[("a", &a)]).contains(r#"no tensor "w""#));
    assert!(broken("{}", &[]).contains("weight_map"));
}

#[test]
fn broken_files_are_errors() {
    let good = file(&[("x", "F32", &[2, 3])]);
    for bytes in [Bytes::new(), good.slice(..7), good.slice(..30), good.slice(..good.len() - 1)] {
        let error = Safetensors::new(&bytes).map(|_| ()).expect_err("broken");
        assert!(matches!(error, ConvertError::Safetensors { .. }), "{error}");
    }
    let error = Safetensors::new(&file(&[("x", "F8_E4M3", &[4])])).map(|_| ()).expect_err("not read");
    assert!(error.to_string().contains(r#""x" is of F8_E4M3"#), "{error}");
}

#[test]
fn constants_are_stored_once_and_names_follow_the_original() {
    let (config, weights) = original("llama3");
    let parts = try_convert(&config, &weights).expect("supported");
    let model = decoded(&written(&parts[0]));
    let graph = model.graph.expect("a graph");
    let mut constants: Vec<_> =
        graph.initializer.iter().map(|tensor| (&tensor.dims, tensor.data_type, &tensor.raw_data)).collect();
    let all = constants.len();
    constants.sort();
    constants.dedup();
    assert_eq!(constants.len(), all);
    assert!(graph.initializer.iter().all(|tensor| tensor.data_type != element::FLOAT16));
    let names: Vec<_> = graph.node.iter().map(|node| node.name.as_str()).collect();
    assert!(names.contains(&"model.layers.1.self_attn.q_proj/MatMul"), "{names:?}");
}

/// The documents' table has a line for each.
#[test]
fn every_architecture_is_documented() {
    let page = include_str!("../../../docs/models.md");
    for architecture in &ARCHITECTURES {
        for model_type in architecture.model_types {
            let line =
                page.lines().find(|line| line.starts_with('|') && line.contains(&format!("`{model_type}`")));
            let line = line.unwrap_or_else(|| panic!("no line of {model_type}"));
            assert!(architecture.parts.iter().all(|part| line.contains(&format!("`{part}`"))), "{line}");
        }
    }
}
