//! Gathers, reductions, softmax and norms.

use super::{Case, Maker};
use crate::kernels::ir::{Call, Element, Gather, Norm, NormKind, Reduce, ReduceOp, Softmax};

pub(super) fn all() -> Vec<Case> {
    [gathers(&[0, 2, -1, -3, 1]), reductions(), softmaxes(), norms()].into_iter().flatten().collect()
}

pub(super) fn faults() -> Vec<Case> {
    [gathers(&[0, 3]), gathers(&[-4, 0])].into_iter().flatten().collect()
}

/// Of rows out of three.
fn gathers(indices: &[i64]) -> Vec<Case> {
    let case = |element: Element, outer: usize, inner: usize| {
        let mut maker = Maker::new();
        let len = outer * 3 * inner;
        let data = if element == Element::F32 { maker.floats(len) } else { maker.wholes(len, 99) };
        let count = indices.len();
        let (indices, output) = (maker.ints(indices.to_vec()), maker.output(element, outer * count * inner));
        let gather = Gather { data, indices, output, outer, axis: 3, count, inner };
        maker.case(format!("{count} rows of {element:?} by {outer} and {inner}"), vec![Call::Gather(gather)])
    };
    let sizes = [(1, 1), (1, 129), (17, 1), (3, 128)];
    let floats = sizes.map(|(outer, inner)| case(Element::F32, outer, inner));
    floats.into_iter().chain([case(Element::I32, 2, 17)]).collect()
}

const SIZES: [[usize; 3]; 9] = [
    [1, 1, 1],
    [3, 17, 1],
    [129, 3, 1],
    [1, 1000, 1],
    [17, 129, 1],
    [2, 129, 5],
    [5, 3, 1000],
    [1, 5000, 3],
    [2, 300, 1],
];

fn reductions() -> Vec<Case> {
    use ReduceOp::{ArgMax, ArgMin, L1, L2, LogSumExp, Max, Mean, Min, Prod, Sum, SumSquare};
    let mut cases = Vec::new();
    for (at, op) in
        [Sum, Mean, Max, Min, Prod, SumSquare, L1, L2, LogSumExp, ArgMax, ArgMin].into_iter().enumerate()
    {
        // Every size with a sum, and some with the others.
        for sizes in SIZES.into_iter().skip(at.min(1)).step_by(if at == 0 { 1 } else { 2 }) {
            let [outer, len, inner] = sizes;
            let mut maker = Maker::new();
            let near = if op == Prod { (0.95, 1.05) } else { (-2.0, 2.0) };
            let input = maker.between(outer * len * inner, near.0, near.1);
            let places = matches!(op, ArgMax | ArgMin);
            let output = maker.output(if places { Element::I32 } else { Element::F32 }, outer * inner);
            let reduce = Reduce { op, input, output, outer, len, inner };
            cases.push(maker.within(format!("{op:?} over {sizes:?}"), vec![Call::Reduce(reduce)], 1e-4));
        }
    }
    for op in [Sum, Max, Min] {
        for sizes in [[3, 17, 1], [2, 129, 5], [1, 1000, 1]] {
            let [outer, len, inner] = sizes;
            let mut maker = Maker::new();
            let (input, output) =
                (maker.wholes(outer * len * inner, 1000), maker.output(Element::I32, outer * inner));
            let reduce = Reduce { op, input, output, outer, len, inner };
            cases.push(
                maker.case(format!("{op:?} of whole numbers over {sizes:?}"), vec![Call::Reduce(reduce)]),
            );
        }
    }
    let mut maker = Maker::new();
    let (input, output) = (maker.given(vec![1.0, 3.0, 3.0, -1.0]), maker.output(Element::I32, 1));
    let reduce = Reduce { op: ArgMax, input, output, outer: 1, len: 4, inner: 1 };
    cases.push(maker.case("the first of two that are greatest", vec![Call::Reduce(reduce)]));
    cases
}

fn softmaxes() -> Vec<Case> {
    let case = |sizes: [usize; 3], log: bool, hidden: bool| {
        let [outer, len, inner] = sizes;
        let mut maker = Maker::new();
        let input = if hidden {
            maker.given(
                (0..outer * len * inner)
                    .map(|at| if at % 3 == 0 { f32::NEG_INFINITY } else { at as f32 })
                    .collect(),
            )
        } else {
            maker.between(outer * len * inner, -30.0, 30.0)
        };
        let output = maker.output(Element::F32, outer * len * inner);
        let softmax = Softmax { input, output, outer, len, inner, log };
        let log = if log { "logarithms" } else { "shares" };
        let name = format!("{log} over {sizes:?}{}", if hidden { ", some hidden" } else { "" });
        maker.case(name, vec![Call::Softmax(softmax)])
    };
    let plain = SIZES.into_iter().flat_map(|sizes| [case(sizes, false, false), case(sizes, true, false)]);
    plain.chain([case([3, 17, 1], false, true), case([1, 1000, 1], false, true)]).collect()
}

fn norms() -> Vec<Case> {
    let mut cases = Vec::new();
    let sizes = [(1, 1), (3, 17), (17, 129), (129, 3), (2, 1000), (1, 768), (40, 64)];
    for (at, (rows, len)) in sizes.into_iter().enumerate() {
        for kind in [NormKind::Layer, NormKind::Rms] {
            let mut maker = Maker::new();
            let input = maker.between(rows * len, -3.0, 5.0);
            let skip = (at % 2 == 1).then(|| maker.floats(rows * len));
            let scale = (at % 3 != 2).then(|| maker.floats(len));
            let bias = (kind == NormKind::Layer && at % 3 == 0).then(|| maker.floats(len));
            let sum = (at % 4 == 1).then(|| maker.output(Element::F32, rows * len));
            let output = maker.output(Element::F32, rows * len);
            let norm = Norm { kind, input, skip, scale, bias, output, sum, rows, len, epsilon: 1e-5 };
            cases.push(maker.within(format!("{kind:?} of {rows} by {len}"), vec![Call::Norm(norm)], 1e-4));
        }
    }
    cases
}
