//! How slowly a body may come: whoever sends less than the least rate holds a place and buffers for nothing.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use axum::{
    body::{Body, Bytes, HttpBody as _},
    extract::Request,
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use futures_util::{StreamExt as _, stream};
use tokio::time::Instant;

use super::Problem;
use crate::domain::Failure;

/// The least pace of a body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pace {
    /// What every body gets, however little there is of it.
    pub grace: Duration,
    /// And for what has come by then.
    pub bytes_per_second: u32,
}

impl Default for Pace {
    /// A phone on a bad line sends more; 64 MiB may take some seventeen minutes.
    fn default() -> Self {
        Self { grace: Duration::from_secs(20), bytes_per_second: 64 << 10 }
    }
}

/// Whether a request's body fell behind.
#[derive(Clone)]
pub(super) struct Kept(Arc<AtomicBool>);

impl Kept {
    pub(super) fn is_lost(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

#[derive(Debug, thiserror::Error)]
#[error("the body came too slowly")]
struct TooSlow;

/// The request with a body that fails when it falls behind.
pub(super) fn paced(request: Request, pace: Pace) -> (Request, Kept) {
    let kept = Kept(Arc::default());
    let told = kept.clone();
    let request = request.map(|body| {
        if body.is_end_stream() {
            return body;
        }
        Body::from_stream(follow(body, pace, told))
    });
    (request, kept)
}

fn follow(
    body: Body,
    pace: Pace,
    told: Kept,
) -> impl futures_util::Stream<Item = Result<Bytes, axum::Error>> + Send {
    let began = Instant::now();
    let state = Some((body.into_data_stream(), 0_u64));
    stream::unfold(state, move |state| {
        let told = told.clone();
        async move {
            let (mut body, came) = state?;
            let earned = Duration::from_secs_f64(came as f64 / f64::from(pace.bytes_per_second.max(1)));
            match tokio::time::timeout_at(began + pace.grace + earned, body.next()).await {
                Ok(Some(Ok(bytes))) => {
                    let came = came + bytes.len() as u64;
                    Some((Ok(bytes), Some((body, came))))
                }
                Ok(Some(Err(error))) => Some((Err(error), None)),
                Ok(None) => None,
                Err(_) => {
                    told.0.store(true, Ordering::Relaxed);
                    Some((Err(axum::Error::new(TooSlow)), None))
                }
            }
        }
    })
    // Decompression asks again after the end.
    .fuse()
}

/// What is answered then; the connection is of no more use.
pub(super) fn lost() -> Response {
    let failure = Failure::invalid("the body came too slowly");
    let mut response = Problem::told_as(failure, StatusCode::REQUEST_TIMEOUT).into_response();
    response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    response
}
