//! GGUF files in the forms that their weights have there, added to a daemon, against what `PyTorch` computes with the
//! same weights turned back (`fixtures/checkpoints/gguf`).

use std::collections::BTreeMap;

use nix::sys::signal::Signal;
use serde_json::{Value, json};
use weft::{
    domain::{Datatype, Tensor},
    onnx::convert::checkpoint::safetensors::Safetensors,
};

use crate::{
    checkpoints::{TOLERANCE, cases, committed, difference, floats, named},
    cli::{self, run, text},
    support::{Client, infer},
};

/// By the file's name: what its model was converted from.
const FILES: [(&str, &str); 9] = [
    ("llama-f32", "llama from f32 weights"),
    ("llama-f16", "llama from f16,f32 weights"),
    ("llama-q8_0", "llama from f16,f32 weights"),
    ("llama-q4_0", "llama from f16,f32 weights"),
    ("llama-q4_k", "llama from f32 weights"),
    ("qwen2-f32", "qwen2 from f32 weights"),
    ("qwen2-f16", "qwen2 from f16,f32 weights"),
    ("qwen2-q8_0", "qwen2 from f16,f32 weights"),
    ("qwen2-q4_0", "qwen2 from f16,f32 weights"),
];

/// The case that every file has: two texts, one of them padded.
fn expected(file: &str) -> (Vec<Tensor>, Vec<Tensor>) {
    let stored = Safetensors::new(&committed("gguf/models", &format!("{file}.safetensors")));
    cases(&stored.expect("a good file"), "model").remove("padded").expect("a case")
}

fn asked(tensor: &Tensor) -> Value {
    let bytes = tensor.body.contiguous();
    let whole = bytes.as_chunks::<8>().0.iter().map(|number| i64::from_le_bytes(*number));
    assert_eq!(tensor.datatype, Datatype::Int64, "{}", tensor.name);
    json!({"name": tensor.name, "datatype": "INT64", "shape": tensor.shape, "data": whole.collect::<Vec<_>>()})
}

/// Keys and values before the first token: none.
fn empty(port: &Value, batch: u64) -> Value {
    let shape = json!([batch, port["shape"][1], 0, port["shape"][3]]);
    json!({"name": port["name"], "datatype": "FP32", "shape": shape, "data": []})
}

fn answered(output: &Value) -> Tensor {
    let numbers = |of: &Value| of.as_array().expect("a list").clone();
    let shape: Vec<_> = numbers(&output["shape"]).iter().filter_map(Value::as_u64).collect();
    let data: Vec<_> = numbers(&output["data"]).iter().filter_map(Value::as_f64).map(|v| v as f32).collect();
    floats(output["name"].as_str().expect("a name"), &shape, &data)
}

fn worst(wanted: &[Tensor], answers: &[Tensor]) -> f64 {
    wanted.iter().map(|wanted| difference(wanted, named(answers, &wanted.name))).fold(0.0, f64::max)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gguf_file_in_every_form_computes_what_pytorch_does_with_its_weights() {
    let home = cli::home();
    let served = cli::serve(home.path());
    let mut client = Client::connect(served.line.trim().trim_start_matches("listening on ")).await;
    let mut answers = BTreeMap::new();
    for (file, converted) in FILES {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/fixtures/checkpoints/gguf/models");
        let added =
            run(home.path(), &["models", "add", &format!("{path}/{file}.gguf"), "--name", file, "--json"]);
        assert_eq!(added.status.code(), Some(0), "{file}: {}", text(&added.stderr));
        let added: Value = serde_json::from_str(text(&added.stdout)).expect("JSON");
        let ports = added["items"][0]["signature"]["inputs"].as_array().expect("inputs").clone();

        let (inputs, wanted) = expected(file);
        let mut given: Vec<_> = inputs.iter().map(asked).collect();
        let caches = ports.iter().filter(|port| inputs.iter().all(|input| port["name"] != *input.name));
        given.extend(caches.map(|port| empty(port, inputs[0].shape[0])));
        let answer = client.ask(&infer(file, file, &json!(given), &json!({}))).await;
        let outputs = answer.header["outputs"].as_array();
        let outputs = outputs.unwrap_or_else(|| panic!("{file}: {answer:?}"));
        assert_eq!(answer.provenance()["converted"], converted, "{file}");
        let outputs: Vec<_> = outputs.iter().map(answered).collect();
        let found = worst(&wanted, &outputs);
        println!("{file} {found:.1e}");
        assert!(found <= TOLERANCE, "{file}: {found:.1e}");
        answers.insert(file, outputs);
    }
    // What a form loses is seen, so that none of them was answered with the weights of another.
    for (file, _) in FILES {
        let (model, form) = file.split_once('-').expect("a model and a form");
        for (other, _) in FILES {
            let of_the_same = other.starts_with(model) && other != file;
            if of_the_same && form != "q4_k" && !other.ends_with("q4_k") {
                let found = worst(&expected(other).1, &answers[file]);
                assert!(found > TOLERANCE, "{file} as {other}: {found:.1e}");
            }
        }
    }
    assert_eq!(served.end(Signal::SIGTERM).0, Some(0));
}
