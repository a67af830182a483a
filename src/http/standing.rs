//! The plan that stands for a model: keep one, show it with its reviews, review it, drop it.

use std::sync::Arc;

use axum::{
    Extension, Json,
    extract::{
        Path, State,
        rejection::{PathRejection, StringRejection},
    },
};
use serde::Serialize;
use serde_json::json;
use utoipa::ToSchema;

use super::{
    Api, Problem,
    making::{self, Making},
    models, plans, reviews, splits,
    trial::Trial,
};
use crate::{
    domain::{Caller, Digest, Failure, ModelName, PlanFallback, PlanId, Review, Spares},
    models::{Entry, StandingOrder, StandingPlan},
    planner::SplitOrder,
    protocol::client::Topic,
    tasks,
    telemetry::Origin,
};

type Name = Result<Path<String>, PathRejection>;

/// What stands for a model
#[derive(Serialize, ToSchema)]
#[schema(as = StandingPlan)]
pub(super) struct Shown {
    name: ModelName,
    /// The whole model's file.
    model: Digest,
    /// Under which requests run that name the plan `auto`; `single` for the whole model in one lane.
    plan: PlanId,
    split: SplitOrder,
    fallback: PlanFallback,
    spares: Spares,
    /// Which was measured to be better, once: it takes the place of the plan when the next review says so too.
    better_once: Option<PlanId>,
    kept_at_us: i64,
    /// The plan itself; null where the whole model stands.
    made: Option<plans::Shown>,
    /// The newest first.
    reviews: Vec<Review>,
}

impl Shown {
    async fn of(api: &Api, whole: &Entry, standing: StandingPlan) -> Result<Self, Failure> {
        let StandingPlan { plan, order, better_once, kept_at_us } = standing;
        let StandingOrder { split, fallback, spares } = order;
        let reviews = api.store.reviews(whole.model.digest).await?;
        let made = api.plans.find(plan.as_str()).ok().map(|kept| plans::Shown::of(kept, api));
        let (name, model) = (whole.model.name.clone(), whole.model.digest);
        Ok(Self { name, model, plan, split, fallback, spares, better_once, kept_at_us, made, reviews })
    }
}

/// Keep a plan for a model
///
/// Whichever is best is made, proven, and stands from then on in place of the one that did: requests with the plan `auto`
/// run under it. Where splitting is not worth it, that is the whole model. It is reviewed as answers are given, and
/// replaced by one that was measured to be better twice.
#[utoipa::path(put, path = "/api/v1/models/{name}/plan", tag = "plans", params(("name" = String, Path)),
    request_body = StandingOrder, responses((status = 200, body = Shown)))]
pub(super) async fn keep(
    State(api): State<Arc<Api>>,
    Extension(caller): Extension<Caller>,
    Extension(origin): Extension<Origin>,
    name: Name,
    body: Result<String, StringRejection>,
) -> Result<Json<Shown>, Problem> {
    let Path(name) = name?;
    let order: StandingOrder =
        serde_json::from_str(&body?).map_err(|error| Failure::invalid(error.to_string()))?;
    let whole = models::find(&api, &name)?;
    let cutting = splits::cutting(&api, &whole, &order.split).await?;
    let plan = if cutting.split.is_whole() {
        PlanId::single()
    } else {
        let trial = Trial { api: &api, whole: &whole, caller, origin, priority: 0 };
        let making = Making { trial, fallback: order.fallback, spares: order.spares, own: true };
        making.split(cutting).await?.id
    };
    let standing = StandingPlan { plan, order, better_once: None, kept_at_us: tasks::now_us() };
    let before = api.plans.stand(whole.model.digest, standing.clone(), None, None).await?;
    whole.served.reviewed();
    retire(&api, before).await;
    let shown = Shown::of(&api, &whole, standing).await?;
    api.events.publish(Topic::Plans, || json!({"standing": &shown}));
    Ok(Json(shown))
}

/// The plan that stands for a model
///
/// With the latest hundred reviews.
#[utoipa::path(get, path = "/api/v1/models/{name}/plan", tag = "plans", params(("name" = String, Path)),
    responses((status = 200, body = Shown)))]
pub(super) async fn show(State(api): State<Arc<Api>>, name: Name) -> Result<Json<Shown>, Problem> {
    let Path(name) = name?;
    let whole = models::find(&api, &name)?;
    let standing = api.plans.standing(whole.model.digest).ok_or_else(|| none(&whole))?;
    Ok(Json(Shown::of(&api, &whole, standing).await?))
}

/// Keep no plan for a model
///
/// Requests with the plan `auto` run as the whole model from then on; a plan that was made to stand goes once its last
/// request has ended, with its shards.
#[utoipa::path(delete, path = "/api/v1/models/{name}/plan", tag = "plans", params(("name" = String, Path)),
    responses((status = 200, body = Shown)))]
pub(super) async fn drop_it(State(api): State<Arc<Api>>, name: Name) -> Result<Json<Shown>, Problem> {
    let Path(name) = name?;
    let whole = models::find(&api, &name)?;
    let standing = api.plans.standing(whole.model.digest).ok_or_else(|| none(&whole))?;
    let shown = Shown::of(&api, &whole, standing).await?;
    fall(&api, whole.model.digest).await?;
    api.events.publish(Topic::Plans, || json!({"dropped": &shown}));
    Ok(Json(shown))
}

/// Review the plan that stands for a model
///
/// Forecasts anew from what was learned; what is forecast to save a tenth is made and proven, and both are measured in
/// turns, behind all that others ask. One that saves a tenth in two reviews takes the place of the plan.
#[utoipa::path(post, path = "/api/v1/models/{name}/plan/review", tag = "plans", params(("name" = String, Path)),
    responses((status = 200, body = Review)))]
pub(super) async fn review(State(api): State<Arc<Api>>, name: Name) -> Result<Json<Review>, Problem> {
    let Path(name) = name?;
    let whole = models::find(&api, &name)?;
    if api.plans.standing(whole.model.digest).is_none() {
        return Err(none(&whole));
    }
    Ok(Json(reviews::now(&api, &whole).await?))
}

/// Has nothing stand for a model any more, which may itself be gone.
pub(super) async fn fall(api: &Arc<Api>, model: Digest) -> Result<(), Failure> {
    let before = api.plans.fall(model).await?;
    retire(api, before).await;
    Ok(())
}

/// Forgets what stood and what was to stand.
async fn retire(api: &Arc<Api>, before: Option<StandingPlan>) {
    let Some(StandingPlan { plan, better_once, .. }) = before else { return };
    for id in [Some(plan), better_once].into_iter().flatten() {
        making::retire(api, id).await;
    }
}

fn none(whole: &Entry) -> Problem {
    let name = &whole.model.name;
    Problem::not_found(format!("no plan is kept for {name}: `weft plan keep {name}` keeps one"))
}
