//! Numbers in the daemon's own memory: constants of a graph, and what tests compare.

use bytes::Bytes;

use super::ir::Element;

/// Row by row. Whole numbers keep their 64 bits here, so that shapes are computed as ONNX has them; flags are 0 and 1.
#[derive(Clone, Debug, PartialEq)]
pub enum Host {
    F32(Vec<f32>),
    I64(Vec<i64>),
    /// Weights of few bits, as they lie in a file.
    Bytes(Bytes),
}

impl Host {
    pub fn len(&self) -> usize {
        match self {
            Self::F32(values) => values.len(),
            Self::I64(values) => values.len(),
            Self::Bytes(bytes) => bytes.len(),
        }
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub fn element(&self) -> Element {
        match self {
            Self::F32(_) => Element::F32,
            Self::I64(_) => Element::I32,
            Self::Bytes(_) => Element::Bytes,
        }
    }

    pub fn floats(&self) -> Option<&[f32]> {
        if let Self::F32(values) = self { Some(values) } else { None }
    }

    pub fn ints(&self) -> Option<&[i64]> {
        if let Self::I64(values) = self { Some(values) } else { None }
    }

    /// The elements at these places.
    pub fn at(&self, places: impl Iterator<Item = usize>) -> Self {
        match self {
            Self::F32(values) => Self::F32(places.map(|at| values[at]).collect()),
            Self::I64(values) => Self::I64(places.map(|at| values[at]).collect()),
            Self::Bytes(bytes) => Self::Bytes(places.map(|at| bytes[at]).collect()),
        }
    }
}
