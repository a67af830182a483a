//! From a graph, lanes and a goal to a split: which units run in which lane, what that is forecast to take, and whether it
//! is worth it. Pure.
//!
//! `step` says what a step takes, `table` what every contiguous stage would; `programme` finds the best sequence of
//! stages, over the `orders` in which lanes may follow each other. `component`, `alternate` and `tensor` are the strategies
//! whose stages are no sequence of lanes. `schedule` forecasts any stages, `bound` says what no split can beat, and `rule`
//! compares with not splitting at all. `review` says when a better plan takes the place of one that stands.

mod alternate;
mod bound;
mod component;
mod contiguous;
mod order;
mod orders;
mod programme;
mod review;
mod rule;
mod schedule;
mod search;
mod split;
mod step;
mod table;
mod tensor;
#[cfg(test)]
mod tests;

pub use order::SplitOrder;
pub use review::{is_worth_a_trial, verdict};
pub use rule::GAIN_LEAST;
pub use split::{Alternative, Bound, Forecast, Reason, Shape, Split, StagePlan, Why};

use std::ops::RangeInclusive;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::{
    domain::{Chain, ChainError, LaneId},
    predict::{Host, LaneKind, Link, Speed},
};

/// A lane as the planner sees it.
#[derive(Clone, Debug, PartialEq)]
pub struct Candidate {
    pub id: LaneId,
    pub kind: LaneKind,
    pub speed: Speed,
    pub link: Link,
    /// Bytes of weights that it can hold.
    pub memory: u64,
}

/// What a split is to be good for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(tag = "for", rename_all = "snake_case")]
pub enum Objective {
    /// One request at a time, answered soon.
    Latency,
    /// Many requests, so many of them under way at a time.
    Throughput {
        #[schema(value_type = u64, maximum = 4_294_967_295_u64)]
        in_flight: u32,
    },
    /// So many requests that are all there at once, the last answered soon.
    Stream {
        #[schema(value_type = u64, maximum = 4_294_967_295_u64)]
        requests: u32,
    },
    /// A model that has to fit: in as few lanes as hold it.
    Memory,
}

impl Objective {
    /// Microseconds that it judges by, of a split that takes so long for one request and between two of many.
    pub fn cost(self, latency_us: f64, period_us: f64) -> f64 {
        match self {
            Self::Latency | Self::Memory => latency_us,
            Self::Throughput { in_flight } => period_us.max(latency_us / f64::from(in_flight.max(1))),
            Self::Stream { requests } => latency_us + f64::from(requests.saturating_sub(1)) * period_us,
        }
    }
}

/// How a graph is split.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Strategy {
    /// Whatever is best, not splitting included.
    Auto,
    /// Stages that follow each other, each in a lane of its own.
    Pipeline,
    /// The same with equal operations per stage, whatever the lanes.
    Even,
    /// Independent towers beside each other, then what joins them.
    Component,
    /// Attention in lanes of one kind, feed-forward in those of another, in the order of the graph.
    AttentionFeedforward,
    /// A pipeline whose stages may have several lanes.
    Hybrid,
    /// Products of matrices in several ways beside each other, and their sums in a native lane. The chain is one of a
    /// graph whose products are split.
    Tensor,
}

/// What is to be planned.
#[derive(Clone, Debug)]
pub struct Ask<'a> {
    pub chain: &'a Chain,
    pub lanes: &'a [Candidate],
    /// The machine that the lanes share; nothing where it has not been busy yet.
    pub host: Option<&'a Host>,
    pub objective: Objective,
    pub strategy: Strategy,
    /// How many stages; nothing where the planner may choose.
    pub stages: Option<RangeInclusive<usize>>,
}

#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum PlanError {
    #[error(transparent)]
    Chain(#[from] ChainError),
    #[error("there is no lane to plan for: start a browser, or allow the native lane")]
    NoLanes,
    #[error("{least} to {most} stages is no number of stages: ask for at least one")]
    Stages { least: usize, most: usize },
    #[error("{asked} stages were asked for, and the graph can be cut into {most} at most")]
    Frontiers { asked: usize, most: usize },
    #[error("{asked} stages need as many lanes, and there are {lanes}: add lanes, or ask for fewer stages")]
    Lanes { asked: usize, lanes: usize },
    #[error(
        "the weights fit nowhere: they take {needed_bytes} bytes, the lanes hold {held_bytes}, and in the best split a lane \
         lacks {missing_bytes}: add lanes, raise their memory, or take a smaller variant"
    )]
    Memory {
        /// Of all weights, each once.
        needed_bytes: u64,
        /// By all lanes together.
        held_bytes: u64,
        /// By the lane that lacks most, in the split in which that is least.
        missing_bytes: u64,
    },
    #[error("the strategy {} does not suit this graph and these lanes: {reason}", strategy.as_str())]
    Refused { strategy: Strategy, reason: String },
}

impl Strategy {
    pub const ALL: [Self; 7] = [
        Self::Auto,
        Self::Pipeline,
        Self::Even,
        Self::Component,
        Self::AttentionFeedforward,
        Self::Hybrid,
        Self::Tensor,
    ];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Pipeline => "pipeline",
            Self::Even => "even",
            Self::Component => "component",
            Self::AttentionFeedforward => "attention_feedforward",
            Self::Hybrid => "hybrid",
            Self::Tensor => "tensor",
        }
    }
}

impl std::str::FromStr for Strategy {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Self::ALL
            .into_iter()
            .find(|strategy| strategy.as_str() == text)
            .ok_or_else(|| format!("{text:?} is no strategy: use {}", Self::ALL.map(Self::as_str).join(", ")))
    }
}

/// Microseconds, by the objective, of stages that somebody has: of each its units and its lanes, by their places. None
/// where these are not all units, each once.
pub fn cost(ask: &Ask<'_>, stages: Vec<(Vec<usize>, Vec<usize>)>) -> Option<f64> {
    let mut units: Vec<_> = stages.iter().flat_map(|(units, _)| units.iter().copied()).collect();
    units.sort_unstable();
    let seated =
        stages.iter().all(|(_, lanes)| !lanes.is_empty() && lanes.iter().all(|at| *at < ask.lanes.len()));
    if !seated || !units.into_iter().eq(0..ask.chain.units.len()) {
        return None;
    }
    let placed = stages.into_iter().map(|(units, lanes)| schedule::Placed { units, lanes }).collect();
    Some(split::Made::new(&step::Scene::new(ask), Shape::Pipeline, placed).cost)
}

/// The best split that the strategy allows, or why there is none. The same question has the same answer.
pub fn plan(ask: &Ask<'_>) -> Result<Split, PlanError> {
    ask.chain.check()?;
    if ask.lanes.is_empty() {
        return Err(PlanError::NoLanes);
    }
    if let Some(stages) = &ask.stages {
        let (least, most, units) = (*stages.start(), *stages.end(), ask.chain.units.len());
        if least == 0 || least > most {
            return Err(PlanError::Stages { least, most });
        }
        if least > units {
            return Err(PlanError::Frontiers { asked: least, most: units });
        }
    }
    rule::plan(&step::Scene::new(ask))
}
