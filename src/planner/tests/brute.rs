//! Every contiguous split in every order of lanes, by a second reading of what a split takes.

use std::collections::BTreeSet;

use rand::RngExt;

use super::{
    OBJECTIVES, ask,
    chains::{random_chain, random_lane, seeded},
    check,
};
use crate::{
    domain::{Chain, Part},
    planner::{Candidate, Objective, PlanError, Strategy, plan},
    predict::Work,
};

/// The least cost of a pipeline of at least two stages, over all cuts and orders; and by how many bytes the best one misses
/// the memory, if it does.
struct Brute<'a> {
    chain: &'a Chain,
    lanes: &'a [Candidate],
    objective: Objective,
    shared: bool,
    best: f64,
    fewest: usize,
    missing: u64,
}

impl Brute<'_> {
    fn all(&mut self) {
        self.extend(0, &mut Vec::new(), &mut BTreeSet::new(), 0.0, 0.0, 0);
    }

    fn extend(
        &mut self,
        from: usize,
        stages: &mut Vec<usize>,
        used: &mut BTreeSet<usize>,
        sum: f64,
        longest: f64,
        missing: u64,
    ) {
        let units = self.chain.units.len();
        if from == units {
            if stages.len() < 2 {
                return;
            }
            self.missing = self.missing.min(missing);
            let fewest = self.objective != Objective::Memory || stages.len() <= self.fewest;
            if missing == 0 && fewest {
                let cost = self.objective.cost(sum, longest);
                if self.objective == Objective::Memory && stages.len() < self.fewest {
                    (self.fewest, self.best) = (stages.len(), cost);
                }
                self.best = self.best.min(cost);
            }
            return;
        }
        for to in from + 1..=units {
            for group in 1u32..1 << self.lanes.len() {
                let group: BTreeSet<_> =
                    (0..self.lanes.len()).filter(|lane| group & (1 << lane) != 0).collect();
                if (!self.shared && group.len() > 1) || group.intersection(used).next().is_some() {
                    continue;
                }
                let (latency, period, lacks) = self.stage(from, to, &group);
                used.extend(&group);
                stages.push(to);
                self.extend(to, stages, used, sum + latency, longest.max(period), missing.max(lacks));
                stages.pop();
                used.retain(|lane| !group.contains(lane));
            }
        }
    }

    /// Latency, period and lacking bytes of units in lanes.
    fn stage(&self, from: usize, to: usize, group: &BTreeSet<usize>) -> (f64, f64, u64) {
        let within = |unit: u32| (from..to).contains(&(unit as usize));
        let (mut bytes_in, mut bytes_out) = (0.0, 0.0);
        for value in &self.chain.values {
            let made = value.from.is_some_and(within);
            if !made && value.to.iter().any(|reader| within(*reader)) {
                bytes_in += value.bytes;
            }
            if made && (value.output || value.to.iter().any(|reader| !within(*reader))) {
                bytes_out += value.bytes;
            }
        }
        let units = &self.chain.units[from..to];
        let weights: BTreeSet<_> = units.iter().flat_map(|unit| &unit.weights).collect();
        let weights: u64 = weights.into_iter().map(|weight| self.chain.weights[*weight as usize]).sum();
        let (mut rate, mut under_way, mut lacks) = (0.0, 0.0, 0);
        for lane in group.iter().map(|lane| &self.lanes[*lane]) {
            let compute = lane.speed.step(&Work::of(self.chain, from..to));
            let moving = lane.link.down_us_per_byte * bytes_in + lane.link.up_us_per_byte * bytes_out;
            let latency = compute + moving + lane.link.round_trip_us;
            let period = (compute + 0.5 * moving).max(latency / 2.0);
            rate += 1.0 / period;
            under_way += latency / period;
            lacks = lacks.max(weights.saturating_sub(lane.memory));
        }
        (under_way / rate, 1.0 / rate, lacks)
    }
}

#[test]
fn no_contiguous_split_is_better() {
    let mut fits = [0, 0];
    for seed in 0..150 {
        let mut random = seeded(seed);
        let units = random.random_range(2..9);
        let chain = random_chain(units, &mut random);
        let count = random.random_range(2..5);
        let mut lanes: Vec<_> = (0..count).map(|at| random_lane(at, &mut random)).collect();
        if random.random_bool(0.3) {
            let alike = lanes[0].clone();
            lanes[1] = Candidate { id: lanes[1].id.clone(), ..alike };
        }
        let tight = random.random_bool(0.5);
        for lane in &mut lanes {
            let total: u64 = chain.weights.iter().sum();
            lane.memory = if tight { random.random_range(total / 16..total * 6 / 10) } else { total };
        }
        let shared = count < 4 && units < 7 && random.random_bool(0.4);
        let objective = OBJECTIVES[seed as usize % OBJECTIVES.len()];
        let mut brute = Brute {
            chain: &chain,
            lanes: &lanes,
            objective,
            shared,
            best: f64::INFINITY,
            fewest: usize::MAX,
            missing: u64::MAX,
        };
        brute.all();
        let strategy = if shared { Strategy::Hybrid } else { Strategy::Pipeline };
        match plan(&ask(&chain, &lanes, objective, strategy)) {
            Ok(split) => {
                fits[0] += 1;
                check(&chain, &lanes, &split);
                // Its latency is that of stages one after another at most: some may run at once.
                let found = split.forecast.cost_us.value;
                assert!(found <= brute.best * (1.0 + 1e-4), "seed {seed}: {found}, best {}", brute.best);
                let sum: f64 =
                    split.stages.iter().map(|stage| stage.compute_us.value + stage.transfer_us.value).sum();
                let summed = objective.cost(sum, split.forecast.period_us.value);
                assert!(
                    (summed / brute.best - 1.0).abs() < 1e-4,
                    "seed {seed}: {summed}, best {}",
                    brute.best
                );
            }
            Err(PlanError::Memory { missing_bytes, .. }) => {
                fits[1] += 1;
                assert!(brute.best.is_infinite(), "seed {seed}");
                if objective != Objective::Memory {
                    assert_eq!(missing_bytes, brute.missing, "seed {seed}");
                }
            }
            Err(error) => panic!("seed {seed}: {error}"),
        }
    }
    assert!(fits[0] > 80 && fits[1] > 10, "{fits:?}");
}

#[test]
fn the_same_question_has_the_same_answer() {
    for strategy in [Strategy::Pipeline, Strategy::Hybrid, Strategy::Auto] {
        let (mut random, mut again) = (seeded(5), seeded(5));
        let make = |random: &mut rand::rngs::StdRng| {
            let chain = random_chain(40, random);
            let lanes: Vec<_> = (0..4).map(|at| random_lane(at, random)).collect();
            plan(&ask(&chain, &lanes, Objective::Throughput { in_flight: 8 }, strategy)).unwrap()
        };
        assert_eq!(make(&mut random), make(&mut again));
    }
}

/// Longer than all cuts of which can be looked at together: little is lost, whatever the chain.
#[test]
fn long_chains_lose_little() {
    for seed in 0..3 {
        let mut random = seeded(seed);
        let mut chain = random_chain(400, &mut random);
        for value in &mut chain.values {
            // Values that reach through all of a chain make all cuts alike.
            let near = value.to.first().map_or(0, |first| first + 4);
            value.to.retain(|reader| *reader <= near);
        }
        let lanes: Vec<_> = (0..2).map(|at| random_lane(at, &mut random)).collect();
        for objective in &OBJECTIVES[..4] {
            let split = plan(&ask(&chain, &lanes, *objective, Strategy::Pipeline)).unwrap();
            check(&chain, &lanes, &split);
            let brute = Brute {
                chain: &chain,
                lanes: &lanes,
                objective: *objective,
                shared: false,
                best: 0.0,
                fewest: 0,
                missing: 0,
            };
            let two = |first: usize, cut: usize| {
                let (a, b) = ([first].into(), [1 - first].into());
                let (a, b) = (brute.stage(0, cut, &a), brute.stage(cut, chain.units.len(), &b));
                objective.cost(a.0 + b.0, a.1.max(b.1))
            };
            let best = (0..2).flat_map(|first| (1..400).map(move |cut| (first, cut)));
            let best = best.map(|(first, cut)| two(first, cut)).fold(f64::INFINITY, f64::min);
            let found = split.forecast.cost_us.value;
            assert!(found < best * 1.02, "seed {seed} {objective:?}: {found}, best {best}");
        }
    }
}

/// Whatever a strategy answers is a split, for graphs and lanes that nobody chose.
#[test]
fn every_answer_is_a_split() {
    let mut answers = 0;
    for seed in 0..60 {
        let mut random = seeded(1_000 + seed);
        let mut chain = random_chain(random.random_range(1..40), &mut random);
        for unit in &mut chain.units {
            unit.part = [Part::Attention, Part::FeedForward, Part::Other][random.random_range(0..3)];
        }
        let lanes: Vec<_> = (0..random.random_range(1..6))
            .map(|at| Candidate {
                memory: random.random_range(500_000..8_000_000),
                ..random_lane(at, &mut random)
            })
            .collect();
        for strategy in Strategy::ALL {
            for objective in OBJECTIVES {
                let Ok(split) = plan(&ask(&chain, &lanes, objective, strategy)) else { continue };
                check(&chain, &lanes, &split);
                answers += 1;
            }
        }
    }
    assert!(answers > 400, "{answers}");
}

/// More lanes than all orders of which can be tried: what the search finds is near what cannot be beaten.
#[test]
fn many_lanes_are_searched() {
    for seed in 0..4 {
        let mut random = seeded(seed);
        let chain = random_chain(60, &mut random);
        let lanes: Vec<_> = (0..12).map(|at| random_lane(at, &mut random)).collect();
        for strategy in [Strategy::Pipeline, Strategy::Hybrid] {
            let split =
                plan(&ask(&chain, &lanes, Objective::Throughput { in_flight: 64 }, strategy)).unwrap();
            check(&chain, &lanes, &split);
            let single = split.alternatives[0].cost_us.unwrap();
            assert!(split.forecast.cost_us.value < single / 2.0, "{:?}", split.bound);
        }
    }
}
