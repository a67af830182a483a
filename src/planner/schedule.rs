//! Any stages in any lanes: what passes between them, whether they fit, and what they are forecast to take.

use std::collections::BTreeSet;

use super::{
    programme::Shared,
    step::{Scene, StepCost},
};
use crate::{
    domain::Chain,
    predict::{self, Estimate, Within},
};

/// A stage with the lanes that compute it, of which any one answers a request.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Placed {
    /// Ascending.
    pub(super) units: Vec<usize>,
    pub(super) lanes: Vec<usize>,
}

/// What a stage carries and holds, wherever it runs.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Load {
    pub(super) bytes_in: f64,
    pub(super) bytes_out: f64,
    pub(super) weight_bytes: u64,
    /// Stages whose values it reads, by their place.
    pub(super) after: BTreeSet<usize>,
}

/// What all stages take together, in microseconds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Times {
    /// Of one request that is alone.
    pub(super) latency: f64,
    /// Between two of many requests, when all lanes are as busy as they can be.
    pub(super) period: f64,
}

/// What stages of these units carry and hold. Everything passes through the daemon: out of its stage once, and into each
/// stage that reads it.
pub(super) fn loads<'a>(chain: &Chain, stages: impl Iterator<Item = &'a [usize]> + Clone) -> Vec<Load> {
    let mut stage_of = vec![usize::MAX; chain.units.len()];
    for (stage, units) in stages.clone().enumerate() {
        for unit in units {
            stage_of[*unit] = stage;
        }
    }
    let mut loads: Vec<Load> = stages.map(|units| held(chain, units)).collect();
    for value in &chain.values {
        let maker = value.from.map(|unit| stage_of[unit as usize]);
        let readers: BTreeSet<_> = value.to.iter().map(|unit| stage_of[*unit as usize]).collect();
        let mut leaves = value.output;
        for reader in readers.into_iter().filter(|reader| Some(*reader) != maker) {
            loads[reader].bytes_in += value.bytes;
            loads[reader].after.extend(maker);
            leaves = true;
        }
        if let Some(maker) = maker.filter(|_| leaves) {
            loads[maker].bytes_out += value.bytes;
        }
    }
    loads
}

fn held(chain: &Chain, units: &[usize]) -> Load {
    let weights: BTreeSet<_> = units.iter().flat_map(|unit| &chain.units[*unit].weights).collect();
    Load {
        weight_bytes: weights.iter().map(|weight| chain.weights[**weight as usize]).sum(),
        ..Load::default()
    }
}

/// Bytes that the lane which lacks most memory lacks.
pub(super) fn missing(scene: &Scene<'_>, stages: &[Placed], loads: &[Load]) -> u64 {
    let mut held = vec![0u64; scene.lanes.len()];
    for (stage, load) in stages.iter().zip(loads) {
        for lane in &stage.lanes {
            held[*lane] = held[*lane].saturating_add(load.weight_bytes);
        }
    }
    let missing = held.iter().zip(scene.lanes).map(|(held, lane)| held.saturating_sub(lane.memory));
    missing.max().unwrap_or(0)
}

/// Which of an estimate's three figures is meant.
#[derive(Clone, Copy, Debug)]
pub(super) enum Figure {
    Likely,
    Low,
    High,
}

impl Figure {
    /// The share of a likely value that it is.
    fn share(self, within: Option<Within>) -> f64 {
        match (self, within) {
            (Self::Likely, _) | (_, None) => 1.0,
            (Self::Low, Some(within)) => within.low,
            (Self::High, Some(within)) => within.high,
        }
    }
}

/// A step of a stage in a lane.
pub(super) fn step(scene: &Scene<'_>, units: &[usize], load: &Load, lane: usize, figure: Figure) -> StepCost {
    let unit_us = &scene.unit_us[lane];
    let units_us = units.iter().map(|unit| unit_us[*unit]).sum();
    let likely = scene.step(lane, units_us, load.bytes_in, load.bytes_out);
    let lane = &scene.lanes[lane];
    let (compute, link) = (figure.share(lane.speed.within), figure.share(lane.link.within));
    StepCost {
        compute: likely.compute * compute,
        moving: likely.moving * link,
        round_trip: likely.round_trip * link,
    }
}

/// What stages take, in the order in which they are given; each begins when its values are there and its lane is free.
pub(super) fn times(stages: &[Placed], loads: &[Load], step: impl Fn(usize, usize) -> StepCost) -> Times {
    let lanes = stages.iter().flat_map(|stage| &stage.lanes).max().map_or(0, |last| last + 1);
    let (mut busy, mut kept, mut free_at) = (vec![0.0; lanes], vec![0.0; lanes], vec![0.0; lanes]);
    let mut ends: Vec<f64> = Vec::with_capacity(stages.len());
    for (at, (stage, load)) in stages.iter().zip(loads).enumerate() {
        let steps: Vec<_> = stage.lanes.iter().map(|lane| (*lane, step(at, *lane))).collect();
        let mut shared = Shared::default();
        for (_, step) in &steps {
            shared.add(step.latency(), step.period(), 1.0);
        }
        let ready = load.after.iter().map(|stage| ends[*stage]);
        let ready = ready.chain(stage.lanes.iter().map(|lane| free_at[*lane])).fold(0.0, f64::max);
        let end = ready + shared.latency();
        ends.push(end);
        for (lane, step) in steps {
            let share = shared.period() / step.period();
            busy[lane] += share * step.busy();
            kept[lane] += share * step.kept();
            free_at[lane] = end;
        }
    }
    Times {
        latency: ends.into_iter().fold(0.0, f64::max),
        period: busy.into_iter().chain(kept).fold(0.0, f64::max),
    }
}

/// Microseconds between two of many requests when the machine that the lanes share is as busy as it can be.
pub(super) fn host_period(
    scene: &Scene<'_>,
    stages: &[Placed],
    loads: &[Load],
    step: impl Fn(usize, usize) -> StepCost,
    figure: Figure,
) -> f64 {
    let Some(host) = scene.host else { return 0.0 };
    let mut all = predict::Load::default();
    for (at, (stage, load)) in stages.iter().zip(loads).enumerate() {
        let steps: Vec<_> = stage.lanes.iter().map(|lane| (*lane, step(at, *lane))).collect();
        let rate: f64 = steps.iter().map(|(_, step)| 1.0 / step.period()).sum();
        for (lane, step) in steps {
            let (share, kind) = (1.0 / (step.period() * rate), &scene.lanes[lane].kind);
            all.compute_us += share * step.compute * kind.processors();
            if kind.backend.is_native() {
                all.natives += share;
            } else {
                all.pages += share;
                all.bytes += share * (load.bytes_in + load.bytes_out);
            }
        }
    }
    host.period(&all) * figure.share(host.within)
}

/// What stages take, with bounds where every lane and link has some.
pub(super) fn estimates(scene: &Scene<'_>, stages: &[Placed], loads: &[Load]) -> (Estimate, Estimate) {
    let at = |figure| {
        let step = |stage: usize, lane| step(scene, &stages[stage].units, &loads[stage], lane, figure);
        let times = times(stages, loads, step);
        Times { period: times.period.max(host_period(scene, stages, loads, step, figure)), ..times }
    };
    let likely = at(Figure::Likely);
    let mut lanes = stages.iter().flat_map(|stage| &stage.lanes).map(|lane| &scene.lanes[*lane]);
    let bounded = lanes.all(|lane| lane.speed.within.is_some() && lane.link.within.is_some());
    let (low, high) = if bounded { (at(Figure::Low), at(Figure::High)) } else { (likely, likely) };
    let estimate = |of: fn(&Times) -> f64| Estimate {
        value: of(&likely),
        within: bounded.then(|| Within { low: of(&low), high: of(&high) }),
    };
    (estimate(|times| times.latency), estimate(|times| times.period))
}
