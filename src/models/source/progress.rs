//! How far a download is, for whoever asks, waits or subscribes.

use std::{
    fmt,
    sync::{Arc, Mutex},
    time::Duration,
};

use serde::{Deserialize, Serialize};
use serde_json::json;
use tokio::{sync::watch, time::Instant};
use utoipa::ToSchema;

use super::{Brought, SourceError};
use crate::{
    domain::{Digest, Failure},
    events::Events,
    protocol::client::Topic,
};

/// Subscribers are told of bytes this often: enough for a bar that moves.
const TOLD_EVERY: Duration = Duration::from_millis(200);

/// One download, as long as the daemon remembers it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, ToSchema)]
#[serde(transparent)]
pub struct DownloadId(String);

impl DownloadId {
    pub(super) fn random() -> Self {
        Self(format!("{:016x}", rand::random::<u64>()))
    }
}

impl fmt::Display for DownloadId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum State {
    Running,
    /// Until the next try.
    Waiting,
    Done,
    Failed,
    Cancelled,
}

impl State {
    pub fn ended(self) -> bool {
        matches!(self, Self::Done | Self::Failed | Self::Cancelled)
    }
}

/// A download as it is now
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct Download {
    pub id: DownloadId,
    /// As somebody said it, then with what was found.
    pub source: String,
    pub state: State,
    /// How much of the file is there; of the archive, where the model lies in one.
    pub bytes: u64,
    /// How much there will be, where that is known.
    pub total: Option<u64>,
    /// How long it waits until the next try.
    pub retry_in_ms: Option<u64>,
    /// What the last try came to.
    pub reason: Option<String>,
    /// What pins the source: a commit, a version, an `ETag`, a digest.
    pub revision: Option<String>,
    /// Of the model's file, when it is there.
    pub digest: Option<Digest>,
    /// What the source calls that file; weights have to be converted.
    pub file: Option<String>,
    pub error: Option<Failure>,
}

/// Clones tell of the same download.
#[derive(Clone)]
pub(super) struct Progress(Arc<Inner>);

struct Inner {
    download: watch::Sender<Download>,
    events: Events,
    /// When subscribers were told last.
    told: Mutex<Option<Instant>>,
}

impl Progress {
    pub(super) fn new(source: String, events: Events) -> Self {
        let download = Download {
            id: DownloadId::random(),
            source,
            state: State::Running,
            bytes: 0,
            total: None,
            retry_in_ms: None,
            reason: None,
            revision: None,
            digest: None,
            file: None,
            error: None,
        };
        Self(Arc::new(Inner { download: watch::Sender::new(download), events, told: Mutex::default() }))
    }

    pub(super) fn now(&self) -> Download {
        self.0.download.borrow().clone()
    }

    pub(super) fn watch(&self) -> watch::Receiver<Download> {
        self.0.download.subscribe()
    }

    /// So many bytes are there, of so many.
    pub(super) fn at(&self, bytes: u64, total: Option<u64>) {
        self.change(false, |download| (download.bytes, download.total) = (bytes, total));
    }

    pub(super) fn waits(&self, wait: Duration, error: &SourceError) {
        let source = &self.0.download.borrow().source.clone();
        tracing::info!(source, wait_ms = wait.as_millis() as u64, %error, "a download is tried again");
        self.change(true, |download| {
            download.state = State::Waiting;
            download.retry_in_ms = Some(wait.as_millis() as u64);
            download.reason = Some(error.to_string());
        });
    }

    pub(super) fn goes_on(&self) {
        self.change(true, |download| (download.state, download.retry_in_ms) = (State::Running, None));
    }

    pub(super) fn ends(&self, outcome: Result<Brought, SourceError>) {
        self.change(true, |download| {
            download.retry_in_ms = None;
            match outcome {
                Ok(brought) => {
                    download.state = State::Done;
                    download.reason = None;
                    download.digest = Some(brought.digest);
                    download.file = Some(brought.file);
                    (download.source, download.revision) = (brought.source, brought.revision);
                }
                Err(error) => {
                    let cancelled = matches!(error, SourceError::Cancelled);
                    download.state = if cancelled { State::Cancelled } else { State::Failed };
                    download.error = Some(error.into());
                }
            }
        });
    }

    fn change(&self, always: bool, change: impl FnOnce(&mut Download)) {
        self.0.download.send_modify(change);
        let mut told = self.0.told.lock().expect("no holder of the time panics");
        if always || told.is_none_or(|told| told.elapsed() >= TOLD_EVERY) {
            *told = Some(Instant::now());
            self.0.events.publish(Topic::Models, || json!({"download": self.now()}));
        }
    }
}
