//! Cells over a suite's runs: their series, where those change, and what else changed there. Pure.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{
    Environment, differences,
    environment::Difference,
    statistics::{Interval, changes},
};
use crate::store::{StoredFigures, StoredPoint};

/// As two results that are apart by less are the same.
const MAGNITUDE_MIN: f64 = 0.05;

/// A suite's cells over its runs
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[schema(as = BenchHistory)]
pub struct History {
    pub suite: String,
    /// The id of the machine that the series are of; null where there is none.
    #[serde(default)]
    pub machine: Option<String>,
    pub series: Vec<Series>,
    /// Runs on machines that cannot be compared with the newest run's; they are in no series.
    pub elsewhere: Vec<Elsewhere>,
    /// What to ask for `before` to have the runs before these; null where there are none.
    #[serde(default)]
    pub earlier_us: Option<i64>,
}

/// A cell over runs, from the oldest on
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[schema(as = BenchSeries)]
pub struct Series {
    pub model: String,
    pub browser: String,
    pub backend: String,
    pub scenario: String,
    /// Null where the suite's matrix names none.
    pub precision: Option<String>,
    /// The scenario with what varies beside it.
    pub asked: String,
    pub points: Vec<Measured>,
    pub changes: Vec<Change>,
}

/// A cell's median in one run
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[schema(as = BenchPoint)]
pub struct Measured {
    pub run: String,
    pub started_at_us: i64,
    pub commit: String,
    pub branch: Option<String>,
    pub samples: u32,
    pub median_us: Interval,
    /// What is known to differ from the run before, beside the times: weft's commit, the browser, the engine, the model's
    /// file. Nothing for the first.
    pub events: Vec<Difference>,
}

/// Where a series changes
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[schema(as = BenchChange)]
pub struct Change {
    /// The place of the first point after it.
    pub at: usize,
    pub run: String,
    /// The mean of the medians, from the change before and until the next.
    pub before_us: f64,
    pub after_us: f64,
    /// Above one it became slower.
    pub ratio: f64,
    /// How probable such a difference is by chance.
    pub probability: f64,
}

/// A run that is in no series
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[schema(as = BenchElsewhere)]
pub struct Elsewhere {
    pub run: String,
    /// In what its machine differs from the newest run's.
    pub differences: Vec<Difference>,
}

impl History {
    /// Of points in the order of cells, each cell's from its oldest run on, and environments by their digests.
    #[must_use]
    pub fn of(suite: String, points: &[StoredPoint], environments: &BTreeMap<String, Environment>) -> Self {
        let newest = points.iter().max_by_key(|point| point.started_at_us);
        let Some(reference) = newest.and_then(|point| environments.get(&point.environment)) else {
            return Self {
                suite,
                machine: None,
                series: Vec::new(),
                elsewhere: Vec::new(),
                earlier_us: None,
            };
        };
        let apart: BTreeMap<&str, Vec<Difference>> = environments
            .iter()
            .map(|(digest, environment)| (digest.as_str(), differences(environment, reference)))
            .collect();
        let is_alike =
            |point: &&StoredPoint| apart.get(point.environment.as_str()).is_some_and(Vec::is_empty);
        let mut told = BTreeSet::new();
        let elsewhere = points.iter().filter(|point| !is_alike(point) && told.insert(point.run.clone()));
        let elsewhere = elsewhere.map(|point| Elsewhere {
            run: point.run.clone(),
            differences: apart.get(point.environment.as_str()).cloned().unwrap_or_default(),
        });
        let elsewhere = elsewhere.collect();
        let alike: Vec<_> = points.iter().filter(is_alike).collect();
        let series = alike.chunk_by(|one, next| one.of == next.of).map(|of| series(of, environments));
        let machine = Some(reference.machine());
        Self { suite, machine, series: series.collect(), elsewhere, earlier_us: None }
    }
}

fn series(points: &[&StoredPoint], environments: &BTreeMap<String, Environment>) -> Series {
    let medians: Vec<_> = points.iter().map(|point| point.figures.median_us).collect();
    let changes = changes::found(&medians, MAGNITUDE_MIN).into_iter().map(|found| Change {
        at: found.at,
        run: points[found.at].run.clone(),
        before_us: found.before,
        after_us: found.after,
        ratio: found.after / found.before,
        probability: found.probability,
    });
    let changes = changes.collect();
    let of = points[0].of.clone();
    let befores = std::iter::once(None).chain(points.iter().map(Some));
    let measured = points.iter().zip(befores).map(|(point, before)| {
        let StoredFigures { samples, median_us: value, low_us: low, high_us: high } = point.figures;
        Measured {
            run: point.run.clone(),
            started_at_us: point.started_at_us,
            commit: point.commit.clone(),
            branch: point.branch.clone(),
            samples,
            median_us: Interval { value, low, high },
            events: before.map(|before| events(before, point, environments)).unwrap_or_default(),
        }
    });
    Series {
        points: measured.collect(),
        changes,
        model: of.model,
        browser: of.browser,
        backend: of.backend,
        scenario: of.scenario,
        precision: of.precision,
        asked: of.asked,
    }
}

/// What is known to differ between two runs beside their times.
fn events(
    before: &StoredPoint,
    after: &StoredPoint,
    environments: &BTreeMap<String, Environment>,
) -> Vec<Difference> {
    let is_another = before.environment != after.environment;
    let [base, head] =
        [before, after].map(|point| environments.get(&point.environment).filter(|_| is_another));
    let lane = format!("{}/{}", after.of.browser, after.of.backend);
    let places = base.zip(head).and_then(|(base, head)| base.places.get(&lane).zip(head.places.get(&lane)));
    let mut events = places.map(|(base, head)| base.differences(head)).unwrap_or_default();
    let word = |word: &Option<String>| word.clone().unwrap_or_else(|| "none".to_owned());
    let versions = base.zip(head).map(|(base, head)| (base.weft.clone(), head.weft.clone()));
    let parts = [
        ("weft's version", versions.unwrap_or_default()),
        ("weft's commit", (before.commit.clone(), after.commit.clone())),
        ("branch", (word(&before.branch), word(&after.branch))),
        ("suite's file", (before.suite_sha256.clone(), after.suite_sha256.clone())),
        ("model's file", (word(&before.model_sha256), word(&after.model_sha256))),
    ];
    let differing = parts.into_iter().filter(|(_, (base, head))| base != head);
    events.extend(differing.map(|(part, (base, head))| Difference { part: part.into(), base, head }));
    events
}
