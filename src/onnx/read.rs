//! From a path to a decoded model: bounded, and with a name for everything that can be wrong with a file.

use std::{fs::File, io::Read, path::Path};

use bytes::Bytes;
use prost::Message;

use super::{
    Analysis, OnnxError, analyse,
    proto::{GraphProto, ModelProto, NodeProto, TensorProto},
};

/// Protobuf's own limit on a message. Larger models keep their weights in external files.
pub const FILE_BYTES_MAX: u64 = (1 << 31) - 1;

/// Reads and analyses a file. Blocks for as long as the disk takes.
pub fn open(path: &Path) -> Result<(Bytes, Analysis), OnnxError> {
    let bytes = read(path)?;
    let analysis = analyse(&bytes)?;
    Ok((bytes, analysis))
}

fn read(path: &Path) -> Result<Bytes, OnnxError> {
    let failed = |source| OnnxError::Read { path: path.to_owned(), source };
    let file = File::open(path).map_err(failed)?;
    let found = file.metadata().map_err(failed)?;
    if found.is_dir() {
        return Err(OnnxError::Directory { path: path.to_owned() });
    }
    let too_large = |bytes| OnnxError::TooLarge { path: path.to_owned(), bytes };
    if found.len() > FILE_BYTES_MAX {
        return Err(too_large(found.len()));
    }
    let mut bytes = Vec::with_capacity(usize::try_from(found.len()).unwrap_or(0));
    // A pipe or a growing file has more bytes than its size said.
    file.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes).map_err(failed)?;
    if bytes.len() as u64 > FILE_BYTES_MAX {
        return Err(too_large(bytes.len() as u64));
    }
    Ok(bytes.into())
}

/// Decodes the model and refuses what no later step could work with.
/// Nesting is bounded by prost at 100 messages, which is about 30 graphs within each other.
pub(super) fn decode(bytes: &Bytes) -> Result<(ModelProto, GraphProto), OnnxError> {
    if bytes.is_empty() {
        return Err(OnnxError::Empty);
    }
    let mut model = ModelProto::decode(bytes.clone()).map_err(|source| OnnxError::NotProtobuf { source })?;
    if model.ir_version <= 0 {
        return Err(OnnxError::NoIrVersion);
    }
    let graph = model.graph.take().ok_or(OnnxError::NoGraph)?;
    Ok((model, graph))
}

/// The graph and all graphs within its nodes' attributes.
pub(super) fn visit_graphs<'g>(graph: &'g GraphProto, visit: &mut impl FnMut(&'g GraphProto)) {
    visit(graph);
    for attribute in graph.node.iter().flat_map(|node| &node.attribute) {
        attribute.g.iter().chain(&attribute.graphs).for_each(|inner| visit_graphs(inner, visit));
    }
}

pub(super) fn visit_nodes<'g>(graph: &'g GraphProto, visit: &mut impl FnMut(&'g NodeProto)) {
    visit_graphs(graph, &mut |graph| graph.node.iter().for_each(&mut *visit));
}

/// Every weight: initialisers, dense and sparse, and the tensors in attributes, such as `Constant`'s.
pub(super) fn visit_tensors<'g>(graph: &'g GraphProto, visit: &mut impl FnMut(&'g TensorProto)) {
    visit_graphs(graph, &mut |graph| {
        graph.initializer.iter().for_each(&mut *visit);
        graph
            .sparse_initializer
            .iter()
            .flat_map(|sparse| [&sparse.values, &sparse.indices])
            .flatten()
            .for_each(&mut *visit);
        let attributes = graph.node.iter().flat_map(|node| &node.attribute);
        attributes.flat_map(|attribute| attribute.t.iter().chain(&attribute.tensors)).for_each(&mut *visit);
    });
}
