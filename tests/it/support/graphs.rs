//! Small ONNX files, encoded by hand: a field is its number and wire type, then its value.

#![allow(dead_code, reason = "each target that includes this file uses its own part of it")]

/// Element types as ONNX numbers them.
pub(crate) const FLOAT: u64 = 1;
pub(crate) const INT64: u64 = 7;
pub(crate) const STRING: u64 = 8;

/// `y = -x`, both `f32[n, 4]`: what most tests run.
pub(crate) fn neg() -> Vec<u8> {
    of(&[("Neg", &["x"], &["y"])])
}

/// An operator with its inputs and outputs.
pub(crate) type Node<'a> = (&'a str, &'a [&'a str], &'a [&'a str]);

/// From `x` to `y`, both `f32[n, 4]`, by these nodes.
pub(crate) fn of(nodes: &[Node<'_>]) -> Vec<u8> {
    with_weights(nodes, &[])
}

/// From these values to those by these nodes, all `f32[n, 4]`.
pub(crate) fn part(nodes: &[Node<'_>], inputs: &[&str], outputs: &[&str]) -> Vec<u8> {
    let ports = |names: &[&str]| -> Vec<_> {
        names.iter().map(|name| port(name, FLOAT, &[Dim::Symbol("n"), Dim::Size(4)])).collect()
    };
    let nodes: Vec<_> =
        nodes.iter().map(|(operator, inputs, outputs)| node(operator, inputs, outputs)).collect();
    model(&nodes, &ports(inputs), &ports(outputs), &[])
}

fn with_weights(nodes: &[Node<'_>], weights: &[Vec<u8>]) -> Vec<u8> {
    let port = |name| port(name, FLOAT, &[Dim::Symbol("n"), Dim::Size(4)]);
    let nodes: Vec<_> =
        nodes.iter().map(|(operator, inputs, outputs)| node(operator, inputs, outputs)).collect();
    model(&nodes, &[port("x")], &[port("y")], weights)
}

/// `y = x + w`, where `w` is `f32[size]` in so many bytes.
pub(crate) fn weighing(size: u64, bytes: usize) -> Vec<u8> {
    let weight = [number(1, size), number(2, FLOAT), text(8, "w"), field(9, &vec![0; bytes])].concat();
    with_weights(&[("Add", &["x", "w"], &["y"])], &[weight])
}

/// `y = x + w`, where `x` has one element or as many as `w`, which is `f32[size]` in a file beside it.
pub(crate) fn weighing_outside(size: u64, file: &str, offset: u64, length: u64) -> Vec<u8> {
    let weight = outside(&[size], "w", file, offset, length);
    let port = |name, symbol| port(name, FLOAT, &[Dim::Symbol(symbol)]);
    model(&[node("Add", &["x", "w"], &["y"])], &[port("x", "n")], &[port("y", "m")], &[weight])
}

/// `y = w[x]`, where `w` is 0, 1, 2, … in so many elements, and `x` says which.
pub(crate) fn table(size: u32) -> Vec<u8> {
    let values: Vec<u8> = (0..size).flat_map(|at| (at as f32).to_le_bytes()).collect();
    let weight = [number(1, size.into()), number(2, FLOAT), text(8, "w"), field(9, &values)].concat();
    let port = |name, element| port(name, element, &[Dim::Symbol("n")]);
    model(&[node("Gather", &["w", "x"], &["y"])], &[port("x", INT64)], &[port("y", FLOAT)], &[weight])
}

/// `y = x · (xᵀ · x)`, both `f32[n, 4]`: each row's answer is made of all rows.
pub(crate) fn mixing() -> Vec<u8> {
    let port = |name| port(name, FLOAT, &[Dim::Symbol("n"), Dim::Size(4)]);
    let nodes = [
        node("Transpose", &["x"], &["t"]),
        node("MatMul", &["t", "x"], &["square"]),
        node("MatMul", &["x", "square"], &["y"]),
    ];
    model(&nodes, &[port("x")], &[port("y")], &[])
}

/// `y = (x · xᵀ) · x`, its first half, which makes `h` of as many columns as rows, and its second.
pub(crate) fn widening() -> [Vec<u8>; 3] {
    let port = |name, columns| port(name, FLOAT, &[Dim::Symbol("n"), columns]);
    let (x, y, h) = ([port("x", Dim::Size(4))], [port("y", Dim::Size(4))], [port("h", Dim::Symbol("n"))]);
    let nodes = [
        node("Transpose", &["x"], &["t"]),
        node("MatMul", &["x", "t"], &["h"]),
        node("MatMul", &["h", "x"], &["y"]),
    ];
    [
        model(&nodes, &x, &y, &[]),
        model(&nodes[..2], &x, &h, &[]),
        model(&nodes[2..], &[h, x].concat(), &y, &[]),
    ]
}

/// `y = x`, both of any length.
pub(crate) fn identity(element: u64) -> Vec<u8> {
    let port = |name| port(name, element, &[Dim::Symbol("n")]);
    model(&[node("Identity", &["x"], &["y"])], &[port("x")], &[port("y")], &[])
}

/// `y = a + b`, all of any length.
pub(crate) fn sum() -> Vec<u8> {
    let port = |name| port(name, FLOAT, &[Dim::Symbol("n")]);
    model(&[node("Add", &["a", "b"], &["y"])], &[port("a"), port("b")], &[port("y")], &[])
}

/// `y = x - x`: right wherever it runs, so that it proves nothing.
pub(crate) fn constant() -> Vec<u8> {
    let port = |name| port(name, FLOAT, &[Dim::Symbol("n"), Dim::Size(4)]);
    model(&[node("Sub", &["x", "x"], &["y"])], &[port("x")], &[port("y")], &[])
}

/// `y = x + w` with `w` in another file.
pub(crate) fn external(file: &str) -> Vec<u8> {
    let port = |name| port(name, FLOAT, &[Dim::Size(4)]);
    let location = [text(1, "location"), text(2, file)].concat();
    let weight = [number(1, 4), number(2, FLOAT), text(8, "w"), field(13, &location), number(14, 1)].concat();
    model(&[node("Add", &["x", "w"], &["y"])], &[port("x")], &[port("y")], &[weight])
}

/// Layers of `max(x · w, 0)`, `f32[n, width]` from end to end; each weight is the bytes of `f32[width, width]`.
pub(crate) fn dense(width: u64, weights: &[Vec<u8>]) -> Vec<u8> {
    dense_part(width, weights, "x", "y")
}

/// The same between other values.
pub(crate) fn dense_part(width: u64, weights: &[Vec<u8>], from: &str, to: &str) -> Vec<u8> {
    let port = |name| port(name, FLOAT, &[Dim::Symbol("n"), Dim::Size(width)]);
    let (mut nodes, mut initializers, mut input) = (Vec::new(), Vec::new(), from.to_owned());
    for (at, values) in weights.iter().enumerate() {
        let (weight, product) = (format!("w{at}"), format!("p{at}"));
        let output = if at + 1 == weights.len() { to.to_owned() } else { format!("h{at}") };
        nodes.push(node("MatMul", &[&input, &weight], &[&product]));
        nodes.push(node("Relu", &[&product], &[&output]));
        let dims = [number(1, width), number(1, width)].concat();
        initializers.push([dims, number(2, FLOAT), text(8, &weight), field(9, values)].concat());
        input = output;
    }
    model(&nodes, &[port(from)], &[port(to)], &initializers)
}

/// One layer as `dense` has it, with its weight in another file.
pub(crate) fn dense_outside(width: u64, file: &str) -> Vec<u8> {
    let port = |name| port(name, FLOAT, &[Dim::Symbol("n"), Dim::Size(width)]);
    let dims = [number(1, width), number(1, width)].concat();
    let location = [text(1, "location"), text(2, file)].concat();
    let weight = [dims, number(2, FLOAT), text(8, "w0"), field(13, &location), number(14, 1)].concat();
    let nodes = [node("MatMul", &["x", "w0"], &["p0"]), node("Relu", &["p0"], &["y"])];
    model(&nodes, &[port("x")], &[port("y")], &[weight])
}

/// A chain of products, `f32[n, width]` from end to end; the weights, `f32[width, width]`, lie at these places: a file and an
/// offset.
pub(crate) fn products_outside(width: u64, places: &[(&str, u64)]) -> Vec<u8> {
    let port = |name| port(name, FLOAT, &[Dim::Symbol("n"), Dim::Size(width)]);
    let (mut nodes, mut initializers, mut input) = (Vec::new(), Vec::new(), "x".to_owned());
    for (at, (file, offset)) in places.iter().enumerate() {
        let weight = format!("w{at}");
        let output = if at + 1 == places.len() { "y".to_owned() } else { format!("h{at}") };
        nodes.push(node("MatMul", &[&input, &weight], &[&output]));
        initializers.push(outside(&[width, width], &weight, file, *offset, width * width * 4));
        input = output;
    }
    model(&nodes, &[port("x")], &[port("y")], &initializers)
}

/// A tensor of `f32` that lies in another file.
fn outside(dims: &[u64], name: &str, file: &str, offset: u64, length: u64) -> Vec<u8> {
    let entries =
        [("location", file.to_owned()), ("offset", offset.to_string()), ("length", length.to_string())];
    let entry = |(key, value): (&str, String)| field(13, &[text(1, key), text(2, &value)].concat());
    let dims: Vec<u8> = dims.iter().flat_map(|size| number(1, *size)).collect();
    let place: Vec<u8> = entries.into_iter().flat_map(entry).collect();
    [dims, number(2, FLOAT), text(8, name), place, number(14, 1)].concat()
}

/// `y = (x - mean) / sqrt(variance + 1e-12) · w` over all of `f32[n, 4]`, as exporters write a norm; `w` turns nothing.
pub(crate) fn norm() -> Vec<u8> {
    let port = |name| port(name, FLOAT, &[Dim::Symbol("n"), Dim::Size(4)]);
    let nodes = [
        node("ReduceMean", &["x"], &["mean"]),
        node("Sub", &["x", "mean"], &["d"]),
        node("Pow", &["d", "two"], &["square"]),
        node("ReduceMean", &["square"], &["variance"]),
        node("Add", &["variance", "epsilon"], &["above"]),
        node("Sqrt", &["above"], &["deviation"]),
        node("Div", &["d", "deviation"], &["normed"]),
        node("MatMul", &["normed", "w"], &["y"]),
    ];
    let tensor = |name: &str, dims: &[u64], values: &[f32]| {
        let dims: Vec<u8> = dims.iter().flat_map(|size| number(1, *size)).collect();
        let values: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        [dims, number(2, FLOAT), text(8, name), field(9, &values)].concat()
    };
    let identity: Vec<f32> = (0..16).map(|at| if at % 5 == 0 { 1.0 } else { 0.0 }).collect();
    let weights =
        [tensor("two", &[], &[2.0]), tensor("epsilon", &[], &[1e-12]), tensor("w", &[4, 4], &identity)];
    model(&nodes, &[port("x")], &[port("y")], &weights)
}

/// `last_hidden_state[b, s, 2]` of `input_ids[b, s]`: token `t` has the vector `(t, 1)`, of so many tokens.
pub(crate) fn lookup(tokens: u64) -> Vec<u8> {
    let values: Vec<u8> =
        (0..tokens).flat_map(|token| [token as f32, 1.0]).flat_map(f32::to_le_bytes).collect();
    let table =
        [number(1, tokens), number(1, 2), number(2, FLOAT), text(8, "table"), field(9, &values)].concat();
    let ids = port("input_ids", INT64, &[Dim::Symbol("b"), Dim::Symbol("s")]);
    let vectors = port("last_hidden_state", FLOAT, &[Dim::Symbol("b"), Dim::Symbol("s"), Dim::Size(2)]);
    model(&[node("Gather", &["table", "input_ids"], &["last_hidden_state"])], &[ids], &[vectors], &[table])
}

pub(crate) enum Dim {
    Size(u64),
    Symbol(&'static str),
}

fn model(nodes: &[Vec<u8>], inputs: &[Vec<u8>], outputs: &[Vec<u8>], weights: &[Vec<u8>]) -> Vec<u8> {
    enclosed(&graph(nodes, inputs, outputs, weights))
}

/// A graph as a model.
pub(crate) fn enclosed(graph: &[u8]) -> Vec<u8> {
    let opset = [text(1, ""), number(2, 17)].concat();
    [number(1, 8), field(7, graph), field(8, &opset)].concat()
}

pub(crate) fn graph(
    nodes: &[Vec<u8>],
    inputs: &[Vec<u8>],
    outputs: &[Vec<u8>],
    weights: &[Vec<u8>],
) -> Vec<u8> {
    let mut graph = repeated(1, nodes);
    graph.extend(text(2, "graph"));
    graph.extend(repeated(5, weights));
    graph.extend(repeated(11, inputs));
    graph.extend(repeated(12, outputs));
    graph
}

pub(crate) fn node(operator: &str, inputs: &[&str], outputs: &[&str]) -> Vec<u8> {
    let names = |tag, names: &[&str]| names.iter().flat_map(|name| text(tag, name)).collect::<Vec<_>>();
    [names(1, inputs), names(2, outputs), text(4, operator)].concat()
}

pub(crate) fn port(name: &str, element: u64, dims: &[Dim]) -> Vec<u8> {
    let dim = |dim: &Dim| match dim {
        Dim::Size(size) => field(1, &number(1, *size)),
        Dim::Symbol(symbol) => field(1, &text(2, symbol)),
    };
    let shape: Vec<u8> = dims.iter().flat_map(dim).collect();
    let tensor = [number(1, element), field(2, &shape)].concat();
    [text(1, name), field(2, &field(1, &tensor))].concat()
}

fn repeated(tag: u64, parts: &[Vec<u8>]) -> Vec<u8> {
    parts.iter().map(|part| field(tag, part)).collect::<Vec<_>>().concat()
}

pub(crate) fn text(tag: u64, text: &str) -> Vec<u8> {
    field(tag, text.as_bytes())
}

pub(crate) fn field(tag: u64, bytes: &[u8]) -> Vec<u8> {
    [varint(tag << 3 | 2), varint(bytes.len() as u64), bytes.to_vec()].concat()
}

pub(crate) fn number(tag: u64, value: u64) -> Vec<u8> {
    [varint(tag << 3), varint(value)].concat()
}

fn varint(mut value: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    while value > 0x7f {
        bytes.push(value as u8 | 0x80);
        value >>= 7;
    }
    bytes.push(value as u8);
    bytes
}
