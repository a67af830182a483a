//! Models: upload, add, list, show, verify, remove.

use std::{sync::Arc, time::Duration};

use axum::{
    Json,
    body::Body,
    extract::{
        Path, State,
        rejection::{PathRejection, StringRejection},
    },
};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{Api, Problem};
use crate::{
    domain::{BackendKind, Code, Digest, Failure, Model, ModelName, Retry, Tolerance},
    models::{Entry, GateInputs, NewModel},
    scheduler::Wants,
    tasks,
};

/// All lanes' proofs together; one on a software adapter takes the better part of a minute.
const VERIFY_WITHIN: Duration = Duration::from_secs(900);

type Named = Result<Path<String>, PathRejection>;
type Text = Result<String, StringRejection>;

pub(super) async fn list(State(api): State<Arc<Api>>) -> Json<Value> {
    let items: Vec<_> = api.registry.list().iter().map(|entry| json!(entry.model)).collect();
    Json(json!({"items": items, "cursor": null}))
}

pub(super) async fn show(State(api): State<Arc<Api>>, name: Named) -> Result<Json<Value>, Problem> {
    let Path(name) = name?;
    let entry = find(&api, &name)?;
    let verdicts = api.store.verdicts(entry.model.digest).await?;
    let verdicts: Vec<_> = verdicts
        .into_iter()
        .map(|stored| json!({"key": stored.key, "verdict": stored.verdict, "proven_at_us": stored.proven_at_us}))
        .collect();
    let mut model = json!(entry.model);
    model["gate_inputs"] = json!(entry.given.len());
    model["verdicts"] = json!(verdicts);
    Ok(Json(model))
}

pub(super) async fn upload(State(api): State<Arc<Api>>, body: Body) -> Result<Json<Value>, Problem> {
    let upload = api.registry.blobs.receive(body.into_data_stream()).await?;
    Ok(Json(json!({"digest": upload.digest, "bytes": upload.bytes})))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Add {
    name: ModelName,
    digest: Digest,
    source: String,
    tolerance: Option<f64>,
    licence: Option<String>,
    #[serde(default)]
    gate: GateInputs,
}

pub(super) async fn add(State(api): State<Arc<Api>>, body: Text) -> Result<Json<Value>, Problem> {
    let add: Add = serde_json::from_str(&body?).map_err(|error| Failure::invalid(error.to_string()))?;
    if add.tolerance.is_some_and(|tolerance| !(tolerance > 0.0 && tolerance < 1.0)) {
        return Err(Failure::invalid("a tolerance lies between 0 and 1").into());
    }
    let new = NewModel {
        name: add.name,
        digest: add.digest,
        tolerance: add.tolerance.map(Tolerance),
        source: add.source,
        licence: add.licence,
        inputs: add.gate,
    };
    let (entry, unused) = api.registry.add(new, tasks::now_us()).await?;
    // With other inputs or another tolerance, earlier refusals say nothing.
    for changed in unused.into_iter().chain([entry.model.digest]) {
        api.scheduler.forget(changed).await;
    }
    Ok(Json(json!(entry.model)))
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Verify {
    backend: Vec<BackendKind>,
    browser: Vec<String>,
}

/// Proves a model in every lane, or in those that the body names; answers with what `show` does, and with what
/// became of it in each lane.
pub(super) async fn verify(
    State(api): State<Arc<Api>>,
    name: Named,
    body: Text,
) -> Result<Json<Value>, Problem> {
    let Path(name) = name?;
    let entry = find(&api, &name)?;
    let body = body?;
    let verify: Verify = if body.is_empty() {
        Verify::default()
    } else {
        serde_json::from_str(&body).map_err(|error| Failure::invalid(error.to_string()))?
    };
    let wants = Wants { backends: verify.backend, browsers: verify.browser, ..Wants::default() };
    let judged = api.scheduler.prove(entry, wants, VERIFY_WITHIN).await?;
    if judged.is_empty() {
        let message = "no lane is of the backends and browsers named";
        return Err(Failure::new(Code::NoBackend, Retry::Never, message).into());
    }
    let Json(mut shown) = show(State(api), Ok(Path(name))).await?;
    shown["lanes"] = json!(judged);
    Ok(Json(shown))
}

pub(super) async fn remove(State(api): State<Arc<Api>>, name: Named) -> Result<Json<Value>, Problem> {
    let Path(name) = name?;
    let entry = find(&api, &name)?;
    if let Some(unused) = api.registry.remove(&entry.model.name).await? {
        api.scheduler.forget(unused).await;
    }
    Ok(Json(json!(entry.model)))
}

pub(super) fn find(api: &Api, name: &str) -> Result<Arc<Entry>, Failure> {
    let entry = name.parse::<ModelName>().ok().and_then(|name| api.registry.get(&name));
    entry.ok_or_else(|| unknown(name, api))
}

/// A model has one version: its file's digest.
pub(super) fn check_version(entry: &Entry, version: Option<&str>) -> Result<(), Failure> {
    let Model { name, digest, .. } = &entry.model;
    match version {
        Some(version) if version.parse() != Ok(*digest) => {
            let message = format!("model {name} has version {digest}, not {version}");
            Err(Failure::new(Code::UnknownModel, Retry::Never, message))
        }
        _ => Ok(()),
    }
}

pub(super) fn unknown(name: &str, api: &Api) -> Failure {
    let known: Vec<_> = api.registry.list().iter().map(|entry| entry.model.name.to_string()).collect();
    let known = if known.is_empty() {
        "none has been added".to_owned()
    } else {
        format!("there are {}", known.join(", "))
    };
    Failure::new(Code::UnknownModel, Retry::Never, format!("no model is called {name:?}; {known}"))
}
