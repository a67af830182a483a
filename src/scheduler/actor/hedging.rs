//! How the actor gives slow requests a second lane.

use tokio::time::Instant;

use super::Actor;
use crate::scheduler::{
    choose::{self, Case},
    hedge::{self, Started},
    pending::{Charge, Pending},
    race::{Ask, Grant, Hedge},
};

impl Actor {
    /// When a request that a lane has just got asks for a second one, should that ever be.
    /// `steps` are those in the lane, this one included.
    pub(super) fn hedge(&mut self, requests: &[Box<Pending>], steps: usize) -> Option<Hedge> {
        let percent = self.limits.borrow().hedge_percent?;
        self.hedges.earn(requests.iter().filter(|pending| pending.attempts == 0).count(), percent);
        let first = requests.first()?;
        let paces = self.models.get(&first.request.entry.model.digest);
        let started = Started {
            requests: requests.len(),
            attempt: first.attempts + 1,
            sequence: first.sequence.is_some(),
            wants: &first.request.wants,
            steps,
            p95: paces.and_then(|paces| paces.recent.p95()),
        };
        hedge::after(&started).map(|after| Hedge { after, alone: steps == 1 })
    }

    /// Gives a second lane to a request, if one does nothing, nobody waits, and there is budget left.
    pub(super) fn grant(&mut self, ask: Ask) {
        let Ask { entry, binding, wants, caller, instance, reply } = ask;
        if self.limits.borrow().hedge_percent.is_none() || !self.queue.is_empty() {
            return;
        }
        let model = &entry.model;
        let case = Case {
            model: model.digest,
            binding: &binding,
            wants: &wants,
            tied: None,
            excluded: &[],
            failed: None,
            expected: self.expected(model),
            now: Instant::now(),
        };
        let spare = choose::spare(&case, &self.lanes, &self.outlook, &instance);
        let Some((lane, session)) = spare.filter(|_| self.hedges.spend()) else { return };
        let micros = self.service(model, &lane);
        self.queue.shares().charge(&caller, micros);
        let (mut slot, mut provenance) = self.take(&lane, session, 1);
        provenance.converted.clone_from(&entry.converted);
        slot.charges = vec![Charge { caller, micros }];
        // Who asks waits for the answer, also when it comes too late.
        let _ = reply.send(Grant { slot, provenance });
    }
}
