//! A model that can be lowered again and again: its graph, without the weights that stay in their files.

use std::collections::{BTreeMap, HashMap};

use bytes::Bytes;
use prost::Message as _;

use super::{
    LowerError,
    builder::{Builder, FOLD_MAX},
    operators,
    site::Site,
    value::{self, Value},
};
use crate::{
    domain::{Datatype, Signature},
    kernels::{
        host::Host,
        ir::{Element, Port, Routine, Source},
    },
    onnx::{
        self,
        proto::{GraphProto, ModelProto, NodeProto, TensorProto},
    },
};

/// Bytes from which a weight stays in its file: any constant that is computed with here is smaller.
const LEFT_FROM: usize = FOLD_MAX * 8 + 1;

#[derive(Debug)]
pub struct Model {
    graph: GraphProto,
    signature: Signature,
    opset: i64,
}

impl Model {
    /// Of a model's bytes; `name` is what its own file is called in `Source::File`.
    pub fn read(file: &Bytes, name: &str) -> Result<Self, LowerError> {
        let signature = onnx::analyse(file)?.signature;
        let lean = onnx::lean_from(file, name, LEFT_FROM)?;
        let wrong = |source| onnx::OnnxError::NotProtobuf { source };
        let mut model = ModelProto::decode(lean).map_err(wrong)?;
        let graph = model.graph.take().ok_or(onnx::OnnxError::NoGraph)?;
        let standard = model.opset_import.iter().find(|set| matches!(set.domain.as_str(), "" | "ai.onnx"));
        let opset = standard.map_or(0, |set| set.version);
        Ok(Self { graph, signature, opset })
    }

    pub fn signature(&self) -> &Signature {
        &self.signature
    }

    /// Nodes of the graph, those of graphs within it included.
    pub fn nodes(&self) -> u64 {
        let mut nodes = 0;
        each_node(&self.graph, &mut |_| nodes += 1);
        nodes
    }

    /// Refuses what no sizes can save: an operator that is not covered.
    pub fn check(&self) -> Result<(), LowerError> {
        let mut refused = None;
        each_node(&self.graph, &mut |node| {
            if refused.is_none() && !operators::covers(node) {
                let site = Site { node, opset: self.opset, inputs: Vec::new() };
                refused = Some(site.refuse("is not among those that our kernels cover"));
            }
        });
        refused.map_or(Ok(()), Err)
    }

    /// The routine for inputs of these shapes, and for these values of the inputs that sizes depend on.
    pub fn lower(
        &self,
        shapes: &BTreeMap<String, Vec<usize>>,
        values: &BTreeMap<String, Host>,
    ) -> Result<Routine, LowerError> {
        let mut builder = Builder::default();
        let mut scope = HashMap::new();
        let mut inputs = Vec::new();
        for port in &self.signature.inputs {
            let name = &port.name;
            let shape = shapes.get(name).ok_or_else(|| LowerError::Missing { input: name.clone() })?;
            let value = match values.get(name) {
                Some(host) if host.len() == shape.iter().product::<usize>() => {
                    builder.constant(port.datatype, shape, host.clone())
                }
                Some(_) => return Err(LowerError::Shape { input: name.clone(), shape: shape.clone() }),
                None => builder.input(name, port.datatype, shape)?,
            };
            let slot = (!values.contains_key(name) && value.len() > 0).then_some(value.slot);
            inputs.push(Port { name: name.clone(), datatype: port.datatype, shape: shape.clone(), slot });
            scope.insert(name.clone(), value);
        }
        let mut lowering = Lowering { opset: self.opset, builder, scopes: vec![scope] };
        let outputs = lowering.graph(&self.graph)?;
        let mut ports = Vec::new();
        for (port, value) in self.signature.outputs.iter().zip(outputs) {
            let value = lowering.builder.dense(&value)?;
            let slot = (value.len() > 0).then_some(value.slot);
            ports.push(Port { name: port.name.clone(), datatype: port.datatype, shape: value.shape, slot });
        }
        lowering.builder.finish((inputs, ports))
    }
}

/// A walk through a graph, and through the branches that are taken.
pub(super) struct Lowering {
    opset: i64,
    pub(super) builder: Builder,
    /// Values by name, those of the innermost graph last.
    scopes: Vec<HashMap<String, Value>>,
}

impl Lowering {
    /// Lowers the nodes of a graph in their order and gives its outputs.
    fn graph(&mut self, graph: &GraphProto) -> Result<Vec<Value>, LowerError> {
        for tensor in &graph.initializer {
            // An initialiser that is also an input is what the step brings.
            if !self.scopes.last().is_some_and(|scope| scope.contains_key(&tensor.name)) {
                let value = weight(&mut self.builder, tensor)?;
                self.name(&tensor.name, value);
            }
        }
        for node in &graph.node {
            self.node(node)?;
        }
        let missing = |name: &String| LowerError::Missing { input: name.clone() };
        graph.output.iter().map(|port| self.value(&port.name).ok_or_else(|| missing(&port.name))).collect()
    }

    fn node(&mut self, node: &NodeProto) -> Result<(), LowerError> {
        let mut inputs = Vec::with_capacity(node.input.len());
        for name in &node.input {
            let value = if name.is_empty() { None } else { self.value(name) };
            if value.is_none() && !name.is_empty() {
                return Err(LowerError::Missing { input: name.clone() });
            }
            inputs.push(value);
        }
        let site = Site { node, opset: self.opset, inputs };
        let outputs = if node.op_type == "If" { self.branch(&site)? } else { operators::lower(&mut self.builder, &site)? };
        for (name, value) in node.output.iter().zip(outputs).filter(|(name, _)| !name.is_empty()) {
            self.name(name, value);
        }
        Ok(())
    }

    /// The branch that is taken, as if it stood in the place of its node.
    fn branch(&mut self, site: &Site<'_>) -> Result<Vec<Value>, LowerError> {
        let condition = site.input(0)?;
        let taken = self.builder.numbers(site, condition)?;
        let wanted = if taken.first().is_some_and(|taken| *taken != 0) { "then_branch" } else { "else_branch" };
        let branch = site.node.attribute(wanted).and_then(|attribute| attribute.g.as_ref());
        let branch = branch.ok_or_else(|| site.refuse(format!("has no {wanted}")))?;
        self.scopes.push(HashMap::new());
        let outputs = self.graph(branch);
        self.scopes.pop();
        outputs
    }

    fn value(&self, name: &str) -> Option<Value> {
        self.scopes.iter().rev().find_map(|scope| scope.get(name)).cloned()
    }

    fn name(&mut self, name: &str, value: Value) {
        self.scopes.last_mut().expect("there is always one").insert(name.to_owned(), value);
    }
}

/// A weight: known here where it is small, else what lies in its file.
pub(super) fn weight(builder: &mut Builder, tensor: &TensorProto) -> Result<Value, LowerError> {
    let name = || tensor.name.clone();
    let wrong = |problem| LowerError::Weight { name: name(), problem };
    let datatype = onnx::datatype(tensor.data_type).ok_or_else(|| wrong("has a type that our kernels do not compute with"))?;
    let sizes = tensor.dims.iter().map(|size| usize::try_from(*size));
    let shape: Vec<usize> = sizes.collect::<Result<_, _>>().map_err(|_| wrong("has a negative size"))?;
    if let Some((file, offset, bytes)) = onnx::range(tensor) {
        // Tables of few bits are read by the byte; products and gathers of them ask for that.
        let element = value::element(datatype).ok_or(LowerError::Datatype { name: name(), datatype })?;
        let element = if matches!(datatype, Datatype::Uint8 | Datatype::Int8) { Element::Bytes } else { element };
        let size = datatype.size().unwrap_or(0) as u64;
        if bytes != shape.iter().product::<usize>() as u64 * size {
            return Err(wrong("has not as many bytes as its shape says"));
        }
        return Ok(builder.stored(datatype, element, &shape, Source::File { name: file.to_owned(), offset }));
    }
    let host = super::literal::host(tensor, datatype).ok_or_else(|| wrong("has not as many elements as its shape says"))?;
    Ok(builder.constant(datatype, &shape, host))
}

fn each_node<'g>(graph: &'g GraphProto, visit: &mut impl FnMut(&'g NodeProto)) {
    for node in &graph.node {
        visit(node);
        for attribute in &node.attribute {
            attribute.g.iter().chain(&attribute.graphs).for_each(|inner| each_node(inner, visit));
        }
    }
}
