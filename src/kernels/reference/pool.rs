//! Windows over planes.

use super::{Memory, floats};
use crate::kernels::{
    host::Host,
    ir::{Pool, PoolOp, Window},
};

pub(super) fn pool(call: &Pool, memory: &mut Memory) {
    let window = call.window;
    let [height, width] = window.input;
    let input = floats(memory, call.input);
    let mut made = Vec::with_capacity(call.planes * window.output[0] * window.output[1]);
    for plane in input.chunks_exact(height * width).take(call.planes) {
        for row in 0..window.output[0] {
            for column in 0..window.output[1] {
                made.push(one(call.op, plane, window, [row, column]));
            }
        }
    }
    memory.insert(call.output, Host::F32(made));
}

fn one(op: PoolOp, plane: &[f32], window: Window, at: [usize; 2]) -> f32 {
    let rows = within(window, 0, at[0]);
    let columns = within(window, 1, at[1]);
    let seen = rows.iter().flat_map(|row| columns.iter().map(move |column| row * window.input[1] + column));
    let seen: Vec<f32> = seen.map(|at| plane[at]).collect();
    let sum = || seen.iter().map(|value| f64::from(*value)).sum::<f64>();
    match op {
        PoolOp::Max => seen.iter().copied().fold(f32::NEG_INFINITY, f32::max),
        PoolOp::Mean => (sum() / seen.len() as f64) as f32,
        PoolOp::MeanOfAll => (sum() / (window.kernel[0] * window.kernel[1]) as f64) as f32,
    }
}

/// The places of the input that a window covers along one of its two directions.
fn within(window: Window, direction: usize, output: usize) -> Vec<usize> {
    let first = (output * window.strides[direction]) as i64 - window.pads[direction];
    let steps = (0..window.kernel[direction]).map(|step| first + (step * window.dilations[direction]) as i64);
    let inside = |at: i64| usize::try_from(at).ok().filter(|at| *at < window.input[direction]);
    steps.filter_map(inside).collect()
}
