//! Attention that is written as two products with a softmax between them.

use super::{
    calls::Calls,
    views::{Whole, dense, lies},
};
use crate::kernels::ir::{Attention, Binary, Call, Expr, Map, MatMul, Slot, Softmax, View};

pub(super) fn fuse(calls: &mut Calls) {
    for at in 0..calls.len() {
        if let Some(Found { attention, at, others }) = found(calls, at) {
            calls.replace(at, Call::Attention(attention), &others);
        }
    }
}

struct Found {
    attention: Attention,
    /// Where the second product stood.
    at: usize,
    others: Vec<usize>,
}

/// What stands between the first product and the softmax.
struct Scores<'c> {
    product: &'c MatMul,
    scale: f32,
    /// What is added, and the shape that it is seen over.
    mask: Option<(&'c View, &'c [usize])>,
    others: Vec<usize>,
}

fn found(calls: &Calls, at: usize) -> Option<Found> {
    let Some(Call::Softmax(Softmax { input, output, outer, len, inner: 1, log: false })) = calls.call(at)
    else {
        return None;
    };
    let (rows, keys) = (*outer, *len);
    let second = calls.reader(*output)?;
    let Some(Call::MatMul(values)) = calls.call(second) else { return None };
    let plain =
        values.alpha.to_bits() == 1f32.to_bits() && values.bias.is_none() && values.activation.is_none();
    let shares = [values.batch.as_slice(), &[values.m, values.k]].concat();
    let reads =
        values.a.slot == *output && values.b.slot != *output && lies(&values.a, &shares, &dense(&shares));
    if !plain || !reads || values.k != keys || calls.held(*output) != rows * keys {
        return None;
    }
    let mut scores = scores(calls, *input, at, rows * keys)?;
    let product = scores.product;
    let written = [product.batch.as_slice(), &[product.m, product.n]].concat();
    let fits = product.n == keys && lies(&product.output, &written, &dense(&written));
    if !fits || product.activation.is_some() || product.bias.is_some() {
        return None;
    }
    scores.scale *= product.alpha;
    scores.others.push(at);
    let hints = hints(calls, product, values);
    let attention = joined(calls, &scores, values, &hints).or_else(|| joined(calls, &scores, values, &[]))?;
    debug_assert_eq!(attention.batch * attention.heads * attention.queries, rows, "the same rows");
    Some(Found { attention, at: second, others: scores.others })
}

/// Back from the softmax, which stands at `reader`, through what scales scores and what adds to them.
fn scores(calls: &Calls, mut slot: Slot, mut reader: usize, held: usize) -> Option<Scores<'_>> {
    let (mut scale, mut mask, mut others) = (1f32, None, Vec::new());
    loop {
        let at = calls.maker(slot)?;
        if calls.reader(slot) != Some(reader) || calls.held(slot) != held {
            return None;
        }
        others.push(at);
        let map = match calls.call(at)? {
            Call::MatMul(product) => return Some(Scores { product, scale, mask, others }),
            Call::Map(map) => map,
            _ => return None,
        };
        let whole = |at: usize| {
            let shape = &map.shape;
            [&map.inputs[at], &map.output].into_iter().all(|view| lies(view, shape, &dense(shape)))
        };
        let next = match &map.expr {
            Expr::Binary(op @ (Binary::Mul | Binary::Div | Binary::Add), a, b) => match (op, &**a, &**b) {
                (Binary::Mul, Expr::Input(at), Expr::Float(by))
                | (Binary::Mul, Expr::Float(by), Expr::Input(at)) => {
                    scale *= by;
                    *at
                }
                (Binary::Div, Expr::Input(at), Expr::Float(by)) => {
                    scale /= by;
                    *at
                }
                // What is added before scaling would have to be scaled too.
                (Binary::Add, Expr::Input(a), Expr::Input(b))
                    if mask.is_none() && scale.to_bits() == 1f32.to_bits() =>
                {
                    let own = |own: &usize| {
                        let slot = map.inputs[*own].slot;
                        whole(*own)
                            && calls.held(slot) == held
                            && calls.reader(slot) == Some(at)
                            && calls.maker(slot).is_some()
                    };
                    let (own, other) = if own(a) { (a, b) } else { own(b).then_some((b, a))? };
                    mask = Some((&map.inputs[*other], map.shape.as_slice()));
                    *own
                }
                _ => return None,
            },
            _ => return None,
        };
        if !whole(next) {
            return None;
        }
        (slot, reader) = (map.inputs[next].slot, at);
    }
}

/// The map that brings queries to other places or multiplies them with a number, which the scores can be instead.
fn scaled<'c>(calls: &'c Calls, product: &MatMul) -> Option<(&'c Map, usize, f32)> {
    let map = calls.made_by(product.a.slot)?;
    match &map.expr {
        Expr::Input(at) => Some((map, *at, 1.0)),
        Expr::Binary(Binary::Mul, a, b) => match (&**a, &**b) {
            (Expr::Input(at), Expr::Float(by)) | (Expr::Float(by), Expr::Input(at)) => Some((map, *at, *by)),
            _ => None,
        },
        _ => None,
    }
}

/// Rows as those see them that the queries come from and that the output goes to, so that they can be passed by.
fn hints(calls: &Calls, product: &MatMul, values: &MatMul) -> Vec<Vec<usize>> {
    let before = scaled(calls, product)
        .and_then(|(map, ..)| Whole::of(&map.shape, &map.output, calls.held(map.output.slot)))
        .and_then(|whole| without(&whole.sizes(), product.k));
    let to = values.output.slot;
    let after = calls.reader(to).and_then(|at| calls.map(at)).and_then(|map| {
        let view = map.inputs.iter().find(|view| view.slot == to)?;
        without(&Whole::of(&map.shape, view, calls.held(to))?.sizes(), values.n)
    });
    before.into_iter().chain(after).collect()
}

/// The dimensions of a walk ahead of so many elements at its end.
fn without(walk: &[usize], end: usize) -> Option<Vec<usize>> {
    let (mut behind, mut before) = (1, 1);
    let mut sizes = Vec::new();
    for size in walk.iter().rev() {
        behind *= size;
        if behind >= end {
            let cut = behind.is_multiple_of(end).then_some(behind / end)?;
            sizes.insert(0, cut.is_multiple_of(before).then_some(cut / before)?);
            before = cut;
        }
    }
    Some(sizes)
}

/// Strides of the same rows over other dimensions, where each of a walk's is made of some of these.
fn spread(shape: &[usize], strides: &[i64], over: &[usize]) -> Option<Vec<i64>> {
    let mut own = shape.iter().zip(strides).rev().filter(|(size, _)| **size != 1);
    let (mut left, mut stride) = (1, 0);
    let mut made = vec![0; over.len()];
    for (at, size) in over.iter().enumerate().rev().filter(|(_, size)| **size != 1) {
        if left == 1 {
            let (next, of) = own.next()?;
            (left, stride) = (*next, *of);
        }
        if !left.is_multiple_of(*size) {
            return None;
        }
        made[at] = stride;
        stride *= *size as i64;
        left /= size;
    }
    (left == 1 && own.next().is_none()).then_some(made)
}

/// The dimensions that all of these walks over as many rows have in common.
fn common(walks: &[&[usize]]) -> Option<Vec<usize>> {
    let mut cuts: Vec<usize> = Vec::new();
    for walk in walks {
        let mut behind = 1;
        for size in walk.iter().rev() {
            behind *= size;
            cuts.push(behind);
        }
    }
    cuts.push(1);
    cuts.sort_unstable();
    cuts.dedup();
    let sizes = cuts.windows(2).rev().map(|pair| pair[1].is_multiple_of(pair[0]).then(|| pair[1] / pair[0]));
    sizes.collect()
}

/// Walks over rows of scores, and their strides over the dimensions in common.
struct Rows {
    sizes: Vec<usize>,
    q: Vec<i64>,
    k: Vec<i64>,
    v: Vec<i64>,
    output: Vec<i64>,
    mask: Option<(View, Vec<i64>)>,
}

impl Rows {
    fn of(scores: &Scores<'_>, values: &MatMul, hints: &[Vec<usize>]) -> Option<Self> {
        let (product, keys) = (scores.product, values.k);
        let first = [product.batch.as_slice(), &[product.m]].concat();
        let second = [values.batch.as_slice(), &[values.m]].concat();
        let mask = match scores.mask {
            Some((_, shape)) => Some(without(shape, keys)?),
            None => None,
        };
        let own = [&first, &second].into_iter().chain(&mask).chain(hints);
        let sizes = common(&own.map(Vec::as_slice).collect::<Vec<_>>())?;
        let ahead = |view: &View, len: usize| {
            let mut strides = view.strides[..len].to_vec();
            strides[len - 1] = 0;
            strides
        };
        let over_keys = [sizes.as_slice(), &[keys]].concat();
        let mask = match scores.mask {
            Some((view, shape)) => Some((view.clone(), spread(shape, &view.strides, &over_keys)?)),
            None => None,
        };
        Some(Self {
            q: spread(&first, &product.a.strides[..first.len()], &sizes)?,
            k: spread(&first, &ahead(&product.b, first.len()), &sizes)?,
            v: spread(&second, &ahead(&values.b, second.len()), &sizes)?,
            output: spread(&second, &values.output.strides[..second.len()], &sizes)?,
            mask,
            sizes,
        })
    }

    /// The queries before they were multiplied with a number, and that number.
    fn queries(&mut self, calls: &Calls, product: &MatMul) -> (View, f32) {
        let shape = [self.sizes.as_slice(), &[product.k]].concat();
        let last = product.a.strides[product.a.strides.len() - 1];
        let strides = [self.q.as_slice(), &[last]].concat();
        let view = View { strides, ..product.a };
        let before = scaled(calls, product).and_then(|(map, at, by)| {
            let whole = Whole::of(&map.shape, &map.output, calls.held(view.slot))?;
            Some((whole.through(&whole.steps(&shape, &view)?, &map.inputs[at]), by))
        });
        let (view, factor) = before.unwrap_or((view, 1.0));
        self.q = view.strides[..self.sizes.len()].to_vec();
        (view, factor)
    }

    /// Whether all queries along a dimension see the same keys.
    fn shared(&self, at: usize) -> bool {
        self.k[at] == 0 && self.v[at] == 0
    }
}

/// Which of the dimensions in common are what: as ranges of them.
struct Roles {
    batch: Option<usize>,
    key_head: Option<usize>,
    /// Heads of queries that share one of keys.
    shared: Option<usize>,
    query: Option<usize>,
}

fn roles(rows: &Rows) -> Option<Roles> {
    let mut left: Vec<usize> = (0..rows.sizes.len()).collect();
    let query = left.last().copied().filter(|at| rows.shared(*at));
    if query.is_some() {
        left.pop();
    }
    let shared = left.last().copied().filter(|at| rows.shared(*at));
    if shared.is_some() {
        left.pop();
    }
    let key_head = left.pop();
    let batch = left.pop();
    left.is_empty().then_some(Roles { batch, key_head, shared, query })
}

fn joined(calls: &Calls, scores: &Scores<'_>, values: &MatMul, hints: &[Vec<usize>]) -> Option<Attention> {
    let (product, keys) = (scores.product, values.k);
    let mut walks = Rows::of(scores, values, hints)?;
    let (q, factor) = walks.queries(calls, product);
    let roles = roles(&walks)?;
    let size = |at: Option<usize>| at.map_or(1, |at| walks.sizes[at]);
    let (key_heads, shared) = (size(roles.key_head), size(roles.shared));
    let stride = |strides: &[i64], at: Option<usize>| at.map_or(0, |at| strides[at]);
    // One stride for all heads, those that share keys behind each other.
    let heads = |strides: &[i64]| {
        let (outer, inner) = (stride(strides, roles.key_head), stride(strides, roles.shared));
        match (key_heads, shared) {
            (_, 1) => Some(outer),
            (1, _) => Some(inner),
            _ => (outer == inner * shared as i64).then_some(inner),
        }
    };
    let view = |view: &View, strides: &[i64], last: i64| {
        let (batch, query) = (stride(strides, roles.batch), stride(strides, roles.query));
        let strides = vec![batch, heads(strides)?, query, last];
        Some(View { strides, ..view.clone() })
    };
    let of_keys = |view: &View, strides: &[i64], last: [i64; 2]| {
        let strides = vec![stride(strides, roles.batch), stride(strides, roles.key_head), last[0], last[1]];
        View { strides, ..view.clone() }
    };
    let end = |view: &View| {
        let rank = view.strides.len();
        [view.strides[rank - 2], view.strides[rank - 1]]
    };
    let [across, down] = end(&product.b);
    let mask = match &walks.mask {
        Some((mask, strides)) => Some(view(mask, strides, strides[walks.sizes.len()])?),
        None => None,
    };
    Some(Attention {
        batch: size(roles.batch),
        heads: key_heads * shared,
        key_heads,
        queries: size(roles.query),
        keys,
        size: product.k,
        value_size: values.n,
        q: view(&q, &walks.q, end(&q)[1])?,
        k: of_keys(&product.b, &walks.k, [down, across]),
        v: of_keys(&values.b, &walks.v, end(&values.b)),
        mask,
        lengths: None,
        causal: false,
        window: None,
        scale: scores.scale * factor,
        softcap: None,
        output: view(&values.output, &walks.output, end(&values.output)[1])?,
    })
}
