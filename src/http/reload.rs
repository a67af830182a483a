//! `/api/v1/reload`: the configuration, read again.

use std::sync::Arc;

use axum::{Json, extract::State};
use futures_util::future::BoxFuture;
use serde::Serialize;
use utoipa::ToSchema;

use super::{Api, Problem};
use crate::domain::Failure;

/// Reads the configuration again; whoever composes the daemon knows how.
pub type Reload = Arc<dyn Fn() -> BoxFuture<'static, Result<Reloaded, Failure>> + Send + Sync>;

/// What became of the keys that had changed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, ToSchema)]
pub struct Reloaded {
    pub applied: Vec<String>,
    /// Those that count only after a restart.
    pub restart: Vec<String>,
    /// Those that the command line or the environment has the last word on.
    pub overruled: Vec<String>,
}

/// Read the configuration again
#[utoipa::path(post, path = "/api/v1/reload", tag = "observation", responses((status = 200, body = Reloaded)))]
pub(super) async fn reload(State(api): State<Arc<Api>>) -> Result<Json<Reloaded>, Problem> {
    Ok(Json((api.reload)().await?))
}
