//! Maps into the map that alone reads them.

use super::{
    calls::Calls,
    formulas::{filled, simple, size},
    views::Whole,
};
use crate::kernels::{
    ir::{Call, Expr, MAP_INPUTS_MAX, Map, RANK_MAX, Slot, View},
    lower::merge,
};

/// Parts of an expression, beyond which a kernel's source would be longer than it is worth.
const EXPR_MAX: usize = 64;

pub(super) fn fuse(calls: &mut Calls) {
    for at in 0..calls.len() {
        while let Some((map, gone)) = calls.map(at).and_then(|map| step(calls, at, map)) {
            if !calls.replace(at, Call::Map(map), &[gone]) {
                break;
            }
        }
        if let Some(map) = calls.map(at) {
            let expr = simple(map.expr.clone());
            if expr != map.expr {
                let map = Map { expr, ..map.clone() };
                calls.replace(at, Call::Map(map), &[]);
            }
        }
    }
}

/// A map with one of those that it reads in it, and where that stood.
fn step(calls: &Calls, at: usize, map: &Map) -> Option<(Map, usize)> {
    map.inputs.iter().find_map(|input| {
        let maker = calls.maker(input.slot)?;
        let made = calls.map(maker)?;
        if calls.reader(input.slot) != Some(at) {
            return None;
        }
        Some((joined(made, map, calls.held(input.slot))?, maker))
    })
}

/// A map that reads what the other reads, in its place.
fn joined(made: &Map, map: &Map, held: usize) -> Option<Map> {
    let slot = made.output.slot;
    let whole = Whole::of(&made.shape, &made.output, held)?;
    let mut map = map.clone();
    let count = |map: &Map| map.shape.iter().product::<usize>();
    let views: Vec<&View> = map.inputs.iter().filter(|view| view.slot == slot).collect();
    // What is computed once must not be computed again for each of many that read it.
    if made.expr != Expr::Input(0) && views.len() * count(&map) > count(made) {
        return None;
    }
    split(&mut map, slot, &whole);
    let mut inputs: Vec<View> = Vec::new();
    let mut input = |view: View| {
        let at = inputs.iter().position(|known| *known == view).unwrap_or_else(|| {
            inputs.push(view);
            inputs.len() - 1
        });
        Expr::Input(at)
    };
    let mut terms = Vec::with_capacity(map.inputs.len());
    for view in &map.inputs {
        terms.push(if view.slot == slot {
            let steps = whole.steps(&map.shape, view)?;
            let own = made.inputs.iter().map(|view| input(whole.through(&steps, view)));
            filled(&made.expr, &own.collect::<Vec<_>>())
        } else {
            input(view.clone())
        });
    }
    let expr = filled(&map.expr, &terms);
    let mut map = Map { inputs, expr, ..map };
    merge(&mut map);
    let fits =
        map.inputs.len() <= MAP_INPUTS_MAX && map.shape.len() <= RANK_MAX && size(&map.expr) <= EXPR_MAX;
    fits.then_some(map)
}

/// Splits dimensions of a map until each goes along one of what it reads.
fn split(map: &mut Map, slot: Slot, whole: &Whole) {
    let next = |map: &Map| {
        let mut own = map.inputs.iter().filter(|view| view.slot == slot);
        own.find_map(|view| whole.split(&map.shape, view))
    };
    while let Some((at, inner)) = next(map) {
        map.shape[at] /= inner;
        map.shape.insert(at + 1, inner);
        for view in map.inputs.iter_mut().chain([&mut map.output]) {
            let stride = view.strides[at];
            view.strides[at] = stride * inner as i64;
            view.strides.insert(at + 1, stride);
        }
    }
}
