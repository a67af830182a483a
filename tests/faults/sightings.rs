//! What the daemon tells of its instances on the topic `pool`, with the time at which it was heard.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use anyhow::{Context, bail};
use futures_util::{SinkExt, StreamExt};
use serde_json::Value;
use tokio::{sync::watch, time::Instant};
use tokio_tungstenite::tungstenite::Message;
use tokio_util::sync::{CancellationToken, DropGuard};

/// Events kept; a trial that sees more goes on with the newest.
const KEPT: usize = 4096;

#[derive(Clone)]
pub(crate) struct Sighting {
    pub(crate) at: Instant,
    pub(crate) status: Value,
}

impl Sighting {
    fn of(&self, instance: &str) -> bool {
        self.status["instance"] == instance
    }

    fn ready(&self) -> bool {
        ready(&self.status)
    }
}

/// The listing says `busy` of a ready instance that computes.
fn ready(status: &Value) -> bool {
    status["state"] == "ready" || status["state"] == "busy"
}

#[derive(Default)]
struct Seen {
    latest: BTreeMap<String, Value>,
    log: Vec<Sighting>,
}

pub(crate) struct Sightings {
    seen: Arc<Mutex<Seen>>,
    heard: watch::Receiver<u64>,
    _listening: DropGuard,
}

impl Sightings {
    /// Subscribes, then reads what is so already.
    pub(crate) async fn start(url: &str) -> anyhow::Result<Self> {
        let socket = format!("{}/v2/ws", url.replacen("http", "ws", 1));
        let (mut socket, _) = tokio_tungstenite::connect_async(&socket).await?;
        socket.send(Message::text(r#"{"type":"subscribe","topics":["pool"]}"#)).await?;
        let listed: Value = reqwest::get(format!("{url}/api/v1/instances")).await?.json().await?;
        let seen = Arc::new(Mutex::new(Seen::default()));
        for status in listed["items"].as_array().context("instances are a list")? {
            note(&seen, status.clone());
        }
        let (told, heard) = watch::channel(0);
        let stop = CancellationToken::new();
        let (ended, noted) = (stop.clone(), seen.clone());
        tokio::spawn(async move {
            loop {
                let message = tokio::select! {
                    message = socket.next() => message,
                    () = ended.cancelled() => return,
                };
                // Whoever waits learns of the end from the channel.
                let Some(Ok(message)) = message else { return };
                let Message::Text(text) = message else { continue };
                let Ok(event) = serde_json::from_str::<Value>(&text) else { return };
                if event["type"] == "event" {
                    note(&noted, event["event"].clone());
                    told.send_modify(|count| *count += 1);
                }
            }
        });
        Ok(Self { seen, heard, _listening: stop.drop_guard() })
    }

    fn seen(&self) -> MutexGuard<'_, Seen> {
        lock(&self.seen)
    }

    pub(crate) fn latest(&self, instance: &str) -> Value {
        self.seen().latest.get(instance).cloned().unwrap_or_default()
    }

    pub(crate) fn instances(&self) -> Vec<String> {
        self.seen().latest.keys().cloned().collect()
    }

    /// Waits until every instance is ready.
    pub(crate) async fn all_ready(&self, within: Duration) -> anyhow::Result<()> {
        self.until(within, |seen| seen.latest.values().all(ready).then_some(())).await
    }

    /// When the instance was ready again after a fault at `from`, which must have been noticed first.
    pub(crate) async fn back(
        &self,
        instance: &str,
        from: Instant,
        within: Duration,
    ) -> anyhow::Result<Instant> {
        let back = |seen: &Seen| {
            let mut after = seen.log.iter().filter(|sighting| sighting.of(instance) && sighting.at >= from);
            after.find(|sighting| !sighting.ready())?;
            after.find(|sighting| sighting.ready()).map(|sighting| sighting.at)
        };
        self.until(within, back).await.with_context(|| format!("{instance} after its fault"))
    }

    async fn until<T>(
        &self,
        within: Duration,
        mut found: impl FnMut(&Seen) -> Option<T>,
    ) -> anyhow::Result<T> {
        let mut heard = self.heard.clone();
        let deadline = Instant::now() + within;
        loop {
            heard.mark_unchanged();
            if let Some(found) = found(&self.seen()) {
                return Ok(found);
            }
            match tokio::time::timeout_at(deadline, heard.changed()).await {
                Ok(Ok(())) => {}
                Ok(Err(_)) => bail!("the daemon closed the subscription"),
                Err(_) => bail!("not within {} s: {}", within.as_secs(), self.states()),
            }
        }
    }

    fn states(&self) -> String {
        let seen = self.seen();
        let state =
            |status: &Value| format!("{} {} {}", status["instance"], status["state"], status["reason"]);
        seen.latest.values().map(state).collect::<Vec<_>>().join("; ")
    }
}

fn lock(seen: &Mutex<Seen>) -> MutexGuard<'_, Seen> {
    seen.lock().expect("no holder of the sightings panics")
}

fn note(seen: &Mutex<Seen>, status: Value) {
    let mut seen = lock(seen);
    let instance = status["instance"].as_str().unwrap_or_default().to_owned();
    seen.latest.insert(instance, status.clone());
    if seen.log.len() >= KEPT {
        seen.log.drain(..KEPT / 2);
    }
    seen.log.push(Sighting { at: Instant::now(), status });
}
