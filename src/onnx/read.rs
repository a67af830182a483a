//! From a path to a decoded model: bounded, and with a name for everything that can be wrong with a file.

use std::{fs::File, io::Read, path::Path};

use bytes::Bytes;
use prost::Message;

use super::{
    Analysis, OnnxError, Outside, analyse, external, parts,
    proto::{GraphProto, ModelProto, NodeProto, TensorProto},
};

/// Protobuf's own limit on a message. Larger models keep their weights in external files.
pub const FILE_BYTES_MAX: u64 = (1 << 31) - 1;

/// Reads, checks and analyses a file, whatever lies beside it. Blocks for as long as the disk takes.
pub fn open(path: &Path) -> Result<(Bytes, Analysis), OnnxError> {
    // Any weight lies within a file of this size.
    open_with(path, &|_| Outside::Bytes(u64::MAX))
}

/// The same of a file and those beside it that its weights lie in.
pub fn open_whole(path: &Path) -> Result<(Bytes, Analysis), OnnxError> {
    let folder = path.parent().unwrap_or(Path::new(""));
    open_with(path, &|location| beside(folder, location))
}

fn open_with(path: &Path, outside: &dyn Fn(&str) -> Outside) -> Result<(Bytes, Analysis), OnnxError> {
    let bytes = read(path)?;
    let (model, graph) = decode(&bytes)?;
    super::check::check(&model, &graph, outside)?;
    let analysis = analyse::of(model, &graph)?;
    Ok((bytes, analysis))
}

/// The files beside it that a model's weights lie in; none of what is no model. Blocks for as long as the disk takes.
pub fn external_files(path: &Path) -> Vec<String> {
    let graph = read(path).and_then(|bytes| decode(&bytes));
    graph.and_then(|(_, graph)| external::files(&graph)).unwrap_or_default()
}

/// Checks how a model is put together; `outside` tells what lies at a path beside its file.
pub fn check(bytes: &Bytes, outside: &dyn Fn(&str) -> Outside) -> Result<(), OnnxError> {
    let (model, graph) = decode(bytes)?;
    super::check::check(&model, &graph, outside)?;
    Ok(())
}

/// Follows no link on the way from the model's folder.
fn beside(folder: &Path, location: &str) -> Outside {
    let mut path = folder.to_owned();
    let mut parts = location.split('/').peekable();
    while let Some(part) = parts.next() {
        path.push(part);
        match path.symlink_metadata() {
            Ok(found) if parts.peek().is_some() && found.is_dir() => {}
            Ok(found) if parts.peek().is_none() && found.is_file() => return Outside::Bytes(found.len()),
            Ok(_) => return Outside::NoFile,
            Err(_) => break,
        }
    }
    Outside::Missing
}

pub(super) fn read(path: &Path) -> Result<Bytes, OnnxError> {
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
pub(super) fn decode(bytes: &Bytes) -> Result<(ModelProto, GraphProto), OnnxError> {
    if bytes.is_empty() {
        return Err(OnnxError::Empty);
    }
    parts::check(bytes)?;
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
