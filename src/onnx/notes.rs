//! What a file says of itself, by keys that its maker chose.

use std::{collections::BTreeMap, path::Path};

use bytes::Bytes;
use prost::Message as _;

use super::{
    OnnxError,
    proto::{ModelProto, StringStringEntryProto},
    read::{decode, read},
};

/// Who makes the files that are made here.
pub const CONVERTER: &str = concat!("weft ", env!("CARGO_PKG_VERSION"));

/// What a file says of itself. Blocks for as long as the disk takes.
pub fn metadata(path: &Path) -> Result<BTreeMap<String, String>, OnnxError> {
    let (model, _) = decode(&read(path)?)?;
    Ok(model.metadata_props.into_iter().map(|entry| (entry.key, entry.value)).collect())
}

/// The same model with these notes, in place of those of the same keys.
pub fn annotate(model: &Bytes, notes: &[(&str, &str)]) -> Result<Bytes, OnnxError> {
    let mut model = ModelProto::decode(model.clone()).map_err(|source| OnnxError::NotProtobuf { source })?;
    for (key, value) in notes {
        note(&mut model, key, *value);
    }
    Ok(model.encode_to_vec().into())
}

pub(super) fn note(model: &mut ModelProto, key: &str, value: impl Into<String>) {
    match model.metadata_props.iter_mut().find(|entry| entry.key == key) {
        Some(entry) => entry.value = value.into(),
        None => model.metadata_props.push(StringStringEntryProto::new(key, value)),
    }
}
