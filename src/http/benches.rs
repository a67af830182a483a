//! What suites measured: kept, listed, shown, compared, over time.

use std::sync::Arc;

use axum::{
    Json,
    extract::{
        Path, Query, State,
        rejection::{BytesRejection, PathRejection, QueryRejection, StringRejection},
    },
    http::{StatusCode, header},
    response::{IntoResponse, Response},
};
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use utoipa::{IntoParams, ToSchema};

use super::{Api, Problem, resources::List};
use crate::{
    bench::{ArchiveError, History, KeptSuite, KeptVerdict, Results},
    domain::Failure,
    protocol::client::Topic,
    store::{BENCHES_MAX, BenchFilter, HistoryFilter, StoredBench},
    tasks,
};

/// Runs of a page when the caller does not say how many.
const SHOWN: u32 = 20;

/// Runs of a history when the caller does not say how many.
const LOOKED_BACK: u32 = 200;

fn told(error: ArchiveError) -> Problem {
    let status = match &error {
        ArchiveError::Unknown(_) => StatusCode::NOT_FOUND,
        ArchiveError::Other(_) => StatusCode::CONFLICT,
        _ => return error.into(),
    };
    Problem::told_as(error.into(), status)
}

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct RunsQuery {
    id: Option<String>,
    suite: Option<String>,
    /// How weft's commit begins.
    commit: Option<String>,
    branch: Option<String>,
    /// Whether only runs are wanted of which every cell had its turn.
    complete: Option<bool>,
    /// Runs in a page, 20 when it is not said.
    #[param(minimum = 1, maximum = 1000)]
    limit: Option<u32>,
    /// Where the page before ended.
    #[param(pattern = "^[0-9]{1,18}$")]
    cursor: Option<String>,
}

/// Runs of suites
///
/// The one kept last comes first.
#[utoipa::path(get, path = "/api/v1/bench/runs", tag = "bench", params(RunsQuery),
    responses((status = 200, body = List<StoredBench>)))]
pub(super) async fn list(
    State(api): State<Arc<Api>>,
    query: Result<Query<RunsQuery>, QueryRejection>,
) -> Result<Json<List<StoredBench>>, Problem> {
    let Query(RunsQuery { id, suite, commit, branch, complete, limit, cursor }) = query?;
    let limit = within(limit, SHOWN)?;
    let cursor = cursor.map(|text| text.parse()).transpose();
    let cursor = cursor
        .map_err(|_| Failure::invalid("cursor is none: use the one that came with a page".to_owned()))?;
    let filter = BenchFilter { id, suite, commit, branch, complete: complete.unwrap_or(false) };
    let (items, next) = api.archive.list(filter, limit, cursor).await.map_err(told)?;
    Ok(Json(List { items, cursor: next.map(|next| next.to_string()) }))
}

fn within(limit: Option<u32>, unsaid: u32) -> Result<u32, Failure> {
    let limit = limit.unwrap_or(unsaid);
    if (1..=BENCHES_MAX).contains(&limit) {
        return Ok(limit);
    }
    Err(Failure::invalid(format!("limit lies between 1 and {BENCHES_MAX}, {limit} does not")))
}

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct KeepQuery {
    /// Whether it was measured elsewhere.
    imported: Option<bool>,
}

/// What was kept
#[derive(Serialize, ToSchema)]
pub(super) struct Kept {
    id: String,
    /// Whether the same was kept before.
    already: bool,
}

/// Keep a result
///
/// As `weft bench run` writes it, of 32 MiB at most. The oldest are forgotten when there are more than are kept.
#[utoipa::path(post, path = "/api/v1/bench/runs", tag = "bench", params(KeepQuery),
    request_body(content = Value, description = "A result's document"), responses((status = 200, body = Kept)))]
pub(super) async fn keep(
    State(api): State<Arc<Api>>,
    query: Result<Query<KeepQuery>, QueryRejection>,
    body: Result<Bytes, BytesRejection>,
) -> Result<Json<Kept>, Problem> {
    let (Query(query), body) = (query?, body?);
    let read = tasks::aside("result", move || Results::read(&body)).await.map_err(aside)?;
    let results = read.map_err(Failure::from)?;
    let (id, suite) = (results.id.clone(), results.suite.clone());
    let already = api.archive.keep(results, query.imported.unwrap_or(false)).await.map_err(told)?;
    if !already {
        api.events.publish(Topic::Suites, || json!({"kept": {"id": &id, "suite": suite}}));
    }
    Ok(Json(Kept { id, already }))
}

/// No thread could be had for it.
fn aside(error: std::io::Error) -> Problem {
    told(error.into())
}

/// A result
///
/// The document, with every sample.
#[utoipa::path(get, path = "/api/v1/bench/runs/{id}", tag = "bench", params(("id" = String, Path)),
    responses((status = 200, body = Value)))]
pub(super) async fn show(
    State(api): State<Arc<Api>>,
    id: Result<Path<String>, PathRejection>,
) -> Result<Response, Problem> {
    let Path(id) = id?;
    let results = api.archive.read(&id).await.map_err(told)?;
    let write = move || serde_json::to_vec(&results).expect("a result holds only strings and numbers");
    let written = tasks::aside("result", write).await.map_err(aside)?;
    Ok(([(header::CONTENT_TYPE, "application/json")], written).into_response())
}

/// What comparisons with a run said
///
/// The latest comes first.
#[utoipa::path(get, path = "/api/v1/bench/runs/{id}/verdicts", tag = "bench", params(("id" = String, Path)),
    responses((status = 200, body = List<KeptVerdict>)))]
pub(super) async fn verdicts(
    State(api): State<Arc<Api>>,
    id: Result<Path<String>, PathRejection>,
) -> Result<Json<List<KeptVerdict>>, Problem> {
    let Path(id) = id?;
    Ok(List::whole(api.archive.verdicts(&id).await.map_err(told)?))
}

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct HistoryQuery {
    suite: String,
    branch: Option<String>,
    /// The id of one of the suite's machines; without it the newest run's.
    machine: Option<String>,
    model: Option<String>,
    browser: Option<String>,
    backend: Option<String>,
    scenario: Option<String>,
    precision: Option<String>,
    /// The scenario with what varies beside it, as `server 20/s`.
    asked: Option<String>,
    /// The newest runs, 200 when it is not said.
    #[param(minimum = 1, maximum = 1000)]
    limit: Option<u32>,
    /// Of those that began before this: `earlier_us` of the history that is gone on from.
    before: Option<i64>,
}

/// Cells over a suite's runs
///
/// Only runs on machines that can be compared with the newest run's, or with the one that is named, are in the series; the
/// others are named with what differs where none is. Series change where E-divisive finds that they do, as Apache Otava has it, by more than 5 %.
#[utoipa::path(get, path = "/api/v1/bench/history", tag = "bench", params(HistoryQuery),
    responses((status = 200, body = History)))]
pub(super) async fn history(
    State(api): State<Arc<Api>>,
    query: Result<Query<HistoryQuery>, QueryRejection>,
) -> Result<Json<History>, Problem> {
    let Query(asked) = query?;
    let filter = HistoryFilter {
        suite: asked.suite,
        branch: asked.branch,
        environments: None,
        model: asked.model,
        browser: asked.browser,
        backend: asked.backend,
        scenario: asked.scenario,
        precision: asked.precision,
        asked: asked.asked,
        runs: within(asked.limit, LOOKED_BACK)?,
        before_us: asked.before,
    };
    Ok(Json(api.archive.history(filter, asked.machine.as_deref()).await.map_err(told)?))
}

/// Suites of which runs are kept
///
/// With what their histories can be narrowed to. The one that was measured last comes first.
#[utoipa::path(get, path = "/api/v1/bench/suites", tag = "bench", responses((status = 200, body = List<KeptSuite>)))]
pub(super) async fn suites(State(api): State<Arc<Api>>) -> Result<Json<List<KeptSuite>>, Problem> {
    Ok(List::whole(api.archive.suites().await.map_err(told)?))
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct ComparisonOrder {
    base: String,
    head: String,
    /// Medians that are apart by less than this share are the same.
    #[schema(exclusive_minimum = 0.0, exclusive_maximum = 1.0)]
    noise: f64,
}

/// Compare two runs
///
/// Says of each cell whether the head is `better`, `worse`, `same` or `unknown`, and keeps that.
#[utoipa::path(post, path = "/api/v1/bench/comparisons", tag = "bench", request_body = ComparisonOrder,
    responses((status = 200, body = Value)))]
pub(super) async fn compare(
    State(api): State<Arc<Api>>,
    body: Result<String, StringRejection>,
) -> Result<Json<Value>, Problem> {
    let order: ComparisonOrder =
        serde_json::from_str(&body?).map_err(|error| Failure::invalid(error.to_string()))?;
    let ComparisonOrder { base, head, noise } = order;
    if !(noise > 0.0 && noise < 1.0) {
        return Err(Failure::invalid("noise is between 0 and 1".to_owned()).into());
    }
    let comparison = api.archive.compare(&base, &head, noise).await.map_err(told)?;
    Ok(Json(json!(comparison)))
}
