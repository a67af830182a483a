//! What the server and its models are.

use std::sync::Arc;

use axum::{
    Json,
    extract::{Path, State},
    http::StatusCode,
};
use serde_json::{Value, json};

use super::{super::Problem, Api, NamedPath, repository::Standing};
use crate::domain::{Dim, Port};

/// Triton's name for what ONNX Runtime runs, which every lane does.
const PLATFORM: &str = "onnxruntime_onnx";

const EXTENSIONS: [&str; 4] = ["binary_tensor_data", "model_repository", "schedule_policy", "statistics"];

pub(super) async fn server() -> Json<Value> {
    Json(json!({"name": "weft", "version": env!("CARGO_PKG_VERSION"), "extensions": EXTENSIONS}))
}

pub(super) async fn model(State(api): State<Arc<Api>>, path: NamedPath) -> Result<Json<Value>, Problem> {
    let Path(named) = path?;
    let model = &named.find(&api)?.model;
    Ok(Json(json!({
        "name": model.name,
        "versions": [model.digest],
        "platform": PLATFORM,
        "inputs": model.signature.inputs.iter().map(port).collect::<Vec<_>>(),
        "outputs": model.signature.outputs.iter().map(port).collect::<Vec<_>>(),
    })))
}

/// The protocol has one word for every size that a request may choose.
fn port(port: &Port) -> Value {
    let size = |dim: &Dim| match dim {
        Dim::Fixed(size) => json!(size),
        Dim::Symbol(_) | Dim::Free(_) => json!(-1),
    };
    json!({
        "name": port.name,
        "datatype": port.datatype,
        "shape": port.shape.iter().map(size).collect::<Vec<_>>(),
    })
}

pub(super) async fn ready(
    State(api): State<Arc<Api>>,
    path: NamedPath,
) -> Result<(StatusCode, Json<Value>), Problem> {
    let Path(named) = path?;
    let entry = named.find(&api)?;
    let standing = Standing::of(&entry, &api).await?;
    let status = if standing.ready() { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    let Standing { state, reason } = &standing;
    let name = &entry.model.name;
    Ok((status, Json(json!({"name": name, "ready": standing.ready(), "state": state, "reason": reason}))))
}
