//! Sequences: each goes to the lane that answered its first request, one request after the other. Pure: it is told
//! the time.
//!
//! What a lane may hold for a sequence goes with the lane, so that a sequence whose lane is lost is not continued
//! elsewhere: its caller is told to begin anew.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
    time::Duration,
};

use tokio::time::Instant;

use crate::domain::{Code, Digest, Failure, LaneId, ModelName, PlanId, Retry, Sequence, SequenceId};

/// Sequences that live at once; each may be forgotten by its caller, and then holds its place until it is idle.
const LIVE_MAX: usize = 1024;

/// Longer than a person pauses in front of a microphone; a sequence that was forgotten goes after it.
const IDLE: Duration = Duration::from_secs(60);

/// Whose sequence: another caller's of the same name is another one.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct SequenceKey {
    pub(super) caller: Arc<str>,
    pub(super) model: ModelName,
    /// Another version of a model knows nothing of it.
    pub(super) version: Digest,
    /// The plan that it runs under; each of its stages knows it by its own model.
    pub(super) plan: Option<PlanId>,
    pub(super) id: SequenceId,
}

pub(super) struct Sequences<T> {
    live: BTreeMap<SequenceKey, Live<T>>,
}

struct Live<T> {
    /// The lane that answered first.
    tied: Option<LaneId>,
    /// Whether that lane is gone.
    lost: bool,
    ended: bool,
    /// Whether a request of it is queued or in a lane.
    under_way: bool,
    /// Those behind it.
    waiting: VecDeque<(Sequence, T)>,
    since: Instant,
}

/// What becomes of a sequence's request.
#[derive(Debug, PartialEq)]
pub(super) enum Turn<T> {
    /// It is its turn.
    Goes(T),
    /// It waits for an earlier one.
    Waits,
    Refused(T, Failure),
}

impl<T> Default for Sequences<T> {
    fn default() -> Self {
        Self { live: BTreeMap::new() }
    }
}

impl<T> Live<T> {
    fn new(now: Instant) -> Self {
        let (tied, waiting) = (None, VecDeque::new());
        Self { tied, lost: false, ended: false, under_way: false, waiting, since: now }
    }

    /// Why a request cannot go on with it.
    fn refusal(&self, sequence: &Sequence) -> Option<Failure> {
        if sequence.start {
            None
        } else if self.lost {
            Some(lost(&sequence.id))
        } else {
            self.ended.then(|| unknown(sequence))
        }
    }

    fn begin(&mut self, sequence: &Sequence) {
        if sequence.start {
            (self.tied, self.lost, self.ended) = (None, false, false);
        }
        self.under_way = true;
    }
}

pub(super) fn lost(id: &SequenceId) -> Failure {
    let message = format!("sequence {id} was in a lane that is lost; begin it anew with sequence_start");
    Failure::new(Code::LaneLost, Retry::Never, message)
}

fn unknown(sequence: &Sequence) -> Failure {
    Failure::invalid(format!(
        "no sequence {} lives: it was never begun with sequence_start, has ended, or was idle for {} s",
        sequence.id,
        IDLE.as_secs()
    ))
}

impl<T> Sequences<T> {
    /// Takes a request in.
    pub(super) fn enter(
        &mut self,
        key: &SequenceKey,
        sequence: &Sequence,
        request: T,
        now: Instant,
    ) -> Turn<T> {
        if !self.live.contains_key(key) {
            if !sequence.start {
                return Turn::Refused(request, unknown(sequence));
            }
            if self.live.len() >= LIVE_MAX {
                let message = format!("{LIVE_MAX} sequences live, which is the limit");
                return Turn::Refused(request, Failure::new(Code::Overloaded, Retry::Same, message));
            }
        }
        let live = self.live.entry(key.clone()).or_insert_with(|| Live::new(now));
        if live.under_way {
            live.waiting.push_back((sequence.clone(), request));
            return Turn::Waits;
        }
        match live.refusal(sequence) {
            Some(failure) => Turn::Refused(request, failure),
            None => {
                live.begin(sequence);
                Turn::Goes(request)
            }
        }
    }

    /// The lane that its requests must go to, once there is one.
    pub(super) fn tied(&self, key: &SequenceKey) -> Option<&LaneId> {
        self.live.get(key)?.tied.as_ref()
    }

    /// This lane has answered; `there` tells whether it still is.
    pub(super) fn answered(&mut self, key: &SequenceKey, lane: &LaneId, there: bool) {
        if let Some(live) = self.live.get_mut(key) {
            live.tied.get_or_insert_with(|| lane.clone());
            live.lost |= !there;
        }
    }

    /// The request under way has ended; brings what follows it: refused ones, and at last one that goes.
    pub(super) fn done(&mut self, key: &SequenceKey, end: bool, now: Instant) -> Vec<Turn<T>> {
        let Some(live) = self.live.get_mut(key) else { return Vec::new() };
        live.under_way = false;
        live.since = now;
        live.ended |= end;
        let mut turns = Vec::new();
        while let Some((sequence, request)) = live.waiting.pop_front() {
            match live.refusal(&sequence) {
                Some(failure) => turns.push(Turn::Refused(request, failure)),
                None => {
                    live.begin(&sequence);
                    turns.push(Turn::Goes(request));
                    return turns;
                }
            }
        }
        if live.ended {
            self.live.remove(key);
        }
        turns
    }

    /// A lane is gone, and with it what it held.
    pub(super) fn lose(&mut self, lane: &LaneId) {
        for live in self.live.values_mut().filter(|live| live.tied.as_ref() == Some(lane)) {
            live.lost = true;
        }
    }

    /// Why the request under way cannot go on, if its lane is gone.
    pub(super) fn lost(&self, key: &SequenceKey) -> Option<Failure> {
        self.live.get(key).filter(|live| live.lost).map(|_| lost(&key.id))
    }

    /// Forgets a model's sequences; brings those that waited in them.
    pub(super) fn forget(&mut self, model: &ModelName, version: Digest) -> Vec<T> {
        let gone = self.live.extract_if(.., |key, _| key.model == *model && key.version == version);
        gone.flat_map(|(_, live)| live.waiting).map(|(_, request)| request).collect()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.live.is_empty()
    }

    pub(super) fn lives(&self, key: &SequenceKey) -> bool {
        self.live.contains_key(key)
    }

    /// Takes out those that wait behind another and are of no use any more.
    pub(super) fn remove_where(&mut self, over: impl Fn(&T) -> bool) -> Vec<T> {
        let mut removed = Vec::new();
        for live in self.live.values_mut() {
            let (out, kept) = live.waiting.drain(..).partition(|(_, request)| over(request));
            live.waiting = kept;
            removed.extend(VecDeque::into_iter(out).map(|(_, request)| request));
        }
        removed
    }

    /// Forgets sequences that nobody has gone on with.
    pub(super) fn sweep(&mut self, now: Instant) {
        self.live.retain(|_, live| live.under_way || live.since + IDLE > now);
    }

    /// When something here is due: the end of a waiting request's time, or of an idle sequence.
    pub(super) fn next_due(&self, deadline: impl Fn(&T) -> Instant) -> Option<Instant> {
        let due = |live: &Live<T>| {
            let idle = (!live.under_way).then(|| live.since + IDLE);
            live.waiting.iter().map(|(_, request)| deadline(request)).chain(idle).min()
        };
        self.live.values().filter_map(due).min()
    }
}

#[cfg(test)]
mod tests;
