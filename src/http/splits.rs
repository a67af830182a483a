//! How a model would be split over the lanes that are there, and plans that are made so.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use axum::{
    Json,
    extract::{State, rejection::StringRejection},
};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{
    Api, Problem,
    measured::{self, Samples},
    models,
};
use crate::{
    domain::{Chain, Code, Digest, Environment, Failure, LaneId, ModelName, Place, Plan, PlanStage, Retry},
    models::{Entry, Open, Opening},
    planner::{self, Alternative, Candidate, Objective, PlanError, Shape, Split, SplitOrder, Strategy},
    predict::{self, Host, LaneKind, LinkSample, Seen, StepSample, Work},
    scheduler::Pace,
    tasks,
};

/// Of a lane's heap, what weights may take: as much again is needed while they are loaded, or for the copies that an
/// engine makes to compute with.
const WEIGHTS_SHARE: u64 = 2;

/// On a loaded machine a browser is launched and has compiled its engines in this.
const LANES_WITHIN: Duration = Duration::from_secs(60);

/// A question for a split
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = ForecastOrder)]
pub(super) struct Order {
    /// The whole model: a name, `NAME@VERSION` or a SHA-256.
    model: String,
    #[serde(default)]
    split: SplitOrder,
}

/// How a model would be split
#[derive(Serialize, ToSchema)]
#[schema(as = ForecastSplit)]
pub(super) struct Shown {
    name: ModelName,
    model: Digest,
    /// Parts that are never separated.
    units: usize,
    #[serde(flatten)]
    split: Split,
}

/// Forecast how a model would be split
///
/// Nothing is made, loaded or run.
#[utoipa::path(post, path = "/api/v1/plans/forecast", tag = "plans", request_body = Order,
    responses((status = 200, body = Shown)))]
pub(super) async fn forecast(
    State(api): State<Arc<Api>>,
    body: Result<String, StringRejection>,
) -> Result<Json<Shown>, Problem> {
    let Order { model, split } =
        serde_json::from_str(&body?).map_err(|error| Failure::invalid(error.to_string()))?;
    let whole = models::find(&api, &model)?;
    let Cutting { open, split } = cutting(&api, &whole, &split).await?;
    let units = open.chain().units.len();
    Ok(Json(Shown { name: whole.model.name.clone(), model: whole.model.digest, units, split }))
}

/// A model that is open, and how it is to be cut over which lanes.
pub(super) struct Cutting {
    open: Open,
    pub(super) split: Split,
}

/// Opens a model and splits it over the wanted ones of the lanes that there are.
pub(super) async fn cutting(
    api: &Arc<Api>,
    whole: &Arc<Entry>,
    wanted: &SplitOrder,
) -> Result<Cutting, Failure> {
    let paces = meant(paces(api, whole.model.digest, wanted).await, &wanted.lanes)?;
    let native = paces.iter().filter(|pace| pace.environment.backend.is_native()).count();
    let ways = paces.len() - native;
    let (open, split) = match wanted.strategy {
        Strategy::Tensor if ways < 2 => {
            let message =
                format!("the strategy tensor needs two lanes beside the native one, and there are {ways}");
            return Err(Failure::invalid(message));
        }
        Strategy::Tensor => opened(api, &paces, whole, wanted, Some(ways)).await?,
        Strategy::Auto if ways >= 2 && native > 0 && wanted.objective != Objective::Memory => {
            either(api, &paces, whole, wanted, ways).await?
        }
        _ => opened(api, &paces, whole, wanted, None).await?,
    };
    Ok(Cutting { open, split })
}

/// Opens a model, its products whole or in so many ways, and splits it.
async fn opened(
    api: &Arc<Api>,
    paces: &[Pace],
    whole: &Arc<Entry>,
    wanted: &SplitOrder,
    ways: Option<usize>,
) -> Result<(Open, Split), Failure> {
    let open = api.plans.open_whole(whole, Opening { ways, activations: wanted.activations }).await?;
    let strategy = if ways.is_some() { Strategy::Tensor } else { wanted.strategy };
    let split = split_over(api, paces, whole, &open, strategy, wanted).await?;
    Ok((open, split))
}

/// The better of products that stay whole and of those in ways, which is tried first since one model is open at a time.
async fn either(
    api: &Arc<Api>,
    paces: &[Pace],
    whole: &Arc<Entry>,
    wanted: &SplitOrder,
    ways: usize,
) -> Result<(Open, Split), Failure> {
    let dealt = opened(api, paces, whole, wanted, Some(ways)).await.map(|(_, split)| split);
    let kept = opened(api, paces, whole, wanted, None).await;
    let tried = match &dealt {
        Ok(split) => {
            let cost_us = Some(split.forecast.cost_us.value);
            Alternative { shape: Shape::Tensor, cost_us, refused: None }
        }
        Err(refused) => {
            Alternative { shape: Shape::Tensor, cost_us: None, refused: Some(refused.message.clone()) }
        }
    };
    let better = match (&dealt, &kept) {
        (Ok(dealt), Ok((_, kept))) => saves(dealt, kept),
        (dealt, kept) => dealt.is_ok() && kept.is_err(),
    };
    let (open, mut split) = if better {
        let others = kept.map(|(_, split)| split.alternatives);
        let (open, mut split) = opened(api, paces, whole, wanted, Some(ways)).await?;
        if let Ok(others) = others {
            split.alternatives = others;
        }
        (open, split)
    } else {
        kept?
    };
    split.alternatives.push(tried);
    Ok((open, split))
}

/// Whether products in several ways are worth it, and as much cheaper than the other split as that is than none.
fn saves(dealt: &Split, kept: &Split) -> bool {
    let least = if kept.why.worth { 1.0 - planner::GAIN_LEAST } else { 1.0 };
    dealt.why.worth && dealt.forecast.cost_us.value <= kept.forecast.cost_us.value * least
}

/// The lanes of these names, in their order, which is that of even stages; without any those that compute in hardware.
fn meant(paces: Vec<Pace>, names: &[LaneId]) -> Result<Vec<Pace>, Failure> {
    if names.is_empty() {
        return Ok(paces.into_iter().filter(|pace| !pace.environment.software_adapter()).collect());
    }
    let mut known: BTreeMap<_, _> =
        paces.into_iter().map(|pace| (pace.environment.lane.clone(), pace)).collect();
    if let Some(gone) = names.iter().find(|lane| !known.contains_key(lane)) {
        let there = known.keys().map(LaneId::as_str).collect::<Vec<_>>().join(", ");
        let message = format!("there is no lane {gone}, or not everybody may use it; there are {there}");
        return Err(Failure::new(Code::NoBackend, Retry::Never, message));
    }
    let named =
        |lane| known.remove(lane).ok_or_else(|| Failure::invalid(format!("the lane {lane} is named twice")));
    names.iter().map(named).collect()
}

/// The lanes that there are. While one that is named is not there, those that start are waited for.
async fn paces(api: &Api, model: Digest, wanted: &SplitOrder) -> Vec<Pace> {
    let paces = api.scheduler.paces(model).await;
    if wanted.lanes.iter().all(|lane| of(&paces, lane).is_some()) {
        return paces;
    }
    // Whether they came or not is seen next.
    let _ = tokio::time::timeout(LANES_WITHIN, api.pool.settled()).await;
    api.scheduler.paces(model).await
}

/// Splits a model over these lanes.
async fn split_over(
    api: &Arc<Api>,
    paces: &[Pace],
    whole: &Entry,
    open: &Open,
    strategy: Strategy,
    wanted: &SplitOrder,
) -> Result<Split, Failure> {
    let (objective, Known { lanes, host }) = (wanted.objective, known(api, paces, whole, open).await?);
    let (chain, stages) = (open.chain().clone(), wanted.stages.map(|stages| stages..=stages));
    let plan = move || {
        let (chain, lanes, host) = (&chain, &lanes, host.as_ref());
        planner::plan(&planner::Ask { chain, lanes, host, objective, strategy, stages })
    };
    let split = tokio::task::spawn_blocking(plan).await.expect("planning does not panic");
    split.map_err(|error| {
        let code = if error == PlanError::NoLanes { Code::NoBackend } else { Code::InvalidRequest };
        Failure::new(code, Retry::Never, error.to_string())
    })
}

/// The lanes and their machine as the planner sees them.
struct Known {
    lanes: Vec<Candidate>,
    host: Option<Host>,
}

async fn known(api: &Arc<Api>, paces: &[Pace], whole: &Entry, open: &Open) -> Result<Known, Failure> {
    let mut measured = measured::measured(api, whole.model.digest, open).await?;
    let candidate = |pace: &Pace| {
        let samples = measured.lanes.remove(&pace.environment.lane).unwrap_or_default();
        candidate(open.chain(), pace, &samples)
    };
    let lanes = paces.iter().map(candidate).collect();
    let processors = std::thread::available_parallelism().map_or(1.0, |count| count.get() as f64);
    Ok(Known { lanes, host: predict::refit_host(processors, &measured.loads) })
}

fn of<'p>(paces: &'p [Pace], lane: &LaneId) -> Option<&'p Pace> {
    paces.iter().find(|pace| pace.environment.lane == *lane)
}

/// A lane by what its steps took, else by what the whole took there, else as its like are thought to be.
fn candidate(
    chain: &Chain,
    Pace { environment, step_us, memory_max }: &Pace,
    samples: &Samples,
) -> Candidate {
    let Environment { lane, browser, backend, threads, .. } = environment;
    let kind = LaneKind {
        browser: browser.clone(),
        backend: backend.clone(),
        threads: *threads,
        software: environment.software_adapter(),
    };
    let work = Work::of(chain, 0..chain.units.len());
    let guess =
        step_us.map_or_else(|| predict::speed(&kind), |step_us| predict::scaled(&kind, &work, step_us));
    let mut speed = predict::refit_speed(&guess, &samples.steps).map_or(guess, |refit| refit.model);
    let link = predict::link(&kind);
    let link = predict::refit_link(&link, &samples.transfers).map_or(link, |refit| refit.model);
    let seen = |(step, transfer): &(StepSample, LinkSample)| Seen {
        forecast_us: speed.step(&step.work)
            + link.round_trip_us
            + link.moving(transfer.down_bytes, transfer.up_bytes),
        took_us: step.micros + transfer.micros,
    };
    speed.step_us += predict::held_up(&samples.latest.iter().map(seen).collect::<Vec<_>>());
    let memory = memory_max.map_or(u64::MAX, |heap| heap / WEIGHTS_SHARE);
    Candidate { id: lane.clone(), kind, speed, link, memory }
}

/// The shards of a split with where each runs, made as it says; and those of them that were not there before.
pub(super) struct Stages {
    pub(super) shards: Vec<(Arc<Entry>, Place)>,
    pub(super) new: Vec<Arc<Entry>>,
}

/// Makes the parts of a split models of their own.
pub(super) async fn stages(api: &Arc<Api>, cutting: Cutting) -> Result<Stages, Failure> {
    let places = places(&cutting.split);
    let groups = cutting.split.stages.iter().map(|stage| units(stage).collect()).collect();
    let cut = api.plans.cut(&cutting.open, groups, tasks::now_us()).await?;
    Ok(Stages { shards: cut.shards.into_iter().zip(places).collect(), new: cut.new })
}

fn units(stage: &planner::StagePlan) -> impl Iterator<Item = u32> {
    stage.units.iter().flat_map(|run| run.from..run.to)
}

/// Where the stages of a split run.
fn places(split: &Split) -> Vec<Place> {
    let place = |lanes: &[LaneId]| match lanes {
        [lane] => Place { lane: Some(lane.clone()), ..Place::default() },
        lanes => {
            // In one order, so that the same lanes are the same place.
            let mut lanes = lanes.to_vec();
            lanes.sort();
            Place { lanes, ..Place::default() }
        }
    };
    split.stages.iter().map(|stage| place(&stage.lanes)).collect()
}

/// Whether a split is what a plan of the model does already.
pub(super) fn is(api: &Api, cutting: &Cutting, plan: &Plan) -> bool {
    let Ok(shards) = api.plans.shards(plan) else { return false };
    let stages = cutting.split.stages.iter().zip(places(&cutting.split));
    let alike =
        |((stage, place), (kept, shard)): ((&planner::StagePlan, Place), (&PlanStage, &Arc<Entry>))| {
            let own = measured::units(shard, plan.model, &cutting.open);
            place == kept.place
                && own.is_some_and(|own| own.into_iter().eq(units(stage).map(|unit| unit as usize)))
        };
    plan.stages.len() == cutting.split.stages.len() && stages.zip(plan.stages.iter().zip(&shards)).all(alike)
}

/// Microseconds, by the objective, that a plan of the model is forecast to take; none where its shards were not cut here,
/// or a stage's lane is not there.
pub(super) async fn cost(
    api: &Arc<Api>,
    whole: &Arc<Entry>,
    wanted: &SplitOrder,
    plan: &Plan,
) -> Result<Option<f64>, Failure> {
    let Ok(shards) = api.plans.shards(plan) else { return Ok(None) };
    let ways =
        shards.iter().find_map(|shard| shard.model.conversion.as_ref()?.shard_ways.as_ref()?.parse().ok());
    let paces = meant(paces(api, whole.model.digest, wanted).await, &wanted.lanes)?;
    let open = api.plans.open_whole(whole, Opening { ways, activations: wanted.activations }).await?;
    let stage = |(stage, shard): (&PlanStage, &Arc<Entry>)| {
        let lanes = (0..paces.len()).filter(|at| is_in(&stage.place, &paces[*at].environment)).collect();
        Some((measured::units(shard, plan.model, &open)?, lanes))
    };
    let Some(stages) = plan.stages.iter().zip(&shards).map(stage).collect::<Option<Vec<_>>>() else {
        return Ok(None);
    };
    let Known { lanes, host } = known(api, &paces, whole, &open).await?;
    let (chain, lanes, host) = (open.chain(), &lanes, host.as_ref());
    let (objective, strategy) = (wanted.objective, wanted.strategy);
    Ok(planner::cost(&planner::Ask { chain, lanes, host, objective, strategy, stages: None }, stages))
}

fn is_in(Place { lane, lanes, browser, backend }: &Place, environment: &Environment) -> bool {
    lane.as_ref().is_none_or(|lane| *lane == environment.lane)
        && (lanes.is_empty() || lanes.contains(&environment.lane))
        && browser.as_ref().is_none_or(|browser| *browser == environment.browser)
        && backend.as_ref().is_none_or(|backend| *backend == environment.backend)
}
