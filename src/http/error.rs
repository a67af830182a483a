//! Failures as HTTP answers: `application/problem+json` on the daemon's own routes.

use axum::{
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use serde_json::json;

use crate::domain::{Code, Failure};

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

/// A failure on a route of `/api`.
#[derive(Debug)]
pub struct Problem(pub Failure);

impl<E: Into<Failure>> From<E> for Problem {
    fn from(error: E) -> Self {
        Self(error.into())
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let Self(failure) = self;
        let status = status(failure.code);
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
        response
    }
}
