//! From weights and a `config.json` to ONNX graphs.
//!
//! It is given bytes and gives bytes: it opens no file, and runs no graph.

mod architectures;
pub mod checkpoint;
mod config;
mod graph;
mod part;

use std::collections::BTreeSet;

pub use self::{
    architectures::{ARCHITECTURES, Architecture},
    part::Part,
};
use self::{
    checkpoint::{Checkpoint, Element, GgufError, TorchError},
    config::Config,
};

/// Describes a model's graphs after its `config.json` and the names and shapes of its weights.
/// No weight is read before a part is written.
pub fn convert<'c>(config: &[u8], checkpoint: &'c dyn Checkpoint) -> Result<Vec<Part<'c>>, ConvertError> {
    let config = Config::parse(config)?;
    let (architecture, model_type) = architectures::find(&config)?;
    config.without("quantization_config")?;
    let drafts = (architecture.describe)(&config, checkpoint)?;
    let used: BTreeSet<_> = drafts.iter().flat_map(|draft| draft.graph.tensors()).collect();
    let unused: Vec<_> = checkpoint
        .tensors()
        .keys()
        .filter(|name| !used.contains(name.as_str()) && !architecture.leaves(name))
        .collect();
    if let Some(first) = unused.first() {
        return Err(ConvertError::Unused {
            architecture: model_type,
            count: unused.len(),
            first: (*first).clone(),
        });
    }
    let part = |draft: architectures::Draft| Part {
        name: draft.name,
        kind: draft.kind,
        architecture: model_type,
        checkpoint,
        graph: draft.graph,
    };
    Ok(drafts.into_iter().map(part).collect())
}

#[derive(Debug, thiserror::Error)]
pub enum ConvertError {
    #[error(transparent)]
    Torch(#[from] TorchError),
    #[error(transparent)]
    Gguf(#[from] GgufError),
    // The configuration.
    #[error("config.json cannot be read: {source}")]
    ConfigJson { source: serde_json::Error },
    #[error("config.json has no {key:?}, which its architecture needs")]
    NoSetting { key: String },
    #[error("config.json has {found} as {key:?}, where {wanted} belongs")]
    Setting { key: String, found: String, wanted: &'static str },
    #[error("config.json sets {key:?} to {found}, which is not supported; supported: {supported}")]
    Unsupported { key: String, found: String, supported: String },
    #[error("models of the type {name:?} are not supported; supported: {}", architectures::names())]
    Architecture { name: String },

    // The weights' files.
    #[error("{file} is no safetensors file: {message}")]
    Safetensors { file: String, message: String },
    #[error("the index of the weights' files cannot be read: {source}")]
    IndexJson { source: serde_json::Error },
    #[error("the index names {file:?}, which is missing beside it")]
    NoShard { file: String },

    // What is in them.
    #[error("the weights have no tensor {name:?}")]
    NoTensor { name: String },
    #[error("tensor {tensor:?} has shape {found:?}, and after config.json it is {wanted:?}")]
    Shape { tensor: String, wanted: Vec<u64>, found: Vec<u64> },
    #[error("tensor {tensor:?} is of {}, and a weight is of floats", element.as_str())]
    NotFloat { tensor: String, element: Element },
    #[error("tensor {tensor:?} of shape {shape:?} has {found} bytes, which is another number than it needs")]
    Bytes { tensor: String, shape: Vec<u64>, found: u64 },
    #[error(
        "{count} tensors belong to no part of a {architecture} model that is converted, so that the graph would compute something else; the first is {first:?}"
    )]
    Unused { architecture: &'static str, count: usize, first: String },

    // The graph's file.
    #[error(
        "the part {part:?} has {bytes} bytes, more than one file of the format can have; write its weights to another"
    )]
    TooLarge { part: &'static str, bytes: u64 },
    #[error("could not write the graph: {source}")]
    Write { source: std::io::Error },
}

#[cfg(test)]
mod tests;
