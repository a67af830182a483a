//! Gives every request an id, which its answer's header tells.

use axum::{
    extract::Request,
    http::{HeaderName, HeaderValue},
    middleware::Next,
    response::Response,
};

use crate::telemetry::Origin;

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

pub(super) async fn named(mut request: Request, next: Next) -> Response {
    let origin = Origin::of(request.headers());
    let id = HeaderValue::from_str(origin.request.as_str()).expect("an id is printable ASCII");
    request.extensions_mut().insert(origin);
    let mut response = next.run(request).await;
    response.headers_mut().insert(REQUEST_ID, id);
    response
}
