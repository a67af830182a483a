//! How a plan is made, proven and kept, and how those go again that the daemon made for itself.

use std::sync::Arc;

use futures_util::future::try_join_all;

use super::{
    Api, models, plans, reviews,
    splits::{self, Cutting, Stages},
    trial::Trial,
};
use crate::{
    domain::{Digest, Failure, Place, Plan, PlanFallback, PlanId, Shard, Spares},
    models::{Entry, KeptPlan, Plans, Proof, Retired},
    tasks,
};

/// Shards, and where each runs.
pub(super) type Seats = Vec<(Arc<Entry>, Place)>;

/// A plan that is to be.
pub(super) struct Making<'a> {
    /// By whom, and of which model.
    pub(super) trial: Trial<'a>,
    pub(super) fallback: PlanFallback,
    pub(super) spares: Spares,
    /// Whether the daemon makes it to stand for its model.
    pub(super) own: bool,
}

impl Making<'_> {
    /// Makes a plan of shards that are there, proves it natively and in its own lanes, and keeps it.
    pub(super) async fn of(&self, stages: &[(Arc<Entry>, Place)]) -> Result<KeptPlan, Failure> {
        let _making = self.trial.api.plans.making.read().await;
        self.proven(stages).await
    }

    /// Makes the shards of a split, and a plan of them. Shards that nobody asked for by name go with the plan that they
    /// were made for when that fails.
    pub(super) async fn split(&self, cutting: Cutting) -> Result<KeptPlan, Failure> {
        let api = self.trial.api;
        let (made, new) = {
            let _making = api.plans.making.read().await;
            let Stages { shards, new } = splits::stages(api, cutting).await?;
            let made = if self.own {
                reviews::unless_ending(api, self.proven(&shards)).await
            } else {
                self.proven(&shards).await
            };
            (made, new)
        };
        if made.is_err() {
            let _alone = api.plans.making.write().await;
            forget_unused(api, self.trial.whole.model.digest, &new).await;
        }
        made
    }

    async fn proven(&self, stages: &[(Arc<Entry>, Place)]) -> Result<KeptPlan, Failure> {
        let Self { trial: Trial { api, whole, .. }, fallback, spares, own } = self;
        let shards = stages.iter().map(|(entry, place)| Shard {
            model: entry.model.digest,
            signature: &entry.model.signature,
            place: place.clone(),
        });
        let shards: Vec<_> = shards.collect();
        let whole_model = (whole.model.digest, &whole.model.signature);
        let plan = Plan::new(whole_model, &shards, *fallback, *spares)?;
        let proof = api.plans.prove(whole, &plan).await?;
        for shard in &proof.given {
            let (name, digest) = (shard.model.name.clone(), shard.model.digest);
            api.scheduler.forget(name, vec![digest], vec![digest]).await;
        }
        let error = self.rehearse(&plan, &proof).await?;
        let kept = api.plans.keep(plan, error, *own, tasks::now_us()).await?;
        let planned = plans::planned(api, kept.id.clone(), kept.plan.clone(), None, false)?;
        api.scheduler.spare(Arc::new(planned)).await;
        Ok(kept)
    }

    /// Runs a plan in its own lanes and nowhere else, which loads and proves every stage there; says how far off it was.
    async fn rehearse(&self, plan: &Plan, proof: &Proof) -> Result<Option<f64>, Failure> {
        let strictly = plans::planned_strictly(self.trial.api, Plans::name(plan), plan, None)?;
        let side = Some(Arc::new(strictly));
        let asked = proof.inputs.iter().map(|inputs| self.trial.ask(inputs.clone(), &side));
        let answers = try_join_all(asked).await?;
        let outputs: Vec<_> = answers.into_iter().map(|answer| answer.outputs).collect();
        Ok(proof.check(&outputs)?)
    }
}

/// Forgets a plan that the daemon made and that stands for nobody any more, with those of its shards that nobody else
/// uses, once its last request has ended.
pub(super) async fn retire(api: &Arc<Api>, id: PlanId) {
    if let Some(uses) = try_retire(api, &id).await {
        let (own, stopping) = (api.clone(), api.tasks.stopping());
        let waiting = async move {
            let mut uses = uses;
            loop {
                uses.wait().await;
                match try_retire(&own, &id).await {
                    Some(more) => uses = more,
                    None => return,
                }
            }
        };
        api.tasks.spawn("old plan", async move {
            tokio::select! {
                () = waiting => {}
                // The next daemon forgets it when it starts.
                () = stopping.cancelled() => {}
            }
        });
    }
}

/// Answers with the requests that it must wait for.
async fn try_retire(api: &Arc<Api>, id: &PlanId) -> Option<tokio_util::task::TaskTracker> {
    let _alone = api.plans.making.write().await;
    match api.plans.retire(id).await {
        Ok(Retired::InUse(uses)) => return Some(uses),
        Ok(Retired::Gone(plan)) => {
            api.scheduler.forget_plan(id.clone()).await;
            let shards: Vec<_> = plan.stages.iter().map(|stage| stage.model).collect();
            forget_unused_files(api, plan.model, &shards).await;
        }
        Ok(Retired::Stays) => {}
        Err(error) => tracing::warn!(plan = %id, %error, "a plan that nobody wants stays"),
    }
    None
}

async fn forget_unused(api: &Arc<Api>, model: Digest, shards: &[Arc<Entry>]) {
    let files: Vec<_> = shards.iter().map(|shard| shard.model.digest).collect();
    forget_unused_files(api, model, &files).await;
}

/// Forgets those of a model's shards that no plan has and nobody has named; whoever calls it keeps others from making
/// plans of them.
async fn forget_unused_files(api: &Arc<Api>, model: Digest, shards: &[Digest]) {
    for shard in api.plans.unused(model, shards) {
        let forgotten = models::forget(api, &shard.model.name, Some(shard.model.digest)).await;
        if let Err(failure) = forgotten {
            tracing::warn!(shard = %shard.model.name, %failure, "a shard of no plan stays");
        }
    }
}
