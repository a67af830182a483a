//! The harness's files, embedded and already compressed.

use axum::{
    body::Body,
    http::{HeaderMap, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use rust_embed::RustEmbed;

#[derive(RustEmbed)]
#[folder = "web-harness/dist"]
#[exclude = "dashboard/*"]
#[exclude = "docs/*"]
#[exclude = "report/*"]
struct Dist;

/// Names carry a digest of their content, so a cached file is never stale.
const IMMUTABLE: HeaderValue = HeaderValue::from_static("public, max-age=31536000, immutable");

/// Where the boot block goes in the page's template.
const BOOT_MARKER: &str = "{{BOOT}}";

/// The page with its boot block.
pub(super) fn page(boot: &str) -> Response {
    let template = Dist::get("index.html").expect("the build embeds the page");
    let template = std::str::from_utf8(&template.data).expect("the page is UTF-8");
    let page = template.replace(BOOT_MARKER, boot);
    let mut response = page.into_response();
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/html; charset=utf-8"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    isolate(headers);
    response
}

/// One file by its name below `assets/`.
pub(super) fn asset(name: &str) -> Response {
    let Some(file) = Dist::get(&format!("assets/{name}.gz")) else {
        return (StatusCode::NOT_FOUND, "no such file of the harness").into_response();
    };
    let mut response = Response::new(match file.data {
        std::borrow::Cow::Borrowed(bytes) => Body::from(bytes),
        std::borrow::Cow::Owned(bytes) => Body::from(bytes),
    });
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, content_type(name));
    headers.insert(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"));
    headers.insert(header::CACHE_CONTROL, IMMUTABLE);
    isolate(headers);
    response
}

fn content_type(name: &str) -> HeaderValue {
    HeaderValue::from_static(match name.rsplit('.').next() {
        Some("js" | "mjs") => "text/javascript; charset=utf-8",
        Some("wasm") => "application/wasm",
        Some("json") => "application/json",
        _ => "application/octet-stream",
    })
}

/// Cross-origin isolation, without which a page has no shared memory and so no threads.
pub(super) fn isolate(headers: &mut HeaderMap) {
    headers.insert("cross-origin-opener-policy", HeaderValue::from_static("same-origin"));
    headers.insert("cross-origin-embedder-policy", HeaderValue::from_static("require-corp"));
    headers.insert("cross-origin-resource-policy", HeaderValue::from_static("same-origin"));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
}
