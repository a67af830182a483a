//! Weights in files beside the model: where they may lie, and that they lie within.
//!
//! It opens nothing: whoever calls says what there is.

use super::error::{CheckError, Name};
use crate::onnx::proto::TensorProto;

/// What is found at a relative path beside the model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outside {
    Missing,
    /// A link, a folder, a device: nothing that is followed.
    NoFile,
    Bytes(u64),
}

/// Checks a tensor that takes so many bytes.
pub(super) fn check(
    tensor: &TensorProto,
    called: &str,
    wanted: u64,
    outside: &dyn Fn(&str) -> Outside,
) -> Result<(), CheckError> {
    let value = |key: &str| {
        tensor.external_data.iter().find(|entry| entry.key == key).map(|entry| entry.value.as_str())
    };
    let tensor = || called.to_owned();
    let location = value("location").filter(|location| !location.is_empty());
    let location = location.ok_or_else(|| CheckError::NoLocation { tensor: tensor() })?;
    let named = || Name::new(location);
    if !stays_beside(location) {
        return Err(CheckError::Location { tensor: tensor(), location: named() });
    }
    let number = |key: &'static str| match value(key) {
        None => Ok(None),
        Some(text) => bytes(text).map(Some).ok_or_else(|| CheckError::Place {
            tensor: tensor(),
            key,
            value: Name::new(text),
        }),
    };
    let (offset, length) = (number("offset")?.unwrap_or(0), number("length")?);
    if let Some(found) = length.filter(|length| *length != wanted) {
        return Err(CheckError::Length { tensor: tensor(), found, wanted, unit: "bytes" });
    }
    let size = match outside(location) {
        Outside::Missing => return Err(CheckError::FileMissing { tensor: tensor(), location: named() }),
        Outside::NoFile => return Err(CheckError::FileLink { tensor: tensor(), location: named() }),
        Outside::Bytes(size) => size,
    };
    let to = offset.saturating_add(wanted);
    if to > size || offset.checked_add(wanted).is_none() {
        return Err(CheckError::OutOfFile { tensor: tensor(), location: named(), from: offset, to, size });
    }
    Ok(())
}

/// Whether a path leads nowhere but below the model's folder, on any system.
fn stays_beside(location: &str) -> bool {
    let part = |part: &str| !part.is_empty() && part != "..";
    location.split('/').all(part) && !location.contains(['\\', ':', '\0'])
}

fn bytes(text: &str) -> Option<u64> {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse().ok().filter(|_| digits)
}
