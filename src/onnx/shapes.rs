//! The shapes of all values, as far as the graph tells them from its inputs' dimensions.
//!
//! A dimension is a number or an expression over the names of the inputs' dimensions; what an operator makes of it that is
//! not known here stays unknown, and is never guessed. Small whole-number tensors are followed by value, because graphs
//! compute shapes with them.

mod expr;
mod folding;
mod layout;
mod linear;
mod node;
mod rules;
#[cfg(test)]
mod tests;
mod told;

use std::{cell::Cell, collections::HashMap, sync::Arc};

pub use expr::{Expr, Sizes};
pub(super) use linear::letters;
pub(super) use node::Site;
pub(super) use rules::unary;
pub use told::told_at;

use super::{
    check::standard,
    proto::{DimensionValue, GraphProto, ModelProto, NodeProto, TypeValue, ValueInfoProto},
};

/// One dimension; nothing when it is not known.
pub type Size = Option<Expr>;

/// Elements of a tensor that is followed by value: shapes, axes and the like have a handful.
const KNOWN_MAX: usize = 64;

/// Steps of work on one model, each some hundred nanoseconds; what comes after it is unknown.
/// A model of ten thousand nodes takes some 300,000. At the very worst it makes half a gigabyte of expressions.
const WORK_MAX: u64 = 4_000_000;

/// Dimensions that are followed; engines take no more than eight or so.
const RANK_MAX: usize = 32;

/// What is known of one value.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Value {
    /// ONNX's number for the type of its elements.
    pub(super) element: Option<i32>,
    pub(super) dims: Option<Vec<Size>>,
    /// The elements of a small tensor of whole numbers or flags, row by row.
    known: Option<Arc<[Size]>>,
}

/// The values of a graph and of those within it, by node.
#[derive(Debug, Default)]
pub(super) struct Shapes {
    /// What every node has taken and given, in the order of the nodes.
    pub(super) nodes: Vec<NodeShapes>,
    pub(super) outputs: Vec<Value>,
    /// Of the standard operators.
    pub(super) version: i64,
}

#[derive(Debug, Default)]
pub(super) struct NodeShapes {
    pub(super) inputs: Vec<Value>,
    /// Whether each input is a weight or made of nothing but weights.
    pub(super) constant: Vec<bool>,
    pub(super) outputs: Vec<Value>,
    /// Whether it gives the same in every run.
    pub(super) steady: bool,
    /// The graphs in its attributes, in their order.
    pub(super) within: Vec<Shapes>,
    /// The only one of these that runs, where its condition is known.
    pub(super) chosen: Option<usize>,
}

impl Value {
    fn new(element: Option<i32>, dims: Option<Vec<Size>>) -> Self {
        Self { element, dims: dims.filter(|dims| dims.len() <= RANK_MAX), known: None }
    }

    /// A list of whole numbers.
    fn list(element: i32, known: Vec<Size>) -> Self {
        let dims = Some(vec![Some(Expr::constant(count(known.len())))]);
        Self { element: Some(element), dims, known: None }.knowing(known)
    }

    fn knowing(mut self, known: Vec<Size>) -> Self {
        self.known = Some(known.into()).filter(|known: &Arc<[Size]>| known.len() <= KNOWN_MAX);
        self
    }

    /// What work on it takes.
    fn weight(&self) -> u64 {
        let sizes = self.dims.iter().flatten().chain(self.known.iter().flat_map(|known| known.iter()));
        let terms = sizes.map(|size| size.as_ref().map_or(1, Expr::terms));
        terms.fold(1, |sum, terms| sum.saturating_add(1 + terms * terms))
    }

    pub(super) fn rank(&self) -> Option<usize> {
        self.dims.as_ref().map(Vec::len)
    }

    /// The size of an axis, counted from the end where it is negative.
    pub(super) fn size(&self, axis: i64) -> Size {
        let dims = self.dims.as_ref()?;
        dims[index(axis, dims.len())?].clone()
    }

    pub(super) fn elements(&self) -> Size {
        product(self.dims.as_ref()?)
    }

    /// Bytes of all elements.
    pub(super) fn bytes(&self) -> Size {
        let bits = super::check::bits(self.element?)?;
        self.elements()?.times(&Expr::constant(bits.cast_signed()))?.over_up(&Expr::constant(8))
    }

    /// The elements, if all are known.
    fn all(&self) -> Option<Vec<Expr>> {
        self.known.as_ref()?.iter().cloned().collect()
    }

    /// The elements as numbers.
    fn numbers(&self) -> Option<Vec<i64>> {
        self.known.as_ref()?.iter().map(|known| known.as_ref()?.as_constant()).collect()
    }
}

fn product(dims: &[Size]) -> Size {
    // Zero first: nothing is as empty as a tensor with an unknown dimension beside one of 0.
    if dims.iter().flatten().any(|dim| dim.is(0)) {
        return Some(Expr::constant(0));
    }
    dims.iter().try_fold(Expr::constant(1), |product, dim| product.times(dim.as_ref()?))
}

/// No list here is longer than a file.
fn count(of: usize) -> i64 {
    (of as u64).cast_signed()
}

fn index(axis: i64, rank: usize) -> Option<usize> {
    let axis = if axis < 0 { axis.checked_add(i64::try_from(rank).ok()?)? } else { axis };
    usize::try_from(axis).ok().filter(|axis| *axis < rank)
}

/// Values by name, those of the graphs around behind those of the graph itself.
struct Scope<'g> {
    parent: Option<&'g Scope<'g>>,
    /// Steps of work that are left.
    work: &'g Cell<u64>,
    values: HashMap<&'g str, (Value, bool)>,
}

impl Scope<'_> {
    fn get(&self, name: &str) -> Option<&(Value, bool)> {
        let own = self.values.get(name);
        own.or_else(|| self.parent.and_then(|parent| parent.get(name)))
    }
}

/// Of a model that has passed the check; of others less is known.
pub(super) fn infer(model: &ModelProto, graph: &GraphProto) -> Shapes {
    of_inputs(model, graph, declared)
}

/// The same where the inputs' dimensions have these sizes: more is known then, but holds for them alone.
pub(super) fn infer_at(model: &ModelProto, graph: &GraphProto, sizes: &Sizes) -> Shapes {
    of_inputs(model, graph, |input| {
        let mut value = declared(input);
        let at = |dim: &Size| Some(Expr::constant(i64::try_from(dim.as_ref()?.at(sizes)?).ok()?));
        value.dims.iter_mut().flatten().for_each(|dim| *dim = at(dim));
        value
    })
}

fn of_inputs(model: &ModelProto, graph: &GraphProto, given: impl Fn(&ValueInfoProto) -> Value) -> Shapes {
    let standards = model.opset_import.iter().filter(|set| standard(&set.domain).is_empty());
    let version = standards.map(|set| set.version).max().unwrap_or(0);
    let work = Cell::new(WORK_MAX);
    let mut scope = Scope { parent: None, work: &work, values: HashMap::new() };
    scope.values.extend(graph.input.iter().map(|input| (input.name.as_str(), (given(input), false))));
    walk(graph, scope, version)
}

fn within<'g>(graph: &'g GraphProto, parent: &'g Scope<'g>, version: i64) -> Shapes {
    let mut scope = Scope { parent: Some(parent), work: parent.work, values: HashMap::new() };
    // A loop's body may be given other sizes each time.
    let given = |input| Value { dims: None, ..declared(input) };
    scope.values.extend(graph.input.iter().map(|input| (input.name.as_str(), (given(input), false))));
    walk(graph, scope, version)
}

fn walk<'g>(graph: &'g GraphProto, mut scope: Scope<'g>, version: i64) -> Shapes {
    for tensor in &graph.initializer {
        scope.values.insert(&tensor.name, (folding::tensor(tensor), true));
    }
    let mut nodes = Vec::with_capacity(graph.node.len());
    for node in &graph.node {
        let shapes = step(node, &scope, version);
        for (name, value) in node.output.iter().zip(&shapes.outputs).filter(|(name, _)| !name.is_empty()) {
            scope.values.insert(name, (value.clone(), shapes.steady));
        }
        nodes.push(shapes);
    }
    let outputs = graph
        .output
        .iter()
        .map(|output| scope.get(&output.name).map_or_else(Value::default, |(value, _)| value.clone()));
    Shapes { outputs: outputs.collect(), nodes, version }
}

/// What a node makes of what it takes.
fn step(node: &NodeProto, scope: &Scope<'_>, version: i64) -> NodeShapes {
    let weights = node.input.iter().filter_map(|name| scope.get(name)).map(|(value, _)| value.weight());
    scope.work.set(scope.work.get().saturating_sub(1 + weights.sum::<u64>()));
    let exhausted = scope.work.get() == 0;
    let taken = node.input.iter().map(|name| match scope.get(name) {
        Some((_, constant)) if exhausted => (Value::default(), *constant),
        Some(known) => known.clone(),
        None => (Value::default(), false),
    });
    let (inputs, constant): (Vec<Value>, Vec<bool>) = taken.unzip();
    let graphs = node.attribute.iter().flat_map(|attribute| attribute.g.iter().chain(&attribute.graphs));
    let within: Vec<_> = graphs.map(|graph| within(graph, scope, version)).collect();
    let mut shapes = NodeShapes { inputs, constant, within, ..NodeShapes::default() };
    let mut outputs = if exhausted {
        Vec::new()
    } else if node.op_type == "If" && standard(&node.domain).is_empty() {
        shapes.chosen = chosen(node, &shapes);
        branches(&shapes)
    } else {
        rules::outputs(&Site::new(node, &shapes.inputs, version))
    };
    outputs.resize(node.output.len(), Value::default());
    shapes.outputs = outputs;
    // What draws numbers or asks the surroundings gives others each time.
    let steady = !matches!(
        node.op_type.as_str(),
        "RandomNormal"
            | "RandomUniform"
            | "RandomNormalLike"
            | "RandomUniformLike"
            | "Multinomial"
            | "Bernoulli"
            | "If"
            | "Loop"
            | "Scan"
    );
    shapes.steady = steady
        && node.input.iter().zip(&shapes.constant).all(|(name, constant)| *constant || name.is_empty());
    shapes
}

/// Which of an `If`'s graphs runs, by its place among them.
fn chosen(node: &NodeProto, shapes: &NodeShapes) -> Option<usize> {
    let condition = shapes.inputs.first()?.numbers()?;
    let wanted = if *condition.first()? == 0 { "else_branch" } else { "then_branch" };
    node.attribute.iter().filter(|attribute| attribute.g.is_some()).position(|branch| branch.name == wanted)
}

/// What both branches agree on.
fn branches(shapes: &NodeShapes) -> Vec<Value> {
    if let Some(chosen) = shapes.chosen {
        return shapes.within[chosen].outputs.clone();
    }
    let [a, b] = shapes.within.as_slice() else { return Vec::new() };
    let agree = |(a, b): (&Value, &Value)| {
        let dims = |a: &Vec<Size>, b: &Vec<Size>| {
            let same = |(a, b): (&Size, &Size)| a.clone().filter(|_| a == b);
            (a.len() == b.len()).then(|| a.iter().zip(b).map(same).collect())
        };
        Value {
            element: a.element.filter(|_| a.element == b.element),
            dims: a.dims.as_ref().zip(b.dims.as_ref()).and_then(|(a, b)| dims(a, b)),
            known: a.known.clone().filter(|_| a.known == b.known),
        }
    };
    a.outputs.iter().zip(&b.outputs).map(agree).collect()
}

/// An input as the model declares it. A dimension without a name is called by its place, as `x[0]`.
pub(super) fn declared(port: &ValueInfoProto) -> Value {
    let Some(TypeValue::Tensor(tensor)) = port.r#type.as_ref().and_then(|r#type| r#type.value.as_ref())
    else {
        return Value::default();
    };
    let size = |(at, value): (usize, Option<&DimensionValue>)| match value {
        Some(DimensionValue::Size(size)) if *size >= 0 => Some(Expr::constant(*size)),
        // A question mark stands for any size, not for one that all of them have.
        Some(DimensionValue::Symbol(name)) if !matches!(name.as_str(), "" | "?") => Expr::symbol(name),
        _ => Expr::symbol(&format!("{}[{at}]", port.name)),
    };
    let dims = |shape: &super::proto::TensorShapeProto| {
        shape.dim.iter().map(|dim| dim.value.as_ref()).enumerate().map(size).collect()
    };
    Value::new(Some(tensor.elem_type).filter(|code| *code != 0), tensor.shape.as_ref().map(dims))
}
