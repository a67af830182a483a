//! How long steps take: per lane, per kind of lane, and at the far end. Pure.

use std::{collections::BTreeMap, time::Duration};

use tokio::time::Instant;

use crate::domain::{BackendKind, Environment, ModelKind, Priors};

/// Weight of the newest sample in a running mean.
const WEIGHT: f64 = 0.2;

/// In this time a peak is forgotten but for a third: a lane that was slow is shunned for seconds, not for minutes.
const PEAK_FOR: Duration = Duration::from_secs(10);

/// What a step of this process's own lanes takes, which have no recipe: medians of silero-VAD, of a transformer of
/// 6 layers, width 384, and of magika, in the same files as those of `browsers/chromium.toml`.
const NATIVE_CPU: [(ModelKind, f64); 3] =
    [(ModelKind::Audio, 400.0), (ModelKind::Embedding, 13_600.0), (ModelKind::Other, 3_900.0)];

/// What a step is thought to take where nothing like it has been measured anywhere.
/// Only the order matters: a native lane has no link to cross, a GPU is worth a try before a CPU in WASM, and our own
/// kernels come after the engine that computes in the same place.
fn guess(backend: &BackendKind) -> f64 {
    match backend {
        BackendKind::Ort(_) => 1_000.0,
        BackendKind::Wgpu => 2_000.0,
        BackendKind::Webgpu | BackendKind::Webnn => 4_000.0,
        BackendKind::WeftWgsl => 5_000.0,
        BackendKind::Wasm => 8_000.0,
        BackendKind::WeftWasm => 9_000.0,
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

/// What lanes of a product and backend take for a model, whichever lane it is.
#[derive(Debug, Default)]
pub(super) struct Means(Vec<Mean>);

#[derive(Debug)]
struct Mean {
    browser: String,
    backend: BackendKind,
    micros: f64,
}

impl Means {
    pub(super) const UNKNOWN: &Self = &Self(Vec::new());

    pub(super) fn measured(&mut self, Environment { browser, backend, .. }: &Environment, micros: f64) {
        let like = |mean: &&mut Mean| mean.browser == *browser && mean.backend == *backend;
        match self.0.iter_mut().find(like) {
            Some(mean) => mean.micros += (micros - mean.micros) * WEIGHT,
            None => self.0.push(Mean { browser: browser.clone(), backend: backend.clone(), micros }),
        }
    }
}

/// What products' recipes say, by the products' names.
pub type RecipePriors = BTreeMap<String, Priors>;

/// What is known of a model's steps in lanes that have run none.
#[derive(Clone, Copy)]
pub(super) struct Expected<'a> {
    pub(super) kind: ModelKind,
    pub(super) means: &'a Means,
    pub(super) priors: &'a RecipePriors,
}

impl Expected<'_> {
    /// Microseconds in a lane of this product and backend: as measured in another of these, else as its recipe says,
    /// else as measured on its backend in another product.
    pub(super) fn of(&self, Environment { browser, backend, .. }: &Environment) -> f64 {
        let mut alike = self.means.0.iter().filter(|mean| mean.backend == *backend);
        let measured = alike.clone().find(|mean| mean.browser == *browser).map(|mean| mean.micros);
        let prior = || self.prior(browser, backend);
        let elsewhere = || alike.next().map(|mean| mean.micros);
        measured.or_else(prior).or_else(elsewhere).unwrap_or_else(|| guess(backend))
    }

    fn prior(&self, browser: &str, backend: &BackendKind) -> Option<f64> {
        if *backend == BackendKind::ort_cpu() {
            return NATIVE_CPU.iter().find(|(kind, _)| *kind == self.kind).map(|(_, micros)| *micros);
        }
        let step = self.priors.get(browser)?.get(&self.kind)?.get(backend)?;
        Some(step.as_micros() as f64)
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

#[cfg(test)]
mod tests;
