//! Expressions of maps: put into each other, and written as the functions that they are.

use crate::kernels::ir::{Binary, Expr, Unary};

/// Each input by what stands in its place.
pub(super) fn filled(expr: &Expr, inputs: &[Expr]) -> Expr {
    let of = |expr: &Expr| Box::new(filled(expr, inputs));
    match expr {
        Expr::Input(at) => inputs[*at].clone(),
        Expr::Float(_) | Expr::Int(_) => expr.clone(),
        Expr::Unary(op, x) => Expr::Unary(*op, of(x)),
        Expr::Binary(op, a, b) => Expr::Binary(*op, of(a), of(b)),
        Expr::Select(by, a, b) => Expr::Select(of(by), of(a), of(b)),
        Expr::Cast(to, x) => Expr::Cast(*to, of(x)),
    }
}

/// Parts of an expression.
pub(super) fn size(expr: &Expr) -> usize {
    1 + match expr {
        Expr::Input(_) | Expr::Float(_) | Expr::Int(_) => 0,
        Expr::Unary(_, x) | Expr::Cast(_, x) => size(x),
        Expr::Binary(_, a, b) => size(a) + size(b),
        Expr::Select(by, a, b) => size(by) + size(a) + size(b),
    }
}

/// With activations that are written out as what they are.
pub(super) fn simple(expr: Expr) -> Expr {
    let of = |expr: Box<Expr>| Box::new(simple(*expr));
    let expr = match expr {
        Expr::Unary(op, x) => Expr::Unary(op, of(x)),
        Expr::Binary(op, a, b) => Expr::Binary(op, of(a), of(b)),
        Expr::Select(by, a, b) => Expr::Select(of(by), of(a), of(b)),
        Expr::Cast(to, x) => Expr::Cast(to, of(x)),
        plain => return plain,
    };
    match expr {
        Expr::Binary(Binary::Mul | Binary::Div, x, one) if *one == Expr::Float(1.0) => *x,
        Expr::Binary(Binary::Mul, one, x) if *one == Expr::Float(1.0) => *x,
        expr => activation(&expr).unwrap_or(expr),
    }
}

/// What is multiplied, and the number that it is multiplied with.
struct Product<'e> {
    factors: Vec<&'e Expr>,
    number: f32,
}

fn product(expr: &Expr) -> Product<'_> {
    match expr {
        Expr::Float(number) => Product { factors: Vec::new(), number: *number },
        Expr::Binary(Binary::Mul, a, b) => {
            let (mut a, b) = (product(a), product(b));
            a.factors.extend(b.factors);
            Product { number: a.number * b.number, ..a }
        }
        Expr::Binary(Binary::Div, a, b) => match **b {
            Expr::Float(number) => {
                let a = product(a);
                Product { number: a.number / number, ..a }
            }
            _ => Product { factors: vec![expr], number: 1.0 },
        },
        Expr::Binary(Binary::Pow, a, b) if **b == Expr::Float(3.0) => {
            let base: &Expr = a;
            Product { factors: vec![base; 3], number: 1.0 }
        }
        _ => Product { factors: vec![expr], number: 1.0 },
    }
}

fn near(number: f32, wanted: f32) -> bool {
    (number - wanted).abs() <= 1e-5 * wanted.abs()
}

/// What is added to 1.
fn above_one(expr: &Expr) -> Option<&Expr> {
    match expr {
        Expr::Binary(Binary::Add, a, b) if **b == Expr::Float(1.0) => Some(a),
        Expr::Binary(Binary::Add, a, b) if **a == Expr::Float(1.0) => Some(b),
        _ => None,
    }
}

fn activation(expr: &Expr) -> Option<Expr> {
    let Product { factors, number } = product(expr);
    let [a, b] = factors[..] else { return None };
    [(a, b), (b, a)].into_iter().find_map(|(x, weight)| {
        let op = match weight {
            Expr::Unary(Unary::Sigmoid, inner) if near(number, 1.0) && **inner == *x => Some(Unary::Silu),
            _ if near(number, 0.5) => match above_one(weight)? {
                Expr::Unary(Unary::Erf, inner) => {
                    let inner = product(inner);
                    let fits = inner.factors == [x] && near(inner.number, std::f32::consts::FRAC_1_SQRT_2);
                    fits.then_some(Unary::Gelu)
                }
                Expr::Unary(Unary::Tanh, inner) => is_bent(inner, x).then_some(Unary::GeluTanh),
                _ => None,
            },
            _ => None,
        };
        op.map(|op| Expr::Unary(op, Box::new(x.clone())))
    })
}

/// `√(2/π) · (x + 0.044715 · x³)`.
fn is_bent(expr: &Expr, x: &Expr) -> bool {
    let Product { factors, number } = product(expr);
    let [Expr::Binary(Binary::Add, a, b)] = factors[..] else { return false };
    let is_cube = |expr: &Expr| {
        let cube = product(expr);
        near(cube.number, 0.044_715) && cube.factors == [x, x, x]
    };
    let sum = **a == *x && is_cube(b) || **b == *x && is_cube(a);
    sum && near(number, (2.0 / std::f32::consts::PI).sqrt())
}
