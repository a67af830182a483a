//! Weights by name, whatever file they lie in.

mod torch;

pub use torch::{TorchCheckpoint, TorchError};

use std::collections::BTreeMap;

use bytes::Bytes;

use super::ConvertError;

/// What one weight is made of. Bytes are little-endian, elements row by row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Element {
    F32,
    F16,
    Bf16,
    F64,
    I64,
    I32,
    I16,
    I8,
    U8,
    Bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stored {
    pub element: Element,
    pub shape: Vec<u64>,
}

/// The weights of a model under the names that its original implementation gives them.
pub trait Checkpoint {
    fn tensors(&self) -> &BTreeMap<String, Stored>;

    /// The bytes of one weight, as `tensors` describes it; without a copy where the file holds them so.
    fn bytes(&self, name: &str) -> Result<Bytes, ConvertError>;
}
