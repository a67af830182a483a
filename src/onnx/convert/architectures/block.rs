//! The layer that most encoders are made of: attention and an inner layer, each added to what came in.

use super::ConvertError;
use crate::onnx::convert::graph::{Activation, Heads, Module, Value};

/// Where an architecture keeps what a layer needs.
pub(super) struct Names {
    pub(super) query: &'static str,
    pub(super) key: &'static str,
    pub(super) value: &'static str,
    pub(super) out: &'static str,
    pub(super) attention_norm: &'static str,
    pub(super) inner: &'static str,
    pub(super) outer: &'static str,
    pub(super) outer_norm: &'static str,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Order {
    /// What goes into attention and the inner layer is normalised.
    NormFirst,
    /// The sums are.
    NormLast,
}

pub(super) struct Block {
    pub(super) names: &'static Names,
    pub(super) order: Order,
    pub(super) width: u64,
    pub(super) heads: Heads,
    pub(super) inner: u64,
    pub(super) activation: Activation,
    pub(super) epsilon: f64,
    /// Whether keys have a bias as all other linear layers do.
    pub(super) key_bias: bool,
}

impl Block {
    /// `bias` is added to the scores of attention.
    pub(super) fn apply(
        &self,
        at: &Module<'_>,
        x: Value,
        bias: Option<Value>,
    ) -> Result<Value, ConvertError> {
        let x = self.around(at, self.names.attention_norm, x, |x| self.attention(at, x, bias))?;
        self.around(at, self.names.outer_norm, x, |x| self.feed(at, x))
    }

    fn around(
        &self,
        at: &Module<'_>,
        norm: &str,
        x: Value,
        layer: impl FnOnce(Value) -> Result<Value, ConvertError>,
    ) -> Result<Value, ConvertError> {
        let norm = |x| at.layer_norm(norm, x, self.width, self.epsilon);
        match self.order {
            Order::NormFirst => Ok(at.add(x, layer(norm(x)?)?)),
            Order::NormLast => norm(at.add(x, layer(x)?)),
        }
    }

    fn attention(&self, at: &Module<'_>, x: Value, bias: Option<Value>) -> Result<Value, ConvertError> {
        let split = |x| at.split_heads(x, self.heads.count, self.heads.size);
        let linear = |name: &str, bias: bool| {
            if bias {
                at.linear(name, x, self.width, self.width)
            } else {
                at.project(name, x, self.width, self.width)
            }
        };
        let queries = split(linear(self.names.query, true)?);
        let keys = split(linear(self.names.key, self.key_bias)?);
        let values = split(linear(self.names.value, true)?);
        let attended = at.attend((queries, keys, values), bias, self.heads, Some(self.heads.scale()));
        at.linear(self.names.out, attended, self.width, self.width)
    }

    fn feed(&self, at: &Module<'_>, x: Value) -> Result<Value, ConvertError> {
        let hidden = at.activate(self.activation, at.linear(self.names.inner, x, self.width, self.inner)?);
        at.linear(self.names.outer, hidden, self.inner, self.width)
    }
}
