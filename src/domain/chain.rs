//! A graph as whoever splits it sees it: units in one order in which they can run, and what passes between them.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// A graph in one order in which its nodes can run. A stage is a range of units.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Chain {
    pub units: Vec<Unit>,
    /// Bytes of each weight, by number; several units may need the same one.
    pub weights: Vec<u64>,
    /// Everything that passes from one unit to others, from the caller to units, or from a unit to the caller.
    pub values: Vec<Passing>,
}

/// Nodes that are never separated.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Unit {
    /// Of its first node, else that node's operator.
    pub name: String,
    pub class: OperatorClass,
    pub part: Part,
    /// Number of the repeated block that it lies in.
    pub block: Option<u32>,
    /// Number of the independent tower that it lies in; none once towers have met.
    pub tower: Option<u32>,
    /// What it is of a product that is split, where it is part of one.
    pub share: Option<Share>,
    /// Operations, at the sizes that the chain was made for.
    pub flops: f64,
    /// Bytes read and written.
    pub moved: f64,
    /// Numbers in [`Chain::weights`].
    pub weights: Vec<u32>,
}

/// What a unit is of a product of matrices whose work is dealt out in several ways.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Share {
    /// Number of the way, which needs nothing of the others.
    Way(u32),
    /// It adds up what all ways give.
    Sum,
}

/// A value that leaves its maker.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Passing {
    pub name: String,
    /// Number of the unit that makes it; none where the caller gives it.
    pub from: Option<u32>,
    /// Numbers of the units that read it, ascending.
    pub to: Vec<u32>,
    /// Whether the caller wants it.
    pub output: bool,
    /// At the sizes that the chain was made for.
    pub bytes: f64,
}

/// What kind of work a unit is: lanes differ by it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum OperatorClass {
    /// Products of matrices.
    MatMul,
    /// Convolutions and pooling.
    Conv,
    Elementwise,
    Normalisation,
    /// Attention as one operator.
    Attention,
    /// Recurrent layers.
    Recurrent,
    /// Values moved, gathered, converted and reshaped.
    Movement,
    Other,
}

impl OperatorClass {
    /// In the order of their numbers.
    pub const ALL: [Self; 8] = [
        Self::MatMul,
        Self::Conv,
        Self::Elementwise,
        Self::Normalisation,
        Self::Attention,
        Self::Recurrent,
        Self::Movement,
        Self::Other,
    ];
}

/// What a unit is in the structure of a model.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Part {
    Embedding,
    Attention,
    FeedForward,
    Head,
    /// Of a repeated block, neither attention nor feed-forward.
    Block,
    Other,
}

/// Why something is no chain.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ChainError {
    #[error("the chain has no units")]
    Empty,
    #[error("value {value:?} names unit {unit}, and there are {units}")]
    Unit { value: String, unit: u32, units: usize },
    #[error(
        "value {value:?} is read by unit {reader}, which comes before what makes it or before an earlier reader"
    )]
    Order { value: String, reader: u32 },
    #[error("unit {unit:?} names weight {weight}, and there are {weights}")]
    Weight { unit: String, weight: u32, weights: usize },
    #[error("the operations or bytes of {name:?} are no count")]
    Count { name: String },
}

impl Chain {
    /// Whether every number names something, and every value is made before it is read.
    pub fn check(&self) -> Result<(), ChainError> {
        if self.units.is_empty() {
            return Err(ChainError::Empty);
        }
        let count = |number: f64| number.is_finite() && number >= 0.0;
        for unit in &self.units {
            if !count(unit.flops) || !count(unit.moved) {
                return Err(ChainError::Count { name: unit.name.clone() });
            }
            let weights = self.weights.len();
            if let Some(weight) = unit.weights.iter().copied().find(|weight| *weight as usize >= weights) {
                return Err(ChainError::Weight { unit: unit.name.clone(), weight, weights });
            }
        }
        self.values.iter().try_for_each(|value| self.check_value(value))
    }

    fn check_value(&self, value: &Passing) -> Result<(), ChainError> {
        if !value.bytes.is_finite() || value.bytes < 0.0 {
            return Err(ChainError::Count { name: value.name.clone() });
        }
        let units = self.units.len();
        if let Some(unit) = value.from.iter().chain(&value.to).copied().find(|unit| *unit as usize >= units) {
            return Err(ChainError::Unit { value: value.name.clone(), unit, units });
        }
        let mut before = value.from;
        for reader in &value.to {
            if before.is_some_and(|before| before >= *reader) {
                return Err(ChainError::Order { value: value.name.clone(), reader: *reader });
            }
            before = Some(*reader);
        }
        Ok(())
    }
}
