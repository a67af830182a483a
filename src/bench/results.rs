//! What a suite's run came to: a document that holds every sample.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{
    Scenario, Varied,
    environment::Environment,
    statistics::{Interval, Trend, apart, bounded, median, outliers, quantile, supports, trend},
};
use crate::domain::{BackendKind, Digest, ModelName, Provenance};

/// Any will do; it makes the slopes of one document the same each time.
const SEED: u64 = 1;

/// Fewer say nothing about a slope.
const POINTS_MIN: usize = 8;

/// What clocks that tell a sample to have taken no time have missed, a nanosecond.
const SHORTEST_US: f64 = 1e-3;

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
    /// What a CI says that it measures.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub branch: Option<String>,
    /// Microseconds since the Unix epoch.
    pub started_at_us: i64,
    pub ended_at_us: i64,
    /// Whether every cell had its turn.
    pub complete: bool,
    /// What may have disturbed the measurement.
    pub warnings: Vec<String>,
    /// What a fixed piece of work took before and after, in microseconds: what a drifting machine shows in.
    pub calibration_us: [f64; 2],
    /// Bytes per second that copies in all cores together read and wrote before, at best.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub copied: Option<f64>,
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

impl Outcome {
    /// Whether it was asked and has answered, rightly or not.
    #[must_use]
    pub fn had_its_turn(self) -> bool {
        matches!(self, Self::Ok | Self::Wrong | Self::Failed)
    }

    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Wrong => "wrong",
            Self::Failed => "failed",
            Self::TimedOut => "timed_out",
            Self::Skipped => "skipped",
            Self::Excluded => "excluded",
        }
    }
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
    /// Of its file, and of those that its weights lie in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model_bytes: Option<u64>,
    /// Whether the model's weights are random numbers, so that its answers mean nothing.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub seeded: bool,
    pub browser: String,
    pub backend: BackendKind,
    pub scenario: Scenario,
    #[serde(flatten)]
    pub varied: Varied,
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
    /// What one of its requests takes, where the graph tells.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub work: Option<Work>,
    /// Of requests that arrived at a rate.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub served: Option<Served>,
    /// What each cold start took, part by part.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub cold: Vec<Cold>,
    /// Models that were asked at the same time.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub beside: Vec<ModelName>,
    /// What it took without them, in turns with the samples.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub alone_us: Vec<f64>,
    /// What lane and browser held meanwhile.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub memory: Vec<Memory>,
    /// How its samples were spread over rounds, where cells took turns.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub turns: Option<Turns>,
}

/// Cells whose rounds began at the same moment had a turn each in every round.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Turns {
    /// When the first round began, in microseconds since the Unix epoch.
    pub began_at_us: i64,
    /// The samples of each turn.
    pub samples: Vec<usize>,
}

/// What a run of a graph takes, by its nodes and the sizes of a request's inputs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Work {
    pub flops: u64,
    /// Weights once, and the values that nodes read and write.
    pub bytes: u64,
    pub nodes: u64,
    /// Of these, nodes whose operations are known: others count for nothing.
    pub known: u64,
}

/// The parts of a cold start; null is what nothing tells. The sample is longer than they are by what lies between them.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Cold {
    /// From the pool's word that it launches until the browser was there.
    pub launch_us: Option<f64>,
    /// From there until its page had reported.
    pub page_us: Option<f64>,
    /// From there until the lane was ready: its Worker, its link and its engine.
    pub lane_us: Option<f64>,
    /// Of that, the engine's code, by the lane's clock.
    pub import_us: Option<f64>,
    /// Of that, the engine's start with its module compiled, by the lane's clock.
    pub init_us: Option<f64>,
    /// From the daemon's order to load until the lane's word, by the daemon's clock.
    pub load_us: Option<f64>,
    /// Of that, the model's file, by the lane's clock.
    pub fetch_us: Option<f64>,
    /// Of that, the engine's session, by the lane's clock.
    pub create_us: Option<f64>,
    /// Bytes of the model that came over the network, and from the browser's cache.
    pub network_bytes: Option<u64>,
    pub cache_bytes: Option<u64>,
    /// The first request, by the caller's clock.
    pub first_us: Option<f64>,
    /// Of that, the engine's run.
    pub compute_us: Option<f64>,
}

impl Cold {
    /// What the lane takes beside its engine: the Worker, its link, its probe.
    fn rest_of_lane_us(&self) -> Option<f64> {
        rest(self.lane_us, [self.import_us, self.init_us])
    }

    /// What a load takes beside the file and the session: the order's way, and reading where nodes were placed.
    fn rest_of_load_us(&self) -> Option<f64> {
        rest(self.load_us, [self.fetch_us, self.create_us])
    }
}

fn rest(whole: Option<f64>, parts: [Option<f64>; 2]) -> Option<f64> {
    let told: f64 = parts.into_iter().flatten().sum();
    whole.map(|whole| (whole - told).max(0.0))
}

/// What was held at a moment, as the daemon told; null is what nothing tells.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Memory {
    /// Since the beginning.
    pub at_us: f64,
    /// The engine's heap.
    pub wasm_bytes: Option<u64>,
    pub gpu_bytes: Option<u64>,
    /// The browser's processes together.
    pub browser_bytes: Option<u64>,
}

/// By how much something grew in an hour, by the line through what was seen.
#[derive(Clone, Debug, Serialize)]
pub struct Growth {
    pub wasm_bytes: Option<Interval>,
    pub gpu_bytes: Option<Interval>,
    pub browser_bytes: Option<Interval>,
}

/// What tells a cell from the others of its suite.
#[derive(Clone, Debug, PartialEq)]
pub struct Key {
    pub model: ModelName,
    pub browser: String,
    pub backend: BackendKind,
    pub scenario: Scenario,
    pub varied: Varied,
}

/// What became of requests that arrived at a rate.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Served {
    pub arrived: usize,
    /// Answers per second, until the last arrival or the last answer, whichever was later.
    pub achieved: f64,
    /// The suite's limit for an answer, in microseconds.
    pub within_us: Option<u64>,
    /// The share of all that arrived that was answered within it.
    pub within: Option<f64>,
    /// Requests that the daemon had no room or no time for, by the code that it answered.
    pub refused: BTreeMap<String, usize>,
    /// By how much the request that was sent the latest was later than intended; its sample counts from when it was
    /// intended.
    pub late_us: f64,
}

impl Served {
    #[must_use]
    pub fn refusals(&self) -> usize {
        self.refused.values().sum()
    }
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
    #[must_use]
    pub fn key(&self) -> Key {
        Key {
            model: self.model.clone(),
            browser: self.browser.clone(),
            backend: self.backend.clone(),
            scenario: self.scenario,
            varied: self.varied.clone(),
        }
    }

    /// Whether both measure the same, by name.
    #[must_use]
    pub fn is_same(&self, other: &Self) -> bool {
        self.model == other.model
            && self.browser == other.browser
            && self.backend == other.backend
            && self.scenario == other.scenario
            && self.varied == other.varied
    }

    /// What a median cold start is made of, in its order: the median of each part that every start tells.
    #[must_use]
    pub fn cold_parts(&self) -> Vec<(&'static str, f64)> {
        let parts: [(&str, fn(&Cold) -> Option<f64>); 9] = [
            ("launch", |cold| cold.launch_us),
            ("page", |cold| cold.page_us),
            ("import", |cold| cold.import_us),
            ("compile", |cold| cold.init_us),
            ("rest of the lane", Cold::rest_of_lane_us),
            ("fetch", |cold| cold.fetch_us),
            ("create", |cold| cold.create_us),
            ("rest of the load", Cold::rest_of_load_us),
            ("first answer", |cold| cold.first_us),
        ];
        let told = parts.into_iter().filter_map(|(name, part)| {
            let all: Option<Vec<_>> = self.cold.iter().map(part).collect();
            all.filter(|all| !all.is_empty()).map(|all| (name, median(&all)))
        });
        told.collect()
    }

    /// For each round in which both had a turn, how many times as long this one's samples took as the other's: ratios of
    /// geometric means. None when they took no turns with each other.
    #[must_use]
    pub fn against(&self, other: &Self) -> Option<Vec<f64>> {
        let together = |own: &Turns, others: &Turns| own.began_at_us == others.began_at_us;
        let taken = self.turns.as_ref().zip(other.turns.as_ref()).is_some_and(|(a, b)| together(a, b));
        taken.then(|| self.rounds().zip(other.rounds()).map(|(own, other)| (own - other).exp()).collect())
    }

    /// The mean logarithm of each turn's samples.
    fn rounds(&self) -> impl Iterator<Item = f64> {
        let mut rest = &self.samples_us[..];
        self.turns.iter().flat_map(|turns| &turns.samples).map(move |count| {
            let turn;
            (turn, rest) = rest.split_at((*count).min(rest.len()));
            turn.iter().map(|sample| sample.max(SHORTEST_US).ln()).sum::<f64>() / turn.len() as f64
        })
    }

    /// How many times as long it takes beside others.
    #[must_use]
    pub fn contention(&self) -> Option<Interval> {
        let measured = !self.alone_us.is_empty() && !self.samples_us.is_empty();
        measured.then(|| apart(&self.samples_us, &self.alone_us))
    }

    /// Null where memory was not looked at often enough for a slope.
    #[must_use]
    pub fn growth(&self) -> Option<Growth> {
        let slope = |bytes: fn(&Memory) -> Option<u64>| {
            let points: Option<Vec<_>> = self
                .memory
                .iter()
                .map(|memory| Some((memory.at_us / 3.6e9, bytes(memory)? as f64)))
                .collect();
            let points = points.filter(|points| points.len() >= POINTS_MIN)?;
            // Neighbours are alike for as long as nobody weighs anew.
            let Trend { value, low, high, .. } = trend(&points, points.len() / POINTS_MIN, SEED);
            Some(Interval { value, low, high })
        };
        (!self.memory.is_empty()).then(|| Growth {
            wasm_bytes: slope(|memory| memory.wasm_bytes),
            gpu_bytes: slope(|memory| memory.gpu_bytes),
            browser_bytes: slope(|memory| memory.browser_bytes),
        })
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
