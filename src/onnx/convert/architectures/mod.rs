//! The architectures, one description each, and the table of them.

mod bert;
mod llama;

use super::{
    ConvertError,
    checkpoint::Checkpoint,
    config::Config,
    graph::{Builder, Graph},
};
use crate::domain::ModelKind;

/// A family of models that one description covers.
pub struct Architecture {
    /// The `model_type`s of `config.json`.
    pub model_types: &'static [&'static str],
    /// The graphs that it becomes.
    pub parts: &'static [&'static str],
    pub(super) describe: fn(&Config, &dyn Checkpoint) -> Result<Vec<Draft>, ConvertError>,
    /// How the names begin or end of tensors that files have beside what the graphs compute with.
    leaves: &'static [&'static str],
}

/// A part before it is bound to its checkpoint.
pub(super) struct Draft {
    pub(super) name: &'static str,
    pub(super) kind: ModelKind,
    pub(super) graph: Graph,
}

pub static ARCHITECTURES: [Architecture; 2] = [
    Architecture {
        model_types: &["bert", "distilbert", "roberta", "xlm-roberta", "mpnet"],
        parts: &["model"],
        describe: bert::describe,
        leaves: bert::LEAVES,
    },
    Architecture {
        model_types: &["llama", "mistral", "qwen2"],
        parts: &["model"],
        describe: llama::describe,
        leaves: &[".rotary_emb.inv_freq"],
    },
];

impl Architecture {
    pub(super) fn leaves(&self, tensor: &str) -> bool {
        self.leaves.iter().any(|left| tensor.starts_with(left) || tensor.ends_with(left))
    }
}

pub(super) fn find(config: &Config) -> Result<(&'static Architecture, &'static str), ConvertError> {
    let name = config.word("model_type")?;
    let of = |architecture: &'static Architecture| {
        architecture.model_types.iter().find(|known| **known == name).map(|known| (architecture, *known))
    };
    ARCHITECTURES.iter().find_map(of).ok_or_else(|| ConvertError::Architecture { name: name.to_owned() })
}

pub(super) fn names() -> String {
    let names = ARCHITECTURES.iter().flat_map(|architecture| architecture.model_types);
    names.copied().collect::<Vec<_>>().join(", ")
}

/// The one of several prefixes below which the checkpoint has this tensor; a model is stored with its head's or alone.
fn prefix<'p>(checkpoint: &dyn Checkpoint, prefixes: &[&'p str], tensor: &str) -> &'p str {
    let has = |prefix: &&&str| {
        let name = if prefix.is_empty() { tensor.to_owned() } else { format!("{prefix}.{tensor}") };
        checkpoint.tensors().contains_key(&name)
    };
    prefixes.iter().find(has).copied().unwrap_or(prefixes[0])
}
