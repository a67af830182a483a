//! A suite as its file says it, read strictly: whatever is wrong is named with its line.

mod lent;
mod matrix;
mod planned;
mod tables;

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::Range,
    time::Duration,
};

use serde::Deserialize;
use serde_json::Value;
use toml::Spanned;

use super::{Scenario, Scenarios, Varied};
use crate::domain::{BackendKind, ModelName};
pub use lent::Lent;
use matrix::{RawExclude, RawMatrix, RawPrecision};
pub use planned::Planned;
use tables::RawScenarios;

/// Longer than this nobody may have a browser to themselves.
const BUDGET_MAX: Duration = Duration::from_secs(3600);

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
    /// Which graph of several that its source becomes.
    pub part: Option<String>,
    /// Whether its weights are random numbers.
    pub seeded: bool,
    /// A file of inputs, in the form of the gate's; none where no cell of it is measured.
    pub inputs: Option<String>,
    /// How far an answer may be off the native one, as a share of its largest value.
    pub tolerance: f64,
    /// What the daemon calls its variants, by precision; weft makes the others.
    pub variants: BTreeMap<String, ModelName>,
}

impl Subject {
    /// What its source is called when it is brought; its graphs are called by their parts behind that.
    #[must_use]
    pub fn brought_as(&self) -> &str {
        let name = self.name.as_str();
        let part = self.part.as_ref().and_then(|part| name.strip_suffix(part)?.strip_suffix('-'));
        part.unwrap_or(name)
    }
}

/// A precision that is not the model's own.
#[derive(Clone, Debug, PartialEq)]
pub struct Precision {
    /// How far a variant's answer may be off the model's own native one, as a share of its largest value.
    pub tolerance: f64,
    /// What a variant is made by.
    pub convert: String,
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
    /// By name, without `fp32`.
    pub precisions: BTreeMap<String, Precision>,
    /// By name, without `single`.
    pub plans: BTreeMap<String, Planned>,
    /// What a daemon that is started for the suite has beside its own ONNX Runtime, where it is there.
    pub libraries: BTreeMap<String, Lent>,
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
    precision: BTreeMap<String, Spanned<RawPrecision>>,
    #[serde(default)]
    plan: BTreeMap<String, Spanned<Value>>,
    #[serde(default)]
    library: BTreeMap<String, Spanned<Lent>>,
    #[serde(default)]
    exclude: Vec<Spanned<RawExclude>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawModel {
    name: Spanned<ModelName>,
    source: Option<String>,
    part: Option<Spanned<String>>,
    #[serde(default)]
    seeded: bool,
    inputs: Option<String>,
    #[serde(default = "tolerance")]
    tolerance: Spanned<f64>,
    #[serde(default)]
    variants: BTreeMap<String, Spanned<ModelName>>,
}

fn tolerance() -> Spanned<f64> {
    Spanned::new(0..0, 1e-3)
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
        let (precisions, plans) = (told.precisions(&raw)?, told.plans(&raw)?);
        let libraries = told.libraries(&raw)?;
        let cells = told.cells(&models, &raw, &scenarios, &plans)?;
        let name = raw.name.get_ref().clone();
        let plain = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
        told.check(
            !name.is_empty() && name.len() <= 64 && name.chars().all(plain),
            &raw.name.span(),
            "a suite's name has 1 to 64 letters, digits, `-`, `_` and `.`",
        )?;
        let about = raw.about;
        Ok(Self { name, about, budget, models, limits, scenarios, precisions, plans, libraries, cells })
    }

    /// On how many threads its cells compute, the fewest first; none is what lanes have.
    #[must_use]
    pub fn threads(&self) -> BTreeSet<Option<u32>> {
        self.cells.iter().map(|cell| cell.varied.threads).collect()
    }

    /// The browsers of all cells that are measured, `native` among them.
    #[must_use]
    pub fn browsers(&self) -> BTreeSet<&str> {
        let measured = self.cells.iter().filter(|cell| cell.excluded.is_none());
        let named = |cell| {
            let Wanted { browser, varied, .. }: &Wanted = cell;
            let plan = varied.plan.as_ref().and_then(|plan| self.plans.get(plan));
            plan.into_iter().flat_map(|plan| &plan.browsers).chain([browser]).map(String::as_str)
        };
        measured.flat_map(named).collect()
    }
}

/// A suite's text, for errors that name its lines.
struct Told<'a> {
    file: &'a str,
    text: &'a str,
}

impl Told<'_> {
    fn wrong(&self, span: &Range<usize>, message: &str) -> SuiteError {
        let (file, line) = (self.file.to_owned(), self.line(span));
        SuiteError { file, line, message: message.trim_end().to_owned() }
    }

    fn line(&self, span: &Range<usize>) -> usize {
        let at = span.start.min(self.text.len());
        self.text.get(..at).unwrap_or_default().matches('\n').count() + 1
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
            if let Some(part) = &model.part {
                let named = name.as_str().ends_with(&format!("-{}", part.get_ref()));
                let message = format!("a model that is a part is called NAME-{}", part.get_ref());
                self.check(named, &part.span(), &message)?;
            }
            models.push(Subject {
                name,
                source: model.source.clone(),
                part: model.part.as_ref().map(|part| part.get_ref().clone()),
                seeded: model.seeded,
                inputs: model.inputs.clone(),
                tolerance,
                variants: model
                    .variants
                    .iter()
                    .map(|(precision, name)| (precision.clone(), name.get_ref().clone()))
                    .collect(),
            });
        }
        Ok(models)
    }
}
