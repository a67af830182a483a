//! GGUF files, versions 2 and 3: weights of Llama and Qwen2 models, often in blocks of few bits.
//!
//! Tensors have here the names and the order of rows that the original implementation gives them, so that what reads
//! its checkpoints reads these; `config` tells the rest of what its `config.json` would say. All is checked when the
//! file is opened, so that reading a weight cannot fail.

mod blocks;
mod config;
mod header;
mod names;

use std::collections::BTreeMap;

use bytes::Bytes;

use super::{Checkpoint, Stored};
use crate::onnx::convert::ConvertError;
use blocks::Kind;
use names::Heads;

#[derive(Debug, thiserror::Error)]
pub enum GgufError {
    #[error("not a GGUF file")]
    NotGguf,
    #[error("a GGUF file of version {version}; versions 2 and 3 in little-endian order are read")]
    Version { version: u32 },
    #[error("the file claims {tensors} tensors and {entries} settings, more than any model has")]
    Counts { tensors: u64, entries: u64 },
    #[error("the file ends within its header")]
    Cut,
    #[error("the text at byte {at} is not UTF-8")]
    Text { at: usize },
    #[error("the value before byte {at} is of the unknown kind {kind}")]
    ValueKind { kind: u32, at: usize },
    #[error("the file has lists nested too deeply")]
    Deep,
    #[error("{name:?} is there twice")]
    Twice { name: String },
    #[error("tensor {tensor:?} has {rank} dimensions; the format has at most 4")]
    Rank { tensor: String, rank: u32 },
    #[error(
        "tensor {tensor:?} is stored in kind {number}; read are F32, F16, BF16, Q4_0, Q4_1, Q5_0, Q5_1, Q8_0, Q4_K, \
         Q5_K and Q6_K"
    )]
    Kind { tensor: String, number: u32 },
    #[error("tensor {tensor:?} has rows of {row} elements, which are not whole blocks of {block}")]
    Row { tensor: String, row: u64, block: usize },
    #[error("tensor {tensor:?} reaches beyond the file")]
    Bounds { tensor: String },
    #[error("the model is of the architecture {name:?}; read are llama and qwen2")]
    Architecture { name: String },
    #[error("the file does not say {key:?}")]
    NoSetting { key: String },
    #[error("the file's {key:?} is not a value that it can have")]
    Setting { key: String },
    #[error("the file sets {key:?}, and such models are not supported")]
    Unsupported { key: String },
    #[error("tensor {tensor:?} belongs to no {architecture} model")]
    Tensor { tensor: String, architecture: &'static str },
    #[error("tensor {tensor:?} has {rows} rows, which {heads} heads cannot share in pairs")]
    Rows { tensor: String, rows: u64, heads: u64 },
    #[error("the factors in rope_freqs.weight are not those of Llama 3, and no others are known")]
    RopeFactors,
}

#[derive(Debug)]
struct Placed {
    kind: Kind,
    stored: Bytes,
    /// Bytes of a row as it is read, and how many heads share the rows, where their order differs.
    turned: Option<(usize, Heads)>,
}

#[derive(Debug)]
pub struct GgufCheckpoint {
    tensors: BTreeMap<String, Stored>,
    placed: BTreeMap<String, Placed>,
    config: String,
}

impl GgufCheckpoint {
    pub fn open(file: &Bytes) -> Result<Self, GgufError> {
        let header = header::read(file)?;
        let architecture = names::architecture(&header)?;
        let settings = config::Settings::read(&header, architecture)?;
        let mut opened =
            Self { tensors: BTreeMap::new(), placed: BTreeMap::new(), config: settings.json(&header, file)? };
        for entry in header.tensors.iter().filter(|entry| entry.name != config::ROPE_FACTORS) {
            let name = names::original(entry.name).ok_or_else(|| GgufError::Tensor {
                tensor: header::shown(entry.name),
                architecture: architecture.name(),
            })?;
            let turned = names::turned(entry, architecture, &settings)?;
            let stored = file.slice(entry.from..entry.to);
            let placed = Placed { kind: entry.kind, stored, turned };
            if opened.placed.insert(name.clone(), placed).is_some() {
                return Err(GgufError::Twice { name });
            }
            opened.tensors.insert(name, Stored { element: entry.kind.element(), shape: entry.shape.clone() });
        }
        Ok(opened)
    }

    /// What the `config.json` of the same model says, as far as the weights' use depends on it.
    pub fn config(&self) -> &str {
        &self.config
    }
}

impl Checkpoint for GgufCheckpoint {
    fn tensors(&self) -> &BTreeMap<String, Stored> {
        &self.tensors
    }

    fn bytes(&self, name: &str) -> Result<Bytes, ConvertError> {
        let placed = self.placed.get(name).ok_or_else(|| ConvertError::NoTensor { name: name.to_owned() })?;
        let read = if placed.kind.is_plain() {
            placed.stored.clone()
        } else {
            placed.kind.dequantise(&placed.stored).into()
        };
        Ok(match placed.turned {
            Some((row, heads)) => names::turn(&read, row, heads),
            None => read,
        })
    }
}

#[cfg(test)]
mod tests;
