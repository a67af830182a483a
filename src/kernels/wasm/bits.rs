//! Products and tables of few bits: what the module has no kernel for is packed otherwise while a model is set up.
//!
//! Numbers of 3 bits are held as 4, ternary ones as 2, and zeros a byte each: taking them apart in each product would cost
//! more than reading them.

use super::{
    WasmError,
    making::Making,
    record::{Function, Record},
};
use crate::kernels::ir::{Bits, Element, GatherBits, MatMulBits, Packing, Slot};

/// As `abi.h` has it.
const BITS_ROWS: usize = 4;

/// Bits of a vector.
const VECTOR: usize = 128;

/// Blocks that kernels sum in 32 bits.
const BLOCK_MAX: usize = 256;

/// Weights as kernels take them.
pub(super) struct Packed {
    numbers: Slot,
    zeros: Option<Slot>,
    bits: usize,
    zero: usize,
    blocks: usize,
}

/// What a row of the other side has become.
#[derive(Clone, Copy)]
pub(super) struct Rounded {
    lanes: Slot,
    steps: Slot,
    sums: Slot,
}

fn bits_of(packing: Packing) -> usize {
    match packing {
        Packing::Ternary => 1,
        Packing::Two => 2,
        Packing::Three => 3,
        Packing::Four => 4,
        Packing::Eight => 8,
    }
}

fn middle(packing: Packing) -> usize {
    match packing {
        Packing::Ternary => 1,
        Packing::Two => 2,
        Packing::Three => 4,
        Packing::Four => 8,
        Packing::Eight => 128,
    }
}

fn packed(weights: &Bits, rows: usize, k: usize, making: &mut Making<'_>) -> Result<Packed, WasmError> {
    let Bits { packing, block, .. } = *weights;
    if !block.is_power_of_two() || !(16..=BLOCK_MAX).contains(&block) {
        return Err(WasmError::Call { call: "matmul_bits", why: "its blocks are not of 16 to 256" });
    }
    let blocks = k.div_ceil(block);
    let bits = match packing {
        Packing::Ternary => 2,
        Packing::Three => 4,
        other => bits_of(other),
    };
    let mut numbers = weights.numbers;
    if bits != bits_of(packing) {
        let made =
            Numbers { rows, blocks, block, count: block, row_bytes: blocks * packing.block_bytes(block) };
        numbers = repacked(numbers, packing, bits, &made, making);
    }
    let zeros = weights.zeros.map(|zeros| {
        if packing == Packing::Eight {
            return zeros;
        }
        let row_bytes = making.len(zeros) / rows;
        let block = if packing == Packing::Three { blocks.next_multiple_of(8) } else { blocks };
        repacked(zeros, packing, 8, &Numbers { rows, blocks: 1, block, count: blocks, row_bytes }, making)
    });
    Ok(Packed { numbers, zeros, bits, zero: middle(packing), blocks })
}

/// Of rows of blocks, the first `count` of each block.
pub(super) struct Numbers {
    pub(super) rows: usize,
    pub(super) blocks: usize,
    pub(super) block: usize,
    pub(super) count: usize,
    pub(super) row_bytes: usize,
}

fn repacked(from: Slot, packing: Packing, bits: usize, numbers: &Numbers, making: &mut Making<'_>) -> Slot {
    if let Some(known) = making.repacked(from, bits) {
        return known;
    }
    let row = numbers.blocks * (numbers.count * bits).div_ceil(8);
    let to = making.fresh(Element::Bytes, numbers.rows * row);
    making.keep_repacked(from, bits, to);
    let record = repack(from, to, packing, bits, numbers);
    making.push_derived(from, record);
    to
}

pub(super) fn repack(from: Slot, to: Slot, packing: Packing, bits: usize, numbers: &Numbers) -> Record {
    Record::new(Function::Repack, numbers.rows)
        .read("numbers", from)
        .write("output", to)
        .whole("row_bytes", numbers.row_bytes)
        .whole("output_row_bytes", numbers.blocks * (numbers.count * bits).div_ceil(8))
        .whole("blocks", numbers.blocks)
        .whole("block", numbers.block)
        .whole("count", numbers.count)
        .whole("bits", bits_of(packing))
        .whole("to", bits)
}

pub(super) fn matmul(call: &MatMulBits, making: &mut Making<'_>) -> Result<(), WasmError> {
    let packed = packed(&call.weights, call.n, call.k, making)?;
    let rounded = rounded(call, &packed, making);
    making.push(product(call, &packed, rounded));
    Ok(())
}

/// Products of the same rows share what these were rounded to.
fn rounded(call: &MatMulBits, packed: &Packed, making: &mut Making<'_>) -> Rounded {
    let Packed { bits, blocks, .. } = *packed;
    let block = call.weights.block;
    let key = (call.a, call.k, bits, block);
    if let Some(known) = making.rounded(key) {
        return known;
    }
    let vectors = (blocks * block * bits).div_ceil(VECTOR);
    let scalings = if block * bits < VECTOR { vectors } else { blocks };
    let made = Rounded {
        lanes: making.fresh(Element::Bytes, call.m * vectors * VECTOR / bits * 2),
        steps: making.fresh(Element::F32, call.m * scalings * 4),
        sums: making.fresh(Element::F32, call.m * blocks),
    };
    making.push(quantise(call, packed, made));
    making.keep_rounded(key, made);
    made
}

pub(super) fn quantise(call: &MatMulBits, packed: &Packed, made: Rounded) -> Record {
    Record::new(Function::Quantise, call.m)
        .read("input", call.a)
        .write("lanes", made.lanes)
        .write("steps", made.steps)
        .write("sums", made.sums)
        .whole("k", call.k)
        .whole("blocks", packed.blocks)
        .whole("block", call.weights.block)
        .whole("bits", packed.bits)
}

pub(super) fn product(call: &MatMulBits, packed: &Packed, rounded: Rounded) -> Record {
    Record::new(Function::MatmulBits, call.n.div_ceil(BITS_ROWS))
        .read("lanes", rounded.lanes)
        .read("steps", rounded.steps)
        .read("sums", rounded.sums)
        .read("numbers", packed.numbers)
        .read("scales", call.weights.scales)
        .read("zeros", packed.zeros)
        .whole("zero", packed.zero)
        .read("bias", call.bias)
        .write("output", call.output)
        .whole("m", call.m)
        .whole("n", call.n)
        .whole("blocks", packed.blocks)
        .whole("block", call.weights.block)
        .whole("bits", packed.bits)
        .activation(call.activation)
}

pub(super) fn gather(call: &GatherBits, making: &mut Making<'_>) -> Result<(), WasmError> {
    let packed = packed(&call.weights, call.rows, call.k, making)?;
    making.push(
        Record::new(Function::GatherBits, call.count)
            .read("numbers", packed.numbers)
            .read("scales", call.weights.scales)
            .read("zeros", packed.zeros)
            .whole("zero", packed.zero)
            .read("indices", call.indices)
            .write("output", call.output)
            .whole("rows", call.rows)
            .whole("k", call.k)
            .whole("blocks", packed.blocks)
            .whole("block", call.weights.block)
            .whole("bits", packed.bits),
    );
    Ok(())
}
