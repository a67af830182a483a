//! Transformers of any size with seeded weights: one head per layer, norms behind each half.

use rand::{RngExt, SeedableRng, rngs::Xoshiro256PlusPlus};
use weft::domain::{Datatype, Tensor};

use crate::graphs::{self, Dim, FLOAT, field, node, number, text};

/// Elements of the noise that weights are cut from: none of them is as long as this in a small model, and a large one's
/// repeat themselves, which no engine can make use of.
const NOISE: usize = (1 << 20) + 7;

/// `y` of `x`, both `f32[batch, sequence, width]`: so many layers of 16 nodes, then an attention of 10.
#[derive(Clone, Copy, Debug)]
pub(super) struct Transformer {
    pub(super) layers: usize,
    pub(super) width: u64,
}

struct Draw {
    noise: Vec<u8>,
    random: Xoshiro256PlusPlus,
    width: u64,
    nodes: Vec<Vec<u8>>,
    weights: Vec<Vec<u8>>,
    names: usize,
}

impl Transformer {
    pub(super) fn file(self) -> Vec<u8> {
        let mut random = Xoshiro256PlusPlus::seed_from_u64(self.width);
        // What a product makes is then about as large as what it reads.
        let reach = (3.0 / self.width as f32).sqrt();
        let noise = (0..NOISE).flat_map(|_| random.random_range(-reach..reach).to_le_bytes()).collect();
        let (nodes, weights) = (Vec::new(), Vec::new());
        let mut draw = Draw { noise, random, width: self.width, nodes, weights, names: 0 };
        draw.weights.push(scalar("scale", 1.0 / (self.width as f32).sqrt()));
        let mut value = "x".to_owned();
        for _ in 0..self.layers {
            value = draw.attention(&value, None);
            value = draw.feed_forward(&value);
        }
        draw.attention(&value, Some("y"));
        let port = |name| {
            graphs::port(name, FLOAT, &[Dim::Symbol("batch"), Dim::Symbol("sequence"), Dim::Size(self.width)])
        };
        graphs::enclosed(&graphs::graph(&draw.nodes, &[port("x")], &[port("y")], &draw.weights))
    }

    pub(super) fn input(self, [batch, sequence]: [u64; 2]) -> Vec<Tensor> {
        let shape = vec![batch, sequence, self.width];
        let mut random = Xoshiro256PlusPlus::seed_from_u64(batch << 32 | sequence);
        let elements = shape.iter().product::<u64>();
        let body: Vec<u8> =
            (0..elements).flat_map(|_| random.random_range(-1.0..1.0f32).to_le_bytes()).collect();
        vec![Tensor { name: "x".to_owned(), datatype: Datatype::Fp32, shape, body: body.into() }]
    }
}

impl Draw {
    fn attention(&mut self, x: &str, output: Option<&str>) -> String {
        let [query, key, value] = [(); 3].map(|()| self.product(x, self.width, self.width));
        let turned = self.add("Transpose", &[&key], &[numbers("perm", &[0, 2, 1])]);
        let scores = self.add("MatMul", &[&query, &turned], &[]);
        let scaled = self.add("Mul", &[&scores, "scale"], &[]);
        let shares = self.add("Softmax", &[&scaled], &[]);
        let mixed = self.add("MatMul", &[&shares, &value], &[]);
        let projected = self.product(&mixed, self.width, self.width);
        let output = output.map_or_else(|| self.name(), ToOwned::to_owned);
        self.nodes.push(node("Add", &[x, &projected], &[&output]));
        output
    }

    fn feed_forward(&mut self, x: &str) -> String {
        let normed = self.norm(x);
        let wide = self.product(&normed, self.width, 4 * self.width);
        let positive = self.add("Relu", &[&wide], &[]);
        let narrow = self.product(&positive, 4 * self.width, self.width);
        let sum = self.add("Add", &[&normed, &narrow], &[]);
        self.norm(&sum)
    }

    fn norm(&mut self, x: &str) -> String {
        let (scale, bias) = (self.name(), self.name());
        let ones = 1f32.to_le_bytes().repeat(self.width as usize);
        self.weights.push(weight(&scale, &[self.width], &ones));
        let noise = self.noise(self.width);
        self.weights.push(weight(&bias, &[self.width], &noise));
        self.add("LayerNormalization", &[x, &scale, &bias], &[])
    }

    fn product(&mut self, x: &str, from: u64, to: u64) -> String {
        let name = self.name();
        let noise = self.noise(from * to);
        self.weights.push(weight(&name, &[from, to], &noise));
        self.add("MatMul", &[x, &name], &[])
    }

    /// Bytes of so many elements from somewhere in the noise.
    fn noise(&mut self, elements: u64) -> Vec<u8> {
        let mut left = elements as usize * 4;
        let mut from = self.random.random_range(0..NOISE) * 4;
        let mut bytes = Vec::with_capacity(left);
        while left > 0 {
            let piece = left.min(self.noise.len() - from);
            bytes.extend_from_slice(&self.noise[from..from + piece]);
            (left, from) = (left - piece, 0);
        }
        bytes
    }

    fn add(&mut self, operator: &str, inputs: &[&str], attributes: &[Vec<u8>]) -> String {
        let output = self.name();
        self.nodes.push([node(operator, inputs, &[&output]), attributes.concat()].concat());
        output
    }

    fn name(&mut self) -> String {
        self.names += 1;
        format!("v{}", self.names)
    }
}

fn weight(name: &str, shape: &[u64], bytes: &[u8]) -> Vec<u8> {
    let dims: Vec<u8> = shape.iter().flat_map(|size| number(1, *size)).collect();
    [dims, number(2, FLOAT), text(8, name), field(9, bytes)].concat()
}

fn scalar(name: &str, value: f32) -> Vec<u8> {
    weight(name, &[], &value.to_le_bytes())
}

/// An attribute of integers.
fn numbers(name: &str, values: &[u64]) -> Vec<u8> {
    const INTS: u64 = 7;
    let values: Vec<u8> = values.iter().flat_map(|value| number(8, *value)).collect();
    field(5, &[text(1, name), values, number(20, INTS)].concat())
}
