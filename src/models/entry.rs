//! One model that can be asked for, with what the gate needs to judge it.

use std::{collections::BTreeMap, path::PathBuf, sync::Arc};

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{
    Recipes, Served,
    gate::{INPUTS_MIN, seeded},
};
use crate::{
    domain::{Dim, DimBinding, Failure, Model, Port, Tensor},
    onnx::InputRange,
    protocol::client::TensorJson,
};

/// Seeds the generated inputs; any value does, a fixed one makes every proof repeatable.
pub(super) const SEED: u64 = 0x77_65_66_74;

#[derive(Debug)]
pub struct Entry {
    pub model: Model,
    pub path: PathBuf,
    /// Inputs given with the model; empty when it came without.
    pub given: Vec<Vec<Tensor>>,
    /// Shapes that the model is known to run with, one per input of the signature.
    pub shapes: Vec<Vec<u64>>,
    /// What the graph implies about its inputs' values.
    pub ranges: Vec<InputRange>,
    pub served: Served,
    /// What every answer says of a file that weft made.
    pub converted: Option<Arc<str>>,
    pub recipes: Recipes,
}

/// Gate inputs as they travel and as they are stored: input sets, each a tensor by input name.
#[derive(Clone, Debug, Default, Serialize, Deserialize, ToSchema)]
pub struct GateInputs {
    pub inputs: Vec<BTreeMap<String, TensorJson>>,
    /// Shapes for seeded inputs, found when the model was added without any.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub shapes: Vec<Vec<u64>>,
}

impl GateInputs {
    pub fn tensors(&self) -> Result<Vec<Vec<Tensor>>, Failure> {
        let set = |set: &BTreeMap<String, TensorJson>| {
            set.iter().map(|(name, json)| json.tensor(name).map_err(Failure::invalid)).collect()
        };
        self.inputs.iter().map(set).collect()
    }
}

impl Entry {
    /// The dimensions that a proof without a request uses.
    pub fn proof_binding(&self) -> DimBinding {
        let ports = self.model.signature.inputs.iter().zip(&self.shapes);
        let dims = ports.flat_map(|(port, shape)| port.shape.iter().zip(shape));
        dims.filter_map(|(dim, size)| match dim {
            Dim::Symbol(symbol) => Some((symbol.clone(), *size)),
            Dim::Fixed(_) | Dim::Free(_) => None,
        })
        .collect()
    }

    /// The inputs to judge a session by: given ones that have its fixed dimensions, filled up with seeded ones.
    pub fn gate_inputs(&self, fixed: &DimBinding) -> Vec<Vec<Tensor>> {
        let signature = &self.model.signature;
        let fits = |inputs: &&Vec<Tensor>| {
            let binding = signature.bind(inputs).unwrap_or_default();
            fixed.iter().all(|(symbol, size)| binding.get(symbol) == Some(size))
        };
        let mut sets: Vec<_> = self.given.iter().filter(fits).cloned().collect();
        if sets.len() < INPUTS_MIN {
            let mut binding = self.proof_binding();
            binding.extend(fixed.clone());
            let ports = signature.inputs.iter().zip(&self.shapes);
            let shapes: Vec<_> = ports.map(|(port, shape)| resize(port, shape, &binding)).collect();
            sets.extend(seeded(signature, &self.ranges, &shapes, SEED, INPUTS_MIN - sets.len()));
        }
        sets
    }
}

/// A port's shape with the symbols of `binding`, the rest as in `known`.
fn resize(port: &Port, known: &[u64], binding: &DimBinding) -> Vec<u64> {
    let dims = port.shape.iter().zip(known);
    dims.map(|(dim, known)| match dim {
        Dim::Symbol(symbol) => binding.get(symbol).copied().unwrap_or(*known),
        Dim::Fixed(_) | Dim::Free(_) => *known,
    })
    .collect()
}
