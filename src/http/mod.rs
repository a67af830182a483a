//! What clients reach: the WebSocket, health, and the daemon's own resources.
//!
//! Requests are checked and handed to the scheduler; this room decides nothing about how they run.
//! It is the only place where a failure becomes an HTTP status.

mod error;
mod health;
mod infer;
mod models;
mod pool;
mod resources;
mod ws;

use std::{net::SocketAddr, sync::Arc, time::Duration};

use axum::{
    Router,
    extract::{DefaultBodyLimit, Request, State},
    middleware::{self, Next},
    response::{IntoResponse, Response},
    routing::{delete, get, post},
    serve::ListenerExt,
};
use tokio::net::TcpListener;

use crate::{
    bridge::guard,
    domain::{Caller, Code, Failure, Retry},
    events::Events,
    models::Registry,
    pool::Pool,
    scheduler::{STOPPING, Scheduler},
    store::Store,
    tasks::Tasks,
};
pub use error::Problem;

/// The largest frame or JSON body of a client.
pub const FRAME_MAX: usize = 64 << 20;

/// What the routes need.
pub struct Api {
    /// Tells this daemon from any other, as its record does.
    pub id: String,
    pub address: SocketAddr,
    pub scheduler: Scheduler,
    pub registry: Arc<Registry>,
    pub pool: Pool,
    pub store: Arc<Store>,
    pub events: Events,
    pub tasks: Tasks,
    /// The native lanes, which no pool keeps.
    pub native: Vec<crate::domain::Environment>,
    /// A request's time when it names none.
    pub timeout: Duration,
}

/// Serves `api` until the daemon stops.
pub fn serve(listener: TcpListener, api: Api) {
    let api = Arc::new(api);
    let (tasks, stopping) = (api.tasks.clone(), api.tasks.stopping());
    let serve = axum::serve(listener.tap_io(crate::bridge::without_delay), router(api));
    tasks.spawn("http listener", async move {
        tokio::select! {
            () = stopping.cancelled() => {}
            result = serve => tracing::error!(?result, "the HTTP listener ended"),
        }
    });
}

fn router(api: Arc<Api>) -> Router {
    Router::new()
        .route("/v2", get(health::server))
        .route("/v2/health/live", get(health::live))
        .route("/v2/health/ready", get(health::ready))
        .route("/v2/ws", get(ws::upgrade))
        .route("/api/v1/instances", get(resources::instances))
        .route("/api/v1/instances/{id}/restart", post(pool::restart))
        .route("/api/v1/leases", get(pool::leases).post(pool::lease))
        .route("/api/v1/leases/{lease}", delete(pool::release))
        .route("/api/v1/lanes", get(resources::lanes))
        .route("/api/v1/runs", get(resources::runs))
        .route("/api/v1/models", get(models::list).post(models::add))
        .route("/api/v1/models/{name}", get(models::show))
        .route("/api/v1/models/{name}", delete(models::remove))
        .route("/api/v1/models/{name}/verify", post(models::verify))
        .route("/api/v1/blobs", post(models::upload).layer(DefaultBodyLimit::disable()))
        .fallback(error::no_route)
        .method_not_allowed_fallback(error::no_method)
        .layer(DefaultBodyLimit::max(FRAME_MAX))
        .layer(middleware::from_fn_with_state(api.clone(), guarded))
        .layer(middleware::from_fn(error::written))
        .with_state(api)
}

async fn guarded(State(api): State<Arc<Api>>, mut request: Request, next: Next) -> Response {
    request.extensions_mut().insert(Caller::local());
    match guard::check(request.headers(), api.address) {
        Ok(()) if request.method().is_safe() => next.run(request).await,
        Ok(()) => match api.tasks.accept() {
            // A change that was begun is waited for.
            Some(_under_way) => next.run(request).await,
            None => Problem::from(Failure::new(Code::Overloaded, Retry::Same, STOPPING)).into_response(),
        },
        Err(refused) => {
            Problem::from(Failure::new(Code::Unauthorized, Retry::Never, refused.message())).into_response()
        }
    }
}
