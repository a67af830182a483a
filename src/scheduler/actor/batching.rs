//! How the actor joins queued requests into one step.

use std::{sync::Arc, time::Duration};

use tokio::time::Instant;

use super::Actor;
use crate::{
    backend::SessionName,
    domain::{LaneId, Model, rows},
    scheduler::{
        batch::{self, Fill, Waiting},
        lane::Standing,
        latency::{Expected, Means},
        pending::{Lot, Pending},
        queue::Number,
    },
};

impl Actor {
    /// Until when a queued request that a lane is free for waits for others.
    pub(super) fn held_until(&self, number: Number, lane: &LaneId, now: Instant) -> Option<Instant> {
        let pending = self.queue.get(number)?;
        let batching = &pending.request.entry.model.batching;
        if batching.delay.is_zero() || !joins(pending) {
            return None;
        }
        let lot = self.queue.lot_of(number)?;
        let waiting = self.queue.lot_len(number) as u64;
        if waiting.saturating_mul(rows(&pending.request.inputs).max(1)) >= u64::from(batching.max) {
            return None;
        }
        let waits = self.queue.places(&lot).map(Waiting::of).reduce(Waiting::and)?;
        let expected =
            Duration::from_micros((self.service(&pending.request.entry.model, lane) * waiting as f64) as u64);
        batch::held_until(batching, waits, expected, now)
    }

    /// Takes out of the queue what shares a step with this request, which has left it; answers with the session that
    /// the step needs.
    #[allow(clippy::vec_box, reason = "they come out of the queue boxed, and go on so")]
    pub(super) fn gather(
        &mut self,
        first: Box<Pending>,
        lot: &Arc<Lot>,
        lane: &LaneId,
        session: SessionName,
        now: Instant,
    ) -> (Vec<Box<Pending>>, SessionName) {
        let mut step = vec![first];
        self.charge(&mut step[0], lane);
        if !joins(&step[0]) {
            return (step, session);
        }
        let batching = step[0].request.entry.model.batching.clone();
        let more = |count: u64| {
            self.sized(&step[0], rows(&step[0].request.inputs).saturating_mul(count), lane, &session, now)
        };
        if !session.shapes.is_empty() && !(2..=u64::from(batching.max)).any(|count| more(count).is_some()) {
            return (step, session);
        }
        let mut fill = Fill::first(&step[0].request);
        let mut sums = vec![fill.rows];
        while let Some(number) = self.queue.first_of(lot) {
            let next = self
                .queue
                .get(number)
                .filter(|next| batch::alike(&step[0].request, &next.request) && next.over(now).is_none());
            let Some(fuller) = next.and_then(|next| fill.with(&next.request, &batching)) else { break };
            let Some(mut next) = self.queue.remove(number) else { break };
            fill = fuller;
            sums.push(fill.rows);
            // Whose turn is next depends on what this one's caller is charged.
            self.charge(&mut next, lane);
            step.push(next);
        }
        let (size, session) = self.fit(&step[0], &sums, lane, session, now);
        for surplus in step.split_off(size) {
            self.queue.shares().charge(&surplus.request.caller, -surplus.charged);
            self.enqueue(surplus, now);
        }
        (step, session)
    }

    /// How many of these a lane takes at once, and in which session.
    fn fit(
        &self,
        first: &Pending,
        sums: &[u64],
        lane: &LaneId,
        session: SessionName,
        now: Instant,
    ) -> (usize, SessionName) {
        if session.shapes.is_empty() {
            return (sums.len(), session);
        }
        let has = |rows: u64| self.sized(first, rows, lane, &session, now).is_some();
        let size = batch::sized(sums, has);
        let sized = self.sized(first, sums[size - 1], lane, &session, now);
        (size, sized.unwrap_or(session))
    }

    /// The session of so many rows in a lane whose sessions have fixed dimensions, if it is there: one per size.
    fn sized(
        &self,
        first: &Pending,
        rows: u64,
        lane: &LaneId,
        session: &SessionName,
        now: Instant,
    ) -> Option<SessionName> {
        let symbol = first.request.entry.model.signature.batch_symbol()?;
        let mut sized = session.clone();
        sized.shapes.insert(symbol.to_owned(), rows);
        let standing = self.lanes.get(lane)?.standing(&sized, first.request.wants.strict, now);
        matches!(standing, Standing::Ready).then_some(sized)
    }

    /// Charges a request's caller what it is expected to take in this lane.
    pub(super) fn charge(&mut self, pending: &mut Pending, lane: &LaneId) {
        pending.charged = self.service(&pending.request.entry.model, lane);
        self.queue.shares().charge(&pending.request.caller, pending.charged);
    }

    /// Microseconds that a request of this model is expected to take in this lane.
    pub(super) fn service(&self, model: &Model, lane: &LaneId) -> f64 {
        let expected = self.expected(model);
        self.lanes.get(lane).map_or(0.0, |lane| lane.service(model.digest, expected))
    }

    /// What is known of its steps in lanes that have run none.
    pub(super) fn expected(&self, model: &Model) -> Expected<'_> {
        let means = self.models.get(&model.digest).map_or(Means::UNKNOWN, |paces| &paces.means);
        Expected { kind: model.kind, means, priors: &self.priors }
    }
}

/// Whether a request shares steps with others.
fn joins(pending: &Pending) -> bool {
    // Those of a sequence come one after the other.
    !pending.alone
        && pending.request.sequence.is_none()
        && batch::joins(&pending.request.entry.model.batching)
}
