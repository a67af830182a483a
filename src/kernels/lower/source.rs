//! Operators that make a tensor out of nothing but sizes and attributes.

use super::{
    LowerError, builder::Builder, elementwise::mapped, model, operators::Lower, site::Site, value,
    value::Value,
};
use crate::{
    domain::Datatype,
    kernels::{
        host::Host,
        ir::{Binary, Element, Expr, To},
    },
    onnx,
};

pub(super) fn of((domain, operator): (&str, &str)) -> Option<Lower> {
    let lower: Lower = match (domain, operator) {
        ("", "Constant") => constant,
        ("", "ConstantOfShape") => constant_of_shape,
        ("", "Shape") => shape,
        ("", "Size") => size,
        ("", "Range") => range,
        ("", "EyeLike") => eye_like,
        ("", "OneHot") => one_hot,
        ("", "NonZero") => non_zero,
        ("", "Trilu") => trilu,
        _ => return None,
    };
    Some(lower)
}

fn constant(builder: &mut Builder, site: &Site<'_>) -> Result<Vec<Value>, LowerError> {
    let value = if let Some(tensor) = site.tensor("value") {
        model::weight(builder, tensor)?
    } else if let Some(number) = site.number_if_there("value_int") {
        builder.constant(Datatype::Int64, &[], Host::I64(vec![number]))
    } else if let Some(numbers) = site.numbers("value_ints") {
        builder.ints(numbers.to_vec())
    } else if let Some(real) = site.real_if_there("value_float") {
        builder.floats(&[], vec![real])
    } else if let Some(reals) = site.reals("value_floats") {
        builder.floats(&[reals.len()], reals.to_vec())
    } else {
        return Err(site.refuse("holds neither numbers nor a tensor of them"));
    };
    Ok(vec![value])
}

fn sizes(builder: &Builder, site: &Site<'_>, value: &Value) -> Result<Vec<usize>, LowerError> {
    builder.numbers(site, value)?.into_iter().map(|size| site.size(size)).collect()
}

fn constant_of_shape(builder: &mut Builder, site: &Site<'_>) -> Result<Vec<Value>, LowerError> {
    let shape = sizes(builder, site, site.input(0)?)?;
    let one = match site.tensor("value") {
        Some(tensor) => model::weight(builder, tensor)?,
        None => builder.floats(&[], vec![0.0]),
    };
    if one.len() != 1 {
        return Err(site.refuse(format!("repeats {} numbers", one.len())));
    }
    Ok(vec![builder.reshape(&one, &[])?.expanded(&shape)])
}

fn shape(builder: &mut Builder, site: &Site<'_>) -> Result<Vec<Value>, LowerError> {
    let shape = &site.input(0)?.shape;
    let rank = shape.len() as i64;
    let place = |at: i64| (if at < 0 { at + rank } else { at }).clamp(0, rank) as usize;
    let (from, to) = (place(site.number("start", 0)), place(site.number("end", rank)));
    let sizes = shape.get(from..to).unwrap_or_default();
    Ok(vec![builder.ints(sizes.iter().map(|size| *size as i64).collect())])
}

fn size(builder: &mut Builder, site: &Site<'_>) -> Result<Vec<Value>, LowerError> {
    let len = site.input(0)?.len() as i64;
    Ok(vec![builder.constant(Datatype::Int64, &[], Host::I64(vec![len]))])
}

/// Numbers of a range at most: positions of the longest texts.
const RANGE_MAX: usize = 1 << 24;

fn range(builder: &mut Builder, site: &Site<'_>) -> Result<Vec<Value>, LowerError> {
    let (start, limit, step) = (site.input(0)?, site.input(1)?, site.input(2)?);
    let datatype = start.datatype;
    let count = |from: f64, to: f64, step: f64| {
        let count = ((to - from) / step).ceil().max(0.0);
        let fits = count.is_finite() && count <= RANGE_MAX as f64;
        fits.then_some(count as usize).ok_or_else(|| site.refuse(format!("makes {count} numbers")))
    };
    let host = if datatype.is_float() {
        let one = |value| builder.reals(site, value).map(|all| all.first().copied().unwrap_or_default());
        let (start, limit, step) = (one(start)?, one(limit)?, one(step)?);
        let count = count(start.into(), limit.into(), step.into())?;
        Host::F32((0..count).map(|at| start + at as f32 * step).collect())
    } else {
        let one = |value| builder.numbers(site, value).map(|all| all.first().copied().unwrap_or_default());
        let (start, limit, step) = (one(start)?, one(limit)?, one(step)?);
        let count = count(start as f64, limit as f64, step as f64)?;
        Host::I64((0..count as i64).map(|at| start + at * step).collect())
    };
    Ok(vec![builder.constant(datatype, &[host.len()], host)])
}

fn eye_like(builder: &mut Builder, site: &Site<'_>) -> Result<Vec<Value>, LowerError> {
    let x = site.input(0)?;
    let &[rows, columns] = x.shape.as_slice() else {
        return Err(site.refuse(format!("takes {} dimensions", x.rank())));
    };
    let code = site.number_if_there("dtype").and_then(|code| i32::try_from(code).ok());
    let datatype = code.map_or(Some(x.datatype), onnx::datatype);
    let datatype = datatype.ok_or_else(|| site.refuse("makes elements that kernels do not have"))?;
    let element = value::element(datatype).ok_or(LowerError::Computed { datatype })?;
    let shift = site.number("k", 0);
    let ones = (0..rows * columns).map(|at| (at % columns) as i64 == (at / columns) as i64 + shift);
    let host = match element {
        Element::F32 => Host::F32(ones.map(f32::from).collect()),
        Element::I32 | Element::Bytes => Host::I64(ones.map(i64::from).collect()),
    };
    Ok(vec![builder.constant(datatype, &[rows, columns], host)])
}

fn one_hot(builder: &mut Builder, site: &Site<'_>) -> Result<Vec<Value>, LowerError> {
    let (indices, values) = (site.input(0)?, site.input(2)?);
    let depth = builder.cast(site.input(1)?, Datatype::Int64)?;
    let depth = builder.numbers(site, &depth)?.first().copied().unwrap_or_default();
    let depth = site.size(depth)?;
    let axis = site.axis(site.number("axis", -1), indices.rank() + 1)?;
    let mut shape = indices.shape.clone();
    shape.insert(axis, 1);
    let indices = builder.cast(indices, Datatype::Int64)?;
    let indices = builder.reshape(&indices, &shape)?;
    let counted = builder.counted(shape.len(), axis, depth);
    let (off, on) = (values.at(0, 0), values.at(0, 1));
    let made = mapped(builder, site, &[&indices, &counted, &on, &off], values.datatype, |parts| {
        let [index, at, on, off]: [Expr; 4] = parts.try_into().expect("four were given");
        let from_front = index.clone().with(Binary::Less, Expr::Int(0));
        let index = index.clone() + from_front * Expr::Int(depth as i32);
        index.with(Binary::Equal, at).choose(on, off)
    })?;
    Ok(vec![made])
}

/// Of what is known here: its places decide how many there are.
fn non_zero(builder: &mut Builder, site: &Site<'_>) -> Result<Vec<Value>, LowerError> {
    let x = site.input(0)?;
    let flags =
        builder.map(&x.shape, std::slice::from_ref(x), Datatype::Bool, Expr::Input(0).cast(To::Flag))?;
    let flags = builder.numbers(site, &flags)?;
    let found: Vec<usize> = (0..flags.len()).filter(|at| flags[*at] != 0).collect();
    let mut places = Vec::with_capacity(x.rank() * found.len());
    for (stride, size) in value::dense(&x.shape).into_iter().zip(&x.shape) {
        places.extend(found.iter().map(|at| (*at as i64 / stride) % *size as i64));
    }
    Ok(vec![builder.constant(Datatype::Int64, &[x.rank(), found.len()], Host::I64(places))])
}

fn trilu(builder: &mut Builder, site: &Site<'_>) -> Result<Vec<Value>, LowerError> {
    let x = site.input(0)?;
    let Some([rows, columns]) = x.shape.last_chunk::<2>().copied() else {
        return Err(site.refuse(format!("takes {} dimensions", x.rank())));
    };
    let shift = match site.optional(1) {
        Some(shift) => builder.numbers(site, shift)?.first().copied().unwrap_or_default(),
        None => 0,
    };
    // Further than the last column, all shifts are one.
    let shift = shift.clamp(-(rows as i64), columns as i64) as i32;
    let keeps = if site.number("upper", 1) == 0 { Binary::LessOrEqual } else { Binary::GreaterOrEqual };
    let row = builder.counted(2, 0, rows);
    let column = builder.counted(2, 1, columns);
    let zero = Expr::number(0.0, x.datatype);
    let made = mapped(builder, site, &[x, &row, &column], x.datatype, |parts| {
        let [x, row, column]: [Expr; 3] = parts.try_into().expect("three were given");
        (column - row).with(keeps, Expr::Int(shift)).choose(x, zero)
    })?;
    Ok(vec![made])
}
