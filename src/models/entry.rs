//! One model that can be asked for, with what the gate needs to judge it.

use std::{
    collections::BTreeMap,
    path::PathBuf,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, Ordering},
    },
};

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use tokio::sync::OnceCell;
use utoipa::ToSchema;

use super::{
    Served,
    gate::{INPUTS_MIN, seeded},
    recipes::Told,
};
use crate::{
    domain::{Anatomy, Code, Dim, DimBinding, Failure, Model, Port, Retry, Tensor, Uses, Verification},
    onnx::{InputRange, Sizes},
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
    /// What the graph implies about its inputs' values; empty until the file is here.
    pub(super) ranges: OnceLock<Vec<InputRange>>,
    /// What every answer says of a file that weft made.
    pub converted: Option<Arc<str>>,
    pub history: History,
    /// Why it may not serve. Set at most once: what serves again is another entry.
    pub(super) unusable: OnceLock<String>,
    pub(super) told: Told,
    /// The graph without its weights, once a page has wanted it.
    pub(super) lean: OnceCell<Bytes>,
    /// Of this file under this name, also when it is verified anew; like what follows.
    pub served: Arc<Served>,
    pub(super) keeping: Arc<Keeping>,
}

/// Whether a model's files may make room for others.
#[derive(Debug, Default)]
pub(super) struct Keeping {
    pub(super) pinned: AtomicBool,
    /// They came from where they can be had again.
    pub(super) again: bool,
}

/// What the registry knows of a file beside what requests need.
#[derive(Clone, Debug, Default)]
pub struct History {
    /// Microseconds since the Unix epoch.
    pub added_at_us: i64,
    /// Absent while the file cannot be read.
    pub anatomy: Option<Anatomy>,
    /// Absent for what an earlier weft verified.
    pub verification: Option<Verification>,
    /// The file of inputs that it is judged by; the inputs themselves for what an earlier weft added.
    pub(super) judged_by: Option<String>,
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
    /// A model as it is told, of which no file has been looked at.
    pub fn new(model: Model, path: PathBuf, history: History, uses: Uses) -> Self {
        let converted = model.conversion.as_ref().map(|conversion| conversion.to_string().into());
        Self {
            model,
            path,
            given: Vec::new(),
            shapes: Vec::new(),
            ranges: OnceLock::new(),
            converted,
            history,
            unusable: OnceLock::new(),
            told: Told::default(),
            lean: OnceCell::new(),
            served: Arc::new(Served::after(uses)),
            keeping: Arc::default(),
        }
    }

    pub fn pinned(&self) -> bool {
        self.keeping.pinned.load(Ordering::Relaxed)
    }

    pub(super) fn ranges(&self) -> &[InputRange] {
        self.ranges.get().map(Vec::as_slice).unwrap_or_default()
    }

    /// Why it may not serve.
    pub fn unusable(&self) -> Option<&str> {
        self.unusable.get().map(String::as_str)
    }

    pub fn check_usable(&self) -> Result<(), Failure> {
        let Some(reason) = self.unusable() else { return Ok(()) };
        let message = format!("{} is unusable: {reason}", self.model.name);
        Err(Failure::new(Code::ModelNotReady, Retry::Never, message))
    }

    /// The dimensions that a proof without a request uses.
    pub fn proof_binding(&self) -> DimBinding {
        self.binding(&self.shapes)
    }

    /// The sizes that a proof gives to the inputs' dimensions.
    pub(super) fn sizes(&self) -> Sizes {
        self.model.signature.sizes(&self.shapes)
    }

    pub(super) fn binding(&self, shapes: &[Vec<u64>]) -> DimBinding {
        let ports = self.model.signature.inputs.iter().zip(shapes);
        let dims = ports.flat_map(|(port, shape)| port.shape.iter().zip(shape));
        dims.filter_map(|(dim, size)| match dim {
            Dim::Symbol(symbol) => Some((symbol.clone(), *size)),
            Dim::Fixed(_) | Dim::Free(_) => None,
        })
        .collect()
    }

    /// The inputs to judge a session by: given ones that have its fixed dimensions, filled up with seeded ones.
    pub fn gate_inputs(&self, fixed: &DimBinding) -> Vec<Vec<Tensor>> {
        self.inputs_of(&self.shapes, fixed)
    }

    /// The same, where seeded ones have these shapes.
    pub(super) fn inputs_of(&self, shapes: &[Vec<u64>], fixed: &DimBinding) -> Vec<Vec<Tensor>> {
        let signature = &self.model.signature;
        let fits = |inputs: &&Vec<Tensor>| {
            let binding = signature.bind(inputs).unwrap_or_default();
            fixed.iter().all(|(symbol, size)| binding.get(symbol) == Some(size))
        };
        let mut sets: Vec<_> = self.given.iter().filter(fits).cloned().collect();
        if sets.len() < INPUTS_MIN {
            let mut binding = self.binding(shapes);
            binding.extend(fixed.clone());
            let ports = signature.inputs.iter().zip(shapes);
            let shapes: Vec<_> = ports.map(|(port, shape)| resize(port, shape, &binding)).collect();
            sets.extend(seeded(signature, self.ranges(), &shapes, SEED, INPUTS_MIN - sets.len()));
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
