//! The program's log: who gets which of its lines and spans.

use std::{
    io::{self, IsTerminal},
    sync::Arc,
};

use serde::Deserialize;
use tracing::Metadata;
use tracing_subscriber::{
    EnvFilter, Layer, Registry,
    filter::{FilterExt, LevelFilter, ParseError, filter_fn},
    layer::SubscriberExt,
    reload,
    util::SubscriberInitExt,
};

use super::{TRACES, otlp::Exporter};

#[derive(Debug, thiserror::Error)]
pub enum LogError {
    #[error("{filter:?} is no log filter: {source}")]
    Filter { filter: String, source: ParseError },
    #[error("could not export to {endpoint}: {message}")]
    Exporter { endpoint: String, message: String },
    #[error("the program has a log already")]
    Twice,
}

/// How lines look on standard error.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    #[default]
    Text,
    Json,
}

#[derive(Debug)]
pub struct LogOrder {
    /// In the syntax of tracing's `EnvFilter`.
    pub filter: String,
    pub format: Format,
    /// A collector's address, as `http://127.0.0.1:4318`.
    pub otlp: Option<String>,
}

type Filter = reload::Handle<EnvFilter, Registry>;
type Boxed = Box<dyn Layer<Registry> + Send + Sync>;

/// The running log. Clones share it.
#[derive(Clone, Debug)]
pub struct Log {
    filters: Arc<Vec<Filter>>,
    exporter: Option<Exporter>,
}

/// The exporter's own work, which would never end if it were exported.
const OWN: [&str; 4] = ["opentelemetry", "hyper", "reqwest", "h2"];

impl Log {
    /// Starts the program's only log.
    pub fn start(order: &LogOrder) -> Result<Self, LogError> {
        let exporter = order.otlp.as_deref().map(Exporter::start).transpose()?;
        let (lines, filter) = lines(order)?;
        let (mut layers, mut filters) = (vec![lines], vec![filter]);
        if let Some(exporter) = &exporter {
            let traces = filter_fn(|metadata| metadata.is_span() && metadata.target() == TRACES);
            let traces = traces.with_max_level_hint(LevelFilter::DEBUG);
            let spans = tracing_opentelemetry::layer().with_tracer(exporter.tracer()).with_location(false);
            layers.push(spans.with_threads(false).with_filter(traces).boxed());
            let (filter, handle) = reload::Layer::new(parse(&order.filter)?);
            layers.push(
                exporter
                    .bridge()
                    .with_filter(filter.and(filter_fn(foreign).with_max_level_hint(LevelFilter::TRACE)))
                    .boxed(),
            );
            filters.push(handle);
        }
        tracing_subscriber::registry().with(layers).try_init().map_err(|_| LogError::Twice)?;
        Ok(Self { filters: Arc::new(filters), exporter })
    }

    /// Whether `filter` is one.
    pub fn check(filter: &str) -> Result<(), LogError> {
        parse(filter).map(drop)
    }

    /// Goes on with another filter.
    pub fn filter(&self, text: &str) -> Result<(), LogError> {
        for filter in self.filters.iter() {
            filter.reload(parse(text)?).expect("the log lives as long as the program");
        }
        Ok(())
    }

    /// Sends what is yet to be exported; blocks while the collector takes it, for 10 s at most.
    pub fn finish(&self) {
        if let Some(error) = self.exporter.as_ref().and_then(|exporter| exporter.finish().err()) {
            tracing::warn!(%error, "not everything was exported");
        }
    }
}

fn lines(order: &LogOrder) -> Result<(Boxed, Filter), LogError> {
    let (filter, handle) = reload::Layer::new(parse(&order.filter)?);
    let lines = tracing_subscriber::fmt::layer().with_writer(io::stderr);
    let lines: Boxed = match order.format {
        Format::Text => lines.with_ansi(io::stderr().is_terminal()).with_filter(filter).boxed(),
        Format::Json => lines.json().flatten_event(true).with_filter(filter).boxed(),
    };
    Ok((lines, handle))
}

fn foreign(metadata: &Metadata<'_>) -> bool {
    !OWN.iter().any(|own| metadata.target().starts_with(own))
}

fn parse(text: &str) -> Result<EnvFilter, LogError> {
    EnvFilter::try_new(text).map_err(|source| LogError::Filter { filter: text.to_owned(), source })
}
