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
    domain::{Environment, Failure, RunId, RunRecord, Scope},
    pool::{InstanceState, InstanceStatus, LaneState, LaneStatus},
    protocol::link::Capability,
    scheduler::LaneLoad,
    store::{PAGE_MAX, RunCursor},
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
    let limit = query.limit.unwrap_or(RUNS_SHOWN);
    if !(1..=PAGE_MAX).contains(&limit) {
        return Err(Failure::invalid(format!("limit lies between 1 and {PAGE_MAX}, {limit} does not")).into());
    }
    let cursor = query.cursor.map(|text| text.parse::<RunCursor>()).transpose();
    let cursor = cursor.map_err(Failure::invalid)?;
    // What has been answered must be there to see.
    api.store.flush().await?;
    // Everybody sees their own.
    let page = api.store.runs_of(limited_to(&grant), limit, cursor).await?;
    let cursor = page.next.map(|next| next.to_string());
    Ok(Json(Runs { page: List { items: page.runs, cursor }, lost: api.store.lost_runs() }))
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
