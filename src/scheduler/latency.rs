//! How long steps take: per lane, per kind of lane, and at the far end. Pure.

use std::time::Duration;

use tokio::time::Instant;

use crate::domain::BackendKind;

/// Weight of the newest sample in a running mean.
const WEIGHT: f64 = 0.2;

/// In this time a peak is forgotten but for a third: a lane that was slow is shunned for seconds, not for minutes.
const PEAK_FOR: Duration = Duration::from_secs(10);

/// What a step is thought to take where nothing of its model has been measured on such a lane.
/// Only the order matters: a native lane has no link to cross, and a GPU is worth a try before a CPU in WASM.
pub(super) fn prior(kind: &BackendKind) -> f64 {
    match kind {
        BackendKind::Ort(_) => 1_000.0,
        BackendKind::Webgpu | BackendKind::Webnn => 4_000.0,
        BackendKind::Wasm => 8_000.0,
    }
}

/// A mean that jumps to a slow sample at once and comes back from it slowly.
#[derive(Clone, Copy, Debug)]
pub(super) struct PeakMean {
    mean: f64,
    /// What the last peak was over the mean, when it was seen.
    over: f64,
    at: Instant,
}

impl PeakMean {
    pub(super) fn new(micros: f64, now: Instant) -> Self {
        Self { mean: micros, over: 0.0, at: now }
    }

    pub(super) fn measured(&mut self, micros: f64, now: Instant) {
        let over = self.over(now);
        self.mean += (micros - self.mean) * WEIGHT;
        self.over = over.max(micros - self.mean);
        self.at = now;
    }

    /// Microseconds that the next step is expected to take.
    pub(super) fn expected(&self, now: Instant) -> f64 {
        self.mean + self.over(now)
    }

    pub(super) fn mean(&self) -> f64 {
        self.mean
    }

    fn over(&self, now: Instant) -> f64 {
        let since = now.saturating_duration_since(self.at).as_secs_f64();
        self.over * (-since / PEAK_FOR.as_secs_f64()).exp()
    }
}

/// What lanes of a kind take for a model, whichever lane it is: the prior of one that has not run it.
#[derive(Debug, Default)]
pub(super) struct KindMeans(Vec<(BackendKind, f64)>);

impl KindMeans {
    pub(super) const UNKNOWN: Self = Self(Vec::new());

    pub(super) fn measured(&mut self, kind: &BackendKind, micros: f64) {
        match self.0.iter_mut().find(|(known, _)| known == kind) {
            Some((_, mean)) => *mean += (micros - *mean) * WEIGHT,
            None => self.0.push((kind.clone(), micros)),
        }
    }

    pub(super) fn of(&self, kind: &BackendKind) -> f64 {
        let known = self.0.iter().find(|(known, _)| known == kind);
        known.map_or_else(|| prior(kind), |(_, mean)| *mean)
    }
}

/// Samples kept for the far end: a p95 of fewer says little, and of more is about the past.
const KEPT: usize = 64;

/// Below this nothing is said of the far end.
const LEAST: usize = 16;

/// The latest service times of a model.
#[derive(Debug, Default)]
pub(super) struct Recent {
    /// In order of size.
    sorted: Vec<f64>,
    /// In order of time, the oldest at `next` once full.
    kept: Vec<f64>,
    next: usize,
}

impl Recent {
    pub(super) fn measured(&mut self, micros: f64) {
        if self.kept.len() < KEPT {
            self.kept.push(micros);
        } else {
            let oldest = std::mem::replace(&mut self.kept[self.next], micros);
            self.next = (self.next + 1) % KEPT;
            let at = self.sorted.partition_point(|sample| sample.total_cmp(&oldest).is_lt());
            self.sorted.remove(at);
        }
        let at = self.sorted.partition_point(|sample| sample.total_cmp(&micros).is_lt());
        self.sorted.insert(at, micros);
    }

    /// The microseconds within which 95 of 100 steps end, once enough have been seen.
    pub(super) fn p95(&self) -> Option<f64> {
        (self.sorted.len() >= LEAST).then(|| self.sorted[self.sorted.len() * 95 / 100])
    }
}
