//! One number for many, and softmax.

use super::{Memory, floats};
use crate::kernels::{
    host::Host,
    ir::{Reduce, ReduceOp, Softmax},
};

/// The elements of each run along the middle of `outer × len × inner`.
fn runs<T: Copy>(values: &[T], [outer, len, inner]: [usize; 3]) -> impl Iterator<Item = Vec<T>> {
    let run = move |outer, inner_at| {
        (0..len).map(|at| values[(outer * len + at) * inner + inner_at]).collect::<Vec<T>>()
    };
    (0..outer).flat_map(move |outer| (0..inner).map(move |inner| run(outer, inner)))
}

pub(super) fn reduce(call: &Reduce, memory: &mut Memory) {
    let sizes = [call.outer, call.len, call.inner];
    let places = matches!(call.op, ReduceOp::ArgMax | ReduceOp::ArgMin);
    let made = match &memory[&call.input] {
        Host::F32(values) if places => {
            let greatest = call.op == ReduceOp::ArgMax;
            Host::I64(runs(values, sizes).map(|run| extreme(&run, greatest)).collect())
        }
        Host::F32(values) => Host::F32(runs(values, sizes).map(|run| float(call.op, &run)).collect()),
        Host::I64(values) => Host::I64(runs(values, sizes).map(|run| whole(call.op, &run)).collect()),
        Host::Bytes(_) => unreachable!("nothing reduces bytes"),
    };
    memory.insert(call.output, made);
}

/// The first place of the greatest or the least.
fn extreme(run: &[f32], greatest: bool) -> i64 {
    let mut best = 0;
    for (at, value) in run.iter().enumerate() {
        if if greatest { *value > run[best] } else { *value < run[best] } {
            best = at;
        }
    }
    best as i64
}

fn float(op: ReduceOp, run: &[f32]) -> f32 {
    let sum = |of: fn(f64) -> f64| run.iter().map(|value| of(f64::from(*value))).sum::<f64>();
    let max = || run.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    match op {
        ReduceOp::Sum => sum(|value| value) as f32,
        ReduceOp::Mean => (sum(|value| value) / run.len() as f64) as f32,
        ReduceOp::Max => max(),
        ReduceOp::Min => run.iter().copied().fold(f32::INFINITY, f32::min),
        ReduceOp::Prod => run.iter().map(|value| f64::from(*value)).product::<f64>() as f32,
        ReduceOp::SumSquare => sum(|value| value * value) as f32,
        ReduceOp::L1 => sum(f64::abs) as f32,
        ReduceOp::L2 => sum(|value| value * value).sqrt() as f32,
        ReduceOp::LogSumExp if max().is_infinite() => max(),
        ReduceOp::LogSumExp => {
            let max = f64::from(max());
            let sum: f64 = run.iter().map(|value| (f64::from(*value) - max).exp()).sum();
            (sum.ln() + max) as f32
        }
        ReduceOp::ArgMax | ReduceOp::ArgMin => unreachable!("their places are whole numbers"),
    }
}

fn whole(op: ReduceOp, run: &[i64]) -> i64 {
    match op {
        ReduceOp::Sum => run.iter().fold(0, |sum, value| sum.wrapping_add(*value)),
        ReduceOp::Prod => run.iter().fold(1, |product, value| product.wrapping_mul(*value)),
        ReduceOp::Max => run.iter().copied().max().unwrap_or(i64::MIN),
        ReduceOp::Min => run.iter().copied().min().unwrap_or(i64::MAX),
        _ => unreachable!("{op:?} is of floats"),
    }
}

pub(super) fn softmax(call: &Softmax, memory: &mut Memory) {
    let Softmax { outer, len, inner, log, .. } = *call;
    let values = floats(memory, call.input);
    let mut made = vec![0.0; values.len()];
    for (at, run) in runs(values, [outer, len, inner]).enumerate() {
        let first = at / inner * len * inner + at % inner;
        for (step, value) in normalised(&run, log).into_iter().enumerate() {
            made[first + step * inner] = value;
        }
    }
    memory.insert(call.output, Host::F32(made));
}

/// Shares of a row that together are 1, or their logarithms.
pub(super) fn normalised(run: &[f32], log: bool) -> Vec<f32> {
    let max = f64::from(run.iter().copied().fold(f32::NEG_INFINITY, f32::max));
    let away = || run.iter().map(|value| f64::from(*value) - max);
    let sum: f64 = away().map(f64::exp).sum();
    let share = |away: f64| if log { away - sum.ln() } else { away.exp() / sum };
    away().map(|away| share(away) as f32).collect()
}
