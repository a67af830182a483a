//! A node as the rules see it: its operator, its attributes, what is known of its inputs.

use super::{Expr, Size, Value, index};
use crate::onnx::proto::{NodeProto, TensorProto};

pub(in crate::onnx) struct Site<'a> {
    pub(super) node: &'a NodeProto,
    inputs: &'a [Value],
    /// Of the standard operators.
    pub(super) version: i64,
}

/// Stands for inputs that are left out.
const ABSENT: &Value = &Value { element: None, dims: None, known: None };

impl<'a> Site<'a> {
    pub(in crate::onnx) fn new(node: &'a NodeProto, inputs: &'a [Value], version: i64) -> Self {
        Self { node, inputs, version }
    }

    /// The operator, with its domain where that is not the standard one.
    pub(in crate::onnx) fn operator(&self) -> (&'a str, &'a str) {
        (super::standard(&self.node.domain), &self.node.op_type)
    }

    pub(in crate::onnx) fn inputs(&self) -> &'a [Value] {
        self.inputs
    }

    pub(in crate::onnx) fn has(&self, at: usize) -> bool {
        self.node.input.get(at).is_some_and(|name| !name.is_empty())
    }

    pub(in crate::onnx) fn input(&self, at: usize) -> &'a Value {
        self.inputs.get(at).unwrap_or(ABSENT)
    }

    pub(in crate::onnx) fn number(&self, name: &str, default: i64) -> i64 {
        self.node.attribute(name).map_or(default, |attribute| attribute.i)
    }

    pub(super) fn number_if_there(&self, name: &str) -> Option<i64> {
        self.node.attribute(name).map(|attribute| attribute.i)
    }

    pub(in crate::onnx) fn numbers(&self, name: &str) -> Option<&'a [i64]> {
        self.node.attribute(name).map(|attribute| attribute.ints.as_slice())
    }

    pub(super) fn real(&self, name: &str) -> Option<f32> {
        self.node.attribute(name).map(|attribute| attribute.f)
    }

    pub(in crate::onnx) fn text(&self, name: &str) -> Option<&'a str> {
        self.node.attribute(name).and_then(|attribute| std::str::from_utf8(&attribute.s).ok())
    }

    pub(super) fn tensor(&self, name: &str) -> Option<&'a TensorProto> {
        self.node.attribute(name).and_then(|attribute| attribute.t.as_ref())
    }

    /// Numbers that were an attribute before some version, and are an input since.
    pub(super) fn listed(&self, name: &str, at: usize) -> Listed {
        if let Some(numbers) = self.numbers(name) {
            return Listed::Known(numbers.to_vec());
        }
        if !self.has(at) {
            return Listed::Absent;
        }
        self.input(at).numbers().map_or(Listed::Unknown, Listed::Known)
    }

    /// An axis by its place from the front.
    pub(super) fn axis(&self, default: i64, rank: usize) -> Option<usize> {
        index(self.number("axis", default), rank)
    }

    pub(super) fn like(&self, at: usize) -> Value {
        let Value { element, dims, .. } = self.input(at).clone();
        Value { element, dims, known: None }
    }
}

pub(super) enum Listed {
    Absent,
    Known(Vec<i64>),
    Unknown,
}

#[allow(clippy::unnecessary_wraps, reason = "a size may also be unknown")]
pub(super) fn fixed(size: i64) -> Size {
    Some(Expr::constant(size))
}
