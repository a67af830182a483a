//! What people have, asked of a model: a text, an image, a recording, a file.

use std::sync::Arc;

use axum::{
    Extension, Json,
    extract::{
        Query, State,
        rejection::{BytesRejection, QueryRejection},
    },
    http::{HeaderMap, header},
};
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::{
    Api, Problem,
    carry::{Carried, Computed, Order},
    models,
};
use crate::{
    domain::{Caller, Failure, ModelName, Policy},
    modality::{Finding, Input, Task, Text},
    models::Entry,
    protocol::client::{FallbackPolicy, OneOrMany, Parameters},
    telemetry::Origin,
};

/// Models of one request: a task takes three at most.
const MODELS_MAX: usize = 8;

/// Which models, and where.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct Asked {
    /// A model's name, or several with commas between
    model: String,
    /// What to do, where the model's files leave it open: `embedding`, `text-classification`, `image-embedding`,
    /// `image-classification`, `speech-detection`, `file-type` or `ocr`
    task: Option<String>,
    /// Backends to accept, with commas between
    backend: Option<String>,
    /// Browsers to accept, with commas between
    browser: Option<String>,
    /// `native` or `none`
    #[param(inline)]
    fallback: Option<FallbackPolicy>,
    /// Which lanes are preferred
    #[param(inline)]
    policy: Option<Policy>,
    #[serde(default)]
    strict: bool,
    #[serde(default)]
    priority: u32,
    /// Microseconds for all of it
    #[serde(default)]
    timeout: u64,
}

/// Texts as JSON
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Texts {
    texts: Vec<String>,
}

/// What was found, and where it was computed
#[derive(Serialize, ToSchema)]
pub(super) struct Found {
    task: Task,
    models: Vec<ModelName>,
    /// One for each text, else one.
    results: Vec<Finding>,
    computed: Vec<Computed>,
}

/// Ask about a text, an image, a recording or a file
///
/// The body is the file itself; its `Content-Type` says how it is read: `text/…` as one text, `application/json` as
/// `{"texts": […]}`, `image/…` and `audio/…` as such, and anything else as bytes whose type is asked for.
#[utoipa::path(post, path = "/api/v1/ask", tag = "models", params(Asked),
    request_body(content((Texts = "application/json"), (String = "text/plain"), (Vec<u8> = "application/octet-stream"))),
    responses((status = 200, body = Found)))]
pub(super) async fn ask(
    State(api): State<Arc<Api>>,
    Extension(caller): Extension<Caller>,
    Extension(origin): Extension<Origin>,
    asked: Result<Query<Asked>, QueryRejection>,
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Result<Json<Found>, Problem> {
    let Query(asked) = asked?;
    let refused = |failure: &Failure| api.metrics.refused(None, failure.code);
    let entries = asked.entries(&api).inspect_err(refused)?;
    let parameters = asked.parameters().inspect_err(refused)?;
    let task = asked.task.as_deref().map(str::parse).transpose().map_err(Failure::invalid);
    let task: Option<Task> = task.inspect_err(refused)?;
    let body = body.map_err(Failure::from).inspect_err(refused)?;
    let bytes = body.len();
    let input = input(&headers, body).inspect_err(refused)?;
    let recipe = api.cache.recipe(&entries, task).await.inspect_err(refused)?;
    let task = recipe.task();
    let names = entries.iter().map(|entry| entry.model.name.clone()).collect();
    let order = Order { api: api.clone(), entries, parameters, caller, origin };
    let Carried { findings, computed } = order.carry(bytes, move || recipe.begin(&input)).await?;
    Ok(Json(Found { task, models: names, results: findings, computed }))
}

impl Asked {
    fn entries(&self, api: &Api) -> Result<Vec<Arc<Entry>>, Failure> {
        let names: Vec<_> = self.model.split(',').collect();
        if names.len() > MODELS_MAX {
            return Err(Failure::invalid(format!("at most {MODELS_MAX} models are asked together")));
        }
        names.into_iter().map(|name| models::find(api, name)).collect()
    }

    fn parameters(&self) -> Result<Parameters, Failure> {
        let words = |list: &Option<String>| {
            list.as_ref().map(|list| list.split(',').map(str::to_owned).collect::<Vec<_>>())
        };
        let backends = words(&self.backend).map(|words| {
            let backends = words.iter().map(|word| word.parse());
            backends
                .collect::<Result<Vec<_>, _>>()
                .map_err(|error| Failure::invalid(format!("backend: {error}")))
        });
        Ok(Parameters {
            backend: backends.transpose()?.map(OneOrMany::Many),
            browser: words(&self.browser).map(OneOrMany::Many),
            fallback: self.fallback,
            policy: self.policy,
            strict: self.strict,
            priority: self.priority,
            timeout: self.timeout,
            ..Parameters::default()
        })
    }
}

/// What a body is, by what it is called.
fn input(headers: &HeaderMap, body: Bytes) -> Result<Input, Failure> {
    let named = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let kind = named.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    Ok(match kind.split('/').next().unwrap_or_default() {
        "text" => {
            let text = String::from_utf8(body.into());
            let text = text.map_err(|_| Failure::invalid("the text is not UTF-8"))?;
            Input::Texts(vec![Text::Plain(text)])
        }
        "image" => Input::Image(body),
        "audio" => Input::Audio(body),
        _ if kind == "application/json" => {
            let texts: Texts =
                serde_json::from_slice(&body).map_err(|error| Failure::invalid(error.to_string()))?;
            Input::Texts(texts.texts.into_iter().map(Text::Plain).collect())
        }
        _ => Input::File(body),
    })
}
