//! What OpenAI's clients ask: which models there are, and vectors of texts.

pub(super) mod embeddings;

use std::sync::Arc;

use axum::{
    Json,
    extract::{Path, State, rejection::PathRejection},
};
use serde::Serialize;
use utoipa::ToSchema;

use super::{Api, Problem, models};
use crate::{domain::ModelName, models::Entry};

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
pub(super) async fn list(State(api): State<Arc<Api>>) -> Json<Models> {
    Json(Models { object: "list", data: served(&api) })
}

/// One model as OpenAI shows it
#[utoipa::path(get, path = "/v1/models/{id}", tag = "openai", params(("id" = String, Path)),
    responses((status = 200, body = Model)))]
pub(super) async fn show(
    State(api): State<Arc<Api>>,
    id: Result<Path<String>, PathRejection>,
) -> Result<Json<Model>, Problem> {
    let Path(id) = id?;
    let found = served(&api).into_iter().find(|model| model.id.as_str() == id);
    Ok(Json(found.ok_or_else(|| models::unknown(&id, &api))?))
}

/// What the names stand for, each with the time at which it was added.
fn served(api: &Api) -> Vec<Model> {
    let model = |entry: &Arc<Entry>| Model {
        id: entry.model.name.clone(),
        object: "model",
        created: entry.history.added_at_us / 1_000_000,
        owned_by: "weft",
    };
    api.registry.latest().iter().map(model).collect()
}
