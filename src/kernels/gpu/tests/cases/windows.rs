//! Convolutions and pools.

use super::{Case, Maker};
use crate::kernels::ir::{Call, Conv, Element, Pool, PoolOp, Unary, Window};

pub(super) fn all() -> Vec<Case> {
    [convs(), transposed(), pools()].into_iter().flatten().collect()
}

#[derive(Clone, Copy)]
struct Steps {
    strides: [usize; 2],
    dilations: [usize; 2],
    pads: [usize; 2],
}

const ONES: Steps = Steps { strides: [1, 1], dilations: [1, 1], pads: [0, 0] };

/// With as many pads behind as before.
fn window(input: [usize; 2], kernel: [usize; 2], steps: Steps, transposed: bool) -> Window {
    let Steps { strides, dilations, pads } = steps;
    let output = [0, 1].map(|along| {
        let reach = dilations[along] * (kernel[along] - 1) + 1;
        if transposed {
            (input[along] - 1) * strides[along] + reach - 2 * pads[along]
        } else {
            (input[along] + 2 * pads[along] - reach) / strides[along] + 1
        }
    });
    Window { input, output, kernel, strides, dilations, pads: pads.map(|pad| pad as i64) }
}

/// `sizes`: batch, inputs, outputs, groups.
fn conv(sizes: [usize; 4], window: Window, transposed: bool, bias: bool) -> Case {
    let [batch, inputs, outputs, groups] = sizes;
    let mut maker = Maker::new();
    let plane = |[height, width]: [usize; 2]| height * width;
    let input = maker.floats(batch * inputs * plane(window.input));
    let weight = maker.floats(inputs * outputs / groups * plane(window.kernel));
    let bias = bias.then(|| maker.floats(outputs));
    let activation = bias.map(|_| Unary::Relu);
    let output = maker.output(Element::F32, batch * outputs * plane(window.output));
    let call =
        Conv { input, weight, bias, output, batch, inputs, outputs, groups, window, transposed, activation };
    let name = format!("convolution {sizes:?}, transposed {transposed}, {window:?}");
    maker.within(name, vec![Call::Conv(call)], 2e-4)
}

fn convs() -> Vec<Case> {
    let mut cases = Vec::new();
    // Channels by threes and not by fours, to outputs by fours.
    for inputs in [1, 3, 6, 9, 15, 21, 33, 66, 129] {
        let same = Steps { pads: [1, 1], ..ONES };
        cases.push(conv([1, inputs, 8, 1], window([7, 5], [3, 3], same, false), false, inputs % 2 == 0));
        let along = Steps { pads: [0, 1], ..ONES };
        cases.push(conv([2, inputs, 17, 1], window([1, 13], [1, 3], along, false), false, true));
    }
    let strided = Steps { strides: [2, 3], dilations: [2, 1], pads: [1, 2] };
    cases.push(conv([2, 12, 20, 2], window([17, 19], [3, 5], strided, false), false, true));
    cases.push(conv(
        [1, 16, 16, 16],
        window([9, 9], [3, 3], Steps { pads: [1, 1], ..ONES }, false),
        false,
        true,
    ));
    cases.push(conv([1, 6, 12, 6], window([9, 9], [3, 3], ONES, false), false, false));
    cases.push(conv([2, 17, 33, 1], window([5, 7], [1, 1], ONES, false), false, true));
    cases.push(conv([2, 32, 64, 4], window([4, 4], [1, 1], ONES, false), false, true));
    cases.push(conv(
        [1, 3, 40, 1],
        window([16, 16], [4, 4], Steps { strides: [4, 4], ..ONES }, false),
        false,
        true,
    ));
    cases.push(conv([1, 3, 2, 1], window([8, 8], [3, 3], ONES, false), false, true));
    cases.push(conv(
        [1, 80, 129, 1],
        window([1, 60], [1, 3], Steps { pads: [0, 1], strides: [1, 2], ..ONES }, false),
        false,
        true,
    ));
    cases
}

fn transposed() -> Vec<Case> {
    let by_two = Steps { strides: [2, 2], ..ONES };
    let cut = Steps { strides: [2, 1], dilations: [1, 2], pads: [1, 1] };
    vec![
        conv([1, 3, 5, 1], window([4, 5], [2, 2], by_two, true), true, true),
        conv([2, 6, 4, 2], window([5, 4], [3, 3], cut, true), true, false),
        conv([1, 17, 9, 1], window([1, 11], [1, 4], Steps { strides: [1, 3], ..ONES }, true), true, true),
    ]
}

fn pools() -> Vec<Case> {
    let case = |op: PoolOp, planes: usize, window: Window| {
        let mut maker = Maker::new();
        let input = maker.floats(planes * window.input[0] * window.input[1]);
        let output = maker.output(Element::F32, planes * window.output[0] * window.output[1]);
        maker.case(
            format!("{op:?} of {planes}, {window:?}"),
            vec![Call::Pool(Pool { op, input, output, planes, window })],
        )
    };
    let windows = [
        window([7, 9], [3, 3], Steps { strides: [2, 2], pads: [1, 1], ..ONES }, false),
        window([1, 17], [1, 4], Steps { dilations: [1, 2], ..ONES }, false),
    ];
    let ops = [PoolOp::Max, PoolOp::Mean, PoolOp::MeanOfAll];
    ops.into_iter().flat_map(|op| windows.map(|window| case(op, 6, window))).collect()
}
