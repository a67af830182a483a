//! Strategies whose stages follow each other: pipelines, with or without shared stages, and even ones.

use super::{
    Objective, PlanError, Strategy,
    orders::{self, Limits},
    programme::{Group, Sequence},
    schedule::{self, Placed},
    search::{Found, Search},
    step::Scene,
    table::{self, Table},
};

/// Stages that one programme may compare: half a millisecond of work, and a search solves some dozens.
const COMPARED_MOST: f64 = 5e5;

/// Edges of a graph that is made to see how many it has.
const EDGES_MOST: f64 = 50_000.0;

/// Cuts that are looked at together, at most and at least. Where there are more, the narrowest are looked at first, and then
/// all that are near those which were chosen.
const CUTS_MOST: usize = 256;
const CUTS_LEAST: usize = 64;

/// Times that cuts are moved to better ones nearby; most are where they stay after the first.
const MOVED_MOST: usize = 4;

/// The part of an even share of the work that every stage has as long as it is guessed what lanes take.
const EVEN_LEAST: f64 = 0.5;

/// How near the best a split must be proven to be, as a share; and where only orders of lanes are compared.
const NEAR: f64 = 1e-4;
const NEAR_ENOUGH: f64 = 0.01;

/// The best contiguous split; stages have one lane each, or any number where `shared`.
pub(super) fn best(scene: &Scene<'_>, limits: Limits, shared: bool) -> Result<Vec<Placed>, PlanError> {
    let limits = Limits { least: limits.least, most: limits.most.min(scene.lanes.len()) };
    if scene.objective != Objective::Memory {
        return within(scene, limits, shared);
    }
    // As few stages as hold it.
    let mut last = within(scene, Limits { most: limits.least, ..limits }, shared);
    for stages in limits.least + 1..=limits.most.min(scene.chain.units.len()) {
        if last.is_ok() {
            break;
        }
        let more = within(scene, Limits { least: stages, most: stages }, shared);
        last = if lacks(&more) <= lacks(&last) { more } else { last };
    }
    last
}

/// Bytes that are missing.
fn lacks(placed: &Result<Vec<Placed>, PlanError>) -> u64 {
    match placed {
        Err(PlanError::Memory { missing_bytes, .. }) => *missing_bytes,
        _ => 0,
    }
}

fn within(scene: &Scene<'_>, limits: Limits, shared: bool) -> Result<Vec<Placed>, PlanError> {
    // By guesses the best is often all but one unit in the lane that is thought to be the fastest.
    let guessed = scene.objective != Objective::Memory && !scene.is_measured();
    if guessed && let Ok(placed) = of_least(scene, limits, shared, EVEN_LEAST / limits.most.max(1) as f64) {
        return Ok(placed);
    }
    of_least(scene, limits, shared, 0.0)
}

/// The same of stages that have this share of all work at least.
fn of_least(scene: &Scene<'_>, limits: Limits, shared: bool, least: f64) -> Result<Vec<Placed>, PlanError> {
    let kinds = scene.alike();
    let counts: Vec<_> = kinds.iter().map(Vec::len).collect();
    let units = scene.chain.units.len();
    // Large units leave spans without a cut, but never more than half of them.
    let cuts_least = CUTS_LEAST.max(2 * limits.least + 2);
    let any = (orders::edges_most(&counts, limits, shared) <= EDGES_MOST)
        .then(|| orders::any(&counts, limits, shared))
        .map(|graph| ((2.0 * COMPARED_MOST / graph.edges.len() as f64).sqrt() as usize, graph))
        .filter(|(affordable, _)| *affordable >= cuts_least.min(units));
    let search = Search { scene, kinds: &kinds, near: NEAR };
    let (cuts, found) = match any {
        Some((affordable, graph)) => {
            let cuts = table::narrowest(scene.chain, affordable.min(CUTS_MOST));
            let table = Table::new(scene, cuts, least);
            let found = search.best(&table, &graph);
            (table.cuts, found)
        }
        None => {
            let table = Table::new(scene, table::narrowest(scene.chain, cuts_least), least);
            let found = Search { near: NEAR_ENOUGH, ..search }.local(&table, limits, shared);
            (table.cuts, found)
        }
    };
    let (ends, found) = if cuts.len() > units { (cuts, found) } else { moved(&search, cuts, found, least) };
    match found {
        Found::Fits(sequence) => Ok(placed(&kinds, &ends, sequence)),
        Found::Lacks(sequence) => Err(scene.no_memory(sequence.cost)),
    }
}

/// Moves the cuts between stages to better ones nearby; which lanes follow each other stays.
fn moved(search: &Search<'_>, mut cuts: Vec<usize>, mut found: Found, least: f64) -> (Vec<usize>, Found) {
    let units = search.scene.chain.units.len();
    for _ in 0..MOVED_MOST {
        let sequence = found.sequence();
        let groups: Vec<Group> = sequence.stages.iter().map(|(_, group)| group.clone()).collect();
        let ends: Vec<_> = sequence.stages.iter().map(|(end, _)| cuts[*end]).collect();
        let reach = CUTS_MOST / (2 * ends.len());
        let mut near: Vec<_> =
            ends.iter().flat_map(|end| end.saturating_sub(reach)..=(end + reach).min(units)).collect();
        near.extend([0, units]);
        near.sort_unstable();
        near.dedup();
        let table = Table::new(search.scene, near, least);
        found = search.best(&table, &orders::fixed(&groups));
        cuts = table.cuts;
        if found.sequence().stages.iter().zip(&ends).all(|((to, _), end)| cuts[*to] == *end) {
            break;
        }
    }
    (cuts, found)
}

/// A sequence with its units and lanes: of lanes that are alike, those that come first.
fn placed(kinds: &[Vec<usize>], cuts: &[usize], sequence: Sequence) -> Vec<Placed> {
    let mut left: Vec<_> = kinds.iter().map(|kind| kind.iter().copied()).collect();
    let mut from = 0;
    let stage = |(to, group): (usize, Group)| {
        let units = (cuts[from]..cuts[to]).collect();
        from = to;
        let mut lanes = Vec::new();
        for (kind, count) in group {
            lanes.extend(left[kind].by_ref().take(count));
        }
        lanes.sort_unstable();
        Placed { units, lanes }
    };
    sequence.stages.into_iter().map(stage).collect()
}

/// Stages of equal operations in the lanes as they come.
pub(super) fn even(scene: &Scene<'_>, stages: usize) -> Result<Vec<Placed>, PlanError> {
    let stages = stages.min(scene.lanes.len()).min(scene.chain.units.len());
    let units = &scene.chain.units;
    let total: f64 = units.iter().map(|unit| unit.flops).sum();
    // Where nothing is known of the operations, units count.
    let share = |flops: f64| if total > 0.0 { flops / total } else { 1.0 / units.len() as f64 };
    let (mut ends, mut before) = (Vec::new(), 0.0);
    for (at, unit) in units.iter().enumerate() {
        let stage = ends.len() + 1;
        let wanted = stage as f64 / stages as f64;
        let after = before + share(unit.flops);
        // Later stages need a unit each, and this one has one.
        let must = units.len() - at <= stages - stage;
        let nearer = wanted - before < after - wanted;
        if stage < stages && at > ends.last().map_or(0, |end| *end) && (must || nearer) {
            ends.push(at);
        }
        before = after;
    }
    ends.push(units.len());
    let mut from = 0;
    let mut placed = Vec::new();
    for (lane, end) in ends.into_iter().enumerate() {
        placed.push(Placed { units: (from..end).collect(), lanes: vec![lane] });
        from = end;
    }
    let loads = schedule::loads(scene.chain, placed.iter().map(|stage| stage.units.as_slice()));
    match schedule::missing(scene, &placed, &loads) {
        0 => Ok(placed),
        missing => Err(scene.no_memory(missing as f64)),
    }
}

/// Limits on the number of stages: as asked for, else from two to as many as there are lanes.
pub(super) fn limits(scene: &Scene<'_>) -> Result<Limits, PlanError> {
    let (lanes, units) = (scene.lanes.len(), scene.chain.units.len());
    let limits = match &scene.stages {
        // What is not split is compared with apart.
        Some(stages) if scene.strategy == Strategy::Auto => {
            Limits { least: 2.max(*stages.start()), most: *stages.end() }
        }
        Some(stages) => Limits { least: *stages.start(), most: *stages.end() },
        None => Limits { least: 2, most: lanes.min(units) },
    };
    if limits.least > lanes {
        return Err(PlanError::Lanes { asked: limits.least, lanes });
    }
    if limits.least > units {
        return Err(PlanError::Frontiers { asked: limits.least, most: units });
    }
    Ok(limits)
}
