//! A model that can be lowered again and again: its graph, without the weights that stay in their files.

use std::collections::{BTreeMap, HashMap};

use bytes::Bytes;

use super::{
    Keeping, LowerError, POSITION,
    builder::{Builder, FOLD_MAX},
    literal, operators,
    site::Site,
    value::{self, Value},
};
use crate::{
    domain::{self, Datatype, Dim, Signature},
    kernels::{
        host::Host,
        ir::{Port, Routine, Source},
    },
    onnx::{
        self,
        proto::{GraphProto, NodeProto, TensorProto},
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
        let (model, graph) = onnx::lean_from(file, name, LEFT_FROM)?;
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

    /// Refuses what no sizes can save: an operator that is not covered. A branch that is never taken may have any.
    pub fn check(&self) -> Result<(), LowerError> {
        let uncovered = self.graph.node.iter().find(|node| !operators::covers(node));
        uncovered.map_or(Ok(()), |node| {
            let site = Site { node, opset: self.opset, inputs: Vec::new() };
            Err(site.refuse(operators::UNCOVERED))
        })
    }

    /// The routine for inputs of these shapes, and for these values of the inputs that sizes depend on; with caches that
    /// are kept, these are no inputs.
    pub fn lower(
        &self,
        shapes: &BTreeMap<String, Vec<usize>>,
        values: &BTreeMap<String, Host>,
        keeping: Option<Keeping>,
    ) -> Result<Routine, LowerError> {
        let caches = keeping.map_or_else(BTreeMap::new, |_| Keeping::caches(&self.signature));
        if keeping.is_some() && caches.is_empty() {
            return Err(LowerError::NoCaches);
        }
        let mut taking = Taking { builder: Builder::default(), inputs: Vec::new(), scope: Scope::default() };
        if keeping.is_some() {
            taking.position()?;
        }
        let symbols = symbols(&self.signature, shapes);
        for port in &self.signature.inputs {
            match keeping.filter(|_| caches.contains_key(port.name.as_str())) {
                Some(keeping) => taking.cache(port, &keeping.shape(port, &symbols)?)?,
                None => taking.input(port, shapes, values)?,
            }
        }
        let Taking { builder, inputs, scope } = taking;
        let mut lowering = Lowering { opset: self.opset, builder, scopes: vec![scope] };
        let outputs = lowering.graph(&self.graph)?;
        let wanted = self.signature.outputs.iter().zip(&outputs);
        let (kept, given): (Vec<_>, Vec<_>) =
            wanted.partition(|(port, _)| caches.values().any(|output| *output == port.name));
        if let Some((port, _)) = kept.iter().find(|(_, value)| !lowering.builder.goes_on(value)) {
            let problem = "is not a cache with the step's rows behind it".to_owned();
            return Err(LowerError::Cache { name: port.name.clone(), problem });
        }
        let fills = keeping.is_some_and(|keeping| keeping.fills);
        let ports = if fills { Vec::new() } else { lowering.ports(&given)? };
        lowering.builder.finish(inputs, ports)
    }
}

/// What sizes are called, by the inputs that fix them.
fn symbols<'s>(signature: &'s Signature, shapes: &BTreeMap<String, Vec<usize>>) -> BTreeMap<&'s str, usize> {
    let given = signature.inputs.iter().filter_map(|port| Some((&port.shape, shapes.get(&port.name)?)));
    let dims = given.flat_map(|(dims, shape)| dims.iter().zip(shape));
    dims.filter_map(|(dim, size)| match dim {
        Dim::Symbol(name) => Some((name.as_str(), *size)),
        Dim::Fixed(_) | Dim::Free(_) => None,
    })
    .collect()
}

/// Inputs, as a routine takes them.
struct Taking {
    builder: Builder,
    inputs: Vec<Port>,
    scope: Scope,
}

impl Taking {
    fn position(&mut self) -> Result<(), LowerError> {
        let (name, datatype, shape) = (POSITION.to_owned(), Datatype::Int64, vec![1]);
        let value = self.builder.input(&name, datatype, &shape)?;
        self.inputs.push(Port { name, datatype, shape, slot: Some(value.slot) });
        self.builder.keep_by(value);
        Ok(())
    }

    fn cache(&mut self, port: &domain::Port, shape: &[usize]) -> Result<(), LowerError> {
        let value = self.builder.cache(port, shape)?;
        self.scope.values.insert(port.name.clone(), value);
        Ok(())
    }

    fn input(
        &mut self,
        port: &domain::Port,
        shapes: &BTreeMap<String, Vec<usize>>,
        values: &BTreeMap<String, Host>,
    ) -> Result<(), LowerError> {
        let (name, datatype) = (&port.name, port.datatype);
        let shape = shapes.get(name).ok_or_else(|| LowerError::Missing { input: name.clone() })?;
        let wrong = || LowerError::Shape { input: name.clone(), shape: shape.clone() };
        if !fits(&port.shape, shape) {
            return Err(wrong());
        }
        let element =
            value::element(datatype).ok_or_else(|| LowerError::Datatype { name: name.clone(), datatype })?;
        let given = values.get(name);
        let elements: usize = shape.iter().product();
        let value = match given {
            Some(host) if host.len() == elements && host.element() == element => {
                self.builder.constant(datatype, shape, host.clone())
            }
            Some(_) => return Err(wrong()),
            None => self.builder.input(name, datatype, shape)?,
        };
        let slot = (given.is_none() && value.len() > 0).then_some(value.slot);
        self.inputs.push(Port { name: name.clone(), datatype, shape: shape.clone(), slot });
        self.scope.values.insert(name.clone(), value);
        Ok(())
    }
}

/// Whether a shape is one of those that a port takes.
fn fits(dims: &[Dim], shape: &[usize]) -> bool {
    let fits = |(dim, size): (&Dim, &usize)| !matches!(dim, Dim::Fixed(fixed) if *fixed != *size as u64);
    dims.len() == shape.len() && dims.iter().zip(shape).all(fits)
}

/// A walk through a graph, and through the branches that are taken.
struct Lowering {
    opset: i64,
    builder: Builder,
    /// Of the graphs that the walk is in, the innermost last.
    scopes: Vec<Scope>,
}

#[derive(Default)]
struct Scope {
    values: HashMap<String, Value>,
    /// Why a weight cannot be computed with, should a node read it.
    unusable: HashMap<String, String>,
}

impl Lowering {
    /// Lowers the nodes of a graph in their order and gives its outputs.
    fn graph(&mut self, graph: &GraphProto) -> Result<Vec<Value>, LowerError> {
        for tensor in &graph.initializer {
            let made = weight(&mut self.builder, tensor);
            let scope = self.scope();
            match made {
                Ok(value) => drop(scope.values.insert(tensor.name.clone(), value)),
                Err(error) => drop(scope.unusable.insert(tensor.name.clone(), error.to_string())),
            }
        }
        for node in &graph.node {
            self.node(node)?;
        }
        let missing = |name: &String| LowerError::Missing { input: name.clone() };
        graph.output.iter().map(|port| self.value(&port.name).ok_or_else(|| missing(&port.name))).collect()
    }

    fn node(&mut self, node: &NodeProto) -> Result<(), LowerError> {
        let inputs = node.input.iter().map(|name| self.value(name)).collect();
        let site = Site { node, opset: self.opset, inputs };
        for (name, value) in node.input.iter().zip(&site.inputs) {
            if value.is_none() && !name.is_empty() {
                let unusable = self.scopes.iter().rev().find_map(|scope| scope.unusable.get(name));
                let missing = || LowerError::Missing { input: name.clone() };
                return Err(
                    unusable.map_or_else(missing, |why| site.refuse(format!("reads what it cannot: {why}")))
                );
            }
        }
        let made = match node.op_type.as_str() {
            "If" => self.branch(&site),
            _ => operators::lower(&mut self.builder, &site),
        };
        let made = made.map_err(|error| site.place(error))?;
        for (name, value) in node.output.iter().zip(made).filter(|(name, _)| !name.is_empty()) {
            self.scope().values.insert(name.clone(), value);
        }
        Ok(())
    }

    /// The branch that is taken, as if it stood in the place of its node.
    fn branch(&mut self, site: &Site<'_>) -> Result<Vec<Value>, LowerError> {
        let taken = self.builder.numbers(site, site.input(0)?)?;
        let wanted =
            if taken.first().is_some_and(|taken| *taken != 0) { "then_branch" } else { "else_branch" };
        let branch = site.node.attribute(wanted).and_then(|attribute| attribute.g.as_ref());
        let branch = branch.ok_or_else(|| site.refuse(format!("has no {wanted}")))?;
        self.scopes.push(Scope::default());
        let outputs = self.graph(branch);
        self.scopes.pop();
        outputs
    }

    fn ports(&mut self, outputs: &[(&domain::Port, &Value)]) -> Result<Vec<Port>, LowerError> {
        let mut ports = Vec::new();
        for (port, value) in outputs {
            let (name, datatype) = (port.name.clone(), port.datatype);
            let value = self.builder.dense(value)?;
            if value::element(datatype) != Some(self.builder.element(&value)) {
                return Err(LowerError::Datatype { name, datatype });
            }
            let slot = (value.len() > 0).then_some(value.slot);
            ports.push(Port { name, datatype, shape: value.shape, slot });
        }
        Ok(ports)
    }

    fn value(&self, name: &str) -> Option<Value> {
        self.scopes.iter().rev().find_map(|scope| scope.values.get(name)).cloned()
    }

    fn scope(&mut self) -> &mut Scope {
        self.scopes.last_mut().expect("there is always one")
    }
}

/// A weight: known here where it is small, else what lies in its file.
pub(super) fn weight(builder: &mut Builder, tensor: &TensorProto) -> Result<Value, LowerError> {
    let name = || tensor.name.clone();
    let wrong = |problem| LowerError::Weight { name: name(), problem };
    let datatype = onnx::datatype(tensor.data_type)
        .ok_or_else(|| wrong("has a type that our kernels do not compute with"))?;
    if value::element(datatype).is_none() {
        return Err(LowerError::Datatype { name: name(), datatype });
    }
    let sizes = tensor.dims.iter().map(|size| usize::try_from(*size));
    let shape: Vec<usize> = sizes.collect::<Result<_, _>>().map_err(|_| wrong("has a negative size"))?;
    if let Some((file, offset, bytes)) = onnx::range(tensor) {
        let elements = shape.iter().product::<usize>() as u64;
        let size = datatype.size().unwrap_or(0) as u64;
        if elements == 0 || elements.checked_mul(size) != Some(bytes) {
            return Err(wrong("has not as many bytes as its shape says"));
        }
        return builder.stored(datatype, &shape, Source::File { name: file.to_owned(), offset });
    }
    let host = literal::host(tensor, datatype).ok_or_else(|| {
        wrong("has not as many elements as its shape says, or wider ones than kernels have")
    })?;
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
