//! From a model to one of another precision: half, or weights of few bits.
//!
//! Inputs and outputs stay as they are, so that whoever uses the model need not know. What is not changed is kept as
//! it is, byte for byte; the same model and recipe give the same bytes. Nothing is run here and no file is read.

mod blocks;
mod half;
mod matmul;
pub(super) mod names;
mod recipe;
mod types;
mod weights;

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use prost::Message;
use serde::Serialize;
use utoipa::ToSchema;

use super::{
    CONVERTER, FILE_BYTES_MAX, OnnxError, TakeError, analyse, external,
    notes::note,
    proto::{GraphProto, ModelProto, OperatorSetIdProto, TensorProto, element},
    read::{decode, visit_graphs},
};
pub use recipe::{Bits, Precision, Recipe};

#[derive(Debug, thiserror::Error)]
pub enum PrecisionError {
    // The recipe.
    #[error("precision {name:?} is unknown; there are fp32, fp16, int8-dynamic, int8, int4 and int2")]
    Precision { name: String },
    #[error(
        "precision {precision:?} has no option {option:?}, or has it twice; int8, int4 and int2 take \
         block=16|32|64|128|256 and symmetric or asymmetric, the others nothing"
    )]
    Option { precision: String, option: String },
    #[error("the recipe cannot be read: {problem}")]
    Toml { problem: String },
    #[error("the recipe has {bytes} bytes, more than any needs")]
    LongRecipe { bytes: usize },
    #[error("the recipe names {layers} layers; write patterns with *")]
    ManyLayers { layers: usize },
    #[error(
        "fp16 is for a whole model; for both, make a variant of its layers first and an fp16 one of that"
    )]
    HalfOfLayers,

    // The model.
    #[error(transparent)]
    Model(#[from] OnnxError),
    #[error("the model is of opset {opset}, and {precision} needs {needed}; export it with a later one")]
    Opset { opset: i64, precision: String, needed: i64 },
    #[error("the model has functions of its own, which fp16 does not reach into; export it without them")]
    Functions,
    #[error(
        "cannot tell of what type {value:?} is, which {operator} makes; export the model with its inferred shapes"
    )]
    UnknownType { value: String, operator: String },
    #[error("weight {name:?} has not as many elements as its shape says")]
    Weight { name: String },
    #[error(transparent)]
    Outside(#[from] TakeError),
    #[error(
        "the variant has at least {bytes} bytes, and one file takes {FILE_BYTES_MAX}; choose a precision of fewer bits"
    )]
    TooLarge { bytes: u64 },
    #[error("nothing in the model can be made {recipe}: {reason}")]
    Nothing { recipe: String, reason: String },
}

/// A model of another precision.
#[derive(Clone, Debug)]
pub struct Variant {
    pub bytes: Bytes,
    pub report: Report,
}

/// What was changed, and what was not.
#[derive(Clone, Debug, Default, PartialEq, Serialize, ToSchema)]
pub struct Report {
    pub bytes_before: u64,
    pub bytes_after: u64,
    /// Of the weights that were changed, with their scales and zero points.
    pub bits_per_changed_weight: f64,
    /// Of all weights of floats, those that are left among them. One that is kept in both forms counts twice in bytes.
    pub bits_per_weight: f64,
    /// In the order of the graph.
    pub changed: Vec<Changed>,
    /// Weights of floats that stay as they are, by name.
    pub left: Vec<Left>,
    /// Of fp16: how many nodes of which operators still compute in fp32.
    pub kept_operators: BTreeMap<String, u64>,
}

#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
pub struct Changed {
    pub name: String,
    #[schema(value_type = String)]
    pub precision: Precision,
    pub elements: u64,
    /// With scales and zero points.
    pub bytes: u64,
    /// Root mean square of the error, over that of the weights.
    pub error: f64,
    /// Values beyond half precision, which became its largest.
    pub clamped: u64,
    /// Values other than zero that half precision has no number for.
    pub vanished: u64,
}

#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
pub struct Left {
    pub name: String,
    pub elements: u64,
    pub bytes: u64,
    pub reason: String,
}

impl Report {
    fn changed_bits(&self) -> f64 {
        let elements: u64 = self.changed.iter().map(|changed| changed.elements).sum();
        let bytes: u64 = self.changed.iter().map(|changed| changed.bytes).sum();
        bytes as f64 * 8.0 / elements.max(1) as f64
    }

    fn all_bits(&self) -> f64 {
        let changed: BTreeSet<_> = self.changed.iter().map(|changed| changed.name.as_str()).collect();
        let once = self.left.iter().filter(|left| !changed.contains(left.name.as_str()));
        let elements: u64 = self.changed.iter().map(|changed| changed.elements).sum::<u64>()
            + once.map(|left| left.elements).sum::<u64>();
        let bytes: u64 = self.changed.iter().map(|changed| changed.bytes).sum::<u64>()
            + self.left.iter().map(|left| left.bytes).sum::<u64>();
        bytes as f64 * 8.0 / elements.max(1) as f64
    }
}

/// Makes the variant, as one file; `files` are those beside the model that its weights lie in, by the names that it has
/// for them. Takes as much memory again as the weights that it changes.
pub fn apply(
    model: &Bytes,
    files: &BTreeMap<String, Bytes>,
    recipe: &Recipe,
) -> Result<Variant, PrecisionError> {
    analyse(model)?;
    let (mut decoded, mut graph) = decode(model)?;
    external::take_in(&mut graph, files)?;
    weights_are_no_inputs(&mut decoded, &mut graph);
    let mut report = if recipe.is_half() {
        half::rewrite(&decoded, &mut graph)?
    } else {
        matmul::rewrite(&mut decoded, &mut graph, recipe)?
    };
    if report.changed.is_empty() {
        let reason = report.left.first().map_or_else(
            || "it has no weights of floats".to_owned(),
            |left| {
                format!(
                    "of {} weights none is fit for it; the first, {:?}, {}",
                    report.left.len(),
                    left.name,
                    left.reason
                )
            },
        );
        return Err(PrecisionError::Nothing { recipe: recipe.to_string(), reason });
    }
    decoded.graph = Some(graph);
    note(&mut decoded, "converter", CONVERTER);
    note(&mut decoded, "precision", recipe.to_string());
    let bytes = decoded.encoded_len() as u64;
    if bytes > FILE_BYTES_MAX {
        return Err(PrecisionError::TooLarge { bytes });
    }
    let bytes: Bytes = decoded.encode_to_vec().into();
    report.bytes_before = files.values().fold(model.len(), |sum, file| sum + file.len()) as u64;
    report.bytes_after = bytes.len() as u64;
    (report.bits_per_changed_weight, report.bits_per_weight) = (report.changed_bits(), report.all_bits());
    Ok(Variant { bytes, report })
}

/// So that the file says that it is one.
/// Before IR version 4 weights were listed as inputs too, and inputs are what stays as it is.
fn weights_are_no_inputs(model: &mut ModelProto, graph: &mut GraphProto) {
    let given: BTreeSet<&str> = graph.initializer.iter().map(|tensor| tensor.name.as_str()).collect();
    graph.input.retain(|input| !given.contains(input.name.as_str()));
    model.ir_version = model.ir_version.max(4);
}

fn standard_opset(model: &ModelProto) -> i64 {
    let standard = model.opset_import.iter().find(|set| matches!(set.domain.as_str(), "" | "ai.onnx"));
    standard.map_or(0, |set| set.version)
}

/// `MatMulNBits` is an operator of ONNX Runtime's own.
fn import_microsoft(model: &mut ModelProto) {
    if model.opset_import.iter().all(|set| set.domain != MICROSOFT) {
        model.opset_import.push(OperatorSetIdProto { domain: MICROSOFT.to_owned(), version: 1 });
    }
}

const MICROSOFT: &str = "com.microsoft";

/// The weights of floats that stay, each with the reason that `reasons` has, or else with what reads it.
fn left(
    graph: &GraphProto,
    made: &BTreeSet<String>,
    reasons: &BTreeMap<String, String>,
    readers: &names::Readers,
) -> Vec<Left> {
    let mut left = BTreeMap::new();
    let mut look = |tensor: &TensorProto, name: &str| {
        let is_float = matches!(
            tensor.data_type,
            element::FLOAT | element::FLOAT16 | element::BFLOAT16 | element::DOUBLE
        );
        if !is_float || made.contains(name) {
            return;
        }
        let read_by = || {
            let operators: Vec<_> = readers.get(name).into_iter().flatten().map(String::as_str).collect();
            match operators.as_slice() {
                [] => "is read by nothing".to_owned(),
                operators => format!("is read by {}", operators.join(", ")),
            }
        };
        let reason = reasons.get(name).cloned().unwrap_or_else(read_by);
        let elements = weights::elements(tensor).unwrap_or(0) as u64;
        let bytes = weights::bytes(tensor);
        left.insert(name.to_owned(), Left { name: name.to_owned(), elements, bytes, reason });
    };
    visit_graphs(graph, &mut |graph| {
        graph.initializer.iter().for_each(|tensor| look(tensor, &tensor.name));
        for (name, tensor) in graph.node.iter().filter_map(constant) {
            look(tensor, name);
        }
    });
    left.into_values().collect()
}

/// A node that is nothing but a tensor, and the name of that.
fn constant(node: &super::proto::NodeProto) -> Option<(&str, &TensorProto)> {
    if node.op_type != "Constant" || !is_standard(&node.domain) {
        return None;
    }
    let value = node.attribute("value")?;
    Some((node.output.first()?, value.t.as_ref()?))
}

fn is_standard(domain: &str) -> bool {
    matches!(domain, "" | "ai.onnx")
}

#[cfg(test)]
mod tests;
