//! Convolutions, and transposed ones.

use super::{Memory, floats, products::activated};
use crate::kernels::{
    host::Host,
    ir::{Conv, Window},
};

pub(super) fn conv(call: &Conv, memory: &mut Memory) {
    let Conv { batch, inputs, outputs, groups, window, .. } = *call;
    let [input_plane, output_plane, kernel] =
        [window.input, window.output, window.kernel].map(|[height, width]| height * width);
    let (input, weight) = (floats(memory, call.input), floats(memory, call.weight));
    let mut sums = vec![0f64; batch * outputs * output_plane];
    let (each, made) = (inputs / groups, outputs / groups);
    for one in 0..batch {
        for group in 0..groups {
            for (from, to) in (0..each).flat_map(|from| (0..made).map(move |to| (from, to))) {
                let (of, into) = (group * each + from, group * made + to);
                let weight_at = if call.transposed { of * made + to } else { into * each + from };
                let input = &input[(one * inputs + of) * input_plane..][..input_plane];
                let sums = &mut sums[(one * outputs + into) * output_plane..][..output_plane];
                plane(window, call.transposed, input, &weight[weight_at * kernel..][..kernel], sums);
            }
        }
    }
    let bias = call.bias.map(|bias| floats(memory, bias));
    let made = sums.into_iter().enumerate().map(|(at, sum)| {
        let sum = sum as f32;
        bias.map_or(sum, |bias| sum + bias[at / output_plane % outputs])
    });
    let made = activated(made.collect(), call.activation);
    memory.insert(call.output, Host::F32(made));
}

/// Adds what one channel gives to another.
fn plane(window: Window, transposed: bool, input: &[f32], weight: &[f32], sums: &mut [f64]) {
    // Transposed, the small side of a step is the input.
    let (small, large) =
        if transposed { (window.input, window.output) } else { (window.output, window.input) };
    let place = |step: usize, tap: usize, along: usize| {
        let at = (step * window.strides[along] + tap * window.dilations[along]) as i64 - window.pads[along];
        usize::try_from(at).ok().filter(|at| *at < large[along])
    };
    for (tap, weight) in weight.iter().enumerate() {
        let (tap_row, tap_column) = (tap / window.kernel[1], tap % window.kernel[1]);
        for (row, column) in (0..small[0]).flat_map(|row| (0..small[1]).map(move |column| (row, column))) {
            let (Some(there_row), Some(there_column)) =
                (place(row, tap_row, 0), place(column, tap_column, 1))
            else {
                continue;
            };
            let (near, far) = (row * small[1] + column, there_row * large[1] + there_column);
            let (from, to) = if transposed { (near, far) } else { (far, near) };
            sums[to] += f64::from(input[from]) * f64::from(*weight);
        }
    }
}
