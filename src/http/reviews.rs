//! Whether there is a better plan than the one that stands for a model: forecast, made, measured beside it, and put in
//! its place once it was better twice.

use std::sync::Arc;

use serde_json::json;
use tokio::sync::{Mutex, OwnedMutexGuard, oneshot};

use super::{
    Api, Problem, making,
    making::Making,
    models, plans,
    splits::{self, Cutting},
    trial::{Side, Trial},
};
use crate::{
    domain::{Costs, Failure, PlanId, Review, ReviewVerdict},
    models::{Entry, StandingOrder, StandingPlan},
    planner,
    protocol::client::Topic,
    scheduler, tasks,
};

/// Answers of a model from one review to the next: enough to learn from, as forecasts go by the latest 32 of a plan, and
/// so many that what a review takes is little beside them.
const REVIEW_EVERY: u64 = 256;

/// The reviews' turn: two at once would measure each other.
#[derive(Clone, Default)]
pub struct Reviews(Arc<Mutex<()>>);

/// Begins a review where it is time for one and none is under way.
pub(super) fn when_due(api: &Arc<Api>, whole: &Arc<Entry>) {
    if whole.served.unreviewed() >= REVIEW_EVERY
        && let Ok(turn) = api.reviews.0.clone().try_lock_owned()
    {
        // Whoever asked last is not kept waiting for it.
        drop(begin(api, whole, turn));
    }
}

/// Reviews what stands for a model now.
pub(super) async fn now(api: &Arc<Api>, whole: &Arc<Entry>) -> Result<Review, Problem> {
    let turn = api.reviews.0.clone().try_lock_owned();
    let turn =
        turn.map_err(|_| Problem::conflict("a review is under way: ask again once it is done".to_owned()))?;
    Ok(begin(api, whole, turn).await.unwrap_or_else(|_| Err(scheduler::stopping()))?)
}

/// Runs to its end, also when whoever asked for it has left.
fn begin(
    api: &Arc<Api>,
    whole: &Arc<Entry>,
    turn: OwnedMutexGuard<()>,
) -> oneshot::Receiver<Result<Review, Failure>> {
    let (done, reviewed) = oneshot::channel();
    let (api, whole) = (api.clone(), whole.clone());
    let tasks = api.tasks.clone();
    tasks.spawn("review", async move {
        // A daemon that drains waits for what was begun to be cleared away.
        let Some(under_way) = api.tasks.accept() else { return };
        let review = review(&api, &whole).await;
        for entry in api.registry.list().iter().filter(|entry| entry.model.digest == whole.model.digest) {
            entry.served.reviewed();
        }
        drop((turn, under_way));
        // Nobody waits for one that came of itself.
        let _ = done.send(review);
    });
    reviewed
}

async fn review(api: &Arc<Api>, whole: &Arc<Entry>) -> Result<Review, Failure> {
    let model = whole.model.digest;
    let Some(standing) = api.plans.standing(model) else {
        return Err(Failure::invalid(format!("no plan is kept for {}", whole.model.name)));
    };
    let mut review = Review {
        model,
        at_us: tasks::now_us(),
        standing: standing.plan.clone(),
        candidate: None,
        forecast_us: Costs::default(),
        measured_us: Costs::default(),
        verdict: ReviewVerdict::Kept,
        says: String::new(),
    };
    let mut next = standing.clone();
    if let Err(failure) = look(api, whole, &mut next, &mut review).await {
        next = standing.clone();
        review.verdict = ReviewVerdict::GivenUp;
        review.says = format!("Given up: {}.", failure.message);
    }
    if let Err(error) = api.plans.stand(model, next, Some(&standing), Some(review.clone())).await {
        review.verdict = ReviewVerdict::GivenUp;
        review.says = format!("Given up: {error}.");
    }
    tracing::info!(model = %whole.model.name, ?review, "a standing plan was reviewed");
    // Whichever of them stands, or was better once, stays.
    let concerned = [Some(standing.plan), standing.better_once, review.candidate.clone()];
    for id in concerned.into_iter().flatten() {
        making::retire(api, id).await;
    }
    api.events.publish(Topic::Plans, || json!({"reviewed": &review}));
    Ok(review)
}

/// Looks for a better plan and tries it; says in `next` what is to stand, and in `review` why.
async fn look(
    api: &Arc<Api>,
    whole: &Arc<Entry>,
    next: &mut StandingPlan,
    review: &mut Review,
) -> Result<(), Failure> {
    let before = next.better_once.take();
    let Some(candidate) = candidate(api, whole, next, before.as_ref(), review).await? else { return Ok(()) };
    review.candidate = Some(candidate.clone());
    let (standing, tried) = (as_it_serves(api, &next.plan)?, in_its_lanes(api, &candidate)?);
    let measure = async {
        if standing.is_none() || tried.is_none() {
            // Else the whole model would be answered elsewhere until it is loaded where it belongs.
            api.scheduler.prove(whole.clone(), plans::whole_wants(api), models::PROVE_WITHIN).await?;
        }
        let trial = Trial::in_nobodys_way(api, whole);
        trial.compare(&standing, &tried, next.order.split.objective).await
    };
    review.measured_us = unless_ending(api, measure).await?;
    review.verdict = planner::verdict(review.measured_us, before.as_ref() == Some(&candidate));
    let measured = told(review.measured_us);
    let (least, standing) = (planner::GAIN_LEAST * 100.0, &next.plan);
    review.says = match review.verdict {
        ReviewVerdict::Kept | ReviewVerdict::GivenUp => {
            format!(
                "{standing} stays, because {candidate} does not save {least:.0} %: {measured} were measured."
            )
        }
        ReviewVerdict::BetterOnce => format!(
            "{candidate} saves {least:.0} % or more, {measured} were measured, and replaces {standing} if the next review \
             says so too."
        ),
        ReviewVerdict::Replaced => {
            format!("{candidate} replaces {standing}, because it was better twice: {measured} were measured.")
        }
    };
    match review.verdict {
        ReviewVerdict::BetterOnce => next.better_once = Some(candidate),
        ReviewVerdict::Replaced => next.plan = candidate,
        ReviewVerdict::Kept | ReviewVerdict::GivenUp => {}
    }
    Ok(())
}

/// What is worth a trial: what was better in the last review, as long as it is forecast to be, else the best split, which
/// is made. None where what stands is as good.
async fn candidate(
    api: &Arc<Api>,
    whole: &Arc<Entry>,
    standing: &StandingPlan,
    before: Option<&PlanId>,
    review: &mut Review,
) -> Result<Option<PlanId>, Failure> {
    let split = &standing.order.split;
    let cost = async |id: &PlanId| match api.plans.find(id.as_str()) {
        Ok(kept) => splits::cost(api, whole, split, &kept.plan).await,
        Err(_) => Ok(None),
    };
    let (mut standing_us, mut before_us) = (cost(&standing.plan).await?, None);
    if let Some(before) = before {
        before_us = cost(before).await?;
    }
    let cutting = splits::cutting(api, whole, split).await?;
    let of_whole = |id: &PlanId, cost| if id.is_single() { cutting.split.whole_us() } else { cost };
    standing_us = of_whole(&standing.plan, standing_us);
    if let Some(before) = before {
        review.forecast_us = Costs { standing: standing_us, candidate: of_whole(before, before_us) };
        let is_there = before.is_single() || api.plans.find(before.as_str()).is_ok();
        if is_there && planner::is_worth_a_trial(review.forecast_us) {
            return Ok(Some(before.clone()));
        }
    }
    let candidate_us = Some(cutting.split.forecast.cost_us.value);
    review.forecast_us = Costs { standing: standing_us, candidate: candidate_us };
    if is_same(api, &cutting, &standing.plan) {
        review.says = format!("{} stays, because it is the best split still.", standing.plan);
        return Ok(None);
    }
    if !planner::is_worth_a_trial(review.forecast_us) {
        let (least, forecast) = (planner::GAIN_LEAST * 100.0, told(review.forecast_us));
        let standing = &standing.plan;
        review.says =
            format!("{standing} stays, because no split saves {least:.0} %: {forecast} are forecast.");
        return Ok(None);
    }
    made(api, whole, &standing.order, cutting).await.map(Some)
}

/// Makes and proves what a split says; the whole model is there already.
async fn made(
    api: &Arc<Api>,
    whole: &Arc<Entry>,
    order: &StandingOrder,
    cutting: Cutting,
) -> Result<PlanId, Failure> {
    if cutting.split.is_whole() {
        return Ok(PlanId::single());
    }
    let trial = Trial::in_nobodys_way(api, whole);
    let making = Making { trial, fallback: order.fallback, spares: order.spares, own: true };
    Ok(making.split(cutting).await?.id)
}

/// Whether a split is what stands already.
fn is_same(api: &Api, cutting: &Cutting, standing: &PlanId) -> bool {
    match api.plans.find(standing.as_str()) {
        Ok(kept) => splits::is(api, cutting, &kept.plan),
        Err(_) => standing.is_single() && cutting.split.is_whole(),
    }
}

/// A plan wherever its stages run at the moment, or the whole model.
fn as_it_serves(api: &Api, id: &PlanId) -> Result<Side, Failure> {
    if id.is_single() {
        return Ok(None);
    }
    let (kept, in_use) = api.plans.using(id)?;
    Ok(Some(Arc::new(plans::planned(api, kept.id, kept.plan, Some(in_use), false)?)))
}

/// The same in the plan's own lanes: what others take for it says nothing of it.
fn in_its_lanes(api: &Api, id: &PlanId) -> Result<Side, Failure> {
    if id.is_single() {
        return Ok(None);
    }
    let (kept, in_use) = api.plans.using(id)?;
    Ok(Some(Arc::new(plans::planned_strictly(api, kept.id, &kept.plan, Some(in_use))?)))
}

/// What the daemon does by itself ends when it takes nothing more.
pub(super) async fn unless_ending<T>(
    api: &Api,
    work: impl Future<Output = Result<T, Failure>>,
) -> Result<T, Failure> {
    tokio::select! {
        biased;
        () = api.tasks.ending().cancelled_owned() => Err(scheduler::stopping()),
        done = work => done,
    }
}

fn told(Costs { standing, candidate }: Costs) -> String {
    let time = |us: Option<f64>| us.map_or_else(|| "unknown".to_owned(), |us| format!("{:.2} ms", us / 1e3));
    format!("{} beside {}", time(candidate), time(standing))
}
