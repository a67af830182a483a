//! One shard: which nodes, values and weights it has, and how it becomes a file.

use std::{
    borrow::Cow,
    collections::{BTreeMap, BTreeSet, HashSet},
    io::Write,
};

use bytes::Bytes;
use prost::{
    Message,
    encoding::{WireType, encode_key, encode_varint, message},
};

use super::{CutError, Whole, half, links::captured};
use crate::onnx::{
    CONVERTER,
    check::standard,
    external,
    notes::note,
    proto::{
        FunctionProto, GraphProto, ModelProto, NodeProto, SparseTensorProto, TensorProto, ValueInfoProto,
    },
    read::{visit_nodes, visit_tensors},
};

/// `ModelProto::graph`, and the fields of `GraphProto`.
const GRAPH: u32 = 7;
const NODE: u32 = 1;
const NAME: u32 = 2;
const INITIALIZER: u32 = 5;
const INPUT: u32 = 11;
const OUTPUT: u32 = 12;
const VALUE_INFO: u32 = 13;
const SPARSE_INITIALIZER: u32 = 15;

/// Where weights begin in a file that holds those of one shard: at pages, so that it can be mapped into memory.
const ALIGNMENT: u64 = 4096;

/// A part of a graph that is a model of its own.
pub struct Shard<'w> {
    whole: &'w Whole,
    /// Numbers of its units in the chain.
    units: Vec<u32>,
    /// Places of its nodes in the whole's graph, ascending; what is made of weights alone may be in other shards too.
    nodes: Vec<usize>,
    inputs: Vec<&'w ValueInfoProto>,
    outputs: Vec<&'w ValueInfoProto>,
    /// What turns values that pass in half precision into what its nodes read, before these, and back, behind them.
    opening: Vec<NodeProto>,
    closing: Vec<NodeProto>,
}

/// Bytes of a file beside the whole that weights of a shard lie in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Piece {
    pub file: String,
    /// Where they begin there.
    pub from: u64,
    pub bytes: u64,
    /// Where they begin in a file that holds the shard's pieces alone.
    pub to: u64,
}

impl<'w> Shard<'w> {
    /// `owners` are the groups that all units belong to.
    pub(super) fn new(whole: &'w Whole, units: &[u32], group: usize, owners: &[usize]) -> Self {
        let mut units = units.to_vec();
        units.sort_unstable();
        let nodes: BTreeSet<usize> =
            units.iter().flat_map(|unit| &whole.units[*unit as usize]).copied().collect();
        let own = |unit: u32| owners[unit as usize] == group;
        let (mut inputs, mut outputs) = (Vec::new(), Vec::new());
        let (mut opening, mut closing) = (Vec::new(), Vec::new());
        for (value, declared) in whole.chain.values.iter().zip(&whole.declared) {
            let read = value.to.iter().any(|unit| own(*unit));
            if read && !value.from.is_some_and(own) {
                let given = whole.graph.input.iter().find(|port| port.name == value.name);
                inputs.push(given.filter(|_| value.from.is_none()).unwrap_or(declared));
                opening.extend(half::opened(value, declared));
            }
            // An output that the caller gives passes through the first unit.
            let made = value.from.map_or(value.output && own(0), own);
            if made && (value.output || value.to.iter().any(|unit| !own(*unit))) {
                let wanted = whole.graph.output.iter().find(|port| port.name == value.name);
                outputs.push(wanted.unwrap_or(declared));
                closing.extend(half::closed(value, declared));
            }
        }
        Self { whole, units, nodes: nodes.into_iter().collect(), inputs, outputs, opening, closing }
    }

    /// The whole's units that it is made of, ascending.
    pub fn units(&self) -> &[u32] {
        &self.units
    }

    /// The values that it takes, in the order of its inputs.
    pub fn inputs(&self) -> impl Iterator<Item = &'w str> {
        self.inputs.iter().map(|port| port.name.as_str())
    }

    pub fn outputs(&self) -> impl Iterator<Item = &'w str> {
        self.outputs.iter().map(|port| port.name.as_str())
    }

    /// Bytes of its weights, wherever they lie.
    pub fn weight_bytes(&self) -> u64 {
        let chain = &self.whole.chain;
        let weights = self.units.iter().flat_map(|unit| &chain.units[*unit as usize].weights);
        let weights: BTreeSet<u32> = weights.copied().collect();
        weights.into_iter().map(|weight| chain.weights[weight as usize]).sum()
    }

    /// The shard's file. Weights that lie beside the whole stay there, in files of the same names.
    pub fn bytes(&self) -> Bytes {
        let mut file = Vec::new();
        self.write(&mut file).expect("memory takes it");
        file.into()
    }

    /// Writes the same, and holds no more than one weight a second time.
    pub fn write(&self, out: &mut dyn Write) -> Result<(), CutError> {
        self.write_with(&BTreeMap::new(), "", out)
    }

    /// Where its weights lie beside the whole, each place once; they can be brought together in a file of the shard's own.
    pub fn pieces(&self) -> Vec<Piece> {
        let mut pieces: Vec<Piece> = Vec::new();
        let mut met = HashSet::new();
        let mut end = 0u64;
        let mut place = |tensor: &TensorProto| {
            let Some((file, from, bytes)) = external::range(tensor) else { return };
            if met.insert((file.to_owned(), from, bytes)) {
                let to = end.next_multiple_of(ALIGNMENT);
                pieces.push(Piece { file: file.to_owned(), from, bytes, to });
                end = to + bytes;
            }
        };
        let (dense, sparse) = self.weights();
        dense.into_iter().for_each(&mut place);
        let parts = sparse.into_iter().flat_map(|sparse| [&sparse.values, &sparse.indices]);
        parts.flatten().for_each(&mut place);
        self.nodes().for_each(|node| held(node, &mut place));
        pieces
    }

    /// Writes the shard's file for weights that lie in `location` as its pieces say.
    pub fn write_beside(&self, location: &str, out: &mut dyn Write) -> Result<(), CutError> {
        let pieces = self.pieces().into_iter();
        let places = pieces.map(|piece| ((piece.file, piece.from, piece.bytes), piece.to)).collect();
        self.write_with(&places, location, out)
    }

    fn nodes(&self) -> impl Iterator<Item = &'w NodeProto> {
        let graph = &self.whole.graph;
        self.nodes.iter().map(|node| &graph.node[*node])
    }

    /// The names that its nodes and the graphs within them read, and those that the caller gets as they are.
    fn read(&self) -> HashSet<&'w str> {
        let mut read: HashSet<&str> = self.outputs().collect();
        for node in self.nodes() {
            read.extend(node.input.iter().map(String::as_str));
            captured(node, &mut |name| {
                read.insert(name);
            });
        }
        read
    }

    /// Its weights out of the whole's, in their order.
    fn weights(&self) -> (Vec<&'w TensorProto>, Vec<&'w SparseTensorProto>) {
        let (read, graph) = (self.read(), &self.whole.graph);
        let dense = graph.initializer.iter().filter(|tensor| read.contains(tensor.name.as_str()));
        let named = |sparse: &&SparseTensorProto| {
            sparse.values.as_ref().is_some_and(|values| read.contains(values.name.as_str()))
        };
        (dense.collect(), graph.sparse_initializer.iter().filter(named).collect())
    }

    fn write_with(&self, places: &Places, location: &str, out: &mut dyn Write) -> Result<(), CutError> {
        let (dense, sparse) = self.weights();
        let moved = |tensor: &'w TensorProto| moved(tensor, places, location);
        let dense: Vec<_> = dense.into_iter().map(moved).collect();
        let sparse: Vec<_> = sparse
            .into_iter()
            .map(|sparse| SparseTensorProto {
                values: sparse.values.as_ref().map(|tensor| moved(tensor).into_owned()),
                indices: sparse.indices.as_ref().map(|tensor| moved(tensor).into_owned()),
                dims: sparse.dims.clone(),
            })
            .collect();
        let own = self.nodes().map(|node| moved_node(node, places, location));
        let nodes: Vec<_> = self
            .opening
            .iter()
            .map(Cow::Borrowed)
            .chain(own)
            .chain(self.closing.iter().map(Cow::Borrowed))
            .collect();
        let (inputs, values) = (self.listed_inputs(&dense), self.value_info());

        let mut graph = Sections::default();
        graph.add(NODE, nodes.iter().map(AsRef::as_ref));
        graph.text(NAME, &self.whole.graph.name);
        graph.add(INITIALIZER, dense.iter().map(AsRef::as_ref));
        graph.add(INPUT, inputs.into_iter());
        graph.add(OUTPUT, self.outputs.iter().copied());
        graph.add(VALUE_INFO, values.into_iter());
        graph.add(SPARSE_INITIALIZER, sparse.iter());
        let mut head = self.head().encode_to_vec();
        encode_key(GRAPH, WireType::LengthDelimited, &mut head);
        encode_varint(graph.bytes, &mut head);
        let failed = |source| CutError::Write { source };
        out.write_all(&head).map_err(failed)?;
        graph.write(out).map_err(failed)
    }

    /// What it takes, and behind that what the whole lists as an input that has a default.
    fn listed_inputs(&self, dense: &[Cow<'_, TensorProto>]) -> Vec<&'w ValueInfoProto> {
        let weights: HashSet<&str> = dense.iter().map(|tensor| tensor.name.as_str()).collect();
        let defaults = self.whole.graph.input.iter().filter(|port| weights.contains(port.name.as_str()));
        self.inputs.iter().copied().chain(defaults).collect()
    }

    /// What the whole says of the values that its nodes make, those that leave it left out.
    fn value_info(&self) -> Vec<&'w ValueInfoProto> {
        let left: HashSet<&str> = self.outputs().collect();
        let made = self.nodes().flat_map(|node| &node.output).map(String::as_str);
        let made: HashSet<&str> = made.filter(|name| !left.contains(name)).collect();
        self.whole.graph.value_info.iter().filter(|port| made.contains(port.name.as_str())).collect()
    }

    /// Everything of the file but the graph.
    fn head(&self) -> ModelProto {
        let whole = &self.whole.model;
        let functions = self.functions();
        let mut domains: BTreeSet<&str> = [""].into();
        for node in self.nodes() {
            visit_node(node, &mut |node| {
                domains.insert(standard(&node.domain));
            });
        }
        for function in &functions {
            let imports = function.opset_import.iter().map(|set| standard(&set.domain));
            domains.extend(imports.chain([standard(&function.domain)]));
        }
        let mut head = ModelProto {
            ir_version: whole.ir_version,
            producer_name: whole.producer_name.clone(),
            producer_version: whole.producer_version.clone(),
            domain: whole.domain.clone(),
            model_version: whole.model_version,
            graph: None,
            opset_import: Vec::new(),
            metadata_props: whole.metadata_props.clone(),
            functions: functions.into_iter().cloned().collect(),
        };
        let used = whole.opset_import.iter().filter(|set| domains.contains(standard(&set.domain)));
        head.opset_import = used.cloned().collect();
        note(&mut head, "converter", CONVERTER);
        note(&mut head, "shard_of", self.whole.digest.to_string());
        note(&mut head, "shard_units", ranges(&self.units));
        if let Some(ways) = self.whole.ways {
            note(&mut head, "shard_ways", ways.to_string());
        }
        if self.whole.half {
            note(&mut head, "shard_activations", "fp16");
        }
        head
    }

    /// The whole's functions that its nodes call, and those that these call.
    fn functions(&self) -> Vec<&'w FunctionProto> {
        let all = &self.whole.model.functions;
        let mut called: BTreeSet<usize> = BTreeSet::new();
        let mut open = Vec::new();
        let mut call = |node: &NodeProto, open: &mut Vec<usize>| {
            let key = (standard(&node.domain), &node.op_type, &node.overload);
            let found = all
                .iter()
                .position(|function| (standard(&function.domain), &function.name, &function.overload) == key);
            open.extend(found.filter(|at| called.insert(*at)));
        };
        self.nodes().for_each(|node| visit_node(node, &mut |node| call(node, &mut open)));
        while let Some(at) = open.pop() {
            let within = &all[at].node;
            for node in within {
                visit_node(node, &mut |node| call(node, &mut open));
            }
        }
        called.into_iter().map(|at| &all[at]).collect()
    }
}

/// Where weights that lie at a place of a file lie in another.
type Places = BTreeMap<(String, u64, u64), u64>;

/// A weight that names the file that it lies in now.
fn moved<'t>(tensor: &'t TensorProto, places: &Places, location: &str) -> Cow<'t, TensorProto> {
    let place = external::range(tensor)
        .and_then(|(file, from, bytes)| Some((*places.get(&(file.to_owned(), from, bytes))?, bytes)));
    match place {
        None => Cow::Borrowed(tensor),
        Some((to, bytes)) => {
            let mut tensor = tensor.clone();
            external::place(&mut tensor, location, to, bytes);
            Cow::Owned(tensor)
        }
    }
}

fn moved_node<'n>(node: &'n NodeProto, places: &Places, location: &str) -> Cow<'n, NodeProto> {
    let mut outside = false;
    held(node, &mut |tensor| outside |= external::is_external(tensor));
    if places.is_empty() || !outside {
        return Cow::Borrowed(node);
    }
    let mut alone = GraphProto { node: vec![node.clone()], ..GraphProto::default() };
    external::each(&mut alone, &mut |tensor| {
        if let Cow::Owned(other) = moved(tensor, places, location) {
            *tensor = other;
        }
    });
    Cow::Owned(alone.node.remove(0))
}

/// The tensors in a node's attributes and in the graphs there.
fn held<'n>(node: &'n NodeProto, visit: &mut dyn FnMut(&'n TensorProto)) {
    for attribute in &node.attribute {
        attribute.t.iter().chain(&attribute.tensors).for_each(&mut *visit);
        let graphs = attribute.g.iter().chain(&attribute.graphs);
        graphs.for_each(|graph| visit_tensors(graph, &mut |tensor| visit(tensor)));
    }
}

/// A node and those in the graphs within it.
fn visit_node<'n>(node: &'n NodeProto, visit: &mut dyn FnMut(&'n NodeProto)) {
    visit(node);
    for attribute in &node.attribute {
        let graphs = attribute.g.iter().chain(&attribute.graphs);
        graphs.for_each(|graph| visit_nodes(graph, &mut |node| visit(node)));
    }
}

/// As `0-3,7`.
fn ranges(numbers: &[u32]) -> String {
    let runs = numbers.chunk_by(|a, b| a + 1 == *b);
    let run = |run: &[u32]| match run {
        [only] => only.to_string(),
        run => format!("{}-{}", run[0], run[run.len() - 1]),
    };
    runs.map(run).collect::<Vec<_>>().join(",")
}

/// The fields of a message, written one by one.
#[derive(Default)]
struct Sections<'m> {
    bytes: u64,
    fields: Vec<Box<dyn Fn(&mut Vec<u8>) + 'm>>,
}

impl<'m> Sections<'m> {
    fn add<M: Message + Default + 'm>(&mut self, number: u32, messages: impl Iterator<Item = &'m M>) {
        for found in messages {
            self.bytes += message::encoded_len(number, found) as u64;
            self.fields.push(Box::new(move |field| message::encode(number, found, field)));
        }
    }

    fn text(&mut self, number: u32, text: &'m String) {
        if !text.is_empty() {
            self.bytes += prost::encoding::string::encoded_len(number, text) as u64;
            self.fields.push(Box::new(move |field| prost::encoding::string::encode(number, text, field)));
        }
    }

    fn write(self, out: &mut dyn Write) -> std::io::Result<()> {
        let mut field = Vec::new();
        for encode in self.fields {
            field.clear();
            encode(&mut field);
            out.write_all(&field)?;
        }
        Ok(())
    }
}
