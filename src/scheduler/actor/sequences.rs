//! What the actor does about sequences.

use std::sync::Arc;

use tokio::time::Instant;

use super::Actor;
use crate::{
    backend::Backend,
    domain::{Digest, Failure, ModelName},
    scheduler::{
        pending::Pending,
        sequence::{SequenceKey, Turn},
    },
};

impl Actor {
    /// Brings a request back when it has no sequence, or it is its turn there.
    pub(super) fn take_turn(&mut self, pending: Box<Pending>, now: Instant) -> Option<Box<Pending>> {
        let (Some(key), Some(sequence)) = (pending.sequence.clone(), pending.request.sequence.clone()) else {
            return Some(pending);
        };
        match self.sequences.enter(&key, &sequence, pending, now) {
            Turn::Goes(pending) => Some(pending),
            Turn::Waits => None,
            Turn::Refused(pending, failure) => {
                self.turn_away(pending, &failure);
                None
            }
        }
    }

    /// Refuses a request that its sequence does not wait for.
    pub(super) fn turn_away(&mut self, mut pending: Box<Pending>, failure: &Failure) {
        pending.sequence = None;
        self.refuse(pending, failure);
    }

    /// A sequence's step has ended in a lane, answered by it or not.
    pub(super) fn sequence_step_ended(
        &mut self,
        key: &SequenceKey,
        end: bool,
        answered: Option<&Arc<dyn Backend>>,
    ) {
        if let Some(backend) = answered {
            let there = self.lane_of(backend).is_some();
            self.sequences.answered(key, &backend.environment().lane, there);
        }
        self.go_on(key, end);
    }

    /// The request that a sequence waited for has ended: the next one's turn.
    pub(super) fn go_on(&mut self, key: &SequenceKey, end: bool) {
        let now = Instant::now();
        for turn in self.sequences.done(key, end, now) {
            match turn {
                Turn::Goes(pending) => {
                    self.enqueue(pending, now);
                    self.changed = true;
                }
                Turn::Refused(pending, failure) => self.turn_away(pending, &failure),
                Turn::Waits => unreachable!("nothing is under way"),
            }
        }
    }

    /// Answers those behind another whose time is over, and forgets idle sequences.
    pub(super) fn expire_sequences(&mut self, now: Instant) {
        if self.sequences.is_empty() {
            return;
        }
        for pending in self.sequences.remove_where(|pending| pending.over(now).is_some()) {
            let failure = pending.over(now).expect("it was taken out because it is over");
            self.turn_away(pending, &failure);
        }
        self.sequences.sweep(now);
    }

    /// A version's sequences end with it.
    pub(super) fn forget_sequences(&mut self, model: &ModelName, version: Digest) {
        for pending in self.sequences.forget(model, version) {
            let failure = self.residences.check(model, version).err();
            let failure =
                failure.unwrap_or_else(|| Failure::invalid(format!("{model} was removed or given anew")));
            self.turn_away(pending, &failure);
        }
    }
}
