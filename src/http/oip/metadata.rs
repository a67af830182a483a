//! What the server and its models are.

use std::sync::Arc;

use axum::{
    Json,
    extract::{Path, State},
    http::StatusCode,
};
use serde::Serialize;
use utoipa::ToSchema;

use super::{super::Problem, Api, NamedPath, repository::Standing};
use crate::domain::{Datatype, Digest, Dim, ModelName, Port};

/// Triton's name for what ONNX Runtime runs, which every lane does.
const PLATFORM: &str = "onnxruntime_onnx";

const EXTENSIONS: [&str; 4] = ["binary_tensor_data", "model_repository", "schedule_policy", "statistics"];

#[derive(Serialize, ToSchema)]
#[schema(as = ServerMetadata)]
pub(super) struct Server {
    name: &'static str,
    version: &'static str,
    /// What it was built of; `unknown` of a debug build, and outside its repository.
    commit: &'static str,
    extensions: [&'static str; 4],
}

/// The server's metadata
#[utoipa::path(get, path = "/v2", tag = "open inference protocol", responses((status = 200, body = Server)))]
pub(super) async fn server() -> Json<Server> {
    let (version, commit) = (env!("CARGO_PKG_VERSION"), env!("WEFT_COMMIT"));
    Json(Server { name: "weft", version, commit, extensions: EXTENSIONS })
}

#[derive(Serialize, ToSchema)]
#[schema(as = ModelMetadata)]
pub(super) struct Metadata {
    name: ModelName,
    /// The files' digests, the one first that is described.
    versions: Vec<Digest>,
    platform: &'static str,
    inputs: Vec<TensorMetadata>,
    outputs: Vec<TensorMetadata>,
}

#[derive(Serialize, ToSchema)]
struct TensorMetadata {
    name: String,
    datatype: Datatype,
    /// -1 is a size that the request chooses.
    shape: Vec<i64>,
}

/// A model's metadata
#[utoipa::path(get, path = "/v2/models/{name}", tag = "open inference protocol", params(("name" = String, Path)),
    responses((status = 200, body = Metadata)))]
pub(super) async fn model(State(api): State<Arc<Api>>, path: NamedPath) -> Result<Json<Metadata>, Problem> {
    let Path(named) = path?;
    let model = &named.find(&api)?.model;
    let others = api.registry.list().into_iter().filter(|entry| entry.model.name == model.name);
    let others = others.map(|entry| entry.model.digest).filter(|digest| *digest != model.digest);
    Ok(Json(Metadata {
        name: model.name.clone(),
        versions: [model.digest].into_iter().chain(others).collect(),
        platform: PLATFORM,
        inputs: model.signature.inputs.iter().map(TensorMetadata::of).collect(),
        outputs: model.signature.outputs.iter().map(TensorMetadata::of).collect(),
    }))
}

impl TensorMetadata {
    /// The protocol has one word for every size that a request may choose.
    fn of(port: &Port) -> Self {
        let size = |dim: &Dim| match dim {
            Dim::Fixed(size) => i64::try_from(*size).unwrap_or(i64::MAX),
            Dim::Symbol(_) | Dim::Free(_) => -1,
        };
        let shape = port.shape.iter().map(size).collect();
        Self { name: port.name.clone(), datatype: port.datatype, shape }
    }
}

#[derive(Serialize, ToSchema)]
#[schema(as = ModelReady)]
pub(super) struct Readiness {
    name: ModelName,
    ready: bool,
    state: &'static str,
    reason: String,
}

/// Whether a model would answer
#[utoipa::path(get, path = "/v2/models/{name}/ready", tag = "open inference protocol",
    params(("name" = String, Path)), responses((status = 200, body = Readiness), (status = 503, body = Readiness)))]
pub(super) async fn ready(
    State(api): State<Arc<Api>>,
    path: NamedPath,
) -> Result<(StatusCode, Json<Readiness>), Problem> {
    let Path(named) = path?;
    let entry = named.find(&api)?;
    let standing = Standing::of(&entry, &api).await?;
    let ready = standing.ready();
    let status = if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    let Standing { state, reason } = standing;
    Ok((status, Json(Readiness { name: entry.model.name.clone(), ready, state, reason })))
}
