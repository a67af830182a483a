//! Rows, groups and channels brought to one mean and size.

use super::{
    LowerError,
    builder::Builder,
    copies::common,
    operators::Lower,
    site::Site,
    value::{Value, broadcast},
};
use crate::kernels::ir::{Binary, Call, Expr, Norm, NormKind, Reduce, ReduceOp, Unary};

pub(super) fn of(key: (&str, &str)) -> Option<Lower> {
    Some(match key {
        ("", "LayerNormalization") => |builder, site| rows(builder, site, NormKind::Layer),
        ("", "RMSNormalization") | ("" | "com.microsoft", "SimplifiedLayerNormalization") => {
            |builder, site| rows(builder, site, NormKind::Rms)
        }
        ("com.microsoft", "SkipLayerNormalization") => |builder, site| skip(builder, site, NormKind::Layer),
        ("com.microsoft", "SkipSimplifiedLayerNormalization") => {
            |builder, site| skip(builder, site, NormKind::Rms)
        }
        ("", "GroupNormalization") => groups,
        ("", "InstanceNormalization") => channels,
        ("", "MeanVarianceNormalization") => mean_variance,
        ("", "LpNormalization") => length,
        _ => return None,
    })
}

/// What rows are brought to.
struct Form {
    kind: NormKind,
    epsilon: f32,
    scale: Option<Value>,
    bias: Option<Value>,
}

/// Over rows of `len` that lie behind each other; what is added before is kept where it is wanted.
fn norm(
    builder: &mut Builder,
    value: &Value,
    skip: Option<&Value>,
    len: usize,
    form: Form,
    keep: bool,
) -> Result<(Value, Option<Value>), LowerError> {
    if value.len() == 0 {
        let empty = builder.empty(value.datatype, &value.shape)?;
        return Ok((empty.clone(), keep.then_some(empty)));
    }
    let input = builder.dense(value)?;
    let skip = skip.map(|skip| builder.dense(skip)).transpose()?;
    let output = builder.fresh(value.datatype, &value.shape)?;
    let sum = if keep { Some(builder.fresh(value.datatype, &value.shape)?) } else { None };
    let call = Norm {
        kind: form.kind,
        input: input.slot,
        skip: skip.map(|skip| skip.slot),
        scale: form.scale.map(|scale| scale.slot),
        bias: form.bias.map(|bias| bias.slot),
        output: output.slot,
        sum: sum.as_ref().map(|sum| sum.slot),
        rows: value.len() / len,
        len,
        epsilon: form.epsilon,
    };
    let made: Vec<Value> = [Some(output.clone()), sum.clone()].into_iter().flatten().collect();
    builder.emit_all(vec![Call::Norm(call)], &made);
    Ok((output, sum))
}

/// A factor or a summand of every row, as long as it.
fn along(builder: &mut Builder, site: &Site<'_>, value: &Value, row: &[usize]) -> Result<Value, LowerError> {
    let mut value = value.clone();
    while value.rank() > row.len() && value.shape[0] == 1 {
        value = value.at(0, 0);
    }
    if broadcast(&value.shape, row).as_deref() != Some(row) {
        return Err(site.refuse(format!("takes factors of {:?} for rows of {row:?}", value.shape)));
    }
    builder.dense(&value.expanded(row))
}

fn form(
    builder: &mut Builder,
    site: &Site<'_>,
    kind: NormKind,
    row: &[usize],
    [scale, bias]: [Option<&Value>; 2],
    epsilon: f32,
) -> Result<Form, LowerError> {
    let mut of = |value: Option<&Value>| value.map(|value| along(builder, site, value, row)).transpose();
    Ok(Form { kind, epsilon: site.real("epsilon", epsilon), scale: of(scale)?, bias: of(bias)? })
}

/// Means and deviations are for training.
fn only(site: &Site<'_>, unwanted: &[usize]) -> Result<(), LowerError> {
    match unwanted.iter().find(|output| site.wants(**output)) {
        Some(output) => {
            Err(site.refuse(format!("is asked for its output {output}, which kernels do not make")))
        }
        None => Ok(()),
    }
}

fn rows(builder: &mut Builder, site: &Site<'_>, kind: NormKind) -> Result<Vec<Value>, LowerError> {
    only(site, &[1, 2])?;
    let x = site.input(0)?;
    let axis = site.axis(site.number("axis", -1), x.rank())?;
    let row = &x.shape[axis..];
    let bias = site.optional(2).filter(|_| kind == NormKind::Layer);
    let form = form(builder, site, kind, row, [Some(site.input(1)?), bias], 1e-5)?;
    Ok(vec![norm(builder, x, None, row.iter().product(), form, false)?.0])
}

fn skip(builder: &mut Builder, site: &Site<'_>, kind: NormKind) -> Result<Vec<Value>, LowerError> {
    only(site, &[1, 2])?;
    let (x, skip) = (site.input(0)?, site.input(1)?);
    let (beta, bias) = match kind {
        NormKind::Layer => (site.optional(3), site.optional(4)),
        NormKind::Rms => (None, site.optional(3)),
    };
    let (Some(row), Some(shape)) = (x.shape.last().copied(), broadcast(&x.shape, &skip.shape)) else {
        return Err(site.refuse(format!("adds {:?} and {:?}", x.shape, skip.shape)));
    };
    if shape != x.shape {
        return Err(site.refuse(format!("adds {:?} to {:?}", skip.shape, x.shape)));
    }
    let form = form(builder, site, kind, &[row], [Some(site.input(2)?), beta], 1e-12)?;
    let wanted = site.wants(3);
    let (output, sum) = if let Some(bias) = bias {
        let terms = [x.clone(), skip.clone(), along(builder, site, bias, &[row])?];
        let sum = Expr::Input(0) + Expr::Input(1) + Expr::Input(2);
        let sum = builder.map(&shape, &terms, x.datatype, sum)?;
        (norm(builder, &sum, None, row, form, false)?.0, Some(sum))
    } else {
        norm(builder, x, Some(&skip.expanded(&shape)), row, form, wanted)?
    };
    // The outputs between are for training.
    let Some(sum) = sum.filter(|_| wanted) else { return Ok(vec![output]) };
    Ok(vec![output.clone(), output.clone(), output, sum])
}

/// `[batch, channels, …]` as `[batch, parts, what each part has]`.
fn parts(
    builder: &mut Builder,
    site: &Site<'_>,
    x: &Value,
    parts: usize,
    epsilon: f32,
) -> Result<Value, LowerError> {
    let each = x.len() / x.shape[0].max(1) / parts.max(1);
    let by_part = builder.reshape(x, &[x.shape[0], parts, each])?;
    let form =
        Form { kind: NormKind::Layer, epsilon: site.real("epsilon", epsilon), scale: None, bias: None };
    Ok(norm(builder, &by_part, None, each, form, false)?.0)
}

/// Each of `[batch, parts, …]` by its part's factor and summand.
fn scaled(
    builder: &mut Builder,
    site: &Site<'_>,
    normal: &Value,
    shape: &[usize],
) -> Result<Vec<Value>, LowerError> {
    let parts = normal.shape[1];
    let column = |at: usize| {
        let value = site.input(at)?;
        let column = if value.shape == [parts] { value.reshaped(&[parts, 1]) } else { None };
        column.ok_or_else(|| site.refuse(format!("takes factors of {:?} for {parts}", value.shape)))
    };
    let terms = [normal.clone(), column(1)?, column(2)?];
    let expr = Expr::Input(0) * Expr::Input(1) + Expr::Input(2);
    let made = builder.map(&normal.shape, &terms, normal.datatype, expr)?;
    Ok(vec![builder.reshape(&made, shape)?])
}

fn groups(builder: &mut Builder, site: &Site<'_>) -> Result<Vec<Value>, LowerError> {
    let x = site.input(0)?;
    let count = site.size(site.number("num_groups", 0))?;
    if x.rank() < 2 || count == 0 || !x.shape[1].is_multiple_of(count) {
        return Err(site.refuse(format!("makes {count} groups of {:?}", x.shape)));
    }
    let normal = parts(builder, site, x, count, 1e-5)?;
    // Before version 21 a group has one factor, since then every channel has.
    let by = if site.opset < 21 { count } else { x.shape[1] };
    let each = x.len() / x.shape[0].max(1) / by.max(1);
    let normal = builder.reshape(&normal, &[x.shape[0], by, each])?;
    scaled(builder, site, &normal, &x.shape)
}

fn channels(builder: &mut Builder, site: &Site<'_>) -> Result<Vec<Value>, LowerError> {
    let x = site.input(0)?;
    if x.rank() < 2 {
        return Err(site.refuse(format!("takes {:?}, which has no channels", x.shape)));
    }
    let normal = parts(builder, site, x, x.shape[1], 1e-5)?;
    scaled(builder, site, &normal, &x.shape)
}

fn mean_variance(builder: &mut Builder, site: &Site<'_>) -> Result<Vec<Value>, LowerError> {
    let x = site.input(0)?;
    let axes = site.axes(site.numbers("axes").unwrap_or(&[0, 2, 3]), x.rank())?;
    let order: Vec<usize> =
        (0..x.rank()).filter(|at| !axes.contains(at)).chain(axes.iter().copied()).collect();
    let turned = x.transposed(&order);
    let len = axes.iter().map(|axis| x.shape[*axis]).product();
    // Where all are equal the definition divides by a billionth, whose square this is.
    let form = Form { kind: NormKind::Layer, epsilon: 1e-18, scale: None, bias: None };
    let normal = norm(builder, &turned, None, len, form, false)?.0;
    let back = (0..x.rank()).map(|at| order.iter().position(|from| *from == at).expect("each is there once"));
    Ok(vec![normal.transposed(&back.collect::<Vec<_>>())])
}

/// Divided by the length of what lies along an axis; what has none stays.
fn length(builder: &mut Builder, site: &Site<'_>) -> Result<Vec<Value>, LowerError> {
    let x = builder.dense(site.input(0)?)?;
    let axis = site.axis(site.number("axis", -1), x.rank())?;
    let op = match site.number("p", 2) {
        1 => ReduceOp::L1,
        2 => ReduceOp::L2,
        p => return Err(site.refuse(format!("measures with p = {p}"))),
    };
    if x.len() == 0 {
        return Ok(vec![x]);
    }
    let mut shape = x.shape.clone();
    shape[axis] = 1;
    let lengths = builder.fresh(x.datatype, &shape)?;
    let call = Reduce {
        op,
        input: x.slot,
        output: lengths.slot,
        outer: x.shape[..axis].iter().product(),
        len: x.shape[axis],
        inner: x.shape[axis + 1..].iter().product(),
    };
    builder.emit(vec![Call::Reduce(call)], &lengths);
    let shape = common(site, &[&x, &lengths])?;
    let none = Expr::Input(1).with(Binary::Equal, Expr::Float(0.0));
    let expr = none.choose(Expr::Float(0.0), Expr::Input(0) * Expr::Input(1).then(Unary::Reciprocal));
    let datatype = x.datatype;
    Ok(vec![builder.map(&shape, &[x, lengths], datatype, expr)?])
}
