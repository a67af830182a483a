//! Standing plans: those under which a model's requests run that leave it to the daemon, and how one takes the place of
//! another. Whoever asks under a plan holds it: it is forgotten when nobody does.

use std::{
    collections::BTreeMap,
    sync::{Arc, RwLockReadGuard, RwLockWriteGuard},
};

use serde::{Deserialize, Serialize};
use tokio_util::task::{TaskTracker, task_tracker::TaskTrackerToken};
use utoipa::ToSchema;

use super::{Entry, KeptPlan, Plans, PlansError, shards};
use crate::{
    domain::{Digest, Plan, PlanFallback, PlanId, PlanStage, Review, Spares},
    planner::SplitOrder,
    store::{Store, StoreError, StoredStanding},
};

/// Held by a request as long as it runs under a plan.
pub type InUse = TaskTrackerToken;

/// How a model is to be split, now and whenever that is looked at again
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct StandingOrder {
    pub split: SplitOrder,
    pub fallback: PlanFallback,
    pub spares: Spares,
}

/// What a model's requests run under that leave it to the daemon.
#[derive(Clone, Debug, PartialEq)]
pub struct StandingPlan {
    /// `single` for the whole model in one lane.
    pub plan: PlanId,
    pub order: StandingOrder,
    /// Which was measured to be better, once.
    pub better_once: Option<PlanId>,
    /// Microseconds since the Unix epoch.
    pub kept_at_us: i64,
}

impl StandingPlan {
    fn names(&self, id: &PlanId) -> bool {
        self.plan == *id || self.better_once.as_ref() == Some(id)
    }
}

/// What became of a plan that was to go.
pub enum Retired {
    /// It is gone.
    Gone(Arc<Plan>),
    /// Requests run under it, which are waited for here.
    InUse(TaskTracker),
    /// Somebody wants it.
    Stays,
}

/// What stands for each model, by its file.
pub(super) type Standing = BTreeMap<Digest, StandingPlan>;

/// Reads what stood when the last daemon ended.
pub(super) async fn stored(store: &Store) -> Result<Standing, StoreError> {
    let mut standing = Standing::new();
    for StoredStanding { model, plan, wanted, better_once, kept_at_us } in store.standing_plans().await? {
        match serde_json::from_str(&wanted) {
            Ok(order) => {
                standing.insert(model, StandingPlan { plan, order, better_once, kept_at_us });
            }
            Err(error) => {
                tracing::error!(%model, %error, "a standing plan was changed in the store, and is not used");
            }
        }
    }
    Ok(standing)
}

impl Plans {
    /// What stands for a model.
    pub fn standing(&self, model: Digest) -> Option<StandingPlan> {
        self.stands().get(&model).cloned()
    }

    /// The model that a plan stands for.
    pub fn stands_for(&self, id: &PlanId) -> Option<Digest> {
        self.stands().iter().find(|(_, standing)| standing.plan == *id).map(|(model, _)| *model)
    }

    /// A plan, and the right to run under it.
    pub fn using(&self, id: &PlanId) -> Result<(KeptPlan, InUse), PlansError> {
        let kept = self.read();
        let found = kept.get(id).ok_or_else(|| PlansError::Unknown { id: id.to_string() })?;
        Ok((found.clone(), found.uses.token()))
    }

    /// The same of a model's standing plan; none where the whole model stands, or nothing does.
    pub fn using_standing(&self, model: Digest) -> Result<Option<(KeptPlan, InUse)>, PlansError> {
        // As long as this is held no other plan takes its place, so that it is there.
        let standing = self.stands();
        let plan = standing.get(&model).map(|standing| &standing.plan).filter(|plan| !plan.is_single());
        plan.map(|plan| self.using(plan)).transpose()
    }

    /// Has a plan stand for a model, in the store and then here; answers with what stood before. Nothing changes where
    /// something else stands by now than `before`.
    pub async fn stand(
        &self,
        model: Digest,
        standing: StandingPlan,
        before: Option<&StandingPlan>,
        review: Option<Review>,
    ) -> Result<Option<StandingPlan>, PlansError> {
        let _turn = self.changing.lock().await;
        let now = self.standing(model);
        if before.is_some() && now.as_ref() != before {
            return Err(PlansError::Changed);
        }
        if !standing.plan.is_single() {
            self.find(standing.plan.as_str())?;
        }
        let wanted = serde_json::to_string(&standing.order).expect("an order holds only words and numbers");
        let StandingPlan { plan, better_once, kept_at_us, .. } = standing.clone();
        let stored = StoredStanding { model, plan, wanted, better_once, kept_at_us };
        self.store.put_standing_plan(stored, review).await?;
        self.stands_mut().insert(model, standing);
        Ok(now)
    }

    /// Has nothing stand for a model any more; answers with what did.
    pub async fn fall(&self, model: Digest) -> Result<Option<StandingPlan>, PlansError> {
        let _turn = self.changing.lock().await;
        if self.standing(model).is_none() {
            return Ok(None);
        }
        self.store.remove_standing_plan(model).await?;
        Ok(self.stands_mut().remove(&model))
    }

    /// Forgets a plan that was made to stand and does so for nobody any more, once nobody runs under it.
    pub async fn retire(&self, id: &PlanId) -> Result<Retired, PlansError> {
        let _turn = self.changing.lock().await;
        if self.stands().values().any(|standing| standing.names(id)) {
            return Ok(Retired::Stays);
        }
        let gone = {
            let mut kept = self.write();
            let Some(found) = kept.get(id).filter(|found| found.own) else { return Ok(Retired::Stays) };
            if !found.uses.is_empty() {
                return Ok(Retired::InUse(found.uses.clone()));
            }
            let plan = found.plan.clone();
            kept.remove(id);
            plan
        };
        self.store.remove_plan(id.clone()).await?;
        Ok(Retired::Gone(gone))
    }

    /// Of the shards that were cut for a plan of this model, those that no plan has and nobody has given a name.
    pub fn unused(&self, model: Digest, shards: &[Digest]) -> Vec<Arc<Entry>> {
        let kept = self.read();
        let stages: Vec<&PlanStage> = kept.values().flat_map(|kept| &kept.plan.stages).collect();
        let unused = |entry: &Arc<Entry>| {
            let digest = entry.model.digest;
            shards.contains(&digest)
                && shards::is_cut_of(entry, model)
                && stages.iter().all(|stage| stage.model != digest)
        };
        self.registry.list().into_iter().filter(unused).collect()
    }

    /// Forgets the plans that an earlier daemon made to stand and had no time to forget.
    pub(super) async fn retire_left(&self) -> Result<(), PlansError> {
        let own: Vec<_> = self.list().into_iter().filter(|kept| kept.own).map(|kept| kept.id).collect();
        for id in own {
            let Retired::Gone(plan) = self.retire(&id).await? else { continue };
            let stages: Vec<_> = plan.stages.iter().map(|stage| stage.model).collect();
            for shard in self.unused(plan.model, &stages) {
                self.registry.remove(&shard.model.name, Some(shard.model.digest)).await?;
            }
        }
        Ok(())
    }

    fn stands(&self) -> RwLockReadGuard<'_, Standing> {
        self.standing.read().expect("no holder of the standing plans panics")
    }

    fn stands_mut(&self) -> RwLockWriteGuard<'_, Standing> {
        self.standing.write().expect("no holder of the standing plans panics")
    }
}
