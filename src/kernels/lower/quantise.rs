//! Whole numbers for floats, and back: by maps, and products of whole numbers by products of floats.

use super::{
    LowerError,
    builder::Builder,
    elementwise::mapped,
    operators::Lower,
    reduce::reduced,
    site::Site,
    value::{Value, broadcast},
};
use crate::{
    domain::Datatype,
    kernels::ir::{Binary, Call, Expr, MatMul, ReduceOp, To, Unary},
    onnx,
};

pub(super) fn of((domain, operator): (&str, &str)) -> Option<Lower> {
    let lower: Lower = match (domain, operator) {
        ("" | "com.microsoft", "DequantizeLinear") => dequantize,
        ("" | "com.microsoft", "QuantizeLinear") => quantize,
        ("", "DynamicQuantizeLinear") => quantize_dynamically,
        ("", "MatMulInteger") => matmul_integer,
        _ => return None,
    };
    Some(lower)
}

/// Scales or zeros, one for all, one for each place of an axis or one for each block along it, as they are repeated to
/// a shape.
fn along(
    builder: &mut Builder,
    site: &Site<'_>,
    value: &Value,
    shape: &[usize],
) -> Result<Value, LowerError> {
    if value.len() == 1 {
        return builder.reshape(value, &[]);
    }
    let axis = site.axis(site.number("axis", 1), shape.len())?;
    if value.rank() == 1 {
        if value.len() != shape[axis] {
            return Err(site.refuse(format!("has {} scales for {}", value.len(), shape[axis])));
        }
        let mut beside = vec![1; shape.len()];
        beside[axis] = value.len();
        return builder.reshape(value, &beside);
    }
    let block = site.size(site.number("block_size", 0))?;
    let blocks = value.shape.get(axis).copied().unwrap_or_default();
    if block == 0 || value.rank() != shape.len() || blocks * block < shape[axis] {
        return Err(site.refuse(format!("has scales of {:?} for {shape:?}", value.shape)));
    }
    let mut apart = value.clone();
    apart.shape.insert(axis + 1, block);
    apart.strides.insert(axis + 1, 0);
    let mut whole = value.shape.clone();
    whole[axis] = blocks * block;
    Ok(builder.reshape(&apart, &whole)?.sliced(axis, 0, 1, shape[axis]))
}

fn datatype_of(site: &Site<'_>, name: &str, default: Datatype) -> Result<Datatype, LowerError> {
    let code = site.number(name, 0);
    let told = if code == 0 { Some(default) } else { i32::try_from(code).ok().and_then(onnx::datatype) };
    told.ok_or_else(|| site.refuse(format!("makes elements of type {code}, which kernels do not have")))
}

fn dequantize(builder: &mut Builder, site: &Site<'_>) -> Result<Vec<Value>, LowerError> {
    let x = site.input(0)?;
    let scale = along(builder, site, site.input(1)?, &x.shape)?;
    let datatype = datatype_of(site, "output_dtype", scale.datatype)?;
    let zero = site.optional(2).map(|zero| along(builder, site, zero, &x.shape)).transpose()?;
    if x.is_float() || zero.as_ref().is_some_and(Value::is_float) {
        return Err(site.refuse("takes floats of few bits"));
    }
    let values: Vec<&Value> = [x, &scale].into_iter().chain(&zero).collect();
    let made = mapped(builder, site, &values, datatype, |parts| {
        let mut parts = parts.into_iter();
        let [x, scale] = [parts.next(), parts.next()].map(|part| part.expect("both were given"));
        let x = match parts.next() {
            Some(zero) => x - zero,
            None => x,
        };
        x.cast(To::Float) * scale
    })?;
    Ok(vec![made])
}

/// The least and the greatest that a type holds.
fn range(site: &Site<'_>, datatype: Datatype) -> Result<[f32; 2], LowerError> {
    match datatype {
        Datatype::Uint8 => Ok([0.0, 255.0]),
        Datatype::Int8 => Ok([-128.0, 127.0]),
        Datatype::Uint16 => Ok([0.0, 65_535.0]),
        Datatype::Int16 => Ok([-32_768.0, 32_767.0]),
        other => Err(site.refuse(format!("makes {other}"))),
    }
}

/// `round(x / scale) + zero` within a type's range.
fn rounded(x: Expr, scale: Expr, zero: Option<Expr>, [least, most]: [f32; 2]) -> Expr {
    let x = (x / scale).then(Unary::Round);
    let x = match zero {
        Some(zero) => x + zero.cast(To::Float),
        None => x,
    };
    x.clamped(Expr::Float(least), Expr::Float(most)).cast(To::Int)
}

fn quantize(builder: &mut Builder, site: &Site<'_>) -> Result<Vec<Value>, LowerError> {
    let x = site.input(0)?;
    let scale = along(builder, site, site.input(1)?, &x.shape)?;
    let zero = site.optional(2).map(|zero| along(builder, site, zero, &x.shape)).transpose()?;
    let default = zero.as_ref().map_or(Datatype::Uint8, |zero| zero.datatype);
    let datatype = datatype_of(site, "output_dtype", default)?;
    let range = range(site, datatype)?;
    let x = if x.is_float() { x.clone() } else { builder.cast(x, Datatype::Fp32)? };
    let values: Vec<&Value> = [&x, &scale].into_iter().chain(&zero).collect();
    let made = mapped(builder, site, &values, datatype, |parts| {
        let mut parts = parts.into_iter();
        let [x, scale] = [parts.next(), parts.next()].map(|part| part.expect("both were given"));
        rounded(x, scale, parts.next(), range)
    })?;
    Ok(vec![made])
}

fn quantize_dynamically(builder: &mut Builder, site: &Site<'_>) -> Result<Vec<Value>, LowerError> {
    let x = site.input(0)?;
    if x.len() == 0 {
        return Err(site.refuse("takes no elements"));
    }
    let all: Vec<usize> = (0..x.rank()).collect();
    let most = reduced(builder, ReduceOp::Max, x, &all)?;
    let least = reduced(builder, ReduceOp::Min, x, &all)?;
    let (most, least) = (builder.reshape(&most, &[])?, builder.reshape(&least, &[])?);
    let zero = || Expr::Float(0.0);
    let scale = mapped(builder, site, &[&most, &least], Datatype::Fp32, |parts| {
        let [most, least]: [Expr; 2] = parts.try_into().expect("two were given");
        let width = most.with(Binary::Max, zero()) - least.with(Binary::Min, zero());
        let none = width.clone().with(Binary::Equal, zero());
        none.choose(Expr::Float(1.0), width / Expr::Float(255.0))
    })?;
    let range = [0.0, 255.0];
    let middle = mapped(builder, site, &[&least, &scale], Datatype::Uint8, |parts| {
        let [least, scale]: [Expr; 2] = parts.try_into().expect("two were given");
        rounded(zero() - least.with(Binary::Min, zero()), scale, None, range)
    })?;
    let made = mapped(builder, site, &[x, &scale, &middle], Datatype::Uint8, |parts| {
        let [x, scale, middle]: [Expr; 3] = parts.try_into().expect("three were given");
        rounded(x, scale, Some(middle), range)
    })?;
    Ok(vec![made, scale, middle])
}

/// Products of so many numbers of 9 bits are below 2^24, up to which floats are exact.
const EXACT: usize = 256;

fn matmul_integer(builder: &mut Builder, site: &Site<'_>) -> Result<Vec<Value>, LowerError> {
    let left = centred(builder, site, 0, 2)?;
    let right = centred(builder, site, 1, 3)?;
    let shape = |value: &Value| value.shape.last_chunk::<2>().copied();
    let (Some([m, k]), Some([rows, n])) = (shape(&left), shape(&right)) else {
        return Err(site.refuse(format!("multiplies {:?} by {:?}", left.shape, right.shape)));
    };
    let batch = broadcast(&left.shape[..left.rank() - 2], &right.shape[..right.rank() - 2]);
    let batch = batch.filter(|_| rows == k);
    let batch =
        batch.ok_or_else(|| site.refuse(format!("multiplies {:?} by {:?}", left.shape, right.shape)))?;
    let shape = [batch.as_slice(), &[m, n]].concat();
    if shape.contains(&0) || k == 0 {
        return Err(site.refuse("multiplies no elements"));
    }
    let (left, right) = (
        left.expanded(&[batch.as_slice(), &[m, k]].concat()),
        right.expanded(&[batch.as_slice(), &[k, n]].concat()),
    );
    let axis = batch.len();
    let mut sum: Option<Value> = None;
    for from in (0..k).step_by(EXACT) {
        let len = EXACT.min(k - from);
        let output = builder.fresh(Datatype::Fp32, &shape)?;
        let view = |value: &Value| Builder::view(value, &value.shape);
        let call = MatMul {
            batch: batch.clone(),
            m,
            k: len,
            n,
            a: view(&left.sliced(axis + 1, from, 1, len)),
            b: view(&right.sliced(axis, from, 1, len)),
            bias: None,
            output: view(&output),
            alpha: 1.0,
            activation: None,
        };
        builder.emit(vec![Call::MatMul(call)], &output);
        let part = builder.cast(&output, Datatype::Int32)?;
        sum = Some(match sum {
            None => part,
            Some(sum) => mapped(builder, site, &[&sum, &part], Datatype::Int32, |parts| {
                parts.into_iter().reduce(|sum, part| sum + part).expect("two were given")
            })?,
        });
    }
    Ok(vec![sum.expect("there is a part at least")])
}

/// A side of a product as floats, less its zero: one for all, or one for each row of the first and column of the second.
fn centred(builder: &mut Builder, site: &Site<'_>, at: usize, zero: usize) -> Result<Value, LowerError> {
    let x = site.input(at)?;
    let mut values = vec![x.clone()];
    if let Some(zero) = site.optional(zero) {
        let rows = at == 0 && zero.rank() == 1 && zero.len() > 1;
        values.push(if rows { builder.reshape(zero, &[zero.len(), 1])? } else { zero.clone() });
    }
    let values: Vec<&Value> = values.iter().collect();
    mapped(builder, site, &values, Datatype::Fp32, |parts| {
        parts.into_iter().reduce(|x, zero| x - zero).expect("the value comes first").cast(To::Float)
    })
}
