//! Elements by their indices.

use super::{
    LowerError, builder::Builder, elementwise::mapped, operators::Lower, site::Site, value, value::Value,
};
use crate::{
    domain::Datatype,
    kernels::{
        host::Host,
        ir::{Binary, Call, Expr, Gather, MAP_INPUTS_MAX},
    },
};

pub(super) fn of((domain, operator): (&str, &str)) -> Option<Lower> {
    let lower: Lower = match (domain, operator) {
        ("", "Gather") => gather,
        ("", "GatherElements") => gather_elements,
        ("", "GatherND") => gather_nd,
        ("", "ScatterElements" | "Scatter") => scatter_elements,
        ("", "ScatterND") => scatter_nd,
        _ => return None,
    };
    Some(lower)
}

fn gather(builder: &mut Builder, site: &Site<'_>) -> Result<Vec<Value>, LowerError> {
    let (data, indices) = (site.input(0)?, site.input(1)?);
    let axis = site.axis(site.number("axis", 0), data.rank())?;
    let size = data.shape[axis];
    if let Some(Host::I64(known)) = builder.known(indices) {
        if let Some(wrong) = known.iter().find(|index| place(**index, size).is_none()) {
            return Err(site.refuse(format!("takes element {wrong} of {size}")));
        }
        // What lies at equal steps is a view.
        let places: Vec<i64> =
            known.iter().filter_map(|index| place(*index, size)).map(|at| at as i64).collect();
        let step = places.get(1).map_or(1, |second| second - places[0]);
        let even = places.windows(2).all(|pair| pair[1] - pair[0] == step);
        match (indices.rank(), places.first()) {
            (0, Some(first)) => return Ok(vec![data.at(axis, *first as usize)]),
            (1, Some(first)) if even => {
                return Ok(vec![data.sliced(axis, *first as usize, step, places.len())]);
            }
            _ => {}
        }
    }
    let (before, behind) = (&data.shape[..axis], &data.shape[axis + 1..]);
    let shape = [before, &indices.shape, behind].concat();
    let sizes = [before.iter().product(), size, behind.iter().product()];
    Ok(vec![by_index(builder, site, data, indices, sizes, &shape)?])
}

/// Out of `outer × axis × inner` elements.
fn by_index(
    builder: &mut Builder,
    site: &Site<'_>,
    data: &Value,
    indices: &Value,
    [outer, axis, inner]: [usize; 3],
    shape: &[usize],
) -> Result<Value, LowerError> {
    if shape.contains(&0) {
        return builder.empty(data.datatype, shape);
    }
    if axis == 0 {
        return Err(site.refuse("takes elements of none"));
    }
    let (data, indices) = (builder.dense(data)?, builder.dense(indices)?);
    let output = builder.fresh(data.datatype, shape)?;
    let count = indices.len();
    let call =
        Gather { data: data.slot, indices: indices.slot, output: output.slot, outer, axis, count, inner };
    builder.emit(vec![Call::Gather(call)], &output);
    Ok(output)
}

/// A place from the front.
fn place(index: i64, size: usize) -> Option<usize> {
    let from_front = if index < 0 { index.checked_add(size as i64)? } else { index };
    usize::try_from(from_front).ok().filter(|at| *at < size)
}

fn gather_elements(builder: &mut Builder, site: &Site<'_>) -> Result<Vec<Value>, LowerError> {
    let (data, indices) = (site.input(0)?, site.input(1)?);
    let axis = site.axis(site.number("axis", 0), data.rank())?;
    let places = elements(builder, site, data, indices, axis)?;
    Ok(vec![by_index(builder, site, data, &places, [1, data.len(), 1], &indices.shape)?])
}

/// Along an axis by index, along the others as the indices lie: places in a flat tensor.
fn elements(
    builder: &mut Builder,
    site: &Site<'_>,
    data: &Value,
    indices: &Value,
    axis: usize,
) -> Result<Value, LowerError> {
    let within = |at: usize| at == axis || indices.shape[at] <= data.shape[at];
    if indices.rank() != data.rank() || !(0..data.rank()).all(within) {
        return Err(site.refuse(format!("takes indices of {:?} for {:?}", indices.shape, data.shape)));
    }
    let strides = value::dense(&data.shape);
    let mut parts = vec![(indices.clone(), strides[axis], Some(data.shape[axis]))];
    for at in (0..data.rank()).filter(|at| *at != axis && indices.shape[*at] > 1) {
        let counted = builder.counted(data.rank(), at, indices.shape[at]);
        parts.push((counted, strides[at], None));
    }
    flat(builder, site, &parts, &indices.shape, data.len())
}

/// `Σ part · stride`; of a part with a size, indices of that size, negative ones from the end.
/// A place that is out of range is one behind the last, where the gather fails.
fn flat(
    builder: &mut Builder,
    site: &Site<'_>,
    parts: &[(Value, i64, Option<usize>)],
    shape: &[usize],
    len: usize,
) -> Result<Value, LowerError> {
    if parts.len() > MAP_INPUTS_MAX {
        return Err(site.refuse(format!("takes indices along {} dimensions", parts.len())));
    }
    let beyond = Expr::Int(i32::try_from(len).map_err(|_| site.refuse("takes elements out of too many"))?);
    let mut values: Vec<Value> = Vec::with_capacity(parts.len());
    for (value, _, _) in parts {
        values.push(builder.cast(value, Datatype::Int64)?.expanded(shape));
    }
    let values: Vec<&Value> = values.iter().collect();
    let places = mapped(builder, site, &values, Datatype::Int64, |exprs| {
        let mut sum = Expr::Int(0);
        let mut inside: Option<Expr> = None;
        for (index, (_, stride, size)) in exprs.into_iter().zip(parts) {
            let stride = Expr::Int(*stride as i32);
            let Some(size) = size else {
                sum = sum + index * stride;
                continue;
            };
            let size = *size as i32;
            let least = index.clone().with(Binary::GreaterOrEqual, Expr::Int(-size));
            let good = least.with(Binary::And, index.clone().with(Binary::Less, Expr::Int(size)));
            inside = Some(match inside {
                Some(others) => others.with(Binary::And, good),
                None => good,
            });
            let behind = index.clone().with(Binary::Less, Expr::Int(0)) * Expr::Int(size);
            sum = sum + (index + behind) * stride;
        }
        match inside {
            Some(inside) => inside.choose(sum, beyond),
            None => sum,
        }
    })?;
    Ok(places)
}

/// Places of rows: each row of indices names one.
fn rows(
    builder: &mut Builder,
    site: &Site<'_>,
    data: &Value,
    indices: &Value,
    batch: usize,
) -> Result<(Value, usize), LowerError> {
    let last = indices.rank().checked_sub(1).filter(|last| *last >= batch);
    let last = last.ok_or_else(|| site.refuse("takes indices without dimensions"))?;
    let named = indices.shape[last];
    if batch + named > data.rank() || indices.shape[..batch] != data.shape[..batch] {
        return Err(site.refuse(format!("takes {:?} out of {:?}", indices.shape, data.shape)));
    }
    let outer = &indices.shape[..last];
    let strides = value::dense(&data.shape[..batch + named]);
    let mut parts = Vec::new();
    for at in (0..batch).filter(|at| data.shape[*at] > 1) {
        let counted = builder.counted(outer.len(), at, data.shape[at]);
        parts.push((counted, strides[at], None));
    }
    for at in 0..named {
        parts.push((indices.at(last, at), strides[batch + at], Some(data.shape[batch + at])));
    }
    let count = data.shape[..batch + named].iter().product();
    Ok((flat(builder, site, &parts, outer, count)?, batch + named))
}

fn gather_nd(builder: &mut Builder, site: &Site<'_>) -> Result<Vec<Value>, LowerError> {
    let (data, indices) = (site.input(0)?, site.input(1)?);
    let batch = site.size(site.number("batch_dims", 0))?;
    let (places, named) = rows(builder, site, data, indices, batch)?;
    let (count, inner) = data.shape.split_at(named);
    let shape = [&places.shape, inner].concat();
    let sizes = [1, count.iter().product(), inner.iter().product()];
    Ok(vec![by_index(builder, site, data, &places, sizes, &shape)?])
}

/// Rows of a tensor, some of which are replaced: each is gathered from where it comes from.
fn replaced(
    builder: &mut Builder,
    site: &Site<'_>,
    [data, updates, places]: [&Value; 3],
    [count, inner]: [usize; 2],
) -> Result<Vec<Value>, LowerError> {
    if !matches!(site.text("reduction"), None | Some("none")) {
        return Err(site.refuse("adds to what is there"));
    }
    let places = builder.numbers(site, places)?;
    if data.len() == 0 || places.is_empty() || inner == 0 {
        return Ok(vec![data.clone()]);
    }
    let mut from: Vec<i64> = (0..count as i64).collect();
    for (row, at) in places.iter().enumerate() {
        let at = place(*at, count).ok_or_else(|| site.refuse("writes a place that is not there"))?;
        from[at] = (count + row) as i64;
    }
    let (old, new) =
        (builder.reshape(data, &[count, inner])?, builder.reshape(updates, &[places.len(), inner])?);
    let both = builder.concat(&[old, new], 0)?;
    let from = builder.ints(from);
    let sizes = [1, count + places.len(), inner];
    Ok(vec![by_index(builder, site, &both, &from, sizes, &data.shape)?])
}

fn scatter_nd(builder: &mut Builder, site: &Site<'_>) -> Result<Vec<Value>, LowerError> {
    let (data, indices, updates) = (site.input(0)?, site.input(1)?, site.input(2)?);
    let (places, named) = rows(builder, site, data, indices, 0)?;
    let (count, inner) = data.shape.split_at(named);
    if updates.shape != [&places.shape, inner].concat() {
        return Err(site.refuse(format!("writes {:?}", updates.shape)));
    }
    replaced(builder, site, [data, updates, &places], [count.iter().product(), inner.iter().product()])
}

fn scatter_elements(builder: &mut Builder, site: &Site<'_>) -> Result<Vec<Value>, LowerError> {
    let (data, indices, updates) = (site.input(0)?, site.input(1)?, site.input(2)?);
    let axis = site.axis(site.number("axis", 0), data.rank())?;
    if indices.shape != updates.shape {
        return Err(site.refuse(format!("writes {:?} at {:?}", updates.shape, indices.shape)));
    }
    let places = elements(builder, site, data, indices, axis)?;
    replaced(builder, site, [data, updates, &places], [data.len(), 1])
}
