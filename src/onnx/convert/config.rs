//! A model's `config.json`, read by key: what is missing, out of bounds or not supported is an error that names the key.

use serde_json::{Map, Value};

use super::ConvertError;

/// No model has wider layers, more tokens or more positions; bounds what a file can make the converter compute.
const SIZE_MAX: u64 = 1 << 24;

/// Several times what the deepest published models have; each layer costs nodes.
const LAYERS_MAX: u64 = 512;

pub(super) struct Config {
    /// Empty, or the key of the part that this is, with a dot.
    at: String,
    entries: Map<String, Value>,
}

impl Config {
    pub(super) fn parse(bytes: &[u8]) -> Result<Self, ConvertError> {
        let value = serde_json::from_slice(bytes).map_err(|source| ConvertError::ConfigJson { source })?;
        match value {
            Value::Object(entries) => Ok(Self { at: String::new(), entries }),
            other => Err(ConvertError::Setting {
                key: "the file".to_owned(),
                found: short(&other),
                wanted: "an object",
            }),
        }
    }

    /// One of the configurations within this one.
    pub(super) fn part(&self, key: &str) -> Result<Self, ConvertError> {
        let at = format!("{}{key}.", self.at);
        match self.get(key) {
            Some(Value::Object(entries)) => Ok(Self { at, entries: entries.clone() }),
            Some(other) => Err(self.setting(key, other, "an object")),
            None => Err(self.missing(key)),
        }
    }

    /// A value that is null says as much as one that is absent.
    fn get(&self, key: &str) -> Option<&Value> {
        self.entries.get(key).filter(|value| !value.is_null())
    }

    pub(super) fn has(&self, key: &str) -> bool {
        self.get(key).is_some()
    }

    fn missing(&self, key: &str) -> ConvertError {
        ConvertError::NoSetting { key: format!("{}{key}", self.at) }
    }

    fn setting(&self, key: &str, found: &Value, wanted: &'static str) -> ConvertError {
        ConvertError::Setting { key: format!("{}{key}", self.at), found: short(found), wanted }
    }

    /// The setting has a value that the graphs here do not compute.
    pub(super) fn refuse(&self, key: &str, supported: impl Into<String>) -> ConvertError {
        let found = self.entries.get(key).map_or_else(|| "nothing".to_owned(), short);
        ConvertError::Unsupported { key: format!("{}{key}", self.at), found, supported: supported.into() }
    }

    pub(super) fn size(&self, key: &str) -> Result<u64, ConvertError> {
        self.bounded(key, SIZE_MAX, "a whole number from 1 to 16777216")?.ok_or_else(|| self.missing(key))
    }

    pub(super) fn size_or(&self, key: &str, absent: u64) -> Result<u64, ConvertError> {
        Ok(self.bounded(key, SIZE_MAX, "a whole number from 1 to 16777216")?.unwrap_or(absent))
    }

    pub(super) fn layers(&self, key: &str) -> Result<u64, ConvertError> {
        self.bounded(key, LAYERS_MAX, "a whole number from 1 to 512")?.ok_or_else(|| self.missing(key))
    }

    pub(super) fn layers_or(&self, key: &str, absent: u64) -> Result<u64, ConvertError> {
        Ok(self.bounded(key, LAYERS_MAX, "a whole number from 1 to 512")?.unwrap_or(absent))
    }

    fn bounded(&self, key: &str, max: u64, wanted: &'static str) -> Result<Option<u64>, ConvertError> {
        let Some(value) = self.get(key) else { return Ok(None) };
        match value.as_u64() {
            Some(size) if (1..=max).contains(&size) => Ok(Some(size)),
            _ => Err(self.setting(key, value, wanted)),
        }
    }

    /// How many heads share `width`, and how wide one is.
    pub(super) fn heads(&self, key: &str, width: u64) -> Result<(u64, u64), ConvertError> {
        let heads = self.size(key)?;
        if !width.is_multiple_of(heads) {
            return Err(self.setting(key, &heads.into(), "a divisor of the width"));
        }
        Ok((heads, width / heads))
    }

    /// The same, of a part whose format leaves out what is usual.
    pub(super) fn heads_or(&self, key: &str, absent: u64, width: u64) -> Result<(u64, u64), ConvertError> {
        if self.has(key) {
            return self.heads(key, width);
        }
        if !width.is_multiple_of(absent) {
            return Err(self.missing(key));
        }
        Ok((absent, width / absent))
    }

    /// A token's number.
    pub(super) fn token(&self, key: &str) -> Result<u64, ConvertError> {
        self.token_or(key, None)
    }

    pub(super) fn token_or(&self, key: &str, absent: Option<u64>) -> Result<u64, ConvertError> {
        let Some(value) = self.get(key) else { return absent.ok_or_else(|| self.missing(key)) };
        value
            .as_u64()
            .filter(|token| *token < SIZE_MAX)
            .ok_or_else(|| self.setting(key, value, "the number of one token"))
    }

    pub(super) fn sizes(&self, key: &str) -> Result<Vec<u64>, ConvertError> {
        let value = self.get(key).ok_or_else(|| self.missing(key))?;
        let sizes = value.as_array().filter(|sizes| sizes.len() as u64 <= LAYERS_MAX);
        sizes
            .and_then(|sizes| {
                let bounded = |size: &Value| size.as_u64().filter(|size| (1..=SIZE_MAX).contains(size));
                sizes.iter().map(bounded).collect::<Option<Vec<_>>>()
            })
            .ok_or_else(|| self.setting(key, value, "a list of sizes"))
    }

    /// How many classes a classifier has; the format leaves out the usual two.
    pub(super) fn labels(&self) -> Result<u64, ConvertError> {
        match self.get("id2label") {
            Some(Value::Object(labels)) if !labels.is_empty() => Ok(labels.len() as u64),
            Some(other) => Err(self.setting("id2label", other, "a map of labels")),
            None => self.size_or("num_labels", 2),
        }
    }

    pub(super) fn number(&self, key: &str) -> Result<f64, ConvertError> {
        self.positive(key)?.ok_or_else(|| self.missing(key))
    }

    pub(super) fn number_or(&self, key: &str, absent: f64) -> Result<f64, ConvertError> {
        Ok(self.positive(key)?.unwrap_or(absent))
    }

    fn positive(&self, key: &str) -> Result<Option<f64>, ConvertError> {
        let Some(value) = self.get(key) else { return Ok(None) };
        match value.as_f64() {
            // What `f32` would round to zero or infinity could not be computed with.
            Some(number) if number as f32 > 0.0 && (number as f32).is_finite() => Ok(Some(number)),
            _ => Err(self.setting(key, value, "a number above 0")),
        }
    }

    pub(super) fn flag_or(&self, key: &str, absent: bool) -> Result<bool, ConvertError> {
        let Some(value) = self.get(key) else { return Ok(absent) };
        value.as_bool().ok_or_else(|| self.setting(key, value, "true or false"))
    }

    pub(super) fn word(&self, key: &str) -> Result<&str, ConvertError> {
        let value = self.get(key).ok_or_else(|| self.missing(key))?;
        value.as_str().ok_or_else(|| self.setting(key, value, "a text"))
    }

    pub(super) fn word_or<'a>(&'a self, key: &str, absent: &'a str) -> Result<&'a str, ConvertError> {
        if self.has(key) { self.word(key) } else { Ok(absent) }
    }

    pub(super) fn words(&self, key: &str) -> Result<Vec<&str>, ConvertError> {
        let Some(value) = self.get(key) else { return Ok(Vec::new()) };
        let words = value.as_array().map(|words| words.iter().map(Value::as_str).collect::<Option<Vec<_>>>());
        words.flatten().ok_or_else(|| self.setting(key, value, "a list of texts"))
    }

    /// Refuses every value of an option but the one that is computed here. Absent, the option has that value.
    pub(super) fn only(&self, key: &str, supported: impl Into<Value>) -> Result<(), ConvertError> {
        let supported = supported.into();
        match self.get(key) {
            Some(found) if !same(found, &supported) => Err(self.refuse(key, short(&supported))),
            _ => Ok(()),
        }
    }

    pub(super) fn without(&self, key: &str) -> Result<(), ConvertError> {
        if self.has(key) { Err(self.refuse(key, "only its absence")) } else { Ok(()) }
    }
}

/// Whether two settings say the same: 1 and 1.0 do.
fn same(left: &Value, right: &Value) -> bool {
    match (left.as_f64(), right.as_f64()) {
        (Some(left), Some(right)) => left.total_cmp(&right).is_eq(),
        _ => left == right,
    }
}

/// A value for an error's text, which quotes no whole file.
fn short(value: &Value) -> String {
    const SHOWN: usize = 80;
    let text = value.to_string();
    match text.char_indices().nth(SHOWN) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}
