//! Products of floats and of few bits.

use super::{Case, Maker, dense};
use crate::kernels::ir::{Bits, Call, Element, GatherBits, MatMul, MatMulBits, Packing, Unary, View};

pub(super) fn all() -> Vec<Case> {
    [plain(), lying(), many(), few_bits(), tables(&[0, 16, -1, 5])].into_iter().flatten().collect()
}

pub(super) fn faults() -> Vec<Case> {
    tables(&[0, 17])
}

#[derive(Clone, Copy)]
struct Lies {
    a_turned: bool,
    b_turned: bool,
    /// Elements between rows beside those of a row.
    apart: usize,
}

#[allow(clippy::many_single_char_names, reason = "matrices are called so")]
fn product([m, k, n]: [usize; 3], lies: Lies, bias: bool, activation: Option<Unary>) -> Case {
    let mut maker = Maker::new();
    let matrix = |maker: &mut Maker, rows: usize, columns: usize, turned: bool| {
        let pitch = if turned { rows } else { columns } + lies.apart;
        let slot = maker.floats(pitch * if turned { columns } else { rows });
        let strides = if turned { vec![1, pitch as i64] } else { vec![pitch as i64, 1] };
        View { slot, offset: 0, strides }
    };
    let (a, b) = (matrix(&mut maker, m, k, lies.a_turned), matrix(&mut maker, k, n, lies.b_turned));
    let bias = bias.then(|| View { slot: maker.floats(n), offset: 0, strides: vec![0, 1] });
    let output = dense(maker.output(Element::F32, m * n), &[m, n]);
    let turned = [lies.a_turned, lies.b_turned].map(|turned| if turned { " turned" } else { "" });
    let name = format!("{m}×{k}{} times {k}×{n}{}, {} apart", turned[0], turned[1], lies.apart);
    let alpha = if bias.is_some() { 0.5 } else { 1.0 };
    let call = MatMul { batch: vec![], m, k, n, a, b, bias, output, alpha, activation };
    maker.within(name, vec![Call::MatMul(call)], 1e-4)
}

fn plain() -> Vec<Case> {
    let sizes = [
        [1, 1, 1],
        [1, 17, 3],
        [1, 129, 1000],
        [1, 1000, 129],
        [1, 128, 256],
        [2, 128, 128],
        [3, 17, 129],
        [4, 64, 17],
        [5, 3, 17],
        [17, 129, 1],
        [129, 16, 2],
        [17, 129, 33],
        [64, 64, 64],
        [129, 17, 129],
        [33, 128, 260],
        [300, 40, 200],
    ];
    let straight = Lies { a_turned: false, b_turned: false, apart: 0 };
    let plain = sizes.into_iter().map(|sizes| product(sizes, straight, false, None));
    let more =
        sizes.into_iter().skip(2).step_by(3).map(|sizes| product(sizes, straight, true, Some(Unary::Gelu)));
    plain.chain(more).collect()
}

fn lying() -> Vec<Case> {
    let mut cases = Vec::new();
    for sizes in [[1, 17, 3], [1, 128, 64], [3, 64, 129], [17, 33, 65], [64, 128, 68]] {
        for (a_turned, b_turned, apart) in
            [(false, true, 0), (true, false, 0), (true, true, 3), (false, false, 1), (false, true, 4)]
        {
            cases.push(product(sizes, Lies { a_turned, b_turned, apart }, false, None));
        }
    }
    cases
}

/// Batches, over which operands repeat, turn or lie within each other.
fn many() -> Vec<Case> {
    let mut cases = Vec::new();
    for (m, k, n) in [(1, 17, 9), (5, 17, 9), (3, 64, 16), (20, 8, 36)] {
        let shape = [2, 3];
        let mut maker = Maker::new();
        let (a, b) = (maker.floats(6 * m * k), maker.floats(k * n));
        let output = maker.output(Element::F32, 6 * m * n);
        let shared = View { slot: b, offset: 0, strides: vec![0, 0, n as i64, 1] };
        let call = MatMul {
            batch: shape.to_vec(),
            m,
            k,
            n,
            a: dense(a, &[2, 3, m, k]),
            b: shared,
            bias: None,
            output: dense(output, &[2, 3, m, n]),
            alpha: 1.0,
            activation: None,
        };
        cases.push(maker.within(
            format!("six times {m}×{k} times one {k}×{n}"),
            vec![Call::MatMul(call)],
            1e-4,
        ));
        // Heads lie within rows, as attention's do.
        let mut maker = Maker::new();
        let (a, b, bias) = (maker.floats(6 * m * k), maker.floats(6 * k * n), maker.floats(3 * n));
        let output = maker.output(Element::F32, 6 * m * n);
        let heads = |slot, rows: usize, columns: usize| View {
            slot,
            offset: 0,
            strides: vec![(rows * 3 * columns) as i64, columns as i64, 3 * columns as i64, 1],
        };
        let call = MatMul {
            batch: shape.to_vec(),
            m,
            k,
            n,
            a: heads(a, m, k),
            b: heads(b, k, n),
            bias: Some(View { slot: bias, offset: 0, strides: vec![0, n as i64, 0, 1] }),
            output: heads(output, m, n),
            alpha: 0.25,
            activation: Some(Unary::Relu),
        };
        cases.push(maker.within(format!("heads of {m}×{k} times {k}×{n}"), vec![Call::MatMul(call)], 1e-4));
    }
    cases
}

const PACKINGS: [Packing; 5] =
    [Packing::Two, Packing::Three, Packing::Four, Packing::Eight, Packing::Ternary];

fn weights(maker: &mut Maker, packing: Packing, block: usize, [rows, k]: [usize; 2], zeros: bool) -> Bits {
    let blocks = k.div_ceil(block);
    // Five ternary digits are below this.
    let limit = if packing == Packing::Ternary { 243 } else { 256 };
    let numbers = maker.bytes(rows * blocks * packing.block_bytes(block), limit);
    let scales = maker.between(rows * blocks, 0.01, 0.1);
    let zero_bytes = match packing {
        Packing::Two => blocks.div_ceil(4),
        Packing::Three => 3 * blocks.div_ceil(8),
        Packing::Four => blocks.div_ceil(2),
        Packing::Eight => blocks,
        Packing::Ternary => blocks.div_ceil(5),
    };
    let zeros = zeros.then(|| maker.bytes(rows * zero_bytes, limit));
    Bits { packing, block, numbers, scales, zeros }
}

fn few_bits() -> Vec<Case> {
    let sizes = [
        (1, 128, 17, 32, false),
        (1, 129, 3, 32, true),
        (3, 100, 9, 16, true),
        (4, 320, 33, 64, true),
        (2, 256, 1, 128, false),
        (5, 96, 17, 32, true),
        (33, 130, 40, 16, false),
    ];
    let mut cases = Vec::new();
    for packing in PACKINGS {
        for (m, k, n, block, zeros) in sizes {
            let mut maker = Maker::new();
            let a = maker.floats(m * k);
            let weights = weights(&mut maker, packing, block, [n, k], zeros);
            let bias = zeros.then(|| maker.floats(n));
            let output = maker.output(Element::F32, m * n);
            let activation = (m == 4).then_some(Unary::Silu);
            let call = MatMulBits { a, weights, bias, output, m, k, n, activation };
            let name = format!("{m}×{k} times {n} rows of {packing:?} in blocks of {block}");
            cases.push(maker.within(name, vec![Call::MatMulBits(call)], 2e-4));
        }
    }
    cases
}

/// Of 17 rows.
fn tables(indices: &[i64]) -> Vec<Case> {
    let case = |(packing, block): (Packing, usize)| {
        let mut maker = Maker::new();
        let (rows, k, count) = (17, 130, indices.len());
        let weights = weights(&mut maker, packing, block, [rows, k], block == 32);
        let (indices, output) = (maker.ints(indices.to_vec()), maker.output(Element::F32, count * k));
        let call = GatherBits { weights, indices, output, rows, count, k };
        maker.case(format!("rows of {packing:?} in blocks of {block}"), vec![Call::GatherBits(call)])
    };
    PACKINGS.into_iter().flat_map(|packing| [(packing, 16), (packing, 32)]).map(case).collect()
}
