//! The bridge's HTTP listener: page, assets, weights by digest, and the WebSocket upgrade.

use std::{
    collections::HashMap,
    net::SocketAddr,
    path::PathBuf,
    sync::{Arc, Mutex},
};

use axum::{
    Router,
    body::Body,
    extract::{Path, Request, State},
    http::{HeaderValue, StatusCode, header},
    middleware::{self, Next},
    response::{IntoResponse, Response},
    routing::get,
    serve::ListenerExt,
};
use serde_json::json;
use tokio::net::TcpListener;
use tower_http::services::ServeFile;
use tower_service::Service as _;

use super::{
    assets,
    guard::{self, Origin},
    handshake::{self, Expected, Tickets},
    outside::Outside,
    session::LIMITS,
};
use crate::{
    domain::Digest,
    protocol::{
        frame::PAYLOAD_MESSAGE_MAX,
        link::{Role, VERSION},
    },
    socket,
    tasks::Tasks,
};

#[derive(Debug, thiserror::Error)]
pub enum BridgeError {
    #[error("the bridge cannot listen on {address}: {source}")]
    Bind { address: SocketAddr, source: std::io::Error },
    #[error("no certificate to serve with: {message}")]
    Certificate { message: String },
    #[error("the bridge cannot serve {origin}: {source}")]
    Serve { origin: Origin, source: std::io::Error },
}

/// The bridge's handle. Clones share the listener.
#[derive(Clone)]
pub struct Bridge {
    shared: Arc<Shared>,
}

/// Where the bridge listens, and what browsers call it.
#[derive(Clone, Debug)]
pub struct Door {
    /// A loopback address.
    pub local: SocketAddr,
    pub outside: Option<Outside>,
    /// Where browsers find the bridge when that is not where it listens, as behind a proxy: with TLS those on other
    /// hosts, else all of them.
    pub public: Option<Origin>,
}

impl From<SocketAddr> for Door {
    fn from(local: SocketAddr) -> Self {
        Self { local, outside: None, public: None }
    }
}

impl Door {
    /// Makes what is needed and not configured, so that it can be told to browsers before there is a listener.
    pub fn prepare(&mut self) -> Result<(), BridgeError> {
        self.outside.as_mut().map_or(Ok(()), |outside| outside.prepare(self.public.as_ref()))
    }

    /// The pin of a certificate that browsers on other hosts must be told to trust.
    pub fn pin(&self) -> Option<&str> {
        self.outside.as_ref()?.made.as_ref().map(|made| made.pin.as_str())
    }
}

struct Shared {
    address: SocketAddr,
    /// Where pages of browsers on this host are opened, and of those on others.
    near: Origin,
    far: Origin,
    heartbeat_ms: u64,
    models: PathBuf,
    tickets: Tickets,
    /// Boot blocks of pages that were opened and not fetched yet.
    pages: Mutex<HashMap<String, String>>,
    tasks: Tasks,
}

/// One listener with what requests may call it.
#[derive(Clone)]
struct Entrance {
    shared: Arc<Shared>,
    names: Arc<[Origin]>,
}

/// A page that a browser is about to fetch; dropping it withdraws it.
pub struct Page {
    pub url: String,
    pub control: Expected,
    name: String,
    shared: Arc<Shared>,
}

impl Drop for Page {
    fn drop(&mut self) {
        self.shared.pages.lock().expect("no holder of the page table panics").remove(&self.name);
    }
}

impl Bridge {
    /// Starts listening. `models` holds the weights by their digests.
    pub async fn bind(
        door: impl Into<Door>,
        heartbeat_ms: u64,
        models: PathBuf,
        tasks: &Tasks,
    ) -> Result<Self, BridgeError> {
        let Door { local: address, outside, public } = door.into();
        let wrong = |source| BridgeError::Bind { address, source };
        let listener = TcpListener::bind(address).await.map_err(wrong)?;
        let address = listener.local_addr().map_err(wrong)?;
        let outside = match outside {
            Some(outside) => Some(outside.bind(public.clone()).await?),
            None => None,
        };
        // A listener of its own is the only one to answer to its name.
        let names: Vec<Origin> =
            public.filter(|_| outside.is_none()).into_iter().chain(Origin::plain(address)).collect();
        let near =
            names.iter().find(|name| !name.is_tls()).expect("a plain listener has a plain name").clone();
        let shared = Arc::new(Shared {
            address,
            far: outside.as_ref().map_or(&names[0], |outside| &outside.origin).clone(),
            near,
            heartbeat_ms,
            models,
            tickets: Tickets::default(),
            pages: Mutex::default(),
            tasks: tasks.clone(),
        });
        if let Some(outside) = outside {
            let names = Arc::new([outside.origin.clone()]);
            outside.serve(router(Entrance { shared: shared.clone(), names }), tasks).await?;
        }
        let stopping = tasks.stopping();
        let entrance = Entrance { shared: shared.clone(), names: names.into() };
        let serve = axum::serve(listener.tap_io(without_delay), router(entrance));
        tasks.spawn("bridge listener", async move {
            tokio::select! {
                () = stopping.cancelled() => {}
                result = serve => tracing::error!(?result, "the bridge's listener ended"),
            }
        });
        Ok(Self { shared })
    }

    pub fn address(&self) -> SocketAddr {
        self.shared.address
    }

    /// Makes a page ready to be fetched once, by a browser on this host.
    pub fn open_page(&self, epoch: u64) -> Page {
        self.open_page_at(&self.shared.near, epoch)
    }

    /// Makes a page ready to be fetched once, by a browser on another host.
    pub fn open_far_page(&self, epoch: u64) -> Page {
        self.open_page_at(&self.shared.far, epoch)
    }

    fn open_page_at(&self, origin: &Origin, epoch: u64) -> Page {
        let name = handshake::token();
        let control = self.shared.tickets.expect(Role::Page, epoch);
        let boot = json!({
            "protocol": VERSION,
            "ticket": control.ticket,
            "epoch": epoch,
            "heartbeat_ms": self.shared.heartbeat_ms,
        });
        self.shared
            .pages
            .lock()
            .expect("no holder of the page table panics")
            .insert(name.clone(), boot.to_string());
        let url = format!("{origin}/harness/{name}");
        Page { url, control, name, shared: self.shared.clone() }
    }

    /// Awaits the link of a lane that the page is about to start.
    pub fn expect_lane(&self, epoch: u64) -> Expected {
        self.shared.tickets.expect(Role::Lane, epoch)
    }

    /// Where a lane fetches a model, relative to its own origin.
    pub fn model_url(digest: Digest) -> String {
        format!("/harness/models/{digest}")
    }
}

/// Small frames must not wait for the acknowledgement of earlier ones.
pub(crate) fn without_delay(socket: &mut tokio::net::TcpStream) {
    if let Err(error) = socket.set_nodelay(true) {
        tracing::debug!(%error, "TCP_NODELAY was refused");
    }
}

fn router(entrance: Entrance) -> Router {
    Router::new()
        .route("/harness/{page}", get(page))
        .route("/harness/assets/{name}", get(|Path(name): Path<String>| async move { assets::asset(&name) }))
        .route("/harness/models/{digest}", get(model))
        .route("/harness/link", get(link))
        .layer(middleware::from_fn_with_state(entrance.clone(), guarded))
        .with_state(entrance)
}

async fn guarded(State(entrance): State<Entrance>, request: Request, next: Next) -> Response {
    match guard::check_named(request.headers(), &entrance.names) {
        Ok(()) => next.run(request).await,
        Err(refused) => (StatusCode::FORBIDDEN, refused.message()).into_response(),
    }
}

async fn page(State(Entrance { shared, .. }): State<Entrance>, Path(name): Path<String>) -> Response {
    let boot = shared.pages.lock().expect("no holder of the page table panics").remove(&name);
    match boot {
        Some(boot) => assets::page(&boot),
        None => (StatusCode::NOT_FOUND, "no such page; each is served once").into_response(),
    }
}

/// A file of a model, or the ranges of it that are asked for.
async fn model(
    State(Entrance { shared, .. }): State<Entrance>,
    Path(digest): Path<String>,
    request: Request,
) -> Response {
    let missing = || (StatusCode::NOT_FOUND, "no model has this digest").into_response();
    let Ok(digest) = digest.parse::<Digest>() else { return missing() };
    let path = shared.models.join(digest.to_string());
    let browser = request.headers().get(header::USER_AGENT).cloned();
    let Ok(response) = ServeFile::new(path).with_buf_chunk_size(PAYLOAD_MESSAGE_MAX).call(request).await;
    if response.status() == StatusCode::NOT_FOUND {
        return missing();
    }
    let mut response = response.map(Body::new);
    let headers = response.headers_mut();
    let said =
        |value: Option<&HeaderValue>| value.and_then(|value| value.to_str().ok()).map(ToOwned::to_owned);
    let (bytes, browser) = (said(headers.get(header::CONTENT_LENGTH)), said(browser.as_ref()));
    tracing::debug!(%digest, bytes, browser, "serving bytes of a model's file");
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("public, max-age=31536000, immutable"));
    assets::isolate(headers);
    response
}

async fn link(State(Entrance { shared, names }): State<Entrance>, request: Request) -> Response {
    if let Err(refused) = guard::check_origin(request.headers(), &names) {
        return (StatusCode::FORBIDDEN, refused.message()).into_response();
    }
    let (tickets, stopping) = (shared.tickets.clone(), shared.tasks.stopping());
    let welcome = |socket| handshake::welcome(socket, tickets, stopping);
    socket::upgrade(request, LIMITS, &shared.tasks, welcome).into_response()
}
