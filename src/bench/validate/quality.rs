//! One figure for how good a result is, and what it is made of. Pure.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::super::{Cell, Outcome, Results, statistics::quantile};

/// Where a part has come down to nothing: an interval's half or a deviation over runs of a fifth, a drift of a quarter.
const SPREAD_WORST: f64 = 0.2;
const VARIATION_WORST: f64 = 0.2;
const DRIFT_WORST: f64 = 0.25;

/// A result's quality
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Quality {
    /// Between 0 and 1: the parts' mean by their weights.
    pub score: f64,
    pub parts: Vec<Part>,
}

/// Between 0 and 1
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Part {
    pub name: String,
    pub value: f64,
    pub weight: f64,
    pub says: String,
}

impl Quality {
    /// With the deviation of cells over runs, which is nothing where there was one run.
    pub(super) fn of(results: &Results, variation: &BTreeMap<String, f64>) -> Self {
        let count = |outcomes: &[Outcome]| {
            results.cells.iter().filter(|cell| outcomes.contains(&cell.state.outcome)).count()
        };
        let share = |part: usize, all: usize| if all == 0 { 0.0 } else { part as f64 / all as f64 };
        let ok = count(&[Outcome::Ok]);
        let asked = ok + count(&[Outcome::Wrong, Outcome::Failed]);
        let wanted = results.cells.len() - count(&[Outcome::Excluded]);
        let figures = results.cells.iter().filter(|cell| cell.state.outcome == Outcome::Ok);
        let spreads: Vec<_> =
            figures.filter_map(Cell::figures).map(|figures| figures.median.spread()).collect();
        let drift = (results.calibration_us[1] / results.calibration_us[0]).ln().abs();
        let variations: Vec<_> = variation.values().copied().collect();
        let middle = |values: &[f64]| if values.is_empty() { None } else { Some(quantile(values, 0.5)) };
        let left = |value: Option<f64>, worst: f64| value.map_or(0.0, |value| (1.0 - value / worst).max(0.0));
        let percent = |value: Option<f64>, unknown: &str| {
            value.map_or_else(|| unknown.to_owned(), |value| format!("{:.2} %", value * 100.0))
        };
        let (spread, varies) = (middle(&spreads), middle(&variations));
        let parts = [
            ("right", share(ok, asked), 0.3, format!("{ok} of {asked} cells that were asked are ok")),
            ("measured", share(ok, wanted), 0.2, format!("{ok} of {wanted} cells that were wanted are ok")),
            (
                "narrow",
                left(spread, SPREAD_WORST),
                0.2,
                format!(
                    "half of a median's interval is {} of it in the middle cell",
                    percent(spread, "nothing")
                ),
            ),
            (
                "steady",
                left(Some(drift), DRIFT_WORST),
                0.1,
                format!("the machine drifted by {}", percent(Some(drift), "")),
            ),
            (
                "reproducible",
                left(varies, VARIATION_WORST),
                0.2,
                match varies {
                    Some(_) => {
                        format!("medians over runs deviate by {} in the middle cell", percent(varies, ""))
                    }
                    None => "it was not repeated".to_owned(),
                },
            ),
        ];
        let parts: Vec<_> = parts
            .into_iter()
            .map(|(name, value, weight, says)| Part { name: name.to_owned(), value, weight, says })
            .collect();
        Self { score: parts.iter().map(|part| part.value * part.weight).sum(), parts }
    }
}
