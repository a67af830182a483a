//! Metrics in Prometheus' text format.
//!
//! What happens to a request is recorded as it happens, in series that are registered when a model first meets a
//! lane and only looked up from then on. What is so at the moment is read when somebody asks.

use std::{
    collections::HashMap,
    fmt::Write as _,
    sync::{Arc, Mutex, PoisonError, RwLock},
    time::{Duration, Instant},
};

use metrics::{Counter, Histogram, Key, Label, Level, Metadata, Recorder, Unit};
use metrics_exporter_prometheus::{
    Matcher, PrometheusBuilder, PrometheusHandle, PrometheusRecorder,
    formatting::{sanitize_label_value, write_help_line, write_type_line},
};
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use super::{
    minute::{LastMinute, Minute},
    process,
    table::{Kind, METRICS},
};
use crate::domain::{BackendKind, Code, Environment, FetchedBytes, LaneId, ModelName, Provenance, RunRecord};

/// 1, 2.5 and 5 per decade. A step of a small model on the native lane takes less than 100 µs; a request's time, when
/// it names none, is a minute, and a lane may take five to load a model.
const BUCKETS: [f64; 21] = [
    0.00005, 0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0,
    10.0, 25.0, 60.0, 120.0, 300.0,
];

/// Names that get series of their own; models come and go while the daemon runs, and a series stays.
const MODELS_MAX: usize = 256;

/// What stands for the models beyond.
const OTHER: &str = "other";

/// What stands where a request never came to a model, or to a lane.
const NONE: &str = "none";

/// Samples wait in memory until they are put into their buckets: at 10,000 requests a second half a megabyte.
const UPKEEP: Duration = Duration::from_secs(1);

const METADATA: Metadata<'static> = Metadata::new("weft", Level::INFO, None);

/// One value that is so at the moment.
#[derive(Clone, Debug)]
pub struct Sample {
    pub name: &'static str,
    pub labels: Vec<(&'static str, String)>,
    pub value: f64,
}

/// Clones share the series.
#[derive(Clone)]
pub struct Metrics(Arc<Inner>);

struct Inner {
    recorder: PrometheusRecorder,
    handle: PrometheusHandle,
    series: RwLock<HashMap<ModelName, HashMap<LaneId, Arc<Series>>>>,
    minute: Mutex<Minute>,
    started: Instant,
}

/// What one model does in lanes of one browser and backend.
struct Series {
    request: Histogram,
    queue: Histogram,
    compute: Histogram,
    transfer: Histogram,
    decode: Histogram,
    encode: Histogram,
    answered: Counter,
}

impl Default for Metrics {
    fn default() -> Self {
        let recorder = recorder();
        let handle = recorder.handle();
        let (series, minute, started) = (RwLock::default(), Mutex::default(), Instant::now());
        Self(Arc::new(Inner { recorder, handle, series, minute, started }))
    }
}

fn recorder() -> PrometheusRecorder {
    let seconds = Matcher::Suffix("_seconds".to_owned());
    let builder = PrometheusBuilder::new().set_buckets_for_metric(seconds, &BUCKETS);
    let recorder = builder.expect("there are buckets").build_recorder();
    for metric in METRICS {
        let (name, help) = (metric.name.into(), metric.help.into());
        match metric.kind {
            Kind::Counter => recorder.describe_counter(name, None, help),
            Kind::Gauge => recorder.describe_gauge(name, None, help),
            Kind::Histogram => recorder.describe_histogram(name, Some(Unit::Seconds), help),
        }
    }
    recorder
}

fn key(name: &'static str, labels: &[(&'static str, &str)]) -> Key {
    Key::from_parts(
        name,
        labels.iter().map(|(label, value)| Label::new(*label, (*value).to_owned())).collect::<Vec<_>>(),
    )
}

fn seconds(us: u64) -> f64 {
    us as f64 / 1e6
}

impl Metrics {
    /// Takes note of one attempt; `answered` says whether its caller was told, or another attempt follows.
    pub fn ran(&self, record: &RunRecord, answered: bool) {
        match (&record.error, &record.provenance) {
            (None, Some(lane)) => self.succeeded(record, lane),
            (None, None) => {}
            (Some(failure), lane) => {
                let lane = lane.as_ref().map(|lane| &lane.backend);
                if answered {
                    self.failed(Some(&record.model), lane, failure.code);
                } else {
                    self.count("weft_retries_total", Some(&record.model), lane, ("code", failure.code));
                }
            }
        }
    }

    /// A request that was refused before it had a row.
    pub fn refused(&self, model: Option<&ModelName>, code: Code) {
        self.failed(model, None, code);
    }

    pub fn loaded(&self, model: &ModelName, lane: &Environment, us: u64, fetched: FetchedBytes) {
        let (model, backend) = (self.label(Some(model)), lane.backend.to_string());
        let of = [("browser", &*lane.browser), ("backend", &*backend)];
        let labels = [("model", &*model), of[0], of[1]];
        let recorder = &self.0.recorder;
        recorder.register_histogram(&key("weft_load_seconds", &labels), &METADATA).record(seconds(us));
        // Native lanes fetch nothing.
        let page = !lane.backend.is_native();
        for (from, bytes) in
            [("network", fetched.network), ("cache", fetched.cache)].into_iter().filter(|_| page)
        {
            let labels = [of[0], of[1], ("from", from)];
            recorder.register_counter(&key("weft_fetched_bytes_total", &labels), &METADATA).increment(bytes);
        }
    }

    fn succeeded(&self, record: &RunRecord, lane: &Provenance) {
        let series = self.series(&record.model, lane);
        let timing = &record.timing;
        series.request.record(seconds(timing.total));
        series.queue.record(seconds(timing.queue));
        series.compute.record(seconds(timing.compute));
        series.transfer.record(seconds(timing.transfer));
        series.decode.record(seconds(timing.decode));
        series.encode.record(seconds(timing.encode));
        series.answered.increment(1);
        self.minute(|minute, now| minute.answered(now, timing.total));
        if lane.fallback.is_some() {
            self.tally("weft_fallbacks_total", &record.model);
        }
    }

    /// A slow request that a second lane has got as well.
    pub fn hedged(&self, model: &ModelName) {
        self.tally("weft_hedges_total", model);
    }

    /// A request that its second lane has answered.
    pub fn hedge_won(&self, model: &ModelName) {
        self.tally("weft_hedges_won_total", model);
    }

    fn tally(&self, name: &'static str, model: &ModelName) {
        let labels = [("model", &*self.label(Some(model)))];
        self.0.recorder.register_counter(&key(name, &labels), &METADATA).increment(1);
    }

    fn failed(&self, model: Option<&ModelName>, backend: Option<&BackendKind>, code: Code) {
        self.count("weft_requests_total", model, backend, ("outcome", code));
        let failures = key("weft_failures_total", &[("code", code.as_str())]);
        self.0.recorder.register_counter(&failures, &METADATA).increment(1);
        self.minute(|minute, now| minute.failed(now, code));
    }

    pub fn last_minute(&self) -> LastMinute {
        self.minute(|minute, now| minute.read(now))
    }

    fn minute<T>(&self, with: impl FnOnce(&mut Minute, u64) -> T) -> T {
        let now = self.0.started.elapsed().as_secs();
        with(&mut self.0.minute.lock().unwrap_or_else(PoisonError::into_inner), now)
    }

    fn count(
        &self,
        name: &'static str,
        model: Option<&ModelName>,
        backend: Option<&BackendKind>,
        (label, code): (&'static str, Code),
    ) {
        let backend = backend.map_or_else(|| NONE.to_owned(), ToString::to_string);
        let model = self.label(model);
        let labels = [("model", &*model), ("backend", &*backend), (label, code.as_str())];
        self.0.recorder.register_counter(&key(name, &labels), &METADATA).increment(1);
    }

    /// The name that a model goes by: its own for as many as have series of their own.
    fn label(&self, model: Option<&ModelName>) -> String {
        let Some(model) = model else { return NONE.to_owned() };
        let known = self.0.series.read().unwrap_or_else(PoisonError::into_inner);
        if known.contains_key(model) {
            return model.to_string();
        }
        drop(known);
        let mut known = self.0.series.write().unwrap_or_else(PoisonError::into_inner);
        if known.len() == MODELS_MAX {
            return OTHER.to_owned();
        }
        known.entry(model.clone()).or_default();
        model.to_string()
    }

    fn series(&self, model: &ModelName, lane: &Provenance) -> Arc<Series> {
        {
            let known = self.0.series.read().unwrap_or_else(PoisonError::into_inner);
            if let Some(series) = known.get(model).and_then(|lanes| lanes.get(&lane.lane)) {
                return series.clone();
            }
        }
        let name = self.label(Some(model));
        let series = Arc::new(self.register(&name, lane));
        let mut known = self.0.series.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(lanes) = known.get_mut(model) {
            lanes.insert(lane.lane.clone(), series.clone());
        }
        series
    }

    fn register(&self, model: &str, lane: &Provenance) -> Series {
        let backend = lane.backend.to_string();
        let labels = [("model", model), ("browser", &*lane.browser), ("backend", &*backend)];
        let recorder = &self.0.recorder;
        let histogram = |name| recorder.register_histogram(&key(name, &labels), &METADATA);
        let answered = [("model", model), ("backend", &*backend), ("outcome", "ok")];
        Series {
            request: histogram("weft_request_seconds"),
            queue: histogram("weft_queue_seconds"),
            compute: histogram("weft_compute_seconds"),
            transfer: histogram("weft_transfer_seconds"),
            decode: histogram("weft_decode_seconds"),
            encode: histogram("weft_encode_seconds"),
            answered: recorder.register_counter(&key("weft_requests_total", &answered), &METADATA),
        }
    }

    /// Puts samples into their buckets, until `stop`.
    pub async fn upkeep(self, stop: CancellationToken) {
        let mut ticks = interval(UPKEEP);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                _ = ticks.tick() => self.0.handle.run_upkeep(),
            }
        }
    }

    /// Everything that was recorded, and what is so at the moment.
    /// `now` may tell one series in parts.
    pub fn render(&self, now: Vec<Sample>) -> String {
        let mut text = self.0.handle.render();
        let now = sums(now.into_iter().chain(process::samples()));
        for metric in METRICS {
            let mut samples = now.iter().filter(|sample| sample.name == metric.name).peekable();
            if samples.peek().is_some() {
                write_help_line(&mut text, metric.name, None, None, metric.help);
                write_type_line(&mut text, metric.name, None, None, metric.kind.as_str());
            }
            samples.for_each(|sample| sample.write(&mut text));
        }
        text
    }
}

/// Each series once, with the sum of what was told of it.
fn sums(samples: impl Iterator<Item = Sample>) -> Vec<Sample> {
    let mut sums: Vec<Sample> = Vec::new();
    for sample in samples {
        match sums.iter_mut().find(|sum| sum.name == sample.name && sum.labels == sample.labels) {
            Some(sum) => sum.value += sample.value,
            None => sums.push(sample),
        }
    }
    sums
}

impl Sample {
    pub fn new(name: &'static str, value: f64) -> Self {
        Self { name, labels: Vec::new(), value }
    }

    #[must_use]
    pub fn of(mut self, label: &'static str, value: &str) -> Self {
        self.labels.push((label, value.to_owned()));
        self
    }

    fn write(&self, text: &mut String) {
        let label = |(name, value): &(&str, String)| format!("{name}=\"{}\"", sanitize_label_value(value));
        let labels: Vec<_> = self.labels.iter().map(label).collect();
        let labels = if labels.is_empty() { String::new() } else { format!("{{{}}}", labels.join(",")) };
        // Writing to a string does not fail.
        let _ = writeln!(text, "{}{labels} {}", self.name, self.value);
    }
}
