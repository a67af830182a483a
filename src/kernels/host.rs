//! Numbers in the daemon's own memory: constants of a graph, and what tests compare.

use bytes::Bytes;
use half::{bf16, f16};

use super::ir::Element;
use crate::domain::Datatype;

/// Row by row. Whole numbers keep their 64 bits here, so that shapes are computed as ONNX has them; flags are 0 and 1.
#[derive(Clone, Debug, PartialEq)]
pub enum Host {
    F32(Vec<f32>),
    I64(Vec<i64>),
    /// Weights of few bits, as they lie in a file.
    Bytes(Bytes),
}

impl Host {
    pub fn zeros(element: Element, len: usize) -> Self {
        match element {
            Element::F32 => Self::F32(vec![0.0; len]),
            Element::I32 => Self::I64(vec![0; len]),
            Element::Bytes => Self::Bytes(vec![0; len].into()),
        }
    }

    /// Of little-endian bytes; nothing where they are no such elements, and of what kernels do not compute with.
    pub fn decode(bytes: &[u8], datatype: Datatype) -> Option<Self> {
        fn each<const N: usize, T>(bytes: &[u8], make: impl Fn([u8; N]) -> T) -> Option<Vec<T>> {
            let (whole, rest) = bytes.as_chunks::<N>();
            rest.is_empty().then(|| whole.iter().map(|bytes| make(*bytes)).collect())
        }
        Some(match datatype {
            Datatype::Fp32 => Self::F32(each(bytes, f32::from_le_bytes)?),
            Datatype::Fp16 => Self::F32(each(bytes, |bytes| f16::from_le_bytes(bytes).to_f32())?),
            Datatype::Bf16 => Self::F32(each(bytes, |bytes| bf16::from_le_bytes(bytes).to_f32())?),
            Datatype::Bool | Datatype::Uint8 => {
                Self::I64(bytes.iter().map(|byte| i64::from(*byte)).collect())
            }
            Datatype::Int8 => Self::I64(each(bytes, |bytes| i64::from(i8::from_le_bytes(bytes)))?),
            Datatype::Uint16 => Self::I64(each(bytes, |bytes| i64::from(u16::from_le_bytes(bytes)))?),
            Datatype::Int16 => Self::I64(each(bytes, |bytes| i64::from(i16::from_le_bytes(bytes)))?),
            Datatype::Uint32 => Self::I64(each(bytes, |bytes| i64::from(u32::from_le_bytes(bytes)))?),
            Datatype::Int32 => Self::I64(each(bytes, |bytes| i64::from(i32::from_le_bytes(bytes)))?),
            Datatype::Int64 => Self::I64(each(bytes, i64::from_le_bytes)?),
            Datatype::Uint64 => {
                let values = each(bytes, |bytes| i64::try_from(u64::from_le_bytes(bytes)).ok())?;
                Self::I64(values.into_iter().collect::<Option<_>>()?)
            }
            Datatype::Fp64 | Datatype::Bytes => return None,
        })
    }

    /// Little-endian bytes of these elements; nothing where one does not fit, and of what kernels do not compute with.
    pub fn encode(&self, datatype: Datatype) -> Option<Vec<u8>> {
        match self {
            Self::F32(values) => match datatype {
                Datatype::Fp32 => Some(values.iter().flat_map(|value| value.to_le_bytes()).collect()),
                Datatype::Fp16 => {
                    Some(values.iter().flat_map(|value| f16::from_f32(*value).to_le_bytes()).collect())
                }
                Datatype::Bf16 => {
                    Some(values.iter().flat_map(|value| bf16::from_f32(*value).to_le_bytes()).collect())
                }
                _ => None,
            },
            Self::I64(values) => {
                let mut bytes = Vec::with_capacity(values.len() * datatype.size()?);
                for value in values {
                    encode(*value, datatype, &mut bytes)?;
                }
                Some(bytes)
            }
            Self::Bytes(bytes) => {
                matches!(datatype, Datatype::Uint8 | Datatype::Int8).then(|| bytes.to_vec())
            }
        }
    }

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
    #[must_use]
    pub fn at(&self, places: &[usize]) -> Self {
        match self {
            Self::F32(values) => Self::F32(places.iter().map(|at| values[*at]).collect()),
            Self::I64(values) => Self::I64(places.iter().map(|at| values[*at]).collect()),
            Self::Bytes(bytes) => Self::Bytes(places.iter().map(|at| bytes[*at]).collect()),
        }
    }
}

fn encode(value: i64, datatype: Datatype, bytes: &mut Vec<u8>) -> Option<()> {
    match datatype {
        Datatype::Bool => bytes.push(u8::try_from(value).ok().filter(|flag| *flag <= 1)?),
        Datatype::Uint8 => bytes.push(u8::try_from(value).ok()?),
        Datatype::Int8 => bytes.extend(i8::try_from(value).ok()?.to_le_bytes()),
        Datatype::Uint16 => bytes.extend(u16::try_from(value).ok()?.to_le_bytes()),
        Datatype::Int16 => bytes.extend(i16::try_from(value).ok()?.to_le_bytes()),
        Datatype::Uint32 => bytes.extend(u32::try_from(value).ok()?.to_le_bytes()),
        Datatype::Int32 => bytes.extend(i32::try_from(value).ok()?.to_le_bytes()),
        Datatype::Uint64 => bytes.extend(u64::try_from(value).ok()?.to_le_bytes()),
        Datatype::Int64 => bytes.extend(value.to_le_bytes()),
        Datatype::Fp16 | Datatype::Fp32 | Datatype::Fp64 | Datatype::Bf16 | Datatype::Bytes => return None,
    }
    Some(())
}

/// Where the elements of a shape lie, row by row.
pub fn places(shape: &[usize], offset: usize, strides: &[i64]) -> Vec<usize> {
    let mut places = vec![offset as i64];
    for (size, stride) in shape.iter().zip(strides) {
        let mut further = Vec::with_capacity(places.len() * size);
        for place in places {
            further.extend((0..*size as i64).map(|at| place + at * stride));
        }
        places = further;
    }
    places.into_iter().map(|place| usize::try_from(place).expect("a view lies within its slot")).collect()
}
