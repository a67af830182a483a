//! When a better plan takes the place of the one that stands: which is worth a trial, and what two trials say.

use super::{GAIN_LEAST, split::Shape, split::Split};
use crate::domain::{Costs, ReviewVerdict};

impl Split {
    /// Microseconds, by the objective, of the whole model in one lane or in each of several.
    pub fn whole_us(&self) -> Option<f64> {
        let whole =
            self.alternatives.iter().filter(|other| matches!(other.shape, Shape::Single | Shape::Replicas));
        whole.filter_map(|other| other.cost_us).reduce(f64::min)
    }

    /// Whether the model is better not split.
    pub fn is_whole(&self) -> bool {
        matches!(self.shape, Shape::Single | Shape::Replicas)
    }
}

/// Whether the candidate saves so much that it is worth the change; none where either cost is not known.
fn gains(Costs { standing, candidate }: Costs) -> Option<bool> {
    let (standing, candidate) = (standing?, candidate?);
    Some(candidate <= standing * (1.0 - GAIN_LEAST))
}

/// Whether to make a candidate and to measure it: where no forecast can tell, measuring does.
pub fn is_worth_a_trial(forecast_us: Costs) -> bool {
    gains(forecast_us).unwrap_or(true)
}

/// What a trial says of a candidate that was better in an earlier review, or was in none.
pub fn verdict(measured_us: Costs, better_before: bool) -> ReviewVerdict {
    match (gains(measured_us), better_before) {
        (Some(true), true) => ReviewVerdict::Replaced,
        (Some(true), false) => ReviewVerdict::BetterOnce,
        (Some(false) | None, _) => ReviewVerdict::Kept,
    }
}
