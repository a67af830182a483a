//! The Open Inference Protocol's health.

use std::sync::Arc;

use axum::{Json, extract::State, http::StatusCode};
use serde::Serialize;
use utoipa::ToSchema;

use super::Api;
use crate::{domain::InstanceId, pool::InstanceState};

#[derive(Serialize, ToSchema)]
pub(super) struct Live {
    live: bool,
    /// Tells this daemon from any other, and from itself after a restart.
    id: String,
}

#[derive(Serialize, ToSchema)]
pub(super) struct Readiness {
    ready: bool,
    starting: Vec<InstanceId>,
    lanes: usize,
    stopping: bool,
}

/// Whether the daemon runs
#[utoipa::path(get, path = "/v2/health/live", tag = "open inference protocol",
    responses((status = 200, body = Live)))]
pub(super) async fn live(State(api): State<Arc<Api>>) -> Json<Live> {
    Json(Live { live: true, id: api.id.clone() })
}

/// Whether the daemon can serve
///
/// Every wanted instance serves or has failed with a reason, and some lane can serve.
#[utoipa::path(get, path = "/v2/health/ready", tag = "open inference protocol",
    responses((status = 200, body = Readiness), (status = 503, body = Readiness)))]
pub(super) async fn ready(State(api): State<Arc<Api>>) -> (StatusCode, Json<Readiness>) {
    let status = api.pool.status();
    let starting: Vec<_> = status
        .values()
        .filter(|instance| instance.state == InstanceState::Starting)
        .map(|s| s.instance.clone())
        .collect();
    let lanes = api.scheduler.lanes().await.len();
    let stopping = api.tasks.draining();
    let ready = starting.is_empty() && lanes > 0 && !stopping;
    let code = if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (code, Json(Readiness { ready, starting, lanes, stopping }))
}
