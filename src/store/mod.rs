//! What the daemon remembers: models, verdicts and the history of runs, in one database file.
//!
//! One thread writes, another reads on a connection of its own; no caller ever waits on the disk to record a run.
//! Never decides anything from what it stores, and never keeps tensors or model files.

mod benches;
mod error;
mod export;
mod models;
mod open;
mod plans;
mod rows;
mod runs;
mod schema;
mod standing;
#[cfg(test)]
mod tests;
mod variants;
mod writer;

use std::{
    fmt,
    path::Path,
    str::FromStr,
    sync::{Arc, Mutex, PoisonError, atomic::Ordering},
    thread::{self, JoinHandle},
};

use duckdb::{Connection, OptionalExt as _, Row, params};
use tokio::{
    runtime::{self, Runtime},
    sync::{
        mpsc::{self, error::TrySendError},
        oneshot,
    },
};

use self::writer::{Order, Signals, Writer};
pub use self::{
    benches::{
        BENCHES_MAX, BenchFilter, HistoryFilter, POINTS_MAX, Retention, StoredBench, StoredCell,
        StoredCellKey, StoredDocument, StoredFigures, StoredJudgement, StoredPoint, StoredRuns,
        environment_digest,
    },
    error::StoreError,
    export::{CellSamples, TableFormat, export},
    models::{StoredModel, StoredUses},
    plans::StoredPlan,
    runs::{RunFilter, RunOutcome, RunTimes, TIMES_MAX},
    standing::StoredStanding,
    variants::StoredVariant,
};
use crate::{
    domain::{Digest, RunId, RunRecord, Scopes, Verdict, VerdictKey},
    tasks::take_short_turns,
};

/// Reads that wait for their turn; further callers wait to get in.
const READS: usize = 64;
/// A tenth of a request's claim to a core: enough for the history to keep up on a machine that has nothing left.
const NICENESS: i32 = 10;
const RUN: &str = concat!(include_str!("queries/run_columns.sql"), include_str!("queries/run.sql"));
/// Runs of one page: about 10 MB as JSON.
pub const PAGE_MAX: u32 = 10_000;

type Query = Box<dyn FnOnce(&Connection) + Send>;

/// The handle. Dropping it closes the store like [`Store::close`], but blocks the dropping thread meanwhile.
#[derive(Debug)]
pub struct Store {
    orders: mpsc::Sender<Order>,
    queries: mpsc::Sender<Query>,
    signals: Arc<Signals>,
    threads: Mutex<Vec<JoinHandle<()>>>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct StoredVerdict {
    pub key: VerdictKey,
    pub verdict: Verdict,
    /// Microseconds since the Unix epoch.
    pub proven_at_us: i64,
}

/// An API key without its secret. Times are microseconds since the Unix epoch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredKey {
    pub id: String,
    pub name: String,
    /// SHA-256 of the secret.
    pub digest: Digest,
    pub scopes: Scopes,
    pub weight: u32,
    pub rate_per_second: Option<u32>,
    pub quota_per_day: Option<u32>,
    pub in_flight: Option<u32>,
    pub created_at_us: i64,
    pub expires_at_us: Option<i64>,
    pub revoked_at_us: Option<i64>,
}

/// What a caller has used of its quota of a day, counted from the Unix epoch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Spent {
    pub caller: String,
    pub day: u32,
    pub used: u32,
}

/// Where a page of runs ends. Runs recorded later never move it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RunCursor(i64);

#[derive(Clone, Debug, PartialEq)]
pub struct RunPage {
    /// The one recorded last comes first.
    pub runs: Vec<RunRecord>,
    /// Absent when no older run is left.
    pub next: Option<RunCursor>,
}

impl Store {
    /// Opens the file, which is made when it is not there, and brings it to this weft's schema.
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        Self::start(open::file(path)?).map_err(|message| StoreError::Open { path: path.to_owned(), message })
    }

    /// A store that ends with its handle.
    pub fn open_in_memory() -> Result<Self, StoreError> {
        Self::start(open::in_memory()?)
            .map_err(|message| StoreError::Open { path: open::IN_MEMORY.into(), message })
    }

    fn start(connection: Connection) -> Result<Self, String> {
        let reading = connection.try_clone().map_err(|error| error.to_string())?;
        let (orders, inbox) = mpsc::channel(writer::QUEUE);
        let (queries, waiting) = mpsc::channel(READS);
        let signals = Arc::new(Signals::default());
        let writer =
            Writer::new(connection, inbox, Arc::clone(&signals)).map_err(|error| error.to_string())?;
        let stopping = Arc::clone(&signals);
        let store = Self { orders, queries, signals, threads: Mutex::default() };
        store.spawn("store-writer", move |runtime| runtime.block_on(writer.run()))?;
        store
            .spawn("store-reader", move |runtime| runtime.block_on(read_on(&reading, waiting, &stopping)))?;
        Ok(store)
    }

    fn spawn(&self, name: &str, body: impl FnOnce(Runtime) + Send + 'static) -> Result<(), String> {
        let runtime = runtime::Builder::new_current_thread()
            .enable_time()
            .build()
            .map_err(|error| error.to_string())?;
        let thread = thread::Builder::new()
            .name(name.to_owned())
            .spawn(move || {
                take_short_turns(NICENESS);
                body(runtime);
            })
            .map_err(|error| error.to_string())?;
        self.threads.lock().unwrap_or_else(PoisonError::into_inner).push(thread);
        Ok(())
    }

    /// Hands a run to the writer. Neither waits nor fails: when the queue is full, the row is lost and counted.
    pub fn record_run(&self, record: RunRecord) {
        match self.orders.try_send(Order::Run(Box::new(record))) {
            Ok(()) => {
                let waiting = self.orders.max_capacity() - self.orders.capacity();
                if waiting >= writer::BATCH_ROWS {
                    self.signals.urgent.notify_one();
                }
            }
            Err(TrySendError::Full(_) | TrySendError::Closed(_)) => {
                self.signals.lost.fetch_add(1, Ordering::Relaxed);
            }
        }
    }

    /// Runs that never reached the database since it was opened: the queue was full, a commit failed, or it was closed.
    pub fn lost_runs(&self) -> u64 {
        self.signals.lost.load(Ordering::Relaxed)
    }

    /// Returns when every run recorded before is committed; an error says that since the last flush some could not be.
    pub async fn flush(&self) -> Result<(), StoreError> {
        let (reply, answer) = oneshot::channel();
        self.order(Order::Flush(reply)).await?;
        answer.await.map_err(|_| StoreError::Closed)?
    }

    /// Keeps the verdict, in place of an earlier one for the same key.
    pub async fn put_verdict(&self, verdict: StoredVerdict) -> Result<(), StoreError> {
        self.change("verdict", move |connection| rows::put_verdict(connection, &verdict)).await
    }

    /// All verdicts about a model's file, the newest first.
    pub async fn verdicts(&self, model: Digest) -> Result<Vec<StoredVerdict>, StoreError> {
        let sql = include_str!("queries/verdicts.sql");
        self.read("verdicts", move |connection| {
            all(connection, sql, Some(&model.to_string()), rows::read_verdict)
        })
        .await
    }

    pub async fn verdict(&self, key: &VerdictKey) -> Result<Option<StoredVerdict>, StoreError> {
        let (sql, key) = (include_str!("queries/verdict.sql"), key.canonical());
        self.read("verdict", move |connection| {
            connection.query_row(sql, [key], rows::read_verdict).optional()
        })
        .await
    }

    /// Adds the key, or replaces the one of that id.
    pub async fn put_key(&self, key: StoredKey) -> Result<(), StoreError> {
        self.change("key", move |connection| rows::put_key(connection, &key)).await
    }

    /// In the order in which they were made.
    pub async fn keys(&self) -> Result<Vec<StoredKey>, StoreError> {
        self.read("keys", |connection| {
            all(connection, include_str!("queries/keys.sql"), None, rows::read_key)
        })
        .await
    }

    /// Keeps what callers have used, in place of what was written before, and forgets earlier days.
    pub async fn put_spent(&self, spent: Vec<Spent>) -> Result<(), StoreError> {
        self.change("quotas", move |connection| rows::put_spent(connection, &spent)).await
    }

    /// What callers have used of this day's quotas.
    pub async fn spent(&self, day: u32) -> Result<Vec<Spent>, StoreError> {
        let sql = include_str!("queries/spent.sql");
        self.read("quotas", move |connection| {
            connection.prepare(sql)?.query_map([day], rows::read_spent)?.collect()
        })
        .await
    }

    /// The run of this name, if it is the caller's; anybody's where nobody is named.
    pub async fn run(&self, run: RunId, caller: Option<String>) -> Result<Option<RunRecord>, StoreError> {
        self.read("run", move |connection| {
            let read = |row: &Row<'_>| rows::read_run(row).map(|(_, record)| record);
            connection.query_row(RUN, params![run.as_str(), caller], read).optional()
        })
        .await
    }

    /// Writes what was accepted, ends both threads and closes the file. Whatever comes later is refused.
    pub async fn close(&self) -> Result<(), StoreError> {
        let flushed = self.flush().await;
        self.signals.stop.cancel();
        let threads = self.take_threads();
        // Fails only when the runtime itself is ending; the threads end all the same.
        tokio::task::spawn_blocking(move || join(threads)).await.map_err(|_| StoreError::Closed)?;
        flushed
    }

    async fn order(&self, order: Order) -> Result<(), StoreError> {
        self.orders.send(order).await.map_err(|_| StoreError::Closed)?;
        self.signals.urgent.notify_one();
        Ok(())
    }

    async fn change<T: Send + 'static>(
        &self,
        what: &'static str,
        change: impl FnOnce(&Connection) -> duckdb::Result<T> + Send + 'static,
    ) -> Result<T, StoreError> {
        let (reply, answer) = oneshot::channel();
        let change = move |connection: &Connection| {
            let outcome = transacted(connection, change);
            // A caller that stopped waiting needs no answer.
            let _ =
                reply.send(outcome.map_err(|error| StoreError::Write { what, message: error.to_string() }));
        };
        self.order(Order::Change(Box::new(change))).await?;
        answer.await.map_err(|_| StoreError::Closed)?
    }

    async fn read<T: Send + 'static>(
        &self,
        what: &'static str,
        query: impl FnOnce(&Connection) -> duckdb::Result<T> + Send + 'static,
    ) -> Result<T, StoreError> {
        let (reply, answer) = oneshot::channel();
        let query = move |connection: &Connection| {
            if !reply.is_closed() {
                let found = query(connection);
                let _ =
                    reply.send(found.map_err(|error| StoreError::Read { what, message: error.to_string() }));
            }
        };
        self.queries.send(Box::new(query)).await.map_err(|_| StoreError::Closed)?;
        answer.await.map_err(|_| StoreError::Closed)?
    }

    fn take_threads(&self) -> Vec<JoinHandle<()>> {
        std::mem::take(&mut *self.threads.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        self.signals.stop.cancel();
        join(self.take_threads());
    }
}

fn join(threads: Vec<JoinHandle<()>>) {
    for thread in threads {
        if thread.join().is_err() {
            tracing::error!("a thread of the store panicked");
        }
    }
}

async fn read_on(connection: &Connection, mut queries: mpsc::Receiver<Query>, signals: &Signals) {
    loop {
        tokio::select! {
            biased;
            () = signals.stop.cancelled() => return,
            query = queries.recv() => match query {
                Some(query) => {
                    let _reading = signals.reading.lock().unwrap_or_else(PoisonError::into_inner);
                    query(connection);
                }
                None => return,
            },
        }
    }
}

fn transacted<T>(
    connection: &Connection,
    change: impl FnOnce(&Connection) -> duckdb::Result<T>,
) -> duckdb::Result<T> {
    let transaction = connection.unchecked_transaction()?;
    let changed = change(&transaction)?;
    transaction.commit()?;
    Ok(changed)
}

fn all<T>(
    connection: &Connection,
    sql: &str,
    argument: Option<&str>,
    read: fn(&Row<'_>) -> duckdb::Result<T>,
) -> duckdb::Result<Vec<T>> {
    connection.prepare(sql)?.query_map(duckdb::params_from_iter(argument), read)?.collect()
}

impl fmt::Display for RunCursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for RunCursor {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        text.parse()
            .map(Self)
            .map_err(|_| format!("{text:?} is no cursor: use the one that came with a page"))
    }
}
