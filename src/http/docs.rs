//! The pages for people: the document to try, and the list of error codes. They load nothing from elsewhere.

use axum::{
    extract::{Path, rejection::PathRejection},
    response::Response,
};
use rust_embed::RustEmbed;

use super::{Problem, error, page::Guard};
use crate::domain::Code;

#[derive(RustEmbed)]
#[folder = "web-harness/dist"]
#[include = "docs/*"]
struct Dist;

/// Inline styles are in the icons that the page's library draws.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; \
    connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// Another daemon may stand at this address tomorrow.
const GUARD: Guard = Guard { policy: POLICY, kept: "no-cache" };

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
    GUARD.html(PAGE)
}

/// Every error code, what it means and which status tells it
#[utoipa::path(get, path = "/docs/errors", tag = "document",
    responses((status = 200, content_type = "text/html", body = String)))]
pub(super) async fn errors() -> Response {
    let rows = Code::ALL.map(|code| {
        let (title, status) = (error::title(code), error::status(code).as_u16());
        format!("<dt id=\"{code}\"><code>{code}</code> ({status})</dt><dd>{title}.</dd>\n")
    });
    GUARD.html(format!(
        "<!doctype html>\n<html lang=\"en\">\n<meta charset=\"utf-8\">\n<title>weft: errors</title>\n\
         <link rel=\"icon\" href=\"data:,\">\n<style>dt:target{{background:#ff9}}</style>\n\
         <h1>Errors</h1>\n<dl>\n{}</dl>\n</html>\n",
        rows.concat()
    ))
}

/// A file of these pages
#[utoipa::path(get, path = "/docs/assets/{file}", tag = "document", params(("file" = String, Path)),
    responses((status = 200, description = "A script or a style sheet",
        content((Vec<u8> = "text/javascript"), (Vec<u8> = "text/css")))))]
pub(super) async fn asset(file: Result<Path<String>, PathRejection>) -> Result<Response, Problem> {
    let Path(file) = file?;
    let embedded = Dist::get(&format!("docs/{file}.gz"))
        .ok_or_else(|| Problem::not_found(format!("the pages have no file {file:?}")))?;
    Ok(GUARD.file(&file, embedded))
}
