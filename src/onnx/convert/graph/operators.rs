//! Single operators of the standard set, version 17, under the words that architectures are described with.

use super::{Module, Value};
use crate::onnx::proto::{AttributeProto, attribute, element};

#[derive(Clone, Debug)]
pub(in crate::onnx::convert) enum Attribute {
    Int(i64),
    Ints(Vec<i64>),
    Float(f32),
}

impl Attribute {
    pub(super) fn proto(&self, name: &str) -> AttributeProto {
        let proto = AttributeProto { name: name.to_owned(), ..AttributeProto::default() };
        match self {
            Self::Int(i) => AttributeProto { i: *i, r#type: attribute::INT, ..proto },
            Self::Ints(ints) => AttributeProto { ints: ints.clone(), r#type: attribute::INTS, ..proto },
            Self::Float(f) => AttributeProto { f: *f, r#type: attribute::FLOAT, ..proto },
        }
    }
}

impl Module<'_> {
    pub(in crate::onnx::convert) fn add(&self, left: Value, right: Value) -> Value {
        self.node("Add", &[left, right], &[])
    }

    pub(in crate::onnx::convert) fn subtract(&self, left: Value, right: Value) -> Value {
        self.node("Sub", &[left, right], &[])
    }

    pub(in crate::onnx::convert) fn multiply(&self, left: Value, right: Value) -> Value {
        self.node("Mul", &[left, right], &[])
    }

    pub(in crate::onnx::convert) fn divide(&self, left: Value, right: Value) -> Value {
        self.node("Div", &[left, right], &[])
    }

    pub(in crate::onnx::convert) fn scale(&self, x: Value, by: f32) -> Value {
        self.multiply(x, self.float(by))
    }

    pub(in crate::onnx::convert) fn matmul(&self, left: Value, right: Value) -> Value {
        self.node("MatMul", &[left, right], &[])
    }

    pub(in crate::onnx::convert) fn softmax(&self, x: Value) -> Value {
        self.node("Softmax", &[x], &[("axis", Attribute::Int(-1))])
    }

    pub(in crate::onnx::convert) fn tanh(&self, x: Value) -> Value {
        self.node("Tanh", &[x], &[])
    }

    pub(in crate::onnx::convert) fn sigmoid(&self, x: Value) -> Value {
        self.node("Sigmoid", &[x], &[])
    }

    /// A size of 0 keeps the one that stands there, -1 takes what remains.
    pub(in crate::onnx::convert) fn reshape(&self, x: Value, sizes: &[i64]) -> Value {
        self.node("Reshape", &[x, self.list(sizes)], &[])
    }

    pub(in crate::onnx::convert) fn transpose(&self, x: Value, axes: &[i64]) -> Value {
        self.node("Transpose", &[x], &[("perm", Attribute::Ints(axes.to_vec()))])
    }

    pub(in crate::onnx::convert) fn unsqueeze(&self, x: Value, axes: &[i64]) -> Value {
        self.node("Unsqueeze", &[x, self.list(axes)], &[])
    }

    pub(in crate::onnx::convert) fn squeeze(&self, x: Value, axes: &[i64]) -> Value {
        self.node("Squeeze", &[x, self.list(axes)], &[])
    }

    pub(in crate::onnx::convert) fn concat(&self, parts: &[Value], axis: i64) -> Value {
        self.node("Concat", parts, &[("axis", Attribute::Int(axis))])
    }

    pub(in crate::onnx::convert) fn slice(&self, x: Value, axis: i64, from: i64, to: i64) -> Value {
        self.node("Slice", &[x, self.list(&[from]), self.list(&[to]), self.list(&[axis])], &[])
    }

    /// As many of the first axis as a list of one says. There being fewer shows in the next sum.
    pub(in crate::onnx::convert) fn first(&self, x: Value, count: Value) -> Value {
        self.node("Slice", &[x, self.list(&[0]), count, self.list(&[0])], &[])
    }

    /// What lies at one place of an axis, which goes.
    pub(in crate::onnx::convert) fn pick(&self, x: Value, axis: i64, at: i64) -> Value {
        self.gather(x, self.integer(at), axis)
    }

    pub(in crate::onnx::convert) fn gather(&self, x: Value, indices: Value, axis: i64) -> Value {
        self.node("Gather", &[x, indices], &[("axis", Attribute::Int(axis))])
    }

    /// Both halves of the last axis, each `half` wide.
    pub(super) fn halves(&self, x: Value, half: i64) -> (Value, Value) {
        let [left, right] =
            self.outputs("Split", &[x, self.list(&[half, half])], &[("axis", Attribute::Int(-1))]);
        (left, right)
    }

    pub(in crate::onnx::convert) fn mean(&self, x: Value, axis: i64) -> Value {
        self.node(
            "ReduceMean",
            &[x],
            &[("axes", Attribute::Ints(vec![axis])), ("keepdims", Attribute::Int(1))],
        )
    }

    pub(in crate::onnx::convert) fn equal(&self, left: Value, right: Value) -> Value {
        self.node("Equal", &[left, right], &[])
    }

    pub(in crate::onnx::convert) fn to_float(&self, x: Value) -> Value {
        self.cast(x, element::FLOAT)
    }

    pub(in crate::onnx::convert) fn to_integer(&self, x: Value) -> Value {
        self.cast(x, element::INT64)
    }

    /// Positions are computed in 32 bits, which WebGPU and WebNN have and 64 not everywhere.
    pub(in crate::onnx::convert) fn to_integer32(&self, x: Value) -> Value {
        self.cast(x, element::INT32)
    }

    fn cast(&self, x: Value, to: i32) -> Value {
        self.node("Cast", &[x], &[("to", Attribute::Int(to.into()))])
    }

    /// How long an axis is, as a list of one.
    pub(in crate::onnx::convert) fn length(&self, x: Value, axis: i64) -> Value {
        self.node("Shape", &[x], &[("start", Attribute::Int(axis)), ("end", Attribute::Int(axis + 1))])
    }

    /// The same as a scalar of 32 bits, to compute with.
    pub(super) fn length32(&self, x: Value, axis: i64) -> Value {
        self.to_integer32(self.squeeze(self.length(x, axis), &[0]))
    }

    /// The whole numbers from one scalar up to another.
    pub(super) fn range(&self, from: Value, to: Value) -> Value {
        self.node("Range", &[from, to, self.integer32(1)], &[])
    }
}
