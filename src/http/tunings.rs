//! Recipes by layer within a budget of error.

use std::sync::Arc;

use axum::{
    Json,
    extract::{State, rejection::StringRejection},
};
use serde::Deserialize;
use utoipa::ToSchema;

use super::{Api, Problem, models::find};
use crate::{
    domain::Failure,
    models::{
        GateInputs, ModelError,
        tune::{Tuned, Tuning},
    },
    onnx::precision::Precision,
};

/// Fewest bits first; the others are for layers that do not bear these.
const USUAL: [&str; 2] = ["int4", "int8"];

/// Each is measured for each layer.
const PRECISIONS_MAX: usize = 4;

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = TuningOrder)]
pub(super) struct Ordered {
    /// The name of the model.
    model: String,
    /// How far answers may be off, as a share of the largest value.
    error: f64,
    /// What layers may be made, as `precision` of a conversion; `int4` and `int8` where it is not said.
    #[serde(default)]
    precisions: Vec<String>,
    /// Inputs to measure on; without any those that came with the model, else made-up ones.
    #[serde(default)]
    gate: GateInputs,
}

/// Find a recipe by layer within a budget of error
///
/// Each layer is measured alone in each precision, natively, then as many of them together as the budget bears; it takes
/// a run of the model for each of that. Nothing is kept: `POST /api/v1/conversions` makes the variant of a recipe.
#[utoipa::path(post, path = "/api/v1/tunings", tag = "models", request_body = Ordered,
    responses((status = 200, body = Tuned)))]
pub(super) async fn order(
    State(api): State<Arc<Api>>,
    body: Result<String, StringRejection>,
) -> Result<Json<Tuned>, Problem> {
    let order: Ordered = serde_json::from_str(&body?).map_err(|error| Failure::invalid(error.to_string()))?;
    let Ordered { model, error, precisions, gate } = order;
    if !(error.is_finite() && error > 0.0) {
        return Err(Failure::invalid("error is a share above 0").into());
    }
    if precisions.len() > PRECISIONS_MAX {
        return Err(Failure::invalid(format!("precisions are at most {PRECISIONS_MAX}")).into());
    }
    let named = if precisions.is_empty() { USUAL.map(str::to_owned).to_vec() } else { precisions };
    let parsed = named.iter().map(|text| Precision::parse(text)).collect::<Result<Vec<_>, _>>();
    let precisions = parsed.map_err(ModelError::from)?;
    if let Some(whole) = precisions.iter().find(|one| matches!(one, Precision::Fp32 | Precision::Fp16)) {
        return Err(Failure::invalid(format!("{whole} is not for single layers")).into());
    }
    let of = find(&api, &model)?;
    let _held = api.cache.hold(&of).await?;
    let tuning = Tuning { error_max: error, precisions };
    Ok(Json(api.registry.tune(of, &tuning, &gate).await?))
}
