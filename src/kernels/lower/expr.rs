//! Expressions of maps, written as formulas.

use std::ops::{Add, Div, Mul, Sub};

use super::{builder::Builder, value::Value};
use crate::{
    domain::Datatype,
    kernels::{
        host::Host,
        ir::{Binary, Expr, To, Unary},
    },
};

impl Expr {
    pub(super) fn then(self, op: Unary) -> Self {
        Self::Unary(op, Box::new(self))
    }

    pub(super) fn with(self, op: Binary, other: Self) -> Self {
        Self::Binary(op, Box::new(self), Box::new(other))
    }

    pub(super) fn cast(self, to: To) -> Self {
        Self::Cast(to, Box::new(self))
    }

    /// One of the two, by this flag.
    pub(super) fn choose(self, yes: Self, no: Self) -> Self {
        Self::Select(Box::new(self), Box::new(yes), Box::new(no))
    }

    pub(super) fn clamped(self, least: Self, most: Self) -> Self {
        self.with(Binary::Max, least).with(Binary::Min, most)
    }

    /// Whole numbers as a narrow type has them: what is too large for it begins anew.
    pub(super) fn wrapped(self, datatype: Datatype) -> Self {
        let low = |bits: i32| self.clone().with(Binary::BitAnd, Self::Int((1 << bits) - 1));
        let signed = |bits: i32| {
            let sign = 1 << (bits - 1);
            low(bits).with(Binary::BitXor, Self::Int(sign)) - Self::Int(sign)
        };
        match datatype {
            Datatype::Uint8 => low(8),
            Datatype::Uint16 => low(16),
            Datatype::Int8 => signed(8),
            Datatype::Int16 => signed(16),
            _ => self,
        }
    }

    /// A number as a datatype's element.
    pub(super) fn number(value: f32, datatype: Datatype) -> Self {
        if datatype.is_float() { Self::Float(value) } else { Self::Int(value as i32) }
    }
}

impl Add for Expr {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        self.with(Binary::Add, other)
    }
}

impl Sub for Expr {
    type Output = Self;

    fn sub(self, other: Self) -> Self {
        self.with(Binary::Sub, other)
    }
}

impl Mul for Expr {
    type Output = Self;

    fn mul(self, other: Self) -> Self {
        self.with(Binary::Mul, other)
    }
}

impl Div for Expr {
    type Output = Self;

    fn div(self, other: Self) -> Self {
        self.with(Binary::Div, other)
    }
}

/// What a map reads: each value once, and single numbers that are known not at all.
#[derive(Default)]
pub(super) struct Terms {
    pub(super) inputs: Vec<Value>,
}

impl Terms {
    pub(super) fn add(&mut self, builder: &Builder, value: &Value) -> Expr {
        if let Some(literal) = literal(builder, value) {
            return literal;
        }
        let at = self.inputs.iter().position(|input| input == value).unwrap_or_else(|| {
            self.inputs.push(value.clone());
            self.inputs.len() - 1
        });
        Expr::Input(at)
    }
}

/// Kernels' sources can hold finite numbers of 32 bits.
fn literal(builder: &Builder, value: &Value) -> Option<Expr> {
    if value.len() != 1 {
        return None;
    }
    match builder.known(value)? {
        Host::F32(values) => values[0].is_finite().then(|| Expr::Float(values[0])),
        Host::I64(values) => i32::try_from(values[0]).ok().map(Expr::Int),
        Host::Bytes(_) => None,
    }
}
