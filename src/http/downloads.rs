//! Downloads of models: order, watch, cancel.

use std::{sync::Arc, time::Duration};

use axum::{
    Json,
    extract::{
        Path, Query, State,
        rejection::{PathRejection, QueryRejection, StringRejection},
    },
    http::StatusCode,
};
use serde::Deserialize;
use utoipa::{IntoParams, ToSchema};

use super::{Api, Problem, resources::List};
use crate::{
    domain::Failure,
    models::source::{Download, Locator, Order, SourceError},
};

/// A proxy gives an answer up after a minute.
const WAIT_MAX: Duration = Duration::from_secs(50);

type Named = Result<Path<String>, PathRejection>;

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = DownloadOrder)]
pub(super) struct Ordered {
    /// `https://…`, `hf:…`, `pypi:…`, `npm:…`, `weft:…` or `ipfs:CID`.
    source: String,
    /// Take it only when it is here already.
    #[serde(default)]
    offline: bool,
}

/// Download a model's file
///
/// The daemon goes where the source says. An order for a source that is on its way joins it.
#[utoipa::path(post, path = "/api/v1/downloads", tag = "models", request_body = Ordered,
    responses((status = 202, body = Download)))]
pub(super) async fn order(
    State(api): State<Arc<Api>>,
    body: Result<String, StringRejection>,
) -> Result<(StatusCode, Json<Download>), Problem> {
    let order: Ordered = serde_json::from_str(&body?).map_err(|error| Failure::invalid(error.to_string()))?;
    let source: Locator = order.source.parse()?;
    let download = api.downloads.order(Order { source, offline: order.offline })?;
    Ok((StatusCode::ACCEPTED, Json(download)))
}

/// Downloads
///
/// Those under way and the latest that ended, the oldest first.
#[utoipa::path(get, path = "/api/v1/downloads", tag = "models",
    responses((status = 200, body = List<Download>)))]
pub(super) async fn list(State(api): State<Arc<Api>>) -> Json<List<Download>> {
    List::whole(api.downloads.list())
}

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct Patience {
    /// How long to wait for its end, at most 50 s; not at all when it is not said.
    #[serde(default, with = "humantime_serde")]
    #[param(value_type = Option<String>, pattern = "^[0-9]{1,3}ms$")]
    wait: Option<Duration>,
}

/// One download
#[utoipa::path(get, path = "/api/v1/downloads/{id}", tag = "models",
    params(("id" = String, Path), Patience), responses((status = 200, body = Download)))]
pub(super) async fn show(
    State(api): State<Arc<Api>>,
    id: Named,
    patience: Result<Query<Patience>, QueryRejection>,
) -> Result<Json<Download>, Problem> {
    let (Path(id), Query(patience)) = (id?, patience?);
    let wait = patience.wait.unwrap_or_default().min(WAIT_MAX);
    Ok(Json(api.downloads.get(&id, wait).await.map_err(told)?))
}

/// Cancel a download
///
/// What came of it stays for the next order of its source.
#[utoipa::path(delete, path = "/api/v1/downloads/{id}", tag = "models", params(("id" = String, Path)),
    responses((status = 200, body = Download)))]
pub(super) async fn cancel(State(api): State<Arc<Api>>, id: Named) -> Result<Json<Download>, Problem> {
    let Path(id) = id?;
    Ok(Json(api.downloads.cancel(&id).await.map_err(told)?))
}

fn told(error: SourceError) -> Problem {
    match error {
        SourceError::Unknown { .. } => Problem::not_found(error.to_string()),
        error => error.into(),
    }
}
