//! A model as the registry knows it, and the check of a request's tensors against its signature.

use std::{collections::BTreeMap, fmt};

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{Batching, Datatype, Digest, Failure, ModelKind, ModelName, Tensor, Tolerance};

/// One dimension of a port.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Dim {
    Fixed(u64),
    /// Any size, the same wherever the name stands.
    Symbol(String),
    /// Any size. Written as null.
    Free(Option<()>),
}

/// One input or output.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Port {
    pub name: String,
    pub datatype: Datatype,
    pub shape: Vec<Dim>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Signature {
    pub inputs: Vec<Port>,
    pub outputs: Vec<Port>,
}

/// The sizes that a request gives to a signature's symbolic dimensions.
pub type DimBinding = BTreeMap<String, u64>;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Model {
    pub name: ModelName,
    pub digest: Digest,
    /// Size of the file.
    pub bytes: u64,
    pub signature: Signature,
    pub tolerance: Tolerance,
    /// Where it came from: a source as `models add` takes it, or words.
    pub source: String,
    /// What pins the source: a commit, a version, an `ETag`, a digest.
    pub revision: Option<String>,
    pub licence: Option<String>,
    pub opset: u64,
    pub kind: ModelKind,
    pub batching: Batching,
    /// The files that its weights lie in, when they are not in its own, with their sizes in bytes.
    #[serde(default)]
    pub external: BTreeMap<Digest, u64>,
    /// What belongs to it, by the names that its source has for them: a tokenizer, configurations, labels.
    #[serde(default)]
    pub companions: BTreeMap<String, Digest>,
    /// How weft made its file; absent when it came as it is.
    #[serde(default)]
    pub conversion: Option<Conversion>,
}

/// How weft made a model's file, as the file itself says.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Conversion {
    /// The `model_type` of the weights' configuration.
    pub architecture: Option<String>,
    /// Which of the model's graphs it is.
    pub part: Option<String>,
    /// The program and its version.
    pub converter: Option<String>,
    /// Whom it had do the work, where that was another program.
    pub exporter: Option<String>,
    /// What the weights were.
    pub source_dtype: Option<String>,
    /// The recipe of a variant.
    pub precision: Option<String>,
    /// The model that it is a part of, by its digest.
    pub shard_of: Option<String>,
    /// Which units of that one it has, as `0-3,7`.
    pub shard_units: Option<String>,
    /// In how many ways that one's products were split before.
    pub shard_ways: Option<String>,
    /// `fp16` where floats pass to it and from it in half precision.
    pub shard_activations: Option<String>,
}

impl fmt::Display for Conversion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(architecture) = &self.architecture {
            f.write_str(architecture)?;
        }
        if let (Some(_), Some(source)) = (&self.architecture, &self.source_dtype) {
            write!(f, " from {source} weights")?;
        }
        if let Some(exporter) = &self.exporter {
            write!(f, " by {exporter}")?;
        }
        if let Some(precision) = &self.precision {
            let separator = if self.architecture.is_some() { ", " } else { "" };
            write!(f, "{separator}{precision}")?;
        }
        if let (Some(whole), Some(units)) = (&self.shard_of, &self.shard_units) {
            let separator = if self.architecture.is_some() || self.precision.is_some() { ", " } else { "" };
            write!(f, "{separator}units {units} of {whole}")?;
        }
        Ok(())
    }
}

impl Model {
    /// What it takes to have it: its file and those of its weights.
    pub fn whole_bytes(&self) -> u64 {
        self.external.values().fold(self.bytes, |sum, bytes| sum.saturating_add(*bytes))
    }

    /// All of its files.
    pub fn files(&self) -> impl Iterator<Item = Digest> {
        let beside = self.external.keys().chain(self.companions.values()).copied();
        [self.digest].into_iter().chain(beside)
    }
}

impl Signature {
    /// Checks names, datatypes, shapes and byte counts, and says what the symbolic dimensions became.
    pub fn bind(&self, inputs: &[Tensor]) -> Result<DimBinding, Failure> {
        for (at, tensor) in inputs.iter().enumerate() {
            if !self.inputs.iter().any(|port| port.name == tensor.name) {
                return Err(Failure::invalid(format!(
                    "the model has no input {:?}; it has {}",
                    tensor.name,
                    names(&self.inputs)
                )));
            }
            if inputs[..at].iter().any(|earlier| earlier.name == tensor.name) {
                return Err(Failure::invalid(format!("input {:?} is given twice", tensor.name)));
            }
        }
        let mut binding = DimBinding::new();
        for port in &self.inputs {
            let tensor = inputs.iter().find(|tensor| tensor.name == port.name).ok_or_else(|| {
                Failure::invalid(format!(
                    "input {:?} is missing; the model has {}",
                    port.name,
                    names(&self.inputs)
                ))
            })?;
            port.bind(tensor, &mut binding)?;
        }
        Ok(binding)
    }

    /// What inputs of these shapes, in the signature's order, make of its dimensions; one without a name is called by its
    /// place, as `x[0]`.
    #[must_use]
    pub fn sizes(&self, shapes: &[Vec<u64>]) -> BTreeMap<String, u64> {
        let mut sizes = BTreeMap::new();
        for (port, shape) in self.inputs.iter().zip(shapes) {
            for (axis, (dim, size)) in port.shape.iter().zip(shape).enumerate() {
                let name = match dim {
                    Dim::Symbol(symbol) => symbol.clone(),
                    Dim::Free(_) => format!("{}[{axis}]", port.name),
                    Dim::Fixed(_) => continue,
                };
                sizes.insert(name, *size);
            }
        }
        sizes
    }

    /// The dimension along which several requests could be one: the first of every input, and nowhere else.
    /// Exporters name an output's dimensions anew, so that only a proof shows whether the outputs follow it.
    pub fn batch_symbol(&self) -> Option<&str> {
        let Some(Dim::Symbol(symbol)) = self.inputs.first()?.shape.first() else { return None };
        let is = |dim: &Dim| matches!(dim, Dim::Symbol(other) if other == symbol);
        let beyond = |port: &Port| port.shape.iter().skip(1).any(is);
        let takes = self.inputs.iter().all(|port| port.shape.first().is_some_and(is) && !beyond(port));
        // A vector alone is one thing of that length as likely as many things.
        let several = self.inputs.iter().any(|port| port.shape.len() > 1);
        let inner =
            |dim: &Dim| self.inputs.iter().any(|port| port.shape.iter().skip(1).any(|other| other == dim));
        let follows = |port: &Port| match port.shape.first() {
            Some(first @ Dim::Symbol(_)) => !inner(first) && !beyond(port),
            Some(Dim::Free(_)) => !beyond(port),
            Some(Dim::Fixed(_)) | None => false,
        };
        (takes && several && self.outputs.iter().all(follows)).then_some(symbol)
    }

    /// Checks that every wanted output exists.
    pub fn check_outputs(&self, wanted: &[String]) -> Result<(), Failure> {
        match wanted.iter().find(|name| !self.outputs.iter().any(|port| port.name == **name)) {
            None => Ok(()),
            Some(name) => Err(Failure::invalid(format!(
                "the model has no output {name:?}; it has {}",
                names(&self.outputs)
            ))),
        }
    }
}

impl Port {
    /// The shape that so many elements have, when that leaves at most one dimension open.
    pub fn shape_of(&self, elements: u64) -> Result<Vec<u64>, String> {
        let fixed = self.shape.iter().try_fold(1u64, |product, dim| match dim {
            Dim::Fixed(size) => product.checked_mul(*size),
            Dim::Symbol(_) | Dim::Free(_) => Some(product),
        });
        let fixed = fixed.ok_or_else(|| "its fixed dimensions have more elements than fit".to_owned())?;
        let open = self.shape.iter().filter(|dim| !matches!(dim, Dim::Fixed(_))).count();
        let wanted = shape_text(&self.shape);
        let size = match open {
            0 if fixed == elements => 1,
            1 if fixed > 0 && elements.is_multiple_of(fixed) => elements / fixed,
            0 | 1 => return Err(format!("{elements} elements came, the model wants {wanted}")),
            _ => {
                return Err(format!(
                    "the shape must be given, since {wanted} leaves more than one size open"
                ));
            }
        };
        let sizes = self.shape.iter().map(|dim| match dim {
            Dim::Fixed(size) => *size,
            Dim::Symbol(_) | Dim::Free(_) => size,
        });
        Ok(sizes.collect())
    }

    fn bind(&self, tensor: &Tensor, binding: &mut DimBinding) -> Result<(), Failure> {
        if tensor.datatype != self.datatype {
            return Err(Failure::invalid(format!(
                "input {:?} is {}, the model wants {}",
                self.name, tensor.datatype, self.datatype
            )));
        }
        let fits = tensor.shape.len() == self.shape.len()
            && self.shape.iter().zip(&tensor.shape).all(|(dim, size)| match dim {
                Dim::Fixed(wanted) => wanted == size,
                Dim::Free(_) => true,
                Dim::Symbol(symbol) => *binding.entry(symbol.clone()).or_insert(*size) == *size,
            });
        if !fits {
            return Err(Failure::invalid(format!(
                "input {:?} has shape {:?}, the model wants {}",
                self.name,
                tensor.shape,
                shape_text(&self.shape)
            )));
        }
        tensor.check().map_err(|error| Failure::invalid(format!("input {:?}: {error}", self.name)))
    }
}

fn names(ports: &[Port]) -> String {
    ports.iter().map(|port| format!("{:?}", port.name)).collect::<Vec<_>>().join(", ")
}

fn shape_text(shape: &[Dim]) -> String {
    let dims: Vec<_> = shape
        .iter()
        .map(|dim| match dim {
            Dim::Fixed(size) => size.to_string(),
            Dim::Symbol(symbol) => symbol.clone(),
            Dim::Free(_) => "any".to_owned(),
        })
        .collect();
    format!("[{}]", dims.join(", "))
}
