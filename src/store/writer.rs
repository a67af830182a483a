//! The thread that alone writes: appends runs in batches, and does everything else in the order of arrival.

#[cfg(test)]
mod tests;

use std::{
    fmt,
    path::Path,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
};

use duckdb::Connection;
use tokio::{
    sync::{Notify, mpsc, oneshot},
    time::{Duration, sleep},
};
use tokio_util::sync::CancellationToken;

use super::{StoreError, open, rows};
use crate::domain::RunRecord;

/// Orders that wait for the writer. A disk that stalls for eight seconds at 2,000 runs a second
/// loses nothing; at some 1.5 KiB a run, no more than 25 MiB wait.
pub(super) const QUEUE: usize = 16_384;
/// Rows of one transaction: its commit, one sync of the log, is then dear to none of them.
pub(super) const BATCH_ROWS: usize = 1000;
/// How long a lone row waits for company: what a SIGKILL may cost.
/// A commit computes for milliseconds however few its rows are, and takes a core from a request that comes meanwhile.
const BATCH_WAIT: Duration = Duration::from_secs(1);
/// Rows of history kept: months of a busy developer's machine, and some tens of bytes each on disk.
const RUNS_KEPT: i64 = 1_000_000;
/// Rows between two tidyings: half of what the database keeps together, so that every second one fills a group of rows.
/// After other counts it writes unfilled groups over and over, for up to a second at a time.
pub(super) const TIDY_EVERY: i64 = 61_440;
/// What may stay in memory of what the file has: what is used often, as far as the database tells.
pub(super) const CACHED: &str = "4MB";

pub(super) enum Order {
    Run(Box<RunRecord>),
    /// A transaction of its own, which answers by itself.
    Change(Box<dyn FnOnce(&Connection) + Send>),
    /// Answered once every earlier run is committed, or with why some were lost since the last flush.
    Flush(oneshot::Sender<Result<(), StoreError>>),
}

/// What the writer shares with its callers.
#[derive(Debug, Default)]
pub(super) struct Signals {
    /// Ends the wait for a fuller batch.
    pub(super) urgent: Notify,
    pub(super) stop: CancellationToken,
    /// Runs that never reached the database, since the store was opened.
    pub(super) lost: AtomicU64,
    /// Held by the reader during a query, which needs the memory that it may have.
    pub(super) reading: Mutex<()>,
}

pub(super) struct Writer {
    connection: Connection,
    inbox: mpsc::Receiver<Order>,
    signals: Arc<Signals>,
    batch: Vec<RunRecord>,
    next_seq: i64,
    /// Whether so many rows were written that it is time to tidy up.
    untidy: bool,
    /// Why a batch was lost since the last flush.
    failure: Option<StoreError>,
    losses: Losses,
}

impl Writer {
    pub(super) fn new(
        connection: Connection,
        inbox: mpsc::Receiver<Order>,
        signals: Arc<Signals>,
    ) -> duckdb::Result<Self> {
        let next_seq = connection.query_row(include_str!("queries/next_seq.sql"), [], |row| row.get(0))?;
        let batch = Vec::with_capacity(BATCH_ROWS);
        Ok(Self {
            connection,
            inbox,
            signals,
            batch,
            next_seq,
            untidy: false,
            failure: None,
            losses: Losses::default(),
        })
    }

    /// Works until told to stop, and then until nothing that was accepted is left.
    pub(super) async fn run(mut self) {
        let signals = Arc::clone(&self.signals);
        loop {
            let first = tokio::select! {
                biased;
                () = signals.stop.cancelled() => break,
                order = self.inbox.recv() => order,
            };
            let Some(first) = first else { break };
            // The inbox is not polled while waiting, so that recording a run wakes nobody.
            if matches!(first, Order::Run(_)) {
                tokio::select! {
                    () = sleep(BATCH_WAIT) => {}
                    () = signals.urgent.notified() => {}
                    () = signals.stop.cancelled() => {}
                }
            }
            self.take(first);
            while let Ok(order) = self.inbox.try_recv() {
                self.take(order);
            }
            self.commit();
            self.losses.look(signals.lost.load(Ordering::Relaxed));
        }
        self.inbox.close();
        while let Some(order) = self.inbox.recv().await {
            self.take(order);
        }
        self.commit();
        self.losses.look(signals.lost.load(Ordering::Relaxed));
    }

    fn take(&mut self, order: Order) {
        match order {
            Order::Run(record) => {
                self.batch.push(*record);
                if self.batch.len() == BATCH_ROWS {
                    self.commit();
                }
            }
            Order::Change(change) => {
                self.commit();
                change(&self.connection);
            }
            Order::Flush(reply) => {
                self.commit();
                // A caller that stopped waiting needs no answer.
                let _ = reply.send(self.failure.take().map_or(Ok(()), Err));
            }
        }
    }

    fn commit(&mut self) {
        if self.batch.is_empty() {
            return;
        }
        match self.append() {
            Ok(()) => {
                self.untidy |= self.is_time_to_tidy();
                self.next_seq = self.seq_after_batch();
            }
            Err(error) => {
                let failure = StoreError::Write { what: "runs", message: error.to_string() };
                self.losses.begin(&failure);
                self.failure = Some(failure);
                self.signals.lost.fetch_add(self.batch.len() as u64, Ordering::Relaxed);
            }
        }
        self.batch.clear();
        self.tidy();
    }

    /// Writes the log back into the file, and lets go of memory that has no more than the file has; once no query runs.
    fn tidy(&mut self) {
        if !self.untidy {
            return;
        }
        let signals = Arc::clone(&self.signals);
        let Ok(_alone) = signals.reading.try_lock() else { return };
        self.untidy = false;
        if let Err(error) = tidied(&self.connection) {
            tracing::warn!(%error, "the history's memory was not given back");
        }
    }

    fn is_time_to_tidy(&self) -> bool {
        self.seq_after_batch() / TIDY_EVERY != self.next_seq / TIDY_EVERY
    }

    fn seq_after_batch(&self) -> i64 {
        self.next_seq + (self.batch.len() as u64).cast_signed()
    }

    fn append(&self) -> duckdb::Result<()> {
        let transaction = self.connection.unchecked_transaction()?;
        let mut appender = transaction.appender("runs")?;
        for (seq, record) in (self.next_seq..).zip(&self.batch) {
            rows::append_run(&mut appender, seq, record)?;
        }
        appender.flush()?;
        drop(appender);
        if self.is_time_to_tidy() {
            prune(&transaction, self.seq_after_batch() - RUNS_KEPT)?;
        }
        transaction.commit()
    }
}

/// Deletes the runs recorded before `first`.
pub(super) fn prune(connection: &Connection, first: i64) -> duckdb::Result<usize> {
    connection.execute(include_str!("queries/prune_runs.sql"), [first])
}

/// The database gives memory back only where a limit is lowered, at once and as far as it can.
fn tidied(connection: &Connection) -> duckdb::Result<()> {
    if connection.path() == Some(Path::new(open::IN_MEMORY)) {
        return Ok(());
    }
    // What is in the log alone would go to a file of its own.
    connection.execute_batch("CHECKPOINT")?;
    let limit = |most: &str| connection.execute_batch(&format!("SET memory_limit = '{most}'"));
    let lowered = limit(CACHED);
    limit(open::MEMORY)?;
    lowered
}

/// Logs losses once when a burst of them begins and once when it is over.
#[derive(Debug, Default)]
struct Losses {
    seen: u64,
    before_burst: Option<u64>,
}

impl Losses {
    fn begin(&mut self, reason: &dyn fmt::Display) {
        if self.before_burst.is_none() {
            self.before_burst = Some(self.seen);
            tracing::warn!(%reason, "runs are being lost");
        }
    }

    fn look(&mut self, lost: u64) {
        if lost > self.seen {
            self.begin(&"the store's queue is full");
        } else if let Some(before) = self.before_burst.take() {
            tracing::warn!(rows = lost - before, "runs were lost; they are kept again");
        }
        self.seen = lost;
    }
}
