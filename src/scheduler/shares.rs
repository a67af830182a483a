//! Weighted fair shares of the lanes' time among callers. Pure.
//!
//! Each caller has a counter: the lane time that it was charged, divided by its weight. The smallest is served next.
//! A request is charged what it is expected to take when a lane gets it, and corrected by what it took.
//! Who has had nothing queued begins at the virtual time, the least counter of those that wait, so that nobody saves
//! up time by being idle; who has taken more than its share keeps that debt for as long as others wait.

use std::{collections::BTreeMap, sync::Arc};

use crate::domain::Caller;

/// Accounts beyond these are looked through for those that no longer say anything.
const ACCOUNTS_KEPT: usize = 256;

/// With so many of them, debts are forgiven to whoever does not wait; who waits is bounded by what may be pending.
const ACCOUNTS_MAX: usize = 4096;

#[derive(Debug, Default)]
pub(super) struct Shares {
    accounts: BTreeMap<Arc<str>, Account>,
    /// The virtual time when nobody waits: the most that anybody had been charged when a lane took it.
    /// What it is charged then is left out, since that is a guess which may be given back.
    floor: f64,
    /// How many accounts there may be before they are looked through again.
    most: usize,
}

#[derive(Debug, Default)]
struct Account {
    /// Microseconds of lane time per unit of weight.
    counter: f64,
    weight: f64,
    queued: usize,
}

impl Shares {
    /// A request of this caller begins to wait.
    pub(super) fn enter(&mut self, caller: &Caller) {
        let waits = self.accounts.get(&caller.id).is_some_and(|account| account.queued > 0);
        let least = if waits { f64::NEG_INFINITY } else { self.virtual_time() };
        let account = self.account(caller);
        account.queued += 1;
        account.weight = weight(caller);
        account.counter = account.counter.max(least);
    }

    /// One of its requests waits no more.
    pub(super) fn leave(&mut self, caller: &Caller) {
        if let Some(account) = self.accounts.get_mut(&caller.id) {
            account.queued = account.queued.saturating_sub(1);
            if account.queued == 0 {
                self.floor = self.floor.max(account.counter);
            }
        }
    }

    /// Lane time given to this caller in microseconds; negative to give some back.
    pub(super) fn charge(&mut self, caller: &Caller, micros: f64) {
        self.account(caller).counter += micros / weight(caller);
    }

    /// The order among callers that wait; who is not known stands first among them.
    pub(super) fn counter(&self, caller: &Arc<str>) -> f64 {
        self.accounts.get(caller).map_or(self.floor, |account| account.counter)
    }

    /// The caller's weight over that of all who wait, itself included.
    pub(super) fn share(&self, caller: &Caller) -> f64 {
        let others = self.accounts.iter().filter(|(id, account)| account.queued > 0 && **id != caller.id);
        let others: f64 = others.map(|(_, account)| account.weight).sum();
        weight(caller) / (weight(caller) + others)
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.accounts.len()
    }

    fn virtual_time(&self) -> f64 {
        let waiting = self.accounts.values().filter(|account| account.queued > 0);
        waiting.map(|account| account.counter).min_by(f64::total_cmp).unwrap_or(self.floor)
    }

    fn account(&mut self, caller: &Caller) -> &mut Account {
        if !self.accounts.contains_key(&caller.id) {
            self.forget();
            let account = Account { counter: self.virtual_time(), ..Account::default() };
            self.accounts.insert(caller.id.clone(), account);
        }
        self.accounts.get_mut(&caller.id).expect("just inserted where it was missing")
    }

    /// Drops the accounts of those who would begin at the virtual time anyway.
    fn forget(&mut self) {
        if self.accounts.len() < self.most.max(ACCOUNTS_KEPT) {
            return;
        }
        let now = self.virtual_time();
        self.accounts.retain(|_, account| account.queued > 0 || account.counter > now);
        if self.accounts.len() >= ACCOUNTS_MAX {
            self.accounts.retain(|_, account| account.queued > 0);
        }
        self.most = (2 * self.accounts.len()).min(ACCOUNTS_MAX);
    }
}

fn weight(caller: &Caller) -> f64 {
    f64::from(caller.weight.max(1))
}
