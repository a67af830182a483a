//! Files beside a model's own that its weights lie in.

use std::{collections::BTreeMap, path::Path};

use bytes::Bytes;
use prost::Message;

use super::{
    OnnxError,
    check::byte_size,
    proto::{EXTERNAL, GraphProto, ModelProto, StringStringEntryProto, TensorProto},
    read::{self, visit_tensors},
};

/// The key of a tensor's external data that names its file.
const LOCATION: &str = "location";
/// Where in it the tensor begins, and its bytes.
const OFFSET: &str = "offset";
const LENGTH: &str = "length";

pub(super) fn is_external(tensor: &TensorProto) -> bool {
    tensor.data_location == EXTERNAL || !tensor.external_data.is_empty()
}

/// The names of those files, each once, in the order of the graph.
pub(super) fn files(graph: &GraphProto) -> Result<Vec<String>, OnnxError> {
    let mut files = Vec::new();
    let mut unnamed = None;
    visit_tensors(graph, &mut |tensor| {
        if !is_external(tensor) {
            return;
        }
        match tensor.external_data.iter().find(|entry| entry.key == LOCATION) {
            Some(location) if !location.value.is_empty() => {
                if !files.contains(&location.value) {
                    files.push(location.value.clone());
                }
            }
            _ => unnamed = Some(tensor.name.clone()),
        }
    });
    match unnamed {
        Some(tensor) => Err(OnnxError::ExternalUnnamed { tensor }),
        None => Ok(files),
    }
}

/// Why a weight could not be taken from another file.
#[derive(Debug, thiserror::Error)]
pub enum TakeError {
    #[error("weight {tensor:?} lies in the file {file:?}, which did not come with the model")]
    Missing { tensor: String, file: String },
    #[error("weight {tensor:?} lies beyond the end of the file {file:?}")]
    Beyond { tensor: String, file: String },
}

/// Puts every weight that lies in one of `files` into the graph. No byte of them is copied.
pub(super) fn take_in(graph: &mut GraphProto, files: &BTreeMap<String, Bytes>) -> Result<(), TakeError> {
    let mut failed = None;
    each(graph, &mut |tensor| {
        if is_external(tensor) && failed.is_none() {
            failed = take(tensor, files).err();
        }
    });
    failed.map_or(Ok(()), Err)
}

fn take(tensor: &mut TensorProto, files: &BTreeMap<String, Bytes>) -> Result<(), TakeError> {
    let entry = |key: &str| tensor.external_data.iter().find(|entry| entry.key == key);
    let file = entry(LOCATION).map(|entry| entry.value.clone()).unwrap_or_default();
    let Some(bytes) = files.get(&file) else {
        return Err(TakeError::Missing { tensor: tensor.name.clone(), file });
    };
    let number = |key: &str, absent: usize| entry(key).map_or(Some(absent), |entry| entry.value.parse().ok());
    let range = number(OFFSET, 0).and_then(|from| {
        let to = from.checked_add(number(LENGTH, bytes.len().saturating_sub(from))?)?;
        (to <= bytes.len()).then_some(from..to)
    });
    let Some(range) = range else {
        return Err(TakeError::Beyond { tensor: tensor.name.clone(), file });
    };
    tensor.raw_data = bytes.slice(range);
    tensor.external_data.clear();
    tensor.data_location = 0;
    Ok(())
}

/// The same model, with the files called what `names` says; those that it does not name stay.
pub fn rename_files(model: &Bytes, names: &BTreeMap<String, String>) -> Result<Bytes, OnnxError> {
    let mut model = ModelProto::decode(model.clone()).map_err(|source| OnnxError::NotProtobuf { source })?;
    if let Some(graph) = &mut model.graph {
        rename(graph, names);
    }
    Ok(model.encode_to_vec().into())
}

/// Weights from here on stay in the file; smaller ones are often shapes, which an engine reads before it runs.
const LEFT_FROM: usize = 1 << 10;

/// The graph of a file whose large weights stay where they lie in it, which the graph calls `name`.
/// Blocks for as long as the disk takes.
pub fn lean(path: &Path, name: &str) -> Result<Bytes, OnnxError> {
    let file = read::read(path)?;
    let mut model = ModelProto::decode(file.clone()).map_err(|source| OnnxError::NotProtobuf { source })?;
    if let Some(graph) = &mut model.graph {
        leave(graph, &file, name, LEFT_FROM);
    }
    Ok(model.encode_to_vec().into())
}

/// A model and its graph, from a file's bytes; weights of at least `from` bytes stay there.
pub(crate) fn lean_from(
    file: &Bytes,
    name: &str,
    from: usize,
) -> Result<(ModelProto, GraphProto), OnnxError> {
    let (model, mut graph) = read::decode(file)?;
    leave(&mut graph, file, name, from);
    Ok((model, graph))
}

/// Says that a tensor's bytes lie in a file.
pub(super) fn place(tensor: &mut TensorProto, file: &str, offset: u64, length: u64) {
    tensor.external_data = vec![
        StringStringEntryProto::new(LOCATION, file),
        StringStringEntryProto::new(OFFSET, offset.to_string()),
        StringStringEntryProto::new(LENGTH, length.to_string()),
    ];
    tensor.data_location = EXTERNAL;
}

fn leave(graph: &mut GraphProto, file: &Bytes, name: &str, from: usize) {
    for tensor in graph.initializer.iter_mut().filter(|tensor| tensor.raw_data.len() >= from) {
        let raw = std::mem::take(&mut tensor.raw_data);
        // Decoding shares the file's memory.
        let offset = raw.as_ptr().addr() - file.as_ptr().addr();
        place(tensor, name, offset as u64, raw.len() as u64);
    }
    for attribute in graph.node.iter_mut().flat_map(|node| &mut node.attribute) {
        attribute.g.iter_mut().chain(&mut attribute.graphs).for_each(|inner| leave(inner, file, name, from));
    }
}

fn rename(graph: &mut GraphProto, names: &BTreeMap<String, String>) {
    each(graph, &mut |tensor| {
        for entry in tensor.external_data.iter_mut().filter(|entry| entry.key == LOCATION) {
            if let Some(name) = names.get(&entry.value) {
                entry.value.clone_from(name);
            }
        }
    });
}

/// The file beside the model that a tensor lies in, where it begins there, and its bytes.
pub(crate) fn range(tensor: &TensorProto) -> Option<(&str, u64, u64)> {
    let entry = |key: &str| tensor.external_data.iter().find(|entry| entry.key == key);
    let number = |key: &str| entry(key).and_then(|entry| entry.value.parse().ok());
    let sizes = tensor.dims.iter().map(|size| size.unsigned_abs());
    let whole = || byte_size(tensor.data_type, sizes.fold(1, u64::saturating_mul));
    let file = entry(LOCATION).filter(|_| is_external(tensor))?;
    Some((&file.value, number(OFFSET).unwrap_or(0), number(LENGTH).or_else(whole)?))
}

/// Every weight, as `visit_tensors` finds them.
pub(super) fn each(graph: &mut GraphProto, visit: &mut impl FnMut(&mut TensorProto)) {
    graph.initializer.iter_mut().for_each(&mut *visit);
    let sparse = graph.sparse_initializer.iter_mut();
    sparse.flat_map(|sparse| [&mut sparse.values, &mut sparse.indices]).flatten().for_each(&mut *visit);
    for attribute in graph.node.iter_mut().flat_map(|node| &mut node.attribute) {
        attribute.t.iter_mut().chain(&mut attribute.tensors).for_each(&mut *visit);
        attribute.g.iter_mut().chain(&mut attribute.graphs).for_each(|inner| each(inner, visit));
    }
}
