//! What kind of file some bytes are, by magika: its windows of a file, and its rule for what its network is unsure of.
//! It follows the package's own Python, version 1.0.3.

use std::{collections::BTreeMap, sync::Arc};

use bytes::Bytes;
use serde::Deserialize;

use super::{
    Ask, Companions, Dialogue, Finding, Label, ModalityError, Task, Turn,
    classes::rows,
    companions::{CONTENT_TYPES, FILE_TYPES},
    values,
};
use crate::domain::{Datatype, Dim, Signature, Tensor};

/// What a file is called that has no bytes, is text without more to tell, or neither.
const EMPTY: &str = "empty";
const TEXT: &str = "txt";
const UNKNOWN: &str = "unknown";

/// A model of file types, with its table of content types.
#[derive(Debug)]
pub struct FileTypes {
    config: Config,
    types: BTreeMap<String, ContentType>,
    input: String,
    output: String,
}

/// The model's `config.min.json`: which bytes of a file it sees, and what its answers are called.
#[derive(Debug, Deserialize)]
pub struct Config {
    beg_size: usize,
    mid_size: usize,
    end_size: usize,
    block_size: usize,
    use_inputs_at_offsets: bool,
    #[serde(rename = "min_file_size_for_dl")]
    least: usize,
    padding_token: i32,
    target_labels_space: Vec<String>,
    medium_confidence_threshold: f32,
    #[serde(default)]
    thresholds: BTreeMap<String, f32>,
    #[serde(default)]
    overwrite_map: BTreeMap<String, String>,
}

#[derive(Debug, Deserialize)]
struct ContentType {
    mime_type: Option<String>,
    #[serde(default)]
    is_text: bool,
}

impl Config {
    pub fn parse(json: &[u8]) -> Result<Self, ModalityError> {
        let wrong = |problem| ModalityError::Companion { name: FILE_TYPES, problem };
        let config: Self = serde_json::from_slice(json).map_err(|error| wrong(error.to_string()))?;
        if config.mid_size != 0 || config.use_inputs_at_offsets {
            return Err(wrong("it asks for features from elsewhere in a file".to_owned()));
        }
        Ok(config)
    }

    /// The network's input, as `[1, features]`.
    /// None for a file with so few bytes that magika does not ask the network.
    pub fn features(&self, file: &[u8]) -> Option<Vec<i32>> {
        let Config { beg_size, end_size, block_size, least, padding_token, .. } = *self;
        let block = block_size.min(file.len());
        let begin = &file[..block];
        let begin = &begin[begin.iter().take_while(|byte| is_space(**byte)).count()..];
        let end = &file[file.len() - block..];
        let end = &end[..end.len() - end.iter().rev().take_while(|byte| is_space(**byte)).count()];
        if file.len() < least || begin.len() < least {
            return None;
        }
        let begin = &begin[..begin.len().min(beg_size)];
        let end = &end[end.len().saturating_sub(end_size)..];
        let mut features = vec![padding_token; beg_size + end_size];
        let end_at = features.len() - end.len();
        for (slot, byte) in features.iter_mut().zip(begin) {
            *slot = i32::from(*byte);
        }
        for (slot, byte) in features[end_at..].iter_mut().zip(end) {
            *slot = i32::from(*byte);
        }
        Some(features)
    }

    /// The likeliest label with its probability.
    /// None if there is not one probability for each label, or one is not a number.
    pub fn top(&self, probabilities: &[f32]) -> Option<(&str, f32)> {
        let labels = &self.target_labels_space;
        if probabilities.len() != labels.len() || probabilities.iter().any(|p| p.is_nan()) {
            return None;
        }
        let best = labels.iter().zip(probabilities).max_by(|a, b| a.1.total_cmp(b.1));
        best.map(|(label, probability)| (label.as_str(), *probability))
    }
}

impl FileTypes {
    pub(super) fn new(companions: &Companions, signature: &Signature) -> Result<Self, ModalityError> {
        let needed_for = "the type of a file";
        let config = companions.read(FILE_TYPES);
        let config = config.ok_or(ModalityError::NoCompanion { name: FILE_TYPES, needed_for })?;
        let config = Config::parse(config)?;
        let types = companions.wanted_json(CONTENT_TYPES, needed_for)?;
        let features = config.beg_size.saturating_add(config.end_size) as u64;
        let ([input], [output]) = (signature.inputs.as_slice(), signature.outputs.as_slice()) else {
            return Err(unfit("one input and one output are wanted".to_owned()));
        };
        if input.datatype != Datatype::Int32 || input.shape.last() != Some(&Dim::Fixed(features)) {
            return Err(unfit(format!("input {:?} does not take INT32 of [any, {features}]", input.name)));
        }
        Ok(Self { config, types, input: input.name.clone(), output: output.name.clone() })
    }

    pub(super) fn begin(self: Arc<Self>, file: &Bytes) -> Identifying {
        let features = self.config.features(file);
        let file = &file[..file.len().min(self.config.block_size)];
        let few = if file.is_empty() {
            EMPTY
        } else if std::str::from_utf8(file).is_ok() {
            TEXT
        } else {
            UNKNOWN
        };
        Identifying { types: self, features, few }
    }

    /// What magika calls a file whose likeliest label this is: some labels stand for others, and an unsure one for
    /// what is sure.
    pub(super) fn settled(&self, label: &str, score: f32) -> &str {
        let known = &self.config.target_labels_space;
        let own = known.iter().find(|known| *known == label).map_or(UNKNOWN, String::as_str);
        let settled = self.config.overwrite_map.get(label).map_or(own, String::as_str);
        let threshold = self.config.thresholds.get(label).copied();
        if score >= threshold.unwrap_or(self.config.medium_confidence_threshold) {
            return settled;
        }
        let text = self.types.get(settled).is_some_and(|kind| kind.is_text);
        if text { TEXT } else { UNKNOWN }
    }

    fn finding(&self, label: &str, network: Option<Label>) -> Finding {
        let mime_type = self.types.get(label).and_then(|kind| kind.mime_type.clone());
        Finding::FileType { label: label.to_owned(), mime_type, network }
    }
}

fn unfit(problem: String) -> ModalityError {
    ModalityError::Signature { task: Task::FileType, problem }
}

/// What Python's `bytes.strip` removes; unlike Rust's ASCII whitespace it includes the vertical tab.
fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\n' | b'\r' | 0x0b | 0x0c)
}

pub(super) struct Identifying {
    types: Arc<FileTypes>,
    features: Option<Vec<i32>>,
    /// What it is when there is too little to ask about.
    few: &'static str,
}

impl Dialogue for Identifying {
    fn turn(&mut self, answers: Vec<Vec<Tensor>>) -> Result<Turn, ModalityError> {
        let Some(outputs) = answers.first() else {
            let Some(features) = self.features.take() else {
                return Ok(Turn::Done(vec![self.types.finding(self.few, None)]));
            };
            let features: Vec<i64> = features.into_iter().map(i64::from).collect();
            let shape = [1, features.len()];
            let input = values::integers(&self.types.input, Datatype::Int32, &shape, &features);
            return Ok(Turn::Ask(vec![Ask::one(vec![input], vec![self.types.output.clone()])]));
        };
        let wrong = |problem| ModalityError::Answer { task: Task::FileType, problem };
        let probabilities = rows(outputs, 1).map_err(wrong)?.swap_remove(0);
        let labels = self.types.config.target_labels_space.len();
        let likeliest = self.types.config.top(&probabilities);
        let (label, score) = likeliest
            .ok_or_else(|| wrong(format!("{} probabilities for {labels} labels", probabilities.len())))?;
        let network = Label { label: label.to_owned(), score };
        Ok(Turn::Done(vec![self.types.finding(self.types.settled(label, score), Some(network))]))
    }
}
