//! What callers have used of their quotas of the day, kept over restarts: written in batches, beside the requests.

use std::{collections::HashMap, sync::Arc, time::Duration};

use tokio_util::sync::CancellationToken;

use super::{
    Access,
    account::{self, Account},
};
use crate::store::{Store, StoreError};

/// What a daemon that is killed may give back, for one commit a second while quotas are being used.
const WRITE_EVERY: Duration = Duration::from_secs(1);

/// What was used today before this daemon.
pub(super) struct Before {
    day: u32,
    used: HashMap<String, u32>,
}

impl Before {
    pub(super) async fn read(store: &Store) -> Result<Self, StoreError> {
        let day = account::today();
        let spent = store.spent(day).await?;
        Ok(Self { day, used: spent.into_iter().map(|spent| (spent.caller, spent.used)).collect() })
    }

    pub(super) fn continue_in(&self, account: &Account) {
        if let Some(used) = self.used.get(&*account.caller.id) {
            account.resume(self.day, *used);
        }
    }
}

impl Access {
    /// Writes what is used, until the daemon stops, and then a last time.
    pub(super) async fn keep_spent(self, store: Arc<Store>, stopping: CancellationToken) {
        loop {
            let last = tokio::select! {
                () = stopping.cancelled() => true,
                () = tokio::time::sleep(WRITE_EVERY) => false,
            };
            if let Err(error) = self.write_spent(&store).await {
                tracing::warn!(%error, "what is used of quotas was not written; it is tried again");
            }
            if last {
                return;
            }
        }
    }

    async fn write_spent(&self, store: &Store) -> Result<(), StoreError> {
        let used: Vec<_> =
            self.accounts().into_iter().filter_map(|account| Some((account.unwritten()?, account))).collect();
        if used.is_empty() {
            return Ok(());
        }
        store.put_spent(used.iter().map(|(spent, _)| spent.clone()).collect()).await?;
        for (spent, account) in used {
            account.wrote(&spent);
        }
        Ok(())
    }

    fn accounts(&self) -> Vec<Arc<Account>> {
        let mut accounts = self.shared.keys.accounts();
        let subjects = self.shared.subjects.lock().expect("no holder of the subjects panics");
        accounts.extend(subjects.values().cloned());
        accounts
    }
}
