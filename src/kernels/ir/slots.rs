//! Which slots a call reads and writes.

use super::{
    Attention, Bits, Call, Conv, Gather, GatherBits, Keep, Map, MatMul, MatMulBits, Norm, Pool, Reduce,
    Rotary, Slot, Softmax,
};

impl Call {
    /// The slots that it reads.
    pub fn reads(&self) -> Vec<Slot> {
        match self {
            Self::Map(Map { inputs, .. }) => inputs.iter().map(|view| view.slot).collect(),
            Self::Gather(Gather { data, indices, .. }) => vec![*data, *indices],
            Self::Reduce(Reduce { input, .. })
            | Self::Softmax(Softmax { input, .. })
            | Self::Pool(Pool { input, .. }) => vec![*input],
            Self::Norm(Norm { input, skip, scale, bias, .. }) => {
                [Some(*input), *skip, *scale, *bias].into_iter().flatten().collect()
            }
            Self::MatMul(MatMul { a, b, bias, .. }) => {
                [Some(a.slot), Some(b.slot), bias.as_ref().map(|bias| bias.slot)]
                    .into_iter()
                    .flatten()
                    .collect()
            }
            Self::MatMulBits(MatMulBits { a, weights, bias, .. }) => {
                [Some(*a)].into_iter().chain(weights.slots()).chain([*bias]).flatten().collect()
            }
            Self::GatherBits(GatherBits { weights, indices, .. }) => {
                weights.slots().into_iter().chain([Some(*indices)]).flatten().collect()
            }
            Self::Attention(Attention { q, k, v, mask, lengths, .. }) => {
                let views = [q, k, v].map(|view| Some(view.slot));
                let mask = mask.as_ref().map(|mask| mask.slot);
                views.into_iter().chain([mask, *lengths]).flatten().collect()
            }
            Self::Rotary(Rotary { input, cos, sin, positions, .. }) => {
                vec![input.slot, *cos, *sin, *positions]
            }
            Self::Keep(Keep { input, at, .. }) => vec![input.slot, *at],
            Self::Conv(Conv { input, weight, bias, .. }) => {
                [Some(*input), Some(*weight), *bias].into_iter().flatten().collect()
            }
        }
    }

    /// The slots that it writes, all or a part of each.
    pub fn writes(&self) -> Vec<Slot> {
        match self {
            Self::Map(Map { output, .. })
            | Self::MatMul(MatMul { output, .. })
            | Self::Attention(Attention { output, .. })
            | Self::Rotary(Rotary { output, .. }) => vec![output.slot],
            Self::Norm(Norm { output, sum, .. }) => [Some(*output), *sum].into_iter().flatten().collect(),
            Self::Gather(Gather { output, .. })
            | Self::Reduce(Reduce { output, .. })
            | Self::Softmax(Softmax { output, .. })
            | Self::MatMulBits(MatMulBits { output, .. })
            | Self::GatherBits(GatherBits { output, .. })
            | Self::Keep(Keep { output, .. })
            | Self::Conv(Conv { output, .. })
            | Self::Pool(Pool { output, .. }) => vec![*output],
        }
    }

    /// Visits every slot, read or written, so that it can be given another number.
    pub fn each_slot(&mut self, visit: &mut impl FnMut(&mut Slot)) {
        match self {
            Self::Map(Map { inputs, output, .. }) => {
                inputs.iter_mut().chain([output]).for_each(|view| visit(&mut view.slot));
            }
            Self::Gather(Gather { data, indices, output, .. }) => {
                [data, indices, output].into_iter().for_each(visit);
            }
            Self::Reduce(Reduce { input, output, .. })
            | Self::Softmax(Softmax { input, output, .. })
            | Self::Pool(Pool { input, output, .. }) => [input, output].into_iter().for_each(visit),
            Self::Norm(Norm { input, skip, scale, bias, output, sum, .. }) => {
                let some = [skip, scale, bias, sum].into_iter().filter_map(Option::as_mut);
                [input, output].into_iter().chain(some).for_each(visit);
            }
            Self::MatMul(MatMul { a, b, bias, output, .. }) => {
                let views = [Some(a), Some(b), bias.as_mut(), Some(output)].into_iter().flatten();
                views.for_each(|view| visit(&mut view.slot));
            }
            Self::MatMulBits(MatMulBits { a, weights, bias, output, .. }) => {
                weights.each_slot(visit);
                [Some(a), bias.as_mut(), Some(output)].into_iter().flatten().for_each(visit);
            }
            Self::GatherBits(GatherBits { weights, indices, output, .. }) => {
                weights.each_slot(visit);
                [indices, output].into_iter().for_each(visit);
            }
            Self::Attention(Attention { q, k, v, mask, lengths, output, .. }) => {
                let views = [Some(q), Some(k), Some(v), mask.as_mut(), Some(output)].into_iter().flatten();
                views.for_each(|view| visit(&mut view.slot));
                lengths.iter_mut().for_each(visit);
            }
            Self::Rotary(Rotary { input, output, cos, sin, positions, .. }) => {
                [&mut input.slot, &mut output.slot, cos, sin, positions].into_iter().for_each(visit);
            }
            Self::Keep(Keep { input, at, output, .. }) => {
                [&mut input.slot, at, output].into_iter().for_each(visit);
            }
            Self::Conv(Conv { input, weight, bias, output, .. }) => {
                let some = bias.iter_mut();
                [input, weight, output].into_iter().chain(some).for_each(visit);
            }
        }
    }
}

impl Bits {
    fn slots(&self) -> [Option<Slot>; 3] {
        [Some(self.numbers), Some(self.scales), self.zeros]
    }

    fn each_slot(&mut self, visit: &mut impl FnMut(&mut Slot)) {
        let some = self.zeros.iter_mut();
        [&mut self.numbers, &mut self.scales].into_iter().chain(some).for_each(visit);
    }
}
