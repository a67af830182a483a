//! Traces and logs to an OpenTelemetry collector, over HTTP with protobuf.
//!
//! Each signal has a queue and a thread of its own: what does not fit the queue is dropped, and no request waits.

use std::time::Duration;

use opentelemetry::{KeyValue, trace::TracerProvider};
use opentelemetry_appender_tracing::layer::OpenTelemetryTracingBridge;
use opentelemetry_otlp::{LogExporter, SpanExporter, WithExportConfig, WithHttpConfig};
use opentelemetry_sdk::{
    Resource,
    error::OTelSdkResult,
    logs::{self, BatchLogProcessor, SdkLoggerProvider},
    trace::{self, BatchSpanProcessor, Sampler, SdkTracer, SdkTracerProvider},
};

use super::LogError;

/// Three spans per request: at 1,000 requests a second, what comes while one export takes a second or two.
const QUEUE: usize = 8192;

const BATCH: usize = 512;

/// A trace is looked at by people; a collector's own batches wait as long.
const DELAY: Duration = Duration::from_secs(1);

/// A collector that takes longer is down.
const EXPORT_WITHIN: Duration = Duration::from_secs(5);

#[derive(Clone, Debug)]
pub(super) struct Exporter {
    traces: SdkTracerProvider,
    logs: SdkLoggerProvider,
}

impl Exporter {
    pub(super) fn start(endpoint: &str) -> Result<Self, LogError> {
        let wrong = |error: String| LogError::Exporter { endpoint: endpoint.to_owned(), message: error };
        let path = |signal: &str| format!("{}/v1/{signal}", endpoint.trim_end_matches('/'));
        let client = client().map_err(wrong)?;
        let spans = SpanExporter::builder()
            .with_http()
            .with_http_client(client.clone())
            .with_endpoint(path("traces"))
            .with_timeout(EXPORT_WITHIN)
            .build()
            .map_err(|error| wrong(error.to_string()))?;
        let records = LogExporter::builder()
            .with_http()
            .with_http_client(client)
            .with_endpoint(path("logs"))
            .with_timeout(EXPORT_WITHIN)
            .build()
            .map_err(|error| wrong(error.to_string()))?;
        let resource = Resource::builder_empty()
            .with_service_name("weft")
            .with_attribute(KeyValue::new("service.version", env!("CARGO_PKG_VERSION")))
            .build();
        let batches = trace::BatchConfigBuilder::default()
            .with_max_queue_size(QUEUE)
            .with_max_export_batch_size(BATCH)
            .with_scheduled_delay(DELAY)
            .build();
        let traces = SdkTracerProvider::builder()
            .with_span_processor(BatchSpanProcessor::builder(spans).with_batch_config(batches).build())
            // A caller that samples decides for its requests.
            .with_sampler(Sampler::ParentBased(Box::new(Sampler::AlwaysOn)))
            .with_resource(resource.clone())
            .build();
        let batches = logs::BatchConfigBuilder::default()
            .with_max_queue_size(QUEUE)
            .with_max_export_batch_size(BATCH)
            .with_scheduled_delay(DELAY)
            .build();
        let logs = SdkLoggerProvider::builder()
            .with_log_processor(BatchLogProcessor::builder(records).with_batch_config(batches).build())
            .with_resource(resource)
            .build();
        Ok(Self { traces, logs })
    }

    pub(super) fn tracer(&self) -> SdkTracer {
        self.traces.tracer("weft")
    }

    pub(super) fn bridge(
        &self,
    ) -> OpenTelemetryTracingBridge<SdkLoggerProvider, opentelemetry_sdk::logs::SdkLogger> {
        OpenTelemetryTracingBridge::new(&self.logs)
    }

    /// Sends what is queued and ends both threads. Blocks for as long.
    pub(super) fn finish(&self) -> OTelSdkResult {
        let traces = self.traces.shutdown_with_timeout(EXPORT_WITHIN);
        self.logs.shutdown_with_timeout(EXPORT_WITHIN).and(traces)
    }
}

/// The processors' threads have no runtime, so the client brings its own, and is made where none is.
fn client() -> Result<reqwest::blocking::Client, String> {
    let build = || reqwest::blocking::Client::builder().no_proxy().timeout(EXPORT_WITHIN).build();
    let thread = std::thread::Builder::new().name("otlp client".to_owned()).spawn(build);
    let thread = thread.map_err(|error| error.to_string())?;
    thread.join().expect("building a client does not panic").map_err(|error| error.to_string())
}
