//! What is done to the elements of a product, a convolution or attention, by the call that makes them.

use super::{
    calls::Calls,
    views::{Whole, dense, lies},
};
use crate::kernels::ir::{
    Attention, Binary, Call, Conv, Expr, Map, MatMul, MatMulBits, Rotary, Slot, Unary, View,
};

/// The activations that kernels have at the end of other calls.
const ACTIVATIONS: [Unary; 6] =
    [Unary::Relu, Unary::Gelu, Unary::GeluTanh, Unary::Silu, Unary::Sigmoid, Unary::Tanh];

pub(super) fn fuse(calls: &mut Calls) {
    for at in 0..calls.len() {
        let mut at = at;
        while let Some((call, reader)) = step(calls, at) {
            if !calls.replace(reader, call, &[at]) {
                break;
            }
            at = reader;
        }
    }
}

/// What a map does to each element of one input.
struct Done {
    factor: f32,
    /// The input that is added.
    bias: Option<usize>,
    activation: Option<Unary>,
}

fn done(expr: &Expr, own: usize) -> Option<Done> {
    let none = Done { factor: 1.0, bias: None, activation: None };
    let is_own = |expr: &Expr| *expr == Expr::Input(own);
    match expr {
        own if is_own(own) => Some(none),
        Expr::Unary(op, x) if ACTIVATIONS.contains(op) => {
            let done = done(x, own)?;
            done.activation.is_none().then_some(Done { activation: Some(*op), ..done })
        }
        Expr::Binary(op @ (Binary::Add | Binary::Mul), a, b) => {
            let other = if is_own(a) { b } else { is_own(b).then_some(a)? };
            match (op, &**other) {
                (Binary::Add, Expr::Input(at)) if *at != own => Some(Done { bias: Some(*at), ..none }),
                (Binary::Mul, Expr::Float(factor)) => Some(Done { factor: *factor, ..none }),
                _ => None,
            }
        }
        Expr::Binary(Binary::Div, a, b) if is_own(a) => match **b {
            Expr::Float(by) => Some(Done { factor: 1.0 / by, ..none }),
            _ => None,
        },
        _ => None,
    }
}

/// A call with what the map does that alone reads it, and where that stood.
fn step(calls: &Calls, at: usize) -> Option<(Call, usize)> {
    let call = calls.call(at)?;
    let slot = match call {
        Call::MatMul(MatMul { output, .. })
        | Call::Attention(Attention { output, .. })
        | Call::Rotary(Rotary { output, .. }) => output.slot,
        Call::MatMulBits(MatMulBits { output, .. }) | Call::Conv(Conv { output, .. }) => *output,
        _ => return None,
    };
    if calls.maker(slot) != Some(at) {
        return None;
    }
    let reader = calls.reader(slot)?;
    let map = calls.map(reader)?;
    let own = map.inputs.iter().position(|view| view.slot == slot)?;
    if map.inputs.iter().filter(|view| view.slot == slot).count() > 1 {
        return None;
    }
    let whole = Whole::of(&map.shape, &map.inputs[own], calls.held(slot))?;
    let done = done(&map.expr, own)?;
    let after = After { calls, map, whole, done };
    let call = match call {
        Call::MatMul(call) => Call::MatMul(after.matmul(call.clone())?),
        Call::MatMulBits(call) => Call::MatMulBits(after.bits(call.clone())?),
        Call::Conv(call) => Call::Conv(after.conv(call.clone())?),
        Call::Attention(call) => {
            let Attention { batch, heads, queries, value_size, .. } = *call;
            let output = after.copied(&[batch, heads, queries, value_size], &call.output)?;
            Call::Attention(Attention { output, ..call.clone() })
        }
        Call::Rotary(call) => {
            let Rotary { batch, heads, rows, size, .. } = *call;
            let output = after.copied(&[batch, heads, rows, size], &call.output)?;
            Call::Rotary(Rotary { output, ..call.clone() })
        }
        _ => return None,
    };
    Some((call, reader))
}

struct After<'c> {
    calls: &'c Calls,
    map: &'c Map,
    /// The map's walk through what the call writes.
    whole: Whole,
    done: Done,
}

impl After<'_> {
    /// The map's output where nothing but copying is done.
    fn copied(&self, shape: &[usize], output: &View) -> Option<View> {
        let Done { factor, bias, activation } = &self.done;
        let plain = factor.to_bits() == 1f32.to_bits() && bias.is_none() && activation.is_none();
        let steps = self.whole.steps(shape, output)?;
        plain.then(|| self.whole.through(&steps, &self.map.output))
    }

    fn matmul(&self, mut call: MatMul) -> Option<MatMul> {
        let Done { factor, bias, activation } = self.done;
        let scaled = factor.to_bits() != 1f32.to_bits();
        let busy = call.activation.is_some() || call.bias.is_some() && (bias.is_some() || scaled);
        if busy {
            let nothing = !scaled && bias.is_none() && activation.is_none();
            return nothing.then(|| self.placed(call)).flatten();
        }
        let shape = [call.batch.as_slice(), &[call.m, call.n]].concat();
        let steps = self.whole.steps(&shape, &call.output)?;
        if let Some(bias) = bias {
            call.bias = Some(self.whole.through(&steps, &self.map.inputs[bias]));
        }
        call.alpha *= factor;
        call.activation = activation;
        self.placed(call)
    }

    fn placed(&self, mut call: MatMul) -> Option<MatMul> {
        let shape = [call.batch.as_slice(), &[call.m, call.n]].concat();
        let steps = self.whole.steps(&shape, &call.output)?;
        call.output = self.whole.through(&steps, &self.map.output);
        Some(call)
    }

    fn bits(&self, mut call: MatMulBits) -> Option<MatMulBits> {
        let (bias, output) = self.rows(&[call.m, call.n], 1, call.output)?;
        if call.activation.is_some() || call.bias.is_some() && bias.is_some() {
            return None;
        }
        call.bias = call.bias.or(bias);
        call.activation = self.done.activation;
        call.output = output;
        Some(call)
    }

    fn conv(&self, mut call: Conv) -> Option<Conv> {
        let plane = call.window.output[0] * call.window.output[1];
        let (bias, output) = self.rows(&[call.batch, call.outputs, plane], 1, call.output)?;
        if call.activation.is_some() || call.bias.is_some() && bias.is_some() {
            return None;
        }
        call.bias = call.bias.or(bias);
        call.activation = self.done.activation;
        call.output = output;
        Some(call)
    }

    /// A bias along one axis alone, and the output, of calls that write row by row.
    fn rows(&self, shape: &[usize], axis: usize, output: Slot) -> Option<(Option<Slot>, Slot)> {
        let strides = dense(shape);
        let written = View { slot: output, offset: 0, strides: strides.clone() };
        let steps = self.whole.steps(shape, &written)?;
        let output = self.whole.through(&steps, &self.map.output);
        let all = self.calls.held(output.slot) == shape.iter().product::<usize>();
        if !all || !lies(&output, shape, &strides) || self.done.factor.to_bits() != 1f32.to_bits() {
            return None;
        }
        let bias = match self.done.bias {
            None => None,
            Some(bias) => {
                let bias = self.whole.through(&steps, &self.map.inputs[bias]);
                let mut along = vec![0; shape.len()];
                along[axis] = 1;
                let fits = lies(&bias, shape, &along) && self.calls.held(bias.slot) == shape[axis];
                Some(fits.then_some(bias.slot)?)
            }
        };
        Some((bias, output.slot))
    }
}
