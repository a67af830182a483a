//! The part of the store that keeps suites' results: runs, cells, samples, environments and verdicts.

use std::collections::BTreeMap;

use duckdb::{Connection, OptionalExt as _, Row, ToSql, params};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use utoipa::ToSchema;

use super::{Store, StoreError, rows::Cells};
use crate::domain::Digest;

/// Of one page.
pub const BENCHES_MAX: u32 = 1000;

/// Points of a history: some 30 MB as JSON.
pub const POINTS_MAX: usize = 100_000;

const RUNS: &str = concat!(include_str!("queries/bench_columns.sql"), include_str!("queries/bench_runs.sql"));

/// A run of a suite, without its cells.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[schema(as = BenchRun)]
pub struct StoredBench {
    pub id: String,
    pub suite: String,
    pub suite_sha256: String,
    /// What weft was built of; `unknown` outside its repository.
    pub commit: String,
    /// What a CI said that it measured.
    pub branch: Option<String>,
    /// Microseconds since the Unix epoch, as the others.
    pub started_at_us: i64,
    pub ended_at_us: i64,
    pub kept_at_us: i64,
    /// Whether it was measured elsewhere and came from a file.
    pub imported: bool,
    /// Whether every cell had its turn.
    pub complete: bool,
    pub cells: u32,
    /// Cells whose answers were wrong, or that broke.
    pub failures: u32,
    /// Runs of the same environment have the same.
    pub environment_sha256: String,
}

/// What a run consists of, in the order of its cells; the JSON is whoever keeps it's.
#[derive(Clone, Debug, PartialEq)]
pub struct StoredDocument {
    /// Without environment and cells.
    pub head: String,
    pub environment: String,
    pub cells: Vec<StoredCell>,
}

#[derive(Clone, Debug, Default, PartialEq)]
pub struct StoredCell {
    /// Without its samples.
    pub document: String,
    /// What was measured, the warm-up, and what it took alone.
    pub series: [Vec<f64>; 3],
    /// What it is found by.
    pub of: StoredCellKey,
    pub outcome: String,
    pub model_sha256: Option<String>,
    /// Absent without a sample.
    pub figures: Option<StoredFigures>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct StoredCellKey {
    pub model: String,
    pub browser: String,
    pub backend: String,
    pub scenario: String,
    /// Absent where the suite's matrix names none.
    pub precision: Option<String>,
    /// The scenario with what varies beside it.
    pub asked: String,
}

#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct StoredFigures {
    pub samples: u32,
    pub median_us: f64,
    pub low_us: f64,
    pub high_us: f64,
}

/// Which runs are wanted; what it does not say is any.
#[derive(Clone, Debug, Default)]
pub struct BenchFilter {
    pub id: Option<String>,
    pub suite: Option<String>,
    /// How it begins.
    pub commit: Option<String>,
    pub branch: Option<String>,
    /// Whether every cell had its turn.
    pub complete: bool,
}

/// Which cells' history is wanted; what it does not say is any.
#[derive(Clone, Debug, Default)]
pub struct HistoryFilter {
    pub suite: String,
    pub branch: Option<String>,
    /// Digests of those that runs may be of.
    pub environments: Option<Vec<String>>,
    pub model: Option<String>,
    pub browser: Option<String>,
    pub backend: Option<String>,
    pub scenario: Option<String>,
    pub precision: Option<String>,
    /// The scenario with what varies beside it.
    pub asked: Option<String>,
    /// The newest, by when they started.
    pub runs: u32,
    /// Of those that started before this.
    pub before_us: Option<i64>,
}

/// Runs of a suite that have branch and environment in common.
#[derive(Clone, Debug, PartialEq)]
pub struct StoredRuns {
    pub suite: String,
    pub branch: Option<String>,
    /// The digest of their environment.
    pub environment: String,
    pub runs: u64,
    /// When the newest began.
    pub latest_us: i64,
}

/// A cell of one run among the same of others.
#[derive(Clone, Debug, PartialEq)]
pub struct StoredPoint {
    pub of: StoredCellKey,
    pub run: String,
    pub started_at_us: i64,
    pub commit: String,
    pub branch: Option<String>,
    pub suite_sha256: String,
    pub environment: String,
    pub model_sha256: Option<String>,
    pub figures: StoredFigures,
}

/// What a comparison said of a cell.
#[derive(Clone, Debug, PartialEq)]
pub struct StoredJudgement {
    pub base: String,
    pub of: StoredCellKey,
    pub verdict: String,
    /// With its interval's ends.
    pub ratio: Option<[f64; 3]>,
    pub probability: Option<f64>,
    pub reason: Option<String>,
    pub noise: f64,
    pub judged_at_us: i64,
}

/// How much is kept: the newest runs, and none that was kept before.
#[derive(Clone, Copy, Debug)]
pub struct Retention {
    pub runs: u32,
    pub since_us: i64,
}

impl Store {
    /// Keeps a run, and forgets those that are beyond what is kept; says whether it was there already and stays as it is.
    pub async fn put_bench(
        &self,
        bench: StoredBench,
        document: StoredDocument,
        retention: Retention,
    ) -> Result<bool, StoreError> {
        self.change("result", move |connection| {
            if find(connection, &bench.id)?.is_some() {
                return Ok(true);
            }
            put(connection, &bench, &document)?;
            forget(connection, retention).map(|()| false)
        })
        .await
    }

    pub async fn bench(&self, id: String) -> Result<Option<StoredDocument>, StoreError> {
        self.read("result", move |connection| {
            let Some((seq, head, environment)) = find(connection, &id)? else { return Ok(None) };
            let sql = include_str!("queries/bench_run_cells.sql");
            let cell = |row: &Row<'_>| Ok(StoredCell { document: row.get(0)?, ..StoredCell::default() });
            let mut cells: Vec<_> =
                connection.prepare(sql)?.query_map([seq], cell)?.collect::<duckdb::Result<_>>()?;
            let mut samples = connection.prepare(include_str!("queries/bench_run_samples.sql"))?;
            let mut rows = samples.query([seq])?;
            while let Some(row) = rows.next()? {
                let (cell, series): (u32, u8) = (row.get(0)?, row.get(1)?);
                let cell = cells.get_mut(cell as usize);
                if let Some(series) = cell.and_then(|cell| cell.series.get_mut(usize::from(series))) {
                    series.push(row.get(2)?);
                }
            }
            Ok(Some(StoredDocument { head, environment, cells }))
        })
        .await
    }

    /// Up to `limit` runs, the one kept last first, beginning before `cursor`, with where the next page begins.
    pub async fn benches(
        &self,
        filter: BenchFilter,
        limit: u32,
        cursor: Option<i64>,
    ) -> Result<(Vec<StoredBench>, Option<i64>), StoreError> {
        let limit = limit.min(BENCHES_MAX);
        self.read("results", move |connection| {
            let before = cursor.unwrap_or(i64::MAX);
            let BenchFilter { id, suite, commit, branch, complete } = filter;
            let columns = params![before, suite, commit, branch, complete, id, i64::from(limit) + 1];
            let mut statement = connection.prepare(RUNS)?;
            let mut found = statement.query_map(columns, read_bench)?.collect::<duckdb::Result<Vec<_>>>()?;
            let more = found.len() > limit as usize;
            found.truncate(limit as usize);
            let next = found.last().filter(|_| more).map(|(seq, _)| *seq);
            Ok((found.into_iter().map(|(_, bench)| bench).collect(), next))
        })
        .await
    }

    /// Cells of a suite's runs, cell by cell, each from its oldest run on; and when the oldest run started, where there
    /// are older ones. One cell more than the most tells that there are more.
    pub async fn bench_history(
        &self,
        filter: HistoryFilter,
    ) -> Result<(Vec<StoredPoint>, Option<i64>), StoreError> {
        self.read("results", move |connection| {
            let HistoryFilter { suite, branch, environments, model, browser, backend, .. } = filter;
            let HistoryFilter { scenario, precision, asked, runs, before_us, .. } = filter;
            let environments = environments.map(|digests| digests.join(","));
            let most = POINTS_MAX as u64 + 1;
            let columns = params![
                suite,
                branch,
                environments,
                runs,
                model,
                browser,
                backend,
                scenario,
                precision,
                asked,
                most,
                before_us
            ];
            let sql = include_str!("queries/bench_history.sql");
            let points =
                connection.prepare(sql)?.query_map(columns, read_point)?.collect::<duckdb::Result<_>>()?;
            let columns = params![suite, branch, environments, before_us, runs.saturating_sub(1)];
            let mut last = connection.prepare(include_str!("queries/bench_earlier.sql"))?;
            let last: Vec<_> = last.query_map(columns, |row| row.get(0))?.collect::<duckdb::Result<_>>()?;
            Ok((points, last.first().copied().filter(|_| last.len() > 1)))
        })
        .await
    }

    /// Runs of all suites, counted, and the cells that were right in any of them, each once, with their suite.
    pub async fn bench_suites(&self) -> Result<(Vec<StoredRuns>, Vec<(String, StoredCellKey)>), StoreError> {
        self.read("suites", |connection| {
            let runs = |row: &Row<'_>| {
                let (suite, branch, environment) = (row.get(0)?, row.get(1)?, row.get(2)?);
                Ok(StoredRuns { suite, branch, environment, runs: row.get(3)?, latest_us: row.get(4)? })
            };
            let sql = include_str!("queries/bench_suite_runs.sql");
            let runs = connection.prepare(sql)?.query_map([], runs)?.collect::<duckdb::Result<_>>()?;
            let cell = |row: &Row<'_>| {
                let mut cells = Cells::new(row);
                Ok((cells.next()?, read_key(&mut cells)?))
            };
            let sql = include_str!("queries/bench_suite_cells.sql");
            let cells = connection.prepare(sql)?.query_map([], cell)?.collect::<duckdb::Result<_>>()?;
            Ok((runs, cells))
        })
        .await
    }

    /// Environments of all runs, as JSON by their digests.
    pub async fn bench_environments(&self) -> Result<BTreeMap<String, String>, StoreError> {
        self.read("environments", |connection| {
            let sql = include_str!("queries/bench_environments.sql");
            connection.prepare(sql)?.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?.collect()
        })
        .await
    }

    /// Keeps what a comparison said, in place of an earlier one of the two.
    pub async fn put_bench_verdicts(
        &self,
        head: String,
        judged: Vec<StoredJudgement>,
    ) -> Result<(), StoreError> {
        self.change("verdicts", move |connection| {
            if let Some(first) = judged.first() {
                connection
                    .execute(include_str!("queries/replace_bench_verdicts.sql"), [&first.base, &head])?;
            }
            let mut appender = connection.appender("bench_verdicts")?;
            for judged in &judged {
                let StoredJudgement { base, of, verdict, ratio, probability, reason, noise, .. } = judged;
                let ratio = |at: usize| ratio.map(|ratio| ratio[at]);
                appender.append_row(params![
                    base,
                    head,
                    of.model,
                    of.browser,
                    of.backend,
                    of.asked,
                    verdict,
                    ratio(0),
                    ratio(1),
                    ratio(2),
                    probability,
                    reason,
                    noise,
                    super::rows::timestamp(judged.judged_at_us),
                ])?;
            }
            appender.flush()
        })
        .await
    }

    /// What comparisons with this head said, the latest first.
    pub async fn bench_verdicts(&self, head: String) -> Result<Vec<StoredJudgement>, StoreError> {
        let sql = include_str!("queries/bench_verdicts.sql");
        self.read("verdicts", move |connection| {
            connection.prepare(sql)?.query_map([head], read_judgement)?.collect()
        })
        .await
    }
}

/// What an environment is kept under.
#[must_use]
pub fn environment_digest(environment: &str) -> String {
    Digest::new(Sha256::digest(environment).into()).to_string()
}

fn find(connection: &Connection, id: &str) -> duckdb::Result<Option<(i64, String, String)>> {
    let sql = include_str!("queries/bench_run.sql");
    connection.query_row(sql, [id], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?))).optional()
}

fn put(connection: &Connection, bench: &StoredBench, document: &StoredDocument) -> duckdb::Result<()> {
    let seq: i64 = connection.query_row(include_str!("queries/next_bench.sql"), [], |row| row.get(0))?;
    connection.execute(include_str!("queries/put_bench_suite.sql"), [&bench.suite_sha256, &bench.suite])?;
    connection.execute(
        include_str!("queries/put_bench_environment.sql"),
        [&bench.environment_sha256, &document.environment],
    )?;
    let columns = params![
        seq,
        bench.id,
        bench.suite,
        bench.suite_sha256,
        bench.commit,
        bench.branch,
        bench.started_at_us,
        bench.ended_at_us,
        bench.kept_at_us,
        bench.imported,
        bench.complete,
        bench.cells,
        bench.failures,
        bench.environment_sha256,
        document.head,
    ];
    connection.execute(include_str!("queries/put_bench_run.sql"), columns)?;
    let mut cells = connection.appender("bench_cells")?;
    for (at, cell) in (0u32..).zip(&document.cells) {
        let StoredCellKey { model, browser, backend, scenario, precision, asked } = &cell.of;
        let figures = cell.figures.as_ref();
        let columns: [&dyn ToSql; 15] = [
            &seq,
            &at,
            model,
            browser,
            backend,
            scenario,
            asked,
            &cell.model_sha256,
            &cell.outcome,
            &figures.map(|of| of.samples),
            &figures.map(|of| of.median_us),
            &figures.map(|of| of.low_us),
            &figures.map(|of| of.high_us),
            &cell.document,
            precision,
        ];
        cells.append_row(columns)?;
    }
    cells.flush()?;
    let mut samples = connection.appender("bench_samples")?;
    for (at, cell) in (0u32..).zip(&document.cells) {
        for (series, values) in (0u8..).zip(&cell.series) {
            for (place, us) in (0u32..).zip(values) {
                samples.append_row(params![seq, at, series, place, us])?;
            }
        }
    }
    samples.flush()
}

/// Forgets runs that are not kept any more, with all that only they name.
fn forget(connection: &Connection, Retention { runs, since_us }: Retention) -> duckdb::Result<()> {
    let forgotten: Vec<(i64, String)> = connection
        .prepare(include_str!("queries/forgotten_benches.sql"))?
        .query_map(params![runs, since_us], |row| Ok((row.get(0)?, row.get(1)?)))?
        .collect::<duckdb::Result<_>>()?;
    if forgotten.is_empty() {
        return Ok(());
    }
    for (seq, id) in forgotten {
        connection.execute(include_str!("queries/remove_bench_samples.sql"), [seq])?;
        connection.execute(include_str!("queries/remove_bench_cells.sql"), [seq])?;
        connection.execute(include_str!("queries/remove_bench_run.sql"), [seq])?;
        connection.execute(include_str!("queries/remove_bench_verdicts.sql"), [&id])?;
    }
    connection.execute(include_str!("queries/prune_bench_suites.sql"), [])?;
    connection.execute(include_str!("queries/prune_bench_environments.sql"), []).map(drop)
}

fn read_bench(row: &Row<'_>) -> duckdb::Result<(i64, StoredBench)> {
    let mut cells = Cells::new(row);
    let seq = cells.next()?;
    let bench = StoredBench {
        id: cells.next()?,
        suite: cells.next()?,
        suite_sha256: cells.next()?,
        commit: cells.next()?,
        branch: cells.next()?,
        started_at_us: cells.next()?,
        ended_at_us: cells.next()?,
        kept_at_us: cells.next()?,
        imported: cells.next()?,
        complete: cells.next()?,
        cells: cells.next()?,
        failures: cells.next()?,
        environment_sha256: cells.next()?,
    };
    Ok((seq, bench))
}

fn read_key(cells: &mut Cells<'_, '_>) -> duckdb::Result<StoredCellKey> {
    Ok(StoredCellKey {
        model: cells.next()?,
        browser: cells.next()?,
        backend: cells.next()?,
        scenario: cells.next()?,
        precision: cells.next()?,
        asked: cells.next()?,
    })
}

fn read_point(row: &Row<'_>) -> duckdb::Result<StoredPoint> {
    let mut cells = Cells::new(row);
    Ok(StoredPoint {
        of: read_key(&mut cells)?,
        run: cells.next()?,
        started_at_us: cells.next()?,
        commit: cells.next()?,
        branch: cells.next()?,
        suite_sha256: cells.next()?,
        environment: cells.next()?,
        model_sha256: cells.next()?,
        figures: StoredFigures {
            samples: cells.next()?,
            median_us: cells.next()?,
            low_us: cells.next()?,
            high_us: cells.next()?,
        },
    })
}

fn read_judgement(row: &Row<'_>) -> duckdb::Result<StoredJudgement> {
    let mut cells = Cells::new(row);
    let base = cells.next()?;
    let of = StoredCellKey {
        model: cells.next()?,
        browser: cells.next()?,
        backend: cells.next()?,
        asked: cells.next()?,
        ..StoredCellKey::default()
    };
    let verdict = cells.next()?;
    let ratio: [Option<f64>; 3] = [cells.next()?, cells.next()?, cells.next()?];
    Ok(StoredJudgement {
        base,
        of,
        verdict,
        ratio: ratio[0].zip(ratio[1]).zip(ratio[2]).map(|((value, low), high)| [value, low, high]),
        probability: cells.next()?,
        reason: cells.next()?,
        noise: cells.next()?,
        judged_at_us: cells.next()?,
    })
}

#[cfg(test)]
mod tests;
