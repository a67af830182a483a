//! Weights as numbers, and as tensors again.

use half::f16;

use crate::onnx::proto::{TensorProto, element};

/// How many elements the tensor has; `None` where its sizes make no number.
pub(super) fn elements(tensor: &TensorProto) -> Option<usize> {
    let sizes = tensor.dims.iter().map(|size| usize::try_from(*size).ok());
    sizes.into_iter().try_fold(1usize, |product, size| product.checked_mul(size?))
}

/// The elements of an `f32` tensor; `None` for others, and where it has more or fewer than its shape says.
pub(super) fn floats(tensor: &TensorProto) -> Option<Vec<f32>> {
    if tensor.data_type != element::FLOAT {
        return None;
    }
    let (raw, rest) = tensor.raw_data.as_chunks::<4>();
    let floats = match (raw, rest) {
        ([], []) => tensor.float_data.clone(),
        (raw, []) if tensor.float_data.is_empty() => {
            raw.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect()
        }
        _ => return None,
    };
    (elements(tensor) == Some(floats.len())).then_some(floats)
}

/// How many bytes its elements take.
pub(super) fn bytes(tensor: &TensorProto) -> u64 {
    let typed = tensor.float_data.len() * 4;
    (tensor.raw_data.len() + typed) as u64
}

pub(super) fn tensor(name: &str, data_type: i32, dims: &[usize], bytes: Vec<u8>) -> TensorProto {
    TensorProto {
        name: name.to_owned(),
        data_type,
        dims: dims
            .iter()
            .map(|size| i64::try_from(*size).expect("no larger than what it was made of"))
            .collect(),
        raw_data: bytes.into(),
        ..TensorProto::default()
    }
}

pub(super) fn float_tensor(name: &str, dims: &[usize], floats: &[f32]) -> TensorProto {
    tensor(name, element::FLOAT, dims, floats.iter().flat_map(|value| value.to_le_bytes()).collect())
}

/// A tensor in half precision, and what became of its values.
pub(super) struct Halved {
    pub(super) tensor: TensorProto,
    /// Finite values beyond what half precision holds, which became its largest.
    pub(super) clamped: u64,
    /// Values that became zero, or, where the tensor is one value, the smallest that is not.
    pub(super) vanished: u64,
    /// Root mean square of the error, over that of the values.
    pub(super) error: f64,
}

/// A value by itself is an epsilon or a factor: as zero it would change what is computed altogether.
pub(super) fn halve(tensor: &TensorProto, floats: &[f32], name: &str) -> Halved {
    let (mut clamped, mut vanished, mut errors) = (0, 0, Errors::default());
    let mut bytes = Vec::with_capacity(floats.len() * 2);
    for value in floats {
        let mut half = f16::from_f32(*value);
        if half.is_infinite() && value.is_finite() {
            half = f16::MAX.copysign(half);
            clamped += 1;
        } else if half.to_f32().to_bits() << 1 == 0 && value.to_bits() << 1 != 0 {
            vanished += 1;
            if floats.len() == 1 {
                half = f16::MIN_POSITIVE_SUBNORMAL.copysign(half);
            }
        }
        errors.add(*value, half.to_f32());
        bytes.extend(half.to_le_bytes());
    }
    let tensor = TensorProto {
        name: name.to_owned(),
        dims: tensor.dims.clone(),
        data_type: element::FLOAT16,
        raw_data: bytes.into(),
        ..TensorProto::default()
    };
    Halved { tensor, clamped, vanished, error: errors.relative() }
}

/// Squares of values and of what they are off by.
#[derive(Default)]
pub(super) struct Errors {
    values: f64,
    errors: f64,
}

impl Errors {
    pub(super) fn add(&mut self, value: f32, kept: f32) {
        // What is infinite stays so, and is off by nothing.
        if value.is_finite() {
            self.values += f64::from(value).powi(2);
            self.errors += (f64::from(value) - f64::from(kept)).powi(2);
        }
    }

    pub(super) fn relative(&self) -> f64 {
        if self.errors > 0.0 { (self.errors / self.values.max(f64::MIN_POSITIVE)).sqrt() } else { 0.0 }
    }
}
