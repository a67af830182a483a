//! Every metric there is: what `/metrics` says of it, and what the documentation must.

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Counter,
    Gauge,
    Histogram,
}

impl Kind {
    /// The word of the text format.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram => "histogram",
        }
    }
}

#[derive(Debug)]
pub struct Metric {
    pub name: &'static str,
    pub kind: Kind,
    pub labels: &'static [&'static str],
    pub help: &'static str,
}

const fn metric(
    name: &'static str,
    kind: Kind,
    labels: &'static [&'static str],
    help: &'static str,
) -> Metric {
    Metric { name, kind, labels, help }
}

/// What a model's steps are told apart by.
const LANE: &[&str] = &["model", "browser", "backend"];

pub const METRICS: &[Metric] = &[
    metric(
        "weft_request_seconds",
        Kind::Histogram,
        LANE,
        "From acceptance to the answer, of requests that succeeded.",
    ),
    metric("weft_queue_seconds", Kind::Histogram, LANE, "From acceptance until the lane turned to the step."),
    metric("weft_compute_seconds", Kind::Histogram, LANE, "The engine's run with its outputs read back."),
    metric("weft_transfer_seconds", Kind::Histogram, LANE, "Between daemon and lane, there and back."),
    metric("weft_decode_seconds", Kind::Histogram, LANE, "In the lane, before the run."),
    metric("weft_encode_seconds", Kind::Histogram, LANE, "In the lane, after the run."),
    metric("weft_load_seconds", Kind::Histogram, LANE, "Loading a model into a lane, its proof apart."),
    metric(
        "weft_fetched_bytes_total",
        Kind::Counter,
        &["browser", "backend", "from"],
        "Bytes of models' files that lanes loaded: from the daemon, or from their browser's cache.",
    ),
    metric(
        "weft_requests_total",
        Kind::Counter,
        &["model", "backend", "outcome"],
        "Requests answered or refused.",
    ),
    metric(
        "weft_failures_total",
        Kind::Counter,
        &["code"],
        "Requests that failed or were refused, by the reason told.",
    ),
    metric(
        "weft_retries_total",
        Kind::Counter,
        &["model", "backend", "code"],
        "Attempts that failed and were followed by another.",
    ),
    metric(
        "weft_fallbacks_total",
        Kind::Counter,
        &["model"],
        "Requests that a native lane answered instead of what was wanted.",
    ),
    metric("weft_hedges_total", Kind::Counter, &["model"], "Slow requests that a second lane got as well."),
    metric(
        "weft_hedges_won_total",
        Kind::Counter,
        &["model"],
        "Those of them that the second lane answered.",
    ),
    metric("weft_requests_pending", Kind::Gauge, &[], "Requests admitted and not yet answered."),
    metric("weft_queue_depth", Kind::Gauge, &[], "Requests that no lane has room for."),
    metric("weft_lanes", Kind::Gauge, &["browser", "backend", "state"], "Lanes by what they do."),
    metric(
        "weft_sessions",
        Kind::Gauge,
        &["browser", "backend", "state"],
        "Models in lanes, by what became of their proof.",
    ),
    metric(
        "weft_lane_memory_bytes",
        Kind::Gauge,
        &["browser", "backend", "kind"],
        "What lanes say they hold.",
    ),
    metric("weft_instances", Kind::Gauge, &["browser", "state"], "Browsers by what they do."),
    metric("weft_instance_memory_bytes", Kind::Gauge, &["browser"], "What the browsers' processes hold."),
    metric("weft_instance_launches_total", Kind::Counter, &["browser"], "Browsers launched."),
    metric(
        "weft_instance_restarts_total",
        Kind::Counter,
        &["browser"],
        "Launches after the first of an instance.",
    ),
    metric("weft_store_rows_lost_total", Kind::Counter, &[], "Runs that never reached the database."),
    metric("process_cpu_seconds_total", Kind::Counter, &[], "Processor time of the daemon's own process."),
    metric("process_resident_memory_bytes", Kind::Gauge, &[], "Memory of the daemon's own process."),
];
