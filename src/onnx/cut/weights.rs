//! The weights of a graph by number: its own, those that constant nodes hold, and those within nodes' graphs.

use crate::onnx::{
    check::byte_size,
    proto::{GraphProto, NodeProto, SparseTensorProto, TensorProto},
    read::visit_tensors,
};

use super::links::{Links, Origin};

pub(super) struct Weights {
    /// Bytes of each.
    pub(super) bytes: Vec<u64>,
    /// By the numbers of the values.
    of_values: Vec<Option<u32>>,
    /// What a node holds itself.
    of_nodes: Vec<Option<u32>>,
}

impl Weights {
    pub(super) fn new(graph: &GraphProto, links: &Links<'_>) -> Self {
        let mut weights = Self {
            bytes: Vec::new(),
            of_values: vec![None; links.names.len()],
            of_nodes: vec![None; graph.node.len()],
        };
        let dense = graph.initializer.iter().map(|tensor| (tensor.name.as_str(), bytes(tensor)));
        let sparse = graph
            .sparse_initializer
            .iter()
            .filter_map(|sparse| Some((sparse.values.as_ref()?.name.as_str(), of_sparse(sparse))));
        for (name, bytes) in dense.chain(sparse) {
            if let Some(value) = links.number(name) {
                weights.of_values[value] = weights.number(bytes);
            }
        }
        for (at, node) in graph.node.iter().enumerate() {
            weights.of_nodes[at] =
                Some(held(node)).filter(|bytes| *bytes > 0).and_then(|bytes| weights.number(bytes));
        }
        weights
    }

    /// The numbers of those that the nodes need, ascending; steady nodes are given among them.
    pub(super) fn of(&self, nodes: &[usize], links: &Links<'_>) -> Vec<u32> {
        let read = nodes.iter().flat_map(|node| &links.reads[*node]);
        let read = read.filter(|value| links.origins[**value] == Origin::Weight);
        let read = read.filter_map(|value| self.of_values[*value]);
        let mut all: Vec<_> = read.chain(nodes.iter().filter_map(|node| self.of_nodes[*node])).collect();
        all.sort_unstable();
        all.dedup();
        all
    }

    fn number(&mut self, bytes: u64) -> Option<u32> {
        let number = u32::try_from(self.bytes.len()).ok()?;
        self.bytes.push(bytes);
        Some(number)
    }
}

pub(super) fn bytes(tensor: &TensorProto) -> u64 {
    let elements = tensor.dims.iter().map(|size| size.unsigned_abs()).fold(1, u64::saturating_mul);
    let text = || tensor.string_data.iter().map(|text| text.len() as u64).sum();
    byte_size(tensor.data_type, elements).unwrap_or_else(text)
}

pub(super) fn of_sparse(sparse: &SparseTensorProto) -> u64 {
    [&sparse.values, &sparse.indices].into_iter().flatten().map(bytes).sum()
}

/// Bytes of the tensors in a node's attributes, and in the graphs there.
fn held(node: &NodeProto) -> u64 {
    let mut all = 0u64;
    for attribute in &node.attribute {
        let dense = attribute.t.iter().chain(&attribute.tensors).map(bytes);
        let sparse = attribute.sparse_tensor.iter().chain(&attribute.sparse_tensors).map(of_sparse);
        let listed = 4 * attribute.floats.len() as u64 + 8 * attribute.ints.len() as u64;
        all = dense.chain(sparse).fold(all, u64::saturating_add);
        // Lists are weights where they are what a node gives.
        all += if node.op_type == "Constant" { listed } else { 0 };
        for graph in attribute.g.iter().chain(&attribute.graphs) {
            visit_tensors(graph, &mut |tensor| all = all.saturating_add(bytes(tensor)));
        }
    }
    all
}
