//! Maps: every function, every way in which tensors lie.

use super::{Case, Maker, dense};
use crate::kernels::ir::{Binary, Call, Element, Expr, Map, To, Unary, View};

const NUMBERS: usize = 129;

fn of(op: Unary, x: Expr) -> Expr {
    Expr::Unary(op, Box::new(x))
}

fn both(op: Binary, a: Expr, b: Expr) -> Expr {
    Expr::Binary(op, Box::new(a), Box::new(b))
}

pub(super) fn all() -> Vec<Case> {
    [unary(), special(), binary(), whole(), lying(), mixed()].into_iter().flatten().collect()
}

/// A map over so many elements that lie behind each other.
fn flat(
    maker: Maker,
    name: String,
    slots: &[crate::kernels::ir::Slot],
    len: usize,
    made: Element,
    expr: Expr,
) -> Case {
    let mut maker = maker;
    let output = maker.output(made, len);
    let inputs = slots.iter().map(|slot| dense(*slot, &[len])).collect();
    maker.case(name, vec![Call::Map(Map { shape: vec![len], inputs, output: dense(output, &[len]), expr })])
}

fn unary() -> Vec<Case> {
    let everywhere = (-9.0, 9.0);
    let of_floats = [
        (Unary::Abs, everywhere),
        (Unary::Neg, everywhere),
        (Unary::Sign, everywhere),
        (Unary::Exp, (-20.0, 10.0)),
        (Unary::Log, (1e-3, 100.0)),
        (Unary::Sqrt, (0.0, 100.0)),
        (Unary::Reciprocal, (0.1, 9.0)),
        (Unary::Floor, everywhere),
        (Unary::Ceil, everywhere),
        (Unary::Round, everywhere),
        (Unary::Sin, (-1000.0, 1000.0)),
        (Unary::Cos, (-1000.0, 1000.0)),
        (Unary::Tan, (-1.5, 1.5)),
        (Unary::Asin, (-1.0, 1.0)),
        (Unary::Acos, (-1.0, 1.0)),
        (Unary::Atan, (-50.0, 50.0)),
        (Unary::Sinh, everywhere),
        (Unary::Cosh, everywhere),
        (Unary::Tanh, (-100.0, 100.0)),
        (Unary::Tanh, (-1.0, 1.0)),
        (Unary::Asinh, (-1000.0, 1000.0)),
        (Unary::Acosh, (1.0, 1000.0)),
        (Unary::Atanh, (-0.999, 0.999)),
        (Unary::Erf, (-4.0, 4.0)),
        (Unary::Sigmoid, (-100.0, 100.0)),
        (Unary::Softplus, (-100.0, 100.0)),
        (Unary::Gelu, everywhere),
        (Unary::GeluTanh, (-30.0, 30.0)),
        (Unary::Silu, (-100.0, 100.0)),
        (Unary::Relu, everywhere),
    ];
    let mut cases: Vec<Case> = of_floats
        .into_iter()
        .map(|(op, (low, high))| {
            let mut maker = Maker::new();
            let x = maker.between(NUMBERS, low, high);
            flat(
                maker,
                format!("{op:?} from {low} to {high}"),
                &[x],
                NUMBERS,
                Element::F32,
                of(op, Expr::Input(0)),
            )
        })
        .collect();
    for op in [Unary::Abs, Unary::Neg, Unary::Sign] {
        let mut maker = Maker::new();
        let x = maker.wholes(NUMBERS, 50);
        cases.push(flat(
            maker,
            format!("{op:?} of whole numbers"),
            &[x],
            NUMBERS,
            Element::I32,
            of(op, Expr::Input(0)),
        ));
    }
    cases
}

/// What is no number, what is infinite, halves, and what is near the ends.
fn special() -> Vec<Case> {
    let values =
        || vec![f32::NAN, f32::INFINITY, f32::NEG_INFINITY, 0.0, -0.5, 0.5, 1.5, 2.5, -2.5, 1e-30, 3.4e38];
    let finite = || vec![0.0, -0.5, 0.5, 1.5, 2.5, -2.5, 3.5, 1e-30, 1e30, -1e30, 88.0, -88.0, -200.0, 500.0];
    let mut cases = Vec::new();
    for op in [Unary::IsNan, Unary::IsInf] {
        let mut maker = Maker::new();
        let x = maker.given(values());
        cases.push(flat(
            maker,
            format!("{op:?}"),
            &[x],
            values().len(),
            Element::I32,
            of(op, Expr::Input(0)),
        ));
    }
    for op in [Unary::Relu, Unary::Neg, Unary::Abs] {
        let mut maker = Maker::new();
        let x = maker.given(values());
        cases.push(flat(
            maker,
            format!("{op:?} of all"),
            &[x],
            values().len(),
            Element::F32,
            of(op, Expr::Input(0)),
        ));
    }
    for op in
        [Unary::Round, Unary::Tanh, Unary::Erf, Unary::Sigmoid, Unary::Softplus, Unary::Gelu, Unary::Silu]
    {
        let mut maker = Maker::new();
        let x = maker.given(finite());
        cases.push(flat(
            maker,
            format!("{op:?} at the ends"),
            &[x],
            finite().len(),
            Element::F32,
            of(op, Expr::Input(0)),
        ));
    }
    let pairs: [(f32, f32); 14] = [
        (-2.0, 3.0),
        (-2.0, 2.0),
        (-2.0, -3.0),
        (-1.5, 4.0),
        (-2.0, 0.5),
        (0.0, 0.0),
        (0.0, 2.0),
        (2.0, 0.5),
        (2.0, -1.5),
        (10.0, -3.0),
        (1.0, 1000.0),
        (0.3, 2.7),
        (-1.0, 65.0),
        (-1.0, 66.0),
    ];
    let mut maker = Maker::new();
    let (a, b) = pairs.into_iter().unzip();
    let (a, b) = (maker.given(a), maker.given(b));
    let pow = both(Binary::Pow, Expr::Input(0), Expr::Input(1));
    cases.push(flat(maker, "powers".to_owned(), &[a, b], pairs.len(), Element::F32, pow));
    for exponent in [2.0, 0.5, 3.0, -1.0] {
        let mut maker = Maker::new();
        let a = maker.between(17, 0.1, 3.0);
        let pow = both(Binary::Pow, Expr::Input(0), Expr::Float(exponent));
        cases.push(flat(maker, format!("to the power of {exponent}"), &[a], 17, Element::F32, pow));
    }
    for op in [Binary::Min, Binary::Max] {
        let mut maker = Maker::new();
        let (a, b) = (maker.given(values()), maker.given(values().into_iter().rev().collect()));
        let expr = both(op, Expr::Input(0), Expr::Input(1));
        cases.push(flat(maker, format!("{op:?} of all"), &[a, b], values().len(), Element::F32, expr));
    }
    cases
}

fn binary() -> Vec<Case> {
    let floats = [
        Binary::Add,
        Binary::Sub,
        Binary::Mul,
        Binary::Div,
        Binary::Mod,
        Binary::Fmod,
        Binary::Min,
        Binary::Max,
    ];
    let comparisons =
        [Binary::Equal, Binary::Less, Binary::LessOrEqual, Binary::Greater, Binary::GreaterOrEqual];
    let case = |op: Binary, made: Element| {
        let mut maker = Maker::new();
        let (a, b) = (maker.between(NUMBERS, -9.0, 9.0), maker.between(NUMBERS, 0.5, 4.0));
        let expr = both(op, Expr::Input(0), Expr::Input(1));
        flat(maker, format!("{op:?}"), &[a, b], NUMBERS, made, expr)
    };
    let floats = floats.into_iter().map(|op| case(op, Element::F32));
    floats.chain(comparisons.into_iter().map(|op| case(op, Element::I32))).collect()
}

fn whole() -> Vec<Case> {
    use Binary::{
        Add, And, BitAnd, BitOr, BitXor, Div, Equal, Fmod, Greater, Less, Max, Min, Mod, Mul, Or, Pow, Sub,
        Xor,
    };
    let ops =
        [Add, Sub, Mul, Div, Mod, Fmod, Min, Max, And, Or, Xor, BitAnd, BitOr, BitXor, Equal, Less, Greater];
    let case = |op: Binary, most: [i64; 2]| {
        let mut maker = Maker::new();
        let (a, b) = (maker.wholes(NUMBERS, most[0]), maker.wholes(NUMBERS, most[1]));
        let expr = both(op, Expr::Input(0), Expr::Input(1));
        flat(maker, format!("{op:?} of whole numbers"), &[a, b], NUMBERS, Element::I32, expr)
    };
    ops.into_iter().map(|op| case(op, [40, 3])).chain([case(Pow, [3, 6])]).collect()
}

/// Transposed, reversed, repeated, cut and put together.
fn lying() -> Vec<Case> {
    let copy = |shape: &[usize], len: usize, offset: usize, strides: &[i64]| {
        let mut maker = Maker::new();
        let x = maker.floats(len);
        let output = maker.output(Element::F32, shape.iter().product());
        let input = View { slot: x, offset, strides: strides.to_vec() };
        let map = Map {
            shape: shape.to_vec(),
            inputs: vec![input],
            output: dense(output, shape),
            expr: Expr::Input(0),
        };
        maker.case(format!("copy of {shape:?} from {offset} by {strides:?}"), vec![Call::Map(map)])
    };
    let mut cases = vec![
        copy(&[17, 3], 51, 0, &[1, 17]),
        copy(&[16, 8], 128, 0, &[1, 16]),
        copy(&[1000], 1000, 999, &[-1]),
        copy(&[12, 4], 63, 4, &[5, 1]),
        copy(&[12, 4], 96, 4, &[8, 1]),
        copy(&[3, 129], 3, 0, &[1, 0]),
        copy(&[3, 128], 128, 0, &[0, 1]),
        copy(&[2, 3, 5, 7, 4, 3], 2520, 0, &[1, 2, 6, 30, 210, 840]),
        copy(&[3, 5, 8], 300, 40, &[80, -8, 1]),
        copy(&[], 3, 2, &[]),
    ];
    let mut maker = Maker::new();
    let (a, b) = (maker.floats(3 * 17), maker.floats(4 * 17));
    let output = maker.output(Element::F32, 7 * 17);
    let part = |slot, rows: usize, offset| {
        let output = View { slot: output, offset, strides: vec![17, 1] };
        let shape = vec![rows, 17];
        Call::Map(Map { inputs: vec![dense(slot, &shape)], shape, output, expr: Expr::Input(0) })
    };
    cases.push(maker.case("two behind each other", vec![part(a, 3, 0), part(b, 4, 51)]));
    for (rows, columns) in [(17, 129), (17, 128), (1, 1000), (129, 1)] {
        let mut maker = Maker::new();
        let (x, bias, one) = (maker.floats(rows * columns), maker.floats(columns), maker.floats(1));
        let output = maker.output(Element::F32, rows * columns);
        let shape = vec![rows, columns];
        let inputs = vec![
            dense(x, &shape),
            View { slot: bias, offset: 0, strides: vec![0, 1] },
            View { slot: one, offset: 0, strides: vec![0, 0] },
        ];
        let sum = both(Binary::Add, both(Binary::Mul, Expr::Input(0), Expr::Input(2)), Expr::Input(1));
        let map = Map { inputs, output: dense(output, &shape), shape, expr: sum };
        cases.push(maker.case(format!("a row added to {rows} of {columns}"), vec![Call::Map(map)]));
    }
    cases
}

fn mixed() -> Vec<Case> {
    let cast = |to, x| Expr::Cast(to, Box::new(x));
    let mut cases = Vec::new();
    let casts = [(To::Int, Element::I32), (To::Flag, Element::I32), (To::Float, Element::F32)];
    for (to, made) in casts {
        let mut maker = Maker::new();
        let x = maker.between(NUMBERS, -3.0, 3.0);
        cases.push(flat(maker, format!("to {to:?}"), &[x], NUMBERS, made, cast(to, Expr::Input(0))));
    }
    for (to, made) in casts {
        let mut maker = Maker::new();
        let x = maker.wholes(NUMBERS, 3);
        cases.push(flat(
            maker,
            format!("whole numbers to {to:?}"),
            &[x],
            NUMBERS,
            made,
            cast(to, Expr::Input(0)),
        ));
    }
    for len in [NUMBERS, 1000] {
        let mut maker = Maker::new();
        let (by, a, b) = (maker.wholes(len, 1), maker.floats(len), maker.floats(len));
        let flag = of(Unary::Not, Expr::Input(0));
        let lower = both(Binary::Max, Expr::Input(2), Expr::Float(f32::NEG_INFINITY));
        let chosen = Expr::Select(Box::new(flag), Box::new(Expr::Input(1)), Box::new(lower));
        let expr = of(Unary::Silu, both(Binary::Add, chosen, Expr::Float(0.5)));
        cases.push(flat(maker, format!("a choice of {len}"), &[by, a, b], len, Element::F32, expr));
    }
    let mut maker = Maker::new();
    let output = maker.output(Element::I32, 17);
    let map = Map { shape: vec![17], inputs: vec![], output: dense(output, &[17]), expr: Expr::Int(-7) };
    cases.push(maker.case("a number everywhere", vec![Call::Map(map)]));
    cases
}
