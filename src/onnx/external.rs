//! Files beside a model's own that its weights lie in.

use std::collections::BTreeMap;

use bytes::Bytes;
use prost::Message;

use super::{
    OnnxError,
    proto::{EXTERNAL, GraphProto, ModelProto, TensorProto},
    read::visit_tensors,
};

/// The key of a tensor's external data that names its file.
const LOCATION: &str = "location";

fn is_external(tensor: &TensorProto) -> bool {
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

/// The same model, with the files called what `names` says; those that it does not name stay.
pub fn rename_files(model: &Bytes, names: &BTreeMap<String, String>) -> Result<Bytes, OnnxError> {
    let mut model = ModelProto::decode(model.clone()).map_err(|source| OnnxError::NotProtobuf { source })?;
    if let Some(graph) = &mut model.graph {
        rename(graph, names);
    }
    Ok(model.encode_to_vec().into())
}

fn rename(graph: &mut GraphProto, names: &BTreeMap<String, String>) {
    let one = |tensor: &mut TensorProto| {
        for entry in tensor.external_data.iter_mut().filter(|entry| entry.key == LOCATION) {
            if let Some(name) = names.get(&entry.value) {
                entry.value.clone_from(name);
            }
        }
    };
    graph.initializer.iter_mut().for_each(one);
    let sparse = graph.sparse_initializer.iter_mut();
    sparse.flat_map(|sparse| [&mut sparse.values, &mut sparse.indices]).flatten().for_each(one);
    for attribute in graph.node.iter_mut().flat_map(|node| &mut node.attribute) {
        attribute.t.iter_mut().chain(&mut attribute.tensors).for_each(one);
        attribute.g.iter_mut().chain(&mut attribute.graphs).for_each(|inner| rename(inner, names));
    }
}
