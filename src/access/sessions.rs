//! Sessions of browsers: a cookie instead of the key, for a limited time and while the key itself holds.

use std::{collections::HashMap, sync::Mutex, time::Duration};

use super::{Denied, grant::Grant, key};
use crate::{domain::Digest, tasks};

/// A dashboard has one; somebody who logs in again and again ends the oldest ones.
const SESSIONS_MAX: usize = 1024;

#[derive(Debug)]
pub(super) struct Sessions {
    life: Duration,
    /// By the digest of the cookie, so that what is kept opens nothing.
    open: Mutex<HashMap<Digest, Grant>>,
}

impl Sessions {
    pub(super) fn new(life: Duration) -> Self {
        Self { life, open: Mutex::default() }
    }

    /// The cookie's value, and how long it is good for.
    pub(super) fn begin(&self, grant: &Grant) -> (String, Duration) {
        let now = tasks::now_us();
        let latest = now.saturating_add(i64::try_from(self.life.as_micros()).unwrap_or(i64::MAX));
        let expires_at_us = grant.expires_at_us.map_or(latest, |expires| expires.min(latest));
        let secret = key::secret();
        let mut open = self.open.lock().expect("no holder of the sessions panics");
        open.retain(|_, grant| grant.check().is_ok());
        if open.len() >= SESSIONS_MAX {
            let oldest = open.iter().min_by_key(|(_, grant)| grant.expires_at_us).map(|(digest, _)| *digest);
            oldest.map(|oldest| open.remove(&oldest));
        }
        open.insert(key::of(&secret), Grant { expires_at_us: Some(expires_at_us), ..grant.clone() });
        let life = u64::try_from(expires_at_us.saturating_sub(now)).unwrap_or(0);
        (secret, Duration::from_micros(life))
    }

    /// A look-up by digest tells nothing about secrets by its time.
    pub(super) fn find(&self, secret: &str) -> Result<Grant, Denied> {
        let digest = key::of(secret);
        let found = self.open.lock().expect("no holder of the sessions panics").get(&digest).cloned();
        let grant = found.ok_or(Denied::NoSession)?;
        grant.check()?;
        Ok(grant)
    }

    pub(super) fn end(&self, secret: &str) {
        self.open.lock().expect("no holder of the sessions panics").remove(&key::of(secret));
    }
}
