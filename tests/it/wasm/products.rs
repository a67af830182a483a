//! Products, attention and rotation.

use weft::{
    domain::Datatype,
    kernels::ir::{
        Attention, Bits, Call, Element, GatherBits, MatMul, MatMulBits, Packing, Rotary, Slot, Unary, View,
    },
};

use super::{Case, ROUNDED, case, check, dense, view};

/// `turned` says which sides lie column by column.
fn product(m: usize, k: usize, n: usize, turned: [bool; 2], bias: bool, activation: Option<Unary>) -> Case {
    let mut case = case(format!("{m}×{k}×{n} {turned:?} {bias} {activation:?}"));
    let (left, right) = (case.floats(m * k), case.stored_floats(k * n));
    let bias = bias.then(|| case.floats(n));
    let output = case.made(Element::F32, m * n);
    let strides = |turned: bool, rows: usize, columns: usize| {
        if turned { vec![1, rows as i64] } else { vec![columns as i64, 1] }
    };
    case.call(Call::MatMul(MatMul {
        batch: vec![],
        m,
        k,
        n,
        a: view(left, &strides(turned[0], m, k)),
        b: view(right, &strides(turned[1], k, n)),
        bias: bias.map(|bias| view(bias, &[0, 1])),
        output: view(output, &[n as i64, 1]),
        alpha: 0.5,
        activation,
    }))
}

#[test]
fn products() {
    let mut cases = Vec::new();
    for m in [1, 2, 3, 17, 129] {
        for (k, n) in [(1, 1), (3, 17), (17, 3), (129, 129), (1000, 17), (129, 1000)] {
            for turned in [[false, false], [false, true], [true, false], [true, true]] {
                cases.push(product(m, k, n, turned, m % 2 == 1, (k == 129).then_some(Unary::Relu)));
            }
        }
    }
    check(&cases);
}

#[test]
fn products_of_batches() {
    let mut cases = Vec::new();
    // What the right side's batch is stepped by, and whether the left side's rows lie apart.
    for (batch, m, repeated, apart) in [
        (vec![3], 1, true, false),
        (vec![3], 5, true, false),
        (vec![2, 3], 4, true, true),
        (vec![2, 3], 1, false, true),
        (vec![2, 3], 5, false, false),
    ] {
        let mut case = case(format!("{batch:?} {m} {repeated} {apart}"));
        let (k, n, count) = (17, 9, batch.iter().product::<usize>());
        let row = if apart { k + 3 } else { k };
        let a = case.floats(count * m * row);
        let b = case.floats(if repeated { k * n } else { count * k * n });
        let bias = case.floats(n);
        let output = case.made(Element::F32, count * m * n);
        let of = |last: [usize; 2]| dense(&[batch.as_slice(), &last].concat());
        let zeros = |own: [i64; 2]| [vec![0; batch.len()], own.to_vec()].concat();
        cases.push(case.call(Call::MatMul(MatMul {
            batch: batch.clone(),
            m,
            k,
            n,
            a: view(a, &of([m, row])),
            b: view(b, &if repeated { zeros([n as i64, 1]) } else { of([k, n]) }),
            bias: Some(view(bias, &zeros([0, 1]))),
            output: view(output, &of([m, n])),
            alpha: 1.0,
            activation: None,
        })));
    }
    check(&cases);
}

fn weights(case: &mut Case, packing: Packing, block: usize, rows: usize, k: usize, zeros: bool) -> Bits {
    let blocks = k.div_ceil(block);
    // Five ternary digits in a byte are at most 242.
    let most = if packing == Packing::Ternary { 243 } else { 256 };
    let mut bytes = |len: usize| -> Vec<u8> { (0..len).map(|_| case.random.below(most) as u8).collect() };
    let numbers = bytes(rows * blocks * packing.block_bytes(block));
    let zeros = zeros.then(|| {
        let row = match packing {
            Packing::Two => blocks.div_ceil(4),
            Packing::Four => blocks.div_ceil(2),
            Packing::Three => packing.block_bytes(blocks.next_multiple_of(8)),
            Packing::Eight | Packing::Ternary => packing.block_bytes(blocks),
        };
        bytes(rows * row)
    });
    let numbers = case.stored(Datatype::Uint8, Element::Bytes, numbers);
    let scales = case.stored_floats(rows * blocks);
    let zeros = zeros.map(|zeros| case.stored(Datatype::Uint8, Element::Bytes, zeros));
    Bits { packing, block, numbers, scales, zeros }
}

const PACKINGS: [Packing; 5] =
    [Packing::Two, Packing::Three, Packing::Four, Packing::Eight, Packing::Ternary];

#[test]
fn products_of_few_bits() {
    let mut cases = Vec::new();
    for packing in PACKINGS {
        for block in [16, 32, 64, 128, 256] {
            for (m, k, n, zeros) in [
                (1, 256, 8, false),
                (1, 129, 17, true),
                (3, 1000, 5, false),
                (17, 300, 3, true),
                (2, 16, 1, true),
            ] {
                let mut case = case(format!("{packing:?} {block} {m}×{k}×{n} {zeros}"));
                let a = case.floats(m * k);
                let weights = weights(&mut case, packing, block, n, k, zeros);
                let bias = zeros.then(|| case.floats(n));
                let output = case.made(Element::F32, m * n);
                let activation = (n == 17).then_some(Unary::Silu);
                let call = MatMulBits { a, weights, bias, output, m, k, n, activation };
                cases.push(case.call(Call::MatMulBits(call)).within(ROUNDED));
            }
        }
    }
    check(&cases);
}

#[test]
fn products_that_share_a_side_round_it_once() {
    let mut case = case("shared");
    let a = case.floats(3 * 64);
    for packing in [Packing::Four, Packing::Three, Packing::Two] {
        let weights = weights(&mut case, packing, 32, 5, 64, false);
        let output = case.made(Element::F32, 15);
        let call = MatMulBits { a, weights, bias: None, output, m: 3, k: 64, n: 5, activation: None };
        case = case.call(Call::MatMulBits(call));
    }
    let (program, _) = weft::kernels::wasm::compile(&case.routine).expect("a program");
    assert_eq!(program.calls.count, 5, "two roundings, since 3 bits are held as 4");
    check(&[case.within(ROUNDED)]);
}

#[test]
fn tables_of_few_bits() {
    let mut cases = Vec::new();
    for packing in PACKINGS {
        for (rows, k, zeros) in [(17, 129, true), (3, 256, false)] {
            let mut case = case(format!("table {packing:?} {rows} {k}"));
            let weights = weights(&mut case, packing, 32, rows, k, zeros);
            let indices = case.indices(5, rows);
            let output = case.made(Element::F32, 5 * k);
            cases.push(case.call(Call::GatherBits(GatherBits {
                weights,
                indices,
                output,
                rows,
                count: 5,
                k,
            })));
        }
    }
    check(&cases);
}

/// Heads beside each other in a row, as projections leave them.
fn beside(slot: Slot, rows: usize, heads: usize, size: usize) -> View {
    let [rows, heads, size] = [rows, heads, size].map(|size| size as i64);
    view(slot, &[rows * heads * size, size, heads * size, 1])
}

struct Kind {
    name: &'static str,
    key_heads: usize,
    causal: bool,
    window: Option<usize>,
    softcap: Option<f32>,
    mask: bool,
    lengths: bool,
}

#[test]
fn attentions() {
    let plain = Kind {
        name: "plain",
        key_heads: 4,
        causal: false,
        window: None,
        softcap: None,
        mask: false,
        lengths: false,
    };
    let kinds = [
        Kind { name: "causal", causal: true, ..plain },
        Kind { name: "grouped", key_heads: 2, causal: true, lengths: true, ..plain },
        Kind { name: "window", causal: true, window: Some(5), ..plain },
        Kind { name: "capped", softcap: Some(2.0), mask: true, ..plain },
        plain,
    ];
    let mut cases = Vec::new();
    for kind in kinds {
        for (queries, keys, size, value_size) in
            [(1, 1, 1, 1), (1, 129, 64, 64), (17, 17, 16, 16), (3, 130, 17, 5), (129, 129, 32, 24)]
        {
            let mut case = case(format!("{} {queries} {keys} {size}", kind.name));
            let (batch, heads, key_heads) = (2, 4, kind.key_heads);
            let q = case.floats(batch * heads * queries * size);
            let (k, v) = (
                case.floats(batch * key_heads * keys * size),
                case.floats(batch * key_heads * keys * value_size),
            );
            let mask = kind.mask.then(|| case.floats(queries * keys));
            let lengths = kind.lengths.then(|| case.indices(batch, keys + 1));
            let output = case.made(Element::F32, batch * heads * queries * value_size);
            cases.push(
                case.call(Call::Attention(Attention {
                    batch,
                    heads,
                    key_heads,
                    queries,
                    keys,
                    size,
                    value_size,
                    q: beside(q, queries, heads, size),
                    k: beside(k, keys, key_heads, size),
                    v: view(v, &dense(&[batch, key_heads, keys, value_size])),
                    mask: mask.map(|mask| view(mask, &[0, 0, keys as i64, 1])),
                    lengths,
                    causal: kind.causal,
                    window: kind.window,
                    scale: 0.5,
                    softcap: kind.softcap,
                    output: beside(output, queries, heads, value_size),
                }))
                .within(1e-5),
            );
        }
    }
    check(&cases);
}

#[test]
fn rotations() {
    let mut cases = Vec::new();
    for (interleaved, turned, counted, rows) in [
        (false, 16, true, 7),
        (true, 16, false, 7),
        (false, 6, false, 1),
        (true, 10, true, 3),
        (false, 16, true, 40),
    ] {
        let mut case = case(format!("{interleaved} {turned} {counted} {rows}"));
        let (batch, heads, size) = (2, 3, 17);
        let input = case.floats(batch * heads * rows * size);
        let (cos, sin) = (case.floats(32 * turned / 2), case.floats(32 * turned / 2));
        let positions_len = if counted { 1 } else { batch * rows };
        let positions = case.indices(positions_len, 20);
        let output = case.made(Element::F32, batch * heads * rows * size);
        cases.push(case.call(Call::Rotary(Rotary {
            batch,
            heads,
            rows,
            size,
            turned,
            input: beside(input, rows, heads, size),
            output: view(output, &dense(&[batch, heads, rows, size])),
            cos,
            sin,
            positions_max: 32,
            positions,
            positions_len,
            interleaved,
        })));
    }
    check(&cases);
}
