//! Files made of weights, and variants of models.

use std::{collections::BTreeMap, sync::Arc};

use axum::{
    Json,
    extract::{State, rejection::StringRejection},
};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{Api, Problem, models::find};
use crate::{
    domain::{Digest, Failure},
    models::{
        GateInputs, ModelError,
        convert::{Made, Weights, from_weights},
        source::Brought,
    },
    onnx::{convert::ConvertError, precision::Recipe},
};

/// Uploaded weights, weights that a download brought, or a model with a recipe.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = ConversionOrder)]
pub(super) struct Ordered {
    /// Of an uploaded file of weights.
    digest: Option<Digest>,
    /// What that file is called, which tells its format: `model.safetensors`, `model.gguf`, `pytorch_model.bin`.
    file: Option<String>,
    /// What came with it, by name: `config.json`, further files of weights, a tokenizer.
    #[serde(default)]
    #[schema(value_type = BTreeMap<String, String>)]
    files: BTreeMap<String, Digest>,
    /// The id of a download that is done, in place of the three above.
    download: Option<String>,
    /// The name of a model to make a variant of.
    model: Option<String>,
    /// `fp16`, `int8-dynamic`, or `int8`, `int4` or `int2` with `,block=N`, `,symmetric`, `,asymmetric`.
    precision: Option<String>,
    /// In place of `precision`: a recipe in TOML, with `default` and `[[layer]]`.
    recipe: Option<String>,
    /// Inputs to measure a variant on; without any it is measured on those that came with the model, else on made-up ones.
    #[serde(default)]
    gate: GateInputs,
}

/// What a conversion made.
#[derive(Serialize, ToSchema)]
pub(super) struct Converted {
    items: Vec<Made>,
    /// Where it comes from, to be given on with the name; of a download and of a model.
    source: Option<String>,
    revision: Option<String>,
}

/// Make a model's file of weights, or a variant of a model
///
/// A variant and what it was made of answer the same inputs natively, and its `accuracy` tells how far apart they are.
/// Nothing is called by a name yet: `POST /api/v1/models` takes each item's `digest` and `files`.
/// What nobody names goes when the daemon starts anew.
#[utoipa::path(post, path = "/api/v1/conversions", tag = "models", request_body = Ordered,
    responses((status = 200, body = Converted)))]
pub(super) async fn order(
    State(api): State<Arc<Api>>,
    body: Result<String, StringRejection>,
) -> Result<Json<Converted>, Problem> {
    let order: Ordered = serde_json::from_str(&body?).map_err(|error| Failure::invalid(error.to_string()))?;
    let Ordered { digest, file, files, download, model, precision, recipe, gate } = order;
    let recipe = match (precision, recipe) {
        (None, None) => None,
        (Some(text), None) => Some(Recipe::parse(&text)),
        (None, Some(text)) => Some(Recipe::from_toml(&text)),
        (Some(_), Some(_)) => return Err(wanted().into()),
    };
    let recipe = recipe.transpose().map_err(ModelError::from)?;
    let blobs = api.registry.blobs.clone();
    let (weights, source, revision) = match (digest, file, download, model, recipe) {
        (None, None, None, Some(model), Some(recipe)) if files.is_empty() => {
            let of = find(&api, &model)?;
            let _held = api.cache.hold(&of).await?;
            let (source, revision) = (Some(of.model.source.clone()), of.model.revision.clone());
            let made = api.registry.variant(of, recipe, &gate).await?;
            return Ok(Json(Converted { items: vec![made], source, revision }));
        }
        _ if !gate.inputs.is_empty() => return Err(Failure::invalid("gate is for variants").into()),
        (Some(digest), Some(file), None, None, None) => (Weights { digest, file, files }, None, None),
        (None, None, Some(id), None, None) if files.is_empty() => {
            let Brought { digest, file, files, source, revision, .. } = api.downloads.brought(&id)?;
            (Weights { digest, file, files }, Some(source), revision)
        }
        _ => return Err(wanted().into()),
    };
    let own = weights.clone();
    let made = tokio::task::spawn_blocking(move || from_weights(&blobs, &own)).await;
    let items = match made.expect("a conversion does not panic") {
        Err(ModelError::Convert(ConvertError::Architecture { name })) => {
            api.foreign.convert(&api.registry, weights, name).await?
        }
        made => made?,
    };
    Ok(Json(Converted { items, source, revision }))
}

fn wanted() -> Failure {
    Failure::invalid("digest and file are wanted, or download, or model with precision or recipe")
}
