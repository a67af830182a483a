//! Other numbers of instances while the pool runs.

use tokio::time::Instant;

use super::{Actor, Bounds, Fleet, Group, InstanceId, Phase, Slot};

/// Why an instance goes that nothing is wrong with.
pub(super) const UNWANTED: &str = "fewer of it are wanted";

impl Actor {
    /// Adopts the fleets' bounds and limits: launches what is missing and lets go what is too much.
    pub(super) async fn target(&mut self, fleets: Vec<Fleet>, now: Instant) {
        for group in &mut self.groups {
            if !fleets.iter().any(|fleet| fleet.browser == group.fleet.browser) {
                group.adopt(Bounds { least: 0, most: 0 }, now);
            }
        }
        for fleet in fleets {
            match self.groups.iter_mut().find(|group| group.fleet.browser == fleet.browser) {
                Some(group) => {
                    group.fleet.limits = fleet.limits;
                    group.adopt(fleet.instances, now);
                }
                None => {
                    self.leases.know(fleet.browser.clone());
                    self.groups.push(Group::new(fleet, now));
                }
            }
        }
        let surplus: Vec<_> = self.groups.iter().flat_map(Group::surplus).collect();
        for id in surplus {
            self.leave(&id).await;
        }
        self.grown().await;
    }

    /// Lets an instance go: at once where nothing would be lost, else when its lanes or its lease are done.
    async fn leave(&mut self, id: &InstanceId) {
        let Some((_, slot)) = self.slot(id) else { return };
        slot.leaving = true;
        match &slot.phase {
            Phase::Waiting { .. } | Phase::Failed => self.gone(id).await,
            Phase::Running { close, served: false, .. } => close.cancel(),
            Phase::Running { .. } if slot.lease.is_some() => {}
            Phase::Running { .. } => self.drain(id, UNWANTED.to_owned()).await,
        }
    }
}

impl Group {
    fn adopt(&mut self, bounds: Bounds, now: Instant) {
        self.fleet.instances = bounds;
        self.scale.adopt(bounds, self.fleet.limits.idle);
        self.breaker.allow(self.fleet.limits.restarts);
        let staying = self.slots.values().filter(|slot| !slot.leaving).count();
        let free = (1..).map(|number| self.fleet.instance(number)).filter(|id| !self.slots.contains_key(id));
        let missing: Vec<_> = free.take((bounds.least as usize).saturating_sub(staying)).collect();
        self.slots.extend(missing.into_iter().map(|id| (id, Slot::new(now))));
    }

    /// Which instances are too many: first those that nobody would miss, at last those that are leased.
    fn surplus(&self) -> Vec<InstanceId> {
        let mut staying: Vec<_> = self.slots.iter().filter(|(_, slot)| !slot.leaving).collect();
        let cost = |slot: &Slot| match slot.phase {
            Phase::Failed => 0,
            Phase::Waiting { .. } => 1,
            Phase::Running { served: false, .. } => 2,
            Phase::Running { .. } if slot.lease.is_none() => 3,
            Phase::Running { .. } => 4,
        };
        // Of equals the one that came last goes first.
        staying.reverse();
        staying.sort_by_key(|(_, slot)| cost(slot));
        let surplus = staying.len().saturating_sub(self.fleet.instances.most as usize);
        staying.into_iter().take(surplus).map(|(id, _)| id.clone()).collect()
    }
}
