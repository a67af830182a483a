//! What clients reach: the WebSocket, health, and the daemon's own resources.
//!
//! Requests are checked and handed to the scheduler; this room decides nothing about how they run.
//! It is the only place where a failure becomes an HTTP status.

mod activity;
mod admit;
mod ask;
mod benches;
mod blobs;
mod carry;
mod conversions;
mod crowd;
mod dashboard;
mod docs;
mod downloads;
mod encoding;
mod error;
mod health;
mod idempotency;
mod infer;
mod ipfs;
mod keys;
mod listener;
mod making;
mod measured;
mod models;
mod oip;
mod openai;
mod openapi;
mod origin;
mod pace;
mod page;
mod places;
mod plans;
mod pool;
mod reload;
mod resources;
mod reviews;
mod routes;
mod scrape;
mod splits;
mod standing;
mod suites;
#[cfg(test)]
mod tests;
mod trial;
mod tunings;
mod ws;

use std::{sync::Arc, time::Duration};

use axum::{Extension, Router, extract::DefaultBodyLimit, middleware};
use tokio::sync::watch;
use utoipa_axum::{
    router::{OpenApiRouter, UtoipaMethodRouterExt as _},
    routes,
};

use crate::{
    access::Access,
    bench::Archive,
    bridge::guard::Origin,
    domain::Policy,
    events::Events,
    models::{Cache, Plans, Registry, foreign::Foreign, source::Downloads},
    pool::Pool,
    scheduler::Scheduler,
    store::Store,
    tasks::Tasks,
    telemetry::Metrics,
};
pub use carry::Readers;
pub use error::Problem;
use idempotency::Answers;
pub use keys::{KeyOrder, KeyView, MadeKey};
pub use listener::{CONNECTIONS_MAX, CONNECTIONS_PER_ADDRESS, ConnectionLimits, Doors, ListenError};
pub use pace::Pace;
pub use reload::{Reload, Reloaded};
pub use reviews::Reviews;

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
    pub cache: Arc<Cache>,
    pub plans: Plans,
    pub downloads: Downloads,
    pub foreign: Foreign,
    pub pool: Pool,
    pub store: Arc<Store>,
    pub archive: Archive,
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
    pub readers: Readers,
    pub reviews: Reviews,
    pub watched: Watched,
}

/// What is only there while somebody watches or tells.
#[derive(Default)]
pub struct Watched {
    followers: activity::Followers,
    suites: suites::Suites,
}

/// Serves `api` until the daemon stops.
pub fn serve(doors: Doors, api: Api) {
    let (tasks, api) = (api.tasks.clone(), Arc::new(api));
    tasks.spawn("activity", activity::tell(api.clone()));
    doors.serve(router(api), &tasks);
}

fn router(api: Arc<Api>) -> Router {
    let (routes, document) = routes(&api.tasks).split_for_parts();
    routes
        .layer(Extension(openapi::finish(document, api.access.is_required())))
        .fallback(error::no_route)
        .method_not_allowed_fallback(error::no_method)
        .layer(DefaultBodyLimit::max(FRAME_MAX))
        .layer(middleware::from_fn_with_state(api.clone(), admit::guarded))
        .layer(middleware::from_fn(origin::named))
        .layer(middleware::from_fn(error::written))
        .with_state(api)
}

/// Every route, with its part of the document.
fn routes(tasks: &Tasks) -> OpenApiRouter<Arc<Api>> {
    let answers = Answers::new(tasks.clone());
    let changes = openapi::keyed(changes().merge(oip::changes()));
    OpenApiRouter::with_openapi(openapi::document())
        .routes(routes!(health::live))
        .routes(routes!(health::ready))
        .routes(routes!(scrape::metrics))
        .merge(oip::routes())
        .routes(routes!(openai::list))
        .routes(routes!(openai::show))
        .routes(routes!(resources::instances))
        .routes(routes!(resources::lanes))
        .routes(routes!(activity::show))
        .routes(routes!(suites::list))
        .routes(routes!(resources::runs))
        .routes(routes!(resources::times))
        .routes(routes!(resources::run))
        .routes(routes!(benches::show))
        .routes(routes!(benches::verdicts))
        .routes(routes!(benches::history))
        .routes(routes!(benches::suites))
        .routes(routes!(models::show, models::remove))
        .routes(routes!(downloads::show, downloads::cancel))
        .routes(routes!(plans::show, plans::remove))
        .routes(routes!(standing::show, standing::keep, standing::drop_it))
        .routes(routes!(models::upload).layer(DefaultBodyLimit::disable()))
        .routes(routes!(pool::release))
        .routes(routes!(keys::begin_session, keys::end_session))
        .routes(routes!(keys::revoke))
        .routes(routes!(openapi::serve))
        .routes(routes!(dashboard::page))
        .routes(routes!(docs::page))
        .routes(routes!(docs::errors))
        .merge(changes.layer(middleware::from_fn_with_state(answers, idempotency::once)))
        .layer(encoding::answers())
        .layer(encoding::bodies())
        .layer(middleware::from_fn(encoding::known))
        // Compressed already.
        .routes(routes!(docs::asset))
        .routes(routes!(dashboard::asset))
        // Hardly to be compressed, and wanted in parts.
        .routes(routes!(blobs::serve))
        .routes(routes!(ipfs::serve))
        // Its messages are not compressed.
        .routes(routes!(ws::upgrade))
}

/// What happens once for each `Idempotency-Key`.
fn changes() -> OpenApiRouter<Arc<Api>> {
    OpenApiRouter::new()
        .routes(routes!(models::list, models::add))
        .routes(routes!(downloads::list, downloads::order))
        .routes(routes!(conversions::order))
        .routes(routes!(tunings::order))
        .routes(routes!(plans::list, plans::make))
        .routes(routes!(splits::forecast))
        .routes(routes!(standing::review))
        .routes(routes!(ask::ask))
        .routes(routes!(openai::embeddings::embed))
        .routes(routes!(models::verify))
        .routes(routes!(models::load))
        .routes(routes!(models::unload))
        .routes(routes!(models::pin))
        .routes(routes!(models::unpin))
        .routes(routes!(pool::leases, pool::lease))
        .routes(routes!(pool::restart))
        .routes(routes!(reload::reload))
        .routes(routes!(benches::list, benches::keep))
        .routes(routes!(benches::compare))
        .routes(routes!(keys::list, keys::add))
}
