//! Requests that arrive by chance and wait for nobody: each is timed from the moment at which it was to be sent.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::Context;
use futures_util::{
    SinkExt,
    stream::{SplitSink, SplitStream},
};
use tokio::{
    sync::mpsc,
    task::{self, JoinSet},
};
use tokio_tungstenite::tungstenite::Message;

use super::{
    super::{client::Client, wire},
    asked::{Asking, Known, off},
    socket::{Answer, Refused, Socket, answer, next, number, refusal},
};
use crate::bench::{Arrivals, Limits, Outcome, Served, State};

/// So that the daemon's limit of requests on one connection is not what is measured.
const CONNECTIONS: usize = 8;

/// The runtime's timers are this coarse; what is left is slept by a thread.
const COARSE: Duration = Duration::from_millis(2);

/// Refusals for want of room or time, which tell of the rate rather than of the lane.
const OVERLOAD: [&str; 3] = ["overloaded", "rate_limited", "deadline_exceeded"];

/// A request that was heard of.
struct Heard {
    number: usize,
    /// From when it was to be sent, in microseconds.
    took_us: f64,
    said: Result<Answer, Refused>,
}

/// When requests are to be sent, counted from a beginning.
pub(super) struct Offer {
    due: Arc<[Duration]>,
    time: Duration,
}

/// What was measured: the samples of those that were answered, in the order of arrival, and how it ended.
pub(super) struct Measured {
    pub(super) samples_us: Vec<f64>,
    pub(super) served: Served,
    pub(super) error: Option<f64>,
    pub(super) last: Option<Answer>,
    pub(super) state: State,
}

impl Offer {
    /// As many requests as the limits want of a cell, in what is left.
    pub(super) fn new(rate: f64, limits: &Limits, left: Duration, seed: u64) -> Self {
        let due: Arc<[_]> = Arrivals::new(rate, seed)
            .enumerate()
            .take_while(|(at, due)| *due < left && (*due < limits.time || *at < limits.samples_min))
            .map(|(_, due)| due)
            .take(limits.samples_max)
            .collect();
        let end = due.last().copied().unwrap_or_default();
        Self { time: if due.len() < limits.samples_max { limits.time.min(left).max(end) } else { end }, due }
    }

    /// Sends each when it is due, whatever became of the others, and hears of all.
    pub(super) async fn make(
        &self,
        client: &Client,
        asking: &Asking,
        (known, tolerance): (&Known, f64),
        within: Option<Duration>,
    ) -> anyhow::Result<Measured> {
        let mut sockets = Vec::new();
        for _ in 0..CONNECTIONS.min(self.due.len()) {
            sockets.push(Socket::open(client).await?);
        }
        let connections = sockets.len();
        let (tell, mut told) = mpsc::unbounded_channel();
        let (mut writing, mut reading, mut frames) = (JoinSet::new(), JoinSet::new(), Vec::new());
        let started = Instant::now();
        for (at, socket) in sockets.into_iter().enumerate() {
            let (sink, stream) = socket.halves();
            let (send, due) = mpsc::unbounded_channel();
            frames.push(send);
            writing.spawn(write(sink, due));
            let own = (at..self.due.len()).step_by(connections).len();
            reading.spawn(read(stream, own, (started, self.due.clone()), asking.clone(), tell.clone()));
        }
        drop(tell);
        let pacing = async {
            for (number, due) in self.due.iter().enumerate() {
                let frame = asking.ask(number, number).frame;
                let due = started + *due;
                until(due).await;
                // A connection that has broken is told by its reader.
                let _ = frames[number % connections].send((due, frame));
            }
            drop(frames);
        };
        let mut tally = Tally::default();
        let hearing = async {
            while let Some(heard) = told.recv().await {
                tally.hear(heard, known, tolerance, within);
            }
        };
        tokio::join!(pacing, hearing);
        let took = started.elapsed().max(self.time);
        let mut late = Duration::ZERO;
        for written in writing.join_all().await {
            late = late.max(written?);
        }
        reading.join_all().await.into_iter().collect::<anyhow::Result<()>>()?;
        Ok(tally.told(self.due.len(), took, late, within))
    }
}

async fn until(due: Instant) {
    tokio::time::sleep(due.saturating_duration_since(Instant::now()).saturating_sub(COARSE)).await;
    let left = due.saturating_duration_since(Instant::now());
    if !left.is_zero() {
        task::spawn_blocking(move || std::thread::sleep(left)).await.expect("a thread that sleeps ends");
    }
}

/// Says by how much the latest was late.
async fn write(
    mut sink: SplitSink<wire::Socket, Message>,
    mut frames: mpsc::UnboundedReceiver<(Instant, bytes::Bytes)>,
) -> anyhow::Result<Duration> {
    let mut late = Duration::ZERO;
    while let Some((due, frame)) = frames.recv().await {
        sink.send(Message::Binary(frame)).await.context("sending a request")?;
        late = late.max(due.elapsed());
    }
    Ok(late)
}

/// Hears of so many requests.
async fn read(
    mut stream: SplitStream<wire::Socket>,
    own: usize,
    (started, due): (Instant, Arc<[Duration]>),
    asking: Asking,
    tell: mpsc::UnboundedSender<Heard>,
) -> anyhow::Result<()> {
    for _ in 0..own {
        let (header, body) = next(&mut stream).await?;
        let now = Instant::now();
        let number = number(&header)?;
        let due = started + *due.get(number).context("an answer to nothing")?;
        let said = match refusal(&header) {
            Some(refused) => Err(refused),
            None => Ok(answer(&header, &body, asking.set(number))?),
        };
        let took_us = now.saturating_duration_since(due).as_secs_f64() * 1e6;
        if tell.send(Heard { number, took_us, said }).is_err() {
            break;
        }
    }
    Ok(())
}

/// What was heard so far.
#[derive(Default)]
struct Tally {
    samples: Vec<(usize, f64)>,
    served: Served,
    in_time: usize,
    error: Option<f64>,
    last: Option<Answer>,
    /// What ends a cell, as soon as there is one.
    broken: Option<State>,
}

impl Tally {
    fn hear(&mut self, heard: Heard, known: &Known, tolerance: f64, within: Option<Duration>) {
        let ended = |outcome, reason| Some(State { outcome, reason: Some(reason) });
        match heard.said {
            Ok(answer) => {
                self.samples.push((heard.number, heard.took_us));
                self.in_time +=
                    usize::from(within.is_some_and(|within| heard.took_us <= within.as_secs_f64() * 1e6));
                match off(known, std::slice::from_ref(&answer), tolerance) {
                    Ok(error) => self.error = Some(self.error.unwrap_or(0.0).max(error)),
                    Err(detail) => self.broken = self.broken.take().or(ended(Outcome::Wrong, detail)),
                }
                self.last = Some(answer);
            }
            Err(Refused { code, .. }) if OVERLOAD.contains(&code.as_str()) => {
                *self.served.refused.entry(code).or_default() += 1;
            }
            Err(Refused { code, message }) => {
                self.broken = self.broken.take().or(ended(Outcome::Failed, format!("{code}: {message}")));
            }
        }
    }

    fn told(mut self, arrived: usize, took: Duration, late: Duration, within: Option<Duration>) -> Measured {
        self.samples.sort_by_key(|(number, _)| *number);
        let samples_us: Vec<_> = self.samples.into_iter().map(|(_, took)| took).collect();
        let served = Served {
            arrived,
            achieved: samples_us.len() as f64 / took.as_secs_f64(),
            within_us: within.map(|within| within.as_micros() as u64),
            within: within.map(|_| self.in_time as f64 / arrived.max(1) as f64),
            late_us: late.as_secs_f64() * 1e6,
            refused: self.served.refused,
        };
        let none = State { outcome: Outcome::Failed, reason: Some("every request was refused".to_owned()) };
        let state = match self.broken {
            Some(broken) => broken,
            None if samples_us.is_empty() && arrived > 0 => none,
            None => State { outcome: Outcome::Ok, reason: None },
        };
        Measured { samples_us, served, error: self.error, last: self.last, state }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_many_requests_are_offered_as_a_cell_wants() {
        let limits = |min, max| Limits {
            samples_min: min,
            samples_max: max,
            time: Duration::from_secs(10),
            ..Limits::default()
        };
        let hour = Duration::from_secs(3600);
        let cases = [
            ("as many as come in its time", 100.0, limits(30, 100_000), hour, 900..1100),
            ("more time for a slow rate", 1.0, limits(30, 100), hour, 30..31),
            ("no more than are wanted", 100.0, limits(30, 50), hour, 50..51),
            ("no more than there is time for", 1.0, limits(30, 100), Duration::from_secs(5), 1..20),
            ("nothing in no time", 1.0, limits(30, 100), Duration::ZERO, 0..1),
        ];
        for (case, rate, limits, left, wanted) in cases {
            let offer = Offer::new(rate, &limits, left, 1);
            assert!(wanted.contains(&offer.due.len()), "{case}: {}", offer.due.len());
            assert!(offer.due.iter().all(|due| *due <= offer.time), "{case}");
        }
    }

    #[test]
    fn overload_is_counted_and_other_errors_break_the_cell() {
        let answer = |value: f32| {
            let tensor = crate::domain::Tensor {
                name: "y".to_owned(),
                datatype: crate::domain::Datatype::Fp32,
                shape: vec![1],
                body: bytes::Bytes::copy_from_slice(&value.to_le_bytes()).into(),
            };
            Answer { outputs: vec![tensor], parameters: serde_json::Value::Null, set: 0 }
        };
        let known = Known(vec![answer(1.0).outputs]);
        let refused = |code: &str| Err(Refused { code: code.to_owned(), message: "no".to_owned() });
        let cases = [
            ("answers", vec![Ok(answer(1.0)), Ok(answer(1.0))], Outcome::Ok, 2, 0.5),
            ("some are refused", vec![Ok(answer(1.0)), refused("overloaded")], Outcome::Ok, 1, 0.5),
            (
                "all are refused",
                vec![refused("deadline_exceeded"), refused("overloaded")],
                Outcome::Failed,
                0,
                0.0,
            ),
            ("a lane is lost", vec![Ok(answer(1.0)), refused("lane_lost")], Outcome::Failed, 1, 0.5),
            ("an answer is wrong", vec![Ok(answer(2.0)), refused("overloaded")], Outcome::Wrong, 1, 0.5),
        ];
        let within = Some(Duration::from_millis(1));
        for (case, said, outcome, answered, share) in cases {
            let mut tally = Tally::default();
            // The last that was sent is heard of first, and only the first is in time.
            for (number, said) in said.into_iter().enumerate().rev() {
                tally.hear(
                    Heard { number, took_us: 900.0 + 200.0 * number as f64, said },
                    &known,
                    1e-3,
                    within,
                );
            }
            let told = tally.told(2, Duration::from_secs(2), Duration::ZERO, within);
            assert_eq!(told.state.outcome, outcome, "{case}: {:?}", told.state);
            assert_eq!(told.samples_us.len(), answered, "{case}");
            assert!(told.samples_us.is_sorted(), "{case}");
            assert!((told.served.achieved - answered as f64 / 2.0).abs() < 1e-9, "{case}");
            assert_eq!(told.served.within, Some(share), "{case}");
        }
    }
}
