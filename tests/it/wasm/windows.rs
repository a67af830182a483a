//! Convolutions and pooling.

use weft::kernels::ir::{Call, Conv, Element, Pool, PoolOp, Unary, Window};

use super::{Case, case, check};

/// Of up to 33 thousand products.
const LONG_SUMS: f64 = 2e-5;

fn window(
    input: [usize; 2],
    kernel: [usize; 2],
    strides: [usize; 2],
    dilations: [usize; 2],
    pads: [i64; 2],
) -> Window {
    let out = |d: usize| {
        let padded = input[d] as i64 + 2 * pads[d] - (dilations[d] * (kernel[d] - 1) + 1) as i64;
        usize::try_from(padded).expect("the kernel fits") / strides[d] + 1
    };
    Window { input, output: [out(0), out(1)], kernel, strides, dilations, pads }
}

fn windows() -> [Window; 6] {
    [
        window([1, 1], [1, 1], [1, 1], [1, 1], [0, 0]),
        window([17, 9], [3, 3], [1, 1], [1, 1], [1, 1]),
        window([17, 9], [3, 2], [2, 3], [1, 2], [1, 0]),
        window([32, 32], [16, 16], [16, 16], [1, 1], [0, 0]),
        window([1, 129], [1, 3], [1, 2], [1, 1], [0, 1]),
        window([5, 40], [5, 7], [1, 1], [1, 3], [2, 9]),
    ]
}

fn convolution(window: Window, inputs: usize, outputs: usize, groups: usize, transposed: bool) -> Case {
    let mut case = case(format!("{window:?} {inputs} {outputs} {groups} {transposed}"));
    let kernel: usize = window.kernel.iter().product();
    let plane = |sizes: [usize; 2]| sizes[0] * sizes[1];
    let input = case.floats(2 * inputs * plane(window.input));
    let weight = case.stored_floats(inputs * outputs / groups * kernel);
    let bias = (inputs % 2 == 1).then(|| case.floats(outputs));
    let output = case.made(Element::F32, 2 * outputs * plane(window.output));
    let activation = (groups == 1).then_some(Unary::Relu);
    case.call(Call::Conv(Conv {
        input,
        weight,
        bias,
        output,
        batch: 2,
        inputs,
        outputs,
        groups,
        window,
        transposed,
        activation,
    }))
    .within(LONG_SUMS)
}

#[test]
fn convolutions() {
    let mut cases = Vec::new();
    for window in windows() {
        for (inputs, outputs, groups) in [(1, 1, 1), (3, 17, 1), (129, 4, 1), (6, 9, 3), (12, 12, 12)] {
            cases.push(convolution(window, inputs, outputs, groups, false));
            // The other way round, what was put out is the input.
            let back = Window { input: window.output, output: window.input, ..window };
            cases.push(convolution(back, inputs, outputs, groups, true));
        }
    }
    check(&cases);
}

#[test]
fn pools() {
    let mut cases = Vec::new();
    for window in windows() {
        // A window that covers nothing but padding has no mean.
        let covered = (0..2).all(|d| window.pads[d] < window.kernel[d] as i64);
        for op in [PoolOp::Max, PoolOp::Mean, PoolOp::MeanOfAll].into_iter().filter(|_| covered) {
            let mut case = case(format!("{op:?} {window:?}"));
            let input = case.floats(3 * window.input[0] * window.input[1]);
            let output = case.made(Element::F32, 3 * window.output[0] * window.output[1]);
            cases.push(case.call(Call::Pool(Pool { op, input, output, planes: 3, window })));
        }
    }
    check(&cases);
}
