//! Attention, rotation by position, and what is kept for later steps.

use super::{Fault, Memory, floats, ints, places, write};
use crate::kernels::{
    host::Host,
    ir::{Attention, Keep, Rotary, View},
};

pub(super) fn attention(call: &Attention, memory: &mut Memory) {
    let Attention { batch, heads, key_heads, queries, keys, size, value_size, .. } = *call;
    let read = |shape: [usize; 4], view: &View| {
        memory[&view.slot].at(&places(&shape, view)).floats().expect("floats").to_vec()
    };
    let q = read([batch, heads, queries, size], &call.q);
    let k = read([batch, key_heads, keys, size], &call.k);
    let v = read([batch, key_heads, keys, value_size], &call.v);
    let mask = call.mask.as_ref().map(|mask| read([batch, heads, queries, keys], mask));
    let lengths = call.lengths.map(|lengths| ints(memory, lengths));
    let mut made = Vec::with_capacity(batch * heads * queries * value_size);
    for at in 0..batch * heads * queries {
        let (one, head, query) = (at / queries / heads, at / queries % heads, at % queries);
        let kept = lengths.map_or(keys, |lengths| usize::try_from(lengths[one]).unwrap_or(0).min(keys));
        let seen = seen(call, query, kept);
        let first = (one * key_heads + head * key_heads / heads) * keys;
        let q = &q[at * size..][..size];
        let score = |key: usize| {
            let k = &k[(first + key) * size..][..size];
            let product = q.iter().zip(k).map(|(q, k)| f64::from(*q) * f64::from(*k)).sum::<f64>();
            let score = product * f64::from(call.scale);
            let score = call.softcap.map_or(score, |cap| f64::from(cap) * (score / f64::from(cap)).tanh());
            mask.as_ref().map_or(score, |mask| score + f64::from(mask[at * keys + key]))
        };
        let scores: Vec<f64> = seen.clone().map(score).collect();
        let most = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let shares: Vec<f64> = scores.iter().map(|score| (score - most).exp()).collect();
        let all: f64 = shares.iter().sum();
        for column in 0..value_size {
            let values = seen.clone().map(|key| f64::from(v[(first + key) * value_size + column]));
            let sum: f64 = shares.iter().zip(values).map(|(share, value)| share * value).sum();
            // Who sees nothing takes nothing.
            made.push(if scores.is_empty() || most == f64::NEG_INFINITY { 0.0 } else { (sum / all) as f32 });
        }
    }
    write(memory, &[batch, heads, queries, value_size], &call.output, &Host::F32(made));
}

/// The keys that a query sees, of those that its batch has.
fn seen(call: &Attention, query: usize, kept: usize) -> std::ops::Range<usize> {
    let own = (query + kept).checked_sub(call.queries);
    let end = if call.causal { own.map_or(0, |own| (own + 1).min(kept)) } else { kept };
    let start = call.window.map_or(0, |window| own.unwrap_or(0).saturating_sub(window));
    start.min(end)..end
}

pub(super) fn rotary(call: &Rotary, memory: &mut Memory) -> Result<(), Fault> {
    let Rotary { batch, heads, rows, size, turned, .. } = *call;
    let shape = [batch, heads, rows, size];
    let input = memory[&call.input.slot].at(&places(&shape, &call.input));
    let mut made = input.floats().expect("floats").to_vec();
    let (cos, sin, positions) =
        (floats(memory, call.cos), floats(memory, call.sin), ints(memory, call.positions));
    let half = turned / 2;
    for (at, row) in made.chunks_exact_mut(size).enumerate() {
        let (one, place) = (at / rows / heads, at % rows);
        let position =
            if call.positions_len == 1 { positions[0] + place as i64 } else { positions[one * rows + place] };
        let within = usize::try_from(position).ok().filter(|position| *position < call.positions_max);
        let angles = within.ok_or(Fault::Index)? * half;
        for pair in 0..half {
            let (cos, sin) = (cos[angles + pair], sin[angles + pair]);
            let (left, right) = if call.interleaved { (2 * pair, 2 * pair + 1) } else { (pair, pair + half) };
            let (x, y) = (row[left], row[right]);
            row[left] = x * cos - y * sin;
            row[right] = y * cos + x * sin;
        }
    }
    write(memory, &shape, &call.output, &Host::F32(made));
    Ok(())
}

pub(super) fn keep(call: &Keep, memory: &mut Memory) -> Result<(), Fault> {
    let Keep { batch, heads, rows, size, room, .. } = *call;
    let shape = [batch, heads, rows, size];
    let input = memory[&call.input.slot].at(&places(&shape, &call.input));
    let first = usize::try_from(ints(memory, call.at)[0]).ok();
    let first = first.filter(|first| first + rows <= call.rows_max).ok_or(Fault::Index)?;
    let strides = [heads * room * size, room * size, size, 1].map(|stride| stride as i64).to_vec();
    write(memory, &shape, &View { slot: call.output, offset: first * size, strides }, &input);
    Ok(())
}
