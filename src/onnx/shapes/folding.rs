//! The values of small whole-number tensors, followed through what graphs compute shapes with.

use super::{
    Expr, KNOWN_MAX, Size, Value, count, index, layout,
    node::{Listed, Site, fixed},
};
use crate::onnx::{
    proto::{TensorProto, element},
    ranges,
};

/// A weight: its shape, and its elements if they are few and whole.
pub(super) fn tensor(tensor: &TensorProto) -> Value {
    let dims = tensor.dims.iter().map(|size| (*size >= 0).then(|| Expr::constant(*size))).collect();
    let value = Value::new(Some(tensor.data_type), Some(dims));
    let count =
        tensor.dims.iter().try_fold(1usize, |count, size| count.checked_mul(usize::try_from(*size).ok()?));
    let Some(count) = count.filter(|count| *count <= KNOWN_MAX) else { return value };
    match ranges::integers(tensor) {
        Some(known) if known.len() == count => value.knowing(known.into_iter().map(fixed).collect()),
        _ => value,
    }
}

/// What operators give that take a shape, or nothing.
pub(super) fn made(operator: &str, site: &Site<'_>) -> Value {
    match operator {
        "Shape" => shape(site),
        "Size" => scalar(element::INT64).knowing(vec![site.input(0).elements()]),
        "Constant" => constant(site),
        "EyeLike" => {
            let element = i32::try_from(site.number("dtype", 0)).ok().filter(|code| *code != 0);
            Value { element: element.or(site.input(0).element), ..site.like(0) }
        }
        _ => {
            let filled = site.tensor("value");
            let element = filled.map_or(element::FLOAT, |tensor| tensor.data_type);
            let wanted = site.input(0);
            let dims = wanted.known.as_ref().map(|known| known.to_vec()).or_else(|| layout::open(wanted));
            let value = Value::new(Some(element), dims);
            let with = match filled {
                Some(filled) => tensor(filled).numbers().and_then(|numbers| numbers.first().copied()),
                None => Some(0),
            };
            let count = value.elements().as_ref().and_then(Expr::as_constant);
            let count =
                count.and_then(|count| usize::try_from(count).ok()).filter(|count| *count <= KNOWN_MAX);
            match (with, count) {
                (Some(with), Some(count)) => value.knowing(vec![fixed(with); count]),
                _ => value,
            }
        }
    }
}

fn scalar(element: i32) -> Value {
    Value::new(Some(element), Some(Vec::new()))
}

fn shape(site: &Site<'_>) -> Value {
    let Some(dims) = &site.input(0).dims else {
        return Value::new(Some(element::INT64), Some(vec![None]));
    };
    let rank = count(dims.len());
    let place = |axis: i64| (if axis < 0 { axis.saturating_add(rank) } else { axis }).clamp(0, rank) as usize;
    let (start, end) = (place(site.number("start", 0)), place(site.number("end", rank)));
    Value::list(element::INT64, dims.get(start..end).unwrap_or_default().to_vec())
}

fn constant(site: &Site<'_>) -> Value {
    if let Some(value) = site.tensor("value") {
        return tensor(value);
    }
    if site.text("value_string").is_some() {
        return scalar(element::STRING);
    }
    if let Some(numbers) = site.numbers("value_ints") {
        return Value::list(element::INT64, numbers.iter().copied().map(fixed).collect());
    }
    match (site.real("value_float"), site.number_if_there("value_int")) {
        (Some(_), _) => scalar(element::FLOAT),
        (None, Some(number)) => scalar(element::INT64).knowing(vec![fixed(number)]),
        (None, None) => Value::default(),
    }
}

fn whole(value: &Value) -> bool {
    value.element.is_some_and(|code| matches!(code, element::INT64 | element::INT32 | element::BOOL))
}

/// The elements of the first output, where they follow from the inputs'.
pub(super) fn fold(site: &Site<'_>) -> Option<Vec<Size>> {
    let ("", operator) = site.operator() else { return None };
    let first = site.input(0);
    let known = |at: usize| site.input(at).known.as_ref().map(|known| known.to_vec());
    match operator {
        "Identity" | "Unsqueeze" | "Squeeze" | "Reshape" | "Flatten" => known(0),
        "Cast" => cast(site, known(0)?),
        "Gather" => gather(site),
        "Slice" => slice(site),
        "Transpose" => transpose(site),
        "Concat" if first.rank() == Some(1) => {
            let parts: Option<Vec<_>> = (0..site.inputs().len()).map(known).collect();
            parts.map(|parts| parts.concat()).filter(|known| known.len() <= KNOWN_MAX)
        }
        "Neg" if whole(first) => Some(each(&known(0)?, |value| Expr::default().minus(value))),
        "Not" => Some(each(&known(0)?, |value| Some(Expr::constant(i64::from(value.as_constant()? == 0))))),
        "ReduceProd" | "ReduceSum" | "ReduceMax" | "ReduceMin" if whole(first) => reduced(operator, site),
        "Range" => range(site),
        "Where" => {
            let (condition, a, b) = (known(0)?, known(1)?, known(2)?);
            let count = site_count(site)?;
            let at =
                |list: &[Size], at: usize| list.get(if list.len() == 1 { 0 } else { at }).cloned().flatten();
            let pick = |place: usize| {
                let chosen = at(&condition, place)?.as_constant()?;
                at(if chosen == 0 { &b } else { &a }, place)
            };
            Some((0..count).map(pick).collect())
        }
        _ if whole(first) => pairs(operator, site),
        _ => None,
    }
}

fn each(known: &[Size], make: impl Fn(&Expr) -> Size) -> Vec<Size> {
    known.iter().map(|value| make(value.as_ref()?)).collect()
}

/// Elements that an elementwise operator gives, when each input has as many or one.
fn site_count(site: &Site<'_>) -> Option<usize> {
    let counts: Option<Vec<_>> =
        site.inputs().iter().map(|value| value.known.as_ref().map(|known| known.len())).collect();
    let count = counts.as_ref()?.iter().copied().max()?;
    // Other than for lists and single elements, which element meets which depends on the axes.
    let plain = site.inputs().iter().all(|value| value.rank().is_some_and(|rank| rank <= 1));
    (plain && counts?.iter().all(|other| *other == count || *other == 1)).then_some(count)
}

fn pairs(operator: &str, site: &Site<'_>) -> Option<Vec<Size>> {
    let [a, b] = site.inputs() else { return None };
    if !(whole(a) && whole(b)) {
        return None;
    }
    let count = site_count(site)?;
    let (a, b) = (a.known.as_ref()?, b.known.as_ref()?);
    let at = |list: &[Size], at: usize| list[if list.len() == 1 { 0 } else { at }].clone();
    Some((0..count).map(|place| pair(operator, &at(a, place)?, &at(b, place)?)).collect())
}

fn pair(operator: &str, a: &Expr, b: &Expr) -> Size {
    let flag = |flag: bool| Some(Expr::constant(i64::from(flag)));
    let difference = || a.minus(b)?.as_constant();
    match operator {
        "Add" => a.plus(b),
        "Sub" => a.minus(b),
        "Mul" => a.times(b),
        "Div" => quotient(a, b),
        "Mod" => {
            let (a, b) = (a.as_constant()?, b.as_constant()?);
            (a >= 0 && b > 0).then(|| Expr::constant(a % b))
        }
        "Max" => a.larger(b),
        "Min" => a.smaller(b),
        "And" => flag(a.as_constant()? != 0 && b.as_constant()? != 0),
        "Or" => flag(a.as_constant()? != 0 || b.as_constant()? != 0),
        "Equal" => flag(difference()? == 0),
        "Less" => flag(difference()? < 0),
        "LessOrEqual" => flag(difference()? <= 0),
        "Greater" => flag(difference()? > 0),
        "GreaterOrEqual" => flag(difference()? >= 0),
        _ => None,
    }
}

/// Whole numbers are divided towards zero, which is rounding down where nothing is negative.
fn quotient(a: &Expr, b: &Expr) -> Size {
    if let (Some(a), Some(b)) = (a.as_constant(), b.as_constant()) {
        return a.checked_div(b).map(Expr::constant);
    }
    let quotient = a.over(b)?;
    (a.never_negative() || quotient.times(b)? == *a).then_some(quotient)
}

fn cast(site: &Site<'_>, known: Vec<Size>) -> Option<Vec<Size>> {
    match i32::try_from(site.number("to", 0)).ok()? {
        element::INT64 => Some(known),
        element::INT32 => {
            let fits = |value: &Expr| match value.as_constant() {
                Some(value) => i32::try_from(value).is_ok().then(|| Expr::constant(value)),
                // No tensor has an axis of more.
                None => Some(value.clone()),
            };
            Some(each(&known, fits))
        }
        element::BOOL => {
            Some(each(&known, |value| Some(Expr::constant(i64::from(value.as_constant()? != 0)))))
        }
        _ => None,
    }
}

/// The sizes of a tensor that is followed by value.
fn sizes(value: &Value) -> Option<Vec<usize>> {
    let size = |size: &Size| usize::try_from(size.as_ref()?.as_constant()?).ok();
    let dims = value.dims.as_ref()?.iter().map(size).collect::<Option<Vec<_>>>()?;
    // An empty tensor may have any other dimensions, and a file may say of any what its elements do not fit.
    let elements = dims.iter().try_fold(1usize, |product, size| product.checked_mul(*size))?;
    (elements > 0 && value.known.as_ref()?.len() == elements).then_some(dims)
}

/// The elements at these places of an axis.
fn along(value: &Value, axis: usize, places: &[usize]) -> Option<Vec<Size>> {
    let (known, dims) = (value.known.as_ref()?, sizes(value)?);
    let inner: usize = dims[axis + 1..].iter().product();
    let outer: usize = dims[..axis].iter().product();
    if outer * places.len() * inner > KNOWN_MAX {
        return None;
    }
    let length = dims[axis];
    let rows = (0..outer).flat_map(|row| places.iter().map(move |place| (row * length + place) * inner));
    Some(rows.flat_map(|from| known[from..from + inner].iter().cloned()).collect())
}

fn gather(site: &Site<'_>) -> Option<Vec<Size>> {
    let (data, places) = (site.input(0), site.input(1));
    let axis = site.axis(0, data.rank()?)?;
    let length = *sizes(data)?.get(axis)?;
    let places = places.numbers()?;
    along(data, axis, &places.iter().map(|place| index(*place, length)).collect::<Option<Vec<_>>>()?)
}

/// Along one axis.
fn slice(site: &Site<'_>) -> Option<Vec<Size>> {
    let data = site.input(0);
    let dims = sizes(data)?;
    let one = |name, at, default| match site.listed(name, at) {
        Listed::Known(numbers) => <[i64; 1]>::try_from(numbers).ok().map(|[number]| number),
        Listed::Absent => Some(default),
        Listed::Unknown => None,
    };
    let (start, end, step) = (one("starts", 1, 0)?, one("ends", 2, i64::MAX)?, one("steps", 4, 1)?);
    let axis = index(one("axes", 3, 0)?, dims.len())?;
    let length = i64::try_from(dims[axis]).ok()?;
    let place = |at: i64, least: i64, most: i64| {
        (if at < 0 { at.saturating_add(length) } else { at }).clamp(least, most)
    };
    let places: Vec<i64> = if step > 0 {
        let step = usize::try_from(step).ok()?;
        (place(start, 0, length)..place(end, 0, length)).step_by(step).collect()
    } else {
        let step = usize::try_from(step.checked_neg()?).ok().filter(|step| *step > 0)?;
        let (from, to) = (place(start, -1, length - 1), place(end, -1, length - 1));
        (to + 1..=from).rev().step_by(step).collect()
    };
    along(data, axis, &places.into_iter().map(|place| place as usize).collect::<Vec<_>>())
}

/// Of a matrix.
fn transpose(site: &Site<'_>) -> Option<Vec<Size>> {
    let data = site.input(0);
    let (known, dims) = (data.known.as_ref()?, sizes(data)?);
    let [rows, columns] = dims[..] else { return (dims.len() < 2).then(|| known.to_vec()) };
    if site.numbers("perm").is_some_and(|order| order != [1, 0]) {
        return None;
    }
    Some(
        (0..columns)
            .flat_map(|column| (0..rows).map(move |row| row * columns + column))
            .map(|at| known[at].clone())
            .collect(),
    )
}

/// Of a list, to one element.
fn reduced(operator: &str, site: &Site<'_>) -> Option<Vec<Size>> {
    let list = site.input(0);
    if list.rank() != Some(1) || matches!(site.listed("axes", 1), Listed::Unknown) {
        return None;
    }
    let all = list.all()?;
    let mut rest = all.into_iter();
    let first = rest.next()?;
    let together = rest.try_fold(first, |a, b| match operator {
        "ReduceProd" => a.times(&b),
        "ReduceSum" => a.plus(&b),
        "ReduceMax" => a.larger(&b),
        _ => a.smaller(&b),
    });
    Some(vec![together])
}

fn range(site: &Site<'_>) -> Option<Vec<Size>> {
    let number = |at: usize| site.input(at).numbers().and_then(|numbers| numbers.first().copied());
    let (start, limit, step) = (number(0)?, number(1)?, number(2)?);
    if step == 0 {
        return None;
    }
    let mut list = Vec::new();
    let mut at = start;
    while if step > 0 { at < limit } else { at > limit } {
        if list.len() == KNOWN_MAX {
            return None;
        }
        list.push(fixed(at));
        at = at.checked_add(step)?;
    }
    Some(list)
}
