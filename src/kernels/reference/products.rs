//! Products with floats and with weights of few bits.

use super::{Fault, Memory, floats, ints, map::float, places, write};
use crate::kernels::{
    host::Host,
    ir::{Bits, GatherBits, MatMul, MatMulBits, Packing, Slot, Unary},
};

pub(super) fn matmul(call: &MatMul, memory: &mut Memory) {
    let MatMul { m, k, n, .. } = *call;
    let of = |last: [usize; 2]| [call.batch.as_slice(), &last].concat();
    let a = memory[&call.a.slot].at(&places(&of([m, k]), &call.a));
    let b = memory[&call.b.slot].at(&places(&of([k, n]), &call.b));
    let shape = of([m, n]);
    let bias = call.bias.as_ref().map(|bias| memory[&bias.slot].at(&places(&shape, bias)));
    let (a, b) = (a.floats().expect("floats"), b.floats().expect("floats"));
    let mut made = Vec::with_capacity(shape.iter().product());
    for batch in 0..call.batch.iter().product() {
        let b = &b[batch * k * n..][..k * n];
        for row in 0..m {
            let a = &a[(batch * m + row) * k..][..k];
            let mut sums = vec![0f64; n];
            for (a, b) in a.iter().zip(b.chunks_exact(n)) {
                sums.iter_mut().zip(b).for_each(|(sum, b)| *sum += f64::from(*a) * f64::from(*b));
            }
            made.extend(sums.into_iter().map(|sum| (f64::from(call.alpha) * sum) as f32));
        }
    }
    if let Some(bias) = &bias {
        made.iter_mut().zip(bias.floats().expect("floats")).for_each(|(made, bias)| *made += bias);
    }
    write(memory, &shape, &call.output, &Host::F32(activated(made, call.activation)));
}

pub(super) fn activated(made: Vec<f32>, activation: Option<Unary>) -> Vec<f32> {
    match activation {
        Some(op) => made.into_iter().map(|value| float(op, value)).collect(),
        None => made,
    }
}

pub(super) fn matmul_bits(call: &MatMulBits, memory: &mut Memory) {
    let MatMulBits { m, k, n, .. } = *call;
    let weights: Vec<Vec<f32>> = (0..n).map(|row| unpacked(&call.weights, k, row, memory)).collect();
    let bias = call.bias.map(|bias| floats(memory, bias));
    let mut made = Vec::with_capacity(m * n);
    for a in floats(memory, call.a).chunks_exact(k).take(m) {
        for (column, weights) in weights.iter().enumerate() {
            let products = a.iter().zip(weights).map(|(a, weight)| f64::from(*a) * f64::from(*weight));
            let sum = products.sum::<f64>() as f32;
            made.push(bias.map_or(sum, |bias| sum + bias[column]));
        }
    }
    memory.insert(call.output, Host::F32(activated(made, call.activation)));
}

pub(super) fn gather_bits(call: &GatherBits, memory: &mut Memory) -> Result<(), Fault> {
    let mut made = Vec::with_capacity(call.count * call.k);
    for index in ints(memory, call.indices).iter().take(call.count) {
        let from_front = if *index < 0 { index + call.rows as i64 } else { *index };
        let row = usize::try_from(from_front).ok().filter(|row| *row < call.rows).ok_or(Fault::Index)?;
        made.extend(unpacked(&call.weights, call.k, row, memory));
    }
    memory.insert(call.output, Host::F32(made));
    Ok(())
}

/// A row of weights, `k` of them.
fn unpacked(weights: &Bits, k: usize, row: usize, memory: &Memory) -> Vec<f32> {
    let Bits { packing, block, .. } = *weights;
    let blocks = k.div_ceil(block);
    let scales = &floats(memory, weights.scales)[row * blocks..];
    let row_bytes = blocks * packing.block_bytes(block);
    let numbers = &bytes(memory, weights.numbers)[row * row_bytes..];
    let zeros = weights.zeros.map(|zeros| {
        let zeros = bytes(memory, zeros);
        // As many for each row, so that a packing's own rule for rows need not be repeated here.
        let each = zeros.len() / (floats(memory, weights.scales).len() / blocks);
        &zeros[row * each..]
    });
    let weight = |at: usize| {
        let (of, within) = (at / block, at % block);
        let number = number(packing, &numbers[of * packing.block_bytes(block)..], block, within);
        let zero = zeros.map_or(middle(packing), |zeros| number_in(packing, zeros, blocks, of));
        (f32::from(number) - f32::from(zero)) * scales[of]
    };
    (0..k).map(weight).collect()
}

/// What is zero where nothing says so.
fn middle(packing: Packing) -> u8 {
    match packing {
        Packing::Two => 2,
        Packing::Three => 4,
        Packing::Four => 8,
        Packing::Eight => 128,
        Packing::Ternary => 1,
    }
}

/// A row of zeros is a block as wide as the row has blocks.
fn number_in(packing: Packing, zeros: &[u8], blocks: usize, at: usize) -> u8 {
    match packing {
        Packing::Three => number(packing, zeros, blocks.next_multiple_of(8), at),
        _ => number(packing, zeros, blocks, at),
    }
}

fn number(packing: Packing, bytes: &[u8], block: usize, at: usize) -> u8 {
    let low = |bits: usize| {
        let each = 8 / bits;
        (bytes[at / each] >> (at % each * bits)) & ((1u16 << bits) - 1) as u8
    };
    match packing {
        Packing::Two => low(2),
        Packing::Three => low(2) | ((bytes[block / 4 + at / 8] >> (at % 8)) & 1) << 2,
        Packing::Four => low(4),
        Packing::Eight => bytes[at],
        Packing::Ternary => bytes[at / 5] / 3u8.pow(at as u32 % 5) % 3,
    }
}

fn bytes(memory: &Memory, slot: Slot) -> &[u8] {
    let Host::Bytes(bytes) = &memory[&slot] else { unreachable!("weights of few bits are bytes") };
    bytes
}
