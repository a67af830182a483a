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
use serde::{Deserialize, Serialize};
use serde_json::json;
use utoipa::ToSchema;

use super::{
    Api, Problem,
    making::{Making, Seats},
    models,
    resources::List,
    reviews, splits,
    trial::Trial,
};
use crate::{
    domain::{
        Activations, BackendKind, Caller, Failure, LaneId, ModelName, Place, Plan, PlanFallback, PlanId,
        PlanStage, Policy, Recovery, Spares,
    },
    models::{Entry, InUse, KeptPlan, PlansError},
    planner::SplitOrder,
    protocol::client::{Parameters, Topic},
    scheduler::{Planned, Seated, Under, Wants},
    telemetry::Origin,
};

/// In place of a plan's name: whichever stands for the model.
const AUTO: &str = "auto";

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
    split: Option<SplitOrder>,
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
    /// Whether it stands for its model, whose requests with the plan `auto` run under it.
    standing: bool,
}

impl Shown {
    pub(super) fn of(KeptPlan { id, plan, made_at_us, error, .. }: KeptPlan, api: &Api) -> Self {
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
            standing: api.plans.stands_for(&id).is_some(),
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
    let trial = Trial { api: &api, whole: &whole, caller, origin, priority: 0 };
    let making = Making { trial, fallback, spares, own: false };
    let made = match split {
        None => making.of(&named(&api, stages)?).await?,
        Some(_) if !stages.is_empty() => return Err(Failure::invalid("stages or split, not both").into()),
        Some(wanted) => {
            let cutting = splits::cutting(&api, &whole, &wanted).await?;
            if cutting.split.is_whole() {
                let why = &cutting.split.why.sentence;
                let message = format!("{why}; name a strategy to split it all the same");
                return Err(Failure::invalid(message).into());
            }
            making.split(cutting).await?
        }
    };
    let shown = Shown::of(made, &api);
    api.events.publish(Topic::Plans, || json!({"made": &shown}));
    Ok((StatusCode::CREATED, Json(shown)))
}

/// The shards that are named, and where they run.
fn named(api: &Api, stages: Vec<StageOrder>) -> Result<Seats, Problem> {
    let stage = |StageOrder { model, lane, browser, backend }: StageOrder| {
        Ok((models::find(api, &model)?, Place { lane, lanes: Vec::new(), browser, backend }))
    };
    stages.into_iter().map(stage).collect()
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
        PlansError::Kept { .. } => Problem::told_as(error.into(), StatusCode::CONFLICT),
        error => error.into(),
    }
}

/// The plan that a request names, ready to be asked; none for `single`, and for `auto` where the whole model stands.
pub(super) fn wanted(api: &Arc<Api>, entry: &Arc<Entry>, parameters: &Parameters) -> Result<Under, Failure> {
    let Some(id) = parameters.plan.as_deref().filter(|id| *id != PlanId::SINGLE) else {
        return Ok(Under::Single);
    };
    let used = if id == AUTO {
        if parameters.sequence()?.is_some() {
            let message = "another plan may stand before a sequence has ended: name the plan, or single";
            return Err(Failure::invalid(message));
        }
        reviews::when_due(api, entry);
        api.plans.using_standing(entry.model.digest)?
    } else {
        Some(api.plans.using(&PlanId::new(id))?)
    };
    if let Some((KeptPlan { id, plan, .. }, _)) = &used
        && plan.model != entry.model.digest
    {
        let message = format!("{id} is a plan of the model {}, not of {}", plan.model, entry.model.name);
        return Err(Failure::invalid(message));
    }
    let Parameters { backend, browser, fallback, policy, lease, .. } = parameters;
    if backend.is_some() || browser.is_some() || fallback.is_some() || policy.is_some() || lease.is_some() {
        let message =
            "a plan says where its stages run: leave out backend, browser, fallback, policy and lease";
        return Err(Failure::invalid(message));
    }
    let Some((kept, in_use)) = used else { return Ok(Under::Single) };
    Ok(Under::Plan(Arc::new(planned(api, kept.id, kept.plan, Some(in_use), parameters.strict)?)))
}

/// How lanes are chosen where a plan says which are meant: nothing is pinned that names nothing.
pub(super) fn policy(api: &Api) -> Policy {
    if api.policy == Policy::Pin { Policy::default() } else { api.policy }
}

/// Where the whole model runs when it stands.
pub(super) fn whole_wants(api: &Api) -> Wants {
    Wants { policy: policy(api), native_fallback: true, ..Wants::default() }
}

pub(super) fn planned(
    api: &Api,
    id: PlanId,
    plan: Arc<Plan>,
    in_use: Option<InUse>,
    strict: bool,
) -> Result<Planned, PlansError> {
    let shards = api.plans.shards(&plan)?;
    let seated = |(entry, at): (Arc<Entry>, usize)| {
        let Place { lane, lanes, browser, backend } = plan.stages[at].place.clone();
        let wants = Wants {
            policy: policy(api),
            backends: backend.into_iter().collect(),
            browsers: browser.into_iter().collect(),
            lanes: lane.into_iter().chain(lanes).collect(),
            stand_in: plan.fallback != PlanFallback::None,
            native_fallback: plan.fallback == PlanFallback::Native,
            strict,
            lease: None,
        };
        Seated { entry, wants }
    };
    let stages = shards.into_iter().zip(0..).map(seated).collect();
    Ok(Planned { id, plan, stages, in_use })
}

/// The same in its own lanes and nowhere else.
pub(super) fn planned_strictly(
    api: &Api,
    id: PlanId,
    plan: &Plan,
    in_use: Option<InUse>,
) -> Result<Planned, PlansError> {
    let strictly = Plan { fallback: PlanFallback::None, spares: Spares::None, ..plan.clone() };
    planned(api, id, Arc::new(strictly), in_use, false)
}
