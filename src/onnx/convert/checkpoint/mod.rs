//! Weights by name, whatever file they lie in.

mod gguf;
pub mod safetensors;
mod torch;

pub use gguf::{GgufCheckpoint, GgufError};
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

impl Element {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::F32 => "f32",
            Self::F16 => "f16",
            Self::Bf16 => "bf16",
            Self::F64 => "f64",
            Self::I64 => "i64",
            Self::I32 => "i32",
            Self::I16 => "i16",
            Self::I8 => "i8",
            Self::U8 => "u8",
            Self::Bool => "bool",
        }
    }

    pub fn is_float(self) -> bool {
        matches!(self, Self::F32 | Self::F16 | Self::Bf16 | Self::F64)
    }

    /// Bytes of one.
    pub fn width(self) -> usize {
        match self {
            Self::F64 | Self::I64 => 8,
            Self::F32 | Self::I32 => 4,
            Self::F16 | Self::Bf16 | Self::I16 => 2,
            Self::I8 | Self::U8 | Self::Bool => 1,
        }
    }
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
