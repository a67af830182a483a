//! Whether to split at all: for memory, or for a gain over the whole model in the best lane and in each of the lanes.

use super::{
    Objective, PlanError, Strategy, alternate, bound, component, contiguous,
    schedule::{self, Placed},
    split::{Alternative, Bound, Made, Reason, Shape, Split, Why},
    step::Scene,
    tensor,
};

/// A split must save this share of what not splitting takes: it has more parts that can be lost, and forecasts err.
pub const GAIN_LEAST: f64 = 0.1;

pub(super) fn plan(scene: &Scene<'_>) -> Result<Split, PlanError> {
    let whole = Whole::new(scene);
    if scene.strategy == Strategy::Auto {
        return auto(scene, &whole);
    }
    let made = make(scene, scene.strategy)?;
    let why = if made.stages.len() > 1 { judge(scene, &whole, &made) } else { unsplit(scene, &made) };
    let alternatives = whole.alternatives();
    Ok(split(scene, &whole, &made, alternatives, why))
}

/// The best of everything that is allowed.
fn auto(scene: &Scene<'_>, whole: &Whole) -> Result<Split, PlanError> {
    // Sharing a stage helps only many requests, and fewer lanes hold a model in a pipeline than otherwise.
    let strategies: &[Strategy] = match scene.objective {
        Objective::Memory => &[Strategy::Pipeline],
        Objective::Throughput { .. } | Objective::Stream { .. } if scene.lanes.len() > 2 => {
            &[Strategy::Pipeline, Strategy::Component, Strategy::AttentionFeedforward, Strategy::Hybrid]
        }
        _ => &[Strategy::Pipeline, Strategy::Component, Strategy::AttentionFeedforward],
    };
    let may_split = scene.stages.as_ref().is_none_or(|stages| *stages.end() > 1);
    let tried: Vec<_> =
        strategies.iter().filter(|_| may_split).map(|strategy| (*strategy, make(scene, *strategy))).collect();
    let mut alternatives = whole.alternatives();
    alternatives.extend(tried.iter().map(|(strategy, made)| match made {
        Ok(made) => Alternative { shape: made.shape, cost_us: Some(made.cost), refused: None },
        Err(error) => {
            Alternative { shape: shape(*strategy), cost_us: None, refused: Some(error.to_string()) }
        }
    }));
    let splits = tried.iter().filter_map(|(_, made)| made.as_ref().ok());
    // Of equals the one that was tried first: it is simpler.
    let best = splits.reduce(|best, made| if made.cost < best.cost * (1.0 - NEAR) { made } else { best });
    let may_stay = scene.stages.as_ref().is_none_or(|stages| stages.contains(&1));
    let unsplit_made = whole.best().filter(|_| may_stay);
    let (made, why) = match (best, unsplit_made) {
        (Some(best), Some(unsplit)) => {
            let why = judge(scene, whole, best);
            (if why.worth { best } else { unsplit }, why)
        }
        (Some(best), None) => (best, judge(scene, whole, best)),
        (None, Some(made)) => (made, unsplit(scene, made)),
        (None, None) => return Err(no_plan(scene, may_stay, tried)),
    };
    Ok(split(scene, whole, made, alternatives, why))
}

/// Costs that differ by less are the same.
const NEAR: f64 = 1e-9;

/// Why nothing was found: how much memory is missing at best, else why there is no pipeline, the most general of all.
fn no_plan(scene: &Scene<'_>, may_stay: bool, tried: Vec<(Strategy, Result<Made, PlanError>)>) -> PlanError {
    let errors: Vec<_> = tried.into_iter().filter_map(|(_, made)| made.err()).collect();
    let missing = |error: &PlanError| match error {
        PlanError::Memory { missing_bytes, .. } => Some(*missing_bytes),
        _ => None,
    };
    let largest = scene.lanes.iter().map(|lane| lane.memory).max().unwrap_or(0);
    let whole = may_stay.then(|| scene.weight_bytes().saturating_sub(largest));
    let missing = errors.iter().filter_map(missing).chain(whole).min();
    match missing {
        Some(missing) => scene.no_memory(missing as f64),
        None => errors.into_iter().next().expect("what may not stay whole was tried to be split"),
    }
}

fn make(scene: &Scene<'_>, strategy: Strategy) -> Result<Made, PlanError> {
    let stages = match strategy {
        Strategy::Component => component::best(scene)?,
        Strategy::AttentionFeedforward => alternate::best(scene)?,
        Strategy::Even => contiguous::even(scene, contiguous::limits(scene)?.most)?,
        Strategy::Auto | Strategy::Pipeline => contiguous::best(scene, contiguous::limits(scene)?, false)?,
        Strategy::Hybrid => contiguous::best(scene, contiguous::limits(scene)?, true)?,
        Strategy::Tensor => tensor::best(scene)?,
    };
    Ok(Made::new(scene, shape(strategy), stages))
}

fn shape(strategy: Strategy) -> Shape {
    match strategy {
        Strategy::Auto | Strategy::Pipeline => Shape::Pipeline,
        Strategy::Even => Shape::Even,
        Strategy::Component => Shape::Component,
        Strategy::AttentionFeedforward => Shape::AttentionFeedforward,
        Strategy::Hybrid => Shape::Hybrid,
        Strategy::Tensor => Shape::Tensor,
    }
}

/// The whole model in the lanes that hold it.
struct Whole {
    /// In the best lane for the objective.
    single: Option<Made>,
    /// In each of several lanes, as many as are best.
    replicas: Option<Made>,
    /// Of one request, in the lane where that is least.
    latency: Option<f64>,
}

impl Whole {
    fn new(scene: &Scene<'_>) -> Self {
        let bytes = scene.weight_bytes();
        let units: Vec<_> = (0..scene.chain.units.len()).collect();
        let made = |shape, lanes| Made::new(scene, shape, vec![Placed { units: units.clone(), lanes }]);
        let holding = (0..scene.lanes.len()).filter(|lane| scene.lanes[*lane].memory >= bytes);
        let mut singles: Vec<_> = holding.map(|lane| made(Shape::Single, vec![lane])).collect();
        singles.sort_by(|a, b| a.times.period.total_cmp(&b.times.period));
        let fastest: Vec<_> = singles.iter().map(|made| made.stages[0].lanes[0]).collect();
        let replicas = (2..=fastest.len()).map(|count| {
            let mut lanes = fastest[..count].to_vec();
            lanes.sort_unstable();
            made(Shape::Replicas, lanes)
        });
        Self {
            replicas: replicas.min_by(|a, b| a.cost.total_cmp(&b.cost)),
            latency: singles.iter().map(|made| made.times.latency).reduce(f64::min),
            single: singles.into_iter().min_by(|a, b| a.cost.total_cmp(&b.cost)),
        }
    }

    fn best(&self) -> Option<&Made> {
        let better = |replicas: &&Made| self.single.as_ref().is_none_or(|single| replicas.cost < single.cost);
        self.replicas.as_ref().filter(better).or(self.single.as_ref())
    }

    fn alternatives(&self) -> Vec<Alternative> {
        let made = |shape, made: &Option<Made>, lacking: &str| Alternative {
            shape,
            cost_us: made.as_ref().map(|made| made.cost),
            refused: made.is_none().then(|| lacking.to_owned()),
        };
        vec![
            made(Shape::Single, &self.single, "no lane holds all weights"),
            made(Shape::Replicas, &self.replicas, "no two lanes hold all weights"),
        ]
    }
}

/// Whether this split is worth it.
fn judge(scene: &Scene<'_>, whole: &Whole, made: &Made) -> Why {
    let Some(unsplit) = whole.best() else {
        let largest = scene.lanes.iter().map(|lane| lane.memory).max().unwrap_or(0);
        let sentence = format!(
            "Split, because no lane holds the {} of weights: the largest has room for {}.",
            megabytes(scene.weight_bytes()),
            megabytes(largest)
        );
        return Why { worth: true, reason: Reason::OnlySplitFits, gain: None, sentence };
    };
    let gain = unsplit.cost / made.cost;
    let against = match unsplit.shape {
        Shape::Replicas => format!("the whole model in each of {} lanes", unsplit.stages[0].lanes.len()),
        _ => format!("the whole model in {}", scene.lanes[unsplit.stages[0].lanes[0]].id),
    };
    let compared = format!(
        "{} of {} stages takes {} {}, {against} {}",
        made.shape.as_str(),
        made.stages.len(),
        milliseconds(made.cost),
        unit(scene.objective),
        milliseconds(unsplit.cost)
    );
    let enough = gain >= 1.0 / (1.0 - GAIN_LEAST);
    let (worth, reason, sentence) = if scene.objective == Objective::Memory {
        (false, Reason::Fits, format!("Better not split, because it fits without: {compared}."))
    } else if !enough {
        let reason = if unsplit.shape == Shape::Replicas { Reason::Replicas } else { Reason::OneLane };
        let least = GAIN_LEAST * 100.0;
        (false, reason, format!("Better not split, because that saves less than {least:.0} %: {compared}."))
    } else if !(made.measured(scene) && unsplit.measured(scene)) {
        (
            false,
            Reason::NotMeasured,
            format!("Better not split before it is measured: by guesses {compared}."),
        )
    } else {
        (true, Reason::Faster, format!("Split, because it is faster: {compared}."))
    };
    Why { worth, reason, gain: Some(gain), sentence }
}

/// Why there is no split to judge.
fn unsplit(scene: &Scene<'_>, made: &Made) -> Why {
    let sentence = format!(
        "Not split, because these lanes, this graph and what was asked for allow no split: the whole model takes {} {}.",
        milliseconds(made.cost),
        unit(scene.objective)
    );
    let reason = if scene.objective == Objective::Memory { Reason::Fits } else { Reason::NoSplit };
    Why { worth: false, reason, gain: None, sentence }
}

fn split(scene: &Scene<'_>, whole: &Whole, made: &Made, alternatives: Vec<Alternative>, why: Why) -> Split {
    let shared = made.stages.iter().any(|stage| stage.lanes.len() > 1) || scene.strategy == Strategy::Auto;
    let cost_us = bound::bound(scene, whole.latency, shared);
    debug_assert_eq!(schedule::missing(scene, &made.stages, &made.loads), 0);
    Split {
        shape: made.shape,
        objective: scene.objective,
        stages: made.stage_plans(scene),
        forecast: made.forecast(scene),
        bound: Bound { cost_us, gap: bound::gap(made.cost, cost_us) },
        alternatives,
        why,
    }
}

fn unit(objective: Objective) -> &'static str {
    match objective {
        Objective::Latency | Objective::Memory => "per request",
        Objective::Throughput { .. } => "between two answers",
        Objective::Stream { .. } => "for all requests",
    }
}

fn milliseconds(us: f64) -> String {
    format!("{:.2} ms", us / 1e3)
}

fn megabytes(bytes: u64) -> String {
    format!("{:.1} MB", bytes as f64 / 1e6)
}
