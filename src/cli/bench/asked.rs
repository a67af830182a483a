//! What a cell is asked, and whether the answers are right.

use std::sync::Arc;

use serde_json::{Value, json};

use super::socket::{Answer, Ask, request};
use crate::{
    domain::{BackendKind, ModelName, Tensor, Tolerance, Verdict, VerdictStatus},
    models::gate::compare,
};

/// What the native lane answers to each of a model's inputs.
pub(super) struct Known(pub(super) Vec<Vec<Tensor>>);

/// What a cell's requests are made of.
#[derive(Clone)]
pub(super) struct Asking {
    model: String,
    inputs: Arc<Vec<Vec<Tensor>>>,
    parameters: Value,
}

impl Asking {
    /// In the cell's lane, which may be leased.
    pub(super) fn in_lane(
        model: &ModelName,
        (browser, backend): (&str, &BackendKind),
        inputs: &Arc<Vec<Vec<Tensor>>>,
        lease: Option<&String>,
    ) -> Self {
        let mut parameters = json!({
            "backend": [backend], "browser": [browser], "fallback": "none", "binary_data_output": true,
        });
        if let Some(lease) = lease {
            parameters["lease"] = json!(lease);
        }
        Self { model: model.to_string(), inputs: inputs.clone(), parameters }
    }

    /// In the lanes of a plan's stages.
    pub(super) fn under(model: &ModelName, plan: &str, inputs: &Arc<Vec<Vec<Tensor>>>) -> Self {
        let parameters = json!({"plan": plan, "binary_data_output": true});
        Self { model: model.to_string(), inputs: inputs.clone(), parameters }
    }

    /// A request that is known by a number; the model's inputs take turns.
    pub(super) fn ask(&self, id: usize, turn: usize) -> Ask {
        let set = self.set(turn);
        Ask { frame: request(&self.model, id, &self.inputs[set], &self.parameters), set }
    }

    /// Which of the model's inputs has this turn.
    pub(super) fn set(&self, turn: usize) -> usize {
        turn % self.inputs.len()
    }

    /// The requests of a sample, or of as many as there are inputs where a sample is of one.
    pub(super) fn asks(&self, at_once: usize) -> Vec<Ask> {
        if at_once == 1 {
            // One that is sent alone has the first place.
            (0..self.inputs.len()).map(|set| self.ask(0, set)).collect()
        } else {
            (0..at_once).map(|id| self.ask(id, id)).collect()
        }
    }
}

/// How far answers are off the native ones, or why they are no answers to these inputs.
pub(super) fn off(known: &Known, answers: &[Answer], tolerance: f64) -> Result<f64, String> {
    let wanted: Vec<_> = answers.iter().map(|answer| known.0[answer.set].clone()).collect();
    let got: Vec<_> = answers.iter().map(|answer| answer.outputs.clone()).collect();
    let Verdict { status, error, detail, .. } = compare(&wanted, &got, Tolerance(tolerance));
    match error {
        // Whether the inputs prove anything was the gate's to say.
        Some(error) if status != VerdictStatus::Mismatch => Ok(error),
        _ => Err(detail),
    }
}
