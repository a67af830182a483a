//! What no split can beat, whatever its stages.

use super::{
    Objective,
    step::{Scene, StepCost},
};

/// Rounds in which the lanes' prices are bettered; the bound moves little after.
const ROUNDS: usize = 60;

/// By how much a lane's price follows its load in a round.
const STEP: f64 = 0.3;

/// Something that every request needs once, with what it takes in each lane.
type Item = Vec<f64>;

/// The least that the objective can come to. Where stages may be `shared`, no unit needs to be in one lane only.
pub(super) fn bound(scene: &Scene<'_>, whole: Option<f64>, shared: bool) -> f64 {
    let latency = latency(scene, whole);
    // What keeps a lane busy has to find room in it, and so has what keeps its places.
    let mut period = spread(&items(scene, StepCost::busy)).max(spread(&items(scene, StepCost::kept)));
    if !shared {
        period = period.max(largest(scene));
    }
    match scene.objective {
        Objective::Latency | Objective::Memory => latency,
        Objective::Throughput { .. } | Objective::Stream { .. } => scene.objective.cost(latency, period),
    }
}

/// The parts of a request's work, each of which is done once: units, a step, what the caller gives and what it gets.
fn items(scene: &Scene<'_>, of: fn(StepCost) -> f64) -> Vec<Item> {
    let none = StepCost::default();
    let values = &scene.chain.values;
    let given = values.iter().filter(|value| value.from.is_none() && !value.to.is_empty());
    let wanted = values.iter().filter(|value| value.from.is_some() && value.output);
    let given: f64 = given.map(|value| value.bytes).sum();
    let wanted: f64 = wanted.map(|value| value.bytes).sum();
    let unit = |unit| scene.unit_us.iter().map(|us| of(StepCost { compute: us[unit], ..none })).collect();
    let mut items: Vec<Item> = (0..scene.chain.units.len()).map(unit).collect();
    let each = |cost: &dyn Fn(usize) -> StepCost| (0..scene.lanes.len()).map(|lane| of(cost(lane))).collect();
    items.push(each(&|lane| StepCost { moving: 0.0, ..scene.step(lane, 0.0, 0.0, 0.0) }));
    for (bytes_in, bytes_out) in [(given, 0.0), (0.0, wanted)] {
        items.push(each(&|lane| StepCost {
            moving: scene.step(lane, 0.0, bytes_in, bytes_out).moving,
            ..none
        }));
    }
    items
}

/// The load of the fullest lane, were items divisible: at any prices of the lanes' time that add up to one, every item
/// costs at least its cheapest price.
fn spread(items: &[Item]) -> f64 {
    let lanes = items.first().map_or(0, Vec::len);
    let whole = |lane: usize| items.iter().map(|item| item[lane]).sum::<f64>().max(f64::MIN_POSITIVE);
    let mut prices: Vec<f64> = (0..lanes).map(|lane| 1.0 / whole(lane)).collect();
    let mut best: f64 = 0.0;
    for _ in 0..ROUNDS {
        let total: f64 = prices.iter().sum();
        for price in &mut prices {
            *price /= total;
        }
        let (mut loads, mut bound) = (vec![0.0; lanes], 0.0);
        for item in items {
            let priced = item.iter().zip(&prices).map(|(us, price)| us * price).enumerate();
            let (lane, cost) = priced.min_by(|(_, a), (_, b)| a.total_cmp(b)).expect("there are lanes");
            loads[lane] += item[lane];
            bound += cost;
        }
        best = best.max(bound);
        let fullest = loads.iter().copied().fold(f64::MIN_POSITIVE, f64::max);
        for (price, load) in prices.iter_mut().zip(&loads) {
            *price *= (STEP * (load / fullest - 1.0)).exp();
        }
    }
    best
}

/// The unit that takes longest, where it takes least.
fn largest(scene: &Scene<'_>) -> f64 {
    let units = 0..scene.chain.units.len();
    let least = |unit: usize| {
        let times = scene.unit_us.iter().zip(scene.lanes).map(|(us, lane)| us[unit] + lane.speed.step_us);
        times.fold(f64::INFINITY, f64::min)
    };
    units.map(least).fold(0.0, f64::max)
}

/// That of one request: in one lane, `whole`, where one holds it; or in several, on the longest path through the graph or
/// an equal part of all work, each unit where it takes least.
fn latency(scene: &Scene<'_>, whole: Option<f64>) -> f64 {
    let units = scene.chain.units.len();
    let least = |unit: usize| scene.unit_us.iter().map(|us| us[unit]).fold(f64::INFINITY, f64::min);
    let mut ready = vec![0.0; units];
    let mut makes: Vec<Vec<usize>> = vec![Vec::new(); units];
    for (number, value) in scene.chain.values.iter().enumerate() {
        if let Some(from) = value.from {
            makes[from as usize].push(number);
        }
    }
    let (mut longest, mut all): (f64, f64) = (0.0, 0.0);
    for unit in 0..units {
        let end = ready[unit] + least(unit);
        longest = longest.max(end);
        all += least(unit);
        for reader in makes[unit].iter().flat_map(|value| &scene.chain.values[*value].to) {
            ready[*reader as usize] = f64::max(ready[*reader as usize], end);
        }
    }
    let begin = scene.lanes.iter().map(|lane| lane.speed.step_us + lane.link.round_trip_us);
    let several = longest.max(all / scene.lanes.len() as f64) + begin.fold(f64::INFINITY, f64::min);
    match whole {
        Some(whole) if scene.lanes.len() == 1 => whole,
        Some(whole) => whole.min(several),
        None => several,
    }
}

/// How far above the bound something is, as a share of it.
pub(super) fn gap(cost: f64, bound: f64) -> f64 {
    if bound > 0.0 { (cost / bound - 1.0).max(0.0) } else { 0.0 }
}
