use std::collections::BTreeMap;

use bytes::Bytes;

use super::fuse;
use crate::{
    kernels::{
        host::Host,
        ir::{Call, Routine},
        lower::Model,
        reference,
    },
    onnx::{
        build,
        proto::{AttributeProto, GraphProto, NodeProto, OperatorSetIdProto, TensorProto, element},
    },
};

/// A graph whose weights and inputs are made up.
#[derive(Default)]
struct Graph {
    nodes: Vec<NodeProto>,
    inputs: Vec<(String, Vec<usize>)>,
    weights: Vec<TensorProto>,
    made: usize,
}

/// Numbers around 0 without an order.
fn noise(seed: usize, count: usize) -> Vec<f32> {
    let mut state = seed as u32 + 1;
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 8) as f32 / (1 << 23) as f32 - 1.0
    };
    (0..count).map(|_| next()).collect()
}

impl Graph {
    fn input(&mut self, shape: &[usize]) -> String {
        let name = format!("x{}", self.inputs.len());
        self.inputs.push((name.clone(), shape.to_vec()));
        name
    }

    fn tensor(&mut self, data_type: i32, shape: &[usize], raw: Vec<u8>) -> String {
        let name = format!("w{}", self.weights.len());
        let dims: Vec<i64> = shape.iter().map(|size| *size as i64).collect();
        let tensor = build::weights(&name, data_type, &dims);
        self.weights.push(TensorProto { raw_data: raw.into(), ..tensor });
        name
    }

    fn weight(&mut self, shape: &[usize]) -> String {
        let values = noise(100 + self.weights.len(), shape.iter().product());
        self.tensor(element::FLOAT, shape, values.iter().flat_map(|value| value.to_le_bytes()).collect())
    }

    fn number(&mut self, value: f32) -> String {
        self.tensor(element::FLOAT, &[], value.to_le_bytes().to_vec())
    }

    fn list(&mut self, values: &[i64]) -> String {
        let bytes = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        self.tensor(element::INT64, &[values.len()], bytes)
    }

    fn with(&mut self, operator: &str, inputs: &[&str], attributes: Vec<AttributeProto>) -> String {
        self.made += 1;
        let name = format!("v{}", self.made);
        let mut node = build::node(operator, inputs, &[&name]);
        if matches!(operator, "MatMulNBits") {
            node.domain = "com.microsoft".to_owned();
        }
        node.attribute = attributes;
        self.nodes.push(node);
        name
    }

    fn node(&mut self, operator: &str, inputs: &[&str]) -> String {
        self.with(operator, inputs, Vec::new())
    }

    fn reshape(&mut self, x: &str, sizes: &[i64]) -> String {
        let sizes = self.list(sizes);
        self.node("Reshape", &[x, &sizes])
    }

    fn transpose(&mut self, x: &str, order: &[i64]) -> String {
        self.with("Transpose", &[x], vec![build::numbers("perm", order)])
    }

    fn lowered(&self, outputs: &[&str]) -> Routine {
        let size = |size: &usize| build::size(*size as i64);
        let input = |(name, shape): &(String, Vec<usize>)| {
            build::port(name, element::FLOAT, &shape.iter().map(size).collect::<Vec<_>>())
        };
        let graph = GraphProto {
            name: "graph".to_owned(),
            node: self.nodes.clone(),
            initializer: self.weights.clone(),
            input: self.inputs.iter().map(input).collect(),
            output: outputs.iter().map(|name| build::port(name, element::FLOAT, &[])).collect(),
            ..GraphProto::default()
        };
        let mut model = build::model(graph);
        model.opset_import.push(OperatorSetIdProto { domain: "com.microsoft".to_owned(), version: 1 });
        let model = Model::read(&build::bytes(&model), "model").expect("a good model");
        model
            .lower(&self.inputs.iter().cloned().collect(), &BTreeMap::new(), None)
            .expect("covered operators")
    }

    /// What is computed stays, and the calls become these.
    fn becomes(&self, outputs: &[&str], expected: &[&str]) -> Routine {
        let fused = self.agrees(outputs);
        assert_eq!(kinds(&fused.calls), expected, "{:#?}", fused.calls);
        fused
    }

    fn agrees(&self, outputs: &[&str]) -> Routine {
        let routine = self.lowered(outputs);
        let values = self
            .inputs
            .iter()
            .enumerate()
            .map(|(at, (name, shape))| (name.clone(), Host::F32(noise(at, shape.iter().product()))));
        let values: BTreeMap<String, Host> = values.collect();
        let none = |_: &str, _: u64, _: usize| None::<Bytes>;
        let wanted = reference::run_all(&routine, &values, &none).expect("it can be computed");
        let fused = fuse(routine.clone());
        assert!(fused.calls.len() <= routine.calls.len());
        let made = reference::run_all(&fused, &values, &none).expect("it can be computed");
        for (name, wanted) in &wanted {
            let (wanted, made) = (wanted.floats().expect("floats"), made[name].floats().expect("floats"));
            let most = wanted.iter().fold(1f32, |most, value| most.max(value.abs()));
            for (at, (wanted, made)) in wanted.iter().zip(made).enumerate() {
                let near = (wanted - made).abs() <= 1e-5 * most;
                assert!(near, "{name}: {made} for {wanted} at {at}\n{:#?}", fused.calls);
            }
        }
        fused
    }
}

fn kinds(calls: &[Call]) -> Vec<&'static str> {
    let kind = |call: &Call| match call {
        Call::Map(_) => "map",
        Call::Gather(_) => "gather",
        Call::Reduce(_) => "reduce",
        Call::Softmax(_) => "softmax",
        Call::Norm(_) => "norm",
        Call::MatMul(_) => "product",
        Call::MatMulBits(_) => "bits",
        Call::GatherBits(_) => "gather bits",
        Call::Attention(_) => "attention",
        Call::Rotary(_) => "rotary",
        Call::Keep(_) => "keep",
        Call::Conv(_) => "conv",
        Call::Pool(_) => "pool",
    };
    calls.iter().map(kind).collect()
}

#[test]
fn maps_become_the_map_that_alone_reads_them() {
    let mut graph = Graph::default();
    let (x, y) = (graph.input(&[3, 5]), graph.input(&[5]));
    let sum = graph.node("Add", &[&x, &y]);
    let shown = graph.node("Exp", &[&sum]);
    let turned = graph.transpose(&shown, &[1, 0]);
    let flat = graph.reshape(&turned, &[15]);
    let end = graph.node("Neg", &[&flat]);
    graph.becomes(&[&end], &["map"]);
    // Who is read elsewhere too stays.
    graph.becomes(&[&end, &shown], &["map", "map"]);
    // What a row has once is not computed for each of it.
    let mut graph = Graph::default();
    let (x, y) = (graph.input(&[3, 5]), graph.input(&[3, 1]));
    let root = graph.node("Exp", &[&y]);
    let end = graph.node("Mul", &[&x, &root]);
    graph.becomes(&[&end], &["map", "map"]);
}

#[test]
fn parts_that_are_put_together_are_written_where_they_end() {
    let mut graph = Graph::default();
    let (x, y) = (graph.input(&[2, 3, 4]), graph.input(&[2, 3, 4]));
    let (left, right) = (graph.node("Exp", &[&x]), graph.node("Tanh", &[&y]));
    let end = graph.with("Concat", &[&left, &right], vec![build::number("axis", -1)]);
    graph.becomes(&[&end], &["map", "map"]);
}

/// Squares of what an order of axes, a part or a sum leaves of a value.
#[test]
fn any_walk_through_a_map_is_followed() {
    for seed in 0..60 {
        let mut graph = Graph::default();
        let mut choice = noise(seed, 64).into_iter().map(|value| ((value + 1.0) * 500.0) as usize);
        let mut pick = |count: usize| choice.next().expect("enough of them") % count;
        let mut shape = vec![2, 3, 4];
        let mut x = graph.input(&shape);
        for _ in 0..6 {
            x = graph.node("Sigmoid", &[&x]);
            match pick(4) {
                0 => {
                    let order = [[0, 2, 1], [1, 0, 2], [2, 1, 0], [2, 0, 1], [1, 2, 0]][pick(5)];
                    x = graph.transpose(&x, &order.map(|at| at as i64));
                    shape = order.iter().map(|at| shape[*at]).collect();
                }
                1 => {
                    let all: usize = shape.iter().product();
                    let first = [1, 2, 3, 4][pick(4)];
                    if all.is_multiple_of(first) {
                        let second = if (all / first).is_multiple_of(2) { 2 } else { 1 };
                        shape = vec![first, second, all / first / second];
                        let sizes: Vec<i64> = shape.iter().map(|size| *size as i64).collect();
                        x = graph.reshape(&x, &sizes);
                    }
                }
                2 => {
                    let other = graph.weight(&[shape[1], 1]);
                    x = graph.node("Add", &[&x, &other]);
                }
                _ => {
                    let axis = pick(3);
                    if shape[axis] > 1 {
                        let lists = [&[1i64][..], &[i64::MAX], &[axis as i64]].map(|list| graph.list(list));
                        x = graph.node("Slice", &[&x, &lists[0], &lists[1], &lists[2]]);
                        shape[axis] -= 1;
                    }
                }
            }
        }
        let end = graph.node("Exp", &[&x]);
        graph.agrees(&[&end]);
    }
}

/// A layer with its bias.
fn linear(graph: &mut Graph, x: &str, from: usize, to: usize) -> String {
    let (weight, bias) = (graph.weight(&[from, to]), graph.weight(&[to]));
    let product = graph.node("MatMul", &[x, &weight]);
    graph.node("Add", &[&product, &bias])
}

#[test]
fn activations_that_are_written_out_end_a_product() {
    let by_erf = |graph: &mut Graph, x: &str| {
        let (root, one, half) =
            (graph.number(std::f32::consts::SQRT_2), graph.number(1.0), graph.number(0.5));
        let inner = graph.node("Div", &[x, &root]);
        let inner = graph.node("Erf", &[&inner]);
        let weight = graph.node("Add", &[&inner, &one]);
        let product = graph.node("Mul", &[x, &weight]);
        graph.node("Mul", &[&product, &half])
    };
    let by_tanh = |graph: &mut Graph, x: &str| {
        let (bend, root) = (graph.number(0.044_715), graph.number((2.0 / std::f32::consts::PI).sqrt()));
        let (one, half) = (graph.number(1.0), graph.number(0.5));
        let square = graph.node("Mul", &[x, x]);
        let cube = graph.node("Mul", &[&square, x]);
        let bent = graph.node("Mul", &[&cube, &bend]);
        let inner = graph.node("Add", &[x, &bent]);
        let inner = graph.node("Mul", &[&inner, &root]);
        let inner = graph.node("Tanh", &[&inner]);
        let weight = graph.node("Add", &[&inner, &one]);
        let product = graph.node("Mul", &[x, &weight]);
        graph.node("Mul", &[&product, &half])
    };
    let by_sigmoid = |graph: &mut Graph, x: &str| {
        let weight = graph.node("Sigmoid", &[x]);
        graph.node("Mul", &[x, &weight])
    };
    let plain = |graph: &mut Graph, x: &str| graph.node("Relu", &[x]);
    let cases: [&dyn Fn(&mut Graph, &str) -> String; 4] = [&by_erf, &by_tanh, &by_sigmoid, &plain];
    for activate in cases {
        let mut graph = Graph::default();
        let x = graph.input(&[2, 3, 5]);
        let y = linear(&mut graph, &x, 5, 9);
        let end = activate(&mut graph, &y);
        let fused = graph.becomes(&[&end], &["product"]);
        let Call::MatMul(product) = &fused.calls[0] else { unreachable!("asserted above") };
        assert!(product.bias.is_some() && product.activation.is_some() && product.m == 6, "{product:?}");
    }
}

#[test]
fn weights_of_few_bits_and_convolutions_end_with_a_bias_too() {
    let mut graph = Graph::default();
    let x = graph.input(&[2, 3, 32]);
    let numbers = graph.tensor(element::UINT8, &[5, 1, 16], (0..80).collect());
    let (scales, bias) = (graph.weight(&[5]), graph.weight(&[5]));
    let sizes = [("K", 32), ("N", 5), ("bits", 4), ("block_size", 32)];
    let sizes = sizes.map(|(name, size)| build::number(name, size)).to_vec();
    let product = graph.with("MatMulNBits", &[&x, &numbers, &scales], sizes);
    let sum = graph.node("Add", &[&product, &bias]);
    let end = graph.node("Relu", &[&sum]);
    graph.becomes(&[&end], &["bits"]);
    // A sum with another of its own size is no bias.
    let other = graph.input(&[2, 3, 5]);
    let rest = graph.node("Add", &[&product, &other]);
    graph.becomes(&[&rest], &["bits", "map"]);

    let mut graph = Graph::default();
    let (x, weight, bias) = (graph.input(&[1, 3, 9]), graph.weight(&[6, 3, 3]), graph.weight(&[6, 1]));
    let conv = graph.node("Conv", &[&x, &weight]);
    let sum = graph.node("Add", &[&conv, &bias]);
    let end = graph.node("Relu", &[&sum]);
    graph.becomes(&[&end], &["conv"]);
}

/// How attention is written.
#[derive(Clone, Copy, Debug)]
struct Form {
    batch: usize,
    tokens: usize,
    /// Of queries, for each of the keys.
    shared: usize,
    /// The queries are scaled, else the scores are.
    early: bool,
    mask: Option<[usize; 4]>,
}

impl Form {
    fn written(self, graph: &mut Graph) -> String {
        let Self { batch, tokens, shared, early, mask } = self;
        let (key_heads, size, width) = (3usize, 4usize, 12 * shared);
        let x = graph.input(&[batch, tokens, 12]);
        let scale = graph.number(0.5);
        let heads = |graph: &mut Graph, heads: usize| {
            let all = linear(graph, &x, 12, heads * size);
            let split = graph.reshape(&all, &[0, 0, heads as i64, size as i64]);
            graph.transpose(&split, &[0, 2, 1, 3])
        };
        let (mut q, k, v) =
            (heads(graph, key_heads * shared), heads(graph, key_heads), heads(graph, key_heads));
        let k = graph.transpose(&k, &[0, 1, 3, 2]);
        if early {
            q = graph.node("Mul", &[&q, &scale]);
        }
        if shared > 1 {
            q = graph.reshape(&q, &[0, key_heads as i64, -1, size as i64]);
        }
        let mut scores = graph.node("MatMul", &[&q, &k]);
        if shared > 1 {
            scores = graph.reshape(&scores, &[0, (key_heads * shared) as i64, -1, tokens as i64]);
        }
        if !early {
            scores = graph.node("Div", &[&scores, &scale]);
        }
        if let Some(shape) = mask {
            let mask = graph.input(&shape);
            scores = graph.node("Add", &[&scores, &mask]);
        }
        let mut shares = graph.with("Softmax", &[&scores], vec![build::number("axis", -1)]);
        if shared > 1 {
            shares = graph.reshape(&shares, &[0, key_heads as i64, -1, tokens as i64]);
        }
        let mut mixed = graph.node("MatMul", &[&shares, &v]);
        if shared > 1 {
            mixed = graph.reshape(&mixed, &[0, (key_heads * shared) as i64, -1, size as i64]);
        }
        let mixed = graph.transpose(&mixed, &[0, 2, 1, 3]);
        let joined = graph.reshape(&mixed, &[0, 0, width as i64]);
        linear(graph, &joined, width, 7)
    }
}

#[test]
fn attention_that_is_written_out_is_one_call() {
    for (batch, tokens) in [(1, 5), (2, 5), (1, 1), (2, 1)] {
        for shared in [1, 2] {
            let heads = 3 * shared;
            let masks = [
                None,
                Some([1, 1, tokens, tokens]),
                Some([batch, 1, 1, tokens]),
                Some([batch, 1, tokens, tokens]),
                Some([1, heads, tokens, tokens]),
                Some([batch, heads, tokens, tokens]),
            ];
            for mask in masks {
                for early in [true, false] {
                    let form = Form { batch, tokens, shared, early, mask };
                    let mut graph = Graph::default();
                    let end = form.written(&mut graph);
                    let fused = graph.agrees(&[&end]);
                    let expected = ["product", "product", "product", "attention", "product"];
                    assert_eq!(kinds(&fused.calls), expected, "{form:?}\n{:#?}", fused.calls);
                }
            }
        }
    }
}

/// By their means, squares and roots.
fn norm(graph: &mut Graph, x: &str, layer: bool, bias: bool) -> String {
    let mean = |graph: &mut Graph, x: &str| {
        let attributes = vec![build::numbers("axes", &[-1]), build::number("keepdims", 1)];
        graph.with("ReduceMean", &[x], attributes)
    };
    let (two, epsilon) = (graph.number(2.0), graph.number(1e-5));
    let x = if layer {
        let mean = mean(graph, x);
        graph.node("Sub", &[x, &mean])
    } else {
        x.to_owned()
    };
    let square = graph.node("Pow", &[&x, &two]);
    let square = mean(graph, &square);
    let sum = graph.node("Add", &[&square, &epsilon]);
    let root = graph.node("Sqrt", &[&sum]);
    let normal = graph.node("Div", &[&x, &root]);
    let scale = graph.weight(&[9]);
    let scaled = graph.node("Mul", &[&normal, &scale]);
    if !bias {
        return scaled;
    }
    let bias = graph.weight(&[9]);
    graph.node("Add", &[&scaled, &bias])
}

#[test]
fn norms_that_are_written_out_are_one_call_with_what_is_added_before() {
    for shape in [&[2, 3, 9][..], &[1, 9], &[4, 9]] {
        for (layer, bias) in [(false, false), (true, false), (true, true)] {
            let mut graph = Graph::default();
            let x = graph.input(shape);
            let end = norm(&mut graph, &x, layer, bias);
            graph.becomes(&[&end], &["norm"]);

            let y = graph.input(shape);
            let sum = graph.node("Add", &[&x, &y]);
            let end = norm(&mut graph, &sum, layer, bias);
            graph.becomes(&[&end], &["norm"]);
            // The sum is read again behind the norm.
            let fed = linear(&mut graph, &end, 9, 9);
            let rest = graph.node("Add", &[&fed, &sum]);
            let fused = graph.becomes(&[&rest], &["norm", "product", "map"]);
            let Call::Norm(norm) = &fused.calls[0] else { unreachable!("asserted above") };
            assert!(norm.sum.is_some() && norm.skip.is_some(), "{norm:?}");
        }
    }
}
