//! What all pages for people have in common: whose scripts may run, and files that the build has compressed.

use std::borrow::Cow;

use axum::{
    body::Body,
    http::{HeaderName, HeaderValue, header},
    response::Response,
};
use rust_embed::EmbeddedFile;

/// How one kind of page is sent.
pub(super) struct Guard {
    /// The page's own files and this daemon, and nothing else.
    pub(super) policy: &'static str,
    pub(super) kept: &'static str,
}

impl Guard {
    pub(super) fn html(&self, page: impl Into<Body>) -> Response {
        self.guarded(page.into(), "text/html; charset=utf-8")
    }

    /// A script or a style sheet.
    pub(super) fn file(&self, name: &str, compressed: EmbeddedFile) -> Response {
        let body = match compressed.data {
            Cow::Borrowed(bytes) => Body::from(bytes),
            Cow::Owned(bytes) => Body::from(bytes),
        };
        let is_script = std::path::Path::new(name).extension().is_some_and(|end| end == "js");
        let kind = if is_script { "text/javascript; charset=utf-8" } else { "text/css; charset=utf-8" };
        let mut response = self.guarded(body, kind);
        response.headers_mut().insert(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"));
        response
    }

    fn guarded(&self, body: Body, kind: &'static str) -> Response {
        let mut response = Response::new(body);
        let headers: [(HeaderName, &str); 5] = [
            (header::CONTENT_TYPE, kind),
            (header::CACHE_CONTROL, self.kept),
            (header::CONTENT_SECURITY_POLICY, self.policy),
            (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
            (header::REFERRER_POLICY, "no-referrer"),
        ];
        for (name, value) in headers {
            response.headers_mut().insert(name, HeaderValue::from_static(value));
        }
        response
    }
}
