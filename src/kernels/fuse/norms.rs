//! Norms that are written out, and what is added before a norm.

use super::{
    calls::Calls,
    views::{Whole, dense, lies},
};
use crate::kernels::ir::{Binary, Call, Expr, Map, Norm, NormKind, Reduce, ReduceOp, Slot, Unary, View};

/// An addition into the norm that reads it, which keeps the sum where others read it after.
pub(super) fn skips(calls: &mut Calls) {
    for at in 0..calls.len() {
        let Some((norm, maker)) = skip(calls, at) else { continue };
        calls.replace(at, Call::Norm(norm), &[maker]);
    }
}

fn skip(calls: &Calls, at: usize) -> Option<(Norm, usize)> {
    let Some(Call::Norm(norm)) = calls.call(at) else { return None };
    let sum = norm.input;
    let maker = calls.maker(sum)?;
    let map = calls.map(maker)?;
    let Expr::Binary(Binary::Add, a, b) = &map.expr else { return None };
    let (Expr::Input(a), Expr::Input(b)) = (&**a, &**b) else { return None };
    let len = norm.rows * norm.len;
    let whole = |view: &View| lies(view, &map.shape, &dense(&map.shape)) && calls.held(view.slot) == len;
    let (a, b) = (&map.inputs[*a], &map.inputs[*b]);
    let later = calls.readers(sum).iter().all(|reader| *reader >= at);
    if norm.skip.is_some() || !later || ![a, b, &map.output].into_iter().all(whole) {
        return None;
    }
    let kept = calls.reader(sum).is_none();
    Some((Norm { input: a.slot, skip: Some(b.slot), sum: kept.then_some(sum), ..norm.clone() }, maker))
}

/// Norms of means, squares and roots.
pub(super) fn written(calls: &mut Calls) {
    for at in 0..calls.len() {
        if let Some(norm) = calls.map(at).and_then(|map| norm(calls, map)) {
            calls.replace(at, Call::Norm(norm), &[]);
        }
    }
}

/// A part of an expression, and the map that it is of.
#[derive(Clone, Copy)]
struct Part<'m> {
    expr: &'m Expr,
    map: &'m Map,
}

impl<'m> Part<'m> {
    fn of(&self, expr: &'m Expr) -> Self {
        Self { expr, map: self.map }
    }

    fn input(&self) -> Option<&'m View> {
        if let Expr::Input(at) = self.expr { Some(&self.map.inputs[*at]) } else { None }
    }
}

/// What is multiplied and what it is divided by.
#[derive(Default)]
struct Factors<'m> {
    above: Vec<Part<'m>>,
    below: Vec<Part<'m>>,
}

impl<'m> Factors<'m> {
    fn add(&mut self, part: Part<'m>, above: bool) {
        match part.expr {
            Expr::Binary(Binary::Mul, a, b) => {
                self.add(part.of(a), above);
                self.add(part.of(b), above);
            }
            Expr::Binary(Binary::Div, a, b) => {
                self.add(part.of(a), above);
                self.add(part.of(b), !above);
            }
            Expr::Unary(Unary::Reciprocal, x) => self.add(part.of(x), !above),
            Expr::Float(1.0) => {}
            _ if above => self.above.push(part),
            _ => self.below.push(part),
        }
    }
}

/// What a written norm is made of.
struct Written<'m> {
    calls: &'m Calls,
    map: &'m Map,
    rows: usize,
    len: usize,
}

fn norm(calls: &Calls, map: &Map) -> Option<Norm> {
    let whole = Part { expr: &map.expr, map };
    let (product, bias) = match &map.expr {
        Expr::Binary(Binary::Add, a, b) => [(a, b), (b, a)].into_iter().find_map(|(product, bias)| {
            let bias = whole.of(bias).input()?;
            (!matches!(**product, Expr::Input(_))).then_some((whole.of(product), Some(bias)))
        })?,
        _ => (whole, None),
    };
    let mut factors = Factors::default();
    factors.add(product, true);
    // The root stands in a map of its own where it is one for a whole row.
    let mut split = Factors::default();
    let Factors { above, below } = factors;
    for (parts, above) in [(above, true), (below, false)] {
        for part in parts {
            let own = part.input().and_then(|view| calls.made_by(view.slot));
            let root = own.filter(|own| has_root(&own.expr)).map(|own| Part { expr: &own.expr, map: own });
            split.add(root.unwrap_or(part), above);
        }
    }
    let [root] = split.below[..] else { return None };
    let Expr::Unary(Unary::Sqrt, square) = root.expr else { return None };
    let (square, epsilon) = match &**square {
        Expr::Binary(Binary::Add, a, b) => match (&**a, &**b) {
            (square, Expr::Float(epsilon)) | (Expr::Float(epsilon), square) => {
                (root.of(square).input()?, *epsilon)
            }
            _ => return None,
        },
        _ => return None,
    };
    let Some(Call::Reduce(mean)) = calls.maker(square.slot).and_then(|at| calls.call(at)) else {
        return None;
    };
    let Reduce { op: ReduceOp::Mean, outer: rows, len, inner: 1, input: squares, .. } = *mean else {
        return None;
    };
    let squares = calls.made_by(squares)?;
    let norm = Written { calls, map, rows, len };
    let rest = split.above;
    rest.iter().enumerate().find_map(|(at, x)| {
        let scale = match rest.len() {
            1 => None,
            2 => Some(rest[1 - at].input()?),
            _ => return None,
        };
        norm.of(*x, squares, (scale, bias), epsilon)
    })
}

fn has_root(expr: &Expr) -> bool {
    match expr {
        Expr::Unary(Unary::Sqrt, _) => true,
        Expr::Unary(Unary::Reciprocal, x) => has_root(x),
        Expr::Binary(Binary::Div, a, b) => **a == Expr::Float(1.0) && has_root(b),
        _ => false,
    }
}

impl Written<'_> {
    fn of(
        &self,
        x: Part<'_>,
        squares: &Map,
        (scale, bias): (Option<&View>, Option<&View>),
        epsilon: f32,
    ) -> Option<Norm> {
        let squared = Part { expr: squared(&squares.expr)?, map: squares };
        let (kind, input) = match (self.deviation(x), self.deviation(squared)) {
            (Some(own), Some(other)) if own == other => (NormKind::Layer, own),
            (None, None) => {
                let (own, other) = (self.whole(x)?, self.whole(squared)?);
                (NormKind::Rms, (own == other).then_some(own)?)
            }
            _ => return None,
        };
        if kind == NormKind::Rms && bias.is_some() {
            return None;
        }
        // Rows of the output lie as those of the means do.
        let own = Whole::of(&self.map.shape, &self.map.output, self.calls.held(self.map.output.slot))?;
        let shape = [self.rows, self.len];
        let rows = View { slot: self.map.output.slot, offset: 0, strides: dense(&shape) };
        let steps = own.steps(&shape, &rows)?;
        let along = |view: Option<&View>| match view {
            None => Some(None),
            Some(view) => {
                let view = own.through(&steps, view);
                let fits = lies(&view, &shape, &[0, 1]) && self.calls.held(view.slot) == self.len;
                fits.then_some(Some(view.slot))
            }
        };
        Some(Norm {
            kind,
            input,
            skip: None,
            scale: along(scale)?,
            bias: along(bias)?,
            output: self.map.output.slot,
            sum: None,
            rows: self.rows,
            len: self.len,
            epsilon,
        })
    }

    /// The slot that a part reads row by row, all of it.
    fn whole(&self, part: Part<'_>) -> Option<Slot> {
        let view = part.input()?;
        let all = self.calls.held(view.slot) == self.rows * self.len
            && part.map.shape.iter().product::<usize>() == self.rows * self.len;
        let same = [view, &part.map.output]
            .into_iter()
            .all(|view| lies(view, &part.map.shape, &dense(&part.map.shape)));
        (all && same).then_some(view.slot)
    }

    /// The slot whose rows a part has without their means.
    fn deviation(&self, part: Part<'_>) -> Option<Slot> {
        if part.input().is_some() {
            let own = self.calls.made_by(self.whole(part)?)?;
            return match own.expr {
                Expr::Binary(Binary::Sub, ..) => self.deviation(Part { expr: &own.expr, map: own }),
                _ => None,
            };
        }
        let Expr::Binary(Binary::Sub, x, mean) = part.expr else { return None };
        let slot = self.whole(part.of(x))?;
        let mean = self.calls.maker(part.of(mean).input()?.slot).and_then(|at| self.calls.call(at))?;
        let Call::Reduce(Reduce { op: ReduceOp::Mean, input, outer, len, inner: 1, .. }) = mean else {
            return None;
        };
        (*input == slot && (*outer, *len) == (self.rows, self.len)).then_some(slot)
    }
}

/// What is multiplied with itself.
fn squared(expr: &Expr) -> Option<&Expr> {
    match expr {
        Expr::Binary(Binary::Mul, a, b) if a == b => Some(a),
        Expr::Binary(Binary::Pow, a, b) if **b == Expr::Float(2.0) => Some(a),
        _ => None,
    }
}
