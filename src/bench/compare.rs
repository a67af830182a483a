//! Two results against each other, cell by cell.

use serde::{Deserialize, Serialize};

use super::{
    Scenario, Varied,
    environment::{Difference, differences},
    results::{Cell, Key, Outcome, Results, Served},
    statistics::{Interval, apart, bounded, corrected, mann_whitney, quantile, signed_rank, stretches},
};
use crate::domain::{BackendKind, ModelName};

/// Fewer say nothing about a difference.
const SAMPLES_MIN: usize = 9;

/// The share of false alarms among all alarms that is accepted.
const FALSE_ALARMS: f64 = 0.05;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    Better,
    Worse,
    Same,
    /// It was not measured well enough in both, or is off by more than the noise and less than can be told from chance.
    Unknown,
}

impl Verdict {
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Better => "better",
            Self::Worse => "worse",
            Self::Same => "same",
            Self::Unknown => "unknown",
        }
    }
}

/// A cell of both results.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Judged {
    pub model: ModelName,
    pub browser: String,
    pub backend: BackendKind,
    pub scenario: Scenario,
    #[serde(flatten)]
    pub varied: Varied,
    pub verdict: Verdict,
    /// The head's median over the base's, of stretches of their samples, or the median of ratios of rounds in which both
    /// took turns: above one it is slower.
    pub ratio: Option<Interval>,
    /// How probable such a difference is by chance, corrected for the number of cells.
    pub probability: Option<f64>,
    /// Why the verdict is unknown.
    pub reason: Option<String>,
    /// In what the lanes differ, which does not keep them from being compared.
    pub differences: Vec<Difference>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Comparison {
    pub base: String,
    pub head: String,
    /// What keeps the machines from being compared; then every verdict is unknown.
    pub differences: Vec<Difference>,
    pub cells: Vec<Judged>,
}

/// Judges every cell of either result; less than `noise` is no difference.
#[must_use]
pub fn compare(base: &Results, head: &Results, noise: f64) -> Comparison {
    let machines = differences(&base.environment, &head.environment);
    let mut cells: Vec<_> = head
        .cells
        .iter()
        .filter(|cell| cell.state.outcome != Outcome::Excluded)
        .map(|cell| {
            let before = base.cells.iter().find(|before| before.is_same(cell));
            let mut judged = measured(before, cell, what_differs(before, cell, &machines));
            let place = format!("{}/{}", cell.browser, cell.backend);
            let places = base.environment.places.get(&place).zip(head.environment.places.get(&place));
            judged.differences = places.map(|(base, head)| base.differences(head)).unwrap_or_default();
            judged
        })
        .collect();
    judge(&mut cells, noise);
    let gone = base.cells.iter().filter(|cell| {
        cell.state.outcome == Outcome::Ok && !head.cells.iter().any(|other| other.is_same(cell))
    });
    cells.extend(gone.map(|cell| Judged::unknown(cell, "it is not in the head")));
    Comparison { base: base.id.clone(), head: head.id.clone(), differences: machines, cells }
}

/// Judges cells of a precision by those of another one of the same result.
#[must_use]
pub fn compare_precisions(results: &Results, [base, head]: [&str; 2], noise: f64) -> Comparison {
    let of = |cell: &&Cell, precision: &str| cell.varied.precision.as_deref() == Some(precision);
    let heads = results.cells.iter().filter(|cell| of(cell, head) && cell.state.outcome != Outcome::Excluded);
    let judged = heads.map(|cell| {
        let mut as_base = cell.key();
        as_base.varied.precision = Some(base.to_owned());
        measured(results.cells.iter().find(|before| before.key() == as_base), cell, None)
    });
    let mut cells: Vec<_> = judged.collect();
    judge(&mut cells, noise);
    let named = |precision| format!("{} {precision}", results.id);
    Comparison { base: named(base), head: named(head), differences: Vec::new(), cells }
}

/// Gives cells their verdicts, now that it is known how many there are.
fn judge(cells: &mut [Judged], noise: f64) {
    let probabilities: Vec<_> = cells.iter().filter_map(|cell| cell.probability).collect();
    let tested = cells.iter_mut().filter(|cell| cell.probability.is_some());
    for (cell, probability) in tested.zip(corrected(&probabilities)) {
        cell.judge(probability, noise);
    }
}

/// What keeps two cells of the same name from being compared.
fn what_differs(before: Option<&Cell>, cell: &Cell, machines: &[Difference]) -> Option<&'static str> {
    if !machines.is_empty() {
        return Some("the machines differ");
    }
    let other = before.is_some_and(|before| before.model_digest != cell.model_digest);
    other.then_some("the name stands for another model")
}

/// A cell with what its samples say, before it is known how many others there are.
fn measured(before: Option<&Cell>, cell: &Cell, differs: Option<&str>) -> Judged {
    let Some(before) = before else { return Judged::unknown(cell, "it is not in the base") };
    for (result, cell) in [("base", before), ("head", cell)] {
        if cell.state.outcome != Outcome::Ok {
            let why = cell.state.reason.as_deref().unwrap_or("it was not measured");
            return Judged::unknown(cell, &format!("in the {result}: {why}"));
        }
        if cell.samples_us.is_empty() || cell.samples_us.len() + refused(cell) < SAMPLES_MIN {
            return Judged::unknown(cell, &format!("the {result} has fewer than {SAMPLES_MIN} samples"));
        }
    }
    let (ratio, probability) = match cell.against(before) {
        Some(rounds) if rounds.len() >= SAMPLES_MIN => {
            let apart: Vec<_> = rounds.iter().map(|ratio| ratio.ln()).collect();
            (bounded(&rounds, 0.5), signed_rank(&apart))
        }
        _ => unpaired(before, cell),
    };
    let ratio = Some(ratio);
    match differs {
        Some(reason) => Judged { ratio, ..Judged::unknown(cell, reason) },
        None => Judged { ratio, probability: Some(probability), reason: None, ..Judged::unknown(cell, "") },
    }
}

/// What samples say that were not taken in turns with each other.
fn unpaired(before: &Cell, cell: &Cell) -> (Interval, f64) {
    let slowest = quantile(&[&cell.samples_us[..], &before.samples_us].concat(), 1.0);
    let mut both = [before, cell].map(|cell| series(cell, slowest));
    // A refusal has no place among the samples.
    if refused(before) + refused(cell) == 0 {
        both = both.map(|series| stretches(&series));
    }
    let [before_us, head_us] = both;
    (apart(&head_us, &before_us), mann_whitney(&head_us, &before_us))
}

fn refused(cell: &Cell) -> usize {
    cell.served.as_ref().map_or(0, Served::refusals)
}

/// A cell's samples; a request that was refused counts as slow as the slowest answer.
fn series(cell: &Cell, slowest: f64) -> Vec<f64> {
    cell.samples_us.iter().copied().chain(std::iter::repeat_n(slowest, refused(cell))).collect()
}

impl Judged {
    fn unknown(cell: &Cell, reason: &str) -> Self {
        let Key { model, browser, backend, scenario, varied } = cell.key();
        Self {
            model,
            browser,
            backend,
            scenario,
            varied,
            verdict: Verdict::Unknown,
            ratio: None,
            probability: None,
            reason: Some(reason.to_owned()),
            differences: Vec::new(),
        }
    }

    fn judge(&mut self, probability: f64, noise: f64) {
        self.probability = Some(probability);
        let Some(ratio) = self.ratio else { return };
        let least = 1.0 + noise;
        let told = probability < FALSE_ALARMS;
        self.verdict = if ratio.value <= least && ratio.value >= 1.0 / least {
            Verdict::Same
        } else if told && ratio.low > 1.0 {
            Verdict::Worse
        } else if told && ratio.high < 1.0 {
            Verdict::Better
        } else {
            self.reason = Some("the difference may be chance".to_owned());
            Verdict::Unknown
        };
    }
}

impl Comparison {
    #[must_use]
    pub fn worse(&self) -> usize {
        self.cells.iter().filter(|cell| cell.verdict == Verdict::Worse).count()
    }
}
