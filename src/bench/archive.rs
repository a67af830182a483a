//! Results in the store: kept, found, read back, compared, and shown over time.

use std::{collections::BTreeMap, io, sync::Arc, time::Duration};

use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;

use super::{
    Cell, Comparison, Environment, History, Judged, KeptSuite, Results, compare,
    statistics::{Interval, bounded},
};
use crate::{
    domain::{Failure, Retry},
    store::{
        BenchFilter, HistoryFilter, POINTS_MAX, Retention, Store, StoreError, StoredBench, StoredCell,
        StoredCellKey, StoredDocument, StoredFigures, StoredJudgement, environment_digest,
    },
    tasks,
};

const DAY_US: i64 = 24 * 60 * 60 * 1_000_000;

/// How much of what was measured is kept.
#[derive(Clone, Copy, Debug)]
pub struct Keeping {
    /// The newest runs.
    pub runs: u32,
    /// Of those, what was kept within this; without it however old.
    pub age: Option<Duration>,
}

#[derive(Debug, thiserror::Error)]
pub enum ArchiveError {
    #[error("another result of the id {0:?} is kept: one of the two was changed")]
    Other(String),
    #[error("{0} began a day or more after now: a clock was wrong, here or where it was measured")]
    Future(String),
    #[error("no result is called {0:?}; the oldest are forgotten")]
    Unknown(String),
    #[error("what is kept of {id:?} cannot be read: {message}")]
    Unreadable { id: String, message: String },
    #[error("there are more than {POINTS_MAX} points: narrow the history down, or ask for fewer runs")]
    TooMany,
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("could not compute aside: {0}")]
    Aside(#[from] io::Error),
}

impl From<ArchiveError> for Failure {
    fn from(error: ArchiveError) -> Self {
        match error {
            ArchiveError::Store(error) => error.into(),
            ArchiveError::Other(_)
            | ArchiveError::Future(_)
            | ArchiveError::Unknown(_)
            | ArchiveError::TooMany => Self::invalid(error.to_string()),
            ArchiveError::Unreadable { .. } | ArchiveError::Aside(_) => {
                Self::new(crate::domain::Code::Internal, Retry::Never, error.to_string())
            }
        }
    }
}

/// What a comparison said of a cell
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[schema(as = BenchVerdict)]
pub struct KeptVerdict {
    pub base: String,
    pub model: String,
    pub browser: String,
    pub backend: String,
    /// The scenario with what varies beside it.
    pub asked: String,
    /// `better`, `worse`, `same` or `unknown`.
    pub verdict: String,
    pub ratio: Option<Interval>,
    pub probability: Option<f64>,
    pub reason: Option<String>,
    pub noise: f64,
    pub judged_at_us: i64,
}

#[derive(Clone, Debug)]
pub struct Archive {
    store: Arc<Store>,
    keeping: Keeping,
}

impl Archive {
    #[must_use]
    pub fn new(store: Arc<Store>, keeping: Keeping) -> Self {
        Self { store, keeping }
    }

    /// Keeps a result; says whether the same was kept already.
    pub async fn keep(&self, results: Results, imported: bool) -> Result<bool, ArchiveError> {
        let now = tasks::now_us();
        // The newest run says with which machine a history is about.
        if results.started_at_us > now.saturating_add(DAY_US) {
            return Err(ArchiveError::Future(results.id));
        }
        let (id, again) = (results.id.clone(), results.clone());
        let (bench, document) = tasks::aside("result", move || split(results, imported, now)).await?;
        let age = self.keeping.age.map_or(i64::MAX, |age| i64::try_from(age.as_micros()).unwrap_or(i64::MAX));
        let retention = Retention { runs: self.keeping.runs, since_us: now.saturating_sub(age).max(0) };
        if !self.store.put_bench(bench, document, retention).await? {
            return Ok(false);
        }
        let kept = self.read(&id).await?;
        if text(&kept) == text(&again) { Ok(true) } else { Err(ArchiveError::Other(id)) }
    }

    pub async fn read(&self, id: &str) -> Result<Results, ArchiveError> {
        let found = self.store.bench(id.to_owned()).await?;
        let document = found.ok_or_else(|| ArchiveError::Unknown(id.to_owned()))?;
        let joined = tasks::aside("result", move || join(document)).await?;
        joined.map_err(|error| ArchiveError::Unreadable { id: id.to_owned(), message: error.to_string() })
    }

    /// The one kept last first, with where the next page begins.
    pub async fn list(
        &self,
        filter: BenchFilter,
        limit: u32,
        cursor: Option<i64>,
    ) -> Result<(Vec<StoredBench>, Option<i64>), ArchiveError> {
        Ok(self.store.benches(filter, limit, cursor).await?)
    }

    /// Cells over a suite's runs, on one machine: the one of this id, else the newest run's.
    pub async fn history(
        &self,
        filter: HistoryFilter,
        machine: Option<&str>,
    ) -> Result<History, ArchiveError> {
        let environments = self.environments().await?;
        let of_machine = machine.map(|machine| {
            let on_it = environments.iter().filter(|(_, environment)| environment.machine() == machine);
            on_it.map(|(digest, _)| digest.clone()).collect()
        });
        let filter = HistoryFilter { environments: of_machine, ..filter };
        let suite = filter.suite.clone();
        let (points, earlier_us) = self.store.bench_history(filter).await?;
        if points.len() > POINTS_MAX {
            return Err(ArchiveError::TooMany);
        }
        let history = tasks::aside("history", move || History::of(suite, &points, &environments)).await?;
        Ok(History { earlier_us, ..history })
    }

    /// Suites of which something is kept, the one that was measured last first.
    pub async fn suites(&self) -> Result<Vec<KeptSuite>, ArchiveError> {
        let (runs, cells) = self.store.bench_suites().await?;
        let environments = self.environments().await?;
        Ok(tasks::aside("suites", move || KeptSuite::all(runs, cells, &environments)).await?)
    }

    async fn environments(&self) -> Result<BTreeMap<String, Environment>, ArchiveError> {
        let texts = self.store.bench_environments().await?;
        let read = move || -> Result<_, serde_json::Error> {
            texts.into_iter().map(|(digest, text)| Ok((digest, serde_json::from_str(&text)?))).collect()
        };
        let environments = tasks::aside("environments", read).await?;
        environments.map_err(|error| ArchiveError::Unreadable {
            id: "environment".to_owned(),
            message: error.to_string(),
        })
    }

    /// Judges one run by another, and keeps what comes out.
    pub async fn compare(&self, base: &str, head: &str, noise: f64) -> Result<Comparison, ArchiveError> {
        let (before, now) = (self.read(base).await?, self.read(head).await?);
        let comparison = tasks::aside("comparison", move || compare(&before, &now, noise)).await?;
        let at = tasks::now_us();
        let judged = comparison.cells.iter().map(|cell| judgement(base, cell, noise, at)).collect();
        self.store.put_bench_verdicts(head.to_owned(), judged).await?;
        Ok(comparison)
    }

    /// What comparisons with this head said, the latest first.
    pub async fn verdicts(&self, head: &str) -> Result<Vec<KeptVerdict>, ArchiveError> {
        let kept = self.store.bench_verdicts(head.to_owned()).await?;
        Ok(kept.into_iter().map(kept_verdict).collect())
    }
}

fn text(results: &Results) -> String {
    serde_json::to_string(results).expect("a result holds only strings, numbers and string-keyed maps")
}

/// A document's parts, each where it is kept.
fn split(mut results: Results, imported: bool, kept_at_us: i64) -> (StoredBench, StoredDocument) {
    let failures = results.failures().count() as u32;
    let cells: Vec<_> = std::mem::take(&mut results.cells).into_iter().map(split_cell).collect();
    let environment =
        serde_json::to_string(&results.environment).expect("an environment holds only strings and numbers");
    let mut head = serde_json::to_value(&results).expect("a result holds only strings and numbers");
    for elsewhere in ["environment", "cells"] {
        head.as_object_mut().expect("a result is an object").remove(elsewhere);
    }
    let bench = StoredBench {
        environment_sha256: environment_digest(&environment),
        id: results.id,
        suite: results.suite,
        suite_sha256: results.suite_sha256,
        commit: results.environment.commit,
        branch: results.branch,
        started_at_us: results.started_at_us,
        ended_at_us: results.ended_at_us,
        kept_at_us,
        imported,
        complete: results.complete,
        cells: cells.len() as u32,
        failures,
    };
    (bench, StoredDocument { head: head.to_string(), environment, cells })
}

fn split_cell(mut cell: Cell) -> StoredCell {
    let figures = (!cell.samples_us.is_empty()).then(|| {
        let Interval { value, low, high } = bounded(&cell.samples_us, 0.5);
        StoredFigures { samples: cell.samples_us.len() as u32, median_us: value, low_us: low, high_us: high }
    });
    let series = [&mut cell.samples_us, &mut cell.warm_up_us, &mut cell.alone_us].map(std::mem::take);
    StoredCell {
        document: serde_json::to_string(&cell).expect("a cell holds only strings and numbers"),
        series,
        of: StoredCellKey {
            model: cell.model.to_string(),
            browser: cell.browser,
            backend: cell.backend.to_string(),
            scenario: cell.scenario.name().to_owned(),
            asked: cell.varied.of(cell.scenario),
            precision: cell.varied.precision,
        },
        outcome: cell.state.outcome.name().to_owned(),
        model_sha256: cell.model_digest.map(|digest| digest.to_string()),
        figures,
    }
}

/// The parts of a document as they were before they were kept.
fn join(document: StoredDocument) -> Result<Results, serde_json::Error> {
    let mut head: Value = serde_json::from_str(&document.head)?;
    head["environment"] = serde_json::from_str(&document.environment)?;
    head["cells"] = Value::Array(Vec::new());
    let mut results: Results = serde_json::from_value(head)?;
    for kept in document.cells {
        let mut cell: Cell = serde_json::from_str(&kept.document)?;
        [cell.samples_us, cell.warm_up_us, cell.alone_us] = kept.series;
        results.cells.push(cell);
    }
    Ok(results)
}

fn judgement(base: &str, cell: &Judged, noise: f64, judged_at_us: i64) -> StoredJudgement {
    StoredJudgement {
        base: base.to_owned(),
        of: StoredCellKey {
            model: cell.model.to_string(),
            browser: cell.browser.clone(),
            backend: cell.backend.to_string(),
            asked: cell.varied.of(cell.scenario),
            ..StoredCellKey::default()
        },
        verdict: cell.verdict.name().to_owned(),
        ratio: cell.ratio.map(|ratio| [ratio.value, ratio.low, ratio.high]),
        probability: cell.probability,
        reason: cell.reason.clone(),
        noise,
        judged_at_us,
    }
}

fn kept_verdict(stored: StoredJudgement) -> KeptVerdict {
    KeptVerdict {
        base: stored.base,
        model: stored.of.model,
        browser: stored.of.browser,
        backend: stored.of.backend,
        asked: stored.of.asked,
        verdict: stored.verdict,
        ratio: stored.ratio.map(|[value, low, high]| Interval { value, low, high }),
        probability: stored.probability,
        reason: stored.reason,
        noise: stored.noise,
        judged_at_us: stored.judged_at_us,
    }
}
