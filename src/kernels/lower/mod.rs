//! From an ONNX graph and the sizes of its inputs to a routine.
//!
//! What depends on sizes and constants alone is computed here, so that no host meets a shape operator.
//! An operator that is not covered is refused by its name; nothing is guessed.

mod builder;
mod literal;
mod model;
mod operators;
mod site;
mod value;

pub use self::model::Model;
use crate::{domain::Datatype, onnx::OnnxError};

#[derive(Debug, thiserror::Error)]
pub enum LowerError {
    #[error(transparent)]
    Onnx(#[from] OnnxError),
    #[error("operator {operator} of node {node:?} {why}")]
    Unsupported { operator: String, node: String, why: String },
    /// To be lowered again with it.
    #[error("sizes within the model depend on the value of input {input:?}")]
    NeedsValue { input: String },
    #[error("input {input:?} is missing")]
    Missing { input: String },
    #[error("input {input:?} of shape {shape:?} does not fit the model")]
    Shape { input: String, shape: Vec<usize> },
    #[error("{name:?} is {datatype}, which our kernels do not compute with")]
    Datatype { name: String, datatype: Datatype },
    #[error("weight {name:?} {problem}")]
    Weight { name: String, problem: &'static str },
    #[error("the constant {value} is wider than the 32 bits that our kernels compute with")]
    Wide { value: i64 },
}
