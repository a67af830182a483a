//! Domain values to rows and back. Column orders are those of `schema/` and `queries/`.

use std::{error::Error, str::FromStr};

use duckdb::{
    Appender, Connection, Row, params,
    types::{FromSql, TimeUnit, Type, Value},
};
use serde::{Serialize, de::DeserializeOwned};

use super::{RunCursor, Spent, StoredKey, StoredVerdict};
use crate::domain::{
    Failure, InstanceId, LaneId, Provenance, RequestId, RunId, RunRecord, Timing, Tolerance, Verdict,
    VerdictKey,
};

/// The outcome of a run without an error; error codes are words of their own.
const OK: &str = "ok";

pub(super) fn append_run(appender: &mut Appender<'_>, seq: i64, record: &RunRecord) -> duckdb::Result<()> {
    let lane = record.provenance.as_ref();
    let (timing, error) = (&record.timing, record.error.as_ref());
    appender.append_row(params![
        seq,
        record.run.as_str(),
        timestamp(record.accepted_at_us),
        record.model.as_str(),
        lane.map(|lane| lane.model_digest.to_string()),
        lane.map(|lane| lane.instance.as_str()),
        lane.map(|lane| lane.lane.as_str()),
        lane.map(|lane| lane.browser.as_str()),
        lane.map(|lane| lane.browser_version.as_str()),
        lane.map(|lane| lane.backend.to_string()),
        lane.map(|lane| json(&lane.placement)),
        lane.and_then(|lane| lane.adapter.as_ref()).map(json),
        lane.map(|lane| lane.software_adapter),
        lane.and_then(|lane| lane.webnn_device_requested.as_deref()),
        lane.and_then(|lane| lane.sandbox),
        lane.map(|lane| lane.engine.as_str()),
        lane.map(|lane| lane.threads),
        lane.map(|lane| lane.verdict.as_str()),
        lane.map(|lane| lane.plan.as_str()),
        lane.map(|lane| lane.attempt),
        lane.and_then(|lane| lane.fallback.as_ref()).map(json),
        timing.queue,
        timing.transfer,
        timing.decode,
        timing.compute,
        timing.encode,
        timing.total,
        error.map_or(OK, |error| error.code.as_str()),
        error.map(|error| error.message.as_str()),
        error.map(|error| json(&error.retry)),
        record.request.as_ref().map(RequestId::as_str),
        lane.map(|lane| lane.batch),
        record.caller.as_str(),
        lane.and_then(|lane| lane.converted.as_deref()),
        lane.filter(|lane| !lane.stages.is_empty()).map(|lane| json(&lane.stages)),
    ])
}

pub(super) fn read_run(row: &Row<'_>) -> duckdb::Result<(RunCursor, RunRecord)> {
    let mut cells = Cells::new(row);
    let cursor = RunCursor(cells.next()?);
    let run = RunId::new(cells.next::<String>()?);
    let (accepted_at_us, model) = (cells.next()?, cells.parse()?);
    let mut provenance = if row.get::<_, Option<String>>(cells.at)?.is_some() {
        Some(read_provenance(&mut cells)?)
    } else {
        cells.at += PROVENANCE_COLUMNS;
        None
    };
    let timing = Timing {
        queue: cells.next()?,
        transfer: cells.next()?,
        decode: cells.next()?,
        compute: cells.next()?,
        encode: cells.next()?,
        total: cells.next()?,
    };
    let outcome: String = cells.next()?;
    let error = if outcome == OK {
        cells.at += ERROR_COLUMNS;
        None
    } else {
        cells.at -= 1;
        let (code, message): (_, String) = (cells.word()?, cells.next()?);
        Some(Failure::new(code, cells.json()?, message))
    };
    let request = cells.optional_parse()?;
    if let (Some(provenance), Some(batch)) = (&mut provenance, cells.next()?) {
        provenance.batch = batch;
    }
    let caller = cells.next()?;
    if let Some(provenance) = &mut provenance {
        provenance.converted = cells.next::<Option<String>>()?.map(Into::into);
        provenance.stages = cells.optional_json()?.unwrap_or_default();
    }
    Ok((cursor, RunRecord { run, request, accepted_at_us, caller, model, provenance, timing, error }))
}

/// `error` and `retry`.
const ERROR_COLUMNS: usize = 2;

/// From `digest` to `fallback`.
const PROVENANCE_COLUMNS: usize = 17;

fn read_provenance(cells: &mut Cells<'_, '_>) -> duckdb::Result<Provenance> {
    Ok(Provenance {
        model_digest: cells.parse()?,
        instance: InstanceId::new(cells.next::<String>()?),
        lane: LaneId::new(cells.next::<String>()?),
        browser: cells.next()?,
        browser_version: cells.next()?,
        backend: cells.parse()?,
        placement: cells.json()?,
        adapter: cells.optional_json()?,
        software_adapter: cells.next()?,
        webnn_device_requested: cells.next()?,
        sandbox: cells.next()?,
        engine: cells.next()?,
        threads: cells.next()?,
        verdict: cells.word()?,
        plan: cells.next()?,
        attempt: cells.next()?,
        // The columns of these came later; runs of an earlier weft have none.
        batch: 1,
        converted: None,
        stages: Vec::new(),
        fallback: cells.optional_json()?,
    })
}

/// Per model. On WebNN every set of dimensions has a verdict of its own, and callers choose the dimensions.
const VERDICTS_KEPT: u32 = 1000;

pub(super) fn put_verdict(connection: &Connection, stored: &StoredVerdict) -> duckdb::Result<()> {
    let (key, verdict) = (&stored.key, &stored.verdict);
    let columns = params![
        key.canonical(),
        key.model.to_string(),
        key.browser,
        key.browser_version,
        key.backend.to_string(),
        key.engine,
        key.adapter,
        key.webnn_device,
        key.threads,
        verdict.status.as_str(),
        verdict.error,
        verdict.tolerance.0,
        verdict.inputs,
        verdict.detail,
        stored.proven_at_us,
    ];
    connection.execute(include_str!("queries/put_verdict.sql"), columns)?;
    let digest = key.model.to_string();
    connection
        .execute(include_str!("queries/prune_verdicts.sql"), params![digest, digest, VERDICTS_KEPT])
        .map(drop)
}

pub(super) fn read_verdict(row: &Row<'_>) -> duckdb::Result<StoredVerdict> {
    let mut cells = Cells::new(row);
    let key: VerdictKey = cells.json()?;
    let verdict = Verdict {
        status: cells.word()?,
        error: cells.next()?,
        tolerance: Tolerance(cells.next()?),
        inputs: cells.next()?,
        detail: cells.next()?,
    };
    Ok(StoredVerdict { key, verdict, proven_at_us: cells.next()? })
}

pub(super) fn put_key(connection: &Connection, key: &StoredKey) -> duckdb::Result<()> {
    let columns = params![
        key.id,
        key.name,
        key.digest.to_string(),
        key.scopes.to_string(),
        key.weight,
        key.rate_per_second,
        key.quota_per_day,
        key.in_flight,
        key.created_at_us,
        key.expires_at_us,
        key.revoked_at_us,
    ];
    connection.execute(include_str!("queries/put_key.sql"), columns).map(drop)
}

pub(super) fn read_key(row: &Row<'_>) -> duckdb::Result<StoredKey> {
    let mut cells = Cells::new(row);
    Ok(StoredKey {
        id: cells.next()?,
        name: cells.next()?,
        digest: cells.parse()?,
        scopes: cells.parse()?,
        weight: cells.next()?,
        rate_per_second: cells.next()?,
        quota_per_day: cells.next()?,
        in_flight: cells.next()?,
        created_at_us: cells.next()?,
        expires_at_us: cells.next()?,
        revoked_at_us: cells.next()?,
    })
}

/// In one transaction of the caller's.
pub(super) fn put_spent(connection: &Connection, spent: &[Spent]) -> duckdb::Result<()> {
    let mut put = connection.prepare(include_str!("queries/put_spent.sql"))?;
    for Spent { caller, day, used } in spent {
        put.execute(params![caller, day, used])?;
    }
    let today = spent.iter().map(|spent| spent.day).max();
    connection.execute(include_str!("queries/prune_spent.sql"), [today]).map(drop)
}

pub(super) fn read_spent(row: &Row<'_>) -> duckdb::Result<Spent> {
    let mut cells = Cells::new(row);
    Ok(Spent { caller: cells.next()?, day: cells.next()?, used: cells.next()? })
}

pub(super) fn timestamp(us: i64) -> Value {
    Value::Timestamp(TimeUnit::Microsecond, us)
}

pub(super) fn json<T: Serialize>(value: &T) -> String {
    serde_json::to_string(value).expect("domain types hold only strings, numbers and string-keyed maps")
}

/// Takes a row's columns from left to right.
pub(super) struct Cells<'r, 's> {
    row: &'r Row<'s>,
    at: usize,
}

impl<'r, 's> Cells<'r, 's> {
    pub(super) fn new(row: &'r Row<'s>) -> Self {
        Self { row, at: 0 }
    }

    pub(super) fn next<T: FromSql>(&mut self) -> duckdb::Result<T> {
        self.at += 1;
        self.row.get(self.at - 1)
    }

    pub(super) fn parse<T: FromStr<Err = String>>(&mut self) -> duckdb::Result<T> {
        let text: String = self.next()?;
        text.parse().map_err(|error: String| self.unreadable(error.into()))
    }

    pub(super) fn optional_parse<T: FromStr<Err = String>>(&mut self) -> duckdb::Result<Option<T>> {
        let text: Option<String> = self.next()?;
        text.map(|text| text.parse().map_err(|error: String| self.unreadable(error.into()))).transpose()
    }

    pub(super) fn json<T: DeserializeOwned>(&mut self) -> duckdb::Result<T> {
        let text: String = self.next()?;
        serde_json::from_str(&text).map_err(|error| self.unreadable(error.into()))
    }

    pub(super) fn optional_json<T: DeserializeOwned>(&mut self) -> duckdb::Result<Option<T>> {
        let text: Option<String> = self.next()?;
        text.map(|text| serde_json::from_str(&text).map_err(|error| self.unreadable(error.into())))
            .transpose()
    }

    /// An enum's serde spelling.
    pub(super) fn word<T: DeserializeOwned>(&mut self) -> duckdb::Result<T> {
        let text: String = self.next()?;
        T::deserialize(serde_json::Value::String(text)).map_err(|error| self.unreadable(error.into()))
    }

    fn unreadable(&self, error: Box<dyn Error + Send + Sync>) -> duckdb::Error {
        duckdb::Error::FromSqlConversionFailure(self.at - 1, Type::Text, error)
    }
}
