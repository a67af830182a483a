//! Tells the daemon how far a suite has come, beside what is measured and never in its way.

use std::{
    convert::Infallible,
    time::{Duration, Instant},
};

use anyhow::Context as _;
use futures_util::{SinkExt as _, StreamExt as _};
use serde_json::json;
use tokio::sync::watch;
use tokio_tungstenite::tungstenite::Message;

use super::super::client::Client;
use crate::{
    bench::{Cell, Outcome},
    protocol::client::SuiteProgress,
};

/// What is told; the newest alone is worth it.
pub(super) struct Told {
    newest: watch::Sender<SuiteProgress>,
    began: Instant,
    ends: Instant,
}

impl Told {
    pub(super) fn new(id: &str, suite: &str, ends: Instant, cells: &[Cell], leases: Vec<String>) -> Self {
        let progress = SuiteProgress {
            id: id.to_owned(),
            suite: suite.to_owned(),
            cells: count(waiting(cells)),
            ended: 0,
            failed: 0,
            now: None,
            remaining_us: None,
            at_most_us: left(ends),
            leases,
        };
        Self { newest: watch::Sender::new(progress), began: Instant::now(), ends }
    }

    pub(super) fn newest(&self) -> watch::Receiver<SuiteProgress> {
        self.newest.subscribe()
    }

    pub(super) fn now(&self, doing: &str) {
        self.newest.send_modify(|progress| {
            progress.now = Some(doing.to_owned());
            progress.at_most_us = left(self.ends);
        });
    }

    /// The leases that the suite holds now, which the daemon gives back when it hears no more of it.
    pub(super) fn leases(&self, held: Vec<String>) {
        self.newest.send_modify(|progress| progress.leases = held);
    }

    /// Takes note of what has become of the cells.
    pub(super) fn ended(&self, cells: &[Cell]) {
        let failed = |cell: &&Cell| matches!(cell.state.outcome, Outcome::Wrong | Outcome::Failed);
        let (waiting, failed) = (count(waiting(cells)), count(cells.iter().filter(failed).count()));
        let (spent, left) = (self.began.elapsed(), left(self.ends));
        self.newest.send_modify(|progress| {
            progress.ended = progress.cells.saturating_sub(waiting);
            progress.failed = failed.min(progress.ended);
            let rest = micros(spent) / u64::from(progress.ended.max(1)) * u64::from(waiting);
            progress.remaining_us = (progress.ended > 0).then(|| rest.min(left));
            progress.at_most_us = left;
        });
    }
}

/// A cell has run out of time until it has had its turn.
fn waiting(cells: &[Cell]) -> usize {
    cells.iter().filter(|cell| cell.state.outcome == Outcome::TimedOut).count()
}

fn left(ends: Instant) -> u64 {
    micros(ends.saturating_duration_since(Instant::now()))
}

fn count(cells: usize) -> u32 {
    u32::try_from(cells).unwrap_or(u32::MAX)
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

/// Sends what is newest, as it comes, for as long as the daemon hears it; an older one knows no such message.
pub(super) async fn tell(client: &Client, newest: watch::Receiver<SuiteProgress>) -> Infallible {
    if let Err(error) = send(client, newest).await {
        tracing::debug!("the daemon is told no progress any more: {error:#}");
    }
    std::future::pending().await
}

async fn send(client: &Client, mut newest: watch::Receiver<SuiteProgress>) -> anyhow::Result<()> {
    let (mut sink, mut stream) = client.socket().await?.split();
    loop {
        let message = json!({"type": "progress", "progress": &*newest.borrow_and_update()});
        sink.send(Message::text(message.to_string())).await?;
        tokio::select! {
            changed = newest.changed() => changed?,
            said = stream.next() => {
                let said = said.context("the daemon closed the connection")??;
                anyhow::ensure!(!said.is_text(), "the daemon takes no progress: {said}");
            }
        }
    }
}
