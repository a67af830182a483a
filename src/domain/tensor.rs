//! Tensors: a name, a datatype, a shape and little-endian bytes.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

use super::Body;

/// The Open Inference Protocol's datatypes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Datatype {
    Bool,
    Uint8,
    Uint16,
    Uint32,
    Uint64,
    Int8,
    Int16,
    Int32,
    Int64,
    Fp16,
    Fp32,
    Fp64,
    Bf16,
    Bytes,
}

pub(super) const NAMES: [(Datatype, &str); 14] = [
    (Datatype::Bool, "BOOL"),
    (Datatype::Uint8, "UINT8"),
    (Datatype::Uint16, "UINT16"),
    (Datatype::Uint32, "UINT32"),
    (Datatype::Uint64, "UINT64"),
    (Datatype::Int8, "INT8"),
    (Datatype::Int16, "INT16"),
    (Datatype::Int32, "INT32"),
    (Datatype::Int64, "INT64"),
    (Datatype::Fp16, "FP16"),
    (Datatype::Fp32, "FP32"),
    (Datatype::Fp64, "FP64"),
    (Datatype::Bf16, "BF16"),
    (Datatype::Bytes, "BYTES"),
];

impl Datatype {
    pub fn as_str(self) -> &'static str {
        NAMES.iter().find(|(datatype, _)| *datatype == self).map_or("", |(_, name)| name)
    }

    /// Bytes per element; `None` for `BYTES`, whose elements carry their own lengths.
    pub fn size(self) -> Option<usize> {
        match self {
            Self::Bool | Self::Uint8 | Self::Int8 => Some(1),
            Self::Uint16 | Self::Int16 | Self::Fp16 | Self::Bf16 => Some(2),
            Self::Uint32 | Self::Int32 | Self::Fp32 => Some(4),
            Self::Uint64 | Self::Int64 | Self::Fp64 => Some(8),
            Self::Bytes => None,
        }
    }

    pub fn is_float(self) -> bool {
        matches!(self, Self::Fp16 | Self::Fp32 | Self::Fp64 | Self::Bf16)
    }
}

impl fmt::Display for Datatype {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Datatype {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        NAMES.iter().find(|(_, name)| *name == text).map(|(datatype, _)| *datatype).ok_or_else(|| {
            format!("{text:?} is no datatype; the Open Inference Protocol's are FP32, INT64, BYTES, …")
        })
    }
}

impl Serialize for Datatype {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

impl<'de> Deserialize<'de> for Datatype {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        std::borrow::Cow::<'de, str>::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

#[derive(Clone, Debug, PartialEq)]
pub struct Tensor {
    pub name: String,
    pub datatype: Datatype,
    pub shape: Vec<u64>,
    pub body: Body,
}

#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum TensorError {
    #[error("shape {shape:?} has more elements than this machine can address")]
    Shape { shape: Vec<u64> },
    #[error("{datatype} of shape {shape:?} takes {expected} bytes, {actual} came")]
    ByteCount { datatype: Datatype, shape: Vec<u64>, expected: usize, actual: usize },
    #[error("a BOOL is 0 or 1, {byte} came")]
    Boolean { byte: u8 },
    #[error("BYTES of shape {shape:?} must hold {expected} length-prefixed elements: {problem}")]
    Elements { shape: Vec<u64>, expected: usize, problem: &'static str },
}

impl Tensor {
    /// Checks that the bytes are as many as datatype and shape say, and that booleans are booleans.
    pub fn check(&self) -> Result<(), TensorError> {
        let elements = element_count(&self.shape)?;
        let Some(size) = self.datatype.size() else { return self.check_strings(elements) };
        let expected =
            elements.checked_mul(size).ok_or_else(|| TensorError::Shape { shape: self.shape.clone() })?;
        if expected != self.body.len() {
            return Err(TensorError::ByteCount {
                datatype: self.datatype,
                shape: self.shape.clone(),
                expected,
                actual: self.body.len(),
            });
        }
        if self.datatype == Datatype::Bool { self.check_booleans() } else { Ok(()) }
    }

    fn check_booleans(&self) -> Result<(), TensorError> {
        let wrong = self.body.parts().iter().flatten().find(|byte| **byte > 1);
        wrong.map_or(Ok(()), |byte| Err(TensorError::Boolean { byte: *byte }))
    }

    fn check_strings(&self, expected: usize) -> Result<(), TensorError> {
        let wrong = |problem| TensorError::Elements { shape: self.shape.clone(), expected, problem };
        let bytes = self.body.contiguous();
        let mut rest: &[u8] = &bytes;
        for _ in 0..expected {
            let (length, after) =
                rest.split_first_chunk::<4>().ok_or_else(|| wrong("the bytes end early"))?;
            let length = u32::from_le_bytes(*length) as usize;
            rest = after.get(length..).ok_or_else(|| wrong("a length points beyond the bytes"))?;
        }
        if rest.is_empty() { Ok(()) } else { Err(wrong("bytes are left over")) }
    }

    pub fn element_count(&self) -> Result<usize, TensorError> {
        element_count(&self.shape)
    }
}

fn element_count(shape: &[u64]) -> Result<usize, TensorError> {
    shape
        .iter()
        .try_fold(1usize, |product, dim| product.checked_mul(usize::try_from(*dim).ok()?))
        .ok_or_else(|| TensorError::Shape { shape: shape.to_vec() })
}
