//! Models: upload, add, list, show, verify, load, unload, remove.

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
    domain::{BackendKind, Batching, Code, Digest, Failure, Model, ModelName, Retry, Tolerance},
    models::{BatchLimits, Entry, GateInputs, NewModel},
    scheduler::Wants,
    tasks,
};

/// All lanes' proofs together; one on a software adapter takes the better part of a minute.
pub(super) const PROVE_WITHIN: Duration = Duration::from_secs(900);

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
    model["residence"] = json!(api.scheduler.residence(entry).await?);
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
    batch: Batch,
    #[serde(default)]
    gate: GateInputs,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Batch {
    max: Option<u32>,
    #[serde(with = "humantime_serde")]
    delay: Option<Duration>,
}

impl Batch {
    fn limits(self) -> Result<BatchLimits, Failure> {
        if self.max.is_some_and(|max| !(1..=Batching::MAX_MOST).contains(&max)) {
            return Err(Failure::invalid(format!("a batch has 1 to {} rows", Batching::MAX_MOST)));
        }
        if self.delay.is_some_and(|delay| delay > Batching::DELAY_MOST) {
            let most = Batching::DELAY_MOST.as_secs();
            return Err(Failure::invalid(format!("a batch waits {most} s at most")));
        }
        Ok(BatchLimits { max: self.max, delay: self.delay })
    }
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
        batch: add.batch.limits()?,
        inputs: add.gate,
    };
    let (entry, unused) = api.registry.add(new, tasks::now_us()).await?;
    // With other inputs or another tolerance, earlier refusals say nothing.
    let changed = unused.into_iter().chain([entry.model.digest]).collect();
    api.scheduler.forget(entry.model.name.clone(), changed).await;
    Ok(Json(json!(entry.model)))
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Where {
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
    let wants = wants(body)?;
    let judged = api.scheduler.prove(entry, wants, PROVE_WITHIN).await?;
    if judged.is_empty() {
        let message = "no lane is of the backends and browsers named";
        return Err(Failure::new(Code::NoBackend, Retry::Never, message).into());
    }
    let Json(mut shown) = show(State(api), Ok(Path(name))).await?;
    shown["lanes"] = json!(judged);
    Ok(Json(shown))
}

/// Has a model loaded and kept in every lane, or in those that the body names; answers as `verify` does.
pub(super) async fn load(
    State(api): State<Arc<Api>>,
    name: Named,
    body: Text,
) -> Result<Json<Value>, Problem> {
    let Path(name) = name?;
    let entry = find(&api, &name)?;
    let judged = api.scheduler.load(entry, wants(body)?, PROVE_WITHIN).await?;
    let Json(mut shown) = show(State(api), Ok(Path(name))).await?;
    shown["lanes"] = json!(judged);
    Ok(Json(shown))
}

/// Drops a model's sessions; requests for it are refused until it is loaded.
pub(super) async fn unload(State(api): State<Arc<Api>>, name: Named) -> Result<Json<Value>, Problem> {
    let Path(name) = name?;
    api.scheduler.unload(find(&api, &name)?).await?;
    show(State(api), Ok(Path(name))).await
}

/// The lanes that a body names; all when it is empty.
fn wants(body: Text) -> Result<Wants, Failure> {
    let body = body?;
    let named: Where = if body.is_empty() {
        Where::default()
    } else {
        serde_json::from_str(&body).map_err(|error| Failure::invalid(error.to_string()))?
    };
    Ok(named.into())
}

impl From<Where> for Wants {
    fn from(named: Where) -> Self {
        Self { backends: named.backend, browsers: named.browser, ..Self::default() }
    }
}

pub(super) async fn remove(State(api): State<Arc<Api>>, name: Named) -> Result<Json<Value>, Problem> {
    let Path(name) = name?;
    let entry = find(&api, &name)?;
    let unused = api.registry.remove(&entry.model.name).await?;
    api.scheduler.forget(entry.model.name.clone(), unused.into_iter().collect()).await;
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
