//! Leases: one caller has an instance to itself for a while, as a benchmark needs.
//!
//! deadpool holds a token for each instance that could be leased and has callers wait in turn for one.
//! The actor has the last word: it drains the instance's lanes and holds them for the lease.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use deadpool::unmanaged::{Object, Pool as Tokens, PoolError};
use serde::Serialize;
use tokio::{
    sync::{mpsc, oneshot},
    time::Instant,
};
use utoipa::ToSchema;

use super::actor::Message;
use crate::domain::{InstanceId, LeaseId};

/// Leases together: one for each instance that a machine could bear.
const LEASES_MAX: usize = 64;

#[derive(Debug, thiserror::Error)]
pub enum LeaseError {
    #[error("no browser is called {browser:?}; there are {}", known.join(", "))]
    Unknown { browser: String, known: Vec<String> },
    #[error("no instance of {browser} came free within {} ms", waited.as_millis())]
    Busy { browser: String, waited: Duration },
    #[error("{LEASES_MAX} leases are held already")]
    Full,
    #[error("the daemon is stopping")]
    Stopping,
}

/// A lease as the API shows it.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct Leased {
    pub lease: LeaseId,
    pub instance: InstanceId,
    pub expires_in_ms: u64,
}

/// Clones share the leases.
#[derive(Clone)]
pub(super) struct Leases {
    /// By recipe.
    tokens: Arc<Mutex<BTreeMap<String, Tokens<InstanceId>>>>,
    held: Arc<Mutex<HashMap<LeaseId, Held>>>,
    inbox: mpsc::Sender<Message>,
}

struct Held {
    /// Goes back to the waiting callers when this is dropped.
    token: Object<InstanceId>,
    expires: Instant,
}

impl Held {
    fn shown(&self, lease: &LeaseId) -> Leased {
        let left = self.expires.saturating_duration_since(Instant::now());
        Leased { lease: lease.clone(), instance: self.token.clone(), expires_in_ms: left.as_millis() as u64 }
    }
}

impl Leases {
    pub(super) fn new(recipes: impl Iterator<Item = String>, inbox: mpsc::Sender<Message>) -> Self {
        let leases = Self { tokens: Arc::default(), held: Arc::default(), inbox };
        recipes.for_each(|browser| leases.know(browser));
        leases
    }

    /// Takes callers for instances of this recipe.
    pub(super) fn know(&self, browser: String) {
        self.tokens().entry(browser).or_insert_with(|| Tokens::new(LEASES_MAX));
    }

    /// Lets callers have this instance.
    pub(super) fn offer(&self, browser: &str, instance: InstanceId) {
        let Some(tokens) = self.tokens().get(browser).cloned() else { return };
        if tokens.try_add(instance).is_err() {
            tracing::warn!(browser, "more instances than tokens");
        }
    }

    /// Waits at most `within` for an instance of `browser`; it is the caller's until released or `ttl` is over.
    pub(super) async fn acquire(
        &self,
        browser: &str,
        ttl: Duration,
        within: Duration,
    ) -> Result<Leased, LeaseError> {
        let tokens = self.tokens().get(browser).cloned();
        let tokens = tokens.ok_or_else(|| LeaseError::Unknown {
            browser: browser.to_owned(),
            known: self.tokens().keys().cloned().collect(),
        })?;
        let deadline = Instant::now() + within;
        let busy = || LeaseError::Busy { browser: browser.to_owned(), waited: within };
        loop {
            let token = tokio::time::timeout_at(deadline, tokens.get()).await.map_err(|_| busy())?;
            let token = token.map_err(|error: PoolError| match error {
                PoolError::Closed => LeaseError::Stopping,
                PoolError::Timeout | PoolError::NoRuntimeSpecified => busy(),
            })?;
            let lease = LeaseId::new(format!("{:032x}", rand::random::<u128>()));
            let (granted, answer) = oneshot::channel();
            let (instance, expires) = (token.clone(), Instant::now() + ttl);
            let order = Message::Lease { instance, lease: lease.clone(), expires, granted };
            self.inbox.send(order).await.map_err(|_| LeaseError::Stopping)?;
            match tokio::time::timeout_at(deadline, answer).await {
                Ok(Ok(true)) => return self.keep(lease, token, expires).await,
                // It was lost; its token comes anew with the next browser.
                Ok(Ok(false)) => drop(Object::take(token)),
                Ok(Err(_)) => return Err(LeaseError::Stopping),
                Err(_) => {
                    self.give_back(token.clone(), lease).await;
                    return Err(busy());
                }
            }
        }
    }

    async fn keep(
        &self,
        lease: LeaseId,
        token: Object<InstanceId>,
        expires: Instant,
    ) -> Result<Leased, LeaseError> {
        let instance = token.clone();
        {
            let mut held = self.held();
            if held.len() < LEASES_MAX {
                let entry = held.entry(lease.clone()).insert_entry(Held { token, expires });
                return Ok(entry.get().shown(&lease));
            }
        }
        self.give_back(instance, lease).await;
        Err(LeaseError::Full)
    }

    async fn give_back(&self, instance: InstanceId, lease: LeaseId) {
        // A stopping actor holds nothing for anybody.
        let _ = self.inbox.send(Message::Release { instance, lease }).await;
    }

    /// Ends a lease; says whether it was held.
    pub(super) async fn release(&self, lease: &LeaseId) -> bool {
        let Some(held) = self.held().remove(lease) else { return false };
        self.give_back(held.token.clone(), lease.clone()).await;
        true
    }

    pub(super) fn list(&self) -> Vec<Leased> {
        self.held().iter().map(|(lease, held)| held.shown(lease)).collect()
    }

    /// Forgets a lease that the actor has ended.
    pub(super) fn ended(&self, lease: &LeaseId) {
        self.held().remove(lease);
    }

    fn tokens(&self) -> MutexGuard<'_, BTreeMap<String, Tokens<InstanceId>>> {
        self.tokens.lock().expect("no holder of the tokens panics")
    }

    fn held(&self) -> MutexGuard<'_, HashMap<LeaseId, Held>> {
        self.held.lock().expect("no holder of the leases panics")
    }
}
