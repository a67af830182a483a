//! Sequences under plans: their requests go through all stages one after the other, each stage in one lane, as the
//! actor sees to. What a sequence was asked is kept, so that one whose lane is lost can be begun anew and asked all of
//! it again.

use std::collections::BTreeMap;

use tokio::{sync::oneshot, time::Instant};

use super::Flows;
use crate::{
    domain::{Failure, Sequence, Tensor},
    scheduler::sequence::{self, SequenceKey, Sequences, Turn},
};

/// Requests of one sequence that are kept: half a minute of sound in frames, or a long conversation.
const REQUESTS_MAX: usize = 1024;

/// Bytes that all sequences together may keep.
const BYTES_MAX: usize = 64 << 20;

type Go = oneshot::Sender<Result<(), Failure>>;

#[derive(Default)]
pub(super) struct Sequenced {
    turns: Sequences<Go>,
    asked: BTreeMap<SequenceKey, Asked>,
    /// Of all that is kept.
    bytes: usize,
}

/// What a sequence was asked.
#[derive(Default)]
struct Asked {
    /// The inputs of those that were answered; absent where it was too much to keep.
    requests: Option<Vec<Vec<Tensor>>>,
    bytes: usize,
    /// Whether a request ended in some of the stages alone, so that what their lanes hold is not the same any more.
    torn: bool,
}

impl Sequenced {
    /// A request comes: it learns through the channel when it is its turn.
    fn enter(
        &mut self,
        key: &SequenceKey,
        sequence: &Sequence,
        now: Instant,
    ) -> oneshot::Receiver<Result<(), Failure>> {
        self.turns.sweep(now);
        let turns = &self.turns;
        for (_, gone) in self.asked.extract_if(.., |key, _| !turns.lives(key)) {
            self.bytes -= gone.bytes;
        }
        let (go, goes) = oneshot::channel();
        // Who has just come listens.
        match self.turns.enter(key, sequence, go, now) {
            Turn::Goes(go) => drop(go.send(Ok(()))),
            Turn::Refused(go, failure) => drop(go.send(Err(failure))),
            Turn::Waits => {}
        }
        goes
    }

    /// The request whose turn it was has ended.
    fn done(&mut self, key: &SequenceKey, end: bool, now: Instant) {
        let mut turns = self.turns.done(key, end, now);
        while let Some(turn) = turns.pop() {
            match turn {
                Turn::Goes(go) => {
                    if go.send(Ok(())).is_err() {
                        // One that has left meanwhile has its turn behind it.
                        turns = self.turns.done(key, false, now);
                    }
                }
                Turn::Waits => {}
                Turn::Refused(go, failure) => drop(go.send(Err(failure))),
            }
        }
    }

    /// What is to be asked again before a request, when the sequence cannot just go on.
    fn before(
        &mut self,
        key: &SequenceKey,
        sequence: &Sequence,
    ) -> Result<Option<Vec<Vec<Tensor>>>, Failure> {
        if sequence.start {
            self.forget(key);
            self.asked.insert(key.clone(), Asked { requests: Some(Vec::new()), ..Asked::default() });
        }
        match self.asked.get(key) {
            Some(Asked { torn: false, .. }) => Ok(None),
            _ => self.all(key).map(Some),
        }
    }

    /// All that it was asked since it began.
    fn all(&self, key: &SequenceKey) -> Result<Vec<Vec<Tensor>>, Failure> {
        let requests = self.asked.get(key).and_then(|asked| asked.requests.clone());
        requests.ok_or_else(|| sequence::lost(&key.id))
    }

    fn answered(&mut self, key: &SequenceKey, inputs: Vec<Tensor>) {
        let Some(asked) = self.asked.get_mut(key) else { return };
        asked.torn = false;
        let Some(requests) = &mut asked.requests else { return };
        let bytes: usize = inputs.iter().map(|input| input.body.len()).sum();
        if requests.len() < REQUESTS_MAX && self.bytes + bytes <= BYTES_MAX {
            requests.push(inputs);
            asked.bytes += bytes;
            self.bytes += bytes;
        } else {
            self.bytes -= std::mem::take(&mut asked.bytes);
            asked.requests = None;
        }
    }

    fn tear(&mut self, key: &SequenceKey) {
        if let Some(asked) = self.asked.get_mut(key) {
            asked.torn = true;
        }
    }

    fn forget(&mut self, key: &SequenceKey) {
        self.bytes -= self.asked.remove(key).map_or(0, |asked| asked.bytes);
    }
}

/// A request's turn in its sequence, which it gives up when this is dropped.
pub(super) struct InSequence {
    flows: Flows,
    key: SequenceKey,
    sequence: Sequence,
    /// Present until it is its turn.
    waits: Option<oneshot::Receiver<Result<(), Failure>>>,
}

impl InSequence {
    pub(super) fn enter(flows: &Flows, key: SequenceKey, sequence: Sequence) -> Self {
        let waits = flows.sequenced().enter(&key, &sequence, Instant::now());
        Self { flows: flows.clone(), key, sequence, waits: Some(waits) }
    }

    /// Resolves when it is its turn, or never will be.
    pub(super) async fn turn(&mut self) -> Result<(), Failure> {
        let Some(waits) = &mut self.waits else { return Ok(()) };
        let went = waits.await.unwrap_or_else(|_| Err(crate::scheduler::stopping()));
        // One that is refused has no turn to give up.
        if went.is_ok() {
            self.waits = None;
        }
        went
    }

    /// What is to be asked again before it, when the sequence cannot just go on.
    pub(super) fn before(&self) -> Result<Option<Vec<Vec<Tensor>>>, Failure> {
        self.flows.sequenced().before(&self.key, &self.sequence)
    }

    /// All that the sequence was asked since it began.
    pub(super) fn all(&self) -> Result<Vec<Vec<Tensor>>, Failure> {
        self.flows.sequenced().all(&self.key)
    }

    pub(super) fn answered(&self, inputs: Vec<Tensor>) {
        self.flows.sequenced().answered(&self.key, inputs);
    }

    /// It has ended without an answer, wherever it had come to.
    pub(super) fn tear(&self) {
        self.flows.sequenced().tear(&self.key);
    }

    /// A request's place in the sequence as its stages see it: the first of those that are asked again begins it.
    pub(super) fn place(&self, start: bool, last: bool) -> Sequence {
        Sequence { id: self.sequence.id.clone(), start, end: last && self.sequence.end }
    }

    pub(super) fn starts(&self) -> bool {
        self.sequence.start
    }
}

impl Drop for InSequence {
    fn drop(&mut self) {
        if let Some(waits) = &mut self.waits {
            // It may have become its turn in the moment in which it left.
            waits.close();
            if !matches!(waits.try_recv(), Ok(Ok(()))) {
                return;
            }
        }
        self.flows.sequenced().done(&self.key, self.sequence.end, Instant::now());
    }
}

#[cfg(test)]
mod tests;
