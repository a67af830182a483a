//! Weights in few bits: in blocks as ONNX Runtime's `MatMulNBits` reads them, or with one scale per column.
//!
//! A matrix is given as a model has it, `[inputs, outputs]` row by row.

use super::{
    recipe::Bits,
    weights::{Errors, float_tensor, tensor},
};
use crate::onnx::proto::{TensorProto, element};

/// A weight as a product takes it: `[inputs, outputs]`.
pub(super) struct Matrix {
    pub(super) inputs: usize,
    pub(super) outputs: usize,
    pub(super) values: Vec<f32>,
}

impl Matrix {
    fn column(&self, output: usize) -> impl Iterator<Item = f32> {
        self.values.iter().skip(output).step_by(self.outputs).copied()
    }
}

/// What takes a matrix's place.
pub(super) struct Quantised {
    pub(super) tensors: Vec<TensorProto>,
    /// Root mean square of the error, over that of the values.
    pub(super) error: f64,
}

/// One block's numbers, its scale, and the number that means zero.
struct Block {
    numbers: Vec<u8>,
    scale: f32,
    zero: u8,
}

/// Rounds to `2^bits` steps. Symmetric steps reach from the value farthest from zero to almost as far on the other
/// side, and the middle one is zero; others reach from the smallest value to the largest, zero among them.
fn quantise(values: &[f32], bits: Bits, symmetric: bool) -> Block {
    let steps = 1u32 << bits.count();
    let last = (steps - 1) as f32;
    let (scale, zero) = if symmetric {
        let middle = (steps / 2) as f32;
        let farthest =
            values.iter().copied().fold(0f32, |far, value| if value.abs() > far.abs() { value } else { far });
        (if farthest == 0.0 { 0.0 } else { farthest / -middle }, middle)
    } else {
        let least = values.iter().copied().fold(0f32, f32::min);
        let most = values.iter().copied().fold(0f32, f32::max);
        let scale = most / last - least / last;
        (scale, if scale == 0.0 { 0.0 } else { (-least / scale).round().clamp(0.0, last) })
    };
    let number = |value: &f32| {
        // Of a block that is all zeros, or so small that its scale is.
        let steps = if scale == 0.0 { 0.0 } else { value / scale };
        (steps + zero).round().clamp(0.0, last) as u8
    };
    Block { numbers: values.iter().map(number).collect(), scale, zero: zero as u8 }
}

/// Packs numbers of so many bits, the first into the lowest ones.
fn pack(numbers: &[u8], bits: Bits) -> impl Iterator<Item = u8> {
    let bits = bits.count();
    numbers.chunks(8 / bits as usize).map(move |byte| {
        byte.iter().rev().fold(0, |packed, number| (u32::from(packed) << bits) as u8 | number)
    })
}

/// `B`, `scales` and, unless symmetric, `zero_points` of `MatMulNBits`: column after column, each in blocks; the last
/// is filled up with zeros.
pub(super) fn blocks(matrix: &Matrix, name: &str, bits: Bits, width: usize, symmetric: bool) -> Quantised {
    let count = matrix.inputs.div_ceil(width);
    let (mut packed, mut scales, mut zeros) = (Vec::new(), Vec::new(), Vec::new());
    let mut errors = Errors::default();
    for output in 0..matrix.outputs {
        let mut column: Vec<f32> = matrix.column(output).collect();
        column.resize(count * width, 0.0);
        let mut own = Vec::with_capacity(count);
        for values in column.chunks_exact(width) {
            let block = quantise(values, bits, symmetric);
            for (value, number) in values.iter().zip(&block.numbers) {
                let kept = (f32::from(*number) - f32::from(block.zero)) * block.scale;
                errors.add(*value, kept);
            }
            packed.extend(pack(&block.numbers, bits));
            scales.push(block.scale);
            own.push(block.zero);
        }
        zeros.extend(pack(&own, bits));
    }
    let bytes = width * bits.count() as usize / 8;
    let mut tensors = vec![
        tensor(&format!("{name}/blocks"), element::UINT8, &[matrix.outputs, count, bytes], packed),
        float_tensor(&format!("{name}/scales"), &[scales.len()], &scales),
    ];
    if !symmetric {
        tensors.push(tensor(&format!("{name}/zeros"), element::UINT8, &[zeros.len()], zeros));
    }
    Quantised { tensors, error: errors.relative() }
}

/// What zero is in the columns of `columns`. Half of the range: kernels for signed weights may overflow 16 bits on
/// processors without instructions for such products, those for unsigned ones do not.
pub(super) const COLUMN_ZERO: u8 = 128;

/// `B` of `MatMulInteger`, and a scale for each column.
pub(super) fn columns(matrix: &Matrix, name: &str) -> Quantised {
    let scales: Vec<f32> = (0..matrix.outputs)
        .map(|output| matrix.column(output).fold(0f32, |far, value| far.max(value.abs())) / 127.0)
        .collect();
    let mut errors = Errors::default();
    let number = |(at, value): (usize, &f32)| {
        let scale = scales[at % matrix.outputs];
        let steps = if scale == 0.0 { 0.0 } else { (value / scale).round().clamp(-127.0, 127.0) };
        errors.add(*value, steps * scale);
        (steps + f32::from(COLUMN_ZERO)) as u8
    };
    let numbers: Vec<u8> = matrix.values.iter().enumerate().map(number).collect();
    let tensors = vec![
        tensor(&format!("{name}/numbers"), element::UINT8, &[matrix.inputs, matrix.outputs], numbers),
        float_tensor(&format!("{name}/scales"), &[matrix.outputs], &scales),
    ];
    Quantised { tensors, error: errors.relative() }
}
