//! What the planner answers.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{Objective, schedule, step::Scene};
use crate::{domain::LaneId, predict::Estimate};

/// Stages in lanes, with what they are forecast to take and why it is these.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Split {
    pub shape: Shape,
    pub objective: Objective,
    /// In an order in which every value is made before it is read.
    pub stages: Vec<StagePlan>,
    pub forecast: Forecast,
    pub bound: Bound,
    /// What it was compared with.
    pub alternatives: Vec<Alternative>,
    pub why: Why,
}

/// How a model's work is laid out over lanes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Shape {
    /// The whole in one lane.
    Single,
    /// The whole in each of several lanes.
    Replicas,
    Pipeline,
    Even,
    Component,
    AttentionFeedforward,
    Hybrid,
    Tensor,
}

/// A stage with what it is forecast to take in its lanes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct StagePlan {
    /// Ascending, and never touching each other.
    pub units: Vec<UnitRange>,
    /// Any one of them answers a request.
    pub lanes: Vec<LaneId>,
    /// Places of the stages whose values it reads.
    pub after: Vec<u32>,
    /// Microseconds that the lane computes; of several, in the middle of their requests.
    pub compute_us: Estimate,
    /// Microseconds that a request and its answer are under way beside that.
    pub transfer_us: Estimate,
    /// Bytes of the weights that each of its lanes holds.
    pub weight_bytes: u64,
    /// Bytes of one request's values to the stage.
    pub bytes_in: f64,
    /// Bytes of one request's values from the stage.
    pub bytes_out: f64,
}

/// Units from one up to, and without, another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct UnitRange {
    pub from: u32,
    pub to: u32,
}

/// What a split is forecast to do.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Forecast {
    /// Microseconds of one request that is alone.
    pub latency_us: Estimate,
    /// Microseconds between two answers, with as many requests under way as the lanes take.
    pub period_us: Estimate,
    /// Requests per second, with as many under way as the objective says.
    pub per_second: Estimate,
    /// Microseconds that the objective judges by.
    pub cost_us: Estimate,
    /// Whether all its lanes and links have been measured; a guess otherwise.
    pub measured: bool,
}

/// What no split in these lanes can beat.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Bound {
    /// Microseconds, by the objective.
    pub cost_us: f64,
    /// How far the split is above it, as a share of it.
    pub gap: f64,
}

/// Another shape, with its cost or what forbids it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Alternative {
    pub shape: Shape,
    /// Microseconds, by the objective.
    pub cost_us: Option<f64>,
    pub refused: Option<String>,
}

/// Whether splitting is worth it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Why {
    pub worth: bool,
    pub reason: Reason,
    /// What not splitting takes, as a multiple of what the best split found takes.
    pub gain: Option<f64>,
    /// The same for people.
    pub sentence: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Reason {
    /// No lane holds the whole.
    OnlySplitFits,
    /// It is measured to be faster.
    Faster,
    /// It is thought to be faster, by speeds that nobody has measured.
    NotMeasured,
    /// One lane is as fast, or nearly.
    OneLane,
    /// The whole in each lane is as fast, or nearly.
    Replicas,
    /// It was to fit, and one lane holds the whole.
    Fits,
    /// These lanes and this graph allow no split.
    NoSplit,
}

impl Shape {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Single => "single",
            Self::Replicas => "replicas",
            Self::Pipeline => "pipeline",
            Self::Even => "even",
            Self::Component => "component",
            Self::AttentionFeedforward => "attention_feedforward",
            Self::Hybrid => "hybrid",
            Self::Tensor => "tensor",
        }
    }
}

/// Stages that were found, with what they are forecast to cost.
#[derive(Clone, Debug)]
pub(super) struct Made {
    pub(super) shape: Shape,
    pub(super) stages: Vec<schedule::Placed>,
    pub(super) loads: Vec<schedule::Load>,
    pub(super) times: schedule::Times,
    pub(super) cost: f64,
}

impl Made {
    pub(super) fn new(scene: &Scene<'_>, shape: Shape, stages: Vec<schedule::Placed>) -> Self {
        let loads = schedule::loads(scene.chain, stages.iter().map(|stage| stage.units.as_slice()));
        let likely = schedule::Figure::Likely;
        let step =
            |stage: usize, lane| schedule::step(scene, &stages[stage].units, &loads[stage], lane, likely);
        let mut times = schedule::times(&stages, &loads, step);
        times.period = times.period.max(schedule::host_period(scene, &stages, &loads, step, likely));
        let cost = scene.objective.cost(times.latency, times.period);
        Self { shape, stages, loads, times, cost }
    }

    /// Whether everything that it rests on was measured.
    pub(super) fn measured(&self, scene: &Scene<'_>) -> bool {
        let mut lanes = self.stages.iter().flat_map(|stage| &stage.lanes).map(|lane| &scene.lanes[*lane]);
        lanes.all(|lane| lane.speed.samples > 0 && lane.link.samples > 0)
    }

    pub(super) fn forecast(&self, scene: &Scene<'_>) -> Forecast {
        let (latency_us, period_us) = schedule::estimates(scene, &self.stages, &self.loads);
        let both = |of: &dyn Fn(f64, f64) -> f64| Estimate {
            value: of(latency_us.value, period_us.value),
            within: latency_us.within.zip(period_us.within).map(|(latency, period)| crate::predict::Within {
                low: of(latency.low, period.low),
                high: of(latency.high, period.high),
            }),
        };
        let each_us = match scene.objective {
            Objective::Latency | Objective::Memory => period_us,
            Objective::Throughput { .. } => both(&|latency, period| scene.objective.cost(latency, period)),
            Objective::Stream { requests } => {
                both(&|latency, period| scene.objective.cost(latency, period) / f64::from(requests.max(1)))
            }
        };
        Forecast {
            latency_us,
            period_us,
            per_second: each_us.inverse(1e6),
            cost_us: both(&|latency, period| scene.objective.cost(latency, period)),
            measured: self.measured(scene),
        }
    }

    pub(super) fn stage_plans(&self, scene: &Scene<'_>) -> Vec<StagePlan> {
        self.stages.iter().zip(&self.loads).map(|(stage, load)| stage_plan(scene, stage, load)).collect()
    }
}

fn stage_plan(scene: &Scene<'_>, stage: &schedule::Placed, load: &schedule::Load) -> StagePlan {
    let (mut compute_us, mut transfer_us) = (Estimate::zero(), Estimate::zero());
    let steps: Vec<_> = stage
        .lanes
        .iter()
        .map(|lane| (*lane, schedule::step(scene, &stage.units, load, *lane, schedule::Figure::Likely)))
        .collect();
    let rate: f64 = steps.iter().map(|(_, step)| 1.0 / step.period()).sum();
    for (lane, step) in steps {
        let share = 1.0 / (step.period() * rate);
        let lane = &scene.lanes[lane];
        compute_us = compute_us.plus(Estimate::scaled(share * step.compute, lane.speed.within));
        let transfer = share * (step.moving + step.round_trip);
        transfer_us = transfer_us.plus(Estimate::scaled(transfer, lane.link.within));
    }
    let runs = stage.units.chunk_by(|a, b| a + 1 == *b);
    StagePlan {
        units: runs.map(|run| UnitRange { from: run[0] as u32, to: run[run.len() - 1] as u32 + 1 }).collect(),
        lanes: stage.lanes.iter().map(|lane| scene.lanes[*lane].id.clone()).collect(),
        after: load.after.iter().map(|stage| *stage as u32).collect(),
        compute_us,
        transfer_us,
        weight_bytes: load.weight_bytes,
        bytes_in: load.bytes_in,
        bytes_out: load.bytes_out,
    }
}
