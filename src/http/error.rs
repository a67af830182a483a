//! Failures as HTTP answers: one type, written in the way of the protocol that the route belongs to.
//!
//! A handler answers with a [`Problem`]; [`written`], the outermost layer, gives it its body.

use axum::{
    body::Body,
    extract::{
        Request,
        rejection::{BytesRejection, PathRejection, QueryRejection, StringRejection},
    },
    http::{HeaderValue, Method, StatusCode, Uri, header},
    middleware::Next,
    response::{IntoResponse, Response},
};
use serde::Serialize;
use serde_json::{Value, json};
use utoipa::ToSchema;

use super::FRAME_MAX;
use crate::domain::{Code, Failure, Retry};

pub(super) fn status(code: Code) -> StatusCode {
    match code {
        Code::InvalidRequest => StatusCode::UNPROCESSABLE_ENTITY,
        Code::UnknownModel => StatusCode::NOT_FOUND,
        Code::ModelNotReady | Code::Quarantined => StatusCode::CONFLICT,
        Code::NoBackend | Code::Overloaded | Code::LaneLost | Code::OutOfMemory => {
            StatusCode::SERVICE_UNAVAILABLE
        }
        Code::RateLimited => StatusCode::TOO_MANY_REQUESTS,
        Code::DeadlineExceeded => StatusCode::GATEWAY_TIMEOUT,
        // What nginx made customary for a client that closed its request.
        Code::Cancelled => StatusCode::from_u16(499).expect("499 is in range"),
        Code::Unauthorized => StatusCode::FORBIDDEN,
        Code::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
        Code::SourceUnavailable => StatusCode::BAD_GATEWAY,
        Code::Internal => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

/// A failure and the status that tells it.
#[derive(Clone, Debug)]
pub struct Problem {
    failure: Failure,
    status: StatusCode,
}

impl<E: Into<Failure>> From<E> for Problem {
    fn from(error: E) -> Self {
        let failure = error.into();
        Self { status: status(failure.code), failure }
    }
}

impl Problem {
    /// A failure that this status tells better than its code's own.
    pub(super) fn told_as(failure: Failure, status: StatusCode) -> Self {
        Self { failure, status }
    }

    /// The body of one that is told before there is a request.
    pub(super) fn text(code: &str, status: &str, detail: &str) -> String {
        format!(
            r#"{{"type":"/docs/errors#{code}","title":"A limit is reached","status":{status},"detail":"{detail}","code":"{code}","retry":"same"}}"#
        )
    }

    /// A resource that is not there.
    pub(super) fn not_found(message: String) -> Self {
        Self { failure: Failure::invalid(message), status: StatusCode::NOT_FOUND }
    }

    /// A handshake that the protocol's library refused, with its own status.
    pub(super) fn no_handshake(status: StatusCode, message: String) -> Self {
        Self { failure: Failure::invalid(message), status }
    }

    /// What is asked for is under way already.
    pub(super) fn conflict(message: String) -> Self {
        Self {
            failure: Failure::new(Code::InvalidRequest, Retry::Same, message),
            status: StatusCode::CONFLICT,
        }
    }

    /// Whether asking again cannot help.
    pub(super) fn is_final(&self) -> bool {
        self.failure.retry == Retry::Never
    }

    /// A request that is none of the protocol's, before any model was asked.
    pub(super) fn malformed(failure: Failure) -> Self {
        let status = match failure.code {
            Code::InvalidRequest => StatusCode::BAD_REQUEST,
            code => status(code),
        };
        Self { failure, status }
    }

    /// A body in a form that nothing here reads.
    pub(super) fn unsupported(message: String) -> Self {
        Self { failure: Failure::invalid(message), status: StatusCode::UNSUPPORTED_MEDIA_TYPE }
    }

    /// As RFC 9457 has it, with our code and whether to retry.
    fn problem(&self) -> Value {
        let Failure { code, message, retry, retry_after_s: _ } = self.failure.clone();
        json!(ProblemDetails {
            kind: format!("/docs/errors#{code}"),
            title: title(code),
            status: self.status.as_u16(),
            detail: message,
            code,
            retry,
        })
    }

    fn oip(&self) -> Value {
        json!(OipError { error: self.failure.message.clone() })
    }

    /// OpenAI's object; its clients look for its own words where it has some.
    fn openai(&self) -> Value {
        let kind = match self.status {
            StatusCode::TOO_MANY_REQUESTS => "rate_limit_error",
            StatusCode::UNAUTHORIZED => "authentication_error",
            StatusCode::FORBIDDEN => "permission_error",
            status if status.is_client_error() => "invalid_request_error",
            _ => "server_error",
        };
        let code = match self.failure.code {
            Code::UnknownModel => "model_not_found",
            Code::RateLimited => "rate_limit_exceeded",
            code => code.as_str(),
        };
        let message = self.failure.message.clone();
        json!(OpenAiError { error: OpenAiFailure { message, kind, param: None, code } })
    }
}

/// RFC 9457's problem details, with the code, and whether trying again can help
#[derive(Serialize, ToSchema)]
pub(super) struct ProblemDetails {
    /// Where the code is explained.
    #[serde(rename = "type")]
    #[schema(format = "uri-reference")]
    kind: String,
    title: &'static str,
    status: u16,
    detail: String,
    code: Code,
    retry: Retry,
}

/// The Open Inference Protocol's error
#[derive(Serialize, ToSchema)]
pub(super) struct OipError {
    error: String,
}

/// OpenAI's error
#[derive(Serialize, ToSchema)]
pub(super) struct OpenAiError {
    error: OpenAiFailure,
}

#[derive(Serialize, ToSchema)]
struct OpenAiFailure {
    message: String,
    #[serde(rename = "type")]
    kind: &'static str,
    param: Option<String>,
    code: &'static str,
}

/// What a code means, the same words at every occurrence.
pub(super) fn title(code: Code) -> &'static str {
    match code {
        Code::InvalidRequest => "The request cannot be understood, or fits no signature",
        Code::UnknownModel => "No model has this name or version",
        Code::ModelNotReady => "The model does not serve at the moment",
        Code::NoBackend => "No lane offers what was named",
        Code::Quarantined => "The lanes named compute this model wrongly",
        Code::Overloaded => "A limit is reached, or the daemon is stopping",
        Code::RateLimited => "The caller's own limit is reached",
        Code::DeadlineExceeded => "The request's time ran out",
        Code::Cancelled => "The caller cancelled the request",
        Code::LaneLost => "The lane died, and so did every other try",
        Code::OutOfMemory => "The lane could not hold it",
        Code::Unauthorized => "The caller may not do this",
        Code::TooLarge => "Something is over its limit of bytes",
        Code::SourceUnavailable => "Where the model comes from did not give it as it should",
        Code::Internal => "The daemon is at fault",
    }
}

/// The protocol that a route belongs to.
#[derive(Clone, Copy)]
pub(super) enum Protocol {
    OpenAi,
    OpenInference,
    Own,
}

impl Protocol {
    pub(super) fn of(path: &str) -> Self {
        match path.split('/').nth(1) {
            Some("v1") => Self::OpenAi,
            Some("v2") => Self::OpenInference,
            _ => Self::Own,
        }
    }

    pub(super) fn content_type(self) -> &'static str {
        match self {
            Self::OpenAi | Self::OpenInference => "application/json",
            Self::Own => "application/problem+json",
        }
    }
}

/// Writes the problem that a handler or a layer answered with, for the protocol of the route.
pub(super) async fn written(request: Request, next: Next) -> Response {
    let protocol = Protocol::of(request.uri().path());
    let mut response = next.run(request).await;
    if let Some(problem) = response.extensions_mut().remove::<Problem>() {
        let body = match protocol {
            Protocol::OpenAi => problem.openai(),
            Protocol::OpenInference => problem.oip(),
            Protocol::Own => problem.problem(),
        };
        *response.body_mut() = Body::from(body.to_string());
        let kind = HeaderValue::from_static(protocol.content_type());
        response.headers_mut().insert(header::CONTENT_TYPE, kind);
    }
    response
}

pub(super) async fn no_route(uri: Uri) -> Problem {
    let path = uri.path();
    let message = match path.strip_prefix("/ipfs/") {
        Some(below) => format!("nothing is below a file: /ipfs/{{cid}} is the whole path, not /ipfs/{below}"),
        None => format!("there is no route {path}"),
    };
    let failure = Failure::invalid(message);
    Problem { failure, status: StatusCode::NOT_FOUND }
}

pub(super) async fn no_method(method: Method, uri: Uri) -> Problem {
    let failure = Failure::invalid(format!("{} does not take {method}", uri.path()));
    Problem { failure, status: StatusCode::METHOD_NOT_ALLOWED }
}

impl From<PathRejection> for Failure {
    fn from(rejection: PathRejection) -> Self {
        Self::invalid(rejection.body_text())
    }
}

impl From<QueryRejection> for Failure {
    fn from(rejection: QueryRejection) -> Self {
        Self::invalid(rejection.body_text())
    }
}

impl From<StringRejection> for Failure {
    fn from(rejection: StringRejection) -> Self {
        unread(rejection.status(), rejection.body_text())
    }
}

impl From<BytesRejection> for Failure {
    fn from(rejection: BytesRejection) -> Self {
        unread(rejection.status(), rejection.body_text())
    }
}

/// A body that was not read to its end; the limit counts bytes after decompression.
fn unread(status: StatusCode, problem: String) -> Failure {
    if status == StatusCode::PAYLOAD_TOO_LARGE {
        let message = format!("the body is over the limit of {FRAME_MAX} bytes");
        return Failure::new(Code::TooLarge, Retry::Never, message);
    }
    Failure::invalid(problem)
}

impl IntoResponse for Problem {
    /// Status and headers; [`written`] adds the body.
    fn into_response(self) -> Response {
        let retry_after = self.failure.retry_after_s.unwrap_or(1);
        let mut response = self.status.into_response();
        if matches!(self.status, StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE) {
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(retry_after));
        }
        if self.status == StatusCode::UNAUTHORIZED {
            let challenge = HeaderValue::from_static("Bearer realm=\"weft\"");
            response.headers_mut().insert(header::WWW_AUTHENTICATE, challenge);
        }
        response.extensions_mut().insert(self);
        response
    }
}
