//! Against what the originals' own code makes of the same inputs, and against a network that the test plays.

mod file_type;
mod images;
mod ocr;
mod recipes;
mod sound;
mod texts;

use std::{collections::BTreeMap, path::PathBuf};

use bytes::Bytes;
use serde_json::{Value, json};

use super::{Companions, Dialogue, Finding, Input, ModalityError, Recipe, Subject, Task, Turn, values};
use crate::domain::{Datatype, Dim, ModelKind, Port, Signature, Tensor};

fn fixture(name: &str) -> Bytes {
    // Also compiled by the fuzzer's package, which lies elsewhere.
    let root = std::env::var("WEFT_ROOT").map_or_else(|_| env!("CARGO_MANIFEST_DIR").into(), PathBuf::from);
    std::fs::read(root.join("fixtures/inputs").join(name)).expect("a fixture").into()
}

fn expected() -> Value {
    serde_json::from_slice(&fixture("modality/expected.json")).expect("expected.json is JSON")
}

fn companions(files: &[(&str, Value)]) -> Companions {
    let files = files.iter().map(|(name, file)| ((*name).to_owned(), Bytes::from(file.to_string())));
    Companions::new(files.collect())
}

fn tokenizer(name: &str) -> Value {
    serde_json::from_slice(&fixture(&format!("modality/{name}.json"))).expect("a tokenizer is JSON")
}

/// A shape as `"b 3 48 ?"`: sizes, symbols, and any.
fn port(name: &str, datatype: Datatype, shape: &str) -> Port {
    let dim = |word: &str| match (word.parse(), word) {
        (Ok(size), _) => Dim::Fixed(size),
        (_, "?") => Dim::Free(None),
        (_, symbol) => Dim::Symbol(symbol.to_owned()),
    };
    Port { name: name.to_owned(), datatype, shape: shape.split_whitespace().map(dim).collect() }
}

fn signature(inputs: &[(&str, Datatype, &str)], outputs: &[(&str, &str)]) -> Signature {
    Signature {
        inputs: inputs.iter().map(|(name, datatype, shape)| port(name, *datatype, shape)).collect(),
        outputs: outputs.iter().map(|(name, shape)| port(name, Datatype::Fp32, shape)).collect(),
    }
}

/// What takes tokens and gives a vector for each.
fn encoder() -> Signature {
    let ids = ["input_ids", "attention_mask", "token_type_ids"].map(|name| (name, Datatype::Int64, "b s"));
    signature(&ids, &[("last_hidden_state", "b s 2")])
}

fn recipe(signature: &Signature, kind: ModelKind, companions: &Companions) -> Result<Recipe, ModalityError> {
    let metadata = BTreeMap::new();
    Recipe::of(&[Subject { signature, kind, metadata: &metadata, companions }], None)
}

/// Carries an input through with a network that the test plays: from an ask's inputs to its outputs.
fn carry(
    dialogue: &mut dyn Dialogue,
    mut network: impl FnMut(&super::Ask) -> Vec<Tensor>,
) -> Result<Vec<Finding>, ModalityError> {
    let mut answers = Vec::new();
    loop {
        match dialogue.turn(answers)? {
            Turn::Ask(asks) => answers = asks.iter().map(&mut network).collect(),
            Turn::Done(findings) => return Ok(findings),
        }
    }
}

fn floats(name: &str, shape: &[usize], values: &[f32]) -> Tensor {
    values::floats(name, Datatype::Fp32, shape, values)
}

fn integers(tensor: &Tensor) -> Vec<i64> {
    tensor.body.contiguous().as_chunks().0.iter().map(|bytes| i64::from_le_bytes(*bytes)).collect()
}

fn numbers(value: &Value) -> Vec<f32> {
    value.as_array().expect("a list").iter().map(|v| v.as_f64().expect("a number") as f32).collect()
}
