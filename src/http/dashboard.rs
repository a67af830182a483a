//! The dashboard: a page for people and its files, the same for everybody. What it shows it asks the other routes for.

use std::borrow::Cow;

use axum::{
    body::Body,
    extract::{Path, rejection::PathRejection},
    http::{HeaderName, HeaderValue, header},
    response::{IntoResponse, Response},
};
use rust_embed::RustEmbed;

use super::Problem;

#[derive(RustEmbed)]
#[folder = "web-harness/dist"]
#[include = "dashboard/*"]
struct Dist;

/// The page's own files and this daemon, its WebSocket included, and nothing else.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; \
    connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// The dashboard
///
/// What it shows is in its address: `view`, and what the view is restricted to.
#[utoipa::path(get, path = "/", tag = "document",
    responses((status = 200, content_type = "text/html", body = String)))]
pub(super) async fn page() -> Response {
    let page = Dist::get("dashboard/index.html").expect("the build embeds the page");
    let page = std::str::from_utf8(&page.data).expect("the page is UTF-8").to_owned();
    // Its files have other names once they are others, the page itself has not.
    guarded(page.into_response(), "text/html; charset=utf-8", "no-cache")
}

/// A file of the dashboard
#[utoipa::path(get, path = "/dashboard/{file}", tag = "document", params(("file" = String, Path)),
    responses((status = 200, description = "A script or a style sheet",
        content((Vec<u8> = "text/javascript"), (Vec<u8> = "text/css")))))]
pub(super) async fn asset(file: Result<Path<String>, PathRejection>) -> Result<Response, Problem> {
    let Path(file) = file?;
    let kind = match file.rsplit('.').next() {
        Some("js") => "text/javascript; charset=utf-8",
        _ => "text/css; charset=utf-8",
    };
    let embedded = Dist::get(&format!("dashboard/{file}.gz"))
        .ok_or_else(|| Problem::not_found(format!("the dashboard has no file {file:?}")))?;
    let response = Response::new(match embedded.data {
        Cow::Borrowed(bytes) => Body::from(bytes),
        Cow::Owned(bytes) => Body::from(bytes),
    });
    let mut response = guarded(response, kind, "public, max-age=31536000, immutable");
    response.headers_mut().insert(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"));
    Ok(response)
}

fn guarded(mut response: Response, kind: &'static str, kept: &'static str) -> Response {
    let headers: [(HeaderName, &str); 5] = [
        (header::CONTENT_TYPE, kind),
        (header::CACHE_CONTROL, kept),
        (header::CONTENT_SECURITY_POLICY, POLICY),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "no-referrer"),
    ];
    for (name, value) in headers {
        response.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    response
}
