//! Attention and rotations.

use super::{Case, Maker, dense};
use crate::kernels::ir::{Attention, Call, Element, Expr, Keep, Map, Rotary, View};

pub(super) fn all() -> Vec<Case> {
    let kept = vec![kept(0), kept(1)];
    [attentions(), rotations(&[0, 5, 16, 3]), kept].into_iter().flatten().collect()
}

pub(super) fn faults() -> Vec<Case> {
    [rotations(&[0, 17, 1, 2]), vec![kept(2), kept(-1)]].into_iter().flatten().collect()
}

#[derive(Clone, Copy, Default)]
#[allow(clippy::struct_excessive_bools, reason = "each is a way of its own")]
struct Kind {
    causal: bool,
    window: Option<usize>,
    softcap: Option<f32>,
    mask: bool,
    lengths: bool,
    /// Heads lie within rows.
    within: bool,
}

/// `sizes`: batch, heads, heads of keys, queries, keys, sizes of a key and of a value.
fn attention(sizes: [usize; 7], kind: Kind) -> Case {
    let [batch, heads, key_heads, queries, keys, size, value_size] = sizes;
    let mut maker = Maker::new();
    let tensor = |slot, heads: usize, rows: usize, size: usize| {
        if kind.within {
            let strides = vec![(rows * heads * size) as i64, size as i64, (heads * size) as i64, 1];
            View { slot, offset: 0, strides }
        } else {
            dense(slot, &[batch, heads, rows, size])
        }
    };
    let q = tensor(maker.between(batch * heads * queries * size, -2.0, 2.0), heads, queries, size);
    let k = tensor(maker.between(batch * key_heads * keys * size, -2.0, 2.0), key_heads, keys, size);
    let v = tensor(maker.floats(batch * key_heads * keys * value_size), key_heads, keys, value_size);
    let mask = kind.mask.then(|| {
        let hidden = |at: usize| if at % 5 == 1 { f32::NEG_INFINITY } else { (at % 3) as f32 * 0.3 };
        let slot = maker.given((0..batch * queries * keys).map(hidden).collect());
        let strides = vec![(queries * keys) as i64, 0, keys as i64, 1];
        View { slot, offset: 0, strides }
    });
    let lengths =
        kind.lengths.then(|| maker.ints((0..batch as i64).map(|one| keys as i64 - 2 * one).collect()));
    let output =
        tensor(maker.output(Element::F32, batch * heads * queries * value_size), heads, queries, value_size);
    let Kind { causal, window, softcap, .. } = kind;
    let scale = 1.0 / (size as f32).sqrt();
    let call = Attention {
        batch,
        heads,
        key_heads,
        queries,
        keys,
        size,
        value_size,
        q,
        k,
        v,
        mask,
        lengths,
        causal,
        window,
        scale,
        softcap,
        output,
    };
    let name = format!("attention {sizes:?}, causal {causal}, window {window:?}, within {}", kind.within);
    maker.within(name, vec![Call::Attention(call)], 1e-4)
}

fn attentions() -> Vec<Case> {
    let plain = Kind::default();
    let causal = Kind { causal: true, ..plain };
    vec![
        attention([1, 1, 1, 1, 1, 4, 4], plain),
        attention([1, 1, 1, 1, 17, 3, 5], plain),
        attention([2, 3, 3, 17, 17, 16, 16], plain),
        attention([2, 4, 2, 17, 33, 64, 64], Kind { within: true, ..causal }),
        attention([1, 8, 2, 1, 129, 64, 64], Kind { lengths: true, ..causal }),
        attention([3, 2, 1, 5, 70, 33, 70], Kind { lengths: true, mask: true, ..causal }),
        attention([1, 2, 2, 129, 129, 32, 32], Kind { window: Some(9), ..causal }),
        attention([1, 2, 2, 7, 7, 8, 129], Kind { window: Some(2), ..plain }),
        attention([1, 3, 1, 3, 1000, 24, 24], Kind { softcap: Some(5.0), mask: true, ..plain }),
        attention([1, 1, 1, 9, 4, 8, 8], causal),
        attention([1, 6, 3, 2, 66, 12, 12], Kind { softcap: Some(2.0), within: true, mask: true, ..causal }),
        attention([1, 1, 1, 1, 1000, 128, 128], Kind { lengths: true, mask: true, ..plain }),
        attention([1, 1, 1, 3, 5, 700, 4], plain),
    ]
}

/// Of 17 positions, for two in a batch with two rows each.
fn rotations(positions: &[i64]) -> Vec<Case> {
    let case = |(interleaved, many, turned): (bool, bool, usize)| {
        let (batch, heads, rows, size) = (2, 3, 2, 10);
        let mut maker = Maker::new();
        let shape = [batch, heads, rows, size];
        let input = maker.floats(shape.iter().product());
        let half = turned / 2;
        let (cos, sin) = (maker.floats(17 * half), maker.floats(17 * half));
        let given = if many { positions.to_vec() } else { positions[1..2].to_vec() };
        let positions_len = given.len();
        let positions = maker.ints(given);
        let output = maker.output(Element::F32, shape.iter().product());
        // Out of heads within rows.
        let strides = vec![(rows * heads * size) as i64, size as i64, (heads * size) as i64, 1];
        let call = Rotary {
            batch,
            heads,
            rows,
            size,
            turned,
            input: View { slot: input, offset: 0, strides },
            output: dense(output, &shape),
            cos,
            sin,
            positions_max: 17,
            positions,
            positions_len,
            interleaved,
        };
        let name = format!("{turned} of {size} turned, interleaved {interleaved}, {positions_len} positions");
        maker.case(name, vec![Call::Rotary(call)])
    };
    [(false, true, 10), (true, true, 10), (false, false, 6), (true, false, 4)].map(case).into()
}

/// Three rows for each of two in a batch with two heads, out of heads within rows, into five.
fn kept(position: i64) -> Case {
    let (batch, heads, rows, size, room) = (2, 2, 3, 5, 5);
    let mut maker = Maker::new();
    let input = maker.floats(batch * heads * rows * size);
    let at = maker.ints(vec![position]);
    let before = maker.floats(batch * heads * room * size);
    let output = maker.output(Element::F32, batch * heads * room * size);
    let strides = vec![(rows * heads * size) as i64, size as i64, (heads * size) as i64, 1];
    let input = View { slot: input, offset: 0, strides };
    let call = Keep { batch, heads, rows, size, input, at, rows_max: 4, output, room };
    // Whatever lies there stays where no row comes.
    let shape = [batch * heads * room * size];
    let (inputs, output) = (vec![dense(before, &shape)], dense(output, &shape));
    let fill = Map { shape: shape.to_vec(), inputs, output, expr: Expr::Input(0) };
    maker.case(format!("rows kept from {position} on"), vec![Call::Map(fill), Call::Keep(call)])
}
