//! The planner against brute force, and its answers to cases.

mod brute;
mod cases;
mod chains;
mod reviews;

use super::{Ask, Candidate, Objective, PlanError, Split, Strategy, cost, plan};
use crate::{
    domain::{Chain, LaneId},
    planner::StagePlan,
};

const OBJECTIVES: [Objective; 5] = [
    Objective::Latency,
    Objective::Throughput { in_flight: 2 },
    Objective::Throughput { in_flight: 16 },
    Objective::Stream { requests: 20 },
    Objective::Memory,
];

fn ask<'a>(chain: &'a Chain, lanes: &'a [Candidate], objective: Objective, strategy: Strategy) -> Ask<'a> {
    Ask { chain, lanes, host: None, objective, strategy, stages: None }
}

fn planned(
    chain: &Chain,
    lanes: &[Candidate],
    objective: Objective,
    strategy: Strategy,
) -> Result<Split, PlanError> {
    let ask = ask(chain, lanes, objective, strategy);
    let split = plan(&ask)?;
    check(chain, lanes, &split);
    let again = cost(&ask, stages(lanes, &split)).expect("a split has every unit once");
    let told = split.forecast.cost_us.value;
    assert!((again / told - 1.0).abs() < 1e-9, "{again} for its own stages, {told} for the split");
    Ok(split)
}

/// The units and lanes of each stage, by their places.
fn stages(lanes: &[Candidate], split: &Split) -> Vec<(Vec<usize>, Vec<usize>)> {
    let at = |id: &LaneId| lanes.iter().position(|lane| lane.id == *id).expect("a lane that was there");
    let units =
        |stage: &StagePlan| stage.units.iter().flat_map(|run| run.from as usize..run.to as usize).collect();
    split.stages.iter().map(|stage| (units(stage), stage.lanes.iter().map(at).collect())).collect()
}

#[test]
fn stages_that_leave_a_unit_out_or_have_one_twice_cost_nothing_that_is_known() {
    let (chain, lanes) = (chains::transformer(2, 64.0, 16.0), [chains::lane("chromium-1", 27_000.0)]);
    let ask = ask(&chain, &lanes, Objective::Latency, Strategy::Auto);
    let all: Vec<_> = (0..chain.units.len()).collect();
    assert!(cost(&ask, vec![(all.clone(), vec![0])]).is_some());
    let twice = [all.clone(), vec![0]].concat();
    for stages in [
        vec![],
        vec![(all[1..].to_vec(), vec![0])],
        vec![(twice, vec![0])],
        vec![(all.clone(), vec![])],
        vec![(all, vec![1])],
    ] {
        assert_eq!(cost(&ask, stages.clone()), None, "{stages:?}");
    }
}

/// What is so of every split: each unit is in one stage, every value is made before it is read, weights fit, and nothing
/// beats the bound.
fn check(chain: &Chain, lanes: &[Candidate], split: &Split) {
    let mut stage_of = vec![None; chain.units.len()];
    for (at, stage) in split.stages.iter().enumerate() {
        for unit in stage.units.iter().flat_map(|range| range.from..range.to) {
            assert_eq!(stage_of[unit as usize].replace(at), None, "unit {unit} is in two stages");
        }
    }
    assert!(stage_of.iter().all(Option::is_some), "a unit is in no stage");
    for value in &chain.values {
        let Some(from) = value.from else { continue };
        for reader in &value.to {
            let (made, read) = (stage_of[from as usize], stage_of[*reader as usize]);
            assert!(made <= read, "{} is read in stage {read:?} and made in {made:?}", value.name);
            if made < read {
                let after = &split.stages[read.unwrap()].after;
                assert!(after.contains(&(made.unwrap() as u32)), "{after:?}");
            }
        }
    }
    for lane in lanes {
        let own = split.stages.iter().filter(|stage| stage.lanes.contains(&lane.id));
        let held: u64 = own.map(|stage| stage.weight_bytes).sum();
        assert!(held <= lane.memory, "{} holds {held}", lane.id);
    }
    let cost = split.forecast.cost_us.value;
    assert!(split.bound.cost_us <= cost * (1.0 + 1e-9), "{} beats the bound {}", cost, split.bound.cost_us);
    assert!(split.bound.gap >= 0.0 && split.bound.gap.is_finite());
    let objective = split.objective.cost(split.forecast.latency_us.value, split.forecast.period_us.value);
    assert!((objective / cost - 1.0).abs() < 1e-9);
    if let Some(within) = split.forecast.cost_us.within {
        assert!(within.low <= cost && cost <= within.high, "{within:?}");
    }
}
