//! Whether a model is put together as ONNX wants it, told before anything runs it.
//!
//! Pure: of files beside the model it knows what its caller says. Operators of the standard domain are judged by whether
//! their version is there and by how many inputs and outputs they take; their attributes and types are left to the engine.

mod attributes;
mod error;
mod external;
mod operators;
mod order;
mod scope;
mod tensors;
#[cfg(test)]
mod tests;

use std::collections::{HashMap, HashSet};

pub use error::CheckError;
pub(in crate::onnx) use error::Name;
pub use external::Outside;
use operators::{Arity, KNOWN};
pub(super) use scope::standard;
use scope::{Role, Scope, place};
pub(super) use tensors::{bits, byte_size};

use super::proto::{FunctionProto, GraphProto, ModelProto, NodeProto, OperatorSetIdProto};

/// Nodes of one graph at most; the largest language models have some ten thousand.
const NODES_MAX: usize = 1 << 20;

/// Checks a decoded model with its graph; `outside` tells what lies at a path beside the model's file.
pub(super) fn check(
    model: &ModelProto,
    graph: &GraphProto,
    outside: &dyn Fn(&str) -> Outside,
) -> Result<(), CheckError> {
    let functions = order::functions(&model.functions)?;
    let imports = imports(&model.opset_import)?;
    let rules = Rules { imports, functions: &functions, attributes: None, outside };
    rules.graph(graph, None, "the graph")?;
    for function in &model.functions {
        let attributes = &function.attribute_proto;
        let names = function.attribute.iter().chain(attributes.iter().map(|attribute| &attribute.name));
        let names: HashSet<_> = names.map(String::as_str).collect();
        let imports = self::imports(&function.opset_import)?;
        let rules = Rules { imports, functions: &functions, attributes: Some(&names), outside };
        rules.function(function)?;
    }
    Ok(())
}

/// Versions by domain.
fn imports(sets: &[OperatorSetIdProto]) -> Result<HashMap<&str, i64>, CheckError> {
    let mut imports = HashMap::new();
    for OperatorSetIdProto { domain, version } in sets {
        let first = imports.insert(standard(domain), *version);
        if let Some(first) = first.filter(|first| first != version) {
            return Err(CheckError::DomainTwice { domain: Name::new(domain), first, second: *version });
        }
    }
    Ok(imports)
}

/// By domain, operator and overload.
type Functions<'m> = HashMap<(&'m str, &'m str, &'m str), &'m FunctionProto>;

/// What nodes are judged by.
struct Rules<'r> {
    imports: HashMap<&'r str, i64>,
    functions: &'r Functions<'r>,
    /// Of the function that the nodes are in.
    attributes: Option<&'r HashSet<&'r str>>,
    outside: &'r dyn Fn(&str) -> Outside,
}

impl Rules<'_> {
    fn graph(&self, graph: &GraphProto, parent: Option<&Scope<'_>>, called: &str) -> Result<(), CheckError> {
        let mut scope = Scope::new(&graph.node, parent, called);
        for input in &graph.input {
            scope.give(&input.name, Role::Input)?;
        }
        for tensor in &graph.initializer {
            tensors::check(tensor, &named("initialiser", &tensor.name, called), self.outside)?;
            scope.give(&tensor.name, Role::Initialiser)?;
        }
        for sparse in &graph.sparse_initializer {
            let name = sparse.values.as_ref().map_or("", |values| values.name.as_str());
            tensors::check_sparse(sparse, &named("initialiser", name, called), self.outside)?;
            scope.give(name, Role::Initialiser)?;
        }
        self.nodes(&graph.node, &mut scope)?;
        let mut seen = HashSet::new();
        for output in &graph.output {
            if output.name.is_empty() {
                return Err(CheckError::Unnamed { at: called.to_owned(), role: "output" });
            }
            if !seen.insert(output.name.as_str()) {
                return Err(CheckError::OutputTwice { at: called.to_owned(), name: Name::new(&output.name) });
            }
            scope.ends_with(&output.name)?;
        }
        scope::declarations(graph)
    }

    fn function(&self, function: &FunctionProto) -> Result<(), CheckError> {
        let called = format!("the function {}", order::title(function));
        let mut scope = Scope::new(&function.node, None, &called);
        for input in &function.input {
            scope.give(input, Role::Input)?;
        }
        self.nodes(&function.node, &mut scope)?;
        function.output.iter().try_for_each(|output| scope.ends_with(output))
    }

    fn nodes<'g>(&self, nodes: &'g [NodeProto], scope: &mut Scope<'g>) -> Result<(), CheckError> {
        if nodes.len() > NODES_MAX {
            let (at, count) = (scope.called.to_owned(), nodes.len());
            return Err(CheckError::Nodes { at, count, most: NODES_MAX });
        }
        for (at, node) in nodes.iter().enumerate() {
            let place = || place(at, node, scope.called);
            self.operator(node, &place)?;
            attributes::check(node, self.attributes, &place)?;
            // A node leaves out an optional input or output by naming it "".
            for input in node.input.iter().filter(|name| !name.is_empty()) {
                scope.uses(at, input)?;
            }
            self.within(node, scope, &place)?;
            for output in node.output.iter().filter(|name| !name.is_empty()) {
                scope.give(output, Role::Node(at))?;
            }
        }
        Ok(())
    }

    /// The tensors and graphs in a node's attributes.
    fn within(
        &self,
        node: &NodeProto,
        scope: &Scope<'_>,
        place: &dyn Fn() -> String,
    ) -> Result<(), CheckError> {
        for attribute in &node.attribute {
            let called = || format!("the attribute {} of {}", Name::new(&attribute.name), place());
            for tensor in attribute.t.iter().chain(&attribute.tensors) {
                tensors::check(tensor, &called(), self.outside)?;
            }
            for sparse in attribute.sparse_tensor.iter().chain(&attribute.sparse_tensors) {
                tensors::check_sparse(sparse, &called(), self.outside)?;
            }
            for graph in attribute.g.iter().chain(&attribute.graphs) {
                self.graph(graph, Some(scope), &called())?;
            }
        }
        Ok(())
    }

    fn operator(&self, node: &NodeProto, place: &dyn Fn() -> String) -> Result<(), CheckError> {
        let domain = standard(&node.domain);
        if node.op_type.is_empty() {
            return Err(CheckError::NoOperator { at: place() });
        }
        let Some(version) = self.imports.get(domain) else {
            let domain = Name::new(if domain.is_empty() { "ai.onnx" } else { domain });
            return Err(CheckError::DomainMissing { at: place(), domain });
        };
        let key = (domain, node.op_type.as_str(), node.overload.as_str());
        let arity = match self.functions.get(&key) {
            // What a call leaves out at the end is absent in the function.
            Some(function) => [[0, function.input.len()], [0, function.output.len()]],
            None if !domain.is_empty() => return Ok(()),
            None => match u64::try_from(*version).ok().filter(|version| *version <= KNOWN) {
                None => return Ok(()),
                Some(version) => {
                    let operator = || Name::new(&node.op_type);
                    let arity = operators::arity(&node.op_type, version);
                    let unknown = || {
                        let known = operators::known(&node.op_type);
                        CheckError::OperatorUnknown { at: place(), operator: operator(), version, known }
                    };
                    let counts = arity.ok_or_else(unknown)?.counts();
                    if let Some(input) = operators::left_out(node, counts[0][0]) {
                        return Err(CheckError::LeftOut { at: place(), input, operator: operator() });
                    }
                    counts
                }
            },
        };
        let counts = [("input", arity[0], node.input.len()), ("output", arity[1], node.output.len())];
        for (role, wanted, count) in counts {
            if !(wanted[0]..=wanted[1]).contains(&count) {
                let (at, operator, wanted) = (place(), Name::new(&node.op_type), Arity::text(wanted));
                return Err(CheckError::Arity { at, role, count, operator, wanted });
            }
        }
        Ok(())
    }
}

fn named(role: &str, name: &str, at: &str) -> String {
    format!("{role} {} of {at}", Name::new(name))
}
