//! ONNX Runtime's attention with a cache, and with heads of queries that share those of keys.
//!
//! Covered are a cache that is kept ([`super::caches`]); the first prompt, whose keys are its own; further tokens behind a cache that grows by them; a single token in a
//! cache of fixed capacity, at the place that `seqlens_k` says for each of the batch; and several tokens in such a cache for
//! a batch of one. What comes out is always a cache of its own, never the one that came in.

use super::{
    LowerError,
    attention::{Parts, grown, lengths, softcap, split},
    builder::Builder,
    rotary::{Turn, turn},
    site::Site,
    value::Value,
};
use crate::{
    domain::Datatype,
    kernels::ir::{Binary, Call, Expr, Gather},
};

/// Where the new tokens stand.
enum Place {
    /// At the beginning.
    First,
    /// Behind all that the cache has.
    Behind,
    /// Behind as many as `seqlens_k` says, which counts the new ones but for one.
    Within,
    /// Behind as many as the step says, in a cache that stays where it is.
    Kept,
}

impl Place {
    /// In a cache that comes and goes.
    fn of(
        site: &Site<'_>,
        (batch, queries): (usize, usize),
        capacity: usize,
        total: usize,
    ) -> Result<Self, LowerError> {
        if total == queries {
            Ok(Self::First)
        } else if batch == 1 && capacity + queries == total {
            Ok(Self::Behind)
        } else if queries == 1 || batch == 1 && capacity >= total {
            Ok(Self::Within)
        } else {
            let all = format!("has {queries} tokens of {batch} in a cache of {capacity}, {total} in all");
            Err(site.refuse(all))
        }
    }
}

pub(super) fn grouped(builder: &mut Builder, site: &Site<'_>) -> Result<Vec<Value>, LowerError> {
    refused(site)?;
    let [heads, key_heads] = [site.number("num_heads", 0), site.number("kv_num_heads", 0)];
    let (heads, key_heads) = (site.size(heads)?, site.size(key_heads)?);
    let [q, k, v] = apart(builder, site, heads, key_heads)?;
    let ([batch, _, queries, _], [_, _, rows, _]) = (&q.shape[..], &k.shape[..]) else {
        unreachable!("four dimensions")
    };
    let (batch, queries) = (*batch, *queries);
    if *rows != queries {
        return Err(site.refuse(format!("has {queries} queries and {rows} keys")));
    }
    let (seqlens, total) = (site.input(5)?, site.input(6)?);
    if seqlens.len() != batch {
        return Err(site.refuse(format!("has seqlens_k of {:?} for {batch}", seqlens.shape)));
    }
    let past = [site.optional(3), site.optional(4)].map(|past| past.filter(|past| past.len() > 0));
    let capacity = past[0].map_or(0, |past| past.shape[2]);
    let is_kept = past.iter().flatten().any(|past| builder.cached(past).is_some());
    let (place, total) = if is_kept {
        (Place::Kept, capacity)
    } else {
        let total = builder.numbers(site, total)?;
        let total = site.size(total.first().copied().unwrap_or(0))?;
        (Place::of(site, (batch, queries), capacity, total)?, total)
    };
    let (q, k) = turned(builder, site, q, k, (&place, total))?;
    let mut cache = |past, new: &Value| match place {
        Place::First => filled(builder, new, capacity),
        Place::Behind | Place::Kept => grown(builder, site, past, new.clone()),
        Place::Within if queries == 1 => placed(builder, site, past, new, total),
        Place::Within => moved(builder, site, past, new),
    };
    let (present_k, present_v) = (cache(past[0], &k)?, cache(past[1], &v)?);
    let (k, v) = match place {
        Place::First => (k, v),
        _ => (present_k.sliced(2, 0, 1, total), present_v.sliced(2, 0, 1, total)),
    };
    let scale = Some(site.real("scale", 0.0)).filter(|scale| *scale != 0.0);
    let mut parts = Parts::new(q, k, v, scale);
    parts.causal = true;
    parts.softcap = softcap(site);
    parts.window =
        usize::try_from(site.number("local_window_size", -1)).ok().and_then(|size| size.checked_sub(1));
    let counted = match place {
        Place::First | Place::Behind => None,
        Place::Within => Some((seqlens.shape.clone(), seqlens.clone(), 1)),
        Place::Kept => Some((vec![batch], builder.position().clone(), queries as i32)),
    };
    if let Some((shape, before, own)) = counted {
        let with_own = Expr::Input(0) + Expr::Int(own);
        let counted = builder.map(&shape, &[before], Datatype::Int32, with_own)?;
        parts.lengths = Some(lengths(builder, &counted)?);
    }
    if let Some(bias) = site.optional(10) {
        if bias.rank() != 4 || !parts.bears(bias) {
            return Err(site.refuse(format!("adds {:?} to its scores", bias.shape)));
        }
        parts.add_mask(builder, bias.clone())?;
    }
    Ok(vec![parts.joined(builder, site)?, present_k, present_v])
}

fn refused(site: &Site<'_>) -> Result<(), LowerError> {
    let inputs =
        [(11, "head_sink"), (12, "k_scale"), (13, "v_scale"), (14, "q_norm_weight"), (15, "k_norm_weight")];
    let attributes = [("smooth_softmax", 0), ("qk_output", 0), ("sliding_window_cache", 0), ("causal", 1)];
    let given = inputs.into_iter().find(|(at, _)| site.optional(*at).is_some()).map(|(_, name)| name);
    let other = attributes.into_iter().find(|(name, usual)| site.number(name, *usual) != *usual);
    match given.or(other.map(|(name, _)| name)) {
        Some(name) => Err(site.refuse(format!("has {name}"))),
        None => Ok(()),
    }
}

/// Queries, keys and values by heads, of three inputs or of one.
fn apart(
    builder: &mut Builder,
    site: &Site<'_>,
    heads: usize,
    key_heads: usize,
) -> Result<[Value; 3], LowerError> {
    let q = site.input(0)?;
    let all = heads + 2 * key_heads;
    match (site.optional(1), site.optional(2)) {
        (Some(k), Some(v)) if q.rank() == 3 && k.rank() == 3 && v.rank() == 3 => Ok([
            split(builder, site, q, heads)?,
            split(builder, site, k, key_heads)?,
            split(builder, site, v, key_heads)?,
        ]),
        (None, None) if q.rank() == 3 && all > 0 && q.shape[2].is_multiple_of(all) => {
            let size = q.shape[2] / all;
            let part = |from: usize, heads: usize| q.sliced(2, from * size, 1, heads * size);
            Ok([
                split(builder, site, &part(0, heads), heads)?,
                split(builder, site, &part(heads, key_heads), key_heads)?,
                split(builder, site, &part(heads + key_heads, key_heads), key_heads)?,
            ])
        }
        _ => Err(site.refuse(format!("attends with {:?}", q.shape))),
    }
}

/// Queries and keys turned by their positions, where that is asked for.
fn turned(
    builder: &mut Builder,
    site: &Site<'_>,
    q: Value,
    k: Value,
    (place, total): (&Place, usize),
) -> Result<(Value, Value), LowerError> {
    if site.number("do_rotary", 0) == 0 {
        return Ok((q, k));
    }
    let (cos, sin, seqlens) = (site.input(7)?, site.input(8)?, site.input(5)?);
    let queries = q.shape[2];
    let positions = match (site.optional(9), place) {
        (Some(given), Place::First) if given.rank() == 2 && given.len() > 0 => {
            given.sliced(0, 0, 1, 1).sliced(1, 0, 1, 1)
        }
        (Some(given), _) => given.clone(),
        (None, Place::First) => builder.ints(vec![0]),
        (None, Place::Kept) => builder.position().clone(),
        (None, Place::Behind) => builder.ints(vec![(total - queries) as i64]),
        (None, Place::Within) => {
            let first = Expr::Input(0) + Expr::Int(1 - queries as i32);
            builder.map(&seqlens.shape, std::slice::from_ref(seqlens), Datatype::Int32, first)?
        }
    };
    let by = Turn { cos, sin, positions: &positions, interleaved: site.number("rotary_interleaved", 0) != 0 };
    let mut made = Vec::new();
    for value in [&q, &k] {
        let output = builder.fresh(value.datatype, &value.shape)?;
        turn(builder, site, value, &by, &output)?;
        made.push(output);
    }
    let [q, k] = <[Value; 2]>::try_from(made).expect("one for each");
    Ok((q, k))
}

/// A first prompt in a cache of that capacity; with less, the cache is as long as the prompt.
fn filled(builder: &mut Builder, new: &Value, capacity: usize) -> Result<Value, LowerError> {
    let Some(rest) = capacity.checked_sub(new.shape[2]).filter(|rest| *rest > 0) else {
        return Ok(new.clone());
    };
    let mut shape = new.shape.clone();
    shape[2] = rest;
    let zero = builder.floats(&[1; 4], vec![0.0]).expanded(&shape).typed(new.datatype);
    builder.concat(&[new.clone(), zero], 2)
}

/// One token of each of the batch at its place.
fn placed(
    builder: &mut Builder,
    site: &Site<'_>,
    past: Option<&Value>,
    new: &Value,
    total: usize,
) -> Result<Value, LowerError> {
    let capacity = past.map_or(0, |past| past.shape[2]);
    let mut shape = new.shape.clone();
    shape[2] = capacity.max(total);
    let at = builder.reshape(site.input(5)?, &[shape[0], 1, 1, 1])?;
    let rows = builder.counted(4, 2, shape[2]);
    let present = builder.fresh(new.datatype, &shape)?;
    let here = Expr::Input(0).with(Binary::Equal, Expr::Input(1));
    let mut calls = Vec::new();
    if let Some(past) = past {
        if [0, 1, 3].iter().any(|at| past.shape[*at] != new.shape[*at]) {
            return Err(site.refuse(format!("keeps {:?}, which {:?} does not fit", past.shape, new.shape)));
        }
        let before = Expr::Input(0).with(Binary::Less, Expr::Input(1));
        let kept = before.choose(Expr::Input(3), Expr::Float(0.0));
        let terms = [rows.sliced(2, 0, 1, capacity), at.clone(), new.clone(), past.clone()];
        let part = present.sliced(2, 0, 1, capacity);
        calls.extend(Builder::mapping(
            &past.shape,
            &terms,
            &part,
            here.clone().choose(Expr::Input(2), kept),
        )?);
    }
    let part = present.sliced(2, capacity, 1, shape[2] - capacity);
    let terms = [rows.sliced(2, capacity, 1, shape[2] - capacity), at, new.clone()];
    let expr = here.choose(Expr::Input(2), Expr::Float(0.0));
    calls.extend(Builder::mapping(&part.shape, &terms, &part, expr)?);
    builder.emit(calls, &present);
    Ok(present)
}

/// Several tokens of a batch of one at their places: the cache and the tokens behind each other, gathered.
fn moved(
    builder: &mut Builder,
    site: &Site<'_>,
    past: Option<&Value>,
    new: &Value,
) -> Result<Value, LowerError> {
    let (tokens, together) = (new.shape[2], grown(builder, site, past, new.clone())?);
    let capacity = together.shape[2] - tokens;
    let (rows, last) =
        (builder.counted(1, 0, capacity), site.input(5)?.reshaped(&[1]).expect("a batch of one"));
    let row = || Expr::Input(0);
    let start = || Expr::Input(1) + Expr::Int(1 - tokens as i32);
    let new_row = row() - start() + Expr::Int(capacity as i32);
    let from_start = start().with(Binary::LessOrEqual, row());
    let is_new = from_start.with(Binary::And, row().with(Binary::LessOrEqual, Expr::Input(1)));
    let indices = builder.map(&[capacity], &[rows, last], Datatype::Int32, is_new.choose(new_row, row()))?;
    let together = builder.dense(&together)?;
    let mut shape = new.shape.clone();
    shape[2] = capacity;
    let present = builder.fresh(new.datatype, &shape)?;
    let call = Gather {
        data: together.slot,
        indices: indices.slot,
        output: present.slot,
        outer: shape[0] * shape[1],
        axis: capacity + tokens,
        count: capacity,
        inner: shape[3],
    };
    builder.emit(vec![Call::Gather(call)], &present);
    Ok(present)
}
