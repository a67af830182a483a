//! Tensors from numbers, and numbers from tensors.

use crate::domain::{Datatype, Tensor};
use half::f16;

/// An integer input in the datatype that its model declares; the caller has checked that this is one of the two.
pub(super) fn integers(name: &str, datatype: Datatype, shape: &[usize], values: &[i64]) -> Tensor {
    let body: Vec<u8> = match datatype {
        Datatype::Int32 => values.iter().flat_map(|value| (*value as i32).to_le_bytes()).collect(),
        _ => values.iter().flat_map(|value| value.to_le_bytes()).collect(),
    };
    tensor(name, datatype, shape, body)
}

/// A float input in single or half precision.
pub(super) fn floats(name: &str, datatype: Datatype, shape: &[usize], values: &[f32]) -> Tensor {
    let body: Vec<u8> = match datatype {
        Datatype::Fp16 => values.iter().flat_map(|value| f16::from_f32(*value).to_le_bytes()).collect(),
        _ => values.iter().flat_map(|value| value.to_le_bytes()).collect(),
    };
    tensor(name, datatype, shape, body)
}

fn tensor(name: &str, datatype: Datatype, shape: &[usize], body: Vec<u8>) -> Tensor {
    let shape = shape.iter().map(|size| *size as u64).collect();
    Tensor { name: name.to_owned(), datatype, shape, body: body.into() }
}

/// A float output's values, which must be as many as its shape says, and finite.
pub(super) fn read_floats(tensor: &Tensor) -> Result<Vec<f32>, String> {
    tensor.check().map_err(|error| error.to_string())?;
    let bytes = tensor.body.contiguous();
    let values: Vec<f32> = match tensor.datatype {
        Datatype::Fp32 => bytes.as_chunks().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect(),
        Datatype::Fp16 => {
            bytes.as_chunks().0.iter().map(|bytes| f16::from_le_bytes(*bytes).to_f32()).collect()
        }
        other => return Err(format!("output {:?} is {other}, not FP32 or FP16", tensor.name)),
    };
    match values.iter().find(|value| !value.is_finite()) {
        None => Ok(values),
        Some(value) => Err(format!("output {:?} holds {value}", tensor.name)),
    }
}

pub(super) fn shape(tensor: &Tensor) -> Vec<usize> {
    tensor.shape.iter().map(|size| usize::try_from(*size).unwrap_or(usize::MAX)).collect()
}
