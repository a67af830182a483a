//! What clients reach: the WebSocket, health, and the daemon's own resources.
//!
//! Requests are checked and handed to the scheduler; this room decides nothing about how they run.
//! It is the only place where a failure becomes an HTTP status.

mod docs;
mod encoding;
mod error;
mod health;
mod idempotency;
mod infer;
mod models;
mod oip;
mod openai;
mod openapi;
mod origin;
mod pool;
mod reload;
mod resources;
mod scrape;
#[cfg(test)]
mod tests;
mod ws;

use std::{net::SocketAddr, sync::Arc, time::Duration};

use axum::{
    Extension, Router,
    extract::{DefaultBodyLimit, Request, State},
    middleware::{self, Next},
    response::{IntoResponse, Response},
    serve::ListenerExt,
};
use tokio::{net::TcpListener, sync::watch};
use utoipa_axum::{
    router::{OpenApiRouter, UtoipaMethodRouterExt as _},
    routes,
};

use crate::{
    bridge::guard,
    domain::{Caller, Code, Failure, Policy, Retry},
    events::Events,
    models::Registry,
    pool::Pool,
    scheduler::{STOPPING, Scheduler},
    store::Store,
    tasks::Tasks,
    telemetry::Metrics,
};
pub use error::Problem;
use idempotency::Answers;
pub use reload::{Reload, Reloaded};

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
    pub timeout: watch::Receiver<Duration>,
    /// Which lanes are preferred when a request does not say.
    pub policy: Policy,
    pub metrics: Metrics,
    pub reload: Reload,
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
    let (routes, document) = routes(&api.tasks).split_for_parts();
    routes
        .layer(Extension(openapi::finish(document)))
        .fallback(error::no_route)
        .method_not_allowed_fallback(error::no_method)
        .layer(DefaultBodyLimit::max(FRAME_MAX))
        .layer(middleware::from_fn_with_state(api.clone(), guarded))
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
        .routes(routes!(resources::runs))
        .routes(routes!(resources::run))
        .routes(routes!(models::show, models::remove))
        .routes(routes!(models::upload).layer(DefaultBodyLimit::disable()))
        .routes(routes!(pool::release))
        .routes(routes!(openapi::serve))
        .routes(routes!(docs::page))
        .routes(routes!(docs::errors))
        .merge(changes.layer(middleware::from_fn_with_state(answers, idempotency::once)))
        .layer(encoding::answers())
        .layer(encoding::bodies())
        .layer(middleware::from_fn(encoding::known))
        // Compressed already.
        .routes(routes!(docs::asset))
        // Its messages are not compressed.
        .routes(routes!(ws::upgrade))
}

/// What happens once for each `Idempotency-Key`.
fn changes() -> OpenApiRouter<Arc<Api>> {
    OpenApiRouter::new()
        .routes(routes!(models::list, models::add))
        .routes(routes!(models::verify))
        .routes(routes!(models::load))
        .routes(routes!(models::unload))
        .routes(routes!(pool::leases, pool::lease))
        .routes(routes!(pool::restart))
        .routes(routes!(reload::reload))
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
