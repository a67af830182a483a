//! Operators that only say how a tensor's elements lie: most of them are another view, some a copy.

use super::{
    LowerError,
    builder::Builder,
    operators::Lower,
    site::Site,
    value::{Value, broadcast},
};

pub(super) fn of((domain, operator): (&str, &str)) -> Option<Lower> {
    let lower: Lower = match (domain, operator) {
        ("", "Identity") => identity,
        ("", "Reshape") => reshape,
        ("", "Squeeze") => squeeze,
        ("", "Unsqueeze") => unsqueeze,
        ("", "Flatten") => flatten,
        ("", "Transpose") => transpose,
        ("", "Slice") => slice,
        ("", "Split") => split,
        ("", "Concat") => concat,
        ("", "Expand") => expand,
        ("", "Tile") => tile,
        ("", "DepthToSpace") => depth_to_space,
        ("", "SpaceToDepth") => space_to_depth,
        _ => return None,
    };
    Some(lower)
}

fn identity(_: &mut Builder, site: &Site<'_>) -> Result<Vec<Value>, LowerError> {
    Ok(vec![site.input(0)?.clone()])
}

/// What newer versions take as an input and older ones as an attribute.
pub(super) fn given(
    builder: &Builder,
    site: &Site<'_>,
    at: usize,
    name: &str,
) -> Result<Option<Vec<i64>>, LowerError> {
    match site.optional(at) {
        Some(value) => builder.numbers(site, value).map(Some),
        None => Ok(site.numbers(name).map(<[i64]>::to_vec)),
    }
}

fn reshape(builder: &mut Builder, site: &Site<'_>) -> Result<Vec<Value>, LowerError> {
    let x = site.input(0)?;
    let wanted = given(builder, site, 1, "shape")?.ok_or_else(|| site.refuse("is told no shape"))?;
    let kept = site.number("allowzero", 0) == 0;
    let mut shape = Vec::with_capacity(wanted.len());
    for (at, size) in wanted.iter().enumerate() {
        shape.push(match size {
            0 if kept => *x.shape.get(at).ok_or_else(|| site.refuse("keeps a size that is not there"))?,
            // What is left over goes there.
            -1 => 1,
            size => site.size(*size)?,
        });
    }
    if let Some(open) = wanted.iter().position(|size| *size == -1) {
        let others: usize = shape.iter().product();
        shape[open] = x.len().checked_div(others).unwrap_or(0);
    }
    if shape.iter().product::<usize>() != x.len() {
        return Err(site.refuse(format!("makes {wanted:?} of {:?}", x.shape)));
    }
    Ok(vec![builder.reshape(x, &shape)?])
}

fn squeeze(builder: &mut Builder, site: &Site<'_>) -> Result<Vec<Value>, LowerError> {
    let x = site.input(0)?;
    let axes = match given(builder, site, 1, "axes")? {
        Some(axes) => site.axes(&axes, x.rank())?,
        None => (0..x.rank()).filter(|at| x.shape[*at] == 1).collect(),
    };
    if let Some(axis) = axes.iter().find(|axis| x.shape[**axis] != 1) {
        return Err(site.refuse(format!("drops axis {axis} of size {}", x.shape[*axis])));
    }
    let mut value = x.clone();
    for axis in axes.into_iter().rev() {
        value = value.at(axis, 0);
    }
    Ok(vec![value])
}

fn unsqueeze(builder: &mut Builder, site: &Site<'_>) -> Result<Vec<Value>, LowerError> {
    let mut value = site.input(0)?.clone();
    let axes = given(builder, site, 1, "axes")?.ok_or_else(|| site.refuse("is told no axes"))?;
    for axis in site.axes(&axes, value.rank() + axes.len())? {
        value.shape.insert(axis, 1);
        value.strides.insert(axis, 0);
    }
    Ok(vec![value])
}

fn flatten(builder: &mut Builder, site: &Site<'_>) -> Result<Vec<Value>, LowerError> {
    let x = site.input(0)?;
    let axis = site.number("axis", 1);
    let axis = if axis == x.rank() as i64 { x.rank() } else { site.axis(axis, x.rank())? };
    let shape = [x.shape[..axis].iter().product(), x.shape[axis..].iter().product()];
    Ok(vec![builder.reshape(x, &shape)?])
}

fn transpose(_: &mut Builder, site: &Site<'_>) -> Result<Vec<Value>, LowerError> {
    let x = site.input(0)?;
    let order: Vec<usize> = match site.numbers("perm") {
        Some(order) => order.iter().map(|axis| site.axis(*axis, x.rank())).collect::<Result<_, _>>()?,
        None => (0..x.rank()).rev().collect(),
    };
    let mut sorted = order.clone();
    sorted.sort_unstable();
    if !sorted.into_iter().eq(0..x.rank()) {
        return Err(site.refuse(format!("puts {} dimensions in the order {order:?}", x.rank())));
    }
    Ok(vec![x.transposed(&order)])
}

fn slice(builder: &mut Builder, site: &Site<'_>) -> Result<Vec<Value>, LowerError> {
    let x = site.input(0)?;
    let missing = || site.refuse("is told no places");
    let starts = given(builder, site, 1, "starts")?.ok_or_else(missing)?;
    let ends = given(builder, site, 2, "ends")?.ok_or_else(missing)?;
    let axes = given(builder, site, 3, "axes")?.unwrap_or_else(|| (0..starts.len() as i64).collect());
    let steps = given(builder, site, 4, "steps")?.unwrap_or_else(|| vec![1; starts.len()]);
    if [ends.len(), axes.len(), steps.len()].iter().any(|len| *len != starts.len()) {
        return Err(site.refuse("is told places of different numbers of axes"));
    }
    let mut value = x.clone();
    for (((start, end), axis), step) in starts.iter().zip(&ends).zip(&axes).zip(&steps) {
        let axis = site.axis(*axis, value.rank())?;
        let size = value.shape[axis] as i64;
        let from_front = |place: i64| if place < 0 { place.saturating_add(size) } else { place };
        let (start, end) = (from_front(*start), from_front(*end));
        let (start, len) = match step {
            0 => return Err(site.refuse("takes steps of 0")),
            1.. => {
                let (start, end) = (start.clamp(0, size), end.clamp(0, size));
                (start, (end - start).max(0) as u64)
            }
            _ => {
                let (start, end) = (start.clamp(-1, size - 1), end.clamp(-1, size - 1));
                (start, (start - end).max(0) as u64)
            }
        };
        let len = len.div_ceil(step.unsigned_abs()) as usize;
        value = value.sliced(axis, start.max(0) as usize, *step, len);
    }
    if value.len() == 0 { Ok(vec![builder.empty(x.datatype, &value.shape)?]) } else { Ok(vec![value]) }
}

fn split(builder: &mut Builder, site: &Site<'_>) -> Result<Vec<Value>, LowerError> {
    let x = site.input(0)?;
    let axis = site.axis(site.number("axis", 0), x.rank())?;
    let size = x.shape[axis];
    let sizes: Vec<usize> = match given(builder, site, 1, "split")? {
        Some(sizes) => sizes.into_iter().map(|size| site.size(size)).collect::<Result<_, _>>()?,
        None => {
            let parts = site.number_if_there("num_outputs").unwrap_or(site.node.output.len() as i64);
            let each = size.div_ceil(site.size(parts)?.max(1));
            (0..parts as usize).map(|at| each.min(size.saturating_sub(at * each))).collect()
        }
    };
    if sizes.iter().sum::<usize>() != size {
        return Err(site.refuse(format!("splits {size} into {sizes:?}")));
    }
    let mut parts = Vec::with_capacity(sizes.len());
    let mut from = 0;
    for len in sizes {
        parts.push(x.sliced(axis, from, 1, len));
        from += len;
    }
    Ok(parts)
}

fn concat(builder: &mut Builder, site: &Site<'_>) -> Result<Vec<Value>, LowerError> {
    let values: Vec<Value> =
        (0..site.inputs.len()).map(|at| site.input(at).cloned()).collect::<Result<_, _>>()?;
    let first = site.input(0)?;
    let axis = site.axis(site.number("axis", i64::from(site.opset < 4)), first.rank())?;
    let fits = |value: &Value| {
        value.datatype == first.datatype
            && value.rank() == first.rank()
            && (0..first.rank()).all(|at| at == axis || value.shape[at] == first.shape[at])
    };
    match values.iter().find(|value| !fits(value)) {
        Some(other) => {
            let (first, other) = ((first.datatype, &first.shape), (other.datatype, &other.shape));
            Err(site.refuse(format!("puts {first:?} and {other:?} behind each other")))
        }
        None => Ok(vec![builder.concat(&values, axis)?]),
    }
}

fn expand(builder: &mut Builder, site: &Site<'_>) -> Result<Vec<Value>, LowerError> {
    let x = site.input(0)?;
    let wanted = builder.numbers(site, site.input(1)?)?;
    let wanted: Vec<usize> = wanted.into_iter().map(|size| site.size(size)).collect::<Result<_, _>>()?;
    let shape = broadcast(&x.shape, &wanted);
    let shape = shape.ok_or_else(|| site.refuse(format!("repeats {:?} to {wanted:?}", x.shape)))?;
    Ok(vec![x.expanded(&shape)])
}

fn tile(builder: &mut Builder, site: &Site<'_>) -> Result<Vec<Value>, LowerError> {
    let x = site.input(0)?;
    let repeats = builder.numbers(site, site.input(1)?)?;
    if repeats.len() != x.rank() {
        return Err(site.refuse(format!("repeats {} dimensions {repeats:?} times", x.rank())));
    }
    let repeats: Vec<usize> = repeats.into_iter().map(|times| site.size(times)).collect::<Result<_, _>>()?;
    Ok(vec![repeated(builder, x, &repeats, false)?])
}

/// Each axis so many times: whole, or element by element.
pub(super) fn repeated(
    builder: &mut Builder,
    x: &Value,
    times: &[usize],
    each: bool,
) -> Result<Value, LowerError> {
    let mut apart = Value { shape: Vec::new(), strides: Vec::new(), ..x.clone() };
    for ((size, stride), times) in x.shape.iter().zip(&x.strides).zip(times) {
        let (shape, strides) =
            if each { ([*size, *times], [*stride, 0]) } else { ([*times, *size], [0, *stride]) };
        apart.shape.extend(shape);
        apart.strides.extend(strides);
    }
    let shape: Vec<usize> = x.shape.iter().zip(times).map(|(size, times)| size * times).collect();
    builder.reshape(&apart, &shape)
}

/// The sizes of `[n, c, h, w]`, and of the blocks.
fn blocks(site: &Site<'_>) -> Result<([usize; 4], usize), LowerError> {
    let x = site.input(0)?;
    let shape: [usize; 4] = x.shape.as_slice().try_into().map_err(|_| site.refuse("takes no images"))?;
    let block = site.size(site.number("blocksize", 0))?;
    if block == 0 { Err(site.refuse("has blocks of 0")) } else { Ok((shape, block)) }
}

fn depth_to_space(builder: &mut Builder, site: &Site<'_>) -> Result<Vec<Value>, LowerError> {
    let ([n, c, h, w], block) = blocks(site)?;
    let depth = c / (block * block);
    if depth * block * block != c {
        return Err(site.refuse(format!("makes blocks of {block} of {c} channels")));
    }
    let (apart, order) = match site.text("mode") {
        Some("CRD") => ([n, depth, block, block, h, w], [0, 1, 4, 2, 5, 3]),
        _ => ([n, block, block, depth, h, w], [0, 3, 4, 1, 5, 2]),
    };
    let apart = builder.reshape(site.input(0)?, &apart)?.transposed(&order);
    Ok(vec![builder.reshape(&apart, &[n, depth, h * block, w * block])?])
}

fn space_to_depth(builder: &mut Builder, site: &Site<'_>) -> Result<Vec<Value>, LowerError> {
    let ([n, c, h, w], block) = blocks(site)?;
    if !h.is_multiple_of(block) || !w.is_multiple_of(block) {
        return Err(site.refuse(format!("makes blocks of {block} of {h} × {w}")));
    }
    let apart = builder.reshape(site.input(0)?, &[n, c, h / block, block, w / block, block])?;
    let order = if site.text("mode") == Some("CRD") { [0, 1, 3, 5, 2, 4] } else { [0, 3, 5, 1, 2, 4] };
    let apart = apart.transposed(&order);
    Ok(vec![builder.reshape(&apart, &[n, c * block * block, h / block, w / block])?])
}
