//! What is asked: the models with their recorded inputs, as frames of `/v2/ws`.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use anyhow::Context;
use bytes::Bytes;
use serde::Deserialize;
use serde_json::{Value, json};
use weft::{
    domain::{Body, Tensor},
    protocol::{client::TensorJson, frame},
};

pub(crate) const BROWSER: &str = "chromium";
pub(crate) const BACKEND: &str = "wasm";

/// A proof of a large model on a loaded machine comes before its first answer.
pub(crate) const TIMEOUT_US: u64 = 300_000_000;

/// A model with the inputs that requests go round.
#[derive(Clone)]
pub(crate) struct Model {
    pub(crate) name: String,
    /// Where requests are to be answered.
    pub(crate) browser: &'static str,
    pub(crate) file: PathBuf,
    pub(crate) sets: Vec<Vec<Tensor>>,
    /// The recorded inputs as they are written.
    pub(crate) written: Vec<Value>,
}

#[derive(Deserialize)]
struct Catalogue {
    model: Vec<Listed>,
}

#[derive(Deserialize)]
struct Listed {
    name: String,
    path: PathBuf,
    inputs: PathBuf,
}

#[derive(Deserialize)]
struct Recorded {
    inputs: Vec<BTreeMap<String, TensorJson>>,
}

impl Model {
    /// One model of the fixtures' catalogue.
    pub(crate) fn listed(name: &str, fixtures: &Path, cache: &Path) -> anyhow::Result<Self> {
        let catalogue: Catalogue = toml::from_str(&std::fs::read_to_string(fixtures.join("models.toml"))?)?;
        let listed = catalogue.model.into_iter().find(|listed| listed.name == name);
        let listed = listed.with_context(|| format!("the catalogue has no {name}"))?;
        let text = std::fs::read_to_string(fixtures.join(listed.inputs))?;
        let recorded: Recorded = serde_json::from_str(&text)?;
        let set = |set: &BTreeMap<String, TensorJson>| {
            set.iter().map(|(name, tensor)| tensor.tensor(name).map_err(anyhow::Error::msg)).collect()
        };
        let sets = recorded.inputs.iter().map(set).collect::<anyhow::Result<_>>()?;
        let mut written: Value = serde_json::from_str(&text)?;
        let written =
            written["inputs"].as_array_mut().map(std::mem::take).context("recorded inputs are a list")?;
        Ok(Self { name: listed.name, browser: BROWSER, file: cache.join(listed.path), sets, written })
    }

    /// The inputs of request `number`, which is also its id, for the browser's lane.
    pub(crate) fn frame(&self, number: usize) -> Bytes {
        let parameters = json!({
            "browser": self.browser, "backend": BACKEND, "fallback": "none",
            "binary_data_output": true, "timeout": TIMEOUT_US,
        });
        self.asking(number, &parameters)
    }

    /// The same with these parameters.
    pub(crate) fn asking(&self, number: usize, parameters: &Value) -> Bytes {
        let tensors = &self.sets[number % self.sets.len()];
        let mut body = Body::default();
        for tensor in tensors {
            body.append(&tensor.body);
        }
        let inputs: Vec<_> = tensors
            .iter()
            .map(|tensor| {
                let parameters = json!({"binary_data_size": tensor.body.len()});
                let Tensor { name, datatype, shape, .. } = tensor;
                json!({"name": name, "datatype": datatype, "shape": shape, "parameters": parameters})
            })
            .collect();
        let header = json!({
            "type": "infer", "id": number.to_string(), "model_name": self.name, "inputs": inputs,
            "parameters": parameters,
        });
        frame::encode(&header, &body)
    }

    /// One frame for every set of inputs.
    pub(crate) fn frames(&self) -> Vec<Bytes> {
        (0..self.sets.len()).map(|number| self.frame(number)).collect()
    }
}
