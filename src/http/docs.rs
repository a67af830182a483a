//! The pages for people: the document to try, and the list of error codes. They load nothing from elsewhere.

use std::borrow::Cow;

use axum::{
    body::Body,
    extract::{Path, rejection::PathRejection},
    http::{HeaderName, HeaderValue, header},
    response::{IntoResponse, Response},
};
use rust_embed::RustEmbed;

use super::{Problem, error};
use crate::domain::Code;

#[derive(RustEmbed)]
#[folder = "web-harness/dist"]
#[include = "docs/*"]
struct Dist;

/// The page's own files and this daemon, nothing else; inline styles are in the icons that the page's library draws.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; \
    connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

const PAGE: &str = r#"<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>weft: API</title>
<link rel="icon" href="data:,">
<link rel="stylesheet" href="/docs/assets/docs.css">
<main id="docs"></main>
<script type="module" src="/docs/assets/docs.js"></script>
</html>
"#;

/// The API to read and try
#[utoipa::path(get, path = "/docs", tag = "document",
    responses((status = 200, content_type = "text/html", body = String)))]
pub(super) async fn page() -> Response {
    html(PAGE.into())
}

/// Every error code, what it means and which status tells it
#[utoipa::path(get, path = "/docs/errors", tag = "document",
    responses((status = 200, content_type = "text/html", body = String)))]
pub(super) async fn errors() -> Response {
    let rows = Code::ALL.map(|code| {
        let (title, status) = (error::title(code), error::status(code).as_u16());
        format!("<dt id=\"{code}\"><code>{code}</code> ({status})</dt><dd>{title}.</dd>\n")
    });
    html(
        format!(
            "<!doctype html>\n<html lang=\"en\">\n<meta charset=\"utf-8\">\n<title>weft: errors</title>\n\
         <link rel=\"icon\" href=\"data:,\">\n<style>dt:target{{background:#ff9}}</style>\n\
         <h1>Errors</h1>\n<dl>\n{}</dl>\n</html>\n",
            rows.concat()
        )
        .into(),
    )
}

/// A file of these pages
#[utoipa::path(get, path = "/docs/assets/{file}", tag = "document", params(("file" = String, Path)),
    responses((status = 200, description = "A script or a style sheet",
        content((Vec<u8> = "text/javascript"), (Vec<u8> = "text/css")))))]
pub(super) async fn asset(file: Result<Path<String>, PathRejection>) -> Result<Response, Problem> {
    let Path(file) = file?;
    let kind = match file.as_str() {
        "docs.js" => "text/javascript; charset=utf-8",
        "docs.css" => "text/css; charset=utf-8",
        _ => return Err(Problem::not_found(format!("the pages have no file {file:?}"))),
    };
    let embedded = Dist::get(&format!("docs/{file}.gz")).expect("the build embeds the page's files");
    let mut response = Response::new(match embedded.data {
        Cow::Borrowed(bytes) => Body::from(bytes),
        Cow::Owned(bytes) => Body::from(bytes),
    });
    guard(&mut response, kind);
    response.headers_mut().insert(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"));
    Ok(response)
}

fn html(page: Cow<'static, str>) -> Response {
    let mut response = page.into_response();
    guard(&mut response, "text/html; charset=utf-8");
    response
}

fn guard(response: &mut Response, kind: &'static str) {
    let headers: [(HeaderName, &str); 5] = [
        (header::CONTENT_TYPE, kind),
        // Another daemon may stand at this address tomorrow.
        (header::CACHE_CONTROL, "no-cache"),
        (header::CONTENT_SECURITY_POLICY, POLICY),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "no-referrer"),
    ];
    for (name, value) in headers {
        response.headers_mut().insert(name, HeaderValue::from_static(value));
    }
}
