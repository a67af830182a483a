//! What is split: a transformer, its feed-forward part alone in several widths, and a graph that computes next to
//! nothing.

use std::path::Path;

use rand::{RngExt, SeedableRng, rngs::StdRng};
use weft::domain::{Datatype, Tensor};

use crate::{
    graphs::{Dim, FLOAT, INT64, enclosed, field, graph, node, number, port, text},
    requests::{BROWSER, Model},
};

/// A step of 0.6 billion operations in 19 MB of weights: some 25 ms of one thread in WASM. What passes between two layers
/// is 64 KiB.
pub(super) const TRANSFORMER: &str = "6 layers of width 256 with 4 heads, 64 rows";
const LAYERS: usize = 6;
const WIDTH: u64 = 256;
const HEADS: u64 = 4;

pub(super) const ROWS: u64 = 64;

/// Of a feed-forward part within, in widths.
const WIDER: u64 = 4;

/// Elements that pass between the two halves of [`passing`]: 64 KiB.
const PASSED: u64 = 16 << 10;

/// Different inputs that requests go round.
const SETS: usize = 4;

const SEED: u64 = 51;

/// The attribute that says how a transposition orders dimensions, and the number of its type, a list of numbers.
const PERM: &str = "perm";
const INTS: u64 = 7;

/// A graph of `f32[rows, width]` from `x` to `y`, as it is written.
struct Graph {
    width: u64,
    random: StdRng,
    nodes: Vec<Vec<u8>>,
    weights: Vec<Vec<u8>>,
}

impl Graph {
    fn new(width: u64) -> Self {
        let random = StdRng::seed_from_u64(SEED);
        Self { width, random, nodes: Vec::new(), weights: Vec::new() }
    }

    fn node(&mut self, operator: &str, inputs: &[&str], output: &str) -> String {
        self.nodes.push(node(operator, inputs, &[output]));
        output.to_owned()
    }

    fn weight(&mut self, name: &str, dims: &[u64], values: &[u8], element: u64) {
        let dims: Vec<u8> = dims.iter().flat_map(|size| number(1, *size)).collect();
        self.weights.push([dims, number(2, element), text(8, name), field(9, values)].concat());
    }

    /// `from · w`, of a spread that keeps values about as large as they were.
    fn product(&mut self, from: &str, [rows, columns]: [u64; 2], output: &str) -> String {
        let most = (3.0 / rows as f32).sqrt();
        let values = floats(&mut self.random, rows * columns, -most..most);
        let weight = format!("{output}.weight");
        self.weight(&weight, &[rows, columns], &values, FLOAT);
        self.node("MatMul", &[from, &weight], output)
    }

    fn norm(&mut self, from: &str, output: &str) -> String {
        let scale = format!("{output}.scale");
        let values = floats(&mut self.random, self.width, 0.8..1.2);
        self.weight(&scale, &[self.width], &values, FLOAT);
        self.node("LayerNormalization", &[from, &scale], output)
    }

    fn transposed(&mut self, from: &str, order: [u64; 3], output: &str) -> String {
        let order: Vec<u8> = order.iter().flat_map(|dim| number(8, *dim)).collect();
        let attribute = field(5, &[text(1, PERM), order, number(20, INTS)].concat());
        self.nodes.push([node("Transpose", &[from], &[output]), attribute].concat());
        output.to_owned()
    }

    /// Rows as heads, or back, by the shape of this name.
    fn shaped(&mut self, from: &str, shape: &str, output: &str) -> String {
        self.node("Reshape", &[from, shape], output)
    }

    fn attention(&mut self, from: &str, name: &str) -> String {
        let square = [self.width; 2];
        let mut heads = |part: &str, order: [u64; 3]| {
            let flat = self.product(from, square, &format!("{name}.{part}"));
            let apart = self.shaped(&flat, "heads", &format!("{flat}.heads"));
            self.transposed(&apart, order, &format!("{flat}.turned"))
        };
        let (q, k, v) = (heads("q", [1, 0, 2]), heads("k", [1, 2, 0]), heads("v", [1, 0, 2]));
        let scores = self.node("MatMul", &[&q, &k], &format!("{name}.scores"));
        let scaled = self.node("Mul", &[&scores, "scale"], &format!("{name}.scaled"));
        let shares = self.node("Softmax", &[&scaled], &format!("{name}.shares"));
        let mixed = self.node("MatMul", &[&shares, &v], &format!("{name}.mixed"));
        let turned = self.transposed(&mixed, [1, 0, 2], &format!("{name}.back"));
        let flat = self.shaped(&turned, "rows", &format!("{name}.flat"));
        self.product(&flat, square, &format!("{name}.out"))
    }

    fn feed_forward(&mut self, from: &str, name: &str, output: &str) -> String {
        let (width, wide) = (self.width, WIDER * self.width);
        let up = self.product(from, [width, wide], &format!("{name}.up"));
        let active = self.node("Relu", &[&up], &format!("{name}.active"));
        self.product(&active, [wide, width], output)
    }

    fn write(&self, file: &Path) -> std::io::Result<()> {
        let port = |name| port(name, FLOAT, &[Dim::Size(ROWS), Dim::Size(self.width)]);
        std::fs::write(file, enclosed(&graph(&self.nodes, &[port("x")], &[port("y")], &self.weights)))
    }
}

/// Pre-normalised layers of attention and feed-forward. No dimension is open, so that no two requests share a step.
pub(super) fn transformer(folder: &Path) -> anyhow::Result<Model> {
    let mut graph = Graph::new(WIDTH);
    let longs = |values: &[u64]| values.iter().flat_map(|value| value.to_le_bytes()).collect::<Vec<_>>();
    let head = WIDTH / HEADS;
    graph.weight("heads", &[3], &longs(&[ROWS, HEADS, head]), INT64);
    graph.weight("rows", &[2], &longs(&[ROWS, WIDTH]), INT64);
    graph.weight("scale", &[], &(head as f32).sqrt().recip().to_le_bytes(), FLOAT);
    let mut value = "x".to_owned();
    for layer in 0..LAYERS {
        let name = |part: &str| format!("layer{layer}.{part}");
        let normed = graph.norm(&value, &name("before"));
        let attended = graph.attention(&normed, &name("attention"));
        let between = graph.node("Add", &[&value, &attended], &name("attended"));
        let normed = graph.norm(&between, &name("between"));
        let fed = graph.feed_forward(&normed, &name("feed"), &name("fed"));
        value = graph.node("Add", &[&between, &fed], &name("done"));
    }
    graph.norm(&value, "y");
    model(folder, "transformer", &graph)
}

/// A feed-forward part alone.
pub(super) fn feed_forward(folder: &Path, width: u64) -> anyhow::Result<Model> {
    let mut graph = Graph::new(width);
    let normed = graph.norm("x", "before");
    graph.feed_forward(&normed, "feed", "y");
    model(folder, &format!("feed-forward-{width}"), &graph)
}

/// Two halves of which each takes and makes 64 KiB.
pub(super) fn passing(folder: &Path) -> anyhow::Result<Model> {
    let mut graph = Graph::new(PASSED / ROWS);
    let half = graph.node("Tanh", &["x"], "half");
    graph.node("Tanh", &[&half], "y");
    model(folder, "passing", &graph)
}

fn model(folder: &Path, name: &str, graph: &Graph) -> anyhow::Result<Model> {
    let file = folder.join(format!("{name}.onnx"));
    graph.write(&file)?;
    let mut random = StdRng::seed_from_u64(SEED);
    let mut set = || {
        vec![Tensor {
            name: "x".to_owned(),
            datatype: Datatype::Fp32,
            shape: vec![ROWS, graph.width],
            body: floats(&mut random, ROWS * graph.width, -1.0..1.0).into(),
        }]
    };
    let sets = (0..SETS).map(|_| set()).collect();
    Ok(Model { name: name.to_owned(), browser: BROWSER, file, sets, written: Vec::new() })
}

fn floats(random: &mut StdRng, count: u64, range: std::ops::Range<f32>) -> Vec<u8> {
    (0..count).flat_map(|_| random.random_range(range.clone()).to_le_bytes()).collect()
}
