//! The values that nodes see: those of their own graph so far, and those of the graphs around it.

use std::collections::{HashMap, hash_map::Entry};

use super::{
    error::{CheckError, Name},
    order,
};
use crate::onnx::proto::{DimensionValue, GraphProto, NodeProto, TensorTypeProto, TypeValue, ValueInfoProto};

/// Where a value comes from.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    Input,
    Initialiser,
    /// The node of that place.
    Node(usize),
}

pub(super) struct Scope<'g> {
    nodes: &'g [NodeProto],
    parent: Option<&'g Scope<'g>>,
    /// What the graph is called in messages.
    pub(super) called: &'g str,
    values: HashMap<&'g str, Role>,
}

/// The standard domain has two names.
pub(in crate::onnx) fn standard(domain: &str) -> &str {
    if domain == "ai.onnx" { "" } else { domain }
}

/// A node as messages call it.
pub(super) fn place(at: usize, node: &NodeProto, graph: &str) -> String {
    let operator = &node.op_type.chars().take(NAME_SHOWN).collect::<String>();
    let named = if node.name.is_empty() { String::new() } else { format!(" {}", Name::new(&node.name)) };
    // The main graph is meant where no other is named.
    let within = if graph == "the graph" { String::new() } else { format!(" in {graph}") };
    format!("node {at}{named} ({operator}){within}")
}

/// Operators' names are short.
const NAME_SHOWN: usize = 50;

impl<'g> Scope<'g> {
    pub(super) fn new(nodes: &'g [NodeProto], parent: Option<&'g Scope<'g>>, called: &'g str) -> Self {
        Self { nodes, parent, called, values: HashMap::new() }
    }

    pub(super) fn give(&mut self, name: &'g str, role: Role) -> Result<(), CheckError> {
        if name.is_empty() {
            let role = if role == Role::Input { "input" } else { "initialiser" };
            return Err(CheckError::Unnamed { at: self.called.to_owned(), role });
        }
        if let Some((scope, first)) = self.parent.and_then(|parent| parent.origin(name)) {
            return Err(self.twice(name, scope.tell(first), role));
        }
        match self.values.entry(name) {
            Entry::Vacant(vacant) => {
                vacant.insert(role);
                Ok(())
            }
            // An initialiser is the default of the input that it shares its name with.
            Entry::Occupied(first) if (*first.get(), role) == (Role::Input, Role::Initialiser) => {
                *first.into_mut() = role;
                Ok(())
            }
            Entry::Occupied(first) => {
                let first = *first.get();
                Err(self.twice(name, self.tell(first), role))
            }
        }
    }

    fn twice(&self, name: &str, first: String, second: Role) -> CheckError {
        CheckError::Origins { name: Name::new(name), first, second: self.tell(second) }
    }

    fn tell(&self, role: Role) -> String {
        match role {
            Role::Input => format!("an input of {}", self.called),
            Role::Initialiser => format!("an initialiser of {}", self.called),
            Role::Node(at) => place(at, &self.nodes[at], self.called),
        }
    }

    fn origin(&self, name: &str) -> Option<(&Self, Role)> {
        let own = self.values.get(name).map(|role| (self, *role));
        own.or_else(|| self.parent.and_then(|parent| parent.origin(name)))
    }

    /// The node of that place takes this value, which has to be there by now.
    pub(super) fn uses(&self, at: usize, name: &str) -> Result<(), CheckError> {
        if self.origin(name).is_some() {
            return Ok(());
        }
        let at = place(at, &self.nodes[at], self.called);
        let Some((scope, by)) = self.later(name) else {
            return Err(CheckError::Dangling { at, name: Name::new(name) });
        };
        if let Some(circle) = order::circle(scope.nodes) {
            let told = |at: &usize| place(*at, &scope.nodes[*at], scope.called);
            let circle = circle.iter().map(told).collect::<Vec<_>>().join(" -> ");
            return Err(CheckError::Cycle { circle });
        }
        let by = place(by, &scope.nodes[by], scope.called);
        Err(CheckError::Unordered { at, name: Name::new(name), by })
    }

    /// The node that gives a value which is not there yet.
    fn later(&self, name: &str) -> Option<(&Self, usize)> {
        let own = self.nodes.iter().position(|node| node.output.iter().any(|output| output == name));
        own.map(|at| (self, at)).or_else(|| self.parent.and_then(|parent| parent.later(name)))
    }

    pub(super) fn ends_with(&self, output: &str) -> Result<(), CheckError> {
        if self.origin(output).is_some() {
            return Ok(());
        }
        Err(CheckError::Output { at: self.called.to_owned(), name: Name::new(output) })
    }
}

/// What is said about a value more than once is the same, as far as it says anything.
pub(super) fn declarations(graph: &GraphProto) -> Result<(), CheckError> {
    let mut known: HashMap<&str, (i32, Option<Vec<i64>>)> = HashMap::new();
    let ports = graph.input.iter().chain(&graph.output).chain(&graph.value_info);
    let ports = ports.filter_map(|port| Some((port.name.as_str(), tensor(port)?)));
    let weights = graph
        .initializer
        .iter()
        .map(|tensor| (tensor.name.as_str(), (tensor.data_type, Some(tensor.dims.clone()))));
    for (name, said) in weights.chain(ports.map(|(name, port)| (name, (port.elem_type, sizes(port))))) {
        match known.entry(name) {
            Entry::Vacant(vacant) => drop(vacant.insert(said)),
            Entry::Occupied(mut first) => agree(name, first.get_mut(), said)?,
        }
    }
    Ok(())
}

fn tensor(port: &ValueInfoProto) -> Option<&TensorTypeProto> {
    match port.r#type.as_ref()?.value.as_ref()? {
        TypeValue::Tensor(tensor) => Some(tensor),
        _ => None,
    }
}

/// -1 for a size that is not told.
fn sizes(port: &TensorTypeProto) -> Option<Vec<i64>> {
    let size = |value: Option<&DimensionValue>| match value {
        Some(DimensionValue::Size(size)) if *size >= 0 => *size,
        _ => -1,
    };
    Some(port.shape.as_ref()?.dim.iter().map(|dim| size(dim.value.as_ref())).collect())
}

fn agree(
    name: &str,
    known: &mut (i32, Option<Vec<i64>>),
    (code, sizes): (i32, Option<Vec<i64>>),
) -> Result<(), CheckError> {
    let named = || Name::new(name);
    if known.0 != 0 && code != 0 && known.0 != code {
        return Err(CheckError::DeclaredTypes { name: named(), first: known.0, second: code });
    }
    known.0 = known.0.max(code);
    let Some(sizes) = sizes else { return Ok(()) };
    let Some(first) = &mut known.1 else {
        known.1 = Some(sizes);
        return Ok(());
    };
    if first.len() != sizes.len() {
        return Err(CheckError::DeclaredRanks { name: named(), first: first.len(), second: sizes.len() });
    }
    for (axis, (first, second)) in first.iter_mut().zip(sizes).enumerate() {
        if *first >= 0 && second >= 0 && *first != second {
            return Err(CheckError::DeclaredSizes { name: named(), axis, first: *first, second });
        }
        *first = (*first).max(second);
    }
    Ok(())
}
