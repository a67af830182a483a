//! A suite as its file says it, read strictly: whatever is wrong is named with its line.

mod tables;

use std::{collections::BTreeSet, ops::Range, time::Duration};

use serde::Deserialize;
use toml::Spanned;

use super::{Scenario, Scenarios, Varied};
use crate::domain::{BackendKind, ModelName};
use tables::RawScenarios;

/// Longer than this nobody may have a browser to themselves.
const BUDGET_MAX: Duration = Duration::from_secs(3600);

/// What a browser is called that is none: the daemon's own process.
const NATIVE: &str = "native";

/// When a cell has been measured enough.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    /// Samples that are thrown away, at least; more where they still fall.
    pub warm_up: usize,
    pub samples_min: usize,
    pub samples_max: usize,
    /// Half the width of the median's interval, as a share of the median, below which no more is measured.
    pub spread: f64,
    /// Of all samples of a cell together.
    #[serde(with = "humantime_serde")]
    pub time: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self { warm_up: 5, samples_min: 30, samples_max: 2000, spread: 0.02, time: Duration::from_secs(10) }
    }
}

/// A model that is measured.
#[derive(Clone, Debug, PartialEq)]
pub struct Subject {
    pub name: ModelName,
    /// Where it comes from when the daemon does not have it.
    pub source: Option<String>,
    /// A file of inputs, in the form of the gate's.
    pub inputs: String,
    /// How far an answer may be off the native one, as a share of its largest value.
    pub tolerance: f64,
}

/// A cell of the suite's matrix.
#[derive(Clone, Debug, PartialEq)]
pub struct Wanted {
    /// Among the suite's.
    pub model: usize,
    pub browser: String,
    pub backend: BackendKind,
    pub scenario: Scenario,
    pub varied: Varied,
    /// Why it is not measured.
    pub excluded: Option<String>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Suite {
    pub name: String,
    pub about: String,
    /// Of the whole suite; when it is over, what is missing says so.
    pub budget: Duration,
    pub models: Vec<Subject>,
    pub limits: Limits,
    pub scenarios: Scenarios,
    pub cells: Vec<Wanted>,
}

#[derive(Debug, thiserror::Error)]
#[error("{file}:{line}: {message}")]
pub struct SuiteError {
    pub file: String,
    pub line: usize,
    pub message: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawSuite {
    name: Spanned<String>,
    about: String,
    budget: Spanned<String>,
    model: Vec<Spanned<RawModel>>,
    #[serde(default)]
    limits: Option<Spanned<Limits>>,
    matrix: Spanned<RawMatrix>,
    #[serde(default)]
    scenario: RawScenarios,
    #[serde(default)]
    exclude: Vec<Spanned<RawExclude>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawModel {
    name: Spanned<ModelName>,
    source: Option<String>,
    inputs: String,
    #[serde(default = "tolerance")]
    tolerance: Spanned<f64>,
}

fn tolerance() -> Spanned<f64> {
    Spanned::new(0..0, 1e-3)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawMatrix {
    browser: Spanned<Vec<String>>,
    backend: Spanned<Vec<BackendKind>>,
    scenario: Spanned<Vec<Scenario>>,
}

/// Cells that are not measured; what it does not name is any.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawExclude {
    model: Option<Vec<Spanned<String>>>,
    browser: Option<Vec<Spanned<String>>>,
    backend: Option<Vec<BackendKind>>,
    scenario: Option<Vec<Scenario>>,
    reason: String,
}

impl Suite {
    /// Reads a suite; `file` is what errors call it.
    pub fn parse(file: &str, text: &str) -> Result<Self, SuiteError> {
        let told = Told { file, text };
        let raw: RawSuite = toml::from_str(text)
            .map_err(|error| told.wrong(&error.span().unwrap_or_default(), error.message()))?;
        let budget = told.duration(&raw.budget)?;
        told.check(
            !budget.is_zero() && budget <= BUDGET_MAX,
            &raw.budget.span(),
            "the budget is more than 0 and at most an hour",
        )?;
        let limits = told.limits(raw.limits.as_ref())?;
        let models = told.models(&raw.model)?;
        let scenarios = told.scenarios(&raw, &limits, budget)?;
        let cells = told.cells(&models, &raw, &scenarios)?;
        let name = raw.name.get_ref().clone();
        let plain = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
        told.check(
            !name.is_empty() && name.len() <= 64 && name.chars().all(plain),
            &raw.name.span(),
            "a suite's name has 1 to 64 letters, digits, `-`, `_` and `.`",
        )?;
        Ok(Self { name, about: raw.about, budget, models, limits, scenarios, cells })
    }
}

/// A suite's text, for errors that name its lines.
struct Told<'a> {
    file: &'a str,
    text: &'a str,
}

impl Told<'_> {
    fn wrong(&self, span: &Range<usize>, message: &str) -> SuiteError {
        let at = span.start.min(self.text.len());
        let line = self.text.get(..at).unwrap_or_default().matches('\n').count() + 1;
        SuiteError { file: self.file.to_owned(), line, message: message.trim_end().to_owned() }
    }

    fn check(&self, holds: bool, span: &Range<usize>, message: &str) -> Result<(), SuiteError> {
        if holds { Ok(()) } else { Err(self.wrong(span, message)) }
    }

    fn duration(&self, text: &Spanned<String>) -> Result<Duration, SuiteError> {
        humantime::parse_duration(text.get_ref())
            .map_err(|error| self.wrong(&text.span(), &error.to_string()))
    }

    fn limits(&self, raw: Option<&Spanned<Limits>>) -> Result<Limits, SuiteError> {
        let Some(raw) = raw else { return Ok(Limits::default()) };
        let limits = raw.get_ref();
        let wrong = if limits.samples_min < 2 || limits.samples_min > limits.samples_max {
            "samples_min is at least 2 and at most samples_max"
        } else if limits.samples_max > 100_000 || limits.warm_up > 10_000 {
            "samples_max is at most 100000, and warm_up 10000"
        } else if !(limits.spread > 0.0 && limits.spread < 1.0) {
            "spread is between 0 and 1"
        } else if limits.time.is_zero() {
            "time is more than 0"
        } else {
            return Ok(limits.clone());
        };
        Err(self.wrong(&raw.span(), wrong))
    }

    fn models(&self, raw: &[Spanned<RawModel>]) -> Result<Vec<Subject>, SuiteError> {
        let mut names = BTreeSet::new();
        let mut models = Vec::new();
        for model in raw.iter().map(Spanned::get_ref) {
            let name = model.name.get_ref().clone();
            let tolerance = *model.tolerance.get_ref();
            self.check(
                tolerance > 0.0 && tolerance < 1.0,
                &model.tolerance.span(),
                "a tolerance is between 0 and 1",
            )?;
            self.check(names.insert(name.clone()), &model.name.span(), "this model is in the suite already")?;
            models.push(Subject {
                name,
                source: model.source.clone(),
                inputs: model.inputs.clone(),
                tolerance,
            });
        }
        Ok(models)
    }

    fn cells(
        &self,
        models: &[Subject],
        raw: &RawSuite,
        scenarios: &Scenarios,
    ) -> Result<Vec<Wanted>, SuiteError> {
        let RawSuite { matrix, exclude: excludes, .. } = raw;
        let RawMatrix { browser, backend, scenario } = matrix.get_ref();
        for exclude in excludes.iter().map(Spanned::get_ref) {
            for name in exclude.model.iter().flatten() {
                let known = models.iter().any(|model| model.name.as_str() == name.get_ref());
                self.check(known, &name.span(), "no model of the suite has this name")?;
            }
            for name in exclude.browser.iter().flatten() {
                let known = browser.get_ref().contains(name.get_ref());
                self.check(known, &name.span(), "the matrix does not have this browser")?;
            }
        }
        let mut cells: Vec<Wanted> = Vec::new();
        for (at, model) in models.iter().enumerate() {
            for browser in browser.get_ref() {
                // A browser has no native backend, and the daemon's process no other.
                let fits = |backend: &&BackendKind| backend.is_native() == (browser == NATIVE);
                for backend in backend.get_ref().iter().filter(fits) {
                    let ways = |of: &Scenario| {
                        let ways = scenarios.ways(*of, backend.is_native()).into_iter();
                        ways.map(|varied| (*of, varied)).collect::<Vec<_>>()
                    };
                    for (scenario, varied) in scenario.get_ref().iter().flat_map(ways) {
                        let mut cell = Wanted {
                            model: at,
                            browser: browser.clone(),
                            backend: backend.clone(),
                            scenario,
                            varied,
                            excluded: None,
                        };
                        let named = excludes.iter().map(Spanned::get_ref);
                        cell.excluded =
                            named.clone().find(|raw| raw.has(&cell, model)).map(|raw| raw.reason.clone());
                        let twice = "the matrix names a browser, backend or scenario twice";
                        self.check(!cells.contains(&cell), &matrix.span(), twice)?;
                        cells.push(cell);
                    }
                }
            }
        }
        let any = cells.iter().any(|cell| cell.excluded.is_none());
        self.check(any, &matrix.span(), "the matrix has no cell that would be measured")?;
        Ok(cells)
    }
}

impl RawExclude {
    fn has(&self, cell: &Wanted, model: &Subject) -> bool {
        let named = |names: &Option<Vec<Spanned<String>>>, name: &str| {
            names.as_ref().is_none_or(|names| names.iter().any(|known| known.get_ref() == name))
        };
        named(&self.model, model.name.as_str())
            && named(&self.browser, &cell.browser)
            && self.backend.as_ref().is_none_or(|backends| backends.contains(&cell.backend))
            && self.scenario.as_ref().is_none_or(|scenarios| scenarios.contains(&cell.scenario))
    }
}
