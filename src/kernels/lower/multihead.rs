//! ONNX Runtime's attention with as many heads of keys as of queries.

use super::{
    LowerError,
    attention::{Parts, additive, grown, lengths, split},
    builder::Builder,
    products::{After, NOTHING, product},
    site::Site,
    value::Value,
};
use crate::kernels::ir::Expr;

/// Factors of scores are given where they are not 0.
fn scale(site: &Site<'_>) -> Option<f32> {
    Some(site.real("scale", 0.0)).filter(|scale| *scale != 0.0)
}

fn without(site: &Site<'_>, inputs: &[(usize, &str)]) -> Result<(), LowerError> {
    match inputs.iter().find(|(at, _)| site.optional(*at).is_some()) {
        Some((_, name)) => Err(site.refuse(format!("has {name}"))),
        None => Ok(()),
    }
}

fn heads(site: &Site<'_>) -> Result<usize, LowerError> {
    site.size(site.number("num_heads", 0))
}

pub(super) fn multihead(builder: &mut Builder, site: &Site<'_>) -> Result<Vec<Value>, LowerError> {
    without(site, &[(8, "past_sequence_length"), (9, "cache_indirection")])?;
    if site.wants(3) {
        return Err(site.refuse("is asked for its scores"));
    }
    let heads = heads(site)?;
    let (q, Some(k), Some(v)) = (site.input(0)?, site.optional(1), site.optional(2)) else {
        return Err(site.refuse("has queries, keys and values in one"));
    };
    let widths = [q, k, v].map(|value| if value.rank() == 3 { value.shape[2] } else { 0 });
    let mut from = 0;
    let mut biased = Vec::new();
    for (value, width) in [q, k, v].into_iter().zip(widths) {
        let of = site.optional(3).filter(|_| width > 0);
        let value = match of {
            Some(bias) if bias.rank() == 1 && from + width <= bias.len() => {
                let terms = [value.clone(), bias.sliced(0, from, 1, width)];
                builder.map(&value.shape, &terms, value.datatype, Expr::Input(0) + Expr::Input(1))?
            }
            Some(bias) => return Err(site.refuse(format!("adds a bias of {:?}", bias.shape))),
            None => value.clone(),
        };
        from += width;
        biased.push(split(builder, site, &value, heads)?);
    }
    let [q, k, v] = <[Value; 3]>::try_from(biased).expect("one for each");
    if q.rank() != 4 || q.shape[1] != heads || k.shape[1] != heads {
        return Err(site.refuse(format!("attends with {:?} to {:?} in {heads} heads", q.shape, k.shape)));
    }
    let past = site.optional(6);
    let k = grown(builder, site, past, k)?;
    let v = grown(builder, site, site.optional(7), v)?;
    let mut parts = Parts::new(q, k, v, scale(site));
    masked(builder, site, &mut parts, [site.optional(4), site.optional(5)], past.is_some())?;
    if site.number("unidirectional", 0) != 0 {
        parts.see_before(builder, past.map_or(0, |past| past.shape[2]))?;
    }
    let output = parts.joined(builder, site)?;
    Ok(vec![output, parts.k, parts.v])
}

/// By a mask of keys, of whole numbers, and by what is added to the scores.
fn masked(
    builder: &mut Builder,
    site: &Site<'_>,
    parts: &mut Parts,
    [keys, bias]: [Option<&Value>; 2],
    past: bool,
) -> Result<(), LowerError> {
    let (batch, away) = (parts.q.shape[0], site.real("mask_filter_value", -10_000.0));
    let total = parts.keys();
    if let Some(mask) = keys {
        let wide = match mask.shape[..] {
            [count] if count == batch && !past => {
                parts.lengths = Some(lengths(builder, mask)?);
                None
            }
            [of, count] if of == batch && count == total => Some([batch, 1, 1, total]),
            [of, queries, count] if of == batch && count == total && queries == parts.queries() => {
                Some([batch, 1, queries, total])
            }
            _ => return Err(site.refuse(format!("masks with {:?}", mask.shape))),
        };
        if let Some(wide) = wide {
            let mask = additive(builder, mask, away)?;
            let mask = builder.reshape(&mask, &wide)?;
            parts.add_mask(builder, mask)?;
        }
    }
    if let Some(bias) = bias {
        if bias.rank() != 4 || !parts.bears(bias) {
            return Err(site.refuse(format!("adds {:?} to its scores", bias.shape)));
        }
        parts.add_mask(builder, bias.clone())?;
    }
    Ok(())
}

/// With the weights that make queries, keys and values of one input.
pub(super) fn projected(builder: &mut Builder, site: &Site<'_>) -> Result<Vec<Value>, LowerError> {
    without(site, &[(6, "past_sequence_length")])?;
    if site.number("do_rotary", 0) != 0 || site.number("past_present_share_buffer", 0) != 0 {
        return Err(site.refuse("has do_rotary or past_present_share_buffer"));
    }
    let (x, weights, heads) = (site.input(0)?, site.input(1)?, heads(site)?);
    if x.rank() != 3 || weights.rank() != 2 {
        return Err(site.refuse(format!("projects {:?} by {:?}", x.shape, weights.shape)));
    }
    let width = weights.shape[1];
    let widths = match site.numbers("qkv_hidden_sizes") {
        Some(&[q, k, v]) => [site.size(q)?, site.size(k)?, site.size(v)?],
        Some(sizes) if !sizes.is_empty() => {
            return Err(site.refuse(format!("has qkv_hidden_sizes {sizes:?}")));
        }
        _ => [width / 3; 3],
    };
    if widths.iter().sum::<usize>() != width {
        return Err(site.refuse(format!("splits {width} into {widths:?}")));
    }
    let after = After { bias: site.optional(2), ..NOTHING };
    let all = product(builder, site, x, weights, after)?;
    let mut from = 0;
    let mut part = |width: usize| {
        from += width;
        split(builder, site, &all.sliced(2, from - width, 1, width), heads)
    };
    let (q, mut k, mut v) = (part(widths[0])?, part(widths[1])?, part(widths[2])?);
    let mut before = 0;
    let mut outputs = Vec::new();
    if site.optional(4).is_some() || site.wants(1) {
        let present = kept(builder, site, &k, &v)?;
        (k, v) = (present.at(0, 0), present.at(0, 1));
        before = k.shape[2] - q.shape[2];
        outputs.push(present);
    }
    let mut parts = Parts::new(q, k, v, scale(site));
    masked(builder, site, &mut parts, [site.optional(3), site.optional(5)], site.optional(4).is_some())?;
    if site.number("unidirectional", 0) != 0 {
        parts.see_before(builder, before)?;
    }
    outputs.insert(0, parts.joined(builder, site)?);
    Ok(outputs)
}

/// Keys and values with what was kept of them: `[2, batch, heads, rows, size]`.
fn kept(builder: &mut Builder, site: &Site<'_>, k: &Value, v: &Value) -> Result<Value, LowerError> {
    let past = site.optional(4);
    if k.shape != v.shape || past.is_some_and(|past| past.rank() != 5 || past.shape[0] != 2) {
        return Err(site.refuse("keeps keys and values of different sizes"));
    }
    let k = grown(builder, site, past.map(|past| past.at(0, 0)).as_ref(), k.clone())?;
    let v = grown(builder, site, past.map(|past| past.at(0, 1)).as_ref(), v.clone())?;
    let pair = [k, v].map(|value| Value {
        shape: [&[1], value.shape.as_slice()].concat(),
        strides: [&[0], value.strides.as_slice()].concat(),
        ..value
    });
    builder.concat(&pair, 0)
}
