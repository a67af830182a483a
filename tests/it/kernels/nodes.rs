//! One node at a time: what native ONNX Runtime computes, and what our kernels do, fused and not.

use std::collections::BTreeMap;

use bytes::Bytes;
use weft::{
    domain::{Datatype, Tensor},
    kernels::fuse,
};

use super::{port, stored};
use crate::{
    cutting::Engine,
    lowered::{computed, lower, numbers},
    precision::noise,
    support::graphs::{self, field, graph, number, text},
};

#[derive(Clone)]
pub(crate) enum Attribute {
    Int(i64),
    Ints(Vec<i64>),
    Real(f32),
    Text(&'static str),
}

use Attribute::{Int, Ints, Real, Text};

/// A node, its inputs by name, and which of these are constants.
#[derive(Clone)]
pub(crate) struct Node {
    operator: &'static str,
    domain: &'static str,
    opset: u64,
    inputs: Vec<Option<(Tensor, bool)>>,
    outputs: Vec<bool>,
    attributes: Vec<(&'static str, Attribute)>,
}

/// Of ONNX's own operators, version 17.
pub(crate) fn node(operator: &'static str) -> Node {
    Node { operator, domain: "", opset: 17, inputs: Vec::new(), outputs: vec![true], attributes: Vec::new() }
}

/// Of ONNX Runtime's.
pub(crate) fn microsoft(operator: &'static str) -> Node {
    Node { domain: "com.microsoft", ..node(operator) }
}

pub(crate) fn floats(shape: &[usize], values: &[f32]) -> Tensor {
    tensor(Datatype::Fp32, shape, values.iter().flat_map(|value| value.to_le_bytes()).collect())
}

pub(crate) fn bytes(shape: &[usize], values: Vec<u8>) -> Tensor {
    tensor(Datatype::Uint8, shape, values)
}

pub(crate) fn ints(shape: &[usize], values: &[i32]) -> Tensor {
    tensor(Datatype::Int32, shape, values.iter().flat_map(|value| value.to_le_bytes()).collect())
}

pub(crate) fn longs(shape: &[usize], values: &[i64]) -> Tensor {
    tensor(Datatype::Int64, shape, values.iter().flat_map(|value| value.to_le_bytes()).collect())
}

pub(crate) fn flags(shape: &[usize], values: Vec<u8>) -> Tensor {
    tensor(Datatype::Bool, shape, values)
}

fn tensor(datatype: Datatype, shape: &[usize], bytes: Vec<u8>) -> Tensor {
    let shape = shape.iter().map(|size| *size as u64).collect();
    Tensor { name: String::new(), datatype, shape, body: bytes.into() }
}

/// Numbers of either sign around 0, other ones for every shape and place.
pub(crate) fn seeded(shape: &[usize], seed: u32) -> Tensor {
    floats(shape, &noise(seed, shape.iter().product()))
}

impl Node {
    pub(crate) fn opset(mut self, opset: u64) -> Self {
        self.opset = opset;
        self
    }

    fn with(mut self, tensor: Option<(Tensor, bool)>) -> Self {
        let name = format!("i{}", self.inputs.len());
        self.inputs.push(tensor.map(|(tensor, constant)| (Tensor { name, ..tensor }, constant)));
        self
    }

    /// An input that a request brings.
    pub(crate) fn given(self, tensor: Tensor) -> Self {
        self.with(Some((tensor, false)))
    }

    pub(crate) fn constant(self, tensor: Tensor) -> Self {
        self.with(Some((tensor, true)))
    }

    pub(crate) fn seeded(self, shape: &[usize]) -> Self {
        let seed = self.inputs.len() as u32 * 17 + 1;
        self.given(seeded(shape, seed))
    }

    pub(crate) fn weight(self, shape: &[usize]) -> Self {
        let seed = self.inputs.len() as u32 * 17 + 1;
        self.constant(seeded(shape, seed))
    }

    pub(crate) fn none(self) -> Self {
        self.with(None)
    }

    fn set(mut self, name: &'static str, attribute: Attribute) -> Self {
        self.attributes.push((name, attribute));
        self
    }

    pub(crate) fn int(self, name: &'static str, value: i64) -> Self {
        self.set(name, Int(value))
    }

    pub(crate) fn ints(self, name: &'static str, values: &[i64]) -> Self {
        self.set(name, Ints(values.to_vec()))
    }

    pub(crate) fn real(self, name: &'static str, value: f32) -> Self {
        self.set(name, Real(value))
    }

    pub(crate) fn text(self, name: &'static str, value: &'static str) -> Self {
        self.set(name, Text(value))
    }

    /// Which of its outputs are asked for.
    pub(crate) fn outputs(mut self, wanted: &[bool]) -> Self {
        self.outputs = wanted.to_vec();
        self
    }

    fn names(&self) -> Vec<String> {
        let name = |(at, wanted): (usize, &bool)| if *wanted { format!("o{at}") } else { String::new() };
        self.outputs.iter().enumerate().map(name).collect()
    }

    fn model(&self) -> Bytes {
        let inputs = self.inputs.iter().map(|input| input.as_ref().map_or("", |(tensor, _)| &tensor.name));
        let names = self.names();
        let inputs: Vec<&str> = inputs.collect();
        let outputs: Vec<&str> = names.iter().map(String::as_str).collect();
        let attributes = self.attributes.iter().flat_map(|(name, value)| field(5, &encoded(name, value)));
        let attributes: Vec<u8> = attributes.collect();
        let node =
            [graphs::node(self.operator, &inputs, &outputs), attributes, text(7, self.domain)].concat();
        let filled = || self.inputs.iter().flatten();
        let weights = filled().filter(|(_, constant)| *constant).map(|(tensor, _)| stored(tensor));
        let ports = filled().filter(|(_, constant)| !*constant).map(|(tensor, _)| port(tensor));
        let made = outputs.iter().filter(|name| !name.is_empty()).map(|name| {
            // Of no shape, which ONNX Runtime finds itself.
            [text(1, name), field(2, &field(1, &number(1, graphs::FLOAT)))].concat()
        });
        let graph = graph(
            &[node],
            &ports.collect::<Vec<_>>(),
            &made.collect::<Vec<_>>(),
            &weights.collect::<Vec<_>>(),
        );
        let opset = |domain, version| field(8, &[text(1, domain), number(2, version)].concat());
        [number(1, 10), field(7, &graph), opset("", self.opset), opset("com.microsoft", 1)].concat().into()
    }

    /// What is given to each run.
    fn taken(&self) -> Vec<Tensor> {
        let taken = self.inputs.iter().flatten().filter(|(_, constant)| !*constant);
        taken.map(|(tensor, _)| tensor.clone()).collect()
    }

    /// Our answers agree with native ONNX Runtime's, within so much of the greatest.
    pub(crate) async fn agrees(self, within: f32) {
        self.agrees_at(within, &|_, values| values).await;
    }

    /// The same for what is picked of each output.
    pub(crate) async fn agrees_at(self, within: f32, pick: &dyn Fn(usize, Vec<f64>) -> Vec<f64>) {
        let (name, file, taken) = (self.operator, self.model(), self.taken());
        let expected = Engine::new().run(&file, taken.clone()).await;
        let expected = expected.unwrap_or_else(|error| panic!("{name}: {error}"));
        let routine = lower(&file, &taken).unwrap_or_else(|error| panic!("{name}: {error}"));
        for (kind, routine) in [("as it is", routine.clone()), ("fused", fuse(routine))] {
            let made = computed(&routine, &file, &BTreeMap::new(), &taken);
            let made = made.unwrap_or_else(|error| panic!("{name} {kind}: {error}"));
            assert_eq!(expected.len(), made.len(), "{name} {kind}");
            for (at, (wanted, got)) in expected.iter().zip(&made).enumerate() {
                assert_eq!(wanted.shape, got.shape, "{name} {kind}");
                let (wanted, got) = (pick(at, numbers(wanted)), pick(at, numbers(got)));
                let most = wanted.iter().fold(1f64, |most, value| most.max(value.abs()));
                for (place, (wanted, got)) in wanted.iter().zip(&got).enumerate() {
                    let near = (wanted - got).abs() <= f64::from(within) * most;
                    assert!(near, "{name} {kind}: {got} for {wanted} at {place} of output {at}");
                }
            }
        }
    }

    /// It is refused by its name, for a reason that says this.
    pub(crate) fn refused(self, because: &str) {
        let error = lower(&self.model(), &self.taken()).expect_err("it is not covered").to_string();
        assert!(error.contains(self.operator) && error.contains(because), "{error}");
    }
}

fn encoded(name: &str, attribute: &Attribute) -> Vec<u8> {
    let (value, kind) = match attribute {
        // Four bytes, of the field's own wire type.
        Real(value) => ([&[2 << 3 | 5], value.to_le_bytes().as_slice()].concat(), 1),
        Int(value) => (number(3, *value as u64), 2),
        Text(value) => (text(4, value), 3),
        Ints(values) => (values.iter().flat_map(|value| number(8, *value as u64)).collect(), 7),
    };
    [text(1, name), value, number(20, kind)].concat()
}
