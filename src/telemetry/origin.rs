//! Where a request comes from, and the spans that follow it.
//!
//! Spans are made where somebody wants them: without an exporter, and without a log filter of `weft=debug`, each is
//! one look at a flag.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use http::HeaderMap;
use opentelemetry::{
    Context,
    propagation::{Extractor, TextMapPropagator},
    trace::TraceContextExt,
};
use opentelemetry_sdk::propagation::TraceContextPropagator;
use tracing::{Span, debug_span, field};
use tracing_opentelemetry::OpenTelemetrySpanExt;

use crate::domain::{Failure, Provenance, RequestId, RunId, Timing};

/// The target of these spans.
pub const TRACES: &str = "weft::trace";

/// What a client may call its request.
const REQUEST: &str = "x-request-id";

/// A caller's own name for a request, and the span of its that ours belong to.
#[derive(Clone, Debug)]
pub struct Origin {
    pub request: RequestId,
    parent: Option<Context>,
    /// Requests of one connection are numbered.
    parts: Arc<AtomicU64>,
}

/// The headers that the W3C's trace context takes.
struct Headers<'a>(&'a HeaderMap);

impl Extractor for Headers<'_> {
    fn get(&self, key: &str) -> Option<&str> {
        self.0.get(key).and_then(|value| value.to_str().ok())
    }

    fn keys(&self) -> Vec<&str> {
        self.0.keys().map(http::HeaderName::as_str).collect()
    }
}

/// A message's `traceparent`.
struct Parameter<'a>(&'a str);

impl Extractor for Parameter<'_> {
    fn get(&self, key: &str) -> Option<&str> {
        (key == "traceparent").then_some(self.0)
    }

    fn keys(&self) -> Vec<&str> {
        vec!["traceparent"]
    }
}

/// As the specification wants it, what is not well-formed counts as absent.
fn parent(from: &dyn Extractor) -> Option<Context> {
    let context = TraceContextPropagator::new().extract_with_context(&Context::new(), from);
    context.span().span_context().is_valid().then_some(context)
}

impl Origin {
    /// The client's id when it is well-formed, else a new one.
    pub fn of(headers: &HeaderMap) -> Self {
        let given = headers.get(REQUEST).and_then(|value| value.to_str().ok()?.parse().ok());
        Self::new(given.unwrap_or_else(made), parent(&Headers(headers)))
    }

    fn new(request: RequestId, parent: Option<Context>) -> Self {
        Self { request, parent, parts: Arc::default() }
    }

    /// A request among several on a connection: what it says of itself, else the connection's id with a number.
    #[must_use]
    pub fn part(&self, request: Option<RequestId>, traceparent: Option<&str>) -> Self {
        let numbered = || {
            let number = self.parts.fetch_add(1, Ordering::Relaxed) + 1;
            // Only a client's id can be too long for a number.
            format!("{}-{number}", self.request).parse().unwrap_or_else(|_| made())
        };
        let own = traceparent.and_then(|text| parent(&Parameter(text)));
        Self::new(request.unwrap_or_else(numbered), own.or_else(|| self.parent.clone()))
    }

    /// Begins the request's span.
    pub fn trace(self, model: &str) -> Trace {
        let request = debug_span!(
            target: TRACES, parent: None, "request",
            request = %self.request, model, run = field::Empty, outcome = field::Empty
        );
        if let Some(parent) = self.parent
            && !request.is_disabled()
        {
            // Without an exporter there is nobody to tell.
            let _ = request.set_parent(parent);
        }
        Trace { id: self.request, request, queue: Span::none() }
    }
}

/// Random, so that no two daemons make the same.
fn made() -> RequestId {
    format!("{:032x}", rand::random::<u128>()).parse().expect("hex digits are well-formed")
}

/// A request's spans, as far as they are open: they end when this is dropped.
#[derive(Debug)]
pub struct Trace {
    pub id: RequestId,
    request: Span,
    queue: Span,
}

impl Trace {
    /// Begins a span for one stage of the request.
    #[must_use]
    pub fn stage(&self, stage: usize, model: &str) -> Self {
        let span = debug_span!(
            target: TRACES, parent: &self.request, "stage", stage, model, run = field::Empty, outcome = field::Empty
        );
        Self { id: self.id.clone(), request: span, queue: Span::none() }
    }

    /// It waits for a lane, for the first time or again.
    pub fn queued(&mut self) {
        self.queue = debug_span!(target: TRACES, parent: &self.request, "queue");
    }

    /// An attempt begins, and so the waiting is over.
    pub fn step(&mut self, run: &RunId, lane: &Provenance) -> Span {
        self.queue = Span::none();
        debug_span!(
            target: TRACES, parent: &self.request, "step",
            run = %run, lane = %lane.lane, backend = %lane.backend, browser = lane.browser, attempt = lane.attempt,
            compute_us = field::Empty, transfer_us = field::Empty, outcome = field::Empty
        )
    }

    /// Says how an attempt ended, or the request when no lane was ever chosen.
    pub fn ran(&self, step: Option<&Span>, run: &RunId, timing: &Timing, error: Option<&Failure>) {
        let outcome = error.map_or("ok", |failure| failure.code.as_str());
        if let Some(step) = step {
            step.record("compute_us", timing.compute);
            step.record("transfer_us", timing.transfer);
            step.record("outcome", outcome);
        }
        self.request.record("run", run.as_str());
        self.request.record("outcome", outcome);
        let within = step.unwrap_or(&self.request);
        within.in_scope(|| {
            tracing::debug!(request = %self.id, run = %run, outcome, total_us = timing.total, "run ended");
        });
    }
}
