//! One inference: JSON, or the binary tensor extension's layout.

use std::sync::Arc;

use axum::{
    Extension,
    body::Body,
    extract::{Path, State, rejection::BytesRejection},
    http::{HeaderMap, HeaderName, HeaderValue, header},
    response::{IntoResponse, Response},
};
use bytes::Bytes;
use futures_util::stream;

use super::{
    super::{Problem, infer, infer::Form},
    Api, NamedPath,
    schema::{InferenceRequest, InferenceResponse},
};
use crate::{
    domain::{Caller, Failure, ModelName},
    models::Entry,
    protocol::client::{self, Parameters, ParsedInfer, Posted},
    scheduler::Answer,
    telemetry::Origin,
};

/// How many bytes of JSON a body starts with, when tensors follow.
const HEADER_LENGTH: HeaderName = HeaderName::from_static("inference-header-content-length");

const TENSORS: HeaderValue = HeaderValue::from_static("application/octet-stream");
const JSON: HeaderValue = HeaderValue::from_static("application/json");

/// Ask a model
///
/// As JSON, or with tensors as bytes behind it (the binary tensor extension).
#[utoipa::path(post, path = "/v2/models/{name}/infer", tag = "open inference protocol",
    params(("name" = String, Path),
        ("inference-header-content-length" = Option<u32>, Header, description = "Bytes of JSON before the tensors' bytes; 0 for the one input's bytes alone")),
    request_body(content((InferenceRequest = "application/json"), (Vec<u8> = "application/octet-stream"))),
    responses((status = 200, description = "The outputs", headers(("inference-header-content-length" = u32)),
        content((InferenceResponse = "application/json"), (Vec<u8> = "application/octet-stream")))))]
pub(super) async fn infer(
    State(api): State<Arc<Api>>,
    Extension(caller): Extension<Caller>,
    Extension(origin): Extension<Origin>,
    path: NamedPath,
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Result<Response, Problem> {
    let Path(named) = path?;
    // Nothing further will see it, so that it is counted here.
    let refused = |failure: Failure| {
        api.metrics.refused(None, failure.code);
        Problem::malformed(failure)
    };
    let entry = named.find(&api).map_err(refused)?;
    let body = body.map_err(|rejection| refused(rejection.into()))?;
    let permit = api.scheduler.admit(&caller, body.len()).map_err(refused)?;
    let parsed = parse(&entry, &headers, body).map_err(refused)?;
    named_by_headers(&parsed.parameters).map_err(refused)?;
    let (id, model) = (parsed.id.clone(), parsed.model.clone());
    let (request, form) = infer::request(parsed, Some(entry), caller, origin, &api)?;
    let answer = infer::answered(&api, request, permit).await?;
    Ok(response(encode(&id, &model, &form, &answer)?))
}

fn parse(entry: &Entry, headers: &HeaderMap, body: Bytes) -> Result<ParsedInfer, Failure> {
    let model = entry.model.name.clone();
    match header_length(headers)? {
        Some(0) => client::parse_raw(model, &entry.model.signature, body),
        header => client::parse_posted(model, &body, header),
    }
}

/// A request over HTTP has headers for what a message must say itself.
fn named_by_headers(parameters: &Parameters) -> Result<(), Failure> {
    let wrong = |parameter: &str, header: &str| {
        Err(Failure::invalid(format!("over HTTP the parameter {parameter} is the header {header}")))
    };
    match parameters {
        Parameters { request: Some(_), .. } => wrong("request", "X-Request-Id"),
        Parameters { traceparent: Some(_), .. } => wrong("traceparent", "traceparent"),
        _ => Ok(()),
    }
}

fn header_length(headers: &HeaderMap) -> Result<Option<usize>, Failure> {
    let mut lengths = headers.get_all(HEADER_LENGTH).iter();
    let Some(length) = lengths.next() else { return Ok(None) };
    let text = length.to_str().unwrap_or_default();
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    match text.parse() {
        Ok(length) if digits && lengths.next().is_none() => Ok(Some(length)),
        _ => Err(Failure::invalid(format!("{HEADER_LENGTH} must be one number of bytes, not {length:?}"))),
    }
}

fn encode(id: &str, model: &ModelName, form: &Form, answer: &Answer) -> Result<Posted, Failure> {
    let binary = |output: &str| form.binary(output);
    infer::fits(client::least_size(&answer.outputs, binary))?;
    let id = Some(id).filter(|id| !id.is_empty());
    let posted = client::encode_posted(infer::told(id, model, answer), binary);
    infer::fits(posted.header.len() + posted.body.as_ref().map_or(0, crate::domain::Body::len))?;
    Ok(posted)
}

/// The tensors go out from the memory in which the lane left them.
fn response(Posted { header, body }: Posted) -> Response {
    let Some(tensors) = body else { return ([(header::CONTENT_TYPE, JSON)], header).into_response() };
    let length = header.len();
    let size = length + tensors.len();
    let parts: Vec<_> = std::iter::once(Bytes::from(header)).chain(tensors.parts().iter().cloned()).collect();
    let body = Body::from_stream(stream::iter(parts.into_iter().map(Ok::<_, std::convert::Infallible>)));
    let headers = [
        (header::CONTENT_TYPE, TENSORS),
        (header::CONTENT_LENGTH, HeaderValue::from(size)),
        (HEADER_LENGTH, HeaderValue::from(length)),
    ];
    (headers, body).into_response()
}
