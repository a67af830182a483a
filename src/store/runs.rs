//! The history of runs: pages of it, and what they took as columns.

use duckdb::{Connection, Row, params};
use serde::Serialize;
use utoipa::ToSchema;

use super::{PAGE_MAX, RunCursor, RunPage, Store, StoreError, rows};

const RUNS: &str = concat!(include_str!("queries/run_columns.sql"), include_str!("queries/runs.sql"));
const TIMES: &str = concat!(include_str!("queries/run_times.sql"), include_str!("queries/runs.sql"));

/// Runs whose times are told at once: about 3 MB as JSON.
pub const TIMES_MAX: u32 = 100_000;

/// Beyond these no run was accepted; DuckDB could not tell much later moments.
const LATEST_US: i64 = 253_402_300_800_000_000;
const EARLIEST_US: i64 = -LATEST_US;

/// Which runs are meant; all of them by default.
#[derive(Clone, Debug, Default)]
pub struct RunFilter {
    pub caller: Option<String>,
    pub model: Option<String>,
    pub lane: Option<String>,
    pub plan: Option<String>,
    pub outcome: Option<RunOutcome>,
    /// When the request was accepted, in microseconds since the Unix epoch; both belong to it.
    pub from_us: Option<i64>,
    pub to_us: Option<i64>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RunOutcome {
    /// Any but a result.
    Failed,
    /// `ok`, or an error's code.
    Word(String),
}

/// What runs took, as columns, the newest first
#[derive(Clone, Debug, Default, PartialEq, Serialize, ToSchema)]
pub struct RunTimes {
    /// When the request was accepted, in microseconds since the Unix epoch.
    pub accepted_at_us: Vec<i64>,
    pub total_us: Vec<u64>,
    /// Places in `outcomes`: `ok` and errors' codes.
    pub outcome: Vec<usize>,
    /// Places in `lanes`; null where none was ever chosen.
    pub lane: Vec<Option<usize>>,
    pub outcomes: Vec<String>,
    pub lanes: Vec<String>,
}

impl Store {
    /// Up to `last` runs, the one recorded last first, beginning before `cursor`.
    pub async fn runs(&self, last: u32, cursor: Option<RunCursor>) -> Result<RunPage, StoreError> {
        self.runs_of(RunFilter::default(), last, cursor).await
    }

    /// The same of those that are meant.
    pub async fn runs_of(
        &self,
        filter: RunFilter,
        last: u32,
        cursor: Option<RunCursor>,
    ) -> Result<RunPage, StoreError> {
        if last > PAGE_MAX {
            return Err(StoreError::PageTooLong { asked: last, limit: PAGE_MAX });
        }
        let before = cursor.map_or(i64::MAX, |cursor| cursor.0);
        self.read("runs", move |connection| page(connection, &filter, last, before)).await
    }

    /// What up to `last` of those that are meant took.
    pub async fn run_times(&self, filter: RunFilter, last: u32) -> Result<RunTimes, StoreError> {
        if last > TIMES_MAX {
            return Err(StoreError::PageTooLong { asked: last, limit: TIMES_MAX });
        }
        self.read("runs", move |connection| times(connection, &filter, last)).await
    }
}

/// Up to `most` rows before `before`, by one of the statements that end in `queries/runs.sql`.
fn select<T>(
    connection: &Connection,
    sql: &str,
    (filter, before, most): (&RunFilter, i64, i64),
    read: impl FnMut(&Row<'_>) -> duckdb::Result<T>,
) -> duckdb::Result<Vec<T>> {
    let RunFilter { caller, model, lane, plan, outcome, from_us, to_us } = filter;
    let word = outcome.as_ref().and_then(|outcome| match outcome {
        RunOutcome::Failed => None,
        RunOutcome::Word(word) => Some(word),
    });
    let well = *outcome != Some(RunOutcome::Failed);
    let [from, to] = [from_us.unwrap_or(EARLIEST_US), to_us.unwrap_or(LATEST_US)]
        .map(|moment| moment.clamp(EARLIEST_US, LATEST_US));
    let parameters = params![before, caller, model, lane, plan, word, well, from, to, most];
    connection.prepare(sql)?.query_map(parameters, read)?.collect()
}

fn page(connection: &Connection, filter: &RunFilter, last: u32, before: i64) -> duckdb::Result<RunPage> {
    let wanted = last as usize;
    // One more than wanted tells whether another page follows.
    let mut found = select(connection, RUNS, (filter, before, i64::from(last) + 1), rows::read_run)?;
    let more = found.len() > wanted;
    found.truncate(wanted);
    let next = found.last().filter(|_| more).map(|(cursor, _)| *cursor);
    Ok(RunPage { runs: found.into_iter().map(|(_, record)| record).collect(), next })
}

fn times(connection: &Connection, filter: &RunFilter, last: u32) -> duckdb::Result<RunTimes> {
    let mut times = RunTimes::default();
    select(connection, TIMES, (filter, i64::MAX, i64::from(last)), |row| {
        times.accepted_at_us.push(row.get(0)?);
        times.total_us.push(row.get(1)?);
        times.outcome.push(place(&mut times.outcomes, row.get(2)?));
        times.lane.push(row.get::<_, Option<String>>(3)?.map(|lane| place(&mut times.lanes, lane)));
        Ok(())
    })?;
    Ok(times)
}

/// Where the word stands in the list, which gets it if it has not.
fn place(words: &mut Vec<String>, word: String) -> usize {
    let found = words.iter().position(|known| *known == word);
    found.unwrap_or_else(|| {
        words.push(word);
        words.len() - 1
    })
}
