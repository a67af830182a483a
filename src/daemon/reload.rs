//! Reads the configuration again while the daemon runs, and applies what can change without a restart.
//!
//! A file that is wrong changes nothing.

use std::{sync::Arc, time::Duration};

use futures_util::future::BoxFuture;
use tokio::sync::{Mutex, watch};

use super::Fleets;
use crate::{
    config::{Config, ConfigError, Source, Written},
    domain::Failure,
    driver::recipe::Recipe,
    http::{Reload, Reloaded},
    pool::Pool,
    scheduler::Limits,
    telemetry::Log,
};

/// What is read at use, or can be told to whoever keeps it. Below `browsers` every key is.
const LIVE: [&str; 11] = [
    "limits.pending_requests",
    "limits.caller_requests",
    "limits.pending_bytes",
    "limits.lane_memory",
    "limits.timeout",
    "limits.drain",
    "limits.idle",
    "limits.restarts",
    "scheduler.hedge",
    "scheduler.hedge_percent",
    "telemetry.filter",
];

fn live(key: &str) -> bool {
    key.starts_with("browsers.") || key == "browsers" || LIVE.contains(&key)
}

#[derive(Debug, thiserror::Error)]
pub enum ReloadError {
    #[error("this daemon was started without a configuration that could be read again")]
    NoSource,
    #[error("nothing was changed: {0}")]
    Config(#[from] ConfigError),
    #[error("the daemon is stopping")]
    Stopping,
}

/// The settings that the daemon's rooms read at each use.
#[derive(Clone)]
pub(super) struct Live {
    pub(super) limits: watch::Sender<Limits>,
    pub(super) timeout: watch::Sender<Duration>,
    pub(super) drain: watch::Sender<Duration>,
}

impl Live {
    pub(super) fn new(config: &Config) -> Self {
        Self {
            limits: watch::Sender::new(config.limits),
            timeout: watch::Sender::new(config.timeout),
            drain: watch::Sender::new(config.drain),
        }
    }
}

/// Clones share the state; one reload goes on at a time.
#[derive(Clone)]
pub struct Reloader(Arc<Inner>);

struct Inner {
    source: Option<Arc<Source>>,
    log: Option<Log>,
    wanted: Fleets,
    pool: Pool,
    live: Live,
    /// What the file said at the start: keys that wait for a restart are told from it.
    started: Written,
    recipes: Vec<Recipe>,
    /// What it said when it was read last.
    latest: Mutex<Written>,
}

impl Reloader {
    pub(super) fn new(config: &Config, wanted: Fleets, pool: Pool, live: Live) -> Self {
        Self(Arc::new(Inner {
            source: config.source.clone(),
            log: config.log.clone(),
            wanted,
            pool,
            live,
            started: config.written.clone(),
            recipes: config.recipes.clone(),
            latest: Mutex::new(config.written.clone()),
        }))
    }

    /// What HTTP calls.
    pub(super) fn handle(&self) -> Reload {
        let reloader = self.clone();
        Arc::new(move || -> BoxFuture<'static, Result<Reloaded, Failure>> {
            let reloader = reloader.clone();
            Box::pin(async move {
                reloader.reload().await.map_err(|error| match error {
                    ReloadError::Stopping => crate::scheduler::stopping(),
                    error => Failure::invalid(error.to_string()),
                })
            })
        })
    }

    /// Applies what the file says now.
    pub async fn reload(&self) -> Result<Reloaded, ReloadError> {
        let reloaded = self.apply().await;
        match &reloaded {
            Ok(Reloaded { applied, restart, overruled }) => {
                tracing::info!(?applied, ?restart, ?overruled, "configuration read again");
            }
            Err(error) => tracing::error!(%error, "configuration read again"),
        }
        reloaded
    }

    async fn apply(&self) -> Result<Reloaded, ReloadError> {
        let inner = &*self.0;
        let mut latest = inner.latest.lock().await;
        let source = inner.source.clone().ok_or(ReloadError::NoSource)?;
        let config = source.clone().read()?;
        let reloaded = self.compare(&source, &latest, &config);
        inner.live.limits.send_replace(config.limits);
        inner.live.timeout.send_replace(config.timeout);
        inner.live.drain.send_replace(config.drain);
        if let Some(log) = &inner.log {
            log.filter(&config.telemetry.filter).expect("the configuration's filter was checked");
        }
        if !inner.pool.target((inner.wanted)(&config)).await {
            return Err(ReloadError::Stopping);
        }
        *latest = config.written;
        Ok(reloaded)
    }

    fn compare(&self, source: &Source, latest: &Written, config: &Config) -> Reloaded {
        let overruled = |key: &String| {
            source
                .overruled
                .iter()
                .any(|own| own == key || key.strip_prefix(own).is_some_and(|rest| rest.starts_with('.')))
        };
        let changed = latest.changed(&config.written);
        let applied = changed.iter().filter(|key| live(key) && !overruled(key)).cloned().collect();
        let since = self.0.started.changed(&config.written);
        let mut restart: Vec<_> = since.into_iter().filter(|key| !live(key) && !overruled(key)).collect();
        let known = |recipe: &&Recipe| self.0.recipes.iter().find(|known| known.name == recipe.name);
        let edited =
            config.recipes.iter().filter(|recipe| known(recipe).is_some_and(|known| known != *recipe));
        restart.extend(edited.map(|recipe| format!("browsers/{}.toml", recipe.name)));
        Reloaded { applied, restart, overruled: changed.into_iter().filter(overruled).collect() }
    }
}
