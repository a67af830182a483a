//! What one run of a model takes: operations and bytes, per node and altogether, over the names of the inputs' dimensions.
//!
//! A multiplication and the addition after it are two operations, and so is each element that an elementwise operator gives
//! one. Softmax and the normalisations take five for each of theirs: a maximum or mean, a difference, a function, a sum, a
//! quotient. Moving and converting elements takes none, and what depends on weights alone is made once, when a model is loaded.

mod operators;
#[cfg(test)]
mod tests;

use bytes::Bytes;

use super::{
    OnnxError,
    check::standard,
    proto::{GraphProto, NodeProto},
    read,
    shapes::{self, Expr, NodeShapes, Shapes, Site, Size, Sizes},
};

/// One node of the main graph, with all that is within it.
#[derive(Clone, Debug, PartialEq)]
pub struct NodeCost {
    /// Its name, or that of its first output.
    pub name: String,
    /// As `Conv` or `com.microsoft.MatMulNBits`.
    pub operator: String,
    /// Operations; nothing where they are not known, as are the bytes.
    pub flops: Option<Expr>,
    /// Of the weights that it reads.
    pub weight_bytes: Option<Expr>,
    /// Of the other values that it reads and writes.
    pub activation_bytes: Option<Expr>,
    /// Nodes: itself and those within its graphs.
    pub nodes: u64,
    /// Of these, nodes whose operations are known.
    pub known: u64,
}

/// In the order of the nodes.
#[derive(Clone, Debug, PartialEq)]
pub struct Costs {
    pub nodes: Vec<NodeCost>,
}

/// Sums over the nodes of which they are known.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Total {
    pub flops: Option<Expr>,
    pub activation_bytes: Option<Expr>,
    pub nodes: u64,
    pub known: u64,
}

/// What a model in this file takes, wherever its weights are.
pub fn costs(bytes: &Bytes) -> Result<Costs, OnnxError> {
    let (model, graph) = read::decode(bytes)?;
    let shapes = shapes::infer(&model, &graph);
    Ok(Costs { nodes: of_graph(&graph, &shapes, shapes.version) })
}

impl Costs {
    pub fn total(&self) -> Total {
        total(&self.nodes)
    }
}

impl Total {
    /// Operations and bytes of activations at these sizes.
    pub fn at(&self, sizes: &Sizes) -> Option<(u64, u64)> {
        Some((self.flops.as_ref()?.at(sizes)?, self.activation_bytes.as_ref()?.at(sizes)?))
    }
}

/// A sum that grows beyond what an expression can hold is not known.
fn total(nodes: &[NodeCost]) -> Total {
    let sum = |of: fn(&NodeCost) -> &Option<Expr>| {
        let mut known = nodes.iter().filter_map(|node| of(node).as_ref());
        known.try_fold(Expr::default(), |sum, expr| sum.plus(expr))
    };
    Total {
        flops: sum(|node| &node.flops),
        activation_bytes: sum(|node| &node.activation_bytes),
        nodes: nodes.iter().map(|node| node.nodes).sum(),
        known: nodes.iter().map(|node| node.known).sum(),
    }
}

pub(super) fn of_graph(graph: &GraphProto, shapes: &Shapes, version: i64) -> Vec<NodeCost> {
    graph.node.iter().zip(&shapes.nodes).map(|(node, shapes)| of_node(node, shapes, version)).collect()
}

fn of_node(node: &NodeProto, shapes: &NodeShapes, version: i64) -> NodeCost {
    let graphs = node.attribute.iter().flat_map(|attribute| attribute.g.iter().chain(&attribute.graphs));
    let within: Vec<_> =
        graphs.zip(&shapes.within).map(|(graph, shapes)| of_graph(graph, shapes, version)).collect();
    let totals: Vec<_> = within.iter().map(|nodes| total(nodes)).collect();
    let site = Site::new(node, &shapes.inputs, version);
    let (flops, activation_bytes) = match site.operator() {
        ("", "If") => branches(&totals, shapes),
        _ if shapes.steady => (Some(Expr::default()), Some(Expr::default())),
        _ => (operators::flops(&site, &shapes.outputs), traffic(shapes, node)),
    };
    let (_, operator) = site.operator();
    let domain = standard(&node.domain);
    let named = if node.name.is_empty() {
        node.output.iter().find(|name| !name.is_empty())
    } else {
        Some(&node.name)
    };
    NodeCost {
        name: named.cloned().unwrap_or_default(),
        operator: if domain.is_empty() { operator.to_owned() } else { format!("{domain}.{operator}") },
        nodes: 1 + totals.iter().map(|total| total.nodes).sum::<u64>(),
        known: u64::from(flops.is_some()) + totals.iter().map(|total| total.known).sum::<u64>(),
        flops,
        weight_bytes: weights(shapes, node),
        activation_bytes,
    }
}

/// Those of the branch that runs, or of the dearer one, as far as all of both is known.
fn branches(totals: &[Total], shapes: &NodeShapes) -> (Size, Size) {
    let whole = |total: &&Total| total.known == total.nodes;
    if let Some(chosen) = shapes.chosen {
        let chosen = totals.get(chosen).filter(whole);
        return chosen.map(|total| (total.flops.clone(), total.activation_bytes.clone())).unwrap_or_default();
    }
    let [a, b] = totals else { return (None, None) };
    if !(whole(&a) && whole(&b)) {
        return (None, None);
    }
    let larger = |a: &Size, b: &Size| a.as_ref()?.larger(b.as_ref()?);
    (larger(&a.flops, &b.flops), larger(&a.activation_bytes, &b.activation_bytes))
}

fn traffic(shapes: &NodeShapes, node: &NodeProto) -> Size {
    let read = shapes.inputs.iter().zip(&shapes.constant).zip(&node.input);
    let read =
        read.filter(|((_, constant), name)| !**constant && !name.is_empty()).map(|((value, _), _)| value);
    let written = shapes.outputs.iter().zip(&node.output).filter(|(_, name)| !name.is_empty());
    let mut values = read.chain(written.map(|(value, _)| value));
    values.try_fold(Expr::default(), |sum, value| sum.plus(&value.bytes()?))
}

fn weights(shapes: &NodeShapes, node: &NodeProto) -> Size {
    let read = shapes.inputs.iter().zip(&shapes.constant).zip(&node.input);
    let mut read = read.filter(|((_, constant), name)| **constant && !name.is_empty());
    read.try_fold(Expr::default(), |sum, ((value, _), _)| sum.plus(&value.bytes()?))
}
