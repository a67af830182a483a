//! The Open Inference Protocol over HTTP, with Triton's binary tensor, model repository, schedule policy and
//! statistics extensions.
//!
//! A version of a model is its file's digest, and each model has one.

mod infer;
mod metadata;
mod repository;
mod statistics;

use std::sync::Arc;

use axum::{
    Router,
    extract::{Path, rejection::PathRejection},
    routing::{get, post},
};
use serde::Deserialize;

use super::{Api, models};
use crate::{domain::Failure, models::Entry};

pub(super) fn routes() -> Router<Arc<Api>> {
    Router::new()
        .route("/v2", get(metadata::server))
        .route("/v2/models/{name}", get(metadata::model))
        .route("/v2/models/{name}/versions/{version}", get(metadata::model))
        .route("/v2/models/{name}/ready", get(metadata::ready))
        .route("/v2/models/{name}/versions/{version}/ready", get(metadata::ready))
        .route("/v2/models/{name}/infer", post(infer::infer))
        .route("/v2/models/{name}/versions/{version}/infer", post(infer::infer))
        .route("/v2/models/stats", get(statistics::all))
        .route("/v2/models/{name}/stats", get(statistics::one))
        .route("/v2/models/{name}/versions/{version}/stats", get(statistics::one))
        .route("/v2/repository/index", post(repository::index))
        .route("/v2/repository/models/{name}/load", post(repository::load))
        .route("/v2/repository/models/{name}/unload", post(repository::unload))
}

/// The model that a path names.
#[derive(Deserialize)]
struct Named {
    name: String,
    version: Option<String>,
}

type NamedPath = Result<Path<Named>, PathRejection>;

impl Named {
    fn find(&self, api: &Api) -> Result<Arc<Entry>, Failure> {
        let entry = models::find(api, &self.name)?;
        models::check_version(&entry, self.version.as_deref())?;
        Ok(entry)
    }
}
