//! Triton's model repository extension: which models there are, and which are to be loaded.

use std::sync::Arc;

use axum::{
    Json,
    extract::{Path, State, rejection::StringRejection},
};
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::{Value, json};

use super::{
    super::{
        Problem,
        models::{PROVE_WITHIN, Where},
    },
    Api, NamedPath,
};
use crate::{
    domain::Failure,
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

    fn told(&self, entry: &Entry) -> Value {
        let Self { state, reason } = self;
        json!({"name": entry.model.name, "version": entry.model.digest, "state": state, "reason": reason})
    }
}

type Text = Result<String, StringRejection>;

/// What a body says; an empty one says nothing.
fn read<T: Default + DeserializeOwned>(body: Text) -> Result<T, Problem> {
    let body = body.map_err(|rejection| Problem::malformed(rejection.into()))?;
    if body.is_empty() {
        return Ok(T::default());
    }
    serde_json::from_str(&body).map_err(|error| Problem::malformed(Failure::invalid(error.to_string())))
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Index {
    ready: bool,
}

pub(super) async fn index(State(api): State<Arc<Api>>, body: Text) -> Result<Json<Value>, Problem> {
    let Index { ready } = read(body)?;
    let mut index = Vec::new();
    for entry in api.registry.list() {
        let standing = Standing::of(&entry, &api).await?;
        if !ready || standing.ready() {
            index.push(standing.told(&entry));
        }
    }
    Ok(Json(Value::Array(index)))
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Load {
    /// Which lanes are to hold it; all when none are named.
    parameters: Where,
}

pub(super) async fn load(
    State(api): State<Arc<Api>>,
    path: NamedPath,
    body: Text,
) -> Result<Json<Value>, Problem> {
    let Path(named) = path?;
    let entry = named.find(&api)?;
    let Load { parameters } = read(body)?;
    api.scheduler.load(entry.clone(), parameters.into(), PROVE_WITHIN).await?;
    Ok(Json(Standing::of(&entry, &api).await?.told(&entry)))
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Unload {
    parameters: UnloadParameters,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct UnloadParameters {
    /// No model here depends on another, so that both answers are the same.
    #[serde(rename = "unload_dependents")]
    _unload_dependents: bool,
}

pub(super) async fn unload(
    State(api): State<Arc<Api>>,
    path: NamedPath,
    body: Text,
) -> Result<Json<Value>, Problem> {
    let Path(named) = path?;
    let entry = named.find(&api)?;
    let Unload { parameters: _ } = read(body)?;
    api.scheduler.unload(entry.clone()).await?;
    Ok(Json(Standing::of(&entry, &api).await?.told(&entry)))
}
