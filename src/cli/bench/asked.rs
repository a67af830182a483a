//! What a cell is asked, and whether the answers are right.

use serde_json::json;

use super::socket::{Answer, Ask, request};
use crate::{
    bench::{Subject, Wanted},
    domain::{Tensor, Tolerance, Verdict, VerdictStatus},
    models::gate::compare,
};

/// What the native lane answers to each of a model's inputs.
pub(super) struct Known(pub(super) Vec<Vec<Tensor>>);

/// The requests of a cell: its inputs in turn, so that each sample is of as many.
pub(super) fn asks(
    model: &Subject,
    cell: &Wanted,
    inputs: &[Vec<Tensor>],
    lease: Option<&String>,
) -> Vec<Ask> {
    let mut parameters = json!({
        "backend": [cell.backend], "browser": [cell.browser], "fallback": "none", "binary_data_output": true,
    });
    if let Some(lease) = lease {
        parameters["lease"] = json!(lease);
    }
    let ask = |id: usize| {
        let set = id % inputs.len();
        // One that is sent alone has the first place.
        let place = if cell.scenario.at_once() == 1 { 0 } else { id };
        Ask { frame: request(model.name.as_str(), place, &inputs[set], &parameters), set }
    };
    let asks = if cell.scenario.at_once() == 1 { inputs.len() } else { cell.scenario.at_once() };
    (0..asks).map(ask).collect()
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
