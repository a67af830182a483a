//! Attention in lanes of one kind and feed-forward in those of another. Each block needs the one before, so the stages
//! alternate in the order of the graph, and every request passes the daemon twice per block.

use super::{
    PlanError, Strategy,
    schedule::{Figure, Placed, loads, missing, step, times},
    step::Scene,
};
use crate::domain::Part;

/// The best choice of two kinds of lane.
pub(super) fn best(scene: &Scene<'_>) -> Result<Vec<Placed>, PlanError> {
    let runs = runs(scene)?;
    let loads = loads(scene.chain, runs.iter().map(|run| run.units.as_slice()));
    let kinds = kinds(scene);
    if kinds.len() < 2 {
        let kind = &scene.lanes[0].kind;
        return refused(format!(
            "it needs lanes of two kinds, and all are {} on {}",
            kind.browser, kind.backend
        ));
    }
    let pairs = kinds.iter().flat_map(|a| kinds.iter().filter(move |b| *b != a).map(move |b| (a, b)));
    // Each kind has its stages in one of its lanes, or spread over all.
    let few = |kind: &Vec<usize>| [kind[..1].to_vec(), kind.clone()];
    let choices =
        pairs.flat_map(|(a, b)| few(a).into_iter().flat_map(move |a| few(b).map(|b| [a.clone(), b])));
    let judge = |lanes: [Vec<usize>; 2]| {
        let placed = dealt(scene, &runs, &lanes);
        let times = times(&placed, &loads, |stage, lane| {
            step(scene, &placed[stage].units, &loads[stage], lane, Figure::Likely)
        });
        let missing = missing(scene, &placed, &loads);
        (missing, scene.objective.cost(times.latency, times.period), placed)
    };
    let better =
        |a: &(u64, f64, Vec<Placed>), b: &(u64, f64, Vec<Placed>)| a.0.cmp(&b.0).then(a.1.total_cmp(&b.1));
    let (missing, _, placed) = choices.map(judge).min_by(better).expect("two kinds are a choice");
    if missing > 0 { Err(scene.no_memory(missing as f64)) } else { Ok(placed) }
}

fn refused<T>(reason: String) -> Result<T, PlanError> {
    Err(PlanError::Refused { strategy: Strategy::AttentionFeedforward, reason })
}

/// Neighbouring units of one stage.
struct Run {
    units: Vec<usize>,
    feed_forward: bool,
}

/// Attention and feed-forward by turns; what is neither belongs to what it follows, and before the first to that.
fn runs(scene: &Scene<'_>) -> Result<Vec<Run>, PlanError> {
    let mut runs: Vec<Run> = Vec::new();
    let mut before = Vec::new();
    for (at, unit) in scene.chain.units.iter().enumerate() {
        let feed_forward = match unit.part {
            Part::Attention => Some(false),
            Part::FeedForward => Some(true),
            Part::Embedding | Part::Head | Part::Block | Part::Other => None,
        };
        match (runs.last_mut(), feed_forward) {
            (Some(run), None) => run.units.push(at),
            (Some(run), Some(kind)) if run.feed_forward == kind => run.units.push(at),
            (None, None) => before.push(at),
            (_, Some(feed_forward)) => {
                let units = std::mem::take(&mut before).into_iter().chain([at]).collect();
                runs.push(Run { units, feed_forward });
            }
        }
    }
    for (name, feed_forward) in [("attention", false), ("feed-forward", true)] {
        if !runs.iter().any(|run| run.feed_forward == feed_forward) {
            return refused(format!("no {name} was found in it"));
        }
    }
    match &scene.stages {
        Some(wanted) if !wanted.contains(&runs.len()) => {
            refused(format!("its attention and feed-forward are {} stages, and no other number", runs.len()))
        }
        _ => Ok(runs),
    }
}

/// Lanes by product and backend.
fn kinds(scene: &Scene<'_>) -> Vec<Vec<usize>> {
    let mut kinds: Vec<Vec<usize>> = Vec::new();
    for (at, lane) in scene.lanes.iter().enumerate() {
        let same = |kind: &&mut Vec<usize>| {
            let first = &scene.lanes[kind[0]].kind;
            first.browser == lane.kind.browser && first.backend == lane.kind.backend
        };
        match kinds.iter_mut().find(same) {
            Some(kind) => kind.push(at),
            None => kinds.push(vec![at]),
        }
    }
    kinds
}

/// Gives the runs of each sort to its lanes, neighbours to the same one, as many as its speed is worth.
fn dealt(scene: &Scene<'_>, runs: &[Run], lanes: &[Vec<usize>; 2]) -> Vec<Placed> {
    let micros =
        |run: &Run, lane: usize| run.units.iter().map(|unit| scene.unit_us[lane][*unit]).sum::<f64>();
    let mut placed: Vec<Placed> =
        runs.iter().map(|run| Placed { units: run.units.clone(), lanes: Vec::new() }).collect();
    for (lanes, feed_forward) in lanes.iter().zip([false, true]) {
        let own = || runs.iter().filter(|run| run.feed_forward == feed_forward);
        let whole = |lane: usize| own().map(|run| micros(run, lane)).sum::<f64>().max(f64::MIN_POSITIVE);
        let speeds: Vec<_> = lanes.iter().map(|lane| 1.0 / whole(*lane)).collect();
        let (all, total) = (speeds.iter().sum::<f64>(), whole(lanes[0]));
        let (mut at, mut end, mut before) = (0, speeds[0] / all, 0.0);
        for (run, placed) in runs.iter().zip(&mut placed).filter(|(run, _)| run.feed_forward == feed_forward)
        {
            let share = micros(run, lanes[0]) / total;
            while before + share / 2.0 > end && at + 1 < lanes.len() {
                at += 1;
                end += speeds[at] / all;
            }
            placed.lanes.push(lanes[at]);
            before += share;
        }
    }
    placed
}
