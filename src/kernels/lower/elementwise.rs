//! Operators that compute each element by itself: maps.

use super::{
    LowerError, builder::Builder, copies::common, expr::Terms, operators::Lower, site::Site, value::Value,
};
use crate::{
    domain::Datatype,
    kernels::{
        host::Host,
        ir::{Binary, Expr, MAP_INPUTS_MAX, Unary},
    },
    onnx,
};

/// Of floats; of whole numbers too where `Unary` says so.
const UNARY: [(&str, Unary); 29] = [
    ("Abs", Unary::Abs),
    ("Neg", Unary::Neg),
    ("Sign", Unary::Sign),
    ("Not", Unary::Not),
    ("Exp", Unary::Exp),
    ("Log", Unary::Log),
    ("Sqrt", Unary::Sqrt),
    ("Reciprocal", Unary::Reciprocal),
    ("Floor", Unary::Floor),
    ("Ceil", Unary::Ceil),
    ("Round", Unary::Round),
    ("Sin", Unary::Sin),
    ("Cos", Unary::Cos),
    ("Tan", Unary::Tan),
    ("Asin", Unary::Asin),
    ("Acos", Unary::Acos),
    ("Atan", Unary::Atan),
    ("Sinh", Unary::Sinh),
    ("Cosh", Unary::Cosh),
    ("Tanh", Unary::Tanh),
    ("Asinh", Unary::Asinh),
    ("Acosh", Unary::Acosh),
    ("Atanh", Unary::Atanh),
    ("Erf", Unary::Erf),
    ("Sigmoid", Unary::Sigmoid),
    ("Softplus", Unary::Softplus),
    ("Relu", Unary::Relu),
    ("IsNaN", Unary::IsNan),
    ("IsInf", Unary::IsInf),
];

/// Of two values; those of many values are written pair by pair.
const BINARY: [(&str, Binary); 18] = [
    ("Add", Binary::Add),
    ("Sub", Binary::Sub),
    ("Mul", Binary::Mul),
    ("Div", Binary::Div),
    ("Equal", Binary::Equal),
    ("Less", Binary::Less),
    ("LessOrEqual", Binary::LessOrEqual),
    ("Greater", Binary::Greater),
    ("GreaterOrEqual", Binary::GreaterOrEqual),
    ("And", Binary::And),
    ("Or", Binary::Or),
    ("Xor", Binary::Xor),
    ("BitwiseAnd", Binary::BitAnd),
    ("BitwiseOr", Binary::BitOr),
    ("BitwiseXor", Binary::BitXor),
    ("Sum", Binary::Add),
    ("Max", Binary::Max),
    ("Min", Binary::Min),
];

pub(super) fn of((domain, operator): (&str, &str)) -> Option<Lower> {
    let named = |operators: &[&str]| operators.contains(&operator);
    let lower: Lower = match domain {
        "" if named(&["Sum", "Max", "Min", "Mean"]) => of_many,
        "" if UNARY.iter().any(|(name, _)| *name == operator) => unary,
        "" if BINARY.iter().any(|(name, _)| *name == operator) => binary,
        "" => match operator {
            "Pow" => pow,
            "Mod" => modulo,
            "BitwiseNot" => bitwise_not,
            "Where" => select,
            "Clip" => clip,
            "Cast" => cast,
            "CastLike" => cast_like,
            "PRelu" => prelu,
            "Dropout" => dropout,
            "BatchNormalization" => batch_normalization,
            _ => return None,
        },
        _ => return None,
    };
    Some(lower)
}

/// One map over what the values have in common.
pub(super) fn mapped(
    builder: &mut Builder,
    site: &Site<'_>,
    values: &[&Value],
    datatype: Datatype,
    formula: impl FnOnce(Vec<Expr>) -> Expr,
) -> Result<Value, LowerError> {
    let shape = common(site, values)?;
    let mut terms = Terms::default();
    let parts = values.iter().map(|value| terms.add(builder, value)).collect();
    builder.map(&shape, &terms.inputs, datatype, formula(parts))
}

/// The formula of one value.
fn formula_of(
    builder: &mut Builder,
    site: &Site<'_>,
    datatype: Datatype,
    formula: impl FnOnce(Expr) -> Expr,
) -> Result<Vec<Value>, LowerError> {
    let x = site.input(0)?;
    let made = builder.map(&x.shape, std::slice::from_ref(x), datatype, formula(Expr::Input(0)))?;
    Ok(vec![made])
}

fn floats_alone(site: &Site<'_>, value: &Value) -> Result<(), LowerError> {
    if value.is_float() { Ok(()) } else { Err(site.refuse(format!("takes {} here", value.datatype))) }
}

fn alike(site: &Site<'_>, values: &[&Value]) -> Result<(), LowerError> {
    let first = values[0].datatype;
    match values.iter().find(|value| value.datatype != first) {
        Some(other) => Err(site.refuse(format!("takes {first} and {}", other.datatype))),
        None => Ok(()),
    }
}

fn unary(builder: &mut Builder, site: &Site<'_>) -> Result<Vec<Value>, LowerError> {
    let x = site.input(0)?;
    let found = UNARY.iter().find(|(name, _)| *name == site.node.op_type);
    let (_, op) = *found.expect("`of` has found it");
    match op {
        Unary::Not => {
            if x.datatype != Datatype::Bool {
                return Err(site.refuse(format!("takes {}", x.datatype)));
            }
        }
        Unary::Abs | Unary::Neg | Unary::Sign | Unary::Relu => {}
        _ => floats_alone(site, x)?,
    }
    let of = |x: Expr| x.then(op);
    match op {
        Unary::Relu if !x.is_float() => {
            formula_of(builder, site, x.datatype, |x| x.with(Binary::Max, Expr::Int(0)))
        }
        Unary::Abs | Unary::Neg if !x.is_float() => {
            formula_of(builder, site, x.datatype, |value| of(value).wrapped(x.datatype))
        }
        Unary::IsNan => formula_of(builder, site, Datatype::Bool, of),
        Unary::IsInf => {
            let sign = match [site.number("detect_negative", 1), site.number("detect_positive", 1)] {
                [0, 0] => {
                    return formula_of(builder, site, Datatype::Bool, |x| {
                        of(x).with(Binary::And, Expr::Int(0))
                    });
                }
                [0, _] => Binary::Greater,
                [_, 0] => Binary::Less,
                _ => return formula_of(builder, site, Datatype::Bool, of),
            };
            formula_of(builder, site, Datatype::Bool, |x| {
                of(x.clone()).with(Binary::And, x.with(sign, Expr::Float(0.0)))
            })
        }
        _ => formula_of(builder, site, x.datatype, of),
    }
}

fn binary(builder: &mut Builder, site: &Site<'_>) -> Result<Vec<Value>, LowerError> {
    let (a, b) = (site.input(0)?, site.input(1)?);
    alike(site, &[a, b])?;
    unaligned(site, a, b)?;
    let found = BINARY.iter().find(|(name, _)| *name == site.node.op_type);
    let (_, op) = *found.expect("`of` has found it");
    let flags = matches!(op, Binary::And | Binary::Or | Binary::Xor);
    if flags && a.datatype != Datatype::Bool {
        return Err(site.refuse(format!("takes {}", a.datatype)));
    }
    let compares = matches!(
        op,
        Binary::Equal | Binary::Less | Binary::LessOrEqual | Binary::Greater | Binary::GreaterOrEqual
    );
    let datatype = if compares { Datatype::Bool } else { a.datatype };
    let made = mapped(builder, site, &[a, b], datatype, |parts| {
        let [a, b] = two(parts);
        let made = a.with(op, b);
        if compares { made } else { made.wrapped(datatype) }
    })?;
    Ok(vec![made])
}

fn two(parts: Vec<Expr>) -> [Expr; 2] {
    parts.try_into().expect("two values were given")
}

fn three(parts: Vec<Expr>) -> [Expr; 3] {
    parts.try_into().expect("three values were given")
}

/// Before version 7 the second value's dimensions could stand anywhere under the first's.
fn unaligned(site: &Site<'_>, a: &Value, b: &Value) -> Result<(), LowerError> {
    let anywhere = site.opset < 7 && site.number_if_there("axis").is_some();
    if anywhere && a.shape != b.shape && b.len() != 1 {
        return Err(site.refuse("aligns dimensions as before version 7 of the operators"));
    }
    Ok(())
}

fn of_many(builder: &mut Builder, site: &Site<'_>) -> Result<Vec<Value>, LowerError> {
    let values: Vec<&Value> = (0..site.inputs.len()).map(|at| site.input(at)).collect::<Result<_, _>>()?;
    let Some((first, rest)) = values.split_first() else { return Err(site.refuse("takes nothing")) };
    alike(site, &values)?;
    let mean = site.node.op_type == "Mean";
    let op = BINARY.iter().find(|(name, _)| *name == site.node.op_type).map_or(Binary::Add, |(_, op)| *op);
    let mut made = (*first).clone();
    for some in rest.chunks(MAP_INPUTS_MAX - 1) {
        let parts: Vec<&Value> = std::iter::once(&made).chain(some.iter().copied()).collect();
        made = mapped(builder, site, &parts, first.datatype, |parts| {
            parts.into_iter().reduce(|all, part| all.with(op, part)).expect("there is one")
        })?;
    }
    if mean {
        floats_alone(site, first)?;
        let count = Expr::Float(values.len() as f32);
        made = mapped(builder, site, &[&made], first.datatype, |parts| {
            parts.into_iter().fold(count, |by, x| x / by)
        })?;
    }
    Ok(vec![made])
}

fn pow(builder: &mut Builder, site: &Site<'_>) -> Result<Vec<Value>, LowerError> {
    let (x, by) = (site.input(0)?, site.input(1)?);
    unaligned(site, x, by)?;
    let known = builder.known(by).filter(|host| host.len() == 1 && by.rank() <= x.rank());
    let exponent = known.map(|host| match host {
        Host::F32(values) => values[0],
        Host::I64(values) => values[0] as f32,
        Host::Bytes(_) => f32::NAN,
    });
    let datatype = x.datatype;
    if let Some(exponent) = exponent.filter(|by| [0.5, 1.0, 2.0, 3.0].contains(by)).filter(|_| x.is_float()) {
        return formula_of(builder, site, datatype, |x| match exponent {
            0.5 => x.then(Unary::Sqrt),
            1.0 => x,
            2.0 => x.clone() * x,
            _ => x.clone() * x.clone() * x,
        });
    }
    let by = match (x.is_float(), by.is_float()) {
        (true, false) => builder.cast(by, Datatype::Fp32)?,
        (false, true) => match exponent {
            Some(whole) if whole.fract() == 0.0 => builder.cast(by, Datatype::Int32)?,
            _ => return Err(site.refuse("raises whole numbers to a power that is not known to be whole")),
        },
        _ => by.clone(),
    };
    let made = mapped(builder, site, &[x, &by], datatype, |parts| {
        let [x, by] = two(parts);
        x.with(Binary::Pow, by).wrapped(datatype)
    })?;
    Ok(vec![made])
}

fn modulo(builder: &mut Builder, site: &Site<'_>) -> Result<Vec<Value>, LowerError> {
    let (a, b) = (site.input(0)?, site.input(1)?);
    alike(site, &[a, b])?;
    let op = if site.number("fmod", 0) == 0 { Binary::Mod } else { Binary::Fmod };
    if op == Binary::Mod && a.is_float() {
        return Err(site.refuse("takes floats without `fmod`"));
    }
    let made = mapped(builder, site, &[a, b], a.datatype, |parts| {
        let [a, b] = two(parts);
        a.with(op, b)
    })?;
    Ok(vec![made])
}

fn bitwise_not(builder: &mut Builder, site: &Site<'_>) -> Result<Vec<Value>, LowerError> {
    let datatype = site.input(0)?.datatype;
    if matches!(datatype, Datatype::Uint32 | Datatype::Uint64) {
        return Err(
            site.refuse(format!("makes {datatype} that is wider than the 32 bits that kernels compute with"))
        );
    }
    formula_of(builder, site, datatype, |x| x.with(Binary::BitXor, Expr::Int(-1)).wrapped(datatype))
}

fn select(builder: &mut Builder, site: &Site<'_>) -> Result<Vec<Value>, LowerError> {
    let (by, yes, no) = (site.input(0)?, site.input(1)?, site.input(2)?);
    alike(site, &[yes, no])?;
    let made = mapped(builder, site, &[by, yes, no], yes.datatype, |parts| {
        let [by, yes, no] = three(parts);
        by.choose(yes, no)
    })?;
    Ok(vec![made])
}

fn clip(builder: &mut Builder, site: &Site<'_>) -> Result<Vec<Value>, LowerError> {
    let x = site.input(0)?;
    let mut bounds = Vec::new();
    for (at, name, op) in [(1, "min", Binary::Max), (2, "max", Binary::Min)] {
        let attribute = site.real_if_there(name).filter(|_| site.opset < 11);
        let bound = match attribute {
            Some(bound) => Some(builder.floats(&[], vec![bound])),
            None => site.optional(at).cloned(),
        };
        bounds.extend(bound.map(|bound| (bound, op)));
    }
    let values: Vec<&Value> = std::iter::once(x).chain(bounds.iter().map(|(bound, _)| bound)).collect();
    alike_or_half(site, &values)?;
    let made = mapped(builder, site, &values, x.datatype, |parts| {
        let ops = bounds.iter().map(|(_, op)| *op);
        let mut parts = parts.into_iter();
        let x = parts.next().expect("the value comes first");
        ops.zip(parts).fold(x, |x, (op, bound)| x.with(op, bound))
    })?;
    Ok(vec![made])
}

/// Floats of any width, or one type.
fn alike_or_half(site: &Site<'_>, values: &[&Value]) -> Result<(), LowerError> {
    if values.iter().all(|value| value.is_float()) { Ok(()) } else { alike(site, values) }
}

fn cast(builder: &mut Builder, site: &Site<'_>) -> Result<Vec<Value>, LowerError> {
    let code = i32::try_from(site.number("to", 0)).unwrap_or_default();
    let to = onnx::datatype(code);
    let to =
        to.ok_or_else(|| site.refuse(format!("makes elements of type {code}, which kernels do not have")))?;
    Ok(vec![builder.cast(site.input(0)?, to)?])
}

fn cast_like(builder: &mut Builder, site: &Site<'_>) -> Result<Vec<Value>, LowerError> {
    Ok(vec![builder.cast(site.input(0)?, site.input(1)?.datatype)?])
}

fn prelu(builder: &mut Builder, site: &Site<'_>) -> Result<Vec<Value>, LowerError> {
    let (x, slope) = (site.input(0)?, site.input(1)?);
    alike(site, &[x, slope])?;
    let zero = Expr::number(0.0, x.datatype);
    let made = mapped(builder, site, &[x, slope], x.datatype, |parts| {
        let [x, slope] = two(parts);
        x.clone().with(Binary::Less, zero).choose(slope * x.clone(), x)
    })?;
    Ok(vec![made])
}

/// As in inference: everything stays.
fn dropout(builder: &mut Builder, site: &Site<'_>) -> Result<Vec<Value>, LowerError> {
    let x = site.input(0)?;
    if let Some(training) = site.optional(2)
        && builder.numbers(site, training)?.first().is_some_and(|training| *training != 0)
    {
        return Err(site.refuse("drops elements at random"));
    }
    let datatype = if site.opset < 10 { x.datatype } else { Datatype::Bool };
    let one = if datatype.is_float() { Host::F32(vec![1.0]) } else { Host::I64(vec![1]) };
    let kept = builder.constant(datatype, &[], one).expanded(&x.shape);
    Ok(vec![x.clone(), kept])
}

/// `x · factor + rest`, both of which are made of the channels' statistics.
fn batch_normalization(builder: &mut Builder, site: &Site<'_>) -> Result<Vec<Value>, LowerError> {
    let x = site.input(0)?;
    if site.number("training_mode", 0) != 0 || site.number("spatial", 1) == 0 || site.wants(1) {
        return Err(site.refuse("computes statistics of its input"));
    }
    let [scale, bias, mean, variance] = [1, 2, 3, 4].map(|at| site.input(at));
    let (scale, bias, mean, variance) = (scale?, bias?, mean?, variance?);
    let epsilon = Expr::Float(site.real("epsilon", 1e-5));
    let factor = mapped(builder, site, &[scale, variance], scale.datatype, |parts| {
        let [scale, variance] = two(parts);
        scale / (variance + epsilon).then(Unary::Sqrt)
    })?;
    let rest = mapped(builder, site, &[bias, mean, &factor], scale.datatype, |parts| {
        let [bias, mean, factor] = three(parts);
        bias - mean * factor
    })?;
    let mut channels = vec![1; x.rank().max(2) - 1];
    channels[0] = factor.len();
    let (factor, rest) = (builder.reshape(&factor, &channels)?, builder.reshape(&rest, &channels)?);
    let made = mapped(builder, site, &[x, &factor, &rest], x.datatype, |parts| {
        let [x, factor, rest] = three(parts);
        x * factor + rest
    })?;
    Ok(vec![made])
}
