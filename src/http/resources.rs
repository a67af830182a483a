//! The daemon's own resources: instances, lanes, runs.

use std::{collections::BTreeMap, sync::Arc};

use axum::{
    Extension, Json,
    extract::{Query, State, rejection::QueryRejection},
};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{Api, Problem};
use crate::{
    access::Grant,
    domain::{Failure, Scope},
    pool::{InstanceState, LaneState},
    scheduler::LaneLoad,
    store::RunCursor,
};

/// Runs shown when the caller does not say how many.
const RUNS_SHOWN: u32 = 20;

/// Every browser; one that serves and computes at the moment is `busy`.
pub(super) async fn instances(State(api): State<Arc<Api>>) -> Json<Value> {
    Json(json!({"items": instance_items(&api).await, "cursor": null}))
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

/// Every lane, browsers' and native ones, with what it holds.
pub(super) async fn lanes(State(api): State<Arc<Api>>) -> Json<Value> {
    Json(json!({"items": lane_items(&api).await, "cursor": null}))
}

pub(super) async fn lane_items(api: &Api) -> Vec<Value> {
    let mut loads: BTreeMap<_, _> =
        api.scheduler.lanes().await.into_iter().map(|load| (load.lane.clone(), load)).collect();
    let mut items = Vec::new();
    for status in api.pool.status().into_values().flat_map(|instance| instance.lanes.into_values()) {
        let load = loads.remove(&status.lane);
        let mut item = json!(status);
        if status.state == LaneState::Ready {
            item["state"] = json!(load.as_ref().map_or("ready", LaneLoad::state));
        }
        item["load"] = json!(load);
        items.push(item);
    }
    for environment in &api.native {
        let load = loads.remove(&environment.lane);
        items.push(json!({
            "lane": environment.lane,
            "instance": environment.instance,
            "browser": environment.browser,
            "backend": environment.backend,
            "state": load.as_ref().map_or("ready", LaneLoad::state),
            "reason": null,
            "capability": {"backend": environment.backend, "engine": environment.engine, "threads": environment.threads},
            "load": load,
        }));
    }
    items
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RunsQuery {
    last: Option<u32>,
    cursor: Option<String>,
}

pub(super) async fn runs(
    State(api): State<Arc<Api>>,
    Extension(grant): Extension<Grant>,
    query: Result<Query<RunsQuery>, QueryRejection>,
) -> Result<Json<Value>, Problem> {
    let Query(query) = query?;
    let cursor = query.cursor.map(|text| text.parse::<RunCursor>()).transpose();
    let cursor = cursor.map_err(Failure::invalid)?;
    // What has been answered must be there to see.
    api.store.flush().await?;
    // Everybody sees their own.
    let caller = (!grant.holds(Scope::Admin)).then(|| grant.caller().id.to_string());
    let page = api.store.runs_of(caller, query.last.unwrap_or(RUNS_SHOWN), cursor).await?;
    Ok(Json(json!({
        "items": page.runs,
        "cursor": page.next.map(|next| next.to_string()),
        "lost": api.store.lost_runs(),
    })))
}
