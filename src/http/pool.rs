//! Instances that are started anew, and leases.

use std::{num::NonZero, sync::Arc, thread::available_parallelism, time::Duration};

use axum::{
    Json,
    extract::{
        Path, State,
        rejection::{PathRejection, StringRejection},
    },
    http::StatusCode,
};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{Api, Problem, resources::List};
use crate::{
    domain::{Code, Failure, InstanceId, LeaseId, Retry},
    pool::{LeaseError, Leased},
};

/// A benchmark's cell takes minutes; a caller that died must not keep a browser for longer.
const TTL: Duration = Duration::from_secs(60);
const TTL_MAX: Duration = Duration::from_secs(3600);

/// How long a caller waits for its turn, when it does not say.
const WAIT: Duration = Duration::from_secs(30);

type Named = Result<Path<String>, PathRejection>;

#[derive(Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = RestartOrder)]
pub(super) struct Restart {
    /// Of each of its lanes until it is restarted again, at most the cores; their share of these when it is not said.
    #[schema(minimum = 1)]
    threads: Option<u32>,
}

#[derive(Serialize, ToSchema)]
pub(super) struct Restarted {
    instance: InstanceId,
}

/// Restart a browser
///
/// It is drained and launched anew, also one that had failed.
#[utoipa::path(post, path = "/api/v1/instances/{id}/restart", tag = "pool", params(("id" = String, Path)),
    request_body = Option<Restart>, responses((status = 202, body = Restarted)))]
pub(super) async fn restart(
    State(api): State<Arc<Api>>,
    id: Named,
    body: Result<String, StringRejection>,
) -> Result<(StatusCode, Json<Restarted>), Problem> {
    let (Path(id), body) = (id?, body?);
    let order = if body.is_empty() { Ok(Restart::default()) } else { serde_json::from_str(&body) };
    let Restart { threads } =
        order.map_err(|error| Failure::invalid(format!("the body does not fit: {error}")))?;
    let cores = available_parallelism().map_or(1, NonZero::get);
    if let Some(threads) = threads.filter(|threads| *threads == 0 || *threads as usize > cores) {
        let message =
            format!("a lane has 1 to {cores} threads, as many as there are cores; {threads} it has not");
        return Err(Failure::invalid(message).into());
    }
    let instance = InstanceId::new(id.clone());
    if api.pool.restart(instance.clone(), threads).await {
        return Ok((StatusCode::ACCEPTED, Json(Restarted { instance })));
    }
    let known: Vec<_> = api.pool.status().into_keys().map(|id| id.to_string()).collect();
    let message = format!("no instance is called {id:?}; there are {}", known.join(", "));
    Err(Problem::not_found(message))
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = LeaseOrder)]
pub(super) struct Lease {
    /// A recipe's name.
    browser: String,
    /// How long it is held, at most an hour; 60 s when it is not said.
    #[serde(default, with = "humantime_serde")]
    #[schema(value_type = Option<String>, pattern = "^[1-9][0-9]{0,2}s$")]
    ttl: Option<Duration>,
    /// How long to wait for a free one; 30 s when it is not said.
    #[serde(default, with = "humantime_serde")]
    #[schema(value_type = Option<String>, pattern = "^[0-9]{1,3}s$")]
    wait: Option<Duration>,
}

/// Have a browser to oneself
///
/// Answers once its lanes are free.
#[utoipa::path(post, path = "/api/v1/leases", tag = "pool", request_body = Lease,
    responses((status = 200, body = Leased)))]
pub(super) async fn lease(
    State(api): State<Arc<Api>>,
    body: Result<String, StringRejection>,
) -> Result<Json<Leased>, Problem> {
    let order: Lease = serde_json::from_str(&body?)
        .map_err(|error| Failure::invalid(format!("the body does not fit: {error}")))?;
    let ttl = order.ttl.unwrap_or(TTL);
    if ttl.is_zero() || ttl > TTL_MAX {
        let message = format!("ttl must be more than 0 and at most {} s", TTL_MAX.as_secs());
        return Err(Failure::invalid(message).into());
    }
    let wait = order.wait.unwrap_or(WAIT).min(TTL_MAX);
    Ok(Json(api.pool.lease(&order.browser, ttl, wait).await?))
}

/// Who has a browser to itself
#[utoipa::path(get, path = "/api/v1/leases", tag = "pool", responses((status = 200, body = List<Leased>)))]
pub(super) async fn leases(State(api): State<Arc<Api>>) -> Json<List<Leased>> {
    List::whole(api.pool.leases())
}

#[derive(Serialize, ToSchema)]
pub(super) struct Released {
    lease: LeaseId,
}

/// Give a browser back
#[utoipa::path(delete, path = "/api/v1/leases/{lease}", tag = "pool", params(("lease" = String, Path)),
    responses((status = 200, body = Released)))]
pub(super) async fn release(State(api): State<Arc<Api>>, lease: Named) -> Result<Json<Released>, Problem> {
    let lease = LeaseId::new(lease?.0);
    if api.pool.release(&lease).await {
        return Ok(Json(Released { lease }));
    }
    Err(Problem::not_found(format!("no lease is called {lease}: it was released, or its time is over")))
}

impl From<LeaseError> for Failure {
    fn from(error: LeaseError) -> Self {
        let (code, retry) = match &error {
            LeaseError::Unknown { .. } => (Code::InvalidRequest, Retry::Never),
            LeaseError::Busy { .. } | LeaseError::Full | LeaseError::Stopping => {
                (Code::Overloaded, Retry::Same)
            }
        };
        Self::new(code, retry, error.to_string())
    }
}
