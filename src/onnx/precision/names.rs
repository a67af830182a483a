//! Names within a model: which are taken, which are read, and what nobody reads any more.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use crate::onnx::{
    proto::{GraphProto, NodeProto},
    read::{visit_graphs, visit_nodes},
};

/// Gives names that the model does not have.
pub(in crate::onnx) struct Names {
    taken: HashSet<String>,
}

impl Names {
    pub(in crate::onnx) fn of(graph: &GraphProto) -> Self {
        let mut taken = HashSet::new();
        visit_graphs(graph, &mut |graph| {
            taken.extend(graph.input.iter().chain(&graph.output).map(|port| port.name.clone()));
            taken.extend(graph.initializer.iter().map(|tensor| tensor.name.clone()));
            taken.extend(graph.node.iter().flat_map(|node| node.output.iter().chain([&node.name])).cloned());
        });
        Self { taken }
    }

    /// The wanted name, with a number behind it where it is taken.
    pub(in crate::onnx) fn fresh(&mut self, wanted: &str) -> String {
        let numbered = (2u64..).map(|at| format!("{wanted}/{at}"));
        let name = std::iter::once(wanted.to_owned()).chain(numbered).find(|name| !self.taken.contains(name));
        let name = name.expect("fewer names are taken than there are");
        self.taken.insert(name.clone());
        name
    }
}

/// The operators that read each value, and `an output` for what leaves a graph.
pub(super) type Readers = HashMap<String, BTreeSet<String>>;

pub(super) fn readers(graph: &GraphProto) -> Readers {
    let mut readers = Readers::new();
    visit_nodes(graph, &mut |node| {
        for input in node.input.iter().filter(|input| !input.is_empty()) {
            readers.entry(input.clone()).or_default().insert(node.op_type.clone());
        }
    });
    visit_graphs(graph, &mut |graph| {
        for output in &graph.output {
            readers.entry(output.name.clone()).or_default().insert("an output".to_owned());
        }
    });
    readers
}

/// Removes those of the weights and of the nodes that `goes` names and nobody reads, until there are none.
pub(super) fn prune(graph: &mut GraphProto, goes: &BTreeSet<String>) {
    loop {
        let readers = readers(graph);
        let unread = |name: &String| goes.contains(name) && !readers.contains_key(name);
        if !drop_unread(graph, &unread) {
            return;
        }
    }
}

fn drop_unread(graph: &mut GraphProto, unread: &dyn Fn(&String) -> bool) -> bool {
    let before = graph.node.len() + graph.initializer.len();
    graph.initializer.retain(|tensor| !unread(&tensor.name));
    graph.node.retain(|node: &NodeProto| node.output.is_empty() || !node.output.iter().all(unread));
    graph.value_info.retain(|value| !unread(&value.name));
    let mut dropped = graph.node.len() + graph.initializer.len() < before;
    for attribute in graph.node.iter_mut().flat_map(|node| &mut node.attribute) {
        for inner in attribute.g.iter_mut().chain(&mut attribute.graphs) {
            dropped |= drop_unread(inner, unread);
        }
    }
    dropped
}

/// How often each operator occurs.
pub(super) fn count<'n>(operators: impl Iterator<Item = &'n str>) -> BTreeMap<String, u64> {
    let mut counts = BTreeMap::new();
    operators.for_each(|operator| *counts.entry(operator.to_owned()).or_insert(0) += 1);
    counts
}
