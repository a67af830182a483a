//! How often and when models were used, kept over restarts: written in batches, beside the requests.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use tokio_util::sync::CancellationToken;

use super::Registry;
use crate::store::{StoreError, StoredUses};

/// What a daemon that is killed may forget, for one commit a second while models are being used.
const WRITE_EVERY: Duration = Duration::from_secs(1);

/// By how much daemons that share the folder may be wrong about which file was used last.
const TELL_EVERY: Duration = Duration::from_secs(60);

/// Writes what was used, until the daemon stops, and then a last time.
pub(super) async fn keep(registry: Arc<Registry>, stopping: CancellationToken) {
    let mut told = Instant::now();
    loop {
        let last = tokio::select! {
            () = stopping.cancelled() => true,
            () = tokio::time::sleep(WRITE_EVERY) => false,
        };
        if let Err(error) = write(&registry).await {
            tracing::warn!(%error, "how often models were used was not written; it is tried again");
        }
        if last || told.elapsed() >= TELL_EVERY {
            registry.tell().await;
            told = Instant::now();
        }
        if last {
            return;
        }
    }
}

async fn write(registry: &Registry) -> Result<(), StoreError> {
    let entries = registry.list();
    let used: Vec<_> = entries.iter().filter_map(|entry| Some((entry, entry.served.unwritten()?))).collect();
    if used.is_empty() {
        return Ok(());
    }
    let stored = used.iter().map(|(entry, uses)| StoredUses {
        name: entry.model.name.clone(),
        digest: entry.model.digest,
        uses: *uses,
    });
    registry.store.put_uses(stored.collect()).await?;
    for (entry, uses) in used {
        entry.served.wrote(uses);
    }
    Ok(())
}
