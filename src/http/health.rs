//! The Open Inference Protocol's health.

use std::sync::Arc;

use axum::{Json, extract::State, http::StatusCode};
use serde_json::{Value, json};

use super::Api;
use crate::pool::InstanceState;

pub(super) async fn live(State(api): State<Arc<Api>>) -> Json<Value> {
    Json(json!({"live": true, "id": api.id}))
}

/// Ready when every wanted instance serves or has failed with a reason, and some lane can serve.
pub(super) async fn ready(State(api): State<Arc<Api>>) -> (StatusCode, Json<Value>) {
    let status = api.pool.status();
    let starting: Vec<_> = status
        .values()
        .filter(|instance| instance.state == InstanceState::Starting)
        .map(|s| &s.instance)
        .collect();
    let lanes = api.scheduler.lanes().await.len();
    let stopping = api.tasks.draining();
    let ready = starting.is_empty() && lanes > 0 && !stopping;
    let code = if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (code, Json(json!({"ready": ready, "starting": starting, "lanes": lanes, "stopping": stopping})))
}
