//! Maps: an expression over whole tensors, part by part.

use std::borrow::Cow;

use super::{Memory, places, write};
use crate::kernels::{
    host::Host,
    ir::{Binary, Expr, Map, To, Unary},
};

pub(super) fn map(call: &Map, memory: &mut Memory) {
    let inputs = call.inputs.iter().map(|view| memory[&view.slot].at(&places(&call.shape, view)));
    let inputs: Vec<Host> = inputs.collect();
    let made = value(&call.expr, &inputs, call.shape.iter().product());
    write(memory, &call.shape, &call.output, &made);
}

fn value<'h>(expr: &Expr, inputs: &'h [Host], len: usize) -> Cow<'h, Host> {
    let of = |expr| value(expr, inputs, len);
    Cow::Owned(match expr {
        Expr::Input(at) => return Cow::Borrowed(&inputs[*at]),
        Expr::Float(float) => Host::F32(vec![*float; len]),
        Expr::Int(whole) => Host::I64(vec![i64::from(*whole); len]),
        Expr::Unary(op, x) => unary(*op, &of(x)),
        Expr::Binary(op, a, b) => binary(*op, &of(a), &of(b)),
        Expr::Select(by, a, b) => select(&of(by), &of(a), &of(b)),
        Expr::Cast(to, x) => cast(*to, &of(x)),
    })
}

fn unary(op: Unary, x: &Host) -> Host {
    match (op, x) {
        (Unary::IsNan, Host::F32(x)) => Host::I64(x.iter().map(|x| x.is_nan().into()).collect()),
        (Unary::IsInf, Host::F32(x)) => Host::I64(x.iter().map(|x| x.is_infinite().into()).collect()),
        (_, Host::F32(x)) => Host::F32(x.iter().map(|x| float(op, *x)).collect()),
        (_, Host::I64(x)) => Host::I64(x.iter().map(|x| whole(op, *x)).collect()),
        (_, Host::Bytes(_)) => unreachable!("maps read no bytes"),
    }
}

/// What activations of other calls compute too.
pub(super) fn float(op: Unary, x: f32) -> f32 {
    let sigmoid = |x: f32| 1.0 / (1.0 + (-x).exp());
    match op {
        Unary::Abs => x.abs(),
        Unary::Neg => -x,
        Unary::Sign if x == 0.0 || x.is_nan() => x,
        Unary::Sign => x.signum(),
        Unary::Exp => x.exp(),
        Unary::Log => x.ln(),
        Unary::Sqrt => x.sqrt(),
        Unary::Reciprocal => x.recip(),
        Unary::Floor => x.floor(),
        Unary::Ceil => x.ceil(),
        Unary::Round => x.round_ties_even(),
        Unary::Sin => x.sin(),
        Unary::Cos => x.cos(),
        Unary::Tan => x.tan(),
        Unary::Asin => x.asin(),
        Unary::Acos => x.acos(),
        Unary::Atan => x.atan(),
        Unary::Sinh => x.sinh(),
        Unary::Cosh => x.cosh(),
        Unary::Tanh => x.tanh(),
        Unary::Asinh => x.asinh(),
        Unary::Acosh => x.acosh(),
        Unary::Atanh => x.atanh(),
        Unary::Erf => libm::erff(x),
        Unary::Sigmoid => sigmoid(x),
        Unary::Softplus => x.max(0.0) + (-x.abs()).exp().ln_1p(),
        Unary::Gelu => 0.5 * x * (1.0 + libm::erff(x * std::f32::consts::FRAC_1_SQRT_2)),
        Unary::GeluTanh => {
            let inner = (2.0 / std::f32::consts::PI).sqrt() * (x + 0.044_715 * x * x * x);
            0.5 * x * (1.0 + inner.tanh())
        }
        Unary::Silu => x * sigmoid(x),
        Unary::Relu if x.is_nan() => x,
        Unary::Relu => x.max(0.0),
        Unary::Not | Unary::IsNan | Unary::IsInf => unreachable!("it makes flags"),
    }
}

fn whole(op: Unary, x: i64) -> i64 {
    match op {
        Unary::Abs => x.wrapping_abs(),
        Unary::Neg => x.wrapping_neg(),
        Unary::Sign => x.signum(),
        Unary::Not => (x == 0).into(),
        _ => unreachable!("{op:?} is of floats"),
    }
}

fn binary(op: Binary, a: &Host, b: &Host) -> Host {
    match (a, b) {
        (Host::F32(a), Host::F32(b)) => {
            let pairs = a.iter().zip(b).map(|(a, b)| (*a, *b));
            match comparison(op) {
                Some(holds) => Host::I64(pairs.map(|(a, b)| holds(a.partial_cmp(&b)).into()).collect()),
                None => Host::F32(pairs.map(|(a, b)| floats(op, a, b)).collect()),
            }
        }
        (Host::I64(a), Host::I64(b)) => {
            let pairs = a.iter().zip(b).map(|(a, b)| (*a, *b));
            match comparison(op) {
                Some(holds) => Host::I64(pairs.map(|(a, b)| holds(Some(a.cmp(&b))).into()).collect()),
                None => Host::I64(pairs.map(|(a, b)| wholes(op, a, b)).collect()),
            }
        }
        _ => unreachable!("both sides of {op:?} are of one kind"),
    }
}

fn comparison(op: Binary) -> Option<fn(Option<std::cmp::Ordering>) -> bool> {
    Some(match op {
        Binary::Equal => |order| order.is_some_and(std::cmp::Ordering::is_eq),
        Binary::Less => |order| order.is_some_and(std::cmp::Ordering::is_lt),
        Binary::LessOrEqual => |order| order.is_some_and(std::cmp::Ordering::is_le),
        Binary::Greater => |order| order.is_some_and(std::cmp::Ordering::is_gt),
        Binary::GreaterOrEqual => |order| order.is_some_and(std::cmp::Ordering::is_ge),
        _ => return None,
    })
}

fn floats(op: Binary, a: f32, b: f32) -> f32 {
    match op {
        Binary::Add => a + b,
        Binary::Sub => a - b,
        Binary::Mul => a * b,
        Binary::Div => a / b,
        Binary::Mod => a - b * (a / b).floor(),
        Binary::Fmod => a % b,
        Binary::Pow => a.powf(b),
        Binary::Min | Binary::Max if a.is_nan() => a,
        Binary::Min if b.is_nan() || b < a => b,
        Binary::Max if b.is_nan() || b > a => b,
        Binary::Min | Binary::Max => a,
        _ => unreachable!("{op:?} is of whole numbers"),
    }
}

fn wholes(op: Binary, a: i64, b: i64) -> i64 {
    match op {
        Binary::Add => a.wrapping_add(b),
        Binary::Sub => a.wrapping_sub(b),
        Binary::Mul => a.wrapping_mul(b),
        Binary::Div | Binary::Mod | Binary::Fmod if b == 0 => 0,
        Binary::Div => a.wrapping_div(b),
        Binary::Mod => a.wrapping_rem(b).wrapping_add(b).wrapping_rem(b),
        Binary::Fmod => a.wrapping_rem(b),
        Binary::Pow => power(a, b),
        Binary::Min => a.min(b),
        Binary::Max => a.max(b),
        Binary::And => (a != 0 && b != 0).into(),
        Binary::Or => (a != 0 || b != 0).into(),
        Binary::Xor => ((a != 0) != (b != 0)).into(),
        Binary::BitAnd => a & b,
        Binary::BitOr => a | b,
        Binary::BitXor => a ^ b,
        _ => unreachable!("{op:?} compares"),
    }
}

/// What is between 0 and 1 is cut off.
fn power(base: i64, exponent: i64) -> i64 {
    match (base, u32::try_from(exponent)) {
        (_, Ok(exponent)) => base.wrapping_pow(exponent),
        (1, _) => 1,
        (-1, _) => 1 - 2 * (exponent & 1),
        _ => 0,
    }
}

fn select(by: &Host, a: &Host, b: &Host) -> Host {
    let by = by.ints().expect("what is selected by is a flag").iter().map(|flag| *flag != 0);
    match (a, b) {
        (Host::F32(a), Host::F32(b)) => {
            Host::F32(by.zip(a.iter().zip(b)).map(|(by, (a, b))| if by { *a } else { *b }).collect())
        }
        (Host::I64(a), Host::I64(b)) => {
            Host::I64(by.zip(a.iter().zip(b)).map(|(by, (a, b))| if by { *a } else { *b }).collect())
        }
        _ => unreachable!("both choices are of one kind"),
    }
}

fn cast(to: To, x: &Host) -> Host {
    match (to, x) {
        (To::Float, Host::I64(x)) => Host::F32(x.iter().map(|x| *x as f32).collect()),
        (To::Int, Host::F32(x)) => Host::I64(x.iter().map(|x| *x as i64).collect()),
        (To::Flag, Host::F32(x)) => Host::I64(x.iter().map(|x| (*x != 0.0).into()).collect()),
        (To::Flag, Host::I64(x)) => Host::I64(x.iter().map(|x| (*x != 0).into()).collect()),
        (To::Float | To::Int, x) => x.clone(),
        (To::Flag, Host::Bytes(_)) => unreachable!("maps read no bytes"),
    }
}
