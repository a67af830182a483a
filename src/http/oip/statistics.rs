//! Triton's statistics extension.

use std::sync::Arc;

use axum::{
    Json,
    extract::{Path, State},
};
use serde::Serialize;
use utoipa::ToSchema;

use super::{super::Problem, Api, NamedPath};
use crate::{
    domain::{Digest, ModelName},
    models::{Entry, Tally},
};

#[derive(Serialize, ToSchema)]
#[schema(as = StatisticsAnswer)]
pub(super) struct Statistics {
    model_stats: Vec<ModelStatistics>,
}

#[derive(Serialize, ToSchema)]
struct ModelStatistics {
    name: ModelName,
    version: Digest,
    /// Milliseconds since the Unix epoch, 0 when there was none.
    last_inference: u64,
    inference_count: u64,
    execution_count: u64,
    inference_stats: Spent,
    #[schema(value_type = Vec<serde_json::Value>)]
    batch_stats: [String; 0],
}

#[derive(Serialize, ToSchema)]
struct Spent {
    success: Told,
    fail: Told,
    queue: Told,
    compute_input: Told,
    compute_infer: Told,
    compute_output: Told,
    cache_hit: Told,
    cache_miss: Told,
}

#[derive(Serialize, ToSchema)]
#[schema(as = Tally)]
struct Told {
    count: u64,
    ns: u64,
}

/// What was asked of every model
#[utoipa::path(get, path = "/v2/models/stats", tag = "open inference protocol",
    responses((status = 200, body = Statistics)))]
pub(super) async fn all(State(api): State<Arc<Api>>) -> Json<Statistics> {
    let model_stats = api.registry.list().iter().map(|entry| ModelStatistics::of(entry)).collect();
    Json(Statistics { model_stats })
}

/// What was asked of a model
#[utoipa::path(get, path = "/v2/models/{name}/stats", tag = "open inference protocol",
    params(("name" = String, Path)), responses((status = 200, body = Statistics)))]
pub(super) async fn one(State(api): State<Arc<Api>>, path: NamedPath) -> Result<Json<Statistics>, Problem> {
    let Path(named) = path?;
    let entry = named.find(&api)?;
    Ok(Json(Statistics { model_stats: vec![ModelStatistics::of(&entry)] }))
}

impl ModelStatistics {
    fn of(entry: &Entry) -> Self {
        let served = &entry.served;
        let told = |tally: &Tally| Told { count: tally.count(), ns: tally.ns() };
        Self {
            name: entry.model.name.clone(),
            version: entry.model.digest,
            last_inference: served.last_ms(),
            inference_count: served.rows(),
            execution_count: served.steps(),
            inference_stats: Spent {
                success: told(&served.success),
                fail: told(&served.fail),
                queue: told(&served.queue),
                compute_input: told(&served.compute_input),
                compute_infer: told(&served.compute_infer),
                compute_output: told(&served.compute_output),
                cache_hit: told(&Tally::default()),
                cache_miss: told(&Tally::default()),
            },
            batch_stats: [],
        }
    }
}
