//! What OpenAI's clients ask: which models there are, and vectors of texts.

pub(super) mod embeddings;

use std::{collections::HashMap, sync::Arc};

use axum::{
    Json,
    extract::{Path, State, rejection::PathRejection},
};
use serde::Serialize;
use utoipa::ToSchema;

use super::{Api, Problem, models};
use crate::domain::{Digest, ModelName};

#[derive(Serialize, ToSchema)]
#[schema(as = OpenAiModels)]
pub(super) struct Models {
    #[schema(pattern = "^list$")]
    object: &'static str,
    data: Vec<Model>,
}

#[derive(Serialize, ToSchema)]
#[schema(as = OpenAiModel)]
pub(super) struct Model {
    id: ModelName,
    #[schema(pattern = "^model$")]
    object: &'static str,
    /// When it was added, in seconds since the Unix epoch.
    created: i64,
    owned_by: &'static str,
}

/// Models as OpenAI lists them
#[utoipa::path(get, path = "/v1/models", tag = "openai", responses((status = 200, body = Models)))]
pub(super) async fn list(State(api): State<Arc<Api>>) -> Result<Json<Models>, Problem> {
    Ok(Json(Models { object: "list", data: served(&api).await? }))
}

/// One model as OpenAI shows it
#[utoipa::path(get, path = "/v1/models/{id}", tag = "openai", params(("id" = String, Path)),
    responses((status = 200, body = Model)))]
pub(super) async fn show(
    State(api): State<Arc<Api>>,
    id: Result<Path<String>, PathRejection>,
) -> Result<Json<Model>, Problem> {
    let Path(id) = id?;
    let found = served(&api).await?.into_iter().find(|model| model.id.as_str() == id);
    Ok(Json(found.ok_or_else(|| models::unknown(&id, &api))?))
}

/// What the registry serves, with the time at which the store says that it came.
async fn served(api: &Api) -> Result<Vec<Model>, Problem> {
    let stored = api.store.models().await?;
    let added: HashMap<(ModelName, Digest), i64> = stored
        .into_iter()
        .map(|stored| ((stored.model.name, stored.model.digest), stored.added_at_us))
        .collect();
    let model = |name: &ModelName, digest: Digest| {
        let added_at_us = added.get(&(name.clone(), digest))?;
        Some(Model { id: name.clone(), object: "model", created: added_at_us / 1_000_000, owned_by: "weft" })
    };
    let served = api.registry.list();
    // One that was added or removed in between is in the next answer.
    Ok(served.iter().filter_map(|entry| model(&entry.model.name, entry.model.digest)).collect())
}
