//! How lanes come and go.

use std::sync::Arc;

use super::Actor;
use crate::{
    backend::Backend,
    domain::LaneId,
    pool::{Hold, PoolEvent},
    scheduler::{choose::Absence, lane::Lane},
};

impl Actor {
    pub(super) fn pool_event(&mut self, event: PoolEvent) {
        match event {
            PoolEvent::Starting { instance, browser, backends } => {
                self.outlook.absent.remove(&instance);
                self.outlook.starting.insert(instance, (browser, backends));
            }
            PoolEvent::LaneUp(backend) => {
                let environment = backend.environment();
                let (id, kind) = (environment.lane.clone(), environment.backend.clone());
                self.outlook.arrived(&environment.instance, &kind);
                self.readmit(&id);
                let mut lane = Lane::new(backend);
                lane.sessions.extend(self.outgrown.remove(&id).into_iter().flatten());
                self.lanes.insert(id, lane);
            }
            PoolEvent::LaneDown { lane, reason } => {
                tracing::debug!(%lane, reason, "lane removed");
                self.lose_lane(&lane);
            }
            PoolEvent::Absent { instance, browser, backend, reason } => {
                self.outlook.arrived(&instance, &backend);
                let absence = Absence { browser, backend: Some(backend), reason };
                self.outlook.absent.entry(instance).or_default().push(absence);
            }
            PoolEvent::Failed { instance, browser, reason } => {
                self.outlook.gone(&instance);
                self.outlook.absent.insert(instance, vec![Absence { browser, backend: None, reason }]);
            }
            PoolEvent::Held { instance, hold, free } => {
                self.frees.extend(free.map(|free| (instance.clone(), free)));
                if hold == Hold::Open {
                    self.outlook.holds.remove(&instance);
                } else {
                    self.outlook.holds.insert(instance, hold);
                }
            }
            PoolEvent::Suspect { instance, suspect: true } => {
                self.outlook.suspects.insert(instance);
            }
            PoolEvent::Suspect { instance, suspect: false } => {
                self.outlook.suspects.remove(&instance);
            }
            PoolEvent::Gone { instance } => {
                self.outlook.gone(&instance);
                let gone = |lane: &Lane| lane.environment().instance == instance;
                for (id, _) in self.lanes.extract_if(.., |_, lane| gone(lane)) {
                    self.flows.lose(&id);
                    self.sequences.lose(&id);
                }
            }
        }
    }

    /// A lane that is gone without our doing.
    fn lose_lane(&mut self, id: &LaneId) {
        if self.lanes.contains_key(id) {
            self.flows.lose(id);
        }
        self.remove_lane(id);
    }

    pub(super) fn remove_lane(&mut self, id: &LaneId) {
        self.sequences.lose(id);
        if let Some(lane) = self.lanes.remove(id)
            && !lane.native()
        {
            // The pool starts it again or says that the instance failed.
            self.outlook.awaits(lane.environment());
            self.outgrown.insert(id.clone(), lane.outgrown());
        }
    }

    /// What a lane's own answer says may come before what the pool says.
    /// A lane that is lost for us must be lost for the pool as well, or it would never bring another.
    pub(super) fn lost(&mut self, backend: &Arc<dyn Backend>, reason: &str) {
        backend.abandon(reason.to_owned());
        if self.lane_of(backend).is_some_and(|lane| !lane.native()) {
            self.lose_lane(&backend.environment().lane);
        }
    }
}
