//! The kernel of each call.

mod attention;
mod bits;
mod conv;
mod map;
mod product;
mod rows;
mod simple;
mod tile;

use super::{GpuError, Limits, kernel::Kernel, text, tuning::Tuning};
use crate::kernels::ir::{Call, Element, Slot, SlotInfo, View};

/// All that kernels' sources are made of.
pub(super) const SOURCES: &[&str] = &[
    text::FUNCTIONS,
    include_str!("../wgsl/attention.wgsl"),
    include_str!("../wgsl/bits.wgsl"),
    include_str!("../wgsl/bits_gather.wgsl"),
    include_str!("../wgsl/bits_tile.wgsl"),
    include_str!("../wgsl/bits_vector.wgsl"),
    include_str!("../wgsl/bits_zero.wgsl"),
    include_str!("../wgsl/conv.wgsl"),
    include_str!("../wgsl/conv_back.wgsl"),
    include_str!("../wgsl/conv_direct.wgsl"),
    include_str!("../wgsl/gather.wgsl"),
    include_str!("../wgsl/keep.wgsl"),
    include_str!("../wgsl/map.wgsl"),
    include_str!("../wgsl/norm.wgsl"),
    include_str!("../wgsl/packed.wgsl"),
    include_str!("../wgsl/pool.wgsl"),
    include_str!("../wgsl/product.wgsl"),
    include_str!("../wgsl/reduce.wgsl"),
    include_str!("../wgsl/rotary.wgsl"),
    include_str!("../wgsl/softmax.wgsl"),
    include_str!("../wgsl/team.wgsl"),
    include_str!("../wgsl/tile.wgsl"),
    include_str!("../wgsl/vector.wgsl"),
    // What writes the rest of them.
    include_str!("attention.rs"),
    include_str!("bits.rs"),
    include_str!("conv.rs"),
    include_str!("map.rs"),
    include_str!("product.rs"),
    include_str!("rows.rs"),
    include_str!("simple.rs"),
    include_str!("tile.rs"),
    include_str!("../expr.rs"),
    include_str!("../tuning.rs"),
];

/// What kernels are made for.
pub(super) struct Site<'s> {
    pub(super) slots: &'s [SlotInfo],
    pub(super) tuning: &'s Tuning,
    pub(super) limits: &'s Limits,
}

impl Site<'_> {
    fn element(&self, slot: Slot) -> Element {
        self.slots[slot.0 as usize].element
    }

    fn len(&self, slot: Slot) -> usize {
        self.slots[slot.0 as usize].len
    }
}

pub(super) fn kernel(call: &Call, site: &Site<'_>) -> Result<Kernel, GpuError> {
    match call {
        Call::Map(call) => map::map(call, site),
        Call::Gather(call) => simple::gather(call, site),
        Call::Reduce(call) => rows::reduce(call, site),
        Call::Softmax(call) => Ok(rows::softmax(call, site)),
        Call::Norm(call) => Ok(rows::norm(call, site)),
        Call::MatMul(call) => Ok(product::matmul(call, site)),
        Call::MatMulBits(call) => Ok(bits::matmul(call, site)),
        Call::GatherBits(call) => Ok(bits::gather(call, site)),
        Call::Attention(call) => attention::attention(call, site),
        Call::Rotary(call) => Ok(simple::rotary(call, site)),
        Call::Keep(call) => Ok(simple::keep(call, site)),
        Call::Conv(call) => Ok(conv::conv(call, site)),
        Call::Pool(call) => Ok(simple::pool(call, site)),
    }
}

/// How kernels name an element.
fn kind(element: Element) -> &'static str {
    match element {
        Element::F32 => "f32",
        Element::I32 => "i32",
        Element::Bytes => "u32",
    }
}

/// Whether elements that lie behind each other along the last dimension can be read by four.
fn by_fours(view: &View, inner: usize) -> bool {
    let Some((last, others)) = view.strides.split_last() else { return false };
    *last == 1
        && inner.is_multiple_of(4)
        && view.offset.is_multiple_of(4)
        && others.iter().all(|stride| stride % 4 == 0)
}
