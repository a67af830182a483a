//! Our own kernels' plain interpreter against native ONNX Runtime: operator by operator over odd sizes, and whole models.

mod attentions;
mod convolutions;
mod elementwise;
mod layout;
mod models;
mod nodes;
mod norms;
mod products;
mod recurrent;
mod reduce;

use std::collections::BTreeMap;

use bytes::Bytes;
use weft::domain::{Datatype, Tensor};

use crate::{
    cutting::Engine,
    lowered::{computed, lower, wrong},
    precision::noise,
    support::graphs::{field, graph, number, text},
};

/// Along the axis that matters.
const SIZES: [u64; 5] = [1, 3, 17, 129, 1000];

/// Elements may be off by this, and by this part of themselves: both sides compute in 32 bits, in different orders.
const TOLERANCE: f64 = 2e-5;

/// A graph of one node, and what it is given.
struct Case {
    operator: &'static str,
    domain: &'static str,
    opset: u64,
    inputs: Vec<Given>,
    attributes: Vec<Vec<u8>>,
    outputs: Vec<Datatype>,
    tolerance: f64,
}

struct Given {
    /// None is left out.
    tensor: Option<Tensor>,
    /// In the graph itself.
    constant: bool,
}

fn case(operator: &'static str) -> Case {
    let (inputs, attributes) = (Vec::new(), Vec::new());
    Case {
        operator,
        domain: "",
        opset: 17,
        inputs,
        attributes,
        outputs: vec![Datatype::Fp32],
        tolerance: TOLERANCE,
    }
}

impl Case {
    fn microsoft(mut self) -> Self {
        self.domain = "com.microsoft";
        self
    }

    /// Where the engine finds places in 32 bits, or the like.
    fn within(mut self, tolerance: f64) -> Self {
        self.tolerance = tolerance;
        self
    }

    fn opset(mut self, opset: u64) -> Self {
        self.opset = opset;
        self
    }

    fn makes(mut self, outputs: &[Datatype]) -> Self {
        self.outputs = outputs.to_vec();
        self
    }

    fn given(mut self, datatype: Datatype, shape: &[u64], bytes: Vec<u8>) -> Self {
        let name = format!("i{}", self.inputs.len());
        let tensor = Tensor { name, datatype, shape: shape.to_vec(), body: bytes.into() };
        self.inputs.push(Given { tensor: Some(tensor), constant: false });
        self
    }

    fn absent(mut self) -> Self {
        self.inputs.push(Given { tensor: None, constant: false });
        self
    }

    /// The last input is a part of the graph.
    fn constant(mut self) -> Self {
        self.inputs.last_mut().expect("an input").constant = true;
        self
    }

    /// From `low` to `high` without an order.
    fn floats_in(self, shape: &[u64], low: f32, high: f32) -> Self {
        let seed = 7 + self.inputs.len() as u32;
        let values =
            noise(seed, count(shape)).into_iter().map(|unit| low + unit.midpoint(1.0) * (high - low));
        self.given(Datatype::Fp32, shape, values.flat_map(f32::to_le_bytes).collect())
    }

    fn floats(self, shape: &[u64]) -> Self {
        self.floats_in(shape, -4.0, 4.0)
    }

    /// From `low` to below `high`.
    fn wholes_in(self, datatype: Datatype, shape: &[u64], low: i64, high: i64) -> Self {
        let seed = 7 + self.inputs.len() as u32;
        let unit = noise(seed, count(shape)).into_iter().map(|unit| f64::midpoint(unit.into(), 1.0));
        let values = unit.map(|unit| low + (unit * (high - low) as f64) as i64);
        let size = datatype.size().expect("whole numbers have one");
        let bytes = values.flat_map(|value| value.to_le_bytes().into_iter().take(size)).collect();
        self.given(datatype, shape, bytes)
    }

    fn flags(self, shape: &[u64]) -> Self {
        self.wholes_in(Datatype::Bool, shape, 0, 2)
    }

    /// Sizes, places and axes, which are parts of the graph.
    fn numbers(self, values: &[i64]) -> Self {
        let bytes = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        self.given(Datatype::Int64, &[values.len() as u64], bytes).constant()
    }

    fn number(self, value: i64) -> Self {
        self.given(Datatype::Int64, &[], value.to_le_bytes().to_vec()).constant()
    }

    fn real(self, value: f32) -> Self {
        self.given(Datatype::Fp32, &[], value.to_le_bytes().to_vec()).constant()
    }

    fn int(mut self, name: &str, value: i64) -> Self {
        self.attributes.push([text(1, name), number(3, value as u64), number(20, 2)].concat());
        self
    }

    fn ints(mut self, name: &str, values: &[i64]) -> Self {
        let values: Vec<u8> = values.iter().flat_map(|value| number(8, *value as u64)).collect();
        self.attributes.push([text(1, name), values, number(20, 7)].concat());
        self
    }

    fn float(mut self, name: &str, value: f32) -> Self {
        let value = [vec![2 << 3 | 5], value.to_le_bytes().to_vec()].concat();
        self.attributes.push([text(1, name), value, number(20, 1)].concat());
        self
    }

    fn word(mut self, name: &str, value: &str) -> Self {
        self.attributes.push([text(1, name), text(4, value), number(20, 3)].concat());
        self
    }

    fn file(&self) -> Bytes {
        let given = self
            .inputs
            .iter()
            .filter_map(|given| given.tensor.as_ref().map(|tensor| (tensor, given.constant)));
        let (constants, inputs): (Vec<_>, Vec<_>) = given.partition(|(_, constant)| *constant);
        let inputs: Vec<_> = inputs.into_iter().map(|(tensor, _)| port(tensor)).collect();
        let constants: Vec<_> = constants.into_iter().map(|(tensor, _)| stored(tensor)).collect();
        let made = (0..self.outputs.len()).map(|at| format!("o{at}"));
        let outputs: Vec<_> = made
            .clone()
            .zip(&self.outputs)
            .map(|(name, datatype)| {
                [text(1, &name), field(2, &field(1, &number(1, code(*datatype))))].concat()
            })
            .collect();
        let names = self.inputs.iter().map(|given| given.tensor.as_ref().map_or("", |tensor| &tensor.name));
        let node = [
            names.flat_map(|name| text(1, name)).collect(),
            made.flat_map(|name| text(2, &name)).collect(),
            text(4, self.operator),
            self.attributes.iter().flat_map(|attribute| field(5, attribute)).collect::<Vec<_>>(),
            text(7, self.domain),
        ];
        let opset = |domain, version| field(8, &[text(1, domain), number(2, version)].concat());
        let graph = graph(&[node.concat()], &inputs, &outputs, &constants);
        let version = if self.opset > 17 { 10 } else { 8 };
        [number(1, version), field(7, &graph), opset("", self.opset), opset("com.microsoft", 1)]
            .concat()
            .into()
    }

    /// What is given to each run.
    fn taken(&self) -> Vec<Tensor> {
        let taken = self.inputs.iter().filter(|given| !given.constant);
        taken.filter_map(|given| given.tensor.clone()).collect()
    }
}

fn count(shape: &[u64]) -> usize {
    shape.iter().product::<u64>() as usize
}

fn code(datatype: Datatype) -> u64 {
    match datatype {
        Datatype::Fp32 => 1,
        Datatype::Uint8 => 2,
        Datatype::Int8 => 3,
        Datatype::Int32 => 6,
        Datatype::Int64 => 7,
        Datatype::Bool => 9,
        Datatype::Fp16 => 10,
        other => panic!("no case has {other}"),
    }
}

fn port(tensor: &Tensor) -> Vec<u8> {
    let shape: Vec<u8> = tensor.shape.iter().flat_map(|size| field(1, &number(1, *size))).collect();
    let kind = [number(1, code(tensor.datatype)), field(2, &shape)].concat();
    [text(1, &tensor.name), field(2, &field(1, &kind))].concat()
}

fn stored(tensor: &Tensor) -> Vec<u8> {
    let dims: Vec<u8> = tensor.shape.iter().flat_map(|size| number(1, *size)).collect();
    let bytes = tensor.body.contiguous();
    [dims, number(2, code(tensor.datatype)), text(8, &tensor.name), field(9, &bytes)].concat()
}

/// Runs the cases of every size on both sides.
async fn compare(cases: impl Fn(u64) -> Vec<Case>) {
    let engine = Engine::new();
    let mut off = Vec::new();
    for size in SIZES {
        for (at, case) in cases(size).into_iter().enumerate() {
            let title = format!("{} (case {at}) of {size}", case.operator);
            let (file, inputs) = (case.file(), case.taken());
            let wanted = engine.run(&file, inputs.clone()).await;
            let wanted = wanted.unwrap_or_else(|error| panic!("{title}: {error}"));
            let routine = match lower(&file, &inputs) {
                Ok(routine) => routine,
                Err(error) => {
                    off.push(format!("{title}: {error}"));
                    continue;
                }
            };
            match computed(&routine, &file, &BTreeMap::new(), &inputs) {
                Ok(found) => {
                    assert_eq!(found.len(), wanted.len(), "{title}");
                    let wrong = found
                        .iter()
                        .zip(&wanted)
                        .find_map(|(found, wanted)| wrong(found, wanted, case.tolerance, case.tolerance));
                    off.extend(wrong.map(|wrong| format!("{title}: {wrong}")));
                }
                Err(error) => off.push(format!("{title}: {error}")),
            }
        }
    }
    assert!(off.is_empty(), "{}", off.join("\n"));
}
