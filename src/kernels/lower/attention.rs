//! Attention: what all of its operators share, and ONNX's own.

use super::{
    LowerError,
    builder::Builder,
    grouped, multihead,
    operators::Lower,
    rotary,
    site::Site,
    value::{Value, broadcast},
};
use crate::{
    domain::Datatype,
    kernels::ir::{Attention, Binary, Call, Expr, Slot},
};

/// Added to the score of what must not be seen: its exponential is 0 beside any score that a model has, and it stays finite.
pub(super) const AWAY: f32 = -1e30;

pub(super) fn of(key: (&str, &str)) -> Option<Lower> {
    Some(match key {
        ("", "Attention") => attention,
        ("com.microsoft", "MultiHeadAttention") => multihead::multihead,
        ("com.microsoft", "Attention") => multihead::projected,
        ("com.microsoft", "GroupQueryAttention") => grouped::grouped,
        ("com.microsoft", "RotaryEmbedding") => rotary::microsoft,
        ("", "RotaryEmbedding") => rotary::standard,
        _ => return None,
    })
}

/// All over `[batch, heads, rows, size]`; keys and values may have fewer heads.
pub(super) struct Parts {
    pub(super) q: Value,
    pub(super) k: Value,
    pub(super) v: Value,
    /// Added to the scores, repeated to `[batch, heads, queries, keys]`.
    pub(super) mask: Option<Value>,
    pub(super) lengths: Option<Slot>,
    /// The last query sees the last key.
    pub(super) causal: bool,
    pub(super) window: Option<usize>,
    pub(super) scale: f32,
    pub(super) softcap: Option<f32>,
}

impl Parts {
    pub(super) fn new(q: Value, k: Value, v: Value, scale: Option<f32>) -> Self {
        let scale = scale.unwrap_or_else(|| 1.0 / (q.shape[3] as f32).sqrt());
        Self { q, k, v, mask: None, lengths: None, causal: false, window: None, scale, softcap: None }
    }

    pub(super) fn queries(&self) -> usize {
        self.q.shape[2]
    }

    pub(super) fn keys(&self) -> usize {
        self.k.shape[2]
    }

    /// Lets a query see the keys up to its own place, which `before` others precede.
    pub(super) fn see_before(&mut self, builder: &mut Builder, before: usize) -> Result<(), LowerError> {
        let (queries, keys) = (self.queries(), self.keys());
        if self.lengths.is_some() || keys == queries + before {
            self.causal = true;
            return Ok(());
        }
        let (row, column) = (builder.counted(2, 0, queries), builder.counted(2, 1, keys));
        let behind = Expr::Input(1).with(Binary::Greater, Expr::Input(0) + Expr::Int(before as i32));
        let expr = behind.choose(Expr::Float(AWAY), Expr::Float(0.0));
        let mask = builder.map(&[queries, keys], &[row, column], Datatype::Fp32, expr)?;
        self.add_mask(builder, mask)
    }

    pub(super) fn add_mask(&mut self, builder: &mut Builder, mask: Value) -> Result<(), LowerError> {
        self.mask = Some(match self.mask.take() {
            None => mask,
            Some(other) => {
                let shape = broadcast(&other.shape, &mask.shape).expect("both fit the scores");
                builder.map(&shape, &[other, mask], Datatype::Fp32, Expr::Input(0) + Expr::Input(1))?
            }
        });
        Ok(())
    }

    /// Whether a mask fits the scores.
    pub(super) fn bears(&self, mask: &Value) -> bool {
        let scores = [self.q.shape[0], self.q.shape[1], self.queries(), self.keys()];
        broadcast(&mask.shape, &scores).as_deref() == Some(&scores)
    }

    /// Writes what the queries take from the values to a place that is there, `[batch, heads, queries, size]`.
    pub(super) fn attend(
        &self,
        builder: &mut Builder,
        site: &Site<'_>,
        output: &Value,
    ) -> Result<(), LowerError> {
        let Self { q, k, v, .. } = self;
        let ([batch, heads, queries, size], [_, key_heads, keys, _]) = (sizes(q), sizes(k));
        let value_size = v.shape[3];
        let together =
            k.shape == [batch, key_heads, keys, size] && v.shape == [batch, key_heads, keys, value_size];
        if !together
            || key_heads == 0
            || !heads.is_multiple_of(key_heads)
            || !self.mask.iter().all(|mask| self.bears(mask))
        {
            return Err(site.refuse(format!("attends with {:?} to {:?} and {:?}", q.shape, k.shape, v.shape)));
        }
        if [q, k, v].iter().any(|value| !value.is_float()) {
            return Err(site.refuse("attends to what are no floats"));
        }
        if output.len() == 0 {
            return Ok(());
        }
        if keys == 0 || size == 0 {
            return Err(site.refuse("attends to nothing"));
        }
        let scores = [batch, heads, queries, keys];
        let call = Attention {
            batch,
            heads,
            key_heads,
            queries,
            keys,
            size,
            value_size,
            q: Builder::view(q, &q.shape),
            k: Builder::view(k, &k.shape),
            v: Builder::view(v, &v.shape),
            mask: self.mask.as_ref().map(|mask| Builder::view(mask, &scores)),
            lengths: self.lengths,
            causal: self.causal,
            window: self.window,
            scale: self.scale,
            softcap: self.softcap,
            output: Builder::view(output, &output.shape),
        };
        builder.emit(vec![Call::Attention(call)], output);
        Ok(())
    }

    /// The same as `[batch, queries, heads · size]`.
    pub(super) fn joined(&self, builder: &mut Builder, site: &Site<'_>) -> Result<Value, LowerError> {
        let ([batch, heads, queries, _], size) = (sizes(&self.q), self.v.shape[3]);
        let apart = builder.fresh(self.q.datatype, &[batch, queries, heads, size])?;
        self.attend(builder, site, &apart.transposed(&[0, 2, 1, 3]))?;
        builder.reshape(&apart, &[batch, queries, heads * size])
    }
}

fn sizes(value: &Value) -> [usize; 4] {
    value.shape.as_slice().try_into().expect("four dimensions")
}

/// `[batch, rows, heads · size]` as `[batch, heads, rows, size]`; what has four dimensions stays.
pub(super) fn split(
    builder: &mut Builder,
    site: &Site<'_>,
    value: &Value,
    heads: usize,
) -> Result<Value, LowerError> {
    match value.shape[..] {
        [_, _, _, _] => Ok(value.clone()),
        [batch, rows, width] if heads > 0 && width.is_multiple_of(heads) => {
            Ok(builder.reshape(value, &[batch, rows, heads, width / heads])?.transposed(&[0, 2, 1, 3]))
        }
        _ => Err(site.refuse(format!("splits {:?} into {heads} heads", value.shape))),
    }
}

/// What was kept, and behind it what is new.
pub(super) fn grown(
    builder: &mut Builder,
    site: &Site<'_>,
    past: Option<&Value>,
    new: Value,
) -> Result<Value, LowerError> {
    let Some(past) = past else { return Ok(new) };
    let fits = past.rank() == 4 && [0, 1, 3].iter().all(|at| past.shape[*at] == new.shape[*at]);
    if !fits {
        return Err(site.refuse(format!("keeps {:?}, which {:?} does not fit", past.shape, new.shape)));
    }
    builder.concat(&[past.clone(), new], 2)
}

/// From what is not 0 where something may be seen to what is added to scores.
pub(super) fn additive(builder: &mut Builder, seen: &Value, away: f32) -> Result<Value, LowerError> {
    let expr = Expr::Input(0).choose(Expr::Float(0.0), Expr::Float(away));
    builder.map(&seen.shape, std::slice::from_ref(seen), Datatype::Fp32, expr)
}

pub(super) fn lengths(builder: &mut Builder, value: &Value) -> Result<Slot, LowerError> {
    let whole = builder.cast(value, Datatype::Int32)?;
    Ok(builder.dense(&whole)?.slot)
}

pub(super) fn softcap(site: &Site<'_>) -> Option<f32> {
    Some(site.real("softcap", 0.0)).filter(|cap| *cap != 0.0)
}

fn attention(builder: &mut Builder, site: &Site<'_>) -> Result<Vec<Value>, LowerError> {
    if site.wants(3) {
        return Err(site.refuse("is asked for its scores"));
    }
    let windows = ["left_window_size", "right_window_size"];
    if windows.iter().any(|name| site.number_if_there(name).is_some_and(|size| size >= 0)) {
        return Err(site.refuse("sees a window of keys"));
    }
    let [q_heads, key_heads] = [site.number("q_num_heads", 0), site.number("kv_num_heads", 0)];
    let (q_heads, key_heads) = (site.size(q_heads)?, site.size(key_heads)?);
    let apart = site.input(0)?.rank() == 4;
    let q = split(builder, site, site.input(0)?, q_heads)?;
    let (k, v) =
        (split(builder, site, site.input(1)?, key_heads)?, split(builder, site, site.input(2)?, key_heads)?);
    let past = site.optional(4);
    let k = grown(builder, site, past, k)?;
    let v = grown(builder, site, site.optional(5), v)?;
    let mut parts = Parts::new(q, k, v, site.real_if_there("scale"));
    parts.softcap = softcap(site);
    if let Some(counts) = site.optional(6) {
        if past.is_some() || counts.shape != [parts.q.shape[0]] {
            return Err(site.refuse("has nonpad_kv_seqlen together with a past, or of another size"));
        }
        parts.lengths = Some(lengths(builder, counts)?);
    }
    if let Some(mask) = site.optional(3) {
        let mask = if mask.is_float() { mask.clone() } else { additive(builder, mask, AWAY)? };
        let mask = widened(builder, mask, parts.keys())?;
        if !parts.bears(&mask) {
            return Err(site.refuse(format!("masks with {:?}", mask.shape)));
        }
        parts.add_mask(builder, mask)?;
    }
    if site.number("is_causal", 0) != 0 {
        parts.see_before(builder, past.map_or(0, |past| past.shape[2]))?;
    }
    let output = if apart {
        let shape = [&parts.q.shape[..3], &parts.v.shape[3..]].concat();
        let output = builder.fresh(parts.q.datatype, &shape)?;
        parts.attend(builder, site, &output)?;
        output
    } else {
        parts.joined(builder, site)?
    };
    Ok(vec![output, parts.k, parts.v])
}

/// A mask for fewer keys hides the others.
fn widened(builder: &mut Builder, mask: Value, keys: usize) -> Result<Value, LowerError> {
    match mask.shape.last().copied() {
        Some(last) if last > 1 && last < keys => {
            let mut shape = mask.shape.clone();
            *shape.last_mut().expect("it has one") = keys - last;
            let away = builder.floats(&vec![1; mask.rank()], vec![AWAY]).expanded(&shape);
            let axis = mask.rank() - 1;
            builder.concat(&[mask, away], axis)
        }
        _ => Ok(mask),
    }
}
