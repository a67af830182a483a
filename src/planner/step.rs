//! What a step takes in a lane.

use std::ops::RangeInclusive;

use super::{Ask, Candidate, Objective, PlanError};
use crate::{domain::Chain, predict::Host};

/// Of the time that a step's bytes take, the share in which its lane cannot compute another request: a Worker reads and
/// writes its frames itself, and the sockets' side of it happens elsewhere.
const LANE_SHARE: f64 = 0.5;

/// Steps that a lane has at a time: one that it computes and one whose bytes are under way.
const STEPS_IN_LANE: f64 = 2.0;

/// Microseconds of a step that takes none, so that its rate is a number.
const PERIOD_LEAST: f64 = 1e-6;

/// Microseconds of one step.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct StepCost {
    pub(super) compute: f64,
    /// Of its bytes, both ways.
    pub(super) moving: f64,
    pub(super) round_trip: f64,
}

impl StepCost {
    /// From the daemon's sending to its having the answer.
    pub(super) fn latency(self) -> f64 {
        self.compute + self.moving + self.round_trip
    }

    /// In which the lane does this step and no other.
    pub(super) fn busy(self) -> f64 {
        self.compute + LANE_SHARE * self.moving
    }

    /// What it keeps of the lane's places, as a share of the time between two requests.
    pub(super) fn kept(self) -> f64 {
        self.latency() / STEPS_IN_LANE
    }

    /// Between two requests in a lane that does nothing else.
    pub(super) fn period(self) -> f64 {
        self.busy().max(self.kept()).max(PERIOD_LEAST)
    }
}

/// What is asked, with the lanes' times for every unit.
pub(super) struct Scene<'a> {
    pub(super) chain: &'a Chain,
    pub(super) lanes: &'a [Candidate],
    pub(super) host: Option<&'a Host>,
    pub(super) objective: Objective,
    pub(super) strategy: super::Strategy,
    pub(super) stages: Option<RangeInclusive<usize>>,
    /// Microseconds of each unit, per lane.
    pub(super) unit_us: Vec<Vec<f64>>,
}

impl<'a> Scene<'a> {
    pub(super) fn new(ask: &Ask<'a>) -> Self {
        let times = |lane: &Candidate| {
            let time = |unit: &crate::domain::Unit| lane.speed.unit(unit.class, unit.flops, unit.moved);
            ask.chain.units.iter().map(time).collect()
        };
        Self {
            chain: ask.chain,
            lanes: ask.lanes,
            host: ask.host,
            objective: ask.objective,
            strategy: ask.strategy,
            stages: ask.stages.clone(),
            unit_us: ask.lanes.iter().map(times).collect(),
        }
    }

    /// A step in a lane whose units take `units_us` there.
    pub(super) fn step(&self, lane: usize, units_us: f64, bytes_in: f64, bytes_out: f64) -> StepCost {
        let lane = &self.lanes[lane];
        StepCost {
            compute: lane.speed.step_us + units_us,
            moving: lane.link.moving(bytes_in, bytes_out),
            round_trip: lane.link.round_trip_us,
        }
    }

    /// Whether all lanes and links have been measured.
    pub(super) fn is_measured(&self) -> bool {
        self.lanes.iter().all(|lane| lane.speed.samples > 0 && lane.link.samples > 0)
    }

    /// Bytes of all weights that units need, each once.
    pub(super) fn weight_bytes(&self) -> u64 {
        let mut needed = vec![false; self.chain.weights.len()];
        for weight in self.chain.units.iter().flat_map(|unit| &unit.weights) {
            needed[*weight as usize] = true;
        }
        self.chain.weights.iter().zip(needed).filter(|(_, needed)| *needed).map(|(bytes, _)| bytes).sum()
    }

    /// That nothing holds the weights, with what is lacking at best.
    pub(super) fn no_memory(&self, missing_bytes: f64) -> PlanError {
        PlanError::Memory {
            needed_bytes: self.weight_bytes(),
            held_bytes: self.lanes.iter().fold(0, |sum, lane| sum.saturating_add(lane.memory)),
            missing_bytes: missing_bytes as u64,
        }
    }

    /// Groups of lanes that are alike in every figure, in the order of their first.
    pub(super) fn alike(&self) -> Vec<Vec<usize>> {
        let mut kinds: Vec<Vec<usize>> = Vec::new();
        for (at, lane) in self.lanes.iter().enumerate() {
            let same = |kind: &&mut Vec<usize>| {
                let first = &self.lanes[kind[0]];
                first.speed == lane.speed && first.link == lane.link && first.memory == lane.memory
            };
            match kinds.iter_mut().find(same) {
                Some(kind) => kind.push(at),
                None => kinds.push(vec![at]),
            }
        }
        kinds
    }
}
