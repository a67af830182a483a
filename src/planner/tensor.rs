//! Products whose ways are dealt out over lanes, each with its part of the weights; a native lane adds up what they give,
//! and one of the lanes does what lies between.

use std::collections::BTreeMap;

use super::{
    PlanError, Strategy,
    schedule::{Figure, Load, Placed, loads, missing, step, times},
    step::Scene,
};
use crate::domain::{STAGES_MAX, Share};

/// The ways in the lanes that are not native, in their order, and what lies between in the best of these.
pub(super) fn best(scene: &Scene<'_>) -> Result<Vec<Placed>, PlanError> {
    let runs = runs(scene)?;
    let lanes = &scene.lanes;
    let (native, others): (Vec<usize>, Vec<usize>) =
        (0..lanes.len()).partition(|lane| lanes[*lane].kind.backend.is_native());
    let Some(adding) = native.first().copied() else {
        return refused("a native lane adds up what the ways give, and none is among the lanes".to_owned());
    };
    let ways = runs.iter().filter_map(|(share, _)| way(*share)).max().map_or(0, |last| last + 1);
    if ways < 2 || others.len() < ways {
        let lanes = others.len();
        return refused(format!("{ways} ways need a lane each beside the native one, and there are {lanes}"));
    }
    let loads = loads(scene.chain, runs.iter().map(|(_, units)| units.as_slice()));
    let placed = |between: usize| -> Vec<Placed> {
        let lane = |share: Option<Share>| match share {
            Some(Share::Way(way)) => others[way as usize],
            Some(Share::Sum) => adding,
            None => between,
        };
        runs.iter().map(|(share, units)| Placed { units: units.clone(), lanes: vec![lane(*share)] }).collect()
    };
    let choices = others.iter().map(|between| placed(*between));
    let judged =
        choices.map(|stages| (missing(scene, &stages, &loads), cost(scene, &stages, &loads), stages));
    let (missing, _, stages) = judged
        .min_by(|a, b| a.0.cmp(&b.0).then(a.1.total_cmp(&b.1)))
        .expect("there are as many other lanes as ways");
    if missing > 0 { Err(scene.no_memory(missing as f64)) } else { Ok(stages) }
}

fn refused<T>(reason: String) -> Result<T, PlanError> {
    Err(PlanError::Refused { strategy: Strategy::Tensor, reason })
}

fn way(share: Option<Share>) -> Option<usize> {
    match share {
        Some(Share::Way(way)) => Some(way as usize),
        Some(Share::Sum) | None => None,
    }
}

/// The units of each way of a product, of its sum, and of what lies between two products.
fn runs(scene: &Scene<'_>) -> Result<Vec<(Option<Share>, Vec<usize>)>, PlanError> {
    let units = &scene.chain.units;
    let share = |unit: &usize| units[*unit].share;
    let mut runs = Vec::new();
    let numbers: Vec<_> = (0..units.len()).collect();
    let together = |a: &usize, b: &usize| match (share(a), share(b)) {
        (Some(Share::Way(_)), Some(Share::Way(_))) => true,
        (a, b) => a == b,
    };
    for run in numbers.chunk_by(together) {
        // Ways may take turns in the chain's order, and need nothing of each other.
        let mut shares: BTreeMap<Option<usize>, Vec<usize>> = BTreeMap::new();
        for unit in run {
            shares.entry(way(share(unit))).or_default().push(*unit);
        }
        runs.extend(shares.into_values().map(|units| (share(&units[0]), units)));
    }
    match &scene.stages {
        Some(wanted) if !wanted.contains(&runs.len()) => refused(format!(
            "its ways, their sums and what lies between are {} stages, and no other number",
            runs.len()
        )),
        _ if runs.len() > STAGES_MAX => refused(format!(
            "its ways, their sums and what lies between are {} stages, and a plan has {STAGES_MAX} at most",
            runs.len()
        )),
        _ => Ok(runs),
    }
}

fn cost(scene: &Scene<'_>, stages: &[Placed], loads: &[Load]) -> f64 {
    let times = times(stages, loads, |stage, lane| {
        step(scene, &stages[stage].units, &loads[stage], lane, Figure::Likely)
    });
    scene.objective.cost(times.latency, times.period)
}
