//! The Open Inference Protocol over HTTP, with Triton's binary tensor, model repository, schedule policy and
//! statistics extensions.
//!
//! A version of a model is its file's digest; without one, the version added last is meant.

mod infer;
mod metadata;
mod repository;
mod schema;
mod statistics;

use std::sync::Arc;

use axum::extract::{Path, rejection::PathRejection};
use serde::Deserialize;
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{Api, models, openapi::versioned};
use crate::{
    domain::{Failure, ModelRef},
    models::Entry,
};

/// What only looks.
pub(super) fn routes() -> OpenApiRouter<Arc<Api>> {
    OpenApiRouter::new()
        .routes(routes!(metadata::server))
        .merge(versioned(routes!(metadata::model)))
        .merge(versioned(routes!(metadata::ready)))
        .routes(routes!(statistics::all))
        .merge(versioned(routes!(statistics::one)))
        .routes(routes!(repository::index))
}

/// What happens once for each `Idempotency-Key`.
pub(super) fn changes() -> OpenApiRouter<Arc<Api>> {
    OpenApiRouter::new()
        .merge(versioned(routes!(infer::infer)))
        .routes(routes!(repository::load))
        .routes(routes!(repository::unload))
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
        let Ok(asked) = self.name.parse::<ModelRef>() else { return Err(models::unknown(&self.name, api)) };
        let asked = asked.of_version(self.version.clone()).map_err(Failure::invalid)?;
        models::find_version(api, &asked.name, asked.version.as_deref())
    }
}
