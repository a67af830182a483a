//! Names of things, each its own type.

use std::{fmt, str::FromStr, sync::Arc};

use serde::{Deserialize, Serialize};

use super::BackendKind;

macro_rules! text_id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(String);

        impl $name {
            pub fn new(text: impl Into<String>) -> Self {
                Self(text.into())
            }

            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

text_id! {
    /// One running browser, as `chromium-1`; `native` for the daemon's own process.
    InstanceId
}
text_id! {
    /// One execution slot, as `chromium-1/wasm`.
    LaneId
}
impl LaneId {
    /// An instance has one lane of a backend.
    pub fn of(instance: &InstanceId, backend: &BackendKind) -> Self {
        Self(format!("{instance}/{backend}"))
    }
}

text_id! {
    /// A caller's exclusive right to an instance.
    LeaseId
}
text_id! {
    /// One attempt at a request.
    RunId
}
text_id! {
    /// A model's computation in stages, named after what it consists of.
    PlanId
}
impl PlanId {
    /// What the whole model in one lane is called where a plan's name is wanted.
    pub const SINGLE: &str = "single";

    pub fn single() -> Self {
        Self::new(Self::SINGLE)
    }

    pub fn is_single(&self) -> bool {
        self.0 == Self::SINGLE
    }
}

/// What joins a request's answer, logs, spans and rows; a caller may choose it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(transparent)]
pub struct RequestId(Arc<str>);

/// Room for a UUID with a prefix; it comes back in every answer and stands in every row.
const REQUEST_ID_MAX: usize = 128;

impl RequestId {
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for RequestId {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        // Quotes and backslashes are printable too, but nobody's ids have them, and logs are read by programs.
        let allowed = |byte: u8| byte.is_ascii_graphic() && !matches!(byte, b'"' | b'\\');
        if text.is_empty() || text.len() > REQUEST_ID_MAX || !text.bytes().all(allowed) {
            return Err(format!(
                "a request's id is 1 to {REQUEST_ID_MAX} printable ASCII characters without spaces, quotes and backslashes"
            ));
        }
        Ok(Self(text.into()))
    }
}

impl<'de> Deserialize<'de> for RequestId {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The name under which a model was added.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(transparent)]
pub struct ModelName(String);

/// Long enough for `organisation.family-size-variant`, short enough for a table.
pub const MODEL_NAME_MAX: usize = 128;

impl ModelName {
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for ModelName {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
        if text.is_empty()
            || text.len() > MODEL_NAME_MAX
            || !text.chars().all(allowed)
            || text.starts_with('.')
        {
            return Err(format!(
                "{text:?} is no model name: use 1 to {MODEL_NAME_MAX} of A-Z a-z 0-9 - _ . and no leading dot"
            ));
        }
        Ok(Self(text.to_owned()))
    }
}

impl<'de> Deserialize<'de> for ModelName {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

impl fmt::Display for ModelName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A model as callers name it: `NAME`, or `NAME@VERSION` for one of its files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ModelRef {
    pub name: ModelName,
    /// A digest, or how one begins.
    pub version: Option<String>,
}

impl ModelRef {
    /// The same with a version that is said apart from the name.
    pub fn of_version(self, version: Option<String>) -> Result<Self, String> {
        match (&self.version, &version) {
            (Some(first), Some(second)) if first != second => {
                Err(format!("the model's name says version {first:?}, and {second:?} is said beside it"))
            }
            (_, None) => Ok(self),
            _ => Ok(Self { version, ..self }),
        }
    }
}

impl FromStr for ModelRef {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (name, version) = match text.split_once('@') {
            Some((name, version)) => (name, Some(version)),
            None => (text, None),
        };
        Ok(Self { name: name.parse()?, version: version.map(str::to_owned) })
    }
}

impl<'de> Deserialize<'de> for ModelRef {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

/// A SHA-256, shown as 64 lower-case hex digits.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Digest([u8; 32]);

impl Digest {
    pub fn new(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    pub fn bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// Whether its hex digits begin with these.
    pub fn begins_with(&self, digits: &str) -> bool {
        let own = self.0.iter().flat_map(|byte| [byte >> 4, byte & 0xf]).map(|half| HEX[usize::from(half)]);
        digits.len() <= 2 * self.0.len() && digits.bytes().zip(own).all(|(wanted, own)| wanted == own)
    }
}

const HEX: &[u8; 16] = b"0123456789abcdef";

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut digits = [0; 64];
        for (pair, byte) in digits.as_chunks_mut().0.iter_mut().zip(self.0) {
            *pair = [byte >> 4, byte & 0xf].map(|half| HEX[usize::from(half)]);
        }
        f.write_str(std::str::from_utf8(&digits).expect("hex digits are ASCII"))
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Digest {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("{text:?} is no SHA-256: 64 lower-case hex digits are wanted");
        if text.len() != 64 || !text.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b)) {
            return Err(wrong());
        }
        let mut bytes = [0; 32];
        for (byte, at) in bytes.iter_mut().zip((0..64).step_by(2)) {
            *byte = u8::from_str_radix(&text[at..at + 2], 16).map_err(|_| wrong())?;
        }
        Ok(Self(bytes))
    }
}

impl Serialize for Digest {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Digest {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}
