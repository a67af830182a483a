//! Requests that arrive by chance and wait for nobody: each is timed from the moment at which it was to be sent.

use std::{
    collections::BTreeMap,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, bail};
use bytes::Bytes;
use futures_util::{SinkExt, StreamExt};
use serde::Deserialize;
use serde_json::Value;
use tokio::{
    sync::mpsc,
    task::{self, JoinSet},
};
use tokio_tungstenite::tungstenite::Message;
use weft::{bench::Arrivals, protocol::frame::Frame};

use crate::{requests::Model, wire::Wire};

/// So that none has more under way than the daemon takes of one connection.
const CONNECTIONS: usize = 8;

/// Beyond every deadline, and all that the daemon grants beside it.
const ANSWERED_WITHIN: Duration = Duration::from_secs(60);

/// One request; microseconds.
pub(super) struct Arrival {
    /// By how much later than intended it was sent.
    pub(super) late_us: u64,
    /// From when it was to be sent to its answer.
    pub(super) took_us: u64,
    /// The answer, or the code of the refusal.
    pub(super) heard: Result<Bytes, String>,
}

/// What arrives: requests of a model, so many per second on average, for so long.
pub(super) struct Offer<'a> {
    pub(super) model: &'a Model,
    pub(super) parameters: &'a Value,
    pub(super) per_second: f64,
    pub(super) time: Duration,
    pub(super) seed: u64,
}

#[derive(Deserialize)]
struct Head {
    id: String,
}

#[derive(Deserialize)]
struct Refusal {
    id: Option<String>,
    error: Code,
}

#[derive(Deserialize)]
struct Code {
    code: String,
}

impl Offer<'_> {
    /// The times of arrival of a Poisson process.
    fn times(&self) -> Vec<Duration> {
        Arrivals::new(self.per_second, self.seed).take_while(|at| *at < self.time).collect()
    }

    /// Sends each when it is due, whatever became of the others, and waits for all answers.
    pub(super) async fn make(&self, socket: &str) -> anyhow::Result<Vec<Arrival>> {
        let times = self.times();
        // Time for the connections to be there.
        let mut due = Vec::new();
        let (mut writing, mut reading) = (JoinSet::new(), JoinSet::new());
        let mut wires = Vec::new();
        for _ in 0..CONNECTIONS.min(times.len()) {
            wires.push(Wire::connect(socket).await?);
        }
        let started = Instant::now();
        let connections = wires.len();
        for (at, wire) in wires.into_iter().enumerate() {
            let own: Vec<_> = times.iter().copied().enumerate().skip(at).step_by(connections).collect();
            let (send, frames) = mpsc::unbounded_channel();
            due.push(send);
            let (sink, stream) = wire.halves();
            let intended = own.iter().map(|(number, offset)| (*number, started + *offset)).collect();
            reading.spawn(read(stream, intended));
            writing.spawn(write(sink, frames, started));
        }
        let (model, parameters) = (self.model.clone(), self.parameters.clone());
        let pacing = task::spawn_blocking(move || {
            for (number, offset) in times.into_iter().enumerate() {
                // A thread's sleep is finer than the runtime's timers.
                thread::sleep((started + offset).saturating_duration_since(Instant::now()));
                let frame = model.asking(number, &parameters);
                // A connection that has broken is told by its reader.
                let _ = due[number % due.len()].send((number, offset, frame));
            }
        });
        pacing.await?;
        let joined = async {
            let (mut late, mut heard) = (BTreeMap::new(), BTreeMap::new());
            for written in writing.join_all().await {
                late.extend(written?);
            }
            for read in reading.join_all().await {
                heard.extend(read?);
            }
            anyhow::Ok((late, heard))
        };
        let joined = tokio::time::timeout(ANSWERED_WITHIN, joined).await;
        let (mut late, heard) = joined.context("some request was never answered")??;
        let arrival = |(number, (took_us, heard)): (usize, (u64, Result<Bytes, String>))| {
            let late_us = late.remove(&number).context("what was answered was sent")?;
            Ok(Arrival { late_us, took_us, heard })
        };
        heard.into_iter().map(arrival).collect()
    }
}

async fn write(
    mut sink: crate::wire::Sending,
    mut frames: mpsc::UnboundedReceiver<(usize, Duration, Bytes)>,
    started: Instant,
) -> anyhow::Result<Vec<(usize, u64)>> {
    let mut late = Vec::new();
    while let Some((number, offset, frame)) = frames.recv().await {
        sink.send(Message::Binary(frame)).await?;
        late.push((number, started.elapsed().saturating_sub(offset).as_micros() as u64));
    }
    Ok(late)
}

/// Reads until each that was intended has been answered.
async fn read(
    mut stream: crate::wire::Receiving,
    mut intended: BTreeMap<usize, Instant>,
) -> anyhow::Result<Vec<(usize, (u64, Result<Bytes, String>))>> {
    let mut heard = Vec::new();
    while !intended.is_empty() {
        let message = stream.next().await.context("the connection ended")??;
        let now = Instant::now();
        let (id, said) = match message {
            Message::Binary(frame) => {
                let head: Head = Frame::split(&frame)?.parse()?;
                (head.id, Ok(frame))
            }
            Message::Text(text) => {
                let refusal: Refusal = serde_json::from_str(&text).with_context(|| text.to_string())?;
                (refusal.id.context("a refusal names its request")?, Err(refusal.error.code))
            }
            other => bail!("instead of an answer came {other}"),
        };
        let number = id.parse()?;
        let due = intended.remove(&number).with_context(|| format!("{id} was answered unasked"))?;
        heard.push((number, ((now.saturating_duration_since(due)).as_micros() as u64, said)));
    }
    Ok(heard)
}
