//! The page's WebAssembly kernels, run in Node by the page's own code, against the plain interpreter.

mod layouts;
mod products;
mod windows;

use std::{
    collections::BTreeMap,
    io::Write as _,
    process::{Command, Stdio},
};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use bytes::Bytes;
use serde_json::{Value, json};
use weft::{
    domain::Datatype,
    kernels::{
        host::Host,
        ir::{Call, Element, Port, Routine, Slot, SlotInfo, Source, View, Weight},
        reference, wasm,
    },
};

const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/wasm/run.mjs");

/// Sums are in another order, and the interpreter's are of 64 bits.
const SUMS: f64 = 2e-6;

/// Rows are rounded to 16 bits for products with few bits.
const ROUNDED: f64 = 2e-4;

/// A routine of some calls with what it is given.
struct Case {
    name: String,
    routine: Routine,
    inputs: BTreeMap<String, Host>,
    files: BTreeMap<String, Bytes>,
    /// Of an element's size, and of the mean size of its output.
    tolerance: f64,
    /// Instead of that mean, where some elements are much larger than others.
    usual: Option<f64>,
    random: Random,
}

/// Numbers that look random and are the same every time.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        self.0 >> 33
    }

    /// Between -1 and 1.
    fn float(&mut self) -> f32 {
        self.next() as f32 / (1u64 << 30) as f32 - 1.0
    }

    fn below(&mut self, end: usize) -> usize {
        self.next() as usize % end
    }
}

fn case(name: impl Into<String>) -> Case {
    let name = name.into();
    let seed = name.bytes().fold(7u64, |seed, byte| seed.wrapping_mul(31).wrapping_add(byte.into()));
    let (routine, inputs, files) = (Routine::default(), BTreeMap::new(), BTreeMap::new());
    Case { name, routine, inputs, files, tolerance: SUMS, usual: None, random: Random(seed) }
}

fn view(slot: Slot, strides: &[i64]) -> View {
    View { slot, offset: 0, strides: strides.to_vec() }
}

/// The strides of a tensor row by row.
fn dense(shape: &[usize]) -> Vec<i64> {
    let mut strides = vec![1; shape.len()];
    for at in (1..shape.len()).rev() {
        strides[at - 1] = strides[at] * shape[at] as i64;
    }
    strides
}

impl Case {
    fn slot(&mut self, element: Element, len: usize) -> Slot {
        self.routine.slots.push(SlotInfo { element, len });
        Slot(u32::try_from(self.routine.slots.len() - 1).expect("few"))
    }

    fn port(&self, slot: Slot) -> Port {
        let SlotInfo { element, len } = self.routine.slots[slot.0 as usize];
        let datatype = if element == Element::F32 { Datatype::Fp32 } else { Datatype::Int32 };
        Port { name: format!("s{}", slot.0), datatype, shape: vec![len], slot: Some(slot) }
    }

    fn given(&mut self, host: Host) -> Slot {
        let slot = self.slot(host.element(), host.len());
        let port = self.port(slot);
        self.inputs.insert(port.name.clone(), host);
        self.routine.inputs.push(port);
        slot
    }

    fn floats(&mut self, len: usize) -> Slot {
        let values = (0..len).map(|_| self.random.float()).collect();
        self.given(Host::F32(values))
    }

    fn indices(&mut self, len: usize, end: usize) -> Slot {
        let values = (0..len).map(|_| self.random.below(end) as i64).collect();
        self.given(Host::I64(values))
    }

    /// A weight in a file.
    fn stored(&mut self, datatype: Datatype, element: Element, bytes: Vec<u8>) -> Slot {
        let len = if element == Element::Bytes { bytes.len() } else { bytes.len() / 4 };
        let slot = self.slot(element, len);
        let name = format!("{} {}", self.name, slot.0);
        self.routine.weights.push(Weight {
            slot,
            datatype,
            source: Source::File { name: name.clone(), offset: 0 },
        });
        self.files.insert(name, bytes.into());
        slot
    }

    fn stored_floats(&mut self, len: usize) -> Slot {
        let bytes = (0..len).flat_map(|_| self.random.float().to_le_bytes()).collect();
        self.stored(Datatype::Fp32, Element::F32, bytes)
    }

    fn made(&mut self, element: Element, len: usize) -> Slot {
        let slot = self.slot(element, len);
        let port = self.port(slot);
        self.routine.outputs.push(port);
        slot
    }

    fn call(mut self, call: Call) -> Self {
        self.routine.calls.push(call);
        self
    }

    fn within(mut self, tolerance: f64) -> Self {
        self.tolerance = tolerance;
        self
    }

    fn task(&self) -> Value {
        let (program, block) =
            wasm::compile(&self.routine).unwrap_or_else(|why| panic!("{}: {why}", self.name));
        let inputs = self.inputs.iter().map(|(name, host)| {
            let (float, datatype) = match host {
                Host::F32(_) => (true, Datatype::Fp32),
                _ => (false, Datatype::Int32),
            };
            let data = host.encode(datatype).expect("words");
            (name.clone(), json!({"float": float, "data": BASE64_STANDARD.encode(data)}))
        });
        let inputs: serde_json::Map<String, Value> = inputs.collect();
        let program = serde_json::to_string(&program).expect("a program is JSON");
        json!({"program": program, "block": BASE64_STANDARD.encode(&block), "inputs": inputs})
    }

    fn expected(&self) -> Result<BTreeMap<String, Host>, reference::Fault> {
        let file = |name: &str, offset: u64, len: usize| {
            self.files.get(name).map(|bytes| bytes.slice(offset as usize..offset as usize + len))
        };
        reference::run_all(&self.routine, &self.inputs, &file)
    }

    fn check(&self, answer: &Value, wrong: &mut Vec<String>) {
        let expected = match self.expected() {
            Ok(expected) => expected,
            Err(fault) => {
                if answer["error"] != fault.to_string() {
                    wrong.push(format!("{}: {answer} instead of the fault {fault}", self.name));
                }
                return;
            }
        };
        let Some(outputs) = answer["outputs"].as_array() else {
            wrong.push(format!("{}: {answer}", self.name));
            return;
        };
        for (port, output) in self.routine.outputs.iter().zip(outputs) {
            let bytes = BASE64_STANDARD.decode(output.as_str().expect("a text")).expect("base64");
            let words = bytes.chunks_exact(4).map(|word| <[u8; 4]>::try_from(word).expect("four"));
            let problem = match &expected[&port.name] {
                Host::F32(wanted) => self.apart(wanted, &words.map(f32::from_le_bytes).collect::<Vec<_>>()),
                Host::I64(wanted) => {
                    let found: Vec<i64> = words.map(|word| i32::from_le_bytes(word).into()).collect();
                    (found != *wanted).then(|| format!("{found:?} instead of {wanted:?}"))
                }
                Host::Bytes(_) => unreachable!("no output is bytes"),
            };
            wrong.extend(problem.map(|problem| format!("{}: {problem}", self.name)));
        }
    }

    /// Where an output differs by more than the tolerance.
    fn apart(&self, wanted: &[f32], found: &[f32]) -> Option<String> {
        if wanted.len() != found.len() {
            return Some(format!("{} elements instead of {}", found.len(), wanted.len()));
        }
        let finite = wanted.iter().filter(|value| value.is_finite()).map(|value| f64::from(value.abs()));
        let mean = self.usual.unwrap_or(finite.sum::<f64>() / wanted.len() as f64);
        let off = |at: &usize| {
            let (wanted, found) = (wanted[*at], found[*at]);
            if !wanted.is_finite() {
                return !(wanted.is_nan() && found.is_nan()) && wanted.to_bits() != found.to_bits();
            }
            let (wanted, found) = (f64::from(wanted), f64::from(found));
            found.is_nan() || (wanted - found).abs() > self.tolerance * (wanted.abs() + mean) + 1e-12
        };
        let at = (0..wanted.len()).find(off)?;
        let count = (0..wanted.len()).filter(off).count();
        Some(format!(
            "{} instead of {} at {at}, and {count} of {} are off",
            found[at],
            wanted[at],
            wanted.len()
        ))
    }
}

/// Runs all cases in one Node.
fn check(cases: &[Case]) {
    let files: BTreeMap<&String, String> = cases
        .iter()
        .flat_map(|case| &case.files)
        .map(|(name, bytes)| (name, BASE64_STANDARD.encode(bytes)))
        .collect();
    let tasks: Vec<Value> = cases.iter().map(Case::task).collect();
    let mut node = Command::new("node")
        .arg(SCRIPT)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("node starts");
    let mut stdin = node.stdin.take().expect("a pipe");
    stdin.write_all(json!({"files": files, "cases": tasks}).to_string().as_bytes()).expect("node reads");
    drop(stdin);
    let output = node.wait_with_output().expect("node ends");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let answers: Vec<Value> = serde_json::from_slice(&output.stdout).expect("answers");
    assert_eq!(answers.len(), cases.len());
    let mut wrong = Vec::new();
    cases.iter().zip(&answers).for_each(|(case, answer)| case.check(answer, &mut wrong));
    assert!(wrong.is_empty(), "{} of {} cases:\n{}", wrong.len(), cases.len(), wrong.join("\n"));
}
