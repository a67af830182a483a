//! Callers that always have so many requests under way, and what is answered while all of them do.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::Context;
use bytes::Bytes;
use tokio::task::JoinSet;

use crate::wire::{Answer, Wire};

/// One connection's requests: frames that it goes round, so many under way.
pub(crate) struct Caller {
    wire: Wire,
    /// Enough that none is sent again while it is under way: their numbers are the requests' ids.
    frames: Vec<Bytes>,
    depth: usize,
}

/// Times as many frames as requests under way: lanes of different speed do not answer in the order of asking.
const FRAMES_PER_REQUEST: usize = 64;

impl Caller {
    pub(crate) fn new(wire: Wire, depth: usize, frame: impl Fn(usize) -> Bytes) -> Self {
        Self { wire, frames: (0..depth * FRAMES_PER_REQUEST).map(frame).collect(), depth }
    }

    /// Asks until told to stop, then waits for what is under way; answers with when each answer came.
    async fn ask(&mut self, stop: &AtomicBool) -> anyhow::Result<Vec<(Instant, Bytes)>> {
        let mut answers = Vec::new();
        for frame in self.frames.iter().cycle().take(self.depth) {
            self.wire.send(frame.clone()).await?;
        }
        let mut under_way = self.depth;
        let mut next = self.depth;
        while under_way > 0 {
            let answer = self.wire.receive().await?;
            answers.push((Instant::now(), answer));
            under_way -= 1;
            if !stop.load(Ordering::Relaxed) {
                self.wire.send(self.frames[next % self.frames.len()].clone()).await?;
                next += 1;
                under_way += 1;
            }
        }
        Ok(answers)
    }
}

/// What came while everybody asked.
pub(crate) struct Round {
    pub(crate) callers: Vec<Caller>,
    /// Per caller.
    pub(crate) answers: Vec<Vec<Bytes>>,
    pub(crate) took: Duration,
}

impl Round {
    pub(crate) fn count(&self) -> usize {
        self.answers.iter().map(Vec::len).sum()
    }

    pub(crate) fn per_second(&self) -> f64 {
        self.count() as f64 / self.took.as_secs_f64()
    }

    pub(crate) fn read(&self, caller: usize) -> anyhow::Result<Vec<Answer>> {
        self.answers[caller].iter().map(Answer::read).collect()
    }
}

/// Has them all ask for `time`, after `lead` in which the lanes fill up. The beginning and the end, when not all are
/// under way, are left out: counted from an answer to an answer.
pub(crate) async fn round(callers: Vec<Caller>, lead: Duration, time: Duration) -> anyhow::Result<Round> {
    let stop = Arc::new(AtomicBool::new(false));
    let from = Instant::now() + lead;
    let mut asking = JoinSet::new();
    for (at, mut caller) in callers.into_iter().enumerate() {
        let stop = stop.clone();
        asking.spawn(async move {
            let answers = caller.ask(&stop).await?;
            anyhow::Ok((at, caller, answers))
        });
    }
    tokio::time::sleep(lead + time).await;
    stop.store(true, Ordering::Relaxed);
    let mut ended = Vec::new();
    for joined in asking.join_all().await {
        ended.push(joined?);
    }
    ended.sort_by_key(|(at, ..)| *at);
    let within = |at: &Instant| (from..from + time).contains(at);
    let times = || ended.iter().flat_map(|(_, _, answers)| answers.iter().map(|(at, _)| *at)).filter(within);
    let first = times().min().context("nothing was answered in time")?;
    let last = times().max().context("nothing was answered in time")?;
    let (mut callers, mut kept) = (Vec::new(), Vec::new());
    for (_, caller, answers) in ended {
        callers.push(caller);
        // The first one begins the time and so is not in it.
        let counted = answers.into_iter().filter(|(at, _)| *at > first && *at <= last);
        kept.push(counted.map(|(_, answer)| answer).collect());
    }
    Ok(Round { callers, answers: kept, took: last - first })
}
