//! Model files by digest, whole or from some byte on, for other wefts.

use std::{io::SeekFrom, sync::Arc};

use axum::{
    body::Body,
    extract::{Path, State, rejection::PathRejection},
    http::{HeaderMap, HeaderValue, StatusCode, header},
    response::Response,
};
use tokio::io::AsyncSeekExt as _;
use tokio_util::io::ReaderStream;

use super::{Api, Problem};
use crate::{
    domain::{Code, Digest, Failure, Retry},
    models::Entry,
};

/// A read of the disk costs a hand-over to another thread.
const CHUNK: usize = 1 << 20;

/// A model's file
///
/// Takes `Range: bytes=N-` with or without `If-Range`; the `ETag` is the digest.
#[utoipa::path(get, path = "/api/v1/blobs/{digest}", tag = "models", params(("digest" = String, Path)),
    responses(
        (status = 200, body = Vec<u8>, content_type = "application/octet-stream"),
        (status = 206, body = Vec<u8>, content_type = "application/octet-stream"),
    ))]
pub(super) async fn serve(
    State(api): State<Arc<Api>>,
    digest: Result<Path<String>, PathRejection>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let Path(text) = digest?;
    let models = api.registry.list();
    let serves = |entry: &Arc<Entry>, digest: Digest| {
        entry.unusable().is_none() && entry.model.files().any(|file| file == digest)
    };
    let known = |digest: &Digest| models.iter().any(|entry| serves(entry, *digest));
    let digest = text.parse().ok().filter(known);
    let digest: Digest =
        digest.ok_or_else(|| Problem::not_found(format!("no model has a file with the digest {text:?}")))?;
    // Once it is open it can be read, whoever removes it.
    let _held = api.cache.hold_file(digest).await?;
    let path = api.registry.blobs.path(digest);
    let unreadable = |error: std::io::Error| {
        Failure::new(Code::Internal, Retry::Same, format!("the file of {digest} cannot be read: {error}"))
    };
    let mut file = tokio::fs::File::open(path).await.map_err(unreadable)?;
    let length = file.metadata().await.map_err(unreadable)?.len();
    let etag = format!("\"{digest}\"");
    let from = wanted(&headers, &etag).filter(|from| *from < length);
    if let Some(from) = from {
        file.seek(SeekFrom::Start(from)).await.map_err(unreadable)?;
    }
    let body = Body::from_stream(ReaderStream::with_capacity(file, CHUNK));
    let mut response = Response::new(body);
    let value = |text: String| HeaderValue::from_str(&text).expect("digits and hex digits");
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
    headers.insert(header::ACCEPT_RANGES, HeaderValue::from_static("bytes"));
    headers.insert(header::ETAG, value(etag));
    headers.insert(header::CONTENT_LENGTH, (length - from.unwrap_or(0)).into());
    if let Some(from) = from {
        let range = format!("bytes {from}-{}/{length}", length - 1);
        headers.insert(header::CONTENT_RANGE, value(range));
        *response.status_mut() = StatusCode::PARTIAL_CONTENT;
    }
    Ok(response)
}

/// Where to begin. Other ranges may be answered with the whole file.
fn wanted(headers: &HeaderMap, etag: &str) -> Option<u64> {
    let text = |name| headers.get(name).and_then(|value: &HeaderValue| value.to_str().ok());
    if text(header::IF_RANGE).is_some_and(|known| known != etag) {
        return None;
    }
    text(header::RANGE)?.strip_prefix("bytes=")?.strip_suffix('-')?.parse().ok()
}
