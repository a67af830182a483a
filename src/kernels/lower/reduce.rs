//! Operators that make one number of many, softmax, and running sums.

use super::{
    LowerError, builder::Builder, elementwise::mapped, layout::given, operators::Lower, site::Site,
    value::Value,
};
use crate::{
    domain::Datatype,
    kernels::{
        host::Host,
        ir::{Binary, Call, Expr, Reduce, ReduceOp, Softmax, To, Unary},
    },
};

pub(super) fn of((domain, operator): (&str, &str)) -> Option<Lower> {
    let lower: Lower = match (domain, operator) {
        (
            "",
            "ReduceSum" | "ReduceMean" | "ReduceMax" | "ReduceMin" | "ReduceProd" | "ReduceSumSquare"
            | "ReduceL1" | "ReduceL2" | "ReduceLogSum" | "ReduceLogSumExp",
        ) => reduce,
        ("", "ArgMax" | "ArgMin") => extreme,
        ("", "Softmax" | "LogSoftmax") => softmax,
        ("", "CumSum") => running_sum,
        ("", "LpNormalization") => lp_normalization,
        _ => return None,
    };
    Some(lower)
}

/// Over these axes, which become 1.
pub(super) fn reduced(
    builder: &mut Builder,
    op: ReduceOp,
    value: &Value,
    axes: &[usize],
) -> Result<Value, LowerError> {
    let places = matches!(op, ReduceOp::ArgMax | ReduceOp::ArgMin);
    let datatype = if places { Datatype::Int64 } else { value.datatype };
    let mut shape = value.shape.clone();
    for axis in axes {
        shape[*axis] = 1;
    }
    let len: usize = axes.iter().map(|axis| value.shape[*axis]).product();
    let output = builder.fresh(datatype, &shape)?;
    if output.len() == 0 {
        return builder.empty(datatype, &shape);
    }
    let wide: Vec<usize> = axes.iter().copied().filter(|axis| value.shape[*axis] > 1).collect();
    let apart = wide.windows(2).any(|pair| value.shape[pair[0] + 1..pair[1]].iter().any(|size| *size > 1));
    let (input, inner) = if apart {
        let kept = (0..value.rank()).filter(|axis| !axes.contains(axis));
        let order: Vec<usize> = kept.chain(axes.iter().copied()).collect();
        (builder.dense(&value.transposed(&order))?, 1)
    } else {
        let behind = wide.last().map_or(value.rank(), |axis| axis + 1);
        (builder.dense(value)?, value.shape[behind..].iter().product())
    };
    let outer = output.len() / inner;
    let call = Reduce { op, input: input.slot, output: output.slot, outer, len, inner };
    builder.emit(vec![Call::Reduce(call)], &output);
    Ok(output)
}

fn reduce(builder: &mut Builder, site: &Site<'_>) -> Result<Vec<Value>, LowerError> {
    let x = site.input(0)?;
    let axes = given(builder, site, 1, "axes")?.unwrap_or_default();
    let kind = site.node.op_type.trim_start_matches("Reduce");
    if axes.is_empty() && site.number("noop_with_empty_axes", 0) != 0 {
        return match kind {
            "Sum" | "Mean" | "Max" | "Min" | "Prod" => Ok(vec![x.clone()]),
            _ => Err(site.refuse("reduces nothing")),
        };
    }
    let axes = if axes.is_empty() { (0..x.rank()).collect() } else { site.axes(&axes, x.rank())? };
    let len: usize = axes.iter().map(|axis| x.shape[*axis]).product();
    let made = if len == 0 {
        of_nothing(builder, site, x, &axes, kind)?
    } else {
        some(builder, site, x, &axes, kind)?
    };
    if site.number("keepdims", 1) != 0 {
        return Ok(vec![made]);
    }
    Ok(vec![axes.into_iter().rev().fold(made, |made, axis| made.at(axis, 0))])
}

fn some(
    builder: &mut Builder,
    site: &Site<'_>,
    x: &Value,
    axes: &[usize],
    kind: &str,
) -> Result<Value, LowerError> {
    let square = |builder: &mut Builder| {
        mapped(builder, site, &[x], x.datatype, |parts| {
            let x = parts[0].clone();
            x.clone() * x
        })
    };
    let op = match kind {
        "Sum" | "LogSum" => ReduceOp::Sum,
        "Mean" => ReduceOp::Mean,
        "Max" => ReduceOp::Max,
        "Min" => ReduceOp::Min,
        "Prod" => ReduceOp::Prod,
        "SumSquare" => ReduceOp::SumSquare,
        "L1" => ReduceOp::L1,
        "L2" => ReduceOp::L2,
        _ => ReduceOp::LogSumExp,
    };
    let log = |builder: &mut Builder, sum: &Value| {
        mapped(builder, site, &[sum], x.datatype, |parts| parts[0].clone().then(Unary::Log))
    };
    match (kind, x.is_float()) {
        ("LogSum", true) => {
            let sum = reduced(builder, op, x, axes)?;
            log(builder, &sum)
        }
        (_, true) | ("Sum" | "Max" | "Min" | "Prod", false) => reduced(builder, op, x, axes),
        ("Mean", false) => {
            let sum = reduced(builder, ReduceOp::Sum, x, axes)?;
            let len: usize = axes.iter().map(|axis| x.shape[*axis]).product();
            let count = Expr::Int(len as i32);
            mapped(builder, site, &[&sum], x.datatype, |parts| parts[0].clone() / count)
        }
        ("SumSquare", false) => {
            let squares = square(builder)?;
            reduced(builder, ReduceOp::Sum, &squares, axes)
        }
        ("L1", false) => {
            let far = mapped(builder, site, &[x], x.datatype, |parts| parts[0].clone().then(Unary::Abs))?;
            reduced(builder, ReduceOp::Sum, &far, axes)
        }
        _ => Err(site.refuse(format!("takes {}", x.datatype))),
    }
}

/// What an operator makes of no elements.
fn of_nothing(
    builder: &mut Builder,
    site: &Site<'_>,
    x: &Value,
    axes: &[usize],
    kind: &str,
) -> Result<Value, LowerError> {
    let real = match kind {
        "Sum" | "SumSquare" | "L1" | "L2" => 0.0,
        "Prod" => 1.0,
        "Max" | "LogSum" | "LogSumExp" => f32::NEG_INFINITY,
        "Min" => f32::INFINITY,
        _ => f32::NAN,
    };
    if !x.is_float() && !real.is_finite() {
        return Err(site.refuse("takes whole numbers of which there are none"));
    }
    let host = if x.is_float() { Host::F32(vec![real]) } else { Host::I64(vec![real as i64]) };
    let mut shape = x.shape.clone();
    for axis in axes {
        shape[*axis] = 1;
    }
    Ok(builder.constant(x.datatype, &[], host).expanded(&shape))
}

fn extreme(builder: &mut Builder, site: &Site<'_>) -> Result<Vec<Value>, LowerError> {
    let x = site.input(0)?;
    let axis = site.axis(site.number("axis", 0), x.rank())?;
    let len = x.shape[axis];
    let narrow =
        !matches!(x.datatype, Datatype::Int32 | Datatype::Int64 | Datatype::Uint32 | Datatype::Uint64);
    if len == 0 {
        return Err(site.refuse("takes no elements"));
    }
    let greatest = site.node.op_type == "ArgMax";
    let (mut value, op) = if narrow {
        let op = if greatest { ReduceOp::ArgMax } else { ReduceOp::ArgMin };
        (builder.cast(x, Datatype::Fp32)?, op)
    } else {
        (flagged(builder, site, x, axis, greatest)?, ReduceOp::ArgMax)
    };
    let from_the_end = site.number("select_last_index", 0) != 0;
    if from_the_end {
        value = value.sliced(axis, len - 1, -1, len);
    }
    let mut made = reduced(builder, op, &value, &[axis])?;
    if from_the_end {
        let last = Expr::Int(len as i32 - 1);
        made = mapped(builder, site, &[&made], Datatype::Int64, |parts| last - parts[0].clone())?;
    }
    Ok(vec![if site.number("keepdims", 1) == 0 { made.at(axis, 0) } else { made }])
}

/// Whole numbers that floats may not tell apart: 1 where the greatest or the least is, else 0.
fn flagged(
    builder: &mut Builder,
    site: &Site<'_>,
    x: &Value,
    axis: usize,
    greatest: bool,
) -> Result<Value, LowerError> {
    let op = if greatest { ReduceOp::Max } else { ReduceOp::Min };
    let extreme = reduced(builder, op, x, &[axis])?;
    mapped(builder, site, &[x, &extreme], Datatype::Fp32, |parts| {
        let [x, extreme]: [Expr; 2] = parts.try_into().expect("two were given");
        x.with(Binary::Equal, extreme).cast(To::Float)
    })
}

fn softmax(builder: &mut Builder, site: &Site<'_>) -> Result<Vec<Value>, LowerError> {
    let x = site.input(0)?;
    let old = site.opset < 13;
    let axis = site.number("axis", if old { 1 } else { -1 });
    // Before version 13 all axes from there on are one.
    let axis = if old && axis == x.rank() as i64 { x.rank() } else { site.axis(axis, x.rank().max(1))? };
    let log = site.node.op_type == "LogSoftmax";
    if x.len() == 0 {
        return Ok(vec![x.clone()]);
    }
    let input = builder.dense(x)?;
    let output = builder.fresh(x.datatype, &x.shape)?;
    let outer: usize = x.shape[..axis.min(x.rank())].iter().product();
    let inner = if old { 1 } else { x.shape.iter().skip(axis + 1).product() };
    let len = x.len() / outer / inner;
    let call = Softmax { input: input.slot, output: output.slot, outer, len, inner, log };
    builder.emit(vec![Call::Softmax(call)], &output);
    Ok(vec![output])
}

/// In steps of twice as many elements each: what is `step` before is added to everything.
fn running_sum(builder: &mut Builder, site: &Site<'_>) -> Result<Vec<Value>, LowerError> {
    let x = site.input(0)?;
    let axis = builder.numbers(site, site.input(1)?)?.first().copied().unwrap_or_default();
    let axis = site.axis(axis, x.rank())?;
    let len = x.shape[axis];
    let reverse = site.number("reverse", 0) != 0;
    let turned = |value: &Value| {
        if reverse && len > 0 { value.sliced(axis, len - 1, -1, len) } else { value.clone() }
    };
    let mut value = turned(x);
    if site.number("exclusive", 0) != 0 && len > 0 {
        let zero = Host::zeros(builder.element(x), 1);
        let mut shape = x.shape.clone();
        shape[axis] = 1;
        let zeros = builder.constant(x.datatype, &[], zero).expanded(&shape);
        value = builder.concat(&[zeros, value.sliced(axis, 0, 1, len - 1)], axis)?;
    }
    let mut step = 1;
    while step < len {
        let made = builder.fresh(x.datatype, &x.shape)?;
        let part = |from, len| value.sliced(axis, from, 1, len);
        let (first, later, before) = (part(0, step), part(step, len - step), part(0, len - step));
        let [to_first, to_later] = [made.sliced(axis, 0, 1, step), made.sliced(axis, step, 1, len - step)];
        let copy = Builder::mapping(&first.shape.clone(), &[first], &to_first, Expr::Input(0))?;
        let sum = Expr::Input(0).with(Binary::Add, Expr::Input(1));
        let add = Builder::mapping(&later.shape.clone(), &[later, before], &to_later, sum)?;
        builder.emit(copy.into_iter().chain(add).collect(), &made);
        value = made;
        step *= 2;
    }
    Ok(vec![turned(&value)])
}

fn lp_normalization(builder: &mut Builder, site: &Site<'_>) -> Result<Vec<Value>, LowerError> {
    let x = site.input(0)?;
    let axis = site.axis(site.number("axis", -1), x.rank())?;
    let op = match site.number("p", 2) {
        1 => ReduceOp::L1,
        2 => ReduceOp::L2,
        p => return Err(site.refuse(format!("takes the norm {p}"))),
    };
    if !x.is_float() || x.len() == 0 {
        return Err(site.refuse(format!("takes {} of {:?}", x.datatype, x.shape)));
    }
    let norm = reduced(builder, op, x, &[axis])?;
    let made = mapped(builder, site, &[x, &norm], x.datatype, |parts| {
        let [x, norm]: [Expr; 2] = parts.try_into().expect("two were given");
        let none = norm.clone().with(Binary::Equal, Expr::Float(0.0));
        x / none.choose(Expr::Float(1.0), norm)
    })?;
    Ok(vec![made])
}
