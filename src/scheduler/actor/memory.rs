//! What the actor does about lanes that hold too much.

use std::sync::Arc;

use tokio::time::Instant;

use super::{Actor, Prepared, Refusal, SessionState};
use crate::{
    backend::{Backend, SessionName},
    domain::Code,
    models::Entry,
    scheduler::relief::{self, Relief},
};

impl Actor {
    /// Whether a load ran out of memory for the first time and other sessions have made room for a second try.
    pub(super) fn no_room(
        &mut self,
        backend: &Arc<dyn Backend>,
        session: &SessionName,
        result: &Result<Prepared, Refusal>,
        again: bool,
        entry: &Entry,
    ) -> bool {
        let failed = matches!(result, Err(refusal) if refusal.failure.code == Code::OutOfMemory);
        let Some(lane) = self.lane_of(backend).filter(|_| failed && !again) else { return false };
        if !matches!(lane.sessions.get(session), Some(SessionState::Preparing)) {
            return false;
        }
        let room = relief::room_for(lane, entry.model.whole_bytes());
        let made = !room.is_empty();
        self.drop_sessions(backend, room);
        made
    }

    /// Unloads ready sessions; steps that are on their way to them come first in the lane.
    fn drop_sessions(&mut self, backend: &Arc<dyn Backend>, sessions: Vec<SessionName>) {
        for session in sessions {
            if let Some(lane) = self.lane_of(backend) {
                tracing::info!(lane = %backend.environment().lane, %session, "unloaded for its memory");
                lane.sessions.remove(&session);
                self.unload(backend.unload(session));
            }
        }
    }

    /// Has a lane give up what it holds too much of, and recycles one that has drained for it.
    pub(super) fn relieve(&mut self, backend: &Arc<dyn Backend>) {
        let limits = *self.limits.borrow();
        let Some(lane) = self.lane_of(backend) else { return };
        match relief::relief(lane, &limits, Instant::now()) {
            None => {}
            Some(Relief::Unload(sessions)) => return self.drop_sessions(backend, sessions),
            Some(Relief::Recycle(reason)) => lane.draining = Some(reason),
        }
        if lane.running == 0
            && lane.preparing() == 0
            && let Some(reason) = lane.draining.take()
        {
            tracing::info!(lane = %backend.environment().lane, reason, "recycled");
            backend.recycle(reason);
            self.remove_lane(&backend.environment().lane);
        }
    }
}
