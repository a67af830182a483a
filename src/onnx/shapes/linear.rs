//! Operators that multiply and add: products of matrices, convolutions, pools, recurrences.

use super::{
    Expr, Size, Value,
    node::{Site, fixed},
    rules,
};
use crate::onnx::proto::element;

pub(super) fn outputs(operator: &str, site: &Site<'_>) -> Option<Vec<Value>> {
    let first = site.input(0);
    let one = |dims: Option<Vec<Size>>| Some(vec![Value::new(first.element, dims)]);
    let typed = |element: Option<i32>, dims| Some(vec![Value::new(element, dims)]);
    match operator {
        "MatMul" => one(matmul(first.dims.as_ref()?, site.input(1).dims.as_ref()?)),
        "MatMulInteger" => {
            typed(Some(element::INT32), matmul(first.dims.as_ref()?, site.input(1).dims.as_ref()?))
        }
        "QLinearMatMul" => {
            typed(site.input(7).element, matmul(first.dims.as_ref()?, site.input(3).dims.as_ref()?))
        }
        "Gemm" => one(gemm(site)),
        "Einsum" => one(einsum(site)),
        "Conv" => one(convolved(site, 1)),
        "ConvInteger" => typed(Some(element::INT32), convolved(site, 1)),
        "QLinearConv" => typed(site.input(7).element, convolved(site, 3)),
        "ConvTranspose" => one(transposed(site)),
        "MaxPool" => {
            let dims = pooled(site);
            Some(vec![Value::new(first.element, dims.clone()), Value::new(Some(element::INT64), dims)])
        }
        "AveragePool" | "LpPool" => one(pooled(site)),
        "GlobalAveragePool" | "GlobalMaxPool" | "GlobalLpPool" => {
            let dims = first.dims.as_ref()?;
            one(Some(
                dims.iter()
                    .enumerate()
                    .map(|(axis, size)| if axis < 2 { size.clone() } else { fixed(1) })
                    .collect(),
            ))
        }
        "LSTM" | "GRU" | "RNN" => Some(recurrent(operator, site)),
        _ => None,
    }
}

fn matmul(a: &[Size], b: &[Size]) -> Option<Vec<Size>> {
    let ([.., _], [.., _]) = (a, b) else { return None };
    // A vector is a row on the left and a column on the right, and is none in the result.
    let (rows, left) =
        if a.len() == 1 { (None, &a[..0]) } else { (Some(a[a.len() - 2].clone()), &a[..a.len() - 2]) };
    let (columns, right) =
        if b.len() == 1 { (None, &b[..0]) } else { (b.last().cloned(), &b[..b.len() - 2]) };
    let mut dims = rules::broadcast(&[left, right])?;
    dims.extend(rows.into_iter().chain(columns));
    Some(dims)
}

pub(super) fn fused_matmul(site: &Site<'_>) -> Value {
    let turned = |at: usize, name: &str| {
        let mut dims = site.input(at).dims.clone()?;
        let rank = dims.len();
        if site.number(name, 0) != 0 && rank >= 2 {
            dims.swap(rank - 2, rank - 1);
        }
        Some(dims)
    };
    let plain = site.number("transBatchA", 0) == 0 && site.number("transBatchB", 0) == 0;
    let dims = turned(0, "transA").zip(turned(1, "transB")).filter(|_| plain);
    Value::new(site.input(0).element, dims.and_then(|(a, b)| matmul(&a, &b)))
}

fn gemm(site: &Site<'_>) -> Option<Vec<Size>> {
    let ([a, b], [c, d]) = (site.input(0).dims.as_deref()?, site.input(1).dims.as_deref()?) else {
        return None;
    };
    let rows = if site.number("transA", 0) == 0 { a } else { b };
    let columns = if site.number("transB", 0) == 0 { d } else { c };
    Some(vec![rows.clone(), columns.clone()])
}

/// Both cases of the alphabet.
const LETTERS_MAX: usize = 52;

/// Letters of an equation, each with its size; nothing for what it leaves implied.
pub(in crate::onnx) fn letters(site: &Site<'_>) -> Option<(Vec<(char, Size)>, String)> {
    let equation: String = site.text("equation")?.chars().filter(|c| !c.is_whitespace()).collect();
    let (left, right) = equation.split_once("->")?;
    if equation.contains('.') {
        return None;
    }
    let mut sizes: Vec<(char, Size)> = Vec::new();
    for (at, term) in left.split(',').enumerate() {
        let dims = site.input(at).dims.as_ref()?;
        if term.chars().count() != dims.len() {
            return None;
        }
        for (letter, size) in term.chars().zip(dims) {
            let room = sizes.len() < LETTERS_MAX;
            match sizes.iter_mut().find(|(known, _)| *known == letter) {
                Some((_, known)) => *known = known.take().or_else(|| size.clone()),
                None if room => sizes.push((letter, size.clone())),
                None => return None,
            }
        }
    }
    Some((sizes, right.to_owned()))
}

fn einsum(site: &Site<'_>) -> Option<Vec<Size>> {
    let (sizes, right) = letters(site)?;
    let size = |letter: char| sizes.iter().find(|(known, _)| *known == letter).map(|(_, size)| size.clone());
    right.chars().map(size).collect()
}

/// How a window moves along one axis.
struct Window {
    kernel: Size,
    stride: i64,
    dilation: i64,
    before: i64,
    after: i64,
}

/// One for each axis but the first two; the kernel has these sizes.
fn windows(site: &Site<'_>, kernel: &[Size]) -> Option<Vec<Window>> {
    let (strides, dilations, pads) =
        (site.numbers("strides"), site.numbers("dilations"), site.numbers("pads"));
    let (axes, at) = (kernel.len(), |list: Option<&[i64]>, at: usize, default| match list {
        Some(list) => list.get(at).copied(),
        None => Some(default),
    });
    let window = |axis: usize| {
        Some(Window {
            kernel: kernel[axis].clone(),
            stride: at(strides, axis, 1).filter(|stride| *stride > 0)?,
            dilation: at(dilations, axis, 1).filter(|dilation| *dilation > 0)?,
            before: at(pads, axis, 0)?,
            after: at(pads, axis + axes, 0)?,
        })
    };
    (0..axes).map(window).collect()
}

impl Window {
    /// Elements that the kernel spans.
    fn span(&self) -> Size {
        let one = Expr::constant(1);
        self.kernel.as_ref()?.minus(&one)?.times(&Expr::constant(self.dilation))?.plus(&one)
    }

    /// Places that it stops at.
    fn stops(&self, size: &Size, padding: &str, up: bool) -> Size {
        let (size, stride) = (size.as_ref()?, Expr::constant(self.stride));
        match padding {
            "SAME_UPPER" | "SAME_LOWER" => size.over_up(&stride),
            "VALID" => size.minus(&self.span()?)?.plus(&stride)?.over(&stride),
            "NOTSET" => {
                let pads = Expr::constant(self.before.checked_add(self.after)?);
                let beyond = size.plus(&pads)?.minus(&self.span()?)?;
                if !up {
                    return beyond.plus(&stride)?.over(&stride);
                }
                // Rounded up, but no window begins beyond the element after the last; which only numbers tell.
                let stops = beyond.over_up(&stride)?.plus(&Expr::constant(1))?;
                let (last, end) = (stops.as_constant()?, size.as_constant()?);
                let over = last.checked_sub(1)?.checked_mul(self.stride)? >= end.checked_add(self.before)?;
                Some(Expr::constant(if over { last - 1 } else { last }))
            }
            _ => None,
        }
    }
}

fn padding<'a>(site: &Site<'a>) -> &'a str {
    site.text("auto_pad").filter(|padding| !padding.is_empty()).unwrap_or("NOTSET")
}

fn moved(site: &Site<'_>, kernel: &[Size], channels: Size) -> Option<Vec<Size>> {
    let dims = site.input(0).dims.as_ref().filter(|dims| dims.len() == kernel.len() + 2)?;
    let up = site.number("ceil_mode", 0) != 0;
    let windows = windows(site, kernel)?;
    let axes = windows.iter().zip(&dims[2..]).map(|(window, size)| window.stops(size, padding(site), up));
    Some([dims[0].clone(), channels].into_iter().chain(axes).collect())
}

/// The kernel's sizes: those that are stated, else the weight's.
fn kernel(site: &Site<'_>, weight: &Value) -> Option<Vec<Size>> {
    match site.numbers("kernel_shape") {
        Some(sizes) => Some(sizes.iter().copied().map(fixed).collect()),
        None => Some(weight.dims.as_ref()?.get(2..)?.to_vec()),
    }
}

fn convolved(site: &Site<'_>, weight: usize) -> Option<Vec<Size>> {
    let weight = site.input(weight);
    moved(site, &kernel(site, weight)?, weight.size(0))
}

fn pooled(site: &Site<'_>) -> Option<Vec<Size>> {
    let kernel: Vec<_> = site.numbers("kernel_shape")?.iter().copied().map(fixed).collect();
    moved(site, &kernel, site.input(0).size(1))
}

fn transposed(site: &Site<'_>) -> Option<Vec<Size>> {
    let weight = site.input(1);
    let kernel = kernel(site, weight)?;
    let dims = site.input(0).dims.as_ref().filter(|dims| dims.len() == kernel.len() + 2)?;
    let channels = weight.size(1).and_then(|size| size.times(&Expr::constant(site.number("group", 1))));
    let (more, stated) = (site.numbers("output_padding"), site.numbers("output_shape"));
    let size = |axis: usize, window: &Window| {
        if let Some(stated) = stated {
            return stated.get(axis).copied().and_then(fixed);
        }
        let (size, stride) = (dims[axis + 2].as_ref()?, Expr::constant(window.stride));
        match padding(site) {
            "SAME_UPPER" | "SAME_LOWER" => return size.times(&stride),
            "NOTSET" | "VALID" => {}
            _ => return None,
        }
        let more = more.and_then(|more| more.get(axis).copied()).unwrap_or(0);
        let pads = window.before.checked_add(window.after)?;
        let more = Expr::constant(more.checked_sub(pads)?);
        size.minus(&Expr::constant(1))?.times(&stride)?.plus(&window.span()?)?.plus(&more)
    };
    let windows = windows(site, &kernel)?;
    let axes = windows.iter().enumerate().map(|(axis, window)| size(axis, window));
    Some([dims[0].clone(), channels].into_iter().chain(axes).collect())
}

fn recurrent(operator: &str, site: &Site<'_>) -> Vec<Value> {
    let input = site.input(0);
    let Some([steps, batch, _]) = input.dims.as_deref() else { return Vec::new() };
    let hidden = fixed(site.number("hidden_size", 0)).filter(|hidden| !hidden.is(0));
    let directions = fixed(if site.text("direction") == Some("bidirectional") { 2 } else { 1 });
    let (all, last) = if site.number("layout", 0) == 0 {
        (
            vec![steps.clone(), directions.clone(), batch.clone(), hidden.clone()],
            vec![directions, batch.clone(), hidden],
        )
    } else {
        // The first two of the input are the other way about.
        (
            vec![steps.clone(), batch.clone(), directions.clone(), hidden.clone()],
            vec![steps.clone(), directions, hidden],
        )
    };
    let states = if operator == "LSTM" { 2 } else { 1 };
    let mut outputs = vec![Value::new(input.element, Some(all))];
    outputs.extend(vec![Value::new(input.element, Some(last)); states]);
    outputs
}
