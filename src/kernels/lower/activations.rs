//! Activations that are formulas of other functions.

use super::{LowerError, builder::Builder, elementwise::mapped, operators::Lower, site::Site, value::Value};
use crate::kernels::ir::{Binary, Expr, Unary};

const ONNX: [&str; 12] = [
    "LeakyRelu",
    "Elu",
    "Selu",
    "Celu",
    "HardSigmoid",
    "HardSwish",
    "Mish",
    "Swish",
    "ThresholdedRelu",
    "Softsign",
    "Shrink",
    "Gelu",
];

/// Some of them take what is added before.
const MICROSOFT: [&str; 4] = ["Gelu", "FastGelu", "BiasGelu", "QuickGelu"];

pub(super) fn of((domain, operator): (&str, &str)) -> Option<Lower> {
    let known = match domain {
        "" => ONNX.contains(&operator),
        "com.microsoft" => MICROSOFT.contains(&operator),
        _ => false,
    };
    known.then_some(activation)
}

fn activation(builder: &mut Builder, site: &Site<'_>) -> Result<Vec<Value>, LowerError> {
    let x = site.input(0)?;
    if !x.is_float() {
        return Err(site.refuse(format!("takes {}", x.datatype)));
    }
    let values: Vec<&Value> = std::iter::once(x).chain(site.optional(1)).collect();
    let made = mapped(builder, site, &values, x.datatype, |parts| {
        let x = parts.into_iter().reduce(|x, bias| x + bias).expect("the value comes first");
        formula(site, &x)
    })?;
    Ok(vec![made])
}

fn formula(site: &Site<'_>, value: &Expr) -> Expr {
    let x = || value.clone();
    let real = |name, default| Expr::Float(site.real(name, default));
    let float = Expr::Float;
    let below = |bound: Expr| x().with(Binary::Less, bound);
    let above = |bound: Expr| x().with(Binary::Greater, bound);
    // Above zero the exponential is not taken, so that it is never too large.
    let negative = || x().with(Binary::Min, float(0.0));
    match site.operator().as_str() {
        "LeakyRelu" => below(float(0.0)).choose(real("alpha", 0.01) * x(), x()),
        "Elu" => {
            let exponential = negative().then(Unary::Exp) - float(1.0);
            below(float(0.0)).choose(real("alpha", 1.0) * exponential, x())
        }
        "Selu" => {
            let exponential = negative().then(Unary::Exp) - float(1.0);
            let alpha = real("alpha", 1.673_263_2);
            real("gamma", 1.050_701) * below(float(0.0)).choose(alpha * exponential, x())
        }
        "Celu" => {
            let alpha = real("alpha", 1.0);
            let exponential = (negative() / alpha.clone()).then(Unary::Exp) - float(1.0);
            x().with(Binary::Max, float(0.0)) + alpha * exponential
        }
        "HardSigmoid" => (real("alpha", 0.2) * x() + real("beta", 0.5)).clamped(float(0.0), float(1.0)),
        "HardSwish" => x() * (x() * float(1.0 / 6.0) + float(0.5)).clamped(float(0.0), float(1.0)),
        "Mish" => x() * x().then(Unary::Softplus).then(Unary::Tanh),
        "Swish" => x() * (real("alpha", 1.0) * x()).then(Unary::Sigmoid),
        "com.microsoft.QuickGelu" => x() * (real("alpha", 1.702) * x()).then(Unary::Sigmoid),
        "ThresholdedRelu" => above(real("alpha", 1.0)).choose(x(), float(0.0)),
        "Softsign" => x() / (float(1.0) + x().then(Unary::Abs)),
        "Shrink" => {
            let (bias, lambd) = (real("bias", 0.0), site.real("lambd", 0.5));
            let upper = above(float(lambd)).choose(x() - bias.clone(), float(0.0));
            below(float(-lambd)).choose(x() + bias, upper)
        }
        "Gelu" if site.text("approximate") == Some("tanh") => x().then(Unary::GeluTanh),
        "com.microsoft.FastGelu" => x().then(Unary::GeluTanh),
        _ => x().then(Unary::Gelu),
    }
}
