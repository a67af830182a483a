//! Independent towers beside each other, each a stage, and one more stage for what joins them.

use std::collections::BTreeMap;

use super::{
    PlanError, Strategy,
    schedule::{Figure, Load, Placed, loads, missing, step, times},
    step::{Scene, StepCost},
};

/// Placements that are all tried; above that, one stage is moved at a time.
const TRIED_MOST: usize = 20_000;

/// The best placement of the towers and what joins them; several stages may share a lane, but not all.
pub(super) fn best(scene: &Scene<'_>) -> Result<Vec<Placed>, PlanError> {
    let lanes = scene.lanes.len();
    if lanes < 2 {
        return Err(PlanError::Lanes { asked: 2, lanes });
    }
    let stages = stages(scene)?;
    let loads = loads(scene.chain, stages.iter().map(Vec::as_slice));
    let cost = |(units, load): (&Vec<usize>, &Load)| {
        (0..lanes).map(|lane| step(scene, units, load, lane, Figure::Likely)).collect()
    };
    let costs = stages.iter().zip(&loads).map(cost).collect();
    let placing = Placing { scene, stages, loads, costs };
    let count = placing.stages.len();
    let ways = lanes.checked_pow(count as u32).filter(|ways| *ways <= TRIED_MOST);
    let best = match ways {
        Some(ways) => (0..ways)
            .map(|way| {
                (0..count).scan(way, |rest, _| Some(std::mem::replace(rest, *rest / lanes) % lanes)).collect()
            })
            .min_by(|a: &Vec<usize>, b| {
                placing.judge(a).partial_cmp(&placing.judge(b)).expect("costs are numbers")
            })
            .expect("two lanes have ways"),
        None => placing.climb((0..count).map(|stage| stage % lanes).collect()),
    };
    let placed = placing.placed(&best);
    match missing(scene, &placed, &placing.loads) {
        0 => Ok(placed),
        missing => Err(scene.no_memory(missing as f64)),
    }
}

/// Units of each tower in the order of their numbers, then of what joins them.
fn stages(scene: &Scene<'_>) -> Result<Vec<Vec<usize>>, PlanError> {
    let refused = |reason| Err(PlanError::Refused { strategy: Strategy::Component, reason });
    let (mut towers, mut joining) = (BTreeMap::<u32, Vec<usize>>::new(), Vec::new());
    for (at, unit) in scene.chain.units.iter().enumerate() {
        match unit.tower {
            Some(tower) => towers.entry(tower).or_default().push(at),
            None => joining.push(at),
        }
    }
    if towers.len() < 2 {
        return refused(format!("it has {} independent towers, and two are needed", towers.len()));
    }
    let tower = |unit: u32| scene.chain.units[unit as usize].tower;
    for value in &scene.chain.values {
        let Some(from) = value.from else { continue };
        if value.to.iter().any(|reader| tower(*reader).is_some_and(|into| tower(from) != Some(into))) {
            return refused(format!("{:?} passes into a tower, so its towers depend on others", value.name));
        }
    }
    let stages: Vec<_> = towers.into_values().chain((!joining.is_empty()).then_some(joining)).collect();
    match &scene.stages {
        Some(wanted) if !wanted.contains(&stages.len()) => refused(format!(
            "its towers and what joins them are {} stages, and no other number",
            stages.len()
        )),
        _ => Ok(stages),
    }
}

struct Placing<'a> {
    scene: &'a Scene<'a>,
    stages: Vec<Vec<usize>>,
    loads: Vec<Load>,
    /// Of each stage, per lane.
    costs: Vec<Vec<StepCost>>,
}

impl Placing<'_> {
    fn placed(&self, lanes: &[usize]) -> Vec<Placed> {
        let placed =
            |(units, lane): (&Vec<usize>, &usize)| Placed { units: units.clone(), lanes: vec![*lane] };
        self.stages.iter().zip(lanes).map(placed).collect()
    }

    /// All in one lane is no split; then less lacking memory is better, then a lower cost.
    fn judge(&self, lanes: &[usize]) -> (bool, u64, f64) {
        let stages: Vec<_> =
            lanes.iter().map(|lane| Placed { units: Vec::new(), lanes: vec![*lane] }).collect();
        let times = times(&stages, &self.loads, |stage, lane| self.costs[stage][lane]);
        let together = lanes.iter().all(|lane| *lane == lanes[0]);
        let missing = missing(self.scene, &stages, &self.loads);
        (together, missing, self.scene.objective.cost(times.latency, times.period))
    }

    /// Moves one stage at a time while that helps.
    fn climb(&self, mut lanes: Vec<usize>) -> Vec<usize> {
        let mut here = self.judge(&lanes);
        let mut better = true;
        while better {
            better = false;
            for stage in 0..lanes.len() {
                for lane in 0..self.scene.lanes.len() {
                    let before = std::mem::replace(&mut lanes[stage], lane);
                    let there = self.judge(&lanes);
                    if there < here {
                        (here, better) = (there, true);
                    } else {
                        lanes[stage] = before;
                    }
                }
            }
        }
        lanes
    }
}
