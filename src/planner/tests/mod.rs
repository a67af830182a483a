//! The planner against brute force, and its answers to cases.

mod brute;
mod cases;
mod chains;

use super::{Ask, Candidate, Objective, PlanError, Split, Strategy, plan};
use crate::domain::Chain;

const OBJECTIVES: [Objective; 5] = [
    Objective::Latency,
    Objective::Throughput { in_flight: 2 },
    Objective::Throughput { in_flight: 16 },
    Objective::Stream { requests: 20 },
    Objective::Memory,
];

fn ask<'a>(chain: &'a Chain, lanes: &'a [Candidate], objective: Objective, strategy: Strategy) -> Ask<'a> {
    Ask { chain, lanes, objective, strategy, stages: None }
}

fn planned(
    chain: &Chain,
    lanes: &[Candidate],
    objective: Objective,
    strategy: Strategy,
) -> Result<Split, PlanError> {
    let split = plan(&ask(chain, lanes, objective, strategy))?;
    check(chain, lanes, &split);
    Ok(split)
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
