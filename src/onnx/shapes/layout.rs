//! Operators that move elements: reshape, cut, join, repeat, reduce, pick.

use super::{
    Expr, RANK_MAX, Size, Value, count, index,
    node::{Listed, Site, fixed},
    product, rules,
};
use crate::onnx::proto::element;

/// "To the end", as exporters write it; they mean from there on by different numbers, and no axis is that long.
pub(super) const FAR: i64 = 1_000_000_000;

/// Parts that a value is cut into; experts and heads are some hundred.
const PARTS_MAX: usize = 1024;

pub(super) fn outputs(operator: &str, site: &Site<'_>) -> Option<Vec<Value>> {
    let first = site.input(0);
    let one = |dims: Option<Vec<Size>>| Some(vec![Value::new(first.element, dims)]);
    let typed = |element: i32, dims: Option<Vec<Size>>| Some(vec![Value::new(Some(element), dims)]);
    match operator {
        "Reshape" => one(reshape(site)),
        "Flatten" => one(flatten(site)),
        "Transpose" => one(transpose(site)),
        "Squeeze" => one(squeeze(site)),
        "Unsqueeze" => one(unsqueeze(site)),
        "Concat" => one(concat(site)),
        "Slice" => one(slice(site)),
        "Pad" => one(pad(site)),
        "Expand" => one(expand(site)),
        "Tile" => one(tile(site)),
        "Gather" => one(gather(site)),
        "GatherElements" => one(site.input(1).dims.clone()),
        "GatherND" => one(gather_nd(site)),
        "OneHot" => Some(vec![Value::new(site.input(2).element, one_hot(site))]),
        "DepthToSpace" => one(depth_to_space(site)),
        "SpaceToDepth" => one(space_to_depth(site)),
        "Resize" | "Upsample" => one(resize(site)),
        "NonZero" => typed(element::INT64, first.rank().map(|rank| vec![fixed(count(rank)), None])),
        "Range" => one(Some(vec![range(site)])),
        "Split" => Some(split(site)),
        "TopK" => {
            let dims = top_k(site);
            Some(vec![Value::new(first.element, dims.clone()), Value::new(Some(element::INT64), dims)])
        }
        "ArgMax" | "ArgMin" => {
            typed(element::INT64, reduce(site, &Listed::Known(vec![site.number("axis", 0)]), false))
        }
        _ if operator.starts_with("Reduce") => {
            let keep_all = site.number("noop_with_empty_axes", 0) != 0;
            one(reduce(site, &site.listed("axes", 1), keep_all))
        }
        _ => None,
    }
}

/// As many unknown sizes as a list of sizes has elements.
pub(super) fn open(list: &Value) -> Option<Vec<Size>> {
    let rank = list.size(0)?.as_constant().filter(|_| list.rank() == Some(1))?;
    usize::try_from(rank).ok().filter(|rank| *rank <= RANK_MAX).map(|rank| vec![None; rank])
}

fn reshape(site: &Site<'_>) -> Option<Vec<Size>> {
    let (data, wanted) = (site.input(0), site.input(1));
    let wanted = match (&wanted.known, site.numbers("shape")) {
        (_, Some(shape)) => shape.iter().copied().map(fixed).collect(),
        (Some(known), None) => known.to_vec(),
        (None, None) => return open(wanted),
    };
    let copies = site.number("allowzero", 0) == 0;
    let copied = |(axis, size): (usize, Size)| match size {
        Some(size) if size.is(0) && copies => data.size(count(axis)),
        size => size,
    };
    let mut dims: Vec<_> = wanted.into_iter().enumerate().map(copied).collect();
    // What is not known may be the size that is left open.
    let is_open = |size: &Size| size.as_ref().is_some_and(|size| size.is(-1));
    if let Some(at) = dims.iter().position(is_open) {
        let rest = dims.iter().enumerate().filter(|(axis, _)| *axis != at);
        let rest: Vec<_> = rest.map(|(_, size)| size.clone()).collect();
        dims[at] = product(&rest).and_then(|rest| left_over(&data.elements()?, &rest));
    }
    let negative = |size: &Expr| size.as_constant().is_some_and(|size| size < 0);
    Some(dims.into_iter().map(|size| size.filter(|size| !negative(size))).collect())
}

/// What a shape leaves to its open dimension: a size that the others go into without rest.
fn left_over(elements: &Expr, rest: &Expr) -> Size {
    if rest.is(0) {
        return None;
    }
    elements.over(rest)
}

fn flatten(site: &Site<'_>) -> Option<Vec<Size>> {
    let dims = site.input(0).dims.as_ref()?;
    let axis = match site.number("axis", 1) {
        axis if axis == count(dims.len()) => dims.len(),
        axis => index(axis, dims.len())?,
    };
    Some(vec![product(&dims[..axis]), product(&dims[axis..])])
}

fn transpose(site: &Site<'_>) -> Option<Vec<Size>> {
    let dims = site.input(0).dims.as_ref()?;
    let Some(order) = site.numbers("perm") else { return Some(dims.iter().rev().cloned().collect()) };
    if order.len() != dims.len() {
        return None;
    }
    order.iter().map(|axis| Some(dims[index(*axis, dims.len())?].clone())).collect()
}

fn squeeze(site: &Site<'_>) -> Option<Vec<Size>> {
    let dims = site.input(0).dims.as_ref()?;
    let gone: Vec<usize> = match site.listed("axes", 1) {
        Listed::Known(axes) => axes.iter().map(|axis| index(*axis, dims.len())).collect::<Option<_>>()?,
        // Every axis of 1, which has to be known of all.
        Listed::Absent => {
            let sizes: Vec<_> =
                dims.iter().map(|size| size.as_ref()?.as_constant()).collect::<Option<_>>()?;
            (0..sizes.len()).filter(|axis| sizes[*axis] == 1).collect()
        }
        Listed::Unknown => return None,
    };
    let kept = dims.iter().enumerate().filter(|(axis, _)| !gone.contains(axis));
    Some(kept.map(|(_, size)| size.clone()).collect())
}

fn unsqueeze(site: &Site<'_>) -> Option<Vec<Size>> {
    let dims = site.input(0).dims.as_ref()?;
    let Listed::Known(axes) = site.listed("axes", 1) else { return None };
    let rank = Some(dims.len() + axes.len()).filter(|rank| *rank <= RANK_MAX)?;
    let mut added: Vec<usize> = axes.iter().map(|axis| index(*axis, rank)).collect::<Option<_>>()?;
    added.sort_unstable();
    added.dedup();
    if added.len() != axes.len() {
        return None;
    }
    let mut old = dims.iter();
    (0..rank).map(|axis| if added.contains(&axis) { Some(fixed(1)) } else { old.next().cloned() }).collect()
}

fn concat(site: &Site<'_>) -> Option<Vec<Size>> {
    let all: Option<Vec<_>> = site.inputs().iter().map(|value| value.dims.as_ref()).collect();
    let all = all?;
    let rank = all.first()?.len();
    let axis = site.axis(1, rank)?;
    if all.iter().any(|dims| dims.len() != rank) {
        return None;
    }
    let size = |at: usize| {
        let mut sizes = all.iter().map(|dims| dims[at].as_ref());
        if at == axis {
            return sizes.try_fold(Expr::default(), |sum, size| sum.plus(size?));
        }
        // They are all the same; a number tells most.
        let known: Vec<_> = sizes.flatten().collect();
        let number = known.iter().find(|size| size.as_constant().is_some());
        number.or(known.first()).map(|size| (*size).clone())
    };
    Some((0..rank).map(size).collect())
}

fn slice(site: &Site<'_>) -> Option<Vec<Size>> {
    let mut dims = site.input(0).dims.clone()?;
    let bounds = |name, at: usize| match site.numbers(name) {
        Some(numbers) => Some(numbers.iter().copied().map(fixed).collect::<Vec<_>>()),
        None => site.input(at).known.as_ref().map(|known| known.to_vec()),
    };
    let unknown = |dims: &[Size]| Some(vec![None; dims.len()]);
    let axes = match site.listed("axes", 3) {
        Listed::Known(axes) => axes,
        Listed::Absent => (0..count(dims.len())).collect(),
        Listed::Unknown => return unknown(&dims),
    };
    let (starts, ends) = (bounds("starts", 1), bounds("ends", 2));
    let steps = match site.listed("steps", 4) {
        Listed::Known(steps) => Some(steps),
        Listed::Absent => Some(vec![1; axes.len()]),
        Listed::Unknown => None,
    };
    if axes.len() > dims.len() {
        return None;
    }
    for (at, axis) in axes.into_iter().enumerate() {
        if starts.as_ref().is_some_and(|starts| at >= starts.len()) {
            break;
        }
        let axis = index(axis, dims.len())?;
        let bound = |list: &Option<Vec<Size>>| list.as_ref().and_then(|list| list.get(at).cloned().flatten());
        let step = steps.as_ref().and_then(|steps| steps.get(at).copied());
        dims[axis] = cut(dims[axis].as_ref(), bound(&starts), bound(&ends), step);
    }
    Some(dims)
}

/// How much of an axis lies between two places.
fn cut(size: Option<&Expr>, start: Size, end: Size, step: Option<i64>) -> Size {
    let (size, start, end, step) = (size?, start?, end?, step?);
    if step < 0 {
        let whole = start.is(-1) || start.as_constant().is_some_and(|start| start >= FAR);
        let to_front = end.as_constant().is_some_and(|end| end <= -FAR);
        return (step == -1 && whole && to_front).then(|| size.clone());
    }
    let (from, to) = (place(size, &start)?, place(size, &end)?);
    let between = to.minus(&from)?;
    // From the front, or to the end, there is nothing negative.
    let between = if from.is(0) || to == *size { between } else { between.larger(&Expr::default())? };
    if step == 1 { Some(between) } else { between.over_up(&Expr::constant(step)) }
}

/// A bound as a place from the front, within the axis.
fn place(size: &Expr, bound: &Expr) -> Size {
    if bound == size {
        return Some(size.clone());
    }
    match bound.as_constant() {
        Some(bound) if bound >= FAR => Some(size.clone()),
        Some(bound) if bound <= -FAR => Some(Expr::default()),
        Some(0) => Some(Expr::default()),
        Some(number) if number < 0 => size.plus(bound)?.larger(&Expr::default()),
        _ if bound.never_negative() => size.smaller(bound),
        _ => None,
    }
}

fn pad(site: &Site<'_>) -> Option<Vec<Size>> {
    let mut dims = site.input(0).dims.clone()?;
    let unknown = Some(vec![None; dims.len()]);
    let pads = match site.numbers("pads") {
        Some(pads) => pads.iter().copied().map(fixed).collect(),
        None => match &site.input(1).known {
            Some(known) => known.to_vec(),
            None => return unknown,
        },
    };
    let axes = match site.has(3).then(|| site.input(3).numbers()) {
        None => (0..count(dims.len())).collect::<Vec<_>>(),
        Some(Some(axes)) => axes,
        Some(None) => return unknown,
    };
    if pads.len() != 2 * axes.len() || axes.len() > dims.len() {
        return None;
    }
    for (at, axis) in axes.iter().enumerate() {
        let axis = index(*axis, dims.len())?;
        dims[axis] = sum([&dims[axis], &pads[at], &pads[at + axes.len()]]);
    }
    Some(dims)
}

fn sum(sizes: [&Size; 3]) -> Size {
    sizes.into_iter().try_fold(Expr::default(), |sum, size| sum.plus(size.as_ref()?))
}

fn expand(site: &Site<'_>) -> Option<Vec<Size>> {
    let (data, wanted) = (site.input(0), site.input(1));
    let wanted = wanted.known.as_ref().map(|known| known.to_vec()).or_else(|| open(wanted))?;
    rules::broadcast(&[data.dims.as_ref()?, &wanted])
}

fn tile(site: &Site<'_>) -> Option<Vec<Size>> {
    let dims = site.input(0).dims.as_ref()?;
    let Some(repeats) = &site.input(1).known else { return Some(vec![None; dims.len()]) };
    if repeats.len() != dims.len() {
        return None;
    }
    Some(dims.iter().zip(repeats.iter()).map(|(size, times)| size.as_ref()?.times(times.as_ref()?)).collect())
}

fn gather(site: &Site<'_>) -> Option<Vec<Size>> {
    let (dims, places) = (site.input(0).dims.as_ref()?, site.input(1).dims.as_ref()?);
    let axis = site.axis(0, dims.len())?;
    Some([&dims[..axis], places, &dims[axis + 1..]].concat())
}

fn gather_nd(site: &Site<'_>) -> Option<Vec<Size>> {
    let (dims, places) = (site.input(0).dims.as_ref()?, site.input(1).dims.as_ref()?);
    let (last, front) = places.split_last()?;
    let shared = usize::try_from(site.number("batch_dims", 0)).ok()?;
    let depth = usize::try_from(last.as_ref()?.as_constant()?).ok()?;
    Some([front, dims.get(shared.checked_add(depth)?..)?].concat())
}

fn one_hot(site: &Site<'_>) -> Option<Vec<Size>> {
    let mut dims = site.input(0).dims.clone()?;
    let axis = index(site.number("axis", -1), dims.len() + 1)?;
    let depth = site.input(1).known.as_ref().and_then(|known| known.first().cloned().flatten());
    dims.insert(axis, depth);
    Some(dims)
}

fn depth_to_space(site: &Site<'_>) -> Option<Vec<Size>> {
    let [n, c, h, w] = site.input(0).dims.as_deref()? else { return None };
    let block = Expr::constant(site.number("blocksize", 0));
    let larger = |size: &Size| size.as_ref()?.times(&block);
    let channels = block.times(&block).and_then(|block| c.as_ref()?.over(&block));
    Some(vec![n.clone(), channels, larger(h), larger(w)])
}

fn space_to_depth(site: &Site<'_>) -> Option<Vec<Size>> {
    let [n, c, h, w] = site.input(0).dims.as_deref()? else { return None };
    let block = Expr::constant(site.number("blocksize", 0));
    let smaller = |size: &Size| size.as_ref()?.over(&block);
    let channels = block.times(&block).and_then(|block| c.as_ref()?.times(&block));
    Some(vec![n.clone(), channels, smaller(h), smaller(w)])
}

fn resize(site: &Site<'_>) -> Option<Vec<Size>> {
    let dims = site.input(0).dims.as_ref()?;
    let unknown = Some(vec![None; dims.len()]);
    if site.numbers("axes").is_some()
        || site.text("keep_aspect_ratio_policy").is_some_and(|policy| policy != "stretch")
    {
        return unknown;
    }
    let (_, operator) = site.operator();
    let (scales, sizes) = match (operator, site.version) {
        ("Upsample", _) | (_, ..=10) => (1, None),
        _ => (2, Some(3)),
    };
    if let Some(sizes) = sizes.filter(|at| site.has(*at)) {
        let sizes = &site.input(sizes).known;
        return sizes
            .as_ref()
            .filter(|sizes| sizes.len() == dims.len())
            .map(|sizes| sizes.to_vec())
            .or(unknown);
    }
    match site.input(scales).known.as_ref().filter(|scales| scales.len() == dims.len()) {
        Some(scales) => {
            let scaled = |(size, scale): (&Size, &Size)| size.as_ref()?.times(scale.as_ref()?);
            Some(dims.iter().zip(scales.iter()).map(scaled).collect())
        }
        None => unknown,
    }
}

fn range(site: &Site<'_>) -> Size {
    let one = |at: usize| site.input(at).known.as_ref()?.first()?.clone();
    let (start, limit, step) = (one(0)?, one(1)?, one(2)?);
    let between = limit.minus(&start)?;
    let steps = between.over_up(&step)?;
    if steps.never_negative() { Some(steps) } else { steps.larger(&Expr::default()) }
}

fn split(site: &Site<'_>) -> Vec<Value> {
    let (data, parts) = (site.input(0), site.node.output.len());
    let dims = data.dims.as_ref().filter(|_| parts <= PARTS_MAX);
    let Some(dims) = dims else { return vec![Value::new(data.element, None); parts] };
    let Some(axis) = site.axis(0, dims.len()) else { return vec![Value::new(data.element, None); parts] };
    let sizes: Vec<Size> = match site.listed("split", 1) {
        Listed::Known(sizes) => sizes.into_iter().map(fixed).collect(),
        Listed::Unknown => vec![None; parts],
        Listed::Absent => {
            // The last is smaller where they do not come out even.
            let ways = Expr::constant(count(parts));
            let even = dims[axis].as_ref().and_then(|size| size.over_up(&ways));
            let last = || {
                let before = even.as_ref()?.times(&Expr::constant(count(parts) - 1))?;
                dims[axis].as_ref()?.minus(&before)
            };
            let mut sizes = vec![even.clone(); parts];
            if let Some(size) = sizes.last_mut() {
                *size = last();
            }
            sizes
        }
    };
    let part = |at: usize| {
        let mut dims = dims.clone();
        dims[axis] = sizes.get(at).cloned().flatten();
        Value::new(data.element, Some(dims))
    };
    (0..parts).map(part).collect()
}

fn top_k(site: &Site<'_>) -> Option<Vec<Size>> {
    let mut dims = site.input(0).dims.clone()?;
    let axis = site.axis(-1, dims.len())?;
    dims[axis] = match site.listed("k", 1) {
        Listed::Known(k) => k.first().copied().and_then(fixed),
        _ if site.number("k", 0) > 0 => fixed(site.number("k", 0)),
        _ => site.input(1).known.as_ref().and_then(|known| known.first().cloned().flatten()),
    };
    Some(dims)
}

fn reduce(site: &Site<'_>, axes: &Listed, keep_all: bool) -> Option<Vec<Size>> {
    let dims = site.input(0).dims.as_ref()?;
    let keep = site.number("keepdims", 1) != 0;
    let gone: Vec<usize> = match axes {
        Listed::Known(axes) if axes.is_empty() && keep_all => Vec::new(),
        Listed::Known(axes) if !axes.is_empty() => {
            axes.iter().map(|axis| index(*axis, dims.len())).collect::<Option<_>>()?
        }
        Listed::Absent if keep_all => Vec::new(),
        Listed::Known(_) | Listed::Absent => (0..dims.len()).collect(),
        Listed::Unknown if keep => return Some(vec![None; dims.len()]),
        Listed::Unknown => return None,
    };
    let left = |(axis, size): (usize, &Size)| {
        if gone.contains(&axis) { keep.then(|| fixed(1)) } else { Some(size.clone()) }
    };
    Some(dims.iter().enumerate().filter_map(left).collect())
}
