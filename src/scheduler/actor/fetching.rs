//! Files before loads: what a session is made of is here and whole before it takes a place among the loads, since it
//! may have to come from far away.

use std::sync::Arc;

use tokio::time::Instant;

use super::{Actor, LOADING_BYTES_MAX, LOADING_MAX, Message, PREPARING_MAX, REFUSED_FOR};
use crate::{
    backend::SessionName,
    domain::{Digest, Failure, LaneId},
    models::{Entry, Held},
    scheduler::lane::{Lane, SessionState, Standing},
};

impl Actor {
    /// Has a session prepared once its files are here. What wants it while there is no place among the loads waits, and
    /// asks again when a load is done, or the lane is back.
    pub(super) fn prepare(&mut self, id: &LaneId, session: SessionName, entry: Arc<Entry>) {
        if !self.may_load(id, &entry) {
            return;
        }
        let model = session.model;
        if let Some(lane) = self.lanes.get_mut(id) {
            lane.awaited.insert(session.clone());
        }
        let fetching = self.fetching.contains_key(&model);
        let waiting = self.fetching.entry(model).or_default();
        if waiting.iter().all(|(lane, other, _)| (lane, other) != (id, &session)) {
            waiting.push((id.clone(), session, entry.clone()));
        }
        if !fetching {
            let (inbox, loader) = (self.inbox.clone(), self.loader.clone());
            self.tasks.spawn("fetch", async move {
                let result = loader.hold(entry).await;
                let _ = inbox.send(Message::Fetched { model, result }).await;
            });
        }
    }

    fn may_load(&self, id: &LaneId, entry: &Entry) -> bool {
        let loading: usize = self.lanes.values().map(Lane::preparing).sum();
        let takes = |lane: &Lane| lane.draining.is_none() && lane.preparing() < PREPARING_MAX;
        let fits = together(self.loading_bytes, entry.model.whole_bytes());
        fits && loading < LOADING_MAX && self.lanes.get(id).is_some_and(takes)
    }

    /// Loads what waited for the files, as far as there are places.
    pub(super) fn fetched(&mut self, model: Digest, result: &Result<Held, Failure>) {
        let now = Instant::now();
        for (id, session, entry) in self.fetching.remove(&model).into_iter().flatten() {
            let may_load = self.may_load(&id, &entry);
            let Some(lane) = self.lanes.get_mut(&id) else { continue };
            lane.awaited.remove(&session);
            if !matches!(lane.standing(&session, false, now), Standing::Absent) {
                continue;
            }
            match result {
                Ok(held) if may_load => {
                    lane.sessions.insert(session.clone(), SessionState::Preparing);
                    let backend = lane.backend.clone();
                    self.load(&backend, session, entry, held.clone(), false);
                }
                Ok(_) => {}
                Err(failure) => {
                    tracing::warn!(lane = %id, %failure, "a model's files cannot be had");
                    let (failure, until) = (failure.clone(), Some(now + REFUSED_FOR));
                    lane.sessions.insert(session, SessionState::Refused { failure, until });
                }
            }
        }
    }
}

/// Whether a load of so many bytes may join those under way; one that is too large for any company goes alone.
fn together(under_way: u64, bytes: u64) -> bool {
    under_way == 0 || under_way.saturating_add(bytes) <= LOADING_BYTES_MAX
}

#[test]
fn large_models_load_one_after_the_other() {
    const GIB: u64 = 1 << 30;
    let cases = [
        (0, 0, true),
        (0, 3 * GIB, true),
        (3 * GIB, 1, false),
        (1, 3 * GIB, false),
        (GIB / 2, GIB / 2, true),
        (GIB / 2, GIB / 2 + 1, false),
        (1, u64::MAX, false),
    ];
    for (under_way, bytes, may) in cases {
        assert_eq!(together(under_way, bytes), may, "{bytes} bytes beside {under_way}");
    }
}
