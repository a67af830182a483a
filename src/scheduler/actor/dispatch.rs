//! How requests come into the queue and out of it: given to a lane, refused, or run out of time.

use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use tokio::time::Instant;

use super::{Actor, FAR, SessionState};
use crate::{
    backend::SessionName,
    domain::{Code, Failure, Fallback, LaneId, Provenance},
    models::Entry,
    scheduler::{
        self,
        choose::{self, Choice, Decision, Serving},
        pending::{Attempt, Charge, Pending},
        queue::Number,
        race::{self, Slot},
        step::{self, Member},
    },
};

impl Actor {
    /// Takes a new request in, and starts it if it can be.
    pub(super) fn arrive(&mut self, pending: Box<Pending>) {
        let now = Instant::now();
        let over =
            pending.over(now).or_else(|| self.residences.check_model(&pending.request.entry.model).err());
        if let Some(failure) = over {
            // Its sequence has not taken it in.
            return self.turn_away(pending, &failure);
        }
        let Some(mut pending) = self.take_turn(pending, now) else { return };
        pending.request.trace.queued();
        if !self.queue.is_empty() || !pending.request.entry.model.batching.delay.is_zero() {
            let number = self.enqueue(pending, now);
            // Whatever is first in its lot waits for the same lanes as it does.
            while let Some(first) = self.queue.first_beside(number) {
                if let Offered::Waits(full) = self.offer(first, now) {
                    return full.into_iter().for_each(|serving| self.refuse_hopeless(number, serving, now));
                }
            }
            return;
        }
        // With nobody before it, it need not queue to know its turn.
        let choice = self.choose(&pending, now);
        self.prepare_all(&choice, &pending.request.entry);
        match choice.decision {
            Decision::Run { lane, session, fallback } => {
                self.queue.shares().enter(&pending.request.caller);
                self.queue.shares().leave(&pending.request.caller);
                self.charge(&mut pending, &lane);
                self.start(vec![pending], &lane, session, fallback);
            }
            Decision::Fail(failure) => self.refuse(pending, &failure),
            Decision::Wait => {
                let number = self.enqueue(pending, now);
                if let Some(serving) = choice.full {
                    self.refuse_hopeless(number, serving, now);
                }
            }
        }
    }

    /// Puts a request where its priority, its caller and its arrival say, also one that comes back.
    pub(super) fn enqueue(&mut self, pending: Box<Pending>, now: Instant) -> Number {
        let (lot, place) = (pending.lot(), pending.place());
        self.queue.insert(lot, place, pending, now)
    }

    /// A lane that has come back may be tried again by those who failed on it before.
    pub(super) fn readmit(&mut self, id: &LaneId) {
        // What ran out of memory here would do so again.
        let curable =
            |pending: &Pending| pending.failed.as_ref().is_none_or(|it| it.code != Code::OutOfMemory);
        let cured = self.queue.remove_where(|pending| pending.excluded.contains(id) && curable(pending));
        for mut pending in cured {
            pending.excluded.retain(|excluded| excluded != id);
            self.enqueue(pending, Instant::now());
        }
    }

    pub(super) fn next_deadline(&self) -> Instant {
        let behind = self.sequences.next_due(|pending| pending.request.deadline);
        let due = [self.queue.next_deadline(), behind, self.release].into_iter().flatten().min();
        due.unwrap_or_else(|| Instant::now() + FAR)
    }

    /// Answers what was cancelled or has run out of time.
    pub(super) fn expire(&mut self) {
        let now = Instant::now();
        let mut ended = Vec::new();
        while let Some(pending) = self.queue.expired(now) {
            ended.push(pending);
        }
        if self.sweep.swap(false, Ordering::AcqRel) {
            ended.extend(self.queue.remove_where(|pending| pending.cancelled.is_cancelled()));
        }
        for pending in ended {
            let failure = pending.over(now).expect("it was taken out because it is over");
            self.refuse(pending, &failure);
        }
        self.expire_sequences(now);
    }

    pub(super) fn refuse(&mut self, mut pending: Box<Pending>, failure: &Failure) {
        if pending.failed.as_ref() == Some(failure) {
            // The row of its last attempt says the same.
            self.ledger.metrics.refused(Some(&pending.request.entry.model.name), failure.code);
            pending.answer(Err(failure.clone()));
        } else {
            step::fail(&mut pending, None, Instant::now(), failure, &self.ledger);
        }
        self.left(pending);
    }

    /// Its sequence, if it has one, goes on without it.
    fn left(&mut self, mut pending: Box<Pending>) {
        if let (Some(key), Some(sequence)) = (pending.sequence.take(), &pending.request.sequence) {
            self.go_on(&key, sequence.end);
        }
    }

    /// Refuses a request that will not be done in time, by all that is known: better now than at its deadline.
    fn refuse_hopeless(&mut self, number: Number, serving: Serving, now: Instant) {
        let Some(pending) = self.queue.get(number) else { return };
        let paces = self.models.get(&pending.request.entry.model.digest);
        let Some(p95) = paces.and_then(|paces| paces.recent.p95()) else { return };
        let left = (pending.request.deadline - now).as_micros() as f64;
        let needs = |ahead: usize| (serving.running + ahead) as f64 / serving.rate + p95;
        // The exact place is looked up only where the last one would be too late.
        if needs(self.queue.lot_len(number)) <= left {
            return;
        }
        let needed = needs(self.queue.ahead(number));
        if needed <= left {
            return;
        }
        let Some(mut pending) = self.queue.remove(number) else { return };
        let mut failure = scheduler::overloaded(&format!(
            "its answer is expected in {:.0} ms, and its time runs out in {:.0}",
            needed / 1e3,
            left / 1e3
        ));
        failure.retry_after_s = Some(Duration::from_micros((needed - left) as u64).as_secs() + 1);
        // Like a request that was not admitted, it has no row: it never ran.
        self.ledger.metrics.refused(Some(&pending.request.entry.model.name), failure.code);
        pending.answer(Err(failure));
        self.left(pending);
    }

    /// Gives queued requests to lanes, in order, as far as lanes are free.
    pub(super) fn dispatch(&mut self) {
        // A refusal may let the next of its sequence go.
        while std::mem::take(&mut self.changed) {
            self.release = None;
            if self.queue.is_empty() {
                return;
            }
            let now = Instant::now();
            let mut pass = self.queue.pass(now);
            while let Some((lot, number)) = pass.next(&self.queue) {
                if matches!(self.offer(number, now), Offered::Gone) {
                    pass.again(lot, &self.queue);
                }
            }
        }
    }

    /// Offers a queued request to the lanes; it leaves the queue if one takes it or none ever can.
    fn offer(&mut self, number: Number, now: Instant) -> Offered {
        let Some(pending) = self.queue.get(number) else { return Offered::Gone };
        let choice = self.choose(pending, now);
        if !choice.prepare.is_empty() {
            let entry = pending.request.entry.clone();
            self.prepare_all(&choice, &entry);
        }
        if choice.decision == Decision::Wait {
            return Offered::Waits(choice.full);
        }
        if let Decision::Run { lane, .. } = &choice.decision
            && let Some(until) = self.held_until(number, lane, now)
        {
            self.release = Some(self.release.map_or(until, |release| release.min(until)));
            return Offered::Waits(None);
        }
        let Some(lot) = self.queue.lot_of(number) else { return Offered::Gone };
        let Some(pending) = self.queue.remove(number) else { return Offered::Gone };
        match choice.decision {
            Decision::Run { lane, session, fallback } => {
                let (step, session) = self.gather(pending, &lot, &lane, session, now);
                self.start(step, &lane, session, fallback);
            }
            Decision::Fail(failure) => self.refuse(pending, &failure),
            Decision::Wait => unreachable!("that was looked at above"),
        }
        Offered::Gone
    }

    fn choose(&self, pending: &Pending, now: Instant) -> Choice {
        let key = pending.sequence.as_ref();
        if let Some(lost) = key.and_then(|key| self.sequences.lost(key)) {
            return Choice { decision: Decision::Fail(lost), prepare: Vec::new(), full: None };
        }
        let tied = key.and_then(|key| self.sequences.tied(key));
        let expected = self.expected(&pending.request.entry.model);
        choose::choose(&pending.case(tied, expected, now), &self.lanes, &self.outlook)
    }

    pub(super) fn prepare_all(&mut self, choice: &Choice, entry: &Arc<Entry>) {
        for (lane, session) in &choice.prepare {
            self.prepare(lane, session.clone(), entry.clone());
        }
    }

    /// Gives requests that are no longer queued to a lane, as one step.
    #[allow(clippy::vec_box, reason = "they come out of the queue boxed, and go on so")]
    fn start(
        &mut self,
        step: Vec<Box<Pending>>,
        id: &LaneId,
        session: SessionName,
        fallback: Option<Fallback>,
    ) {
        let (mut slot, mut provenance) = self.take(id, session, step.len());
        provenance.fallback = fallback;
        provenance.converted = step.first().and_then(|first| first.request.entry.converted.clone());
        let charged = step.iter().map(|pending| (&pending.request.caller, pending.charged));
        slot.charges = charged.map(|(caller, micros)| Charge { caller: caller.clone(), micros }).collect();
        if let [only] = step.as_slice() {
            let end = only.request.sequence.as_ref().map(|sequence| sequence.end);
            slot.sequence = only.sequence.clone().zip(end);
        }
        let hedge = self.hedge(&step, self.lanes.get(id).map_or(0, |lane| lane.running));
        let member = |mut pending: Box<Pending>| {
            let attempt = Attempt::begin(&mut pending, provenance.clone());
            Member { pending, attempt }
        };
        let mut members: Vec<_> = step.into_iter().map(member).collect();
        let sent = step::send(&members, slot.session.clone(), &*slot.backend);
        let ledger = self.ledger.clone();
        if let Some(hedge) = hedge {
            let only = members.remove(0);
            return self.tasks.spawn("step", race::run(only, sent, slot, hedge, ledger));
        }
        self.tasks.spawn("step", async move {
            let finished = step::run(members, sent, &*slot.backend, ledger).await;
            slot.leave(finished).await;
        });
    }

    /// Takes a place for a step of so many requests in a lane, and tells where they run.
    pub(super) fn take(&mut self, id: &LaneId, session: SessionName, requests: usize) -> (Slot, Provenance) {
        let lane = self.lanes.get_mut(id).expect("choose names a lane that is there");
        let Some(SessionState::Ready { placement, verdict, used, .. }) = lane.sessions.get_mut(&session)
        else {
            unreachable!("choose runs a request only where its session is ready");
        };
        *used = Instant::now();
        let mut provenance =
            Provenance::new(lane.backend.environment(), placement.clone(), session.model, *verdict);
        provenance.batch = u32::try_from(requests).unwrap_or(u32::MAX);
        lane.running += 1;
        lane.requests += requests;
        self.starts += 1;
        lane.last_start = self.starts;
        let (inbox, backend) = (self.inbox.clone(), lane.backend.clone());
        (Slot { inbox, backend, session, charges: Vec::new(), sequence: None }, provenance)
    }
}

/// What became of a request that was offered to the lanes.
enum Offered {
    /// With what the lanes do that it waits for.
    Waits(Option<Serving>),
    /// It is queued no more.
    Gone,
}
