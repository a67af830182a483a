//! Instances that are started anew, and leases.

use std::{sync::Arc, time::Duration};

use axum::{
    Json,
    extract::{
        Path, State,
        rejection::{PathRejection, StringRejection},
    },
    http::StatusCode,
};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{Api, Problem};
use crate::{
    domain::{Code, Failure, InstanceId, LeaseId, Retry},
    pool::LeaseError,
};

/// A benchmark's cell takes minutes; a caller that died must not keep a browser for longer.
const TTL: Duration = Duration::from_secs(60);
const TTL_MAX: Duration = Duration::from_secs(3600);

/// How long a caller waits for its turn, when it does not say.
const WAIT: Duration = Duration::from_secs(30);

type Named = Result<Path<String>, PathRejection>;

pub(super) async fn restart(
    State(api): State<Arc<Api>>,
    id: Named,
) -> Result<(StatusCode, Json<Value>), Problem> {
    let Path(id) = id?;
    if api.pool.restart(InstanceId::new(id.clone())).await {
        return Ok((StatusCode::ACCEPTED, Json(json!({"instance": id}))));
    }
    let known: Vec<_> = api.pool.status().into_keys().map(|id| id.to_string()).collect();
    let message = format!("no instance is called {id:?}; there are {}", known.join(", "));
    Err(Problem::not_found(message))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Lease {
    browser: String,
    #[serde(default, with = "humantime_serde")]
    ttl: Option<Duration>,
    #[serde(default, with = "humantime_serde")]
    wait: Option<Duration>,
}

pub(super) async fn lease(
    State(api): State<Arc<Api>>,
    body: Result<String, StringRejection>,
) -> Result<Json<Value>, Problem> {
    let order: Lease = serde_json::from_str(&body?)
        .map_err(|error| Failure::invalid(format!("the body does not fit: {error}")))?;
    let ttl = order.ttl.unwrap_or(TTL);
    if ttl.is_zero() || ttl > TTL_MAX {
        let message = format!("ttl must be more than 0 and at most {} s", TTL_MAX.as_secs());
        return Err(Failure::invalid(message).into());
    }
    let wait = order.wait.unwrap_or(WAIT).min(TTL_MAX);
    Ok(Json(json!(api.pool.lease(&order.browser, ttl, wait).await?)))
}

pub(super) async fn leases(State(api): State<Arc<Api>>) -> Json<Value> {
    Json(json!({"items": api.pool.leases(), "cursor": null}))
}

pub(super) async fn release(State(api): State<Arc<Api>>, lease: Named) -> Result<Json<Value>, Problem> {
    let lease = LeaseId::new(lease?.0);
    if api.pool.release(&lease).await {
        return Ok(Json(json!({"lease": lease})));
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
