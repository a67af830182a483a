//! Turns an HTTP request into a socket (RFC 6455, section 4.2).

use hyper::{
    Method, Request, Response, StatusCode,
    header::{self, HeaderMap, HeaderName, HeaderValue},
    upgrade::Upgraded,
};
use hyper_util::{
    rt::TokioIo,
    server::conn::auto::upgrade::{Parts, downcast},
};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;

use super::{Limits, Socket};
use crate::tasks::Tasks;

/// The one version of the protocol that there is.
const VERSION: &str = "13";

/// Answers a request for a socket; `serve` gets the socket once the answer is written.
/// A request for something else is answered with what is wrong.
pub fn upgrade<B, F>(
    mut request: Request<B>,
    limits: Limits,
    tasks: &Tasks,
    serve: impl FnOnce(Socket) -> F + Send + 'static,
) -> Response<String>
where
    F: Future<Output = ()> + Send,
{
    let key = match key(&request) {
        Ok(key) => key,
        Err((status, wrong)) => {
            let mut refused = Response::new(wrong.to_owned());
            *refused.status_mut() = status;
            return refused;
        }
    };
    let upgraded = hyper::upgrade::on(&mut request);
    let (owner, stopping) = (tasks.clone(), tasks.stopping());
    tasks.spawn("socket", async move {
        let upgraded = tokio::select! {
            () = stopping.cancelled() => return,
            upgraded = upgraded => upgraded,
        };
        match upgraded {
            Ok(upgraded) => match open(upgraded, limits, &owner) {
                Some(socket) => serve(socket).await,
                None => tracing::error!("a socket is not what the listener accepted"),
            },
            Err(error) => tracing::debug!(%error, "a socket was not opened"),
        }
    });
    let mut response = Response::new(String::new());
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let headers = response.headers_mut();
    headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
    headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
    headers.insert(header::SEC_WEBSOCKET_ACCEPT, key);
    response
}

/// The key that answers the request's.
fn key<B>(request: &Request<B>) -> Result<HeaderValue, (StatusCode, &'static str)> {
    let headers = request.headers();
    if request.method() != Method::GET {
        return Err((StatusCode::METHOD_NOT_ALLOWED, "a WebSocket is opened with GET"));
    }
    if !names(headers, &header::CONNECTION, "upgrade") || !names(headers, &header::UPGRADE, "websocket") {
        return Err((StatusCode::UPGRADE_REQUIRED, "only a WebSocket is served here"));
    }
    if headers.get(header::SEC_WEBSOCKET_VERSION).is_none_or(|version| version != VERSION) {
        return Err((StatusCode::BAD_REQUEST, "the header sec-websocket-version is not 13"));
    }
    let key = headers.get(header::SEC_WEBSOCKET_KEY);
    let accept = key.map(|key| derive_accept_key(key.as_bytes()));
    let accept = accept.and_then(|accept| HeaderValue::from_str(&accept).ok());
    accept.ok_or((StatusCode::BAD_REQUEST, "the header sec-websocket-key is missing"))
}

/// Whether a header's list holds this token.
fn names(headers: &HeaderMap, name: &HeaderName, token: &str) -> bool {
    let values = headers.get_all(name).iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',')).any(|named| named.trim().eq_ignore_ascii_case(token))
}

fn open(upgraded: Upgraded, limits: Limits, tasks: &Tasks) -> Option<Socket> {
    // axum's listener has looked at the first bytes itself, ours lets the protocol do it.
    let (io, early) = match upgraded.downcast::<TokioIo<TcpStream>>() {
        Ok(parts) => (parts.io, parts.read_buf),
        Err(upgraded) => {
            let Parts { io, read_buf, .. } = downcast::<TokioIo<TcpStream>>(upgraded).ok()?;
            (io, read_buf)
        }
    };
    Some(Socket::new(io.into_inner(), &early, limits, tasks))
}
