//! Where clients reach the daemon, and what a connection may cost before it is known whose it is.
//!
//! With TLS there are two listeners: one ends it and passes the bytes on to a plain one on loopback, so that every
//! socket is a TCP connection. Connections are counted where they come in.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use axum::{Router, body::Body, extract::Request, serve::Listener};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tower_service::Service as _;

use super::{
    Problem,
    pace::Pace,
    places::{Full, Place, Places},
};
use crate::{
    bridge::{self, BridgeError, Certificate, TlsAcceptor, guard::Origin},
    tasks::Tasks,
};

/// What connections may cost, all in one place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConnectionLimits {
    /// At a time, in all.
    pub most: usize,
    /// At a time, from one address; absent on loopback, where all callers have the same.
    pub most_per_address: Option<usize>,
    /// For a request's head, and for the next one on a connection that is kept.
    pub head_within: Duration,
    pub pace: Pace,
    /// How long what was sent may stay unacknowledged or unread.
    pub unread: Duration,
}

/// Ten thousand sockets and as many requests beside them fit; each has a descriptor and some KiB.
pub const CONNECTIONS_MAX: usize = 16_384;

/// An office behind one address, each with a dashboard.
pub const CONNECTIONS_PER_ADDRESS: usize = 256;

impl ConnectionLimits {
    pub fn new(most: usize, most_per_address: Option<usize>) -> Self {
        Self {
            most,
            most_per_address,
            // A head is a few hundred bytes; clients that keep connections open come back sooner or connect again.
            head_within: Duration::from_secs(20),
            pace: Pace::default(),
            // Longer than any network is away whose connections live on.
            unread: Duration::from_secs(120),
        }
    }
}

/// A request's head: a long token and a cookie fit twenty times.
const HEAD_MAX: usize = 128 << 10;

/// As many as hyper takes by itself.
const HEADERS_MAX: usize = 100;

/// What requests under way get to end in when the daemon stops: drained ones have ended.
const STOP_GRACE: Duration = Duration::from_millis(1500);

/// How soon a host that has vanished is looked for, how often, and when it is given up.
const SILENT_FOR: Duration = Duration::from_secs(60);
const LOOK_AGAIN: Duration = Duration::from_secs(10);
const LOOKS: u32 = 6;

#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    #[error("cannot listen on {address}: {source}")]
    Bind { address: SocketAddr, source: io::Error },
    #[error(transparent)]
    Certificate(#[from] BridgeError),
}

/// Listeners that have their addresses and do not serve yet.
pub struct Doors {
    plain: TcpListener,
    tls: Option<(TcpListener, TlsAcceptor)>,
    limits: ConnectionLimits,
    /// What requests may call the daemon.
    names: Vec<Origin>,
    /// Where clients are to call, and where those on this host can.
    url: String,
    local_url: String,
}

impl Doors {
    pub async fn bind(
        listen: SocketAddr,
        certificate: Option<Certificate>,
        public: Option<Origin>,
        limits: ConnectionLimits,
    ) -> Result<Self, ListenError> {
        let bind = |address: SocketAddr| {
            let listener = bridge::listen(address).and_then(|listener| {
                attend(&listener, limits.unread)?;
                let at = listener.local_addr()?;
                Ok((listener, at))
            });
            listener.map_err(|source| ListenError::Bind { address, source })
        };
        let (listener, address) = bind(listen)?;
        let Some(certificate) = certificate else {
            let near = on_this_host(address);
            let mut names: Vec<_> = public.clone().into_iter().chain(Origin::plain(address)).collect();
            names.extend(Origin::plain(near));
            let url = public.map_or_else(|| format!("http://{address}"), |public| public.to_string());
            let local_url = format!("http://{near}");
            return Ok(Self { plain: listener, tls: None, limits, names, url, local_url });
        };
        let tls = bridge::tls(Some(certificate), None).await?;
        let (plain, within) = bind(SocketAddr::new(Ipv4Addr::LOCALHOST.into(), 0))?;
        let own = Origin::read(&format!("https://{address}")).ok();
        let url = public.as_ref().or(own.as_ref()).map_or_else(String::new, ToString::to_string);
        let names = public.into_iter().chain(own).chain(Origin::plain(within)).collect();
        let local_url = format!("http://{within}");
        Ok(Self { plain, tls: Some((listener, tls)), limits, names, url, local_url })
    }

    pub fn url(&self) -> &str {
        &self.url
    }

    /// Without TLS.
    pub fn local_url(&self) -> &str {
        &self.local_url
    }

    pub fn names(&self) -> Vec<Origin> {
        self.names.clone()
    }

    pub fn pace(&self) -> Pace {
        self.limits.pace
    }

    /// Serves until the daemon stops.
    pub(super) fn serve(self, router: Router, tasks: &Tasks) {
        let Self { plain, tls, limits, .. } = self;
        let within = plain.local_addr();
        let places = |per_address| Places::new(limits.most, per_address);
        // Behind TLS everybody comes from this host, and has been counted.
        let near = places(limits.most_per_address.filter(|_| tls.is_none()));
        let (stopping, owner) = (tasks.stopping(), tasks.clone());
        tasks.spawn("http listener", async move {
            tokio::select! {
                () = stopping.cancelled() => {}
                () = accept(plain, &near, |stream, place| {
                    owner.spawn("http connection", serve(stream, place, router.clone(), limits, owner.clone()));
                }) => {}
            }
        });
        let (Some((listener, tls)), Ok(within)) = (tls, within) else { return };
        let far = places(limits.most_per_address);
        let (stopping, owner) = (tasks.stopping(), tasks.clone());
        tasks.spawn("https listener", async move {
            tokio::select! {
                () = stopping.cancelled() => {}
                () = accept(listener, &far, |stream, place| {
                    owner.spawn("https connection", relay(stream, place, tls.clone(), within, owner.clone()));
                }) => {}
            }
        });
    }
}

/// An address that processes of this host reach the listener by.
fn on_this_host(address: SocketAddr) -> SocketAddr {
    let ip = match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, address.port())
}

/// Has the system end connections whose other end has vanished or reads nothing; they inherit it.
fn attend(listener: &TcpListener, unread: Duration) -> io::Result<()> {
    use rustix::net::sockopt;
    sockopt::set_tcp_keepidle(listener, SILENT_FOR)?;
    sockopt::set_tcp_keepintvl(listener, LOOK_AGAIN)?;
    sockopt::set_tcp_keepcnt(listener, LOOKS)?;
    #[cfg(target_os = "linux")]
    sockopt::set_tcp_user_timeout(listener, u32::try_from(unread.as_millis()).unwrap_or(u32::MAX))?;
    #[cfg(not(target_os = "linux"))]
    let _ = unread;
    Ok(())
}

/// Accepts for ever; whoever finds no place is told so and let go.
async fn accept(mut listener: TcpListener, places: &Arc<Places>, serve: impl Fn(TcpStream, Place)) {
    loop {
        // Accepting as axum does: a wait instead of an error while there are no descriptors.
        let (mut stream, from) = Listener::accept(&mut listener).await;
        bridge::without_delay(&mut stream);
        match places.take(from.ip()) {
            Ok(place) => serve(stream, place),
            Err(full) => {
                tracing::debug!(%from, %full, "a connection is refused");
                refuse(&stream, full);
            }
        }
    }
}

/// Says why, as far as that goes without waiting for anybody.
fn refuse(stream: &TcpStream, full: Full) {
    let (status, code) = match full {
        Full::All(_) => ("503 Service Unavailable", "overloaded"),
        Full::Address(_) => ("429 Too Many Requests", "rate_limited"),
    };
    let body = Problem::text(code, &status[..3], &full.to_string());
    let answer = format!(
        "HTTP/1.1 {status}\r\ncontent-type: application/problem+json\r\nretry-after: 1\r\n\
         connection: close\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    );
    // What has come already would have the system reset the connection, and the answer with it.
    let _ = stream.try_read(&mut [0; 4096]);
    let _ = stream.try_write(answer.as_bytes());
}

async fn serve(stream: TcpStream, place: Place, router: Router, limits: ConnectionLimits, tasks: Tasks) {
    // A socket that a request is upgraded to keeps its connection's place.
    let place = Arc::new(place);
    let service = service_fn(move |request: hyper::Request<Incoming>| {
        let mut request: Request = request.map(Body::new);
        request.extensions_mut().insert(place.clone());
        router.clone().call(request)
    });
    // Not the builder that tells protocols apart: it waits for the first bytes without a limit.
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(limits.head_within);
    http.max_buf_size(HEAD_MAX).max_headers(HEADERS_MAX);
    let connection = http.serve_connection(TokioIo::new(stream), service).with_upgrades();
    let mut connection = std::pin::pin!(connection);
    let stopping = tasks.stopping();
    let ended = tokio::select! {
        ended = &mut connection => Some(ended),
        () = stopping.cancelled() => {
            connection.as_mut().graceful_shutdown();
            tokio::time::timeout(STOP_GRACE, connection).await.ok()
        }
    };
    if let Some(Err(error)) = ended {
        tracing::debug!(%error, "a client's connection broke");
    }
}

async fn relay(stream: TcpStream, place: Place, tls: TlsAcceptor, within: SocketAddr, tasks: Tasks) {
    let ended = tokio::select! {
        ended = bridge::relay(stream, &tls, within) => ended,
        () = bridge::overdue(&tasks) => Ok(()),
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "a client's connection over TLS broke");
    }
    drop(place);
}
