//! Plans: a model's computation in stages that somebody chose. Make, list, show, remove.

use std::sync::Arc;

use axum::{
    Extension, Json,
    extract::{
        Path, State,
        rejection::{PathRejection, StringRejection},
    },
    http::StatusCode,
};
use futures_util::future::try_join_all;
use serde::{Deserialize, Serialize};
use serde_json::json;
use tokio::time::Instant;
use utoipa::ToSchema;

use super::{
    Api, Problem, infer, models,
    resources::List,
    splits::{self, Stages, Wanted},
};
use crate::{
    domain::{
        Activations, BackendKind, Caller, Failure, LaneId, ModelName, Place, Plan, PlanFallback, PlanId,
        PlanStage, Policy, Recovery, Shard, Spares, Tensor,
    },
    models::{Entry, KeptPlan, Plans, PlansError, Proof},
    protocol::client::{Parameters, Topic},
    scheduler::{Accepted, Planned, Request, Seated, Under, Wants},
    tasks,
    telemetry::Origin,
};

type Named = Result<Path<String>, PathRejection>;

/// A model's computation in stages
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = NewPlan)]
pub(super) struct Order {
    /// The whole model: a name, `NAME@VERSION` or a SHA-256.
    model: String,
    /// In an order in which they can run. What one makes, others read under the same name.
    #[serde(default)]
    stages: Vec<StageOrder>,
    /// In place of stages: how the model is to be split.
    split: Option<Wanted>,
    #[serde(default)]
    fallback: PlanFallback,
    #[serde(default)]
    spares: Spares,
}

/// A shard, and where it runs: in one lane, in those of a browser or a backend, or in any
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = NewPlanStage)]
struct StageOrder {
    /// A model: a name, `NAME@VERSION` or a SHA-256.
    model: String,
    lane: Option<LaneId>,
    /// A recipe's name, or `native`.
    browser: Option<String>,
    backend: Option<BackendKind>,
}

/// A plan as it is kept.
#[derive(Serialize, ToSchema)]
#[schema(as = ShownPlan)]
pub(super) struct Shown {
    id: PlanId,
    #[serde(flatten)]
    plan: Plan,
    /// What the whole model's file is called; null when it is not here any more.
    name: Option<ModelName>,
    /// What the stages' files are called.
    shards: Vec<Option<ModelName>>,
    /// In which precision floats pass between its stages.
    activations: Activations,
    /// How far its answers in its own lanes were from the whole model's when it was proven, relative to the largest value;
    /// null for a plan that an earlier version made.
    error: Option<f64>,
    made_at_us: i64,
    /// Why it cannot run, when a shard is gone.
    unusable: Option<String>,
}

impl Shown {
    fn of(KeptPlan { id, plan, made_at_us, error }: KeptPlan, api: &Api) -> Self {
        let name = |digest| api.plans.of_file(digest).map(|entry| entry.model.name.clone());
        let is_half = |stage: &PlanStage| {
            let entry = api.plans.of_file(stage.model);
            entry.and_then(|entry| entry.model.conversion.clone()?.shard_activations).is_some()
        };
        let half = plan.stages.iter().any(is_half);
        Self {
            name: name(plan.model),
            shards: plan.stages.iter().map(|stage| name(stage.model)).collect(),
            unusable: api.plans.shards(&plan).err().map(|error| error.to_string()),
            activations: if half { Activations::Fp16 } else { Activations::AsMade },
            error,
            id,
            plan: (*plan).clone(),
            made_at_us,
        }
    }
}

/// Make a plan
///
/// Its stages run natively one after the other, and then in their own lanes, and must answer as the whole model.
#[utoipa::path(post, path = "/api/v1/plans", tag = "plans", request_body = Order,
    responses((status = 201, body = Shown)))]
pub(super) async fn make(
    State(api): State<Arc<Api>>,
    Extension(caller): Extension<Caller>,
    Extension(origin): Extension<Origin>,
    body: Result<String, StringRejection>,
) -> Result<(StatusCode, Json<Shown>), Problem> {
    let Order { model, stages, split, fallback, spares } =
        serde_json::from_str(&body?).map_err(|error| Failure::invalid(error.to_string()))?;
    let whole = models::find(&api, &model)?;
    let Stages { shards, new } = match split {
        None => Stages { shards: named(&api, stages)?, new: Vec::new() },
        Some(_) if !stages.is_empty() => return Err(Failure::invalid("stages or split, not both").into()),
        Some(wanted) => splits::cut(&api, &whole, &wanted, tasks::now_us()).await?,
    };
    let made = proven(&api, &whole, &shards, (fallback, spares), (caller, origin)).await;
    if made.is_err() {
        // Shards that nobody asked for by name go with the plan that they were made for.
        for shard in new {
            let forgotten = models::forget(&api, &shard.model.name, Some(shard.model.digest)).await;
            if let Err(failure) = forgotten {
                tracing::warn!(shard = %shard.model.name, %failure, "a shard of no plan stays");
            }
        }
    }
    let shown = made?;
    api.events.publish(Topic::Plans, || json!({"made": &shown}));
    Ok((StatusCode::CREATED, Json(shown)))
}

/// The shards that are named, and where they run.
fn named(api: &Api, stages: Vec<StageOrder>) -> Result<Vec<(Arc<Entry>, Place)>, Problem> {
    let stage = |StageOrder { model, lane, browser, backend }: StageOrder| {
        Ok((models::find(api, &model)?, Place { lane, browser, backend }))
    };
    stages.into_iter().map(stage).collect()
}

/// Makes a plan of stages, proves it natively and in its own lanes, and keeps it.
async fn proven(
    api: &Arc<Api>,
    whole: &Arc<Entry>,
    stages: &[(Arc<Entry>, Place)],
    (fallback, spares): (PlanFallback, Spares),
    by: (Caller, Origin),
) -> Result<Shown, Problem> {
    let shards = stages.iter().map(|(entry, place)| Shard {
        model: entry.model.digest,
        signature: &entry.model.signature,
        place: place.clone(),
    });
    let shards: Vec<_> = shards.collect();
    let whole_model = (whole.model.digest, &whole.model.signature);
    let plan = Plan::new(whole_model, &shards, fallback, spares).map_err(Failure::from)?;
    let proof = api.plans.prove(whole, &plan).await?;
    for shard in &proof.given {
        let (name, digest) = (shard.model.name.clone(), shard.model.digest);
        api.scheduler.forget(name, vec![digest], vec![digest]).await;
    }
    let error = rehearse(api, whole, &plan, &proof, by).await?;
    let kept = api.plans.keep(plan, error, tasks::now_us()).await?;
    api.scheduler.spare(Arc::new(planned(api, kept.id.clone(), kept.plan.clone(), false)?)).await;
    Ok(Shown::of(kept, api))
}

/// Runs a plan in its own lanes and nowhere else, which loads and proves every stage there; says how far off it was.
async fn rehearse(
    api: &Arc<Api>,
    whole: &Arc<Entry>,
    plan: &Plan,
    proof: &Proof,
    (caller, origin): (Caller, Origin),
) -> Result<Option<f64>, Failure> {
    let strictly = Plan { fallback: PlanFallback::None, spares: Spares::None, ..plan.clone() };
    let planned = Arc::new(planned(api, Plans::name(plan), Arc::new(strictly), false)?);
    let ask = async |inputs: Vec<Tensor>| {
        let bytes = inputs.iter().map(|tensor| tensor.body.len()).sum();
        let permit = api.scheduler.admit(&caller, bytes)?;
        let request = Request {
            entry: whole.clone(),
            binding: whole.model.signature.bind(&inputs)?,
            inputs,
            outputs: Vec::new(),
            wants: Wants::default(),
            priority: 0,
            caller: caller.clone(),
            accepted: Accepted::now(),
            deadline: Instant::now() + models::PROVE_WITHIN,
            trace: origin.part(None, None).trace(whole.model.name.as_str()),
            sequence: None,
            under: Under::Plan(planned.clone()),
        };
        infer::answered(api, request, permit).await
    };
    let answers = try_join_all(proof.inputs.iter().map(|inputs| ask(inputs.clone()))).await?;
    let outputs: Vec<_> = answers.into_iter().map(|answer| answer.outputs).collect();
    Ok(proof.check(&outputs)?)
}

/// Plans
///
/// In the order in which they were made.
#[utoipa::path(get, path = "/api/v1/plans", tag = "plans", responses((status = 200, body = List<Shown>)))]
pub(super) async fn list(State(api): State<Arc<Api>>) -> Json<List<Shown>> {
    List::whole(api.plans.list().into_iter().map(|kept| Shown::of(kept, &api)).collect())
}

/// A plan, with where its stages went when they had to.
#[derive(Serialize, ToSchema)]
#[schema(as = PlanWithRecoveries)]
pub(super) struct Followed {
    #[serde(flatten)]
    shown: Shown,
    /// The newest first.
    recoveries: Vec<Recovery>,
}

/// One plan
#[utoipa::path(get, path = "/api/v1/plans/{id}", tag = "plans", params(("id" = String, Path)),
    responses((status = 200, body = Followed)))]
pub(super) async fn show(State(api): State<Arc<Api>>, id: Named) -> Result<Json<Followed>, Problem> {
    let Path(id) = id?;
    let kept = api.plans.find(&id).map_err(told)?;
    let recoveries = api.store.recoveries(kept.id.clone()).await?;
    Ok(Json(Followed { shown: Shown::of(kept, &api), recoveries }))
}

/// Forget a plan
///
/// Its shards stay, and requests under way go on.
#[utoipa::path(delete, path = "/api/v1/plans/{id}", tag = "plans", params(("id" = String, Path)),
    responses((status = 200, body = Shown)))]
pub(super) async fn remove(State(api): State<Arc<Api>>, id: Named) -> Result<Json<Shown>, Problem> {
    let Path(id) = id?;
    let removed = api.plans.remove(&id).await.map_err(told)?;
    api.scheduler.forget_plan(removed.id.clone()).await;
    let shown = Shown::of(removed, &api);
    api.events.publish(Topic::Plans, || json!({"removed": &shown}));
    Ok(Json(shown))
}

fn told(error: PlansError) -> Problem {
    match error {
        PlansError::Unknown { .. } => Problem::not_found(error.to_string()),
        error => error.into(),
    }
}

/// The plan that a request names, ready to be asked; none for `single`.
pub(super) fn wanted(api: &Api, entry: &Entry, parameters: &Parameters) -> Result<Under, Failure> {
    let Some(id) = parameters.plan.as_deref().filter(|id| *id != "single") else { return Ok(Under::Single) };
    let KeptPlan { id, plan, .. } = api.plans.find(id)?;
    if plan.model != entry.model.digest {
        let message = format!("{id} is a plan of the model {}, not of {}", plan.model, entry.model.name);
        return Err(Failure::invalid(message));
    }
    let Parameters { backend, browser, fallback, policy, lease, .. } = parameters;
    if backend.is_some() || browser.is_some() || fallback.is_some() || policy.is_some() || lease.is_some() {
        let message =
            "a plan says where its stages run: leave out backend, browser, fallback, policy and lease";
        return Err(Failure::invalid(message));
    }
    Ok(Under::Plan(Arc::new(planned(api, id, plan, parameters.strict)?)))
}

fn planned(api: &Api, id: PlanId, plan: Arc<Plan>, strict: bool) -> Result<Planned, PlansError> {
    let shards = api.plans.shards(&plan)?;
    let seated = |(entry, at): (Arc<Entry>, usize)| {
        let Place { lane, browser, backend } = plan.stages[at].place.clone();
        let wants = Wants {
            // Nothing is pinned that names nothing.
            policy: if api.policy == Policy::Pin { Policy::default() } else { api.policy },
            backends: backend.into_iter().collect(),
            browsers: browser.into_iter().collect(),
            lane,
            stand_in: plan.fallback != PlanFallback::None,
            native_fallback: plan.fallback == PlanFallback::Native,
            strict,
            lease: None,
        };
        Seated { entry, wants }
    };
    let stages = shards.into_iter().zip(0..).map(seated).collect();
    Ok(Planned { id, plan, stages })
}
