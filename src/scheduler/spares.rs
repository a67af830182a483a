//! Which shards plans want held ahead of need, and in which lanes. Pure.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use tokio::time::Instant;

use super::{
    Limits, Wants,
    choose::Outlook,
    lane::{Lane, Standing},
    relief,
    staged::{Planned, Seated},
};
use crate::{
    backend::SessionName,
    domain::{LaneId, PlanId, Spares},
    models::Entry,
};

/// Plans whose spares are held: as many as are kept.
const PLANS_MAX: usize = 256;

#[derive(Default)]
pub(super) struct SparedPlans(BTreeMap<PlanId, Spared>);

/// What a plan wants held.
struct Spared {
    policy: Spares,
    stages: Vec<(Arc<Entry>, Wants)>,
}

/// A shard for a lane that lacks it.
pub(super) type Lacking = (LaneId, SessionName, Arc<Entry>);

impl SparedPlans {
    pub(super) fn insert(&mut self, planned: &Planned) {
        let policy = planned.plan.spares;
        let full = self.0.len() >= PLANS_MAX && !self.0.contains_key(&planned.id);
        if policy == Spares::None || full {
            return;
        }
        let stage = |Seated { entry, wants }: &Seated| (entry.clone(), wants.clone());
        let stages = planned.stages.iter().map(stage).collect();
        self.0.insert(planned.id.clone(), Spared { policy, stages });
    }

    pub(super) fn remove(&mut self, plan: &PlanId) {
        self.0.remove(plan);
    }

    /// Has the lanes that may stand in keep what they hold of the plans.
    pub(super) fn keep(&self, lanes: &mut BTreeMap<LaneId, Lane>) {
        let stages = || self.0.values().flat_map(|spared| &spared.stages);
        for lane in lanes.values_mut() {
            for (entry, _) in stages().filter(|(_, wants)| may_run(lane, wants)).collect::<Vec<_>>() {
                lane.keep(&session(lane, entry));
            }
        }
    }

    /// The shards that plans want in lanes which do not hold them.
    pub(super) fn lacking(
        &self,
        lanes: &BTreeMap<LaneId, Lane>,
        outlook: &Outlook,
        limits: &Limits,
        now: Instant,
    ) -> Vec<Lacking> {
        let mut look = Look { lanes, outlook, limits, now, given: Vec::new() };
        for spared in self.0.values() {
            match spared.policy {
                Spares::None => {}
                Spares::Shared => look.share(&spared.stages),
                Spares::PerStage => spared.stages.iter().for_each(|(entry, wants)| look.each(entry, wants)),
            }
        }
        look.given
    }
}

/// One look at the lanes, with what it has given to them so far.
struct Look<'a> {
    lanes: &'a BTreeMap<LaneId, Lane>,
    outlook: &'a Outlook,
    limits: &'a Limits,
    now: Instant,
    given: Vec<Lacking>,
}

impl Look<'_> {
    /// One lane for all stages that it may stand in for: a browser's first, then the one that may for the most of them,
    /// then the one that holds the most already.
    fn share(&mut self, stages: &[(Arc<Entry>, Wants)]) {
        let serves = |lane: &Lane| stages.iter().filter(|(_, wants)| self.stands_in(lane, wants)).count();
        let holds = |lane: &Lane| {
            let held = |(entry, wants): &&(Arc<Entry>, Wants)| {
                self.stands_in(lane, wants) && self.holds(lane, entry)
            };
            stages.iter().filter(held).count()
        };
        let rank = |(id, lane): &(&LaneId, &Lane)| {
            (!lane.native(), serves(lane), holds(lane), std::cmp::Reverse(self.load(id, lane)))
        };
        let lanes = self.lanes.iter().filter(|(_, lane)| serves(lane) > 0);
        let Some((id, lane)) = lanes.max_by_key(rank) else { return };
        for (entry, wants) in stages {
            if self.stands_in(lane, wants) && !self.holds(lane, entry) {
                self.give(id, lane, entry);
            }
        }
    }

    /// A lane for one stage, unless one of a browser holds its shard already: a browser's first, then the one that holds
    /// least, then the next in the round from the stage's place, so that lanes which are alike have a spare each.
    fn each(&mut self, entry: &Arc<Entry>, wants: &Wants) {
        let fit: Vec<_> = self.lanes.iter().filter(|(_, lane)| self.stands_in(lane, wants)).collect();
        if fit.iter().any(|(_, lane)| !lane.native() && self.holds(lane, entry)) {
            return;
        }
        let may = |(id, lane): &&(&LaneId, &Lane)| self.may_have(id, lane, entry);
        let before = |id: &LaneId| wants.lanes.first().is_some_and(|place| id < place);
        let rank = |(id, lane): &&(&LaneId, &Lane)| (lane.native(), self.load(id, lane), before(id));
        let best = fit.iter().filter(may).min_by_key(rank);
        if let Some((id, lane)) = best.copied() {
            self.give(id, lane, entry);
        }
    }

    /// What a lane is still loading counts once it is there: until then it is given nothing more.
    fn give(&mut self, id: &LaneId, lane: &Lane, entry: &Arc<Entry>) {
        let settled = lane.preparing() == 0 && lane.awaited.is_empty();
        if settled && self.may_have(id, lane, entry) {
            self.given.push((id.clone(), session(lane, entry), entry.clone()));
        }
    }

    /// Whether a lane is there and may run a stage whose place cannot.
    fn stands_in(&self, lane: &Lane, wants: &Wants) -> bool {
        let there = lane.draining.is_none() && self.outlook.open(&lane.environment().instance);
        there && may_run(lane, wants)
    }

    fn holds(&self, lane: &Lane, entry: &Entry) -> bool {
        matches!(lane.standing(&session(lane, entry), false, self.now), Standing::Ready | Standing::Preparing)
    }

    /// Whether a lane has room for a shard that it has not had: what it gave up once would only go again.
    fn may_have(&self, id: &LaneId, lane: &Lane, entry: &Entry) -> bool {
        let absent = matches!(lane.standing(&session(lane, entry), false, self.now), Standing::Absent);
        let given = self.given.iter().filter(|(to, ..)| to == id);
        let coming: u64 = given.map(|(.., entry)| entry.model.whole_bytes()).sum();
        absent
            && !lane.kept.contains(&entry.model.digest)
            && relief::fits(lane, coming.saturating_add(entry.model.whole_bytes()), self.limits)
    }

    /// Models that a lane holds or is about to.
    fn load(&self, id: &LaneId, lane: &Lane) -> usize {
        let given: BTreeSet<_> =
            self.given.iter().filter(|(to, ..)| to == id).map(|(_, name, _)| name).collect();
        lane.held() + given.len()
    }
}

/// Whether the plan lets a lane run a stage whose place cannot.
fn may_run(lane: &Lane, wants: &Wants) -> bool {
    let native = wants.native_fallback && lane.falls_back(wants) && !lane.named(wants);
    native || wants.stand_in && lane.stands_in(wants)
}

fn session(lane: &Lane, entry: &Entry) -> SessionName {
    lane.session_name(entry.model.digest, &entry.proof_binding())
}
