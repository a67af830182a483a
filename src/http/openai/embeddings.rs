//! Texts as vectors, as OpenAI's clients ask for them.

use std::sync::Arc;

use axum::{
    Extension,
    extract::{State, rejection::BytesRejection},
    http::header,
    response::{IntoResponse, Response},
};
use base64::{Engine as _, prelude::BASE64_STANDARD};
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::super::{
    Api, Problem,
    carry::{Carried, Computed, Order},
    infer, models,
};
use crate::{
    domain::{Caller, Failure},
    modality::{Finding, Recipe, Text},
    protocol::client::Parameters,
    telemetry::Origin,
};

/// Texts to make vectors of
#[derive(Deserialize, ToSchema)]
#[schema(as = OpenAiEmbeddingRequest)]
pub(super) struct Embed {
    model: String,
    input: Inputs,
    #[serde(default)]
    encoding_format: Encoding,
    /// Another length than the model's own, where the model says that its vectors may be cut
    #[schema(minimum = 1)]
    dimensions: Option<usize>,
    /// Passed over
    #[allow(dead_code, reason = "OpenAI's clients send it")]
    user: Option<String>,
    /// Where to compute: weft's request parameters
    #[serde(default)]
    #[schema(value_type = Option<Object>)]
    weft: Parameters,
}

#[derive(Deserialize, ToSchema)]
#[serde(untagged)]
#[schema(as = OpenAiEmbeddingInput)]
enum Inputs {
    Text(String),
    Texts(Vec<String>),
    Tokens(Vec<u32>),
    AllTokens(Vec<Vec<u32>>),
}

#[derive(Clone, Copy, Default, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
#[schema(as = OpenAiEncoding)]
enum Encoding {
    #[default]
    Float,
    Base64,
}

#[derive(Serialize, ToSchema)]
#[schema(as = OpenAiEmbeddings)]
pub(super) struct Embeddings {
    #[schema(pattern = "^list$")]
    object: &'static str,
    data: Vec<Embedding>,
    model: String,
    usage: Usage,
    weft: Beside,
}

#[derive(Serialize, ToSchema)]
#[schema(as = OpenAiEmbedding)]
#[allow(clippy::struct_field_names, reason = "OpenAI's own")]
struct Embedding {
    #[schema(pattern = "^embedding$")]
    object: &'static str,
    index: usize,
    embedding: Vector,
}

#[derive(Serialize, ToSchema)]
#[serde(untagged)]
#[schema(as = OpenAiVector)]
enum Vector {
    Floats(Vec<f32>),
    /// Little-endian FP32
    Base64(String),
}

#[derive(Serialize, ToSchema)]
#[schema(as = OpenAiUsage)]
struct Usage {
    prompt_tokens: usize,
    total_tokens: usize,
}

/// What OpenAI has no fields for
#[derive(Serialize, ToSchema)]
#[schema(as = EmbeddingsComputed)]
struct Beside {
    computed: Vec<Computed>,
    /// Indices of texts that are longer than the model takes, and whose ends were left out
    truncated: Vec<usize>,
}

/// Vectors of texts
///
/// Up to 2048 texts of up to 1 MiB, 8 MiB together; what a model has no room for is left out and told.
#[utoipa::path(post, path = "/v1/embeddings", tag = "openai", request_body = Embed,
    responses((status = 200, body = Embeddings)))]
pub(in super::super) async fn embed(
    State(api): State<Arc<Api>>,
    Extension(caller): Extension<Caller>,
    Extension(origin): Extension<Origin>,
    body: Result<Bytes, BytesRejection>,
) -> Result<Response, Problem> {
    let refused = |failure: Failure| {
        api.metrics.refused(None, failure.code);
        Problem::malformed(failure)
    };
    let body = body.map_err(|rejection| refused(rejection.into()))?;
    let asked: Embed =
        serde_json::from_slice(&body).map_err(|error| refused(Failure::invalid(error.to_string())))?;
    check(&asked.weft).map_err(refused)?;
    let entry = models::find(&api, &asked.model).map_err(refused)?;
    let recipe = api.cache.recipe(std::slice::from_ref(&entry), None).await.map_err(refused)?;
    let Recipe::Embedding(model) = recipe else {
        let message = format!("the task of {} is {}, not embedding", entry.model.name, recipe.task());
        return Err(refused(Failure::invalid(message)));
    };
    let (encoding, dimensions, texts) = (asked.encoding_format, asked.dimensions, asked.input.texts());
    let order = Order { api: api.clone(), entries: vec![entry], parameters: asked.weft, caller, origin };
    let begin = move || model.begin(&texts, dimensions);
    let carried = order.carry(body.len(), begin).await.map_err(Problem::malformed)?;
    let answer = serde_json::to_vec(&answer(asked.model, encoding, carried));
    let answer = answer.expect("vectors hold only finite numbers");
    infer::fits(answer.len())?;
    Ok(([(header::CONTENT_TYPE, "application/json")], answer).into_response())
}

/// What the protocol has other words for, or no place.
fn check(parameters: &Parameters) -> Result<(), Failure> {
    let wrong = |problem: &str| Err(Failure::invalid(format!("weft: {problem}")));
    match parameters {
        Parameters { request: Some(_), .. } => {
            wrong("over HTTP the parameter request is the header X-Request-Id")
        }
        Parameters { traceparent: Some(_), .. } => {
            wrong("over HTTP the parameter traceparent is the header traceparent")
        }
        Parameters { binary_data_output: true, .. } => wrong("vectors come as encoding_format says"),
        _ if parameters.sequence()?.is_some() => wrong("texts are no sequence"),
        _ => Ok(()),
    }
}

impl Inputs {
    fn texts(self) -> Vec<Text> {
        match self {
            Self::Text(text) => vec![Text::Plain(text)],
            Self::Texts(texts) => texts.into_iter().map(Text::Plain).collect(),
            Self::Tokens(tokens) => vec![Text::Tokens(tokens)],
            Self::AllTokens(tokens) => tokens.into_iter().map(Text::Tokens).collect(),
        }
    }
}

fn answer(model: String, encoding: Encoding, carried: Carried) -> Embeddings {
    let (mut data, mut cut, mut count) = (Vec::with_capacity(carried.findings.len()), Vec::new(), 0);
    for (index, finding) in carried.findings.into_iter().enumerate() {
        let Finding::Embedding { embedding, tokens, truncated } = finding else { continue };
        if truncated {
            cut.push(index);
        }
        count += tokens.unwrap_or_default();
        let embedding = match encoding {
            Encoding::Float => Vector::Floats(embedding),
            Encoding::Base64 => {
                let bytes: Vec<u8> = embedding.iter().flat_map(|value| value.to_le_bytes()).collect();
                Vector::Base64(BASE64_STANDARD.encode(bytes))
            }
        };
        data.push(Embedding { object: "embedding", index, embedding });
    }
    let usage = Usage { prompt_tokens: count, total_tokens: count };
    let weft = Beside { computed: carried.computed, truncated: cut };
    Embeddings { object: "list", data, model, usage, weft }
}
