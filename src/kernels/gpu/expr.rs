//! Expressions as WGSL.
//!
//! Constants are parameters: what differs by them alone is one kernel, and WGSL cannot write all of them down.

use super::{
    GpuError,
    kernel::{Constant, Kernel},
};
use crate::kernels::ir::{Binary, Element, Expr, To, Unary};

/// The text of an expression over `x0`, `x1` and on, and what it gives.
pub(super) fn write(
    expr: &Expr,
    inputs: &[Element],
    kernel: &mut Kernel,
) -> Result<(String, Element), GpuError> {
    let wrong = |why| GpuError::Call { call: "map", why };
    Ok(match expr {
        Expr::Input(at) => {
            let element =
                inputs.get(*at).ok_or_else(|| wrong("it computes with an input that it has not"))?;
            (format!("x{at}"), *element)
        }
        Expr::Float(value) => (kernel.constant(Constant::Float(*value)), Element::F32),
        Expr::Int(value) => (kernel.constant(Constant::Int(*value)), Element::I32),
        Expr::Unary(op, x) => {
            let (x, element) = write(x, inputs, kernel)?;
            match (op, element) {
                (Unary::Not, Element::I32) => (format!("i32({x} == 0)"), Element::I32),
                (Unary::IsNan, Element::F32) => (format!("i32(is_nan({x}))"), Element::I32),
                (Unary::IsInf, Element::F32) => (format!("i32(is_inf({x}))"), Element::I32),
                (Unary::Abs | Unary::Neg | Unary::Sign, _) | (_, Element::F32) => (unary(*op, &x), element),
                _ => return Err(wrong("a function of floats has whole numbers")),
            }
        }
        Expr::Binary(op, a, b) => binary(*op, [a, b], inputs, kernel)?,
        Expr::Select(by, a, b) => {
            let (by, flag) = write(by, inputs, kernel)?;
            let (a, element) = write(a, inputs, kernel)?;
            let (b, other) = write(b, inputs, kernel)?;
            if flag != Element::I32 || element != other {
                return Err(wrong("it selects by a float, or between floats and whole numbers"));
            }
            (format!("select({b}, {a}, {by} != 0)"), element)
        }
        Expr::Cast(to, x) => {
            let (x, element) = write(x, inputs, kernel)?;
            match (to, element) {
                (To::Float, Element::I32) => (format!("f32({x})"), Element::F32),
                (To::Int, Element::F32) => (format!("i32({x})"), Element::I32),
                (To::Flag, Element::F32) => (format!("i32({x} != 0.0)"), Element::I32),
                (To::Flag, Element::I32) => (format!("i32({x} != 0)"), Element::I32),
                _ => (x, element),
            }
        }
    })
}

/// A function of one float, of `x` as it is written.
pub(super) fn unary(op: Unary, x: &str) -> String {
    let function = match op {
        Unary::Neg => return format!("(-({x}))"),
        Unary::Reciprocal => return format!("(1.0 / ({x}))"),
        Unary::Abs => "abs",
        Unary::Sign => "sign",
        Unary::Exp => "exp",
        Unary::Log => "log",
        Unary::Sqrt => "sqrt",
        Unary::Floor => "floor",
        Unary::Ceil => "ceil",
        Unary::Round => "round",
        Unary::Sin => "sin_of",
        Unary::Cos => "cos_of",
        Unary::Tan => "tan_of",
        Unary::Asin => "asin_of",
        Unary::Acos => "acos_of",
        Unary::Atan => "atan_of",
        Unary::Sinh => "sinh_of",
        Unary::Cosh => "cosh_of",
        Unary::Tanh => "tanh_of",
        Unary::Asinh => "asinh_of",
        Unary::Acosh => "acosh_of",
        Unary::Atanh => "atanh_of",
        Unary::Erf => "erf_of",
        Unary::Sigmoid => "sigmoid_of",
        Unary::Softplus => "softplus_of",
        Unary::Gelu => "gelu_of",
        Unary::GeluTanh => "gelu_tanh_of",
        Unary::Silu => "silu_of",
        Unary::Relu => "relu_of",
        Unary::Not | Unary::IsNan | Unary::IsInf => unreachable!("they make flags"),
    };
    format!("{function}({x})")
}

/// The activation of a kernel whose sum is `x`.
pub(super) fn activation(op: Option<Unary>) -> String {
    op.map_or_else(|| "x".to_owned(), |op| unary(op, "x"))
}

fn binary(
    op: Binary,
    [a, b]: [&Expr; 2],
    inputs: &[Element],
    kernel: &mut Kernel,
) -> Result<(String, Element), GpuError> {
    let (left, element) = write(a, inputs, kernel)?;
    if let (Binary::Pow, Expr::Float(exponent)) = (op, b) {
        // The two that models are full of.
        let function = [(2f32, "square_of"), (0.5, "sqrt")]
            .into_iter()
            .find(|(known, _)| known.to_bits() == exponent.to_bits());
        if let Some((_, function)) = function {
            return Ok((format!("{function}({left})"), element));
        }
    }
    let (right, other) = write(b, inputs, kernel)?;
    if element != other {
        return Err(GpuError::Call { call: "map", why: "it combines floats with whole numbers" });
    }
    let comparison = match op {
        Binary::Equal => Some("=="),
        Binary::Less => Some("<"),
        Binary::LessOrEqual => Some("<="),
        Binary::Greater => Some(">"),
        Binary::GreaterOrEqual => Some(">="),
        _ => None,
    };
    if let Some(sign) = comparison {
        return Ok((format!("i32({left} {sign} {right})"), Element::I32));
    }
    let text = match element {
        Element::F32 => floats(op, &left, &right),
        _ => wholes(op, &left, &right),
    };
    let text =
        text.ok_or(GpuError::Call { call: "map", why: "an operation has the wrong kind of numbers" })?;
    Ok((text, element))
}

fn floats(op: Binary, a: &str, b: &str) -> Option<String> {
    Some(match op {
        Binary::Add => format!("({a} + {b})"),
        Binary::Sub => format!("({a} - {b})"),
        Binary::Mul => format!("({a} * {b})"),
        Binary::Div => format!("({a} / {b})"),
        Binary::Mod => format!("mod_of({a}, {b})"),
        Binary::Fmod => format!("fmod_of({a}, {b})"),
        Binary::Pow => format!("pow_of({a}, {b})"),
        Binary::Min => format!("min_of({a}, {b})"),
        Binary::Max => format!("max_of({a}, {b})"),
        _ => return None,
    })
}

fn wholes(op: Binary, a: &str, b: &str) -> Option<String> {
    Some(match op {
        Binary::Add => format!("({a} + {b})"),
        Binary::Sub => format!("({a} - {b})"),
        Binary::Mul => format!("({a} * {b})"),
        Binary::Div => format!("div_int({a}, {b})"),
        Binary::Mod => format!("mod_int({a}, {b})"),
        Binary::Fmod => format!("rem_int({a}, {b})"),
        Binary::Pow => format!("pow_int({a}, {b})"),
        Binary::Min => format!("min({a}, {b})"),
        Binary::Max => format!("max({a}, {b})"),
        Binary::And => format!("i32({a} != 0 && {b} != 0)"),
        Binary::Or => format!("i32({a} != 0 || {b} != 0)"),
        Binary::Xor => format!("i32(({a} != 0) != ({b} != 0))"),
        Binary::BitAnd => format!("({a} & {b})"),
        Binary::BitOr => format!("({a} | {b})"),
        Binary::BitXor => format!("({a} ^ {b})"),
        _ => return None,
    })
}
