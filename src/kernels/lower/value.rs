//! What a node takes and gives: a slot, and how the tensor lies in it.

use crate::{
    domain::Datatype,
    kernels::{
        host,
        ir::{Element, Slot},
    },
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

    pub(super) fn is_float(&self) -> bool {
        self.datatype.is_float()
    }

    /// The places of its elements in the slot, row by row.
    pub(super) fn places(&self) -> Vec<usize> {
        host::places(&self.shape, self.offset, &self.strides)
    }

    /// The same elements under another type that kernels hold in the same way.
    pub(super) fn typed(&self, datatype: Datatype) -> Self {
        debug_assert_eq!(element(self.datatype), element(datatype), "both are held in the same way");
        Self { datatype, ..self.clone() }
    }

    /// With its dimensions in this order.
    pub(super) fn transposed(&self, order: &[usize]) -> Self {
        Self {
            shape: order.iter().map(|at| self.shape[*at]).collect(),
            strides: order.iter().map(|at| self.strides[*at]).collect(),
            ..self.clone()
        }
    }

    /// `len` places of an axis: from `start` on, each `step` behind the one before.
    pub(super) fn sliced(&self, axis: usize, start: usize, step: i64, len: usize) -> Self {
        let mut sliced = self.clone();
        sliced.shape[axis] = len;
        sliced.strides[axis] *= step;
        if len > 0 {
            let offset = self.offset as i64 + start as i64 * self.strides[axis];
            sliced.offset = usize::try_from(offset).expect("the axis has that place");
        }
        sliced
    }

    /// Without an axis, at one of its places.
    pub(super) fn at(&self, axis: usize, place: usize) -> Self {
        let mut value = self.sliced(axis, place, 1, 1);
        value.shape.remove(axis);
        value.strides.remove(axis);
        value
    }

    /// Repeated to a shape that it fits.
    pub(super) fn expanded(&self, shape: &[usize]) -> Self {
        let ahead = shape.len() - self.rank();
        let stride = |at: usize| match at.checked_sub(ahead) {
            Some(own) if self.shape[own] != 1 => self.strides[own],
            _ => 0,
        };
        Self { shape: shape.to_vec(), strides: (0..shape.len()).map(stride).collect(), ..self.clone() }
    }

    /// Under another shape of as many elements, where the elements may stay where they lie.
    pub(super) fn reshaped(&self, shape: &[usize]) -> Option<Self> {
        let under = |strides| Self { shape: shape.to_vec(), strides, ..self.clone() };
        if self.len() == 0 {
            return Some(under(dense(shape)));
        }
        let sizes = self.shape.iter().copied().zip(self.strides.iter().copied());
        let own: Vec<(usize, i64)> = sizes.filter(|(size, _)| *size != 1).collect();
        let mut strides = vec![0; shape.len()];
        let (mut from, mut to) = (0, 0);
        while to < shape.len() {
            if shape[to] == 1 {
                to += 1;
                continue;
            }
            // As many dimensions on either side as hold the same number of elements.
            let (mut old, mut new) = (own[from].0, shape[to]);
            let (first, mut end, mut last) = (from, from + 1, to + 1);
            while old != new {
                if old < new {
                    old *= own[end].0;
                    end += 1;
                } else {
                    new *= shape[last];
                    last += 1;
                }
            }
            let follows = |pair: &[(usize, i64)]| pair[0].1 == pair[1].1 * pair[1].0 as i64;
            if !own[first..end].windows(2).all(follows) {
                return None;
            }
            let mut stride = own[end - 1].1;
            for at in (to..last).rev() {
                strides[at] = stride;
                stride *= shape[at] as i64;
            }
            (from, to) = (end, last);
        }
        Some(under(strides))
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
