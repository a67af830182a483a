//! What a node takes and gives: a slot, and how the tensor lies in it.

use crate::{
    domain::Datatype,
    kernels::ir::{Element, Slot},
};

#[derive(Clone, Debug, PartialEq)]
pub(super) struct Value {
    pub(super) shape: Vec<usize>,
    /// As the graph has it.
    pub(super) datatype: Datatype,
    pub(super) slot: Slot,
    pub(super) offset: usize,
    /// As many as dimensions.
    pub(super) strides: Vec<i64>,
}

impl Value {
    pub(super) fn len(&self) -> usize {
        self.shape.iter().product()
    }

    pub(super) fn rank(&self) -> usize {
        self.shape.len()
    }

    /// Row by row from its slot's beginning.
    pub(super) fn is_dense(&self) -> bool {
        let own = dense(&self.shape);
        let lies = |((size, own), stride): ((&usize, &i64), &i64)| *size == 1 || own == stride;
        self.offset == 0 && self.shape.iter().zip(&own).zip(&self.strides).all(lies)
    }

    pub(super) fn element(&self) -> Option<Element> {
        element(self.datatype)
    }

    pub(super) fn is_float(&self) -> bool {
        self.datatype.is_float()
    }

    /// The places of its elements in the slot, row by row.
    pub(super) fn places(&self) -> impl Iterator<Item = usize> + '_ {
        let len = self.len();
        (0..len).map(|index| {
            let mut rest = index;
            let mut at = self.offset as i64;
            for (size, stride) in self.shape.iter().zip(&self.strides).rev() {
                at += (rest % size) as i64 * stride;
                rest /= size;
            }
            usize::try_from(at).expect("a view lies within its slot")
        })
    }
}

/// The strides of a tensor that lies row by row.
pub(super) fn dense(shape: &[usize]) -> Vec<i64> {
    let mut strides = vec![0; shape.len()];
    let mut stride = 1i64;
    for (at, size) in shape.iter().enumerate().rev() {
        strides[at] = stride;
        stride *= *size as i64;
    }
    strides
}

/// What kernels hold a datatype as; nothing for those that they do not compute with.
pub(super) fn element(datatype: Datatype) -> Option<Element> {
    match datatype {
        Datatype::Fp32 | Datatype::Fp16 | Datatype::Bf16 => Some(Element::F32),
        Datatype::Bool
        | Datatype::Uint8
        | Datatype::Uint16
        | Datatype::Uint32
        | Datatype::Uint64
        | Datatype::Int8
        | Datatype::Int16
        | Datatype::Int32
        | Datatype::Int64 => Some(Element::I32),
        Datatype::Fp64 | Datatype::Bytes => None,
    }
}

/// The shape that both fit by repeating what is of size 1.
pub(super) fn broadcast(a: &[usize], b: &[usize]) -> Option<Vec<usize>> {
    let rank = a.len().max(b.len());
    let size = |shape: &[usize], at: usize| (at + shape.len()).checked_sub(rank).map_or(1, |at| shape[at]);
    let sizes = (0..rank).map(|at| match (size(a, at), size(b, at)) {
        (a, b) if a == b => Some(a),
        (1, size) | (size, 1) => Some(size),
        _ => None,
    });
    sizes.collect()
}
