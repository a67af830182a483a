//! The architectures, one description each, and the table of them.

mod bert;
mod block;
mod clip;
mod llama;
mod t5;
mod vit;
mod wav2vec2;
mod whisper;

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

pub static ARCHITECTURES: [Architecture; 7] = [
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
        leaves: llama::LEAVES,
    },
    Architecture { model_types: &["vit"], parts: &["model"], describe: vit::describe, leaves: vit::LEAVES },
    Architecture {
        model_types: &["clip"],
        parts: &["text", "vision"],
        describe: clip::describe,
        leaves: clip::LEAVES,
    },
    Architecture {
        model_types: &["whisper"],
        parts: &["encoder", "decoder"],
        describe: whisper::describe,
        leaves: whisper::LEAVES,
    },
    Architecture {
        model_types: &["t5"],
        parts: &["encoder", "decoder"],
        describe: t5::describe,
        leaves: t5::LEAVES,
    },
    Architecture {
        model_types: &["wav2vec2"],
        parts: &["model"],
        describe: wav2vec2::describe,
        leaves: wav2vec2::LEAVES,
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

/// Which of these endings the class has that the checkpoint was saved as; the first where the file names no class.
fn saved_as(config: &Config, endings: &[&'static str]) -> Result<&'static str, ConvertError> {
    let classes = config.words("architectures")?;
    let Some(class) = classes.first() else { return Ok(endings[0]) };
    let ending = endings.iter().find(|ending| class.ends_with(**ending));
    ending.copied().ok_or_else(|| {
        config.refuse(
            "architectures",
            endings.iter().map(|ending| format!("…{ending}")).collect::<Vec<_>>().join(", "),
        )
    })
}
