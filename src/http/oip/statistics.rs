//! Triton's statistics extension.

use std::sync::Arc;

use axum::{
    Json,
    extract::{Path, State},
};
use serde_json::{Value, json};

use super::{super::Problem, Api, NamedPath};
use crate::models::{Entry, Tally};

pub(super) async fn all(State(api): State<Arc<Api>>) -> Json<Value> {
    let stats: Vec<_> = api.registry.list().iter().map(|entry| stats(entry)).collect();
    Json(json!({"model_stats": stats}))
}

pub(super) async fn one(State(api): State<Arc<Api>>, path: NamedPath) -> Result<Json<Value>, Problem> {
    let Path(named) = path?;
    let entry = named.find(&api)?;
    Ok(Json(json!({"model_stats": [stats(&entry)]})))
}

fn stats(entry: &Entry) -> Value {
    let served = &entry.served;
    let told = |tally: &Tally| json!({"count": tally.count(), "ns": tally.ns()});
    json!({
        "name": entry.model.name,
        "version": entry.model.digest,
        "last_inference": served.last_ms(),
        "inference_count": served.rows(),
        "execution_count": served.steps(),
        "inference_stats": {
            "success": told(&served.success),
            "fail": told(&served.fail),
            "queue": told(&served.queue),
            "compute_input": told(&served.compute_input),
            "compute_infer": told(&served.compute_infer),
            "compute_output": told(&served.compute_output),
            "cache_hit": told(&Tally::default()),
            "cache_miss": told(&Tally::default()),
        },
        "batch_stats": [],
    })
}
