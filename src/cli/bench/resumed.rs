//! A run that goes on where an earlier one was interrupted.

use std::collections::BTreeMap;

use anyhow::bail;

use super::super::Misuse;
use crate::bench::{Cell, Environment, Outcome, Results, differences};

/// What of the earlier run stays.
pub(super) struct Resumed {
    earlier: Results,
    /// Cells that are not measured again.
    pub(super) measured: Vec<Cell>,
}

impl Resumed {
    /// Refuses what is of another suite, or was measured elsewhere or with something else.
    pub(super) fn new(
        earlier: Results,
        suite_sha256: &str,
        environment: &Environment,
    ) -> anyhow::Result<Self> {
        if earlier.complete {
            return Err(Misuse(format!("{} was not interrupted: nothing is left of it", earlier.id)).into());
        }
        if earlier.suite_sha256 != suite_sha256 {
            bail!("{} is of another suite, or the suite\'s file has changed since", earlier.id);
        }
        let before = &earlier.environment;
        let mut apart: Vec<_> = differences(before, environment)
            .into_iter()
            .map(|of| format!("{}: {} and {}", of.part, of.base, of.head))
            .collect();
        let weft = [before, environment].map(|of| format!("{} ({})", of.weft, of.commit));
        if weft[0] != weft[1] {
            apart.push(format!("weft: {} and {}", weft[0], weft[1]));
        }
        for (lane, place) in &environment.places {
            let of_lane = before.places.get(lane).map(|earlier| earlier.differences(place));
            let of_lane = of_lane.unwrap_or_default().into_iter();
            apart.extend(of_lane.map(|of| format!("{lane}, {}: {} and {}", of.part, of.base, of.head)));
        }
        if !apart.is_empty() {
            bail!("{} was measured elsewhere: {}", earlier.id, apart.join("; "));
        }
        let measured =
            earlier.cells.iter().filter(|cell| cell.state.outcome.had_its_turn()).cloned().collect();
        Ok(Self { earlier, measured })
    }

    pub(super) fn id(&self) -> &str {
        &self.earlier.id
    }

    /// What the two runs are together.
    pub(super) fn join(&self, results: &mut Results) {
        let Self { earlier, measured } = self;
        results.started_at_us = earlier.started_at_us.min(results.started_at_us);
        results.calibration_us[0] = earlier.calibration_us[0];
        let places = earlier.environment.places.clone();
        for (lane, place) in places {
            results.environment.places.entry(lane).or_insert(place);
        }
        results.warnings.extend(earlier.warnings.iter().cloned());
        results.warnings.sort();
        results.warnings.dedup();
        self.tell_others_files(&mut results.cells);
        results.warnings.push(format!(
            "{} of {} cells were measured by {} before it was interrupted: what the machine did in between is not known",
            measured.len(),
            results.cells.len(),
            earlier.id
        ));
    }

    /// What was measured with another file under a model's name does not go with the rest.
    fn tell_others_files(&self, cells: &mut [Cell]) {
        let of = |cell: &Cell| (cell.model.clone(), cell.varied.precision.clone());
        let is_earlier = |cell: &Cell| self.measured.iter().any(|earlier| earlier.is_same(cell));
        let now: BTreeMap<_, _> = cells
            .iter()
            .filter(|cell| !is_earlier(cell))
            .filter_map(|cell| Some((of(cell), cell.model_digest?)))
            .collect();
        for cell in cells {
            let is_other = now.get(&of(cell)).is_some_and(|digest| cell.model_digest != Some(*digest));
            if is_other && is_earlier(cell) {
                cell.state.outcome = Outcome::Failed;
                cell.state.reason = Some("the model's name stands for another file since".to_owned());
            }
        }
    }
}
