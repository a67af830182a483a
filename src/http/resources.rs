//! The daemon's own resources: instances, lanes, runs.

use std::{collections::BTreeMap, sync::Arc};

use axum::{
    Extension, Json,
    extract::{
        Path, Query, State,
        rejection::{PathRejection, QueryRejection},
    },
};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use utoipa::{IntoParams, ToSchema};

use super::{Api, Problem};
use crate::{
    access::Grant,
    domain::{Code, Environment, Failure, RunId, RunRecord, Scope},
    pool::{InstanceState, InstanceStatus, LaneState, LaneStatus},
    protocol::link::Capability,
    scheduler::LaneLoad,
    store::{PAGE_MAX, RunCursor, RunFilter, RunOutcome, RunTimes, TIMES_MAX},
};

/// Runs shown when the caller does not say how many.
const RUNS_SHOWN: u32 = 20;

/// A list, or a page of one.
#[derive(Serialize, ToSchema)]
pub(super) struct List<T> {
    pub(super) items: Vec<T>,
    /// Leads to the next page; null on the last.
    pub(super) cursor: Option<String>,
}

impl<T> List<T> {
    /// A list that is always whole.
    pub(super) fn whole(items: Vec<T>) -> Json<Self> {
        Json(Self { items, cursor: None })
    }
}

/// Every browser
///
/// One that serves and computes at the moment is `busy`.
#[utoipa::path(get, path = "/api/v1/instances", tag = "pool",
    responses((status = 200, body = List<InstanceStatus>)))]
pub(super) async fn instances(State(api): State<Arc<Api>>) -> Json<List<Value>> {
    List::whole(instance_items(&api).await)
}

pub(super) async fn instance_items(api: &Api) -> Vec<Value> {
    let loads = api.scheduler.lanes().await;
    let items = api.pool.status().into_values().map(|status| {
        let busy = loads.iter().any(|load| load.running > 0 && status.lanes.contains_key(&load.lane));
        let mut item = json!(status);
        if busy && status.state == InstanceState::Ready {
            item["state"] = json!("busy");
        }
        item
    });
    items.collect()
}

/// A lane with what it holds.
#[derive(Serialize, ToSchema)]
pub(super) struct Lane {
    #[serde(flatten)]
    status: LaneStatus,
    /// Null while it does not serve.
    load: Option<LaneLoad>,
}

/// Every lane
///
/// Browsers' and native ones, with what each holds.
#[utoipa::path(get, path = "/api/v1/lanes", tag = "pool", responses((status = 200, body = List<Lane>)))]
pub(super) async fn lanes(State(api): State<Arc<Api>>) -> Json<List<Value>> {
    List::whole(lane_items(&api).await)
}

pub(super) async fn lane_items(api: &Api) -> Vec<Value> {
    let mut loads: BTreeMap<_, _> =
        api.scheduler.lanes().await.into_iter().map(|load| (load.lane.clone(), load)).collect();
    let native = api.native.iter().map(native_lane);
    let statuses = api.pool.status().into_values().flat_map(|instance| instance.lanes.into_values());
    let items = statuses.chain(native).map(|status| {
        let load = loads.remove(&status.lane);
        let state =
            (status.state == LaneState::Ready).then(|| load.as_ref().map_or("ready", LaneLoad::state));
        let mut item = json!(Lane { status, load });
        if let Some(state) = state {
            item["state"] = json!(state);
        }
        item
    });
    items.collect()
}

/// A native lane, which no pool keeps, as the pool shows others.
fn native_lane(environment: &Environment) -> LaneStatus {
    let capability = Capability {
        backend: environment.backend.clone(),
        engine: environment.engine.clone(),
        threads: environment.threads,
        adapter: environment.adapter.clone(),
        features: None,
        limits: None,
        webnn: None,
        webnn_device: None,
        memory_max: None,
        timing_us: BTreeMap::new(),
    };
    LaneStatus {
        lane: environment.lane.clone(),
        instance: environment.instance.clone(),
        browser: environment.browser.clone(),
        backend: environment.backend.clone(),
        state: LaneState::Ready,
        reason: None,
        capability: Some(capability),
        memory: None,
    }
}

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct RunsQuery {
    /// Runs in a page, 20 when it is not said.
    #[serde(alias = "last")]
    #[param(minimum = 1, maximum = 10_000)]
    limit: Option<u32>,
    /// Where the page before ended.
    #[param(pattern = "^[0-9]{1,18}$")]
    cursor: Option<String>,
    /// Of the model of this name.
    model: Option<String>,
    /// In this lane.
    lane: Option<String>,
    /// Under this plan; `single` for a model in one lane.
    plan: Option<String>,
    /// `ok`, an error's code, or `failed` for all that are not `ok`.
    outcome: Option<String>,
    /// Accepted at this moment or later, in microseconds since the Unix epoch.
    from: Option<i64>,
    /// Accepted at this moment or before.
    to: Option<i64>,
}

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct TimesQuery {
    /// Runs whose times are told, 100,000 when it is not said.
    #[param(minimum = 1, maximum = 100_000)]
    limit: Option<u32>,
    /// These and the others as of `/api/v1/runs`.
    model: Option<String>,
    lane: Option<String>,
    plan: Option<String>,
    outcome: Option<String>,
    from: Option<i64>,
    to: Option<i64>,
}

impl From<TimesQuery> for RunsQuery {
    fn from(TimesQuery { limit, model, lane, plan, outcome, from, to }: TimesQuery) -> Self {
        Self { limit, cursor: None, model, lane, plan, outcome, from, to }
    }
}

impl RunsQuery {
    /// Everybody sees their own.
    fn filter(&self, grant: &Grant) -> Result<RunFilter, Failure> {
        let known = |word: &str| word == "ok" || Code::ALL.iter().any(|code| code.as_str() == word);
        let outcome = match self.outcome.as_deref() {
            Some("failed") => Some(RunOutcome::Failed),
            Some(word) if !known(word) => {
                let message =
                    format!("no outcome is called {word:?}; there are ok, failed, and the errors' codes");
                return Err(Failure::invalid(message));
            }
            word => word.map(|word| RunOutcome::Word(word.to_owned())),
        };
        Ok(RunFilter {
            caller: limited_to(grant),
            model: self.model.clone(),
            lane: self.lane.clone(),
            plan: self.plan.clone(),
            outcome,
            from_us: self.from,
            to_us: self.to,
        })
    }
}

#[derive(Serialize, ToSchema)]
pub(super) struct Runs {
    #[serde(flatten)]
    page: List<RunRecord>,
    /// Rows that could not be written since the daemon started.
    lost: u64,
}

/// Attempts at requests
///
/// The one recorded last comes first.
#[utoipa::path(get, path = "/api/v1/runs", tag = "runs", params(RunsQuery),
    responses((status = 200, body = Runs)))]
pub(super) async fn runs(
    State(api): State<Arc<Api>>,
    Extension(grant): Extension<Grant>,
    query: Result<Query<RunsQuery>, QueryRejection>,
) -> Result<Json<Runs>, Problem> {
    let Query(query) = query?;
    let (limit, filter) = (query.limit.unwrap_or(RUNS_SHOWN), query.filter(&grant)?);
    if !(1..=PAGE_MAX).contains(&limit) {
        return Err(Failure::invalid(format!("limit lies between 1 and {PAGE_MAX}, {limit} does not")).into());
    }
    let cursor = query.cursor.map(|text| text.parse::<RunCursor>()).transpose();
    let cursor = cursor.map_err(Failure::invalid)?;
    // What has been answered must be there to see.
    api.store.flush().await?;
    let page = api.store.runs_of(filter, limit, cursor).await?;
    let cursor = page.next.map(|next| next.to_string());
    Ok(Json(Runs { page: List { items: page.runs, cursor }, lost: api.store.lost_runs() }))
}

/// What attempts took
///
/// The same as columns, of as many as a picture can show.
#[utoipa::path(get, path = "/api/v1/runs/times", tag = "runs", params(TimesQuery),
    responses((status = 200, body = RunTimes)))]
pub(super) async fn times(
    State(api): State<Arc<Api>>,
    Extension(grant): Extension<Grant>,
    query: Result<Query<TimesQuery>, QueryRejection>,
) -> Result<Json<RunTimes>, Problem> {
    let query = RunsQuery::from(query?.0);
    let limit = query.limit.unwrap_or(TIMES_MAX);
    if !(1..=TIMES_MAX).contains(&limit) {
        return Err(
            Failure::invalid(format!("limit lies between 1 and {TIMES_MAX}, {limit} does not")).into()
        );
    }
    let filter = query.filter(&grant)?;
    api.store.flush().await?;
    Ok(Json(api.store.run_times(filter, limit).await?))
}

/// One attempt
#[utoipa::path(get, path = "/api/v1/runs/{run}", tag = "runs", params(("run" = String, Path)),
    responses((status = 200, body = RunRecord)))]
pub(super) async fn run(
    State(api): State<Arc<Api>>,
    Extension(grant): Extension<Grant>,
    run: Result<Path<String>, PathRejection>,
) -> Result<Json<RunRecord>, Problem> {
    let Path(run) = run?;
    api.store.flush().await?;
    let found = api.store.run(RunId::new(run.clone()), limited_to(&grant)).await?;
    found
        .map(Json)
        .ok_or_else(|| Problem::not_found(format!("no run is called {run:?}; the oldest are forgotten")))
}

/// Whose runs the caller may see; everybody's where nobody is named.
fn limited_to(grant: &Grant) -> Option<String> {
    (!grant.holds(Scope::Admin)).then(|| grant.caller().id.to_string())
}
