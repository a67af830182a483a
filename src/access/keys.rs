//! The API keys of a home: kept in the store, looked up in memory.

use std::{
    collections::BTreeMap,
    num::NonZeroU32,
    sync::{Arc, RwLock},
};

use tokio_util::sync::CancellationToken;

use super::{
    AccessError, Allowance, Denied,
    account::Account,
    grant::Grant,
    key::{self, Presented},
    spent::Before,
};
use crate::{
    domain::{Digest, Scopes},
    store::{Store, StoredKey},
    tasks,
};

/// Revoked ones included: a few hundred bytes each.
const KEYS_MAX: usize = 10_000;

/// Long enough to say whose it is and what for.
const NAME_MAX: usize = 128;

/// Shares beside each other; more would starve a weight of one.
const WEIGHT_MAX: u32 = 1000;

/// What a new key is to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewKey {
    pub name: String,
    pub scopes: Scopes,
    pub allowance: Allowance,
    /// Microseconds since the Unix epoch.
    pub expires_at_us: Option<i64>,
}

pub struct Keys {
    store: Arc<Store>,
    held: RwLock<BTreeMap<String, Held>>,
    /// One change at a time, so that the store and the memory stay one.
    changing: tokio::sync::Mutex<()>,
}

struct Held {
    key: StoredKey,
    account: Arc<Account>,
    withdrawn: CancellationToken,
}

impl Keys {
    pub async fn open(store: Arc<Store>) -> Result<Self, AccessError> {
        let keys = store.keys().await?;
        let before = Before::read(&store).await?;
        let held = keys.into_iter().map(|key| {
            let held = Held::new(key);
            before.continue_in(&held.account);
            (held.key.id.clone(), held)
        });
        let held = held.collect();
        Ok(Self { store, held: RwLock::new(held), changing: tokio::sync::Mutex::default() })
    }

    /// In the order in which they were made.
    pub fn list(&self) -> Vec<StoredKey> {
        let held = self.held.read().expect("no holder of the keys panics");
        let mut keys: Vec<_> = held.values().map(|held| held.key.clone()).collect();
        keys.sort_by(|a, b| (a.created_at_us, &a.id).cmp(&(b.created_at_us, &b.id)));
        keys
    }

    /// Makes a key; the text is shown to whoever asked for it and kept nowhere.
    pub async fn add(&self, new: NewKey) -> Result<(StoredKey, String), AccessError> {
        let NewKey { name, scopes, allowance, expires_at_us } = new;
        let wrong = |message: String| Err(AccessError::Invalid(message));
        if name.is_empty() || name.len() > NAME_MAX || name.chars().any(char::is_control) {
            return wrong(format!("a key's name has 1 to {NAME_MAX} bytes and no control characters"));
        }
        if allowance.weight == 0 || allowance.weight > WEIGHT_MAX {
            return wrong(format!("a weight lies between 1 and {WEIGHT_MAX}"));
        }
        let created_at_us = tasks::now_us();
        if expires_at_us.is_some_and(|expires| expires <= created_at_us) {
            return wrong("the key would have expired already".to_owned());
        }
        let _changing = self.changing.lock().await;
        if self.held.read().expect("no holder of the keys panics").len() >= KEYS_MAX {
            return Err(AccessError::TooMany(KEYS_MAX));
        }
        let (id, text) = key::make();
        let key = StoredKey {
            id,
            name,
            digest: key::of(&text),
            scopes,
            weight: allowance.weight,
            rate_per_second: allowance.rate_per_second.map(NonZeroU32::get),
            quota_per_day: allowance.quota_per_day.map(NonZeroU32::get),
            in_flight: allowance.in_flight.map(NonZeroU32::get),
            created_at_us,
            expires_at_us,
            revoked_at_us: None,
        };
        self.put(key.clone()).await?;
        Ok((key, text))
    }

    /// Revokes the key of this id or name, and with it what is under way by it.
    pub async fn revoke(&self, named: &str) -> Result<StoredKey, AccessError> {
        let _changing = self.changing.lock().await;
        let mut key = self.find(named)?;
        if key.revoked_at_us.is_none() {
            key.revoked_at_us = Some(tasks::now_us());
            self.put(key.clone()).await?;
        }
        Ok(key)
    }

    fn find(&self, named: &str) -> Result<StoredKey, AccessError> {
        let held = self.held.read().expect("no holder of the keys panics");
        if let Some(held) = held.get(named) {
            return Ok(held.key.clone());
        }
        let called = || held.values().map(|held| &held.key).filter(|key| key.name == named);
        // A name may be used again once its key is revoked.
        let mut found = called()
            .filter(|key| key.revoked_at_us.is_none())
            .chain(called().filter(|key| key.revoked_at_us.is_some()));
        let first = found.next().ok_or_else(|| AccessError::UnknownKey(named.to_owned()))?;
        match found.next() {
            Some(second) if first.revoked_at_us.is_some() == second.revoked_at_us.is_some() => {
                Err(AccessError::Ambiguous(named.to_owned()))
            }
            _ => Ok(first.clone()),
        }
    }

    async fn put(&self, key: StoredKey) -> Result<(), AccessError> {
        self.store.put_key(key.clone()).await?;
        let before =
            self.held.write().expect("no holder of the keys panics").insert(key.id.clone(), Held::new(key));
        before.inspect(|before| before.withdrawn.cancel());
        Ok(())
    }

    pub(super) fn accounts(&self) -> Vec<Arc<Account>> {
        let held = self.held.read().expect("no holder of the keys panics");
        held.values().map(|held| held.account.clone()).collect()
    }

    pub(super) fn admit(&self, presented: Presented<'_>) -> Result<Grant, Denied> {
        let held = self.held.read().expect("no holder of the keys panics");
        let found = held.get(presented.id);
        // An unknown id costs what a wrong secret does.
        let nobody = Digest::new([0; 32]);
        let right = presented.is(found.map_or(&nobody, |held| &held.key.digest));
        let held = found.filter(|_| right).ok_or(Denied::NoKey)?;
        let grant = Grant {
            account: held.account.clone(),
            scopes: held.key.scopes,
            expires_at_us: held.key.expires_at_us,
            withdrawn: held.withdrawn.clone(),
        };
        grant.check()?;
        Ok(grant)
    }
}

impl Held {
    fn new(key: StoredKey) -> Self {
        let allowance = Allowance {
            weight: key.weight,
            rate_per_second: key.rate_per_second.and_then(NonZeroU32::new),
            quota_per_day: key.quota_per_day.and_then(NonZeroU32::new),
            in_flight: key.in_flight.and_then(NonZeroU32::new),
        };
        let withdrawn = CancellationToken::new();
        if key.revoked_at_us.is_some() {
            withdrawn.cancel();
        }
        Self { account: Arc::new(Account::new(&format!("key/{}", key.id), allowance)), key, withdrawn }
    }
}
