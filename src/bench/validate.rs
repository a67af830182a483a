//! Whether a result can be believed, by levels: each is a list of checks, with those of the levels below it. Pure.

mod quality;

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

pub use quality::{Part, Quality};

use super::{
    Cell, Outcome, Results, Scenario, differences,
    statistics::{median, outliers},
};
use crate::domain::VerdictStatus;

/// How much a result is asked to bear.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Level {
    Minimal,
    Standard,
    Strict,
    Certification,
}

impl Level {
    pub const ALL: [Self; 4] = [Self::Minimal, Self::Standard, Self::Strict, Self::Certification];

    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Minimal => "minimal",
            Self::Standard => "standard",
            Self::Strict => "strict",
            Self::Certification => "certification",
        }
    }

    /// Runs that must agree, this one included.
    fn runs(self) -> usize {
        match self {
            Self::Minimal => 1,
            Self::Standard => 3,
            Self::Strict => 5,
            Self::Certification => 10,
        }
    }
}

/// How far the same work may take longer or shorter afterwards.
const DRIFT_MAX: f64 = 0.05;

/// Samples of a cell, where nothing is started for each, and where something is.
const SAMPLES_MIN: usize = 30;
const STARTS_MIN: usize = 9;

/// Half of a median's interval, as a share of the median.
const SPREAD_MAX: f64 = 0.05;
const SPREAD_MAX_CERTIFIED: f64 = 0.02;

/// The share of a cell's samples beyond Tukey's fences.
const OUTLIERS_MAX: f64 = 0.1;

/// Samples of a warm-up.
const WARM_UP_MIN: usize = 5;

/// The deviation of a cell's medians over runs, as a share of their mean.
const VARIATION_MAX: f64 = 0.05;

/// Cells that a check names at most.
const NAMED: usize = 3;

/// What a check said
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Check {
    pub name: String,
    /// The lowest level that wants it.
    pub level: Level,
    pub passed: bool,
    /// What was wanted, and what fell short of it.
    pub says: String,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Validation {
    pub level: Level,
    /// Whether all of the checks passed.
    pub valid: bool,
    pub checks: Vec<Check>,
    pub quality: Quality,
    /// Runs of the same suite on the same machine, lanes and weft that it was held against.
    pub repeats: Vec<String>,
}

/// Looks at a result, and at others of which those that repeat it count.
#[must_use]
pub fn validate(results: &Results, others: &[Results], level: Level) -> Validation {
    // A run counts once, however often it is named; what goes on from one begins when it did.
    let (mut ids, mut begins) = (BTreeSet::from([&results.id]), BTreeSet::from([results.started_at_us]));
    let others: Vec<_> = others
        .iter()
        .filter(|other| other.suite_sha256 == results.suite_sha256)
        .filter(|other| ids.insert(&other.id) && begins.insert(other.started_at_us))
        .collect();
    let repeats: Vec<_> = others.iter().copied().filter(|other| repeats(results, other)).collect();
    let variation = variation(results, &repeats);
    let look = Look { results, others: &others, repeats: &repeats, variation: &variation };
    let checks: Vec<_> = look.checks(level).into_iter().filter(|check| check.level <= level).collect();
    Validation {
        level,
        valid: checks.iter().all(|check| check.passed),
        checks,
        quality: Quality::of(results, &variation),
        repeats: repeats.iter().map(|repeat| repeat.id.clone()).collect(),
    }
}

/// Whether nothing that is known differs, and every cell had its turn.
fn repeats(results: &Results, other: &Results) -> bool {
    let (one, two) = (&results.environment, &other.environment);
    other.complete
        && differences(one, two).is_empty()
        && (&one.weft, &one.commit, &one.places) == (&two.weft, &two.commit, &two.places)
}

/// By cell, the deviation of its medians over all runs as a share of their mean; of cells that are ok in all.
fn variation(results: &Results, repeats: &[&Results]) -> BTreeMap<String, f64> {
    let ok = |cell: &&Cell| cell.state.outcome == Outcome::Ok;
    let mut found = BTreeMap::new();
    for cell in results.cells.iter().filter(ok) {
        let again = repeats.iter().map(|repeat| {
            let of = repeat.cells.iter().filter(ok).find(|other| is_same(other, cell))?;
            Some(median(&of.samples_us))
        });
        let medians: Option<Vec<_>> = std::iter::once(Some(median(&cell.samples_us))).chain(again).collect();
        if let Some(medians) = medians.filter(|medians| medians.len() > 1) {
            found.insert(named(cell), coefficient(&medians));
        }
    }
    found
}

/// Whether both are of the same model's file, too.
fn is_same(one: &Cell, two: &Cell) -> bool {
    one.model_digest == two.model_digest && one.is_same(two)
}

fn coefficient(values: &[f64]) -> f64 {
    let mean = values.iter().sum::<f64>() / values.len() as f64;
    let squares = values.iter().map(|value| (value - mean).powi(2)).sum::<f64>();
    (squares / (values.len() - 1) as f64).sqrt() / mean
}

fn named(cell: &Cell) -> String {
    format!("{} in {}/{}, {}", cell.model, cell.browser, cell.backend, cell.varied.of(cell.scenario))
}

struct Look<'a> {
    results: &'a Results,
    /// Of the same suite.
    others: &'a [&'a Results],
    repeats: &'a [&'a Results],
    variation: &'a BTreeMap<String, f64>,
}

impl Look<'_> {
    fn checks(&self, level: Level) -> Vec<Check> {
        [self.minimal(), self.standard(), self.agreement(level), self.strict(), self.certification()].concat()
    }

    fn measured(&self) -> impl Iterator<Item = &Cell> {
        self.results.cells.iter().filter(|cell| cell.state.outcome == Outcome::Ok)
    }

    /// Of cells that are ok, none may be as `wrong` says.
    fn none(&self, level: Level, name: &str, wanted: &str, wrong: impl Fn(&Cell) -> Option<String>) -> Check {
        let found = self.measured().filter_map(|cell| Some(format!("{}: {}", named(cell), wrong(cell)?)));
        check(level, name, wanted, found.collect())
    }

    fn minimal(&self) -> Vec<Check> {
        let broken = self.results.failures();
        let broken = broken.map(|cell| format!("{} is {}", named(cell), cell.state.outcome.name()));
        let nothing = self.measured().next().is_none().then(|| "none is".to_owned());
        vec![
            check(Level::Minimal, "right", "no cell is wrong or failed", broken.collect()),
            check(Level::Minimal, "measured", "a cell is ok", nothing.into_iter().collect()),
        ]
    }

    fn standard(&self) -> Vec<Check> {
        let results = self.results;
        let unfinished =
            (!results.complete).then(|| "it was interrupted or ran out of its budget".to_owned());
        let drift = results.calibration_us[1] / results.calibration_us[0];
        let steady = (1.0 / (1.0 + DRIFT_MAX)..=1.0 + DRIFT_MAX).contains(&drift);
        let drifted = (!steady).then(|| format!("it took {drift:.3} of what it took before"));
        let environment = &results.environment;
        let unknown = [&environment.processor, &environment.kernel]
            .into_iter()
            .any(|part| part.is_empty() || part == "unknown")
            .then(|| "the processor or the kernel is not known".to_owned());
        let level = Level::Standard;
        vec![
            check(level, "complete", "every cell had its turn", unfinished.into_iter().collect()),
            self.none(level, "warm", "cells were warm when they were measured", |cell| {
                let cold = cell.scenario == Scenario::ColdStart || cell.warm_up_us.is_empty();
                (!cold && !cell.warm).then(|| "it was still warming up".to_owned())
            }),
            self.none(level, "samples", "a cell has 30 samples, one of cold starts 9", |cell| {
                let least = if cell.scenario == Scenario::ColdStart { STARTS_MIN } else { SAMPLES_MIN };
                let had = cell.samples_us.len();
                (had < least).then(|| format!("it has {had}"))
            }),
            self.spread(level, "spread", SPREAD_MAX),
            check(
                level,
                "steady",
                "the same work took as long afterwards, within 5 %",
                drifted.into_iter().collect(),
            ),
            check(level, "environment", "the machine is known", unknown.into_iter().collect()),
            self.none(level, "lanes", "of each cell's lane it is known what it was", |cell| {
                let lane = format!("{}/{}", cell.browser, cell.backend);
                (!environment.places.contains_key(&lane)).then(|| format!("{lane} is not described"))
            }),
        ]
    }

    fn spread(&self, level: Level, name: &str, most: f64) -> Check {
        let wanted = format!("half of a median's interval is at most {} % of it", most * 100.0);
        self.none(level, name, &wanted, |cell| {
            let spread = cell.figures()?.median.spread();
            // A cold start is what it is: nine of them are compared, not narrowed down.
            let counts = cell.scenario != Scenario::ColdStart;
            (counts && spread > most).then(|| format!("{:.1} %", spread * 100.0))
        })
    }

    fn strict(&self) -> Vec<Check> {
        let commit = &self.results.environment.commit;
        let unknown = (commit == "unknown" || commit.ends_with("-dirty")).then(|| {
            format!("it is {commit}: a debug build, or one of changed files or outside of the repository")
        });
        let strict = Level::Strict;
        vec![
            check(strict, "commit", "weft is a commit's release build", unknown.into_iter().collect()),
            check(strict, "undisturbed", "nothing disturbed it", self.results.warnings.clone()),
            self.none(
                strict,
                "outliers",
                "at most a tenth of a cell's samples is beyond Tukey's fences",
                |cell| {
                    let share = outliers(&cell.samples_us).len() as f64 / cell.samples_us.len() as f64;
                    (share > OUTLIERS_MAX).then(|| format!("{:.1} %", share * 100.0))
                },
            ),
            self.none(
                strict,
                "provenance",
                "a cell's answers came from where it says, from a lane that is proven",
                |cell| {
                    let Some(provenance) = &cell.provenance else { return Some("none is kept".to_owned()) };
                    if provenance.fallback.is_some() {
                        return Some("another lane answered".to_owned());
                    }
                    let proven =
                        matches!(provenance.verdict, VerdictStatus::Reference | VerdictStatus::Verified);
                    (!proven).then(|| format!("its lane is {}", provenance.verdict.as_str()))
                },
            ),
        ]
    }

    /// How many runs are wanted depends on the level that is asked for.
    fn agreement(&self, level: Level) -> Vec<Check> {
        let (had, least) = (self.repeats.len() + 1, level.runs());
        let wanted = format!("{least} runs of it on the same machine, lanes and weft");
        let missing = (had < least).then(|| format!("there are {had}"));
        let repeated = check(Level::Standard, "repeated", &wanted, missing.into_iter().collect());
        let mut apart: Vec<_> = self
            .variation
            .iter()
            .filter(|(_, variation)| **variation > VARIATION_MAX)
            .map(|(cell, variation)| format!("{cell}: {:.1} %", variation * 100.0))
            .collect();
        let unknown = self.measured().map(named).filter(|cell| !self.variation.contains_key(cell));
        apart.extend(unknown.map(|cell| format!("{cell}: was not measured in all")));
        let wanted = "a cell's medians over the runs deviate by at most 5 % of their mean";
        vec![repeated, check(Level::Standard, "reproducible", wanted, apart)]
    }

    fn certification(&self) -> Vec<Check> {
        let level = Level::Certification;
        let elsewhere: Vec<_> = self
            .others
            .iter()
            .filter(|other| !differences(&self.results.environment, &other.environment).is_empty())
            .collect();
        let broken = elsewhere.iter().flat_map(|other| {
            other
                .failures()
                .map(|cell| format!("{} is {} in {}", named(cell), cell.state.outcome.name(), other.id))
        });
        let mut wrong: Vec<_> = broken.collect();
        if elsewhere.is_empty() {
            wrong.push("none is there".to_owned());
        }
        for other in elsewhere {
            let measured = |cell: &Cell| {
                other.cells.iter().any(|it| it.state.outcome == Outcome::Ok && is_same(it, cell))
            };
            let missing = self.measured().filter(|cell| !measured(cell));
            wrong.extend(missing.map(|cell| format!("{} is not ok in {}", named(cell), other.id)));
        }
        vec![
            self.spread(level, "narrow", SPREAD_MAX_CERTIFIED),
            self.none(level, "warm-up", "a cell's warm-up has 5 samples", |cell| {
                let had = cell.warm_up_us.len();
                let wanted = cell.scenario != Scenario::ColdStart;
                (wanted && had < WARM_UP_MIN).then(|| format!("it has {had}"))
            }),
            check(level, "independent", "another machine's run of the suite is right, too", wrong),
        ]
    }
}

/// Passed when nothing falls short.
fn check(level: Level, name: &str, wanted: &str, short: Vec<String>) -> Check {
    let passed = short.is_empty();
    let more = short.len().saturating_sub(NAMED);
    let mut says = vec![wanted.to_owned()];
    says.extend(short.into_iter().take(NAMED));
    if more > 0 {
        says.push(format!("and {more} more"));
    }
    Check { name: name.to_owned(), level, passed, says: says.join("; ") }
}
