//! What the actor does about models that are loaded and unloaded by name.

use std::sync::Arc;

use tokio::time::Instant;

use super::Actor;
use crate::{
    backend::SessionName,
    domain::{DimBinding, LaneId, Model},
    models::Entry,
    scheduler::{
        Planned, Wants,
        choose::{self, Case},
        lane::Standing,
        residence::{Residence, Seat},
    },
};

impl Actor {
    /// Has shards loaded where they are wanted and not there yet, all at once.
    pub(super) fn warm(&mut self, shards: Vec<(Arc<Entry>, Wants, DimBinding)>) {
        for (entry, wants, binding) in shards {
            if self.residences.check_model(&entry.model).is_err() {
                continue;
            }
            let case = Case {
                model: entry.model.digest,
                binding: &binding,
                wants: &wants,
                tied: None,
                excluded: &[],
                failed: None,
                expected: self.expected(&entry.model),
                now: Instant::now(),
            };
            let choice = choose::choose(&case, &self.lanes, &self.outlook);
            self.prepare_all(&choice, &entry);
        }
    }

    /// Holds a plan's spares from now on, in lanes that are there and in those that come.
    pub(super) fn spare(&mut self, planned: &Planned) {
        self.spared.insert(planned);
        self.settle_spares();
    }

    fn settle_spares(&mut self) {
        let limits = *self.limits.borrow();
        let lacking = self.spared.lacking(&self.lanes, &self.outlook, &limits, Instant::now());
        for (id, session, entry) in lacking {
            if self.residences.check_model(&entry.model).is_ok() {
                self.prepare(&id, session, entry);
            }
        }
        self.spared.keep(&mut self.lanes);
    }

    /// Keeps a model from now on, in lanes that have it already and in those that come.
    pub(super) fn keep(&mut self, entry: &Arc<Entry>, wants: &Wants) {
        self.residences.load(entry.clone(), wants.clone());
        self.settle_residences();
    }

    /// Brings loaded models, and then plans' spares, to the lanes that lack them.
    pub(super) fn settle_residences(&mut self) {
        let now = Instant::now();
        let mut lacking: Vec<(LaneId, SessionName, Arc<Entry>)> = Vec::new();
        for (id, lane) in self.lanes.iter_mut().filter(|(_, lane)| lane.draining.is_none()) {
            if !self.outlook.open(&lane.environment().instance) {
                continue;
            }
            for (session, entry) in self.residences.lacking(lane) {
                match lane.standing(&session, false, now) {
                    Standing::Absent => lacking.push((id.clone(), session, entry)),
                    _ => lane.keep(&session),
                }
            }
        }
        for (id, session, entry) in lacking {
            self.prepare(&id, session, entry);
        }
        self.settle_spares();
    }

    /// Drops a model's sessions and refuses what asks for it. Steps under way in a lane come before the unloading.
    pub(super) fn unload_model(&mut self, entry: &Entry) {
        if self.residences.unload(entry) {
            self.forget(entry.model.digest);
        }
        let (name, version) = (&entry.model.name, entry.model.digest);
        let Err(unloaded) = self.residences.check(name, version) else { return };
        self.forget_sequences(name, version);
        let meant = |model: &Model| model.digest == version && model.name == *name;
        for pending in self.queue.remove_where(|pending| meant(&pending.request.entry.model)) {
            self.refuse(pending, &unloaded);
        }
    }

    pub(super) fn residence(&self, entry: &Entry) -> Residence {
        let model = entry.model.digest;
        let seats = self.lanes.iter().flat_map(|(id, lane)| {
            let sessions = lane.session_loads(move |name| name.model == model);
            sessions.map(|session| Seat { lane: id.clone(), session })
        });
        Residence { stay: self.residences.stay(&entry.model.name, model), lanes: seats.collect() }
    }
}
