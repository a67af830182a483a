//! What clients reach: the WebSocket, health, and the daemon's own resources.
//!
//! Requests are checked and handed to the scheduler; this room decides nothing about how they run.
//! It is the only place where a failure becomes an HTTP status.

mod admit;
mod encoding;
mod error;
mod health;
mod infer;
mod keys;
mod listener;
mod models;
mod oip;
mod origin;
mod pace;
mod places;
mod pool;
mod reload;
mod resources;
mod routes;
mod scrape;
mod ws;

use std::{sync::Arc, time::Duration};

use axum::{
    Router,
    extract::DefaultBodyLimit,
    middleware,
    routing::{delete, get, post},
};
use tokio::sync::watch;

use crate::{
    access::Access, bridge::guard::Origin, domain::Policy, events::Events, models::Registry, pool::Pool,
    scheduler::Scheduler, store::Store, tasks::Tasks, telemetry::Metrics,
};
pub use error::Problem;
pub use keys::{KeyOrder, KeyView, made};
pub use listener::{CONNECTIONS_MAX, CONNECTIONS_PER_ADDRESS, ConnectionLimits, Doors, ListenError};
pub use pace::Pace;
pub use reload::{Reload, Reloaded};

/// The largest frame or JSON body of a client.
pub const FRAME_MAX: usize = 64 << 20;

/// What the routes need.
pub struct Api {
    /// Tells this daemon from any other, as its record does.
    pub id: String,
    pub access: Access,
    /// What requests may call the daemon.
    pub names: Vec<Origin>,
    /// Whether browsers reach it over TLS, and may send its cookie nowhere else.
    pub secure: bool,
    pub body: Pace,
    pub scheduler: Scheduler,
    pub registry: Arc<Registry>,
    pub pool: Pool,
    pub store: Arc<Store>,
    pub events: Events,
    pub tasks: Tasks,
    /// The native lanes, which no pool keeps.
    pub native: Vec<crate::domain::Environment>,
    /// A request's time when it names none.
    pub timeout: watch::Receiver<Duration>,
    /// Which lanes are preferred when a request does not say.
    pub policy: Policy,
    pub metrics: Metrics,
    pub reload: Reload,
}

/// Serves `api` until the daemon stops.
pub fn serve(doors: Doors, api: Api) {
    let tasks = api.tasks.clone();
    doors.serve(router(Arc::new(api)), &tasks);
}

fn router(api: Arc<Api>) -> Router {
    Router::new()
        .route("/v2/health/live", get(health::live))
        .route("/v2/health/ready", get(health::ready))
        .route("/metrics", get(scrape::metrics))
        .merge(oip::routes())
        .route("/api/v1/instances", get(resources::instances))
        .route("/api/v1/instances/{id}/restart", post(pool::restart))
        .route("/api/v1/leases", get(pool::leases).post(pool::lease))
        .route("/api/v1/leases/{lease}", delete(pool::release))
        .route("/api/v1/lanes", get(resources::lanes))
        .route("/api/v1/reload", post(reload::reload))
        .route("/api/v1/runs", get(resources::runs))
        .route("/api/v1/models", get(models::list).post(models::add))
        .route("/api/v1/models/{name}", get(models::show))
        .route("/api/v1/models/{name}", delete(models::remove))
        .route("/api/v1/models/{name}/verify", post(models::verify))
        .route("/api/v1/models/{name}/load", post(models::load))
        .route("/api/v1/models/{name}/unload", post(models::unload))
        .route("/api/v1/blobs", post(models::upload).layer(DefaultBodyLimit::disable()))
        .route("/api/v1/session", post(keys::begin_session).delete(keys::end_session))
        .route("/api/v1/keys", get(keys::list).post(keys::add))
        .route("/api/v1/keys/{key}", delete(keys::revoke))
        .layer(encoding::answers())
        .layer(encoding::bodies())
        .layer(middleware::from_fn(encoding::known))
        // Its messages are not compressed.
        .route("/v2/ws", get(ws::upgrade))
        .fallback(error::no_route)
        .method_not_allowed_fallback(error::no_method)
        .layer(DefaultBodyLimit::max(FRAME_MAX))
        .layer(middleware::from_fn_with_state(api.clone(), admit::guarded))
        .layer(middleware::from_fn(origin::named))
        .layer(middleware::from_fn(error::written))
        .with_state(api)
}
