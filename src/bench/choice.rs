//! In which precision a model is best run in each lane: what is the best of time, size and error, and what to take within
//! a budget of error.

use serde::Serialize;

use super::{
    Cell, Key, Outcome, Results, Scenario, Varied,
    statistics::{Interval, bounded},
};
use crate::domain::{BackendKind, ModelName};

/// The precisions of a model in one lane, asked in one way.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Choice {
    pub model: ModelName,
    pub browser: String,
    pub backend: BackendKind,
    pub scenario: Scenario,
    /// What varies beside the precision.
    #[serde(flatten)]
    pub varied: Varied,
    /// The fastest first.
    pub candidates: Vec<Candidate>,
    /// Of these, the one to take; none where all are off by more than the budget.
    pub chosen: Option<usize>,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Candidate {
    pub precision: String,
    /// Of the samples, in microseconds.
    pub median: Interval,
    /// Of the model's files; none where the result does not tell.
    pub bytes: Option<u64>,
    /// How far its answers were off those of the model as it is at most, as a share of the largest value.
    pub error: f64,
    /// Whether no other is at least as good in all three and better in one.
    pub front: bool,
}

impl Candidate {
    fn of(cell: &Cell) -> Option<Self> {
        let is_measured = cell.state.outcome == Outcome::Ok && !cell.samples_us.is_empty();
        let (precision, error) = (cell.varied.precision.clone()?, cell.error?);
        is_measured.then(|| Self {
            precision,
            median: bounded(&cell.samples_us, 0.5),
            bytes: cell.model_bytes,
            error,
            front: true,
        })
    }

    /// Whether whoever takes the other one gains nothing; times that are apart by less than `noise` are the same.
    fn dominates(&self, other: &Self, noise: f64) -> bool {
        let faster = self.median.value * (1.0 + noise) < other.median.value;
        let slower = other.median.value * (1.0 + noise) < self.median.value;
        // Nothing is smaller than what nobody tells.
        let smaller = self.bytes.zip(other.bytes).is_some_and(|(own, other)| own < other);
        let larger = self.bytes.zip(other.bytes).is_some_and(|(own, other)| own > other);
        let as_good = !slower && !larger && self.error <= other.error;
        as_good && (faster || smaller || self.error < other.error)
    }
}

/// For every lane in which a model was measured in several precisions. What is wrong by its own tolerance is none of them.
#[must_use]
pub fn choices(results: &Results, error_max: f64, noise: f64) -> Vec<Choice> {
    let mut lanes: Vec<(Key, Vec<Candidate>)> = Vec::new();
    for cell in &results.cells {
        let Some(candidate) = Candidate::of(cell) else { continue };
        let mut key = cell.key();
        key.varied.precision = None;
        match lanes.iter_mut().find(|(lane, _)| *lane == key) {
            Some((_, candidates)) => candidates.push(candidate),
            None => lanes.push((key, vec![candidate])),
        }
    }
    let several = lanes.into_iter().filter(|(_, candidates)| candidates.len() > 1);
    several.map(|(key, candidates)| Choice::of(key, candidates, error_max, noise)).collect()
}

impl Choice {
    fn of(key: Key, candidates: Vec<Candidate>, error_max: f64, noise: f64) -> Self {
        let Key { model, browser, backend, scenario, varied } = key;
        let mut choice = Self { model, browser, backend, scenario, varied, candidates, chosen: None };
        choice.decide(error_max, noise);
        choice
    }

    fn decide(&mut self, error_max: f64, noise: f64) {
        self.candidates.sort_by(|one, other| one.median.value.total_cmp(&other.median.value));
        let all = self.candidates.clone();
        for candidate in &mut self.candidates {
            candidate.front = !all.iter().any(|other| other.dominates(candidate, noise));
        }
        let within = |at: &usize| self.candidates[*at].error <= error_max;
        let mut left: Vec<usize> = (0..self.candidates.len()).filter(within).collect();
        let Some(fastest) = left.first().map(|at| self.candidates[*at].median.value) else { return };
        // Of those that are as fast the smallest, and of these the one that is off by least.
        left.retain(|at| self.candidates[*at].median.value <= fastest * (1.0 + noise));
        let rank = |at: &usize| {
            let Candidate { bytes, error, .. } = &self.candidates[*at];
            (bytes.unwrap_or(u64::MAX), *error)
        };
        self.chosen = left.into_iter().min_by(|one, other| {
            let ((small, near), (other_small, other_near)) = (rank(one), rank(other));
            small.cmp(&other_small).then(near.total_cmp(&other_near))
        });
    }
}
