//! A graph while an architecture describes it, and when it is whole.
//!
//! A `Module` is a place in the original implementation: its weights are found, and its nodes named, below its path.
//! Nothing here knows an architecture, and no weight is read before the graph is written.

mod attention;
mod layers;
mod operators;
mod weights;

use std::{
    cell::RefCell,
    collections::{BTreeSet, HashMap},
    fmt::Display,
};

use bytes::Bytes;

use self::weights::Source;
pub(super) use self::{
    attention::{Buckets, Heads, Rotation},
    layers::{Activation, Conv},
    operators::Attribute,
    weights::Weight,
};
use super::{ConvertError, checkpoint::Checkpoint};
use crate::{
    domain::Dim,
    onnx::proto::{
        DimensionProto, DimensionValue, GraphProto, NodeProto, TensorShapeProto, TensorTypeProto, TypeProto,
        TypeValue, ValueInfoProto, element,
    },
};

/// What flows between nodes, by its place in the builder's list of names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Value(usize);

/// A whole graph, whose weights are still where the checkpoint has them.
pub(super) struct Graph {
    /// Without its weights.
    pub(super) proto: GraphProto,
    pub(super) weights: Vec<Weight>,
}

pub(super) struct Builder<'c> {
    checkpoint: &'c dyn Checkpoint,
    state: RefCell<State>,
}

#[derive(Default)]
struct State {
    names: Vec<String>,
    /// How many values wanted each name.
    taken: HashMap<String, usize>,
    nodes: Vec<Node>,
    inputs: Vec<ValueInfoProto>,
    outputs: Vec<(Value, ValueInfoProto)>,
    weights: Vec<Weight>,
    /// Weights and constants that are there already, so that each is stored once.
    known: HashMap<(Vec<u64>, Source), Value>,
}

struct Node {
    operator: &'static str,
    inputs: Vec<Value>,
    outputs: Vec<Value>,
    attributes: Vec<(&'static str, Attribute)>,
}

#[derive(Clone)]
pub(super) struct Module<'g> {
    builder: &'g Builder<'g>,
    path: String,
}

pub(super) fn symbol(name: &str) -> Dim {
    Dim::Symbol(name.to_owned())
}

impl<'c> Builder<'c> {
    pub(super) fn new(checkpoint: &'c dyn Checkpoint) -> Self {
        Self { checkpoint, state: RefCell::default() }
    }

    /// The module whose weights begin with `path`; the model itself for the empty one.
    pub(super) fn module<'g>(&'g self, path: &str) -> Module<'g> {
        Module { builder: self, path: path.to_owned() }
    }

    pub(super) fn integers(&self, name: &str, dims: &[Dim]) -> Value {
        self.input(name, element::INT64, dims)
    }

    pub(super) fn floats(&self, name: &str, dims: &[Dim]) -> Value {
        self.input(name, element::FLOAT, dims)
    }

    fn input(&self, name: &str, elem_type: i32, dims: &[Dim]) -> Value {
        let mut state = self.state.borrow_mut();
        state.inputs.push(port(name, elem_type, dims));
        state.value(name)
    }

    /// Makes a value an output, under the output's name.
    pub(super) fn output(&self, name: &str, value: Value, dims: &[Dim]) {
        let port = port(name, element::FLOAT, dims);
        let mut state = self.state.borrow_mut();
        let made = state.nodes.iter().any(|node| node.outputs.contains(&value));
        if made && state.outputs.iter().all(|(other, _)| *other != value) {
            name.clone_into(&mut state.names[value.0]);
            state.outputs.push((value, port));
        } else {
            let again = state.value(name);
            state.nodes.push(Node {
                operator: "Identity",
                inputs: vec![value],
                outputs: vec![again],
                attributes: Vec::new(),
            });
            state.outputs.push((again, port));
        }
    }

    pub(super) fn finish(self, name: &str) -> Graph {
        let State { names, nodes, inputs, outputs, weights, .. } = self.state.into_inner();
        let named = |values: &[Value]| values.iter().map(|value| names[value.0].clone()).collect::<Vec<_>>();
        let node = |node: &Node| NodeProto {
            name: names[node.outputs[0].0].clone(),
            op_type: node.operator.to_owned(),
            input: named(&node.inputs),
            output: named(&node.outputs),
            attribute: node.attributes.iter().map(|(name, value)| value.proto(name)).collect(),
            ..NodeProto::default()
        };
        let proto = GraphProto {
            name: name.to_owned(),
            node: nodes.iter().map(node).collect(),
            input: inputs,
            output: outputs.into_iter().map(|(_, port)| port).collect(),
            ..GraphProto::default()
        };
        Graph { proto, weights }
    }
}

impl Graph {
    /// The checkpoint's tensors that it uses.
    pub(super) fn tensors(&self) -> BTreeSet<&str> {
        self.weights.iter().flat_map(Weight::tensors).collect()
    }
}

impl State {
    fn value(&mut self, wanted: &str) -> Value {
        let count = self.taken.entry(wanted.to_owned()).or_insert(0);
        *count += 1;
        self.names.push(if *count == 1 { wanted.to_owned() } else { format!("{wanted}_{count}") });
        Value(self.names.len() - 1)
    }

    fn weight(&mut self, name: &str, dims: &[u64], source: Source) -> Value {
        let key = (dims.to_vec(), source.clone());
        if let Some(known) = self.known.get(&key) {
            return *known;
        }
        let value = self.value(name);
        let name = self.names[value.0].clone();
        self.weights.push(Weight { name, dims: dims.to_vec(), source });
        self.known.insert(key, value);
        value
    }
}

impl Module<'_> {
    pub(super) fn sub(&self, path: impl Display) -> Self {
        Self { builder: self.builder, path: self.at(&path.to_string()) }
    }

    fn at(&self, name: &str) -> String {
        match (self.path.as_str(), name) {
            ("", name) => name.to_owned(),
            (path, "") => path.to_owned(),
            (path, name) => format!("{path}.{name}"),
        }
    }

    /// Whether the checkpoint has this tensor.
    pub(super) fn has(&self, name: &str) -> bool {
        self.builder.checkpoint.tensors().contains_key(&self.at(name))
    }

    /// A weight as it is stored.
    pub(super) fn weight(&self, name: &str, shape: &[u64]) -> Result<Value, ConvertError> {
        let tensor = self.stored(name, shape)?;
        Ok(self.place(&tensor.clone(), shape, Source::Stored { tensor }))
    }

    /// The transposed of a stored matrix, for a product with its rows.
    fn transposed(&self, name: &str, rows: u64, columns: u64) -> Result<Value, ConvertError> {
        let tensor = self.stored(name, &[rows, columns])?;
        Ok(self.place(&format!("{tensor}.transposed"), &[columns, rows], Source::Transposed { tensor }))
    }

    /// Refuses what the configuration does not lead to expect.
    fn stored(&self, name: &str, shape: &[u64]) -> Result<String, ConvertError> {
        let name = self.at(name);
        let Some(stored) = self.builder.checkpoint.tensors().get(&name) else {
            return Err(ConvertError::NoTensor { name });
        };
        if stored.shape != shape {
            return Err(ConvertError::Shape {
                tensor: name,
                wanted: shape.to_vec(),
                found: stored.shape.clone(),
            });
        }
        if !stored.element.is_float() {
            return Err(ConvertError::NotFloat { tensor: name, element: stored.element });
        }
        Ok(name)
    }

    fn place(&self, name: &str, dims: &[u64], source: Source) -> Value {
        self.builder.state.borrow_mut().weight(name, dims, source)
    }

    fn literal(&self, name: &str, data_type: i32, dims: &[u64], bytes: Vec<u8>) -> Value {
        self.place(name, dims, Source::Literal { data_type, bytes: Bytes::from(bytes) })
    }

    /// A scalar.
    pub(super) fn float(&self, value: f32) -> Value {
        self.literal(&format!("float/{value}"), element::FLOAT, &[], value.to_le_bytes().to_vec())
    }

    pub(super) fn integer(&self, value: i64) -> Value {
        self.literal(&format!("integer/{value}"), element::INT64, &[], value.to_le_bytes().to_vec())
    }

    fn integer32(&self, value: i32) -> Value {
        self.literal(&format!("integer32/{value}"), element::INT32, &[], value.to_le_bytes().to_vec())
    }

    /// A list: a shape, axes, paddings.
    pub(super) fn list(&self, values: &[i64]) -> Value {
        let name: Vec<_> = values.iter().map(i64::to_string).collect();
        let bytes = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        self.literal(&format!("list/{}", name.join(",")), element::INT64, &[values.len() as u64], bytes)
    }

    pub(super) fn node(
        &self,
        operator: &'static str,
        inputs: &[Value],
        attributes: &[(&'static str, Attribute)],
    ) -> Value {
        let [output] = self.outputs(operator, inputs, attributes);
        output
    }

    fn outputs<const N: usize>(
        &self,
        operator: &'static str,
        inputs: &[Value],
        attributes: &[(&'static str, Attribute)],
    ) -> [Value; N] {
        let mut state = self.builder.state.borrow_mut();
        let name =
            if self.path.is_empty() { operator.to_owned() } else { format!("{}/{operator}", self.path) };
        let outputs = std::array::from_fn(|_| state.value(&name));
        state.nodes.push(Node {
            operator,
            inputs: inputs.to_vec(),
            outputs: outputs.to_vec(),
            attributes: attributes.to_vec(),
        });
        outputs
    }
}

fn port(name: &str, elem_type: i32, dims: &[Dim]) -> ValueInfoProto {
    let dim = |dim: &Dim| {
        let value = match dim {
            Dim::Fixed(size) => Some(DimensionValue::Size(i64::try_from(*size).expect("sizes are bounded"))),
            Dim::Symbol(name) => Some(DimensionValue::Symbol(name.clone())),
            Dim::Free(_) => None,
        };
        DimensionProto { value, ..DimensionProto::default() }
    };
    let shape = Some(TensorShapeProto { dim: dims.iter().map(dim).collect() });
    let value = Some(TypeValue::Tensor(TensorTypeProto { elem_type, shape }));
    ValueInfoProto { name: name.to_owned(), r#type: Some(TypeProto { value, ..TypeProto::default() }) }
}
