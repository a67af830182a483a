//! The files that came with a model, read whole and found by name.

use std::collections::BTreeMap;

use bytes::Bytes;
use serde::de::DeserializeOwned;

use super::ModalityError;

/// Largest companion. The largest `tokenizer.json` in wide use has 33 MB.
pub const COMPANION_BYTES_MAX: u64 = 48 << 20;

/// What this room reads, as models' repositories call it; of whatever else came with a model it needs nothing.
pub const WANTED: [&str; 9] = [
    TOKENIZER,
    TOKENIZER_CONFIG,
    CONFIG,
    MODULES,
    SENTENCE_CONFIG,
    PREPROCESSOR,
    FILE_TYPES,
    CONTENT_TYPES,
    POOLING,
];

pub(super) const TOKENIZER: &str = "tokenizer.json";
pub(super) const TOKENIZER_CONFIG: &str = "tokenizer_config.json";
pub(super) const CONFIG: &str = "config.json";
pub(super) const MODULES: &str = "modules.json";
pub(super) const SENTENCE_CONFIG: &str = "sentence_bert_config.json";
pub(super) const PREPROCESSOR: &str = "preprocessor_config.json";
pub(super) const POOLING: &str = "1_Pooling/config.json";
/// Magika's.
pub(super) const FILE_TYPES: &str = "config.min.json";
pub(super) const CONTENT_TYPES: &str = "content_types_kb.min.json";

/// Files by the name that each has where the model comes from.
#[derive(Clone, Debug, Default)]
pub struct Companions(BTreeMap<String, Bytes>);

impl Companions {
    pub fn new(files: BTreeMap<String, Bytes>) -> Self {
        Self(files)
    }

    /// Which of `names` stands for `wanted`: it itself, else the least deep that ends with it, as when a wheel has the
    /// model's folder somewhere within.
    pub fn choose<'n>(wanted: &str, names: impl Iterator<Item = &'n str>) -> Option<&'n str> {
        let ends = |name: &&str| {
            name.strip_suffix(wanted).is_some_and(|folder| folder.is_empty() || folder.ends_with('/'))
        };
        names.filter(ends).min_by_key(|name| (name.matches('/').count(), name.len()))
    }

    pub fn read(&self, wanted: &str) -> Option<&Bytes> {
        let name = Self::choose(wanted, self.0.keys().map(String::as_str))?;
        self.0.get(name)
    }

    pub fn has(&self, wanted: &str) -> bool {
        self.read(wanted).is_some()
    }

    /// A companion as JSON; `None` where the model has none of this name.
    pub(super) fn json<T: DeserializeOwned>(&self, wanted: &'static str) -> Result<Option<T>, ModalityError> {
        let read = |bytes: &Bytes| {
            serde_json::from_slice(bytes)
                .map_err(|error| ModalityError::Companion { name: wanted, problem: error.to_string() })
        };
        self.read(wanted).map(read).transpose()
    }

    pub(super) fn wanted_json<T: DeserializeOwned>(
        &self,
        wanted: &'static str,
        needed_for: &'static str,
    ) -> Result<T, ModalityError> {
        self.json(wanted)?.ok_or(ModalityError::NoCompanion { name: wanted, needed_for })
    }
}
