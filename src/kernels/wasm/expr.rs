//! Expressions as a map's instructions, each of which computes a block of elements.
//!
//! Blocks lie in registers: those of the inputs, then of the constants, then of what instructions make.

use super::WasmError;
use crate::kernels::ir::{Binary, Element, Expr, To, Unary};

/// As `abi.h` has them.
const REGISTERS: usize = 64;
const UNARY: u32 = 0;
const UNARY_INT: u32 = 64;
const BINARY: u32 = 128;
const BINARY_INT: u32 = 160;
const SELECT: u32 = 192;
const FLOAT_TO_INT: u32 = 193;
const INT_TO_FLOAT: u32 = 194;
const FLOAT_TO_FLAG: u32 = 195;
const INT_TO_FLAG: u32 = 196;

#[derive(Debug, PartialEq)]
pub(super) struct Instructions {
    /// As they lie in a register.
    pub(super) constants: Vec<u32>,
    /// An operation, and the registers of its result and of what it is made of.
    pub(super) steps: Vec<(u32, [u8; 4])>,
    pub(super) result: usize,
}

pub(super) fn instructions(expr: &Expr, inputs: &[Element]) -> Result<Instructions, WasmError> {
    let mut constants = Vec::new();
    collect(expr, &mut constants);
    let mut writer = Writer {
        inputs,
        first: inputs.len() + constants.len(),
        constants,
        used: Vec::new(),
        steps: Vec::new(),
    };
    let (result, _) = writer.write(expr)?;
    Ok(Instructions { constants: writer.constants, steps: writer.steps, result })
}

fn collect(expr: &Expr, constants: &mut Vec<u32>) {
    match expr {
        Expr::Input(_) => {}
        Expr::Float(_) | Expr::Int(_) => {
            let bits = bits(expr);
            if !constants.contains(&bits) {
                constants.push(bits);
            }
        }
        Expr::Unary(_, x) | Expr::Cast(_, x) => collect(x, constants),
        Expr::Binary(_, a, b) => [a, b].into_iter().for_each(|expr| collect(expr, constants)),
        Expr::Select(by, a, b) => [by, a, b].into_iter().for_each(|expr| collect(expr, constants)),
    }
}

fn bits(constant: &Expr) -> u32 {
    match constant {
        Expr::Float(value) => value.to_bits(),
        Expr::Int(value) => value.cast_unsigned(),
        _ => unreachable!("it is a constant"),
    }
}

struct Writer<'i> {
    inputs: &'i [Element],
    constants: Vec<u32>,
    /// The first register of results.
    first: usize,
    /// Which of these are needed still.
    used: Vec<bool>,
    steps: Vec<(u32, [u8; 4])>,
}

impl Writer<'_> {
    fn write(&mut self, expr: &Expr) -> Result<(usize, Element), WasmError> {
        let wrong = |why| WasmError::Call { call: "map", why };
        match expr {
            Expr::Input(at) => {
                let element =
                    self.inputs.get(*at).ok_or_else(|| wrong("it computes with an input that it has not"))?;
                Ok((*at, *element))
            }
            Expr::Float(_) | Expr::Int(_) => {
                let place = self.constants.iter().position(|known| *known == bits(expr));
                let element = if matches!(expr, Expr::Float(_)) { Element::F32 } else { Element::I32 };
                Ok((self.inputs.len() + place.expect("all were collected"), element))
            }
            Expr::Unary(op, x) => {
                let (x, element) = self.write(x)?;
                let (op, made) =
                    unary(*op, element).ok_or_else(|| wrong("a function of floats has whole numbers"))?;
                Ok((self.step(op, [x, x, x])?, made))
            }
            Expr::Binary(op, a, b) => {
                let (a, element) = self.write(a)?;
                let (b, other) = self.write(b)?;
                if element != other {
                    return Err(wrong("it computes with a float and a whole number"));
                }
                let (op, made) =
                    binary(*op, element).ok_or_else(|| wrong("an operation of whole numbers has floats"))?;
                Ok((self.step(op, [a, b, b])?, made))
            }
            Expr::Select(by, a, b) => {
                let (by, flag) = self.write(by)?;
                let (a, element) = self.write(a)?;
                let (b, other) = self.write(b)?;
                if flag != Element::I32 || element != other {
                    return Err(wrong("it selects by a float, or between floats and whole numbers"));
                }
                Ok((self.step(SELECT, [by, a, b])?, element))
            }
            Expr::Cast(to, x) => {
                let (x, element) = self.write(x)?;
                let (op, made) = match (to, element) {
                    (To::Float, Element::I32) => (INT_TO_FLOAT, Element::F32),
                    (To::Int, Element::F32) => (FLOAT_TO_INT, Element::I32),
                    (To::Flag, Element::F32) => (FLOAT_TO_FLAG, Element::I32),
                    (To::Flag, _) => (INT_TO_FLAG, Element::I32),
                    _ => return Ok((x, element)),
                };
                Ok((self.step(op, [x, x, x])?, made))
            }
        }
    }

    /// Its result may lie where one of its operands did, which is read first.
    fn step(&mut self, op: u32, operands: [usize; 3]) -> Result<usize, WasmError> {
        for operand in operands {
            if let Some(result) = operand.checked_sub(self.first) {
                self.used[result] = false;
            }
        }
        let free = self.used.iter().position(|used| !used).unwrap_or_else(|| {
            self.used.push(false);
            self.used.len() - 1
        });
        self.used[free] = true;
        let made = self.first + free;
        if made >= REGISTERS {
            return Err(WasmError::Call {
                call: "map",
                why: "its expression needs too many values at a time",
            });
        }
        let [a, b, c] = operands.map(|operand| operand as u8);
        self.steps.push((op, [made as u8, a, b, c]));
        Ok(made)
    }
}

fn unary(op: Unary, element: Element) -> Option<(u32, Element)> {
    match (op, element) {
        (Unary::IsNan | Unary::IsInf, Element::F32) => Some((UNARY + op as u32, Element::I32)),
        (Unary::Not, Element::F32) => None,
        (_, Element::F32) => Some((UNARY + op as u32, Element::F32)),
        (Unary::Abs | Unary::Neg | Unary::Sign | Unary::Not, Element::I32) => {
            Some((UNARY_INT + op as u32, Element::I32))
        }
        _ => None,
    }
}

fn binary(op: Binary, element: Element) -> Option<(u32, Element)> {
    let compares = matches!(
        op,
        Binary::Equal | Binary::Less | Binary::LessOrEqual | Binary::Greater | Binary::GreaterOrEqual
    );
    let of_whole = matches!(
        op,
        Binary::And | Binary::Or | Binary::Xor | Binary::BitAnd | Binary::BitOr | Binary::BitXor
    );
    match element {
        Element::F32 if of_whole => None,
        Element::F32 if compares => Some((BINARY + op as u32, Element::I32)),
        Element::F32 => Some((BINARY + op as u32, Element::F32)),
        Element::I32 => Some((BINARY_INT + op as u32, Element::I32)),
        Element::Bytes => None,
    }
}
