//! Rows brought to one mean and size.

use super::{Memory, floats};
use crate::kernels::{
    host::Host,
    ir::{Norm, NormKind},
};

pub(super) fn norm(call: &Norm, memory: &mut Memory) {
    let Norm { rows, len, .. } = *call;
    let mut x = floats(memory, call.input)[..rows * len].to_vec();
    if let Some(skip) = call.skip {
        x.iter_mut().zip(floats(memory, skip)).for_each(|(x, skip)| *x += skip);
    }
    let scale = call.scale.map(|scale| floats(memory, scale));
    let bias = call.bias.map(|bias| floats(memory, bias));
    let mut made = Vec::with_capacity(x.len());
    for row in x.chunks_exact(len) {
        let mean = match call.kind {
            NormKind::Layer => row.iter().map(|x| f64::from(*x)).sum::<f64>() / len as f64,
            NormKind::Rms => 0.0,
        };
        let square = row.iter().map(|x| (f64::from(*x) - mean).powi(2)).sum::<f64>() / len as f64;
        let root = (square + f64::from(call.epsilon)).sqrt();
        for (at, x) in row.iter().enumerate() {
            let normal = ((f64::from(*x) - mean) / root) as f32;
            let scaled = scale.map_or(normal, |scale| normal * scale[at]);
            made.push(bias.map_or(scaled, |bias| scaled + bias[at]));
        }
    }
    memory.insert(call.output, Host::F32(made));
    if let Some(sum) = call.sum {
        memory.insert(sum, Host::F32(x));
    }
}
