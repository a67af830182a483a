//! A node as operators see it: its attributes, and what it takes.

use super::{LowerError, value::Value};
use crate::{
    kernels::ir::RANK_MAX,
    onnx::proto::{NodeProto, TensorProto},
};

pub(super) struct Site<'n> {
    pub(super) node: &'n NodeProto,
    /// Of the standard operators.
    pub(super) opset: i64,
    pub(super) inputs: Vec<Option<Value>>,
}

impl<'n> Site<'n> {
    pub(super) fn input(&self, at: usize) -> Result<&Value, LowerError> {
        self.optional(at).ok_or_else(|| self.refuse(format!("has no input {at}")))
    }

    pub(super) fn optional(&self, at: usize) -> Option<&Value> {
        self.inputs.get(at).and_then(Option::as_ref)
    }

    /// Whether somebody may read that output.
    pub(super) fn wants(&self, output: usize) -> bool {
        self.node.output.get(output).is_some_and(|name| !name.is_empty())
    }

    pub(super) fn number(&self, name: &str, default: i64) -> i64 {
        self.number_if_there(name).unwrap_or(default)
    }

    pub(super) fn number_if_there(&self, name: &str) -> Option<i64> {
        self.node.attribute(name).map(|attribute| attribute.i)
    }

    pub(super) fn numbers(&self, name: &str) -> Option<&'n [i64]> {
        self.node.attribute(name).map(|attribute| attribute.ints.as_slice())
    }

    pub(super) fn reals(&self, name: &str) -> Option<&'n [f32]> {
        self.node.attribute(name).map(|attribute| attribute.floats.as_slice())
    }

    pub(super) fn real_if_there(&self, name: &str) -> Option<f32> {
        self.node.attribute(name).map(|attribute| attribute.f)
    }

    pub(super) fn real(&self, name: &str, default: f32) -> f32 {
        self.real_if_there(name).unwrap_or(default)
    }

    pub(super) fn text(&self, name: &str) -> Option<&'n str> {
        self.node.attribute(name).and_then(|attribute| std::str::from_utf8(&attribute.s).ok())
    }

    pub(super) fn tensor(&self, name: &str) -> Option<&'n TensorProto> {
        self.node.attribute(name).and_then(|attribute| attribute.t.as_ref())
    }

    /// An axis by its place from the front.
    pub(super) fn axis(&self, axis: i64, rank: usize) -> Result<usize, LowerError> {
        let from_front = if axis < 0 { axis + rank as i64 } else { axis };
        let axis = usize::try_from(from_front).ok().filter(|axis| *axis < rank);
        axis.ok_or_else(|| self.refuse(format!("names axis {from_front} of {rank} dimensions")))
    }

    /// Several axes by their places from the front, in order and each once.
    pub(super) fn axes(&self, axes: &[i64], rank: usize) -> Result<Vec<usize>, LowerError> {
        let found = axes.iter().map(|axis| self.axis(*axis, rank));
        let mut found: Vec<usize> = found.collect::<Result<_, _>>()?;
        found.sort_unstable();
        if found.windows(2).any(|pair| pair[0] == pair[1]) {
            return Err(self.refuse(format!("names an axis twice in {axes:?}")));
        }
        Ok(found)
    }

    /// A size that is not below 0.
    pub(super) fn size(&self, size: i64) -> Result<usize, LowerError> {
        usize::try_from(size).map_err(|_| self.refuse(format!("takes the size {size}")))
    }

    /// Names the operator that a value within the model could not be made by.
    pub(super) fn place(&self, error: LowerError) -> LowerError {
        match error {
            LowerError::Computed { datatype } => {
                self.refuse(format!("makes {datatype}, which our kernels do not compute with"))
            }
            LowerError::Dimensions { dimensions } => self.refuse(format!(
                "reads along {dimensions} dimensions that lie apart; kernels have {RANK_MAX}"
            )),
            other => other,
        }
    }

    pub(super) fn operator(&self) -> String {
        match self.node.domain.as_str() {
            "" | "ai.onnx" => self.node.op_type.clone(),
            domain => format!("{domain}.{}", self.node.op_type),
        }
    }

    pub(super) fn refuse(&self, why: impl Into<String>) -> LowerError {
        let node = match self.node.name.as_str() {
            "" => self.node.output.first().cloned().unwrap_or_default(),
            name => name.to_owned(),
        };
        LowerError::Unsupported { operator: self.operator(), node, why: why.into() }
    }
}
