//! A suite's cells: what of its matrix fits together, and what of that is left out.

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;
use toml::Spanned;

use super::{Planned, Precision, RawSuite, Subject, SuiteError, Told, Wanted};
use crate::{
    bench::{Scenario, Scenarios, Varied},
    domain::{BackendKind, Batching},
    onnx::precision::Recipe,
};

/// What a browser is called that is none: the daemon's own process.
const NATIVE: &str = "native";

/// What the dimensions call a model as it is, and one that is not split.
const AS_IT_IS: &str = "fp32";
const WHOLE: &str = "single";

/// More than any machine has cores for.
const THREADS_MAX: u32 = 1024;

type Names = Spanned<Vec<Spanned<String>>>;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawMatrix {
    browser: Spanned<Vec<String>>,
    backend: Spanned<Vec<BackendKind>>,
    pub(super) scenario: Spanned<Vec<Scenario>>,
    batch: Option<Spanned<Vec<u32>>>,
    precision: Option<Names>,
    plan: Option<Names>,
    threads: Option<Spanned<Vec<u32>>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawPrecision {
    tolerance: Spanned<f64>,
    convert: Option<Spanned<String>>,
}

impl RawMatrix {
    pub(super) fn backend(&self) -> &[BackendKind] {
        self.backend.get_ref()
    }
}

/// Cells that are not measured; what it does not name is any.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawExclude {
    model: Option<Vec<Spanned<String>>>,
    browser: Option<Vec<Spanned<String>>>,
    backend: Option<Vec<BackendKind>>,
    scenario: Option<Vec<Scenario>>,
    batch: Option<Vec<Spanned<u32>>>,
    precision: Option<Vec<Spanned<String>>>,
    plan: Option<Vec<Spanned<String>>>,
    threads: Option<Vec<Spanned<u32>>>,
    reason: String,
}

impl Told<'_> {
    /// What else than `fp32` the matrix has, and how far it may be off.
    pub(super) fn precisions(&self, raw: &RawSuite) -> Result<BTreeMap<String, Precision>, SuiteError> {
        let named = self.names("precision", raw.matrix.get_ref().precision.as_ref())?;
        for (name, table) in &raw.precision {
            let known = *name != AS_IT_IS && named.iter().any(|named| named.get_ref() == name);
            self.check(known, &table.span(), &format!("the matrix has no precision `{name}` to be made"))?;
        }
        for model in raw.model.iter().map(Spanned::get_ref) {
            for (name, variant) in &model.variants {
                let known = *name != AS_IT_IS && named.iter().any(|named| named.get_ref() == name);
                self.check(known, &variant.span(), &format!("the matrix has no precision `{name}`"))?;
            }
        }
        let precision = |name: &&Spanned<String>| -> Result<(String, Precision), SuiteError> {
            let needs =
                format!("the precision `{0}` needs [precision.{0}] with its `tolerance`", name.get_ref());
            let table = raw.precision.get(name.get_ref()).ok_or_else(|| self.wrong(&name.span(), &needs))?;
            let RawPrecision { tolerance, convert } = table.get_ref();
            let between = *tolerance.get_ref() > 0.0 && *tolerance.get_ref() < 1.0;
            self.check(between, &tolerance.span(), "a tolerance is between 0 and 1")?;
            let text = convert.as_ref().map_or(name.get_ref(), Spanned::get_ref);
            // One whose variants are all named need not be one that weft makes.
            let made = convert.is_some()
                || raw.model.iter().any(|model| !model.get_ref().variants.contains_key(name.get_ref()));
            let span = convert.as_ref().map_or_else(|| name.span(), Spanned::span);
            if made {
                Recipe::parse(text).map_err(|error| self.wrong(&span, &error.to_string()))?;
            }
            let precision = Precision { tolerance: *tolerance.get_ref(), convert: text.clone() };
            Ok((name.get_ref().clone(), precision))
        };
        named.iter().filter(|name| name.get_ref() != AS_IT_IS).map(|name| precision(&name)).collect()
    }

    /// What else than `single` the matrix has, as it is ordered of the daemon.
    pub(super) fn plans(&self, raw: &RawSuite) -> Result<BTreeMap<String, Planned>, SuiteError> {
        let named = self.names("plan", raw.matrix.get_ref().plan.as_ref())?;
        for (name, table) in &raw.plan {
            let known = name != WHOLE && named.iter().any(|named| named.get_ref() == name);
            self.check(known, &table.span(), &format!("the matrix has no plan `{name}` to be made"))?;
        }
        let plan = |name: &&Spanned<String>| -> Result<(String, Planned), SuiteError> {
            let needs =
                format!("the plan `{0}` needs [plan.{0}], an order without its model", name.get_ref());
            let table = raw.plan.get(name.get_ref()).ok_or_else(|| self.wrong(&name.span(), &needs))?;
            let planned = Planned::of(table.get_ref().clone(), self.line(&table.span()));
            Ok((name.get_ref().clone(), planned.map_err(|message| self.wrong(&table.span(), &message))?))
        };
        let scenarios = raw.matrix.get_ref().scenario.get_ref();
        let plans: BTreeMap<_, _> = named
            .iter()
            .filter(|name| name.get_ref() != WHOLE)
            .map(|name| plan(&name))
            .collect::<Result<_, _>>()?;
        let some = plans.is_empty() || scenarios.iter().any(|scenario| scenario.goes_with_plans());
        let span = raw.matrix.get_ref().plan.as_ref().map(Spanned::span).unwrap_or_default();
        let message =
            "plans go with single_stream, multi_stream, offline and server; the matrix has none of them";
        self.check(some, &span, message)?;
        Ok(plans)
    }

    /// The names of a dimension, each once.
    fn names<'n>(
        &self,
        dimension: &str,
        names: Option<&'n Names>,
    ) -> Result<&'n [Spanned<String>], SuiteError> {
        let Some(names) = names else { return Ok(&[]) };
        self.check(!names.get_ref().is_empty(), &names.span(), &format!("{dimension} names at least one"))?;
        let mut seen = BTreeSet::new();
        for name in names.get_ref() {
            let word = !name.get_ref().is_empty() && name.get_ref().len() <= 64;
            self.check(word, &name.span(), &format!("a {dimension}'s name has 1 to 64 letters"))?;
            self.check(
                seen.insert(name.get_ref()),
                &name.span(),
                &format!("this {dimension} is there twice"),
            )?;
        }
        Ok(names.get_ref())
    }

    pub(super) fn cells(
        &self,
        models: &[Subject],
        raw: &RawSuite,
        scenarios: &Scenarios,
        plans: &BTreeMap<String, Planned>,
    ) -> Result<Vec<Wanted>, SuiteError> {
        let (matrix, excludes) = (&raw.matrix, &raw.exclude);
        let RawMatrix { browser, backend, scenario, batch, plan, threads, .. } = matrix.get_ref();
        if let Some(batch) = batch {
            self.counts("batch", batch, Batching::MAX_MOST)?;
        }
        if let Some(threads) = threads {
            self.counts("number of threads", threads, THREADS_MAX)?;
            let message = "threads do not go with plans, whose lanes keep those that they have";
            self.check(plan.is_none(), &threads.span(), message)?;
        }
        self.excludes(models, raw)?;
        let mut lanes = Vec::new();
        for browser in browser.get_ref() {
            // A browser has no native backend, and the daemon's process no other.
            let fits = |backend: &&BackendKind| backend.is_native() == (browser == NATIVE);
            lanes.extend(backend.get_ref().iter().filter(fits).map(|backend| (browser, backend)));
        }
        let mut cells: Vec<Wanted> = Vec::new();
        for (at, model) in models.iter().enumerate() {
            let mut places: Vec<(&String, &BackendKind, Option<&String>)> = Vec::new();
            match &matrix.get_ref().plan {
                None => places.extend(lanes.iter().map(|(browser, backend)| (*browser, *backend, None))),
                Some(named) => {
                    for name in named.get_ref().iter().map(Spanned::get_ref) {
                        match plans.get(name) {
                            Some(plan) => places.push((&plan.browser, &plan.backend, Some(name))),
                            None => places.extend(
                                lanes.iter().map(|(browser, backend)| (*browser, *backend, Some(name))),
                            ),
                        }
                    }
                }
            }
            for (browser, backend, plan) in places {
                let whole = plan.is_none_or(|plan| plan == WHOLE);
                for scenario in scenario.get_ref().iter().filter(|of| whole || of.goes_with_plans()) {
                    for varied in self.ways(matrix.get_ref(), *scenario, scenarios, backend.is_native()) {
                        let mut cell = Wanted {
                            model: at,
                            browser: browser.clone(),
                            backend: backend.clone(),
                            scenario: *scenario,
                            varied: Varied { plan: plan.cloned(), ..varied },
                            excluded: None,
                        };
                        let mut named = excludes.iter().map(Spanned::get_ref);
                        cell.excluded = named.find(|raw| raw.has(&cell, model)).map(|raw| raw.reason.clone());
                        let asked = cell.excluded.is_some() || model.inputs.is_some();
                        self.check(asked, &raw.model[at].span(), "a model that is measured has `inputs`")?;
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

    /// Whole numbers of a dimension, each once.
    fn counts(&self, what: &str, counts: &Spanned<Vec<u32>>, most: u32) -> Result<(), SuiteError> {
        let some = format!("there is at least one {what}");
        self.check(!counts.get_ref().is_empty(), &counts.span(), &some)?;
        for count in counts.get_ref() {
            let message = format!("a {what} is 1 to {most}; {count} is not");
            self.check((1..=most).contains(count), &counts.span(), &message)?;
            let same = counts.get_ref().iter().filter(|other| *other == count).count();
            self.check(same == 1, &counts.span(), &format!("this {what} is there twice"))?;
        }
        Ok(())
    }

    /// A scenario in all the ways in which it is to be measured.
    #[allow(clippy::unused_self, reason = "beside the others that read the matrix")]
    fn ways(
        &self,
        matrix: &RawMatrix,
        scenario: Scenario,
        scenarios: &Scenarios,
        native: bool,
    ) -> Vec<Varied> {
        let each = |counts: &Option<Spanned<Vec<u32>>>| match counts {
            None => vec![None],
            Some(counts) => counts.get_ref().iter().copied().map(Some).collect(),
        };
        let (batches, threads) = (each(&matrix.batch), each(&matrix.threads));
        let precisions: Vec<_> = match &matrix.precision {
            None => vec![None],
            Some(names) => names.get_ref().iter().map(|name| Some(name.get_ref().clone())).collect(),
        };
        let mut ways = Vec::new();
        for way in scenarios.ways(scenario, native) {
            for precision in &precisions {
                for threads in &threads {
                    let with = |batch: &Option<u32>| Varied {
                        batch: *batch,
                        precision: precision.clone(),
                        threads: *threads,
                        ..way.clone()
                    };
                    ways.extend(batches.iter().map(with));
                }
            }
        }
        ways
    }

    /// Whether what is left out would be there.
    fn excludes(&self, models: &[Subject], raw: &RawSuite) -> Result<(), SuiteError> {
        let RawMatrix { browser, batch, precision, plan, threads, .. } = raw.matrix.get_ref();
        let counts = |counts: &Option<Spanned<Vec<u32>>>, count: u32| {
            counts.as_ref().is_some_and(|counts| counts.get_ref().contains(&count))
        };
        let has = |names: &Option<Names>, name: &String| {
            names.as_ref().is_some_and(|names| names.get_ref().iter().any(|known| known.get_ref() == name))
        };
        for exclude in raw.exclude.iter().map(Spanned::get_ref) {
            for name in exclude.model.iter().flatten() {
                let known = models.iter().any(|model| model.name.as_str() == name.get_ref());
                self.check(known, &name.span(), "no model of the suite has this name")?;
            }
            for name in exclude.browser.iter().flatten() {
                let known = browser.get_ref().contains(name.get_ref());
                self.check(known, &name.span(), "the matrix does not have this browser")?;
            }
            for rows in exclude.batch.iter().flatten() {
                let known = counts(batch, *rows.get_ref());
                self.check(known, &rows.span(), "the matrix does not have this batch")?;
            }
            for count in exclude.threads.iter().flatten() {
                let known = counts(threads, *count.get_ref());
                self.check(known, &count.span(), "the matrix does not have this number of threads")?;
            }
            for name in exclude.precision.iter().flatten() {
                self.check(
                    has(precision, name.get_ref()),
                    &name.span(),
                    "the matrix does not have this precision",
                )?;
            }
            for name in exclude.plan.iter().flatten() {
                self.check(has(plan, name.get_ref()), &name.span(), "the matrix does not have this plan")?;
            }
        }
        Ok(())
    }
}

impl RawExclude {
    fn has(&self, cell: &Wanted, model: &Subject) -> bool {
        let named = |names: &Option<Vec<Spanned<String>>>, name: Option<&str>| {
            let names = names.as_ref();
            names.is_none_or(|names| names.iter().any(|known| name == Some(known.get_ref().as_str())))
        };
        let varied = &cell.varied;
        let counted = |counts: &Option<Vec<Spanned<u32>>>, count: Option<u32>| {
            let counts = counts.as_ref();
            counts.is_none_or(|counts| counts.iter().any(|known| count == Some(*known.get_ref())))
        };
        named(&self.model, Some(model.name.as_str()))
            && named(&self.browser, Some(&cell.browser))
            && self.backend.as_ref().is_none_or(|backends| backends.contains(&cell.backend))
            && self.scenario.as_ref().is_none_or(|scenarios| scenarios.contains(&cell.scenario))
            && counted(&self.batch, varied.batch)
            && counted(&self.threads, varied.threads)
            && named(&self.precision, varied.precision.as_deref())
            && named(&self.plan, varied.plan.as_deref())
    }
}
