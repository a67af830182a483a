//! How one walk through a slot is seen from another.

use crate::kernels::ir::View;

/// A dimension of a walk that passes all of a slot, each element once.
#[derive(Clone, Copy)]
struct Dimension {
    size: i64,
    stride: i64,
    /// Its place in the walk's shape.
    at: usize,
}

/// A walk that passes all of a slot, its dimensions from the one with the longest stride on.
pub(super) struct Whole(Vec<Dimension>);

/// A walk in terms of another's dimensions: where it begins in each, and along which each of its own goes how far.
pub(super) struct Steps {
    start: Vec<i64>,
    along: Vec<Option<(usize, i64)>>,
}

impl Whole {
    /// Nothing for a walk that misses an element of the `len`, or passes one twice.
    pub(super) fn of(shape: &[usize], view: &View, len: usize) -> Option<Self> {
        let all = shape.iter().zip(&view.strides).enumerate();
        let all = all.filter(|(_, (size, _))| **size != 1);
        let mut dimensions: Vec<Dimension> =
            all.map(|(at, (size, stride))| Dimension { size: *size as i64, stride: *stride, at }).collect();
        dimensions.sort_by_key(|dimension| std::cmp::Reverse(dimension.stride));
        let mut stride = 1;
        for dimension in dimensions.iter().rev() {
            if dimension.stride != stride {
                return None;
            }
            stride *= dimension.size;
        }
        (view.offset == 0 && stride == len as i64).then_some(Self(dimensions))
    }

    /// From the one with the longest stride on.
    pub(super) fn sizes(&self) -> Vec<usize> {
        self.0.iter().map(|dimension| dimension.size as usize).collect()
    }

    /// Nothing where a dimension of the other walk goes along more than one of this.
    pub(super) fn steps(&self, shape: &[usize], view: &View) -> Option<Steps> {
        let mut rest = view.offset as i64;
        let mut start = Vec::with_capacity(self.0.len());
        for dimension in &self.0 {
            start.push(rest / dimension.stride);
            rest %= dimension.stride;
        }
        let (mut low, mut high) = (start.clone(), start.clone());
        let mut along = Vec::with_capacity(shape.len());
        for (size, stride) in shape.iter().zip(&view.strides) {
            if *size == 1 || *stride == 0 {
                along.push(None);
                continue;
            }
            let at = self.0.iter().position(|dimension| dimension.stride <= stride.abs())?;
            if stride % self.0[at].stride != 0 {
                return None;
            }
            let step = stride / self.0[at].stride;
            let way = step * (*size as i64 - 1);
            *(if way < 0 { &mut low[at] } else { &mut high[at] }) += way;
            along.push(Some((at, step)));
        }
        let within = |at: usize| low[at] >= 0 && high[at] < self.0[at].size;
        (0..self.0.len()).all(within).then_some(Steps { start, along })
    }

    /// Where a dimension of another walk is to be split so that its parts go along one of this each: the place, and the size
    /// of the inner part.
    pub(super) fn split(&self, shape: &[usize], view: &View) -> Option<(usize, usize)> {
        shape.iter().zip(&view.strides).enumerate().find_map(|(at, (size, stride))| {
            let own = self.0.iter().find(|dimension| dimension.stride == *stride)?;
            let (size, inner) = (*size as i64, own.size);
            (size > inner && size % inner == 0).then_some((at, inner as usize))
        })
    }

    /// Another view over this walk's shape, as those steps go through it.
    pub(super) fn through(&self, steps: &Steps, view: &View) -> View {
        let stride = |at: usize| view.strides[self.0[at].at];
        let start: i64 = steps.start.iter().enumerate().map(|(at, start)| start * stride(at)).sum();
        let offset = usize::try_from(view.offset as i64 + start).expect("a view lies within its slot");
        let strides = steps.along.iter().map(|along| along.map_or(0, |(at, step)| step * stride(at)));
        View { slot: view.slot, offset, strides: strides.collect() }
    }
}

/// Whether a view has these strides, which dimensions of a single element need not.
pub(super) fn lies(view: &View, shape: &[usize], strides: &[i64]) -> bool {
    let same = |((size, own), wanted): ((&usize, &i64), &i64)| *size == 1 || own == wanted;
    view.offset == 0 && shape.iter().zip(&view.strides).zip(strides).all(same)
}

/// Row by row.
pub(super) fn dense(shape: &[usize]) -> Vec<i64> {
    let mut strides = vec![1; shape.len()];
    for at in (1..shape.len()).rev() {
        strides[at - 1] = strides[at] * shape[at] as i64;
    }
    strides
}
