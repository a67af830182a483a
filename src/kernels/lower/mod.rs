//! From an ONNX graph and the sizes of its inputs to a routine.
//!
//! What depends on sizes and constants alone is computed here, so that no host meets a shape operator.
//! An operator that is not covered is refused by its name; nothing is guessed.

mod activations;
mod attention;
mod builder;
mod caches;
mod conv;
mod copies;
mod einsum;
mod elementwise;
mod expr;
mod finish;
mod gather;
mod grouped;
mod layout;
mod literal;
mod model;
mod multihead;
mod norm;
mod operators;
mod pad;
mod products;
mod quantise;
mod recurrent;
mod reduce;
mod resize;
mod rotary;
mod site;
mod sizes;
mod source;
mod value;

pub(super) use self::copies::merge;
pub use self::{
    caches::{Keeping, POSITION, TOKENS_MAX},
    model::Model,
    sizes::{Sizes, Tailor},
};
use super::ir::RANK_MAX;
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
    #[error("a value within the model is {datatype}, which our kernels do not compute with")]
    Computed { datatype: Datatype },
    #[error(
        "a value within the model is read along {dimensions} dimensions that lie apart; kernels have {RANK_MAX}"
    )]
    Dimensions { dimensions: usize },
    #[error("the cache {name:?} {problem}")]
    Cache { name: String, problem: String },
    #[error(
        "the model has no caches that a lane can keep: inputs called \"past…\" of four dimensions, each with an output \
         called \"present…\""
    )]
    NoCaches,
    #[error("weight {name:?} {problem}")]
    Weight { name: String, problem: &'static str },
    #[error("the constant {value} is wider than the 32 bits that our kernels compute with")]
    Wide { value: i64 },
}
