//! Triton's model repository extension: which models there are, and which are to be loaded.

use std::sync::Arc;

use axum::{
    Json,
    extract::{Path, State, rejection::StringRejection},
};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use utoipa::ToSchema;

use super::{
    super::{
        Problem,
        models::{PROVE_WITHIN, Where},
    },
    Api, NamedPath,
};
use crate::{
    domain::{Digest, Failure, ModelName},
    models::Entry,
    scheduler::{Seat, Stay},
};

/// Whether a request for a model would be answered, in the extension's words.
pub(super) struct Standing {
    pub(super) state: &'static str,
    pub(super) reason: String,
}

impl Standing {
    fn new(state: &'static str, reason: impl Into<String>) -> Self {
        Self { state, reason: reason.into() }
    }

    /// A model that nobody unloaded is ready where a lane holds it, or would load it for the first request.
    pub(super) async fn of(entry: &Arc<Entry>, api: &Api) -> Result<Self, Failure> {
        if let Some(reason) = entry.unusable() {
            return Ok(Self::new("UNAVAILABLE", reason));
        }
        let residence = api.scheduler.residence(entry.clone()).await?;
        if residence.stay == Stay::Unloaded {
            return Ok(Self::new("UNAVAILABLE", "unloaded"));
        }
        let is = |state: &'static str| move |seat: &&Seat| seat.session.state == state;
        let (preparing, refused) = (is("preparing"), is("refused"));
        let seats = &residence.lanes;
        if seats.iter().any(|seat| !preparing(&seat) && !refused(&seat)) {
            return Ok(Self::new("READY", ""));
        }
        if seats.iter().any(|seat| preparing(&seat)) {
            return Ok(Self::new("LOADING", ""));
        }
        let lanes = api.scheduler.lanes().await;
        if lanes.iter().any(|lane| !seats.iter().any(|seat| seat.lane == lane.lane)) {
            return Ok(Self::new("READY", "loaded on demand"));
        }
        let why = seats.iter().find_map(|seat| seat.session.reason.clone());
        Ok(Self::new("UNAVAILABLE", why.unwrap_or_else(|| "no lane serves".to_owned())))
    }

    pub(super) fn ready(&self) -> bool {
        self.state == "READY"
    }

    fn told(self, entry: &Entry) -> Told {
        let Self { state, reason } = self;
        Told { name: entry.model.name.clone(), version: entry.model.digest, state, reason }
    }
}

/// A model in the repository's index.
#[derive(Serialize, ToSchema)]
#[schema(as = RepositoryModel)]
pub(super) struct Told {
    name: ModelName,
    version: Digest,
    /// `READY`, `LOADING` or `UNAVAILABLE`.
    state: &'static str,
    reason: String,
}

type Text = Result<String, StringRejection>;

/// What a body says; an empty one says nothing.
fn read<T: Default + DeserializeOwned>(body: Text) -> Result<T, Problem> {
    let body = body.map_err(|rejection| Problem::malformed(rejection.into()))?;
    if body.is_empty() {
        return Ok(T::default());
    }
    let said: Result<Option<T>, _> = serde_json::from_str(&body);
    let said = said.map_err(|error| Problem::malformed(Failure::invalid(error.to_string())))?;
    Ok(said.unwrap_or_default())
}

#[derive(Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
#[schema(as = RepositoryIndex)]
pub(super) struct Index {
    ready: bool,
}

/// Every version of every model and its state
#[utoipa::path(post, path = "/v2/repository/index", tag = "open inference protocol",
    request_body = Option<Index>, responses((status = 200, body = Vec<Told>)))]
pub(super) async fn index(State(api): State<Arc<Api>>, body: Text) -> Result<Json<Vec<Told>>, Problem> {
    let Index { ready } = read(body)?;
    let mut index = Vec::new();
    for entry in api.registry.list() {
        let standing = Standing::of(&entry, &api).await?;
        if !ready || standing.ready() {
            index.push(standing.told(&entry));
        }
    }
    Ok(Json(index))
}

#[derive(Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = RepositoryLoad)]
pub(super) struct Load {
    /// Which lanes are to hold it; all when none are named.
    #[serde(default)]
    parameters: Where,
}

/// Load a model and keep it
#[utoipa::path(post, path = "/v2/repository/models/{name}/load", tag = "open inference protocol",
    params(("name" = String, Path)), request_body = Option<Load>, responses((status = 200, body = Told)))]
pub(super) async fn load(
    State(api): State<Arc<Api>>,
    path: NamedPath,
    body: Text,
) -> Result<Json<Told>, Problem> {
    let Path(named) = path?;
    let entry = named.find(&api)?;
    let Load { parameters } = read(body)?;
    api.scheduler.load(entry.clone(), parameters.into(), PROVE_WITHIN).await?;
    Ok(Json(Standing::of(&entry, &api).await?.told(&entry)))
}

#[derive(Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = RepositoryUnload)]
pub(super) struct Unload {
    #[serde(default, rename = "parameters")]
    _parameters: UnloadParameters,
}

#[derive(Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
#[schema(as = RepositoryUnloadParameters)]
pub(super) struct UnloadParameters {
    /// No model here depends on another, so that both answers are the same.
    #[serde(rename = "unload_dependents")]
    _unload_dependents: bool,
}

/// Unload a model
#[utoipa::path(post, path = "/v2/repository/models/{name}/unload", tag = "open inference protocol",
    params(("name" = String, Path)), request_body = Option<Unload>, responses((status = 200, body = Told)))]
pub(super) async fn unload(
    State(api): State<Arc<Api>>,
    path: NamedPath,
    body: Text,
) -> Result<Json<Told>, Problem> {
    let Path(named) = path?;
    let entry = named.find(&api)?;
    let Unload { .. } = read(body)?;
    api.scheduler.unload(entry.clone()).await?;
    Ok(Json(Standing::of(&entry, &api).await?.told(&entry)))
}
