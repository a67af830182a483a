//! Who makes and who reads each value of the main graph, the graphs within its nodes included.

use std::collections::{HashMap, HashSet};

use crate::onnx::{
    check::standard,
    proto::{GraphProto, NodeProto},
};

/// Number of a value, in the order in which the graph names them.
pub(super) type ValueId = usize;

/// Where a value comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Origin {
    Caller,
    Weight,
    /// The node of that place.
    Node(usize),
}

pub(super) struct Links<'g> {
    pub(super) names: Vec<&'g str>,
    pub(super) origins: Vec<Origin>,
    /// What each node reads, each value once, and what it makes.
    pub(super) reads: Vec<Vec<ValueId>>,
    pub(super) makes: Vec<Vec<ValueId>>,
    /// The nodes that read each value, ascending.
    pub(super) readers: Vec<Vec<usize>>,
    /// What the caller wants.
    pub(super) outputs: Vec<ValueId>,
    /// Nodes that give the same in every run and can be run again wherever that is needed.
    pub(super) steady: Vec<bool>,
    /// Nodes that some output depends on.
    pub(super) live: Vec<bool>,
    numbers: HashMap<&'g str, ValueId>,
}

impl<'g> Links<'g> {
    /// Of a graph that has passed the check.
    pub(super) fn new(graph: &'g GraphProto) -> Self {
        let count = graph.node.len();
        let mut links = Self {
            names: Vec::new(),
            origins: Vec::new(),
            reads: Vec::with_capacity(count),
            makes: Vec::with_capacity(count),
            readers: Vec::new(),
            outputs: Vec::new(),
            steady: Vec::with_capacity(count),
            live: vec![false; count],
            numbers: HashMap::new(),
        };
        for name in weights(graph) {
            links.give(name, Origin::Weight);
        }
        for input in &graph.input {
            if !links.numbers.contains_key(input.name.as_str()) {
                links.give(&input.name, Origin::Caller);
            }
        }
        for (at, node) in graph.node.iter().enumerate() {
            links.add(at, node);
        }
        links.outputs = graph.output.iter().filter_map(|port| links.number(&port.name)).collect();
        links.mark_live();
        links
    }

    pub(super) fn number(&self, name: &str) -> Option<ValueId> {
        self.numbers.get(name).copied()
    }

    pub(super) fn maker(&self, value: ValueId) -> Option<usize> {
        match self.origins[value] {
            Origin::Node(at) => Some(at),
            Origin::Caller | Origin::Weight => None,
        }
    }

    /// Whether it is a weight, or made of nothing but weights.
    pub(super) fn is_steady(&self, value: ValueId) -> bool {
        match self.origins[value] {
            Origin::Caller => false,
            Origin::Weight => true,
            Origin::Node(at) => self.steady[at],
        }
    }

    /// Whether a node's place in the order matters: it is not run again wherever it is needed, or the caller wants what
    /// it makes.
    pub(super) fn is_placed(&self, node: usize) -> bool {
        let wanted = || self.makes[node].iter().any(|value| self.outputs.contains(value));
        self.live[node] && (!self.steady[node] || wanted())
    }

    /// These nodes with the steady ones that they need, ascending.
    pub(super) fn with_steady(&self, nodes: &[usize]) -> Vec<usize> {
        let mut all: HashSet<usize> = nodes.iter().copied().collect();
        let mut open = nodes.to_vec();
        while let Some(node) = open.pop() {
            let makers = self.reads[node].iter().filter_map(|value| self.maker(*value));
            open.extend(makers.filter(|maker| self.steady[*maker] && all.insert(*maker)));
        }
        let mut all: Vec<_> = all.into_iter().collect();
        all.sort_unstable();
        all
    }

    fn give(&mut self, name: &'g str, origin: Origin) -> ValueId {
        let value = self.names.len();
        self.names.push(name);
        self.origins.push(origin);
        self.readers.push(Vec::new());
        self.numbers.insert(name, value);
        value
    }

    fn add(&mut self, at: usize, node: &'g NodeProto) {
        let mut reads = Vec::new();
        let mut read = |name: &str| {
            if let Some(value) = self.numbers.get(name).filter(|value| !reads.contains(*value)) {
                reads.push(*value);
            }
        };
        node.input.iter().for_each(|name| read(name));
        captured(node, &mut read);
        for value in &reads {
            self.readers[*value].push(at);
        }
        self.steady.push(may_run_again(node) && reads.iter().all(|value| self.is_steady(*value)));
        let made = node.output.iter().filter(|name| !name.is_empty());
        let makes = made.map(|name| self.give(name, Origin::Node(at))).collect();
        self.makes.push(makes);
        self.reads.push(reads);
    }

    fn mark_live(&mut self) {
        let mut open: Vec<_> = self.outputs.iter().filter_map(|value| self.maker(*value)).collect();
        while let Some(node) = open.pop() {
            if !std::mem::replace(&mut self.live[node], true) {
                open.extend(self.reads[node].iter().filter_map(|value| self.maker(*value)));
            }
        }
    }
}

/// The names of a graph's own weights, dense and sparse.
pub(super) fn weights(graph: &GraphProto) -> impl Iterator<Item = &str> {
    let sparse = graph.sparse_initializer.iter().filter_map(|sparse| sparse.values.as_ref());
    graph.initializer.iter().chain(sparse).map(|tensor| tensor.name.as_str())
}

/// The values that the graphs in a node's attributes take from around them.
pub(super) fn captured<'n>(node: &'n NodeProto, read: &mut dyn FnMut(&'n str)) {
    for attribute in &node.attribute {
        for graph in attribute.g.iter().chain(&attribute.graphs) {
            captured_by(graph, read);
        }
    }
}

fn captured_by<'n>(graph: &'n GraphProto, read: &mut dyn FnMut(&'n str)) {
    let made = graph.node.iter().flat_map(|node| &node.output).map(String::as_str);
    let given = graph.input.iter().map(|port| port.name.as_str()).chain(weights(graph));
    let own: HashSet<&str> = given.chain(made).collect();
    let mut outer = |name: &'n str| {
        if !name.is_empty() && !own.contains(name) {
            read(name);
        }
    };
    for node in &graph.node {
        node.input.iter().for_each(|name| outer(name));
        captured(node, &mut outer);
    }
    graph.output.iter().for_each(|port| outer(&port.name));
}

/// Whether a node of weights alone is as good in several places: it draws no numbers, runs no graph, and what it does is
/// known.
fn may_run_again(node: &NodeProto) -> bool {
    let drawn = matches!(
        node.op_type.as_str(),
        "Bernoulli"
            | "Multinomial"
            | "RandomNormal"
            | "RandomNormalLike"
            | "RandomUniform"
            | "RandomUniformLike"
            | "If"
            | "Loop"
            | "Scan"
    );
    let training = node.op_type == "Dropout" && node.input.len() > 2;
    standard(&node.domain).is_empty() && !drawn && !training
}
