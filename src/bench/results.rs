//! What a suite's run came to: a document that holds every sample.

use serde::{Deserialize, Serialize};

use super::{
    Scenario,
    environment::Environment,
    statistics::{Interval, bounded, outliers, quantile, supports},
};
use crate::domain::{BackendKind, Digest, ModelName, Provenance};

/// A run of a suite.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Results {
    /// Of the document's form.
    #[serde(default = "first_version")]
    pub version: u32,
    pub id: String,
    pub suite: String,
    /// Of the suite's file.
    pub suite_sha256: String,
    /// Microseconds since the Unix epoch.
    pub started_at_us: i64,
    pub ended_at_us: i64,
    /// Whether every cell had its turn.
    pub complete: bool,
    /// What may have disturbed the measurement.
    pub warnings: Vec<String>,
    /// What a fixed piece of work took before and after, in microseconds: what a drifting machine shows in.
    pub calibration_us: [f64; 2],
    pub environment: Environment,
    pub cells: Vec<Cell>,
}

/// The first documents did not tell theirs.
fn first_version() -> u32 {
    1
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    Ok,
    /// Its answers are not those of the native lane.
    Wrong,
    /// A request of it was an error.
    Failed,
    /// The budget ended before it had enough samples.
    TimedOut,
    /// It cannot be measured here.
    Skipped,
    /// The suite leaves it out.
    Excluded,
}

/// What became of a cell, and why it is not ok.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct State {
    pub outcome: Outcome,
    pub reason: Option<String>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Cell {
    pub model: ModelName,
    pub model_digest: Option<Digest>,
    pub browser: String,
    pub backend: BackendKind,
    pub scenario: Scenario,
    #[serde(flatten)]
    pub state: State,
    /// How far the answers were off the native ones at most, as a share of the largest value.
    pub error: Option<f64>,
    pub tolerance: f64,
    /// In the order in which they were measured.
    pub samples_us: Vec<f64>,
    /// Samples that were thrown away before.
    pub warm_up_us: Vec<f64>,
    /// Whether the last samples of the warm-up were alike.
    pub warm: bool,
    /// Of the last answer.
    pub provenance: Option<Provenance>,
}

/// What a cell's samples say.
#[derive(Clone, Debug, Serialize)]
pub struct Figures {
    pub samples: usize,
    /// Microseconds.
    pub median: Interval,
    /// Null where there are too few samples to claim it.
    pub p90: Option<f64>,
    pub p99: Option<f64>,
    pub min: f64,
    pub max: f64,
    /// Samples beyond Tukey's fences; they count.
    pub outliers: usize,
}

impl Cell {
    /// What tells it from the others of its suite.
    #[must_use]
    pub fn key(&self) -> (ModelName, String, BackendKind, Scenario) {
        (self.model.clone(), self.browser.clone(), self.backend.clone(), self.scenario)
    }

    /// Null without samples.
    #[must_use]
    pub fn figures(&self) -> Option<Figures> {
        let samples = &self.samples_us;
        if samples.is_empty() {
            return None;
        }
        let claimed = |q| supports(samples.len(), q).then(|| quantile(samples, q));
        Some(Figures {
            samples: samples.len(),
            median: bounded(samples, 0.5),
            p90: claimed(0.9),
            p99: claimed(0.99),
            min: quantile(samples, 0.0),
            max: quantile(samples, 1.0),
            outliers: outliers(samples).len(),
        })
    }
}

impl Results {
    /// Cells whose answers were wrong, or that broke.
    pub fn failures(&self) -> impl Iterator<Item = &Cell> {
        self.cells.iter().filter(|cell| matches!(cell.state.outcome, Outcome::Wrong | Outcome::Failed))
    }
}
