//! `/metrics`: what was recorded, and what is so at the moment.

use std::sync::Arc;

use axum::{
    extract::State,
    http::{HeaderName, header},
};
use serde_json::Value;

use super::{Api, resources};
use crate::telemetry::Sample;

/// The text format's own type, which tells a scraper its version.
const TEXT: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Metrics, for Prometheus
#[utoipa::path(get, path = "/metrics", tag = "observation",
    responses((status = 200, content_type = "text/plain", body = String)))]
pub(super) async fn metrics(State(api): State<Arc<Api>>) -> ([(HeaderName, &'static str); 1], String) {
    let mut samples = vec![
        Sample::new("weft_requests_pending", api.scheduler.pending() as f64),
        Sample::new("weft_queue_depth", api.scheduler.backlog() as f64),
        Sample::new("weft_store_rows_lost_total", api.store.lost_runs() as f64),
    ];
    let (lanes, instances) = (resources::lane_items(&api).await, resources::instance_items(&api).await);
    samples.extend(lanes.iter().flat_map(of_lane));
    for instance in &instances {
        let browser = word(&instance["browser"]);
        samples.push(
            Sample::new("weft_instances", 1.0).of("browser", browser).of("state", word(&instance["state"])),
        );
        if let Some(bytes) = instance["memory_bytes"].as_f64() {
            samples.push(Sample::new("weft_instance_memory_bytes", bytes).of("browser", browser));
        }
    }
    for (browser, launches) in api.pool.launches() {
        let restarts = launches.launches - launches.first;
        samples.push(
            Sample::new("weft_instance_launches_total", launches.launches as f64).of("browser", &browser),
        );
        samples.push(Sample::new("weft_instance_restarts_total", restarts as f64).of("browser", &browser));
    }
    ([(header::CONTENT_TYPE, TEXT)], api.metrics.render(samples))
}

/// A lane as [`resources::lane_items`] shows it.
fn of_lane(lane: &Value) -> Vec<Sample> {
    let of = |name, value: f64| {
        Sample::new(name, value).of("browser", word(&lane["browser"])).of("backend", word(&lane["backend"]))
    };
    let mut samples = vec![of("weft_lanes", 1.0).of("state", word(&lane["state"]))];
    for session in lane["load"]["sessions"].as_array().into_iter().flatten() {
        samples.push(of("weft_sessions", 1.0).of("state", word(&session["state"])));
    }
    for (kind, field) in [("wasm", "wasm_bytes"), ("gpu", "gpu_bytes")] {
        let bytes = lane["memory"][field].as_f64();
        samples.extend(bytes.map(|bytes| of("weft_lane_memory_bytes", bytes).of("kind", kind)));
    }
    samples
}

fn word(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}
