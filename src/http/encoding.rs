//! Compressed bodies: gzip, zstd and deflate, as `Content-Encoding` and `Accept-Encoding` say.
//!
//! Every limit on a body counts what comes out of its decompression, which stops there.

use axum::{
    extract::Request,
    http::{Extensions, HeaderMap, StatusCode, Version, header},
    middleware::Next,
    response::{IntoResponse, Response},
};
use tower_http::{
    CompressionLevel,
    compression::{
        CompressionLayer, DefaultPredicate, Predicate,
        predicate::{And, SizeAbove},
    },
    decompression::RequestDecompressionLayer,
};

use super::Problem;

/// Below this, headers and the coder's own frame outweigh what is saved.
const WORTH: u16 = 1024;

/// What [`bodies`] reads.
const KNOWN: [&str; 4] = ["gzip", "zstd", "deflate", "identity"];

/// Compresses answers for clients that ask for it; the fastest level, since tensors of numbers hardly shrink further.
pub(super) fn answers() -> CompressionLayer<And<And<DefaultPredicate, SizeAbove>, impl Predicate>> {
    let worth = DefaultPredicate::new().and(SizeAbove::new(WORTH)).and(succeeded);
    CompressionLayer::new().quality(CompressionLevel::Fastest).compress_when(worth)
}

/// Clients that decompress answers read refusals as they come.
#[allow(clippy::trivially_copy_pass_by_ref, reason = "a predicate's signature")]
fn succeeded(status: StatusCode, _: Version, _: &HeaderMap, _: &Extensions) -> bool {
    status.is_success()
}

pub(super) fn bodies() -> RequestDecompressionLayer {
    RequestDecompressionLayer::new()
}

/// Refuses, in the route's own words, a body that [`bodies`] cannot read.
pub(super) async fn known(request: Request, next: Next) -> Response {
    let coded = request.headers().get_all(header::CONTENT_ENCODING).iter();
    let coded: Vec<_> = coded.map(|value| value.to_str().unwrap_or("?")).collect();
    match coded.as_slice() {
        [] => next.run(request).await,
        [one] if KNOWN.contains(one) => next.run(request).await,
        other => {
            let message = format!("no body is read as {}, only as {}", other.join(", "), KNOWN.join(", "));
            Problem::unsupported(message).into_response()
        }
    }
}
