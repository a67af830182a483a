//! What depends on itself: nodes through their values, functions through their calls.

use std::collections::{HashMap, HashSet, VecDeque};

use super::{
    Functions,
    error::{CheckError, Name},
    scope::standard,
};
use crate::onnx::{
    proto::{FunctionProto, GraphProto, NodeProto},
    read::visit_nodes,
};

/// Nodes of a circle that a message names.
const SHOWN: usize = 8;

/// The places of some nodes that depend on each other in a circle, the first repeated at the end.
pub(super) fn circle(nodes: &[NodeProto]) -> Option<Vec<usize>> {
    let mut origins = HashMap::new();
    for (at, node) in nodes.iter().enumerate() {
        let given = node.output.iter().filter(|output| !output.is_empty());
        origins.extend(given.map(|output| (output.as_str(), at)));
    }
    let needs = |at: usize| {
        let names = used(&nodes[at]);
        names.into_iter().filter_map(|name| origins.get(name).copied()).collect::<Vec<_>>()
    };
    found(nodes.len(), needs)
}

/// What a node takes, also within its graphs.
fn used(node: &NodeProto) -> HashSet<&str> {
    let mut names: HashSet<_> = node.input.iter().map(String::as_str).collect();
    let graphs = node.attribute.iter().flat_map(|attribute| attribute.g.iter().chain(&attribute.graphs));
    for graph in graphs {
        taken(graph, &mut names);
    }
    names
}

fn taken<'g>(graph: &'g GraphProto, names: &mut HashSet<&'g str>) {
    visit_nodes(graph, &mut |node| names.extend(node.input.iter().map(String::as_str)));
    names.extend(graph.output.iter().map(|output| output.name.as_str()));
}

/// A circle among so many things, each of which needs others.
fn found(count: usize, needs: impl Fn(usize) -> Vec<usize>) -> Option<Vec<usize>> {
    let needs: Vec<_> = (0..count).map(needs).collect();
    let (mut missing, mut needed_by) = (vec![0usize; count], vec![Vec::new(); count]);
    for (at, needs) in needs.iter().enumerate() {
        missing[at] = needs.len();
        for need in needs {
            needed_by[*need].push(at);
        }
    }
    let mut free: VecDeque<_> = (0..count).filter(|at| missing[*at] == 0).collect();
    while let Some(at) = free.pop_front() {
        for by in &needed_by[at] {
            missing[*by] -= 1;
            if missing[*by] == 0 {
                free.push_back(*by);
            }
        }
    }
    // Whatever is left needs something that is left: going on from there comes back to where it was.
    let mut at = (0..count).find(|at| missing[*at] > 0)?;
    let mut path = Vec::new();
    let mut seen = HashMap::new();
    let from = loop {
        if let Some(from) = seen.insert(at, path.len()) {
            break from;
        }
        path.push(at);
        at = *needs[at].iter().find(|need| missing[**need] > 0).expect("it needs something that is left");
    };
    let mut circle = path.split_off(from);
    circle.truncate(SHOWN);
    circle.push(at);
    Some(circle)
}

/// The model's functions, none of which is there twice or calls itself.
pub(super) fn functions(all: &[FunctionProto]) -> Result<Functions<'_>, CheckError> {
    let mut functions = HashMap::new();
    let mut places = HashMap::new();
    for (at, function) in all.iter().enumerate() {
        let key = (standard(&function.domain), function.name.as_str(), function.overload.as_str());
        if functions.insert(key, function).is_some() {
            return Err(CheckError::FunctionTwice { function: title(function) });
        }
        places.insert(key, at);
    }
    let calls = |at: usize| {
        let mut calls = HashSet::new();
        let mut look = |node: &NodeProto| {
            let key = (standard(&node.domain), node.op_type.as_str(), node.overload.as_str());
            calls.extend(places.get(&key).copied());
        };
        for node in &all[at].node {
            look(node);
            let graphs =
                node.attribute.iter().flat_map(|attribute| attribute.g.iter().chain(&attribute.graphs));
            graphs.for_each(|graph| visit_nodes(graph, &mut look));
        }
        calls.into_iter().collect()
    };
    match found(all.len(), calls) {
        Some(circle) => Err(CheckError::FunctionRecursive { function: title(&all[circle[0]]) }),
        None => Ok(functions),
    }
}

pub(super) fn title(function: &FunctionProto) -> String {
    let domain = standard(&function.domain);
    let name = if domain.is_empty() { function.name.clone() } else { format!("{domain}.{}", function.name) };
    Name::new(&name).to_string()
}
