//! Failures as HTTP answers: `application/problem+json` wherever the daemon refuses.

use axum::{
    extract::rejection::{PathRejection, QueryRejection, StringRejection},
    http::{HeaderValue, Method, StatusCode, Uri, header},
    response::{IntoResponse, Response},
};
use serde_json::json;

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
        Code::Internal => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

/// A failure and the status that tells it.
#[derive(Debug)]
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
            r#"{{"type":"about:blank","title":"{code}","status":{status},"detail":"{detail}","code":"{code}","retry":"same"}}"#
        )
    }

    /// A resource that is not there.
    pub(super) fn not_found(message: String) -> Self {
        Self { failure: Failure::invalid(message), status: StatusCode::NOT_FOUND }
    }
}

pub(super) async fn no_route(uri: Uri) -> Problem {
    let failure = Failure::invalid(format!("there is no route {}", uri.path()));
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
        if rejection.status() == StatusCode::PAYLOAD_TOO_LARGE {
            let message = format!("the body is over the limit of {FRAME_MAX} bytes");
            return Self::new(Code::TooLarge, Retry::Never, message);
        }
        Self::invalid(rejection.body_text())
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let Self { failure, status } = self;
        let body = json!({
            "type": "about:blank",
            "title": failure.code,
            "status": status.as_u16(),
            "detail": failure.message,
            "code": failure.code,
            "retry": failure.retry,
        });
        let mut response = (status, body.to_string()).into_response();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        if matches!(status, StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE) {
            headers.insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
        }
        if status == StatusCode::UNAUTHORIZED {
            let challenge = HeaderValue::from_static("Bearer realm=\"weft\"");
            headers.insert(header::WWW_AUTHENTICATE, challenge);
        }
        response
    }
}
