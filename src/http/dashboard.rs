//! The dashboard: a page for people and its files, the same for everybody. What it shows it asks the other routes for.

use axum::{
    extract::{Path, rejection::PathRejection},
    response::Response,
};
use rust_embed::RustEmbed;

use super::{Problem, page::Guard};

#[derive(RustEmbed)]
#[folder = "web-harness/dist"]
#[include = "dashboard/*"]
struct Dist;

/// Its WebSocket belongs to the daemon.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; \
    connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// Its files have other names once they are others, the page itself has not.
const PAGE: Guard = Guard { policy: POLICY, kept: "no-cache" };
const FILES: Guard = Guard { policy: POLICY, kept: "public, max-age=31536000, immutable" };

/// The dashboard
///
/// What it shows is in its address: `view`, and what the view is restricted to.
#[utoipa::path(get, path = "/", tag = "document",
    responses((status = 200, content_type = "text/html", body = String)))]
pub(super) async fn page() -> Response {
    let page = Dist::get("dashboard/index.html").expect("the build embeds the page");
    PAGE.html(page.data.into_owned())
}

/// A file of the dashboard
#[utoipa::path(get, path = "/dashboard/{file}", tag = "document", params(("file" = String, Path)),
    responses((status = 200, description = "A script or a style sheet",
        content((Vec<u8> = "text/javascript"), (Vec<u8> = "text/css")))))]
pub(super) async fn asset(file: Result<Path<String>, PathRejection>) -> Result<Response, Problem> {
    let Path(file) = file?;
    let embedded = Dist::get(&format!("dashboard/{file}.gz"))
        .ok_or_else(|| Problem::not_found(format!("the dashboard has no file {file:?}")))?;
    Ok(FILES.file(&file, embedded))
}
