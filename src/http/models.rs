//! Models: upload, add, list, show, verify, load, unload, remove.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use axum::{
    Json,
    body::Body,
    extract::{
        Path, State,
        rejection::{PathRejection, StringRejection},
    },
};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{Api, Problem, resources::List, standing};
use crate::{
    domain::{
        Accuracy, Anatomy, BackendKind, Batching, Code, Digest, Failure, Model, ModelKind, ModelName,
        ModelRef, PlanId, Retry, Tolerance, Uses, Verdict, VerdictKey, Verification,
    },
    modality::Task,
    models::{
        BatchLimits, Entry, GateInputs, History, NewModel, NotFound,
        source::{Brought, is_weights},
    },
    scheduler::{Judged, Residence, Wants},
    store::StoredVariant,
    tasks,
};

/// All lanes' proofs together; one on a software adapter takes the better part of a minute.
pub(super) const PROVE_WITHIN: Duration = Duration::from_secs(900);

type Name = Result<Path<String>, PathRejection>;
type Text = Result<String, StringRejection>;

/// Models
///
/// Every version of each, the latest first.
#[utoipa::path(get, path = "/api/v1/models", tag = "models", responses((status = 200, body = List<Listed>)))]
pub(super) async fn list(State(api): State<Arc<Api>>) -> Json<List<Listed>> {
    List::whole(api.registry.list().iter().map(|entry| Listed::of(entry, &api)).collect())
}

/// A version of a model.
#[derive(Serialize, ToSchema)]
#[schema(as = ListedModel)]
pub(super) struct Listed {
    #[serde(flatten)]
    model: Model,
    /// Whether its name alone means it.
    latest: bool,
    added_at_us: i64,
    /// What it is made of; null while its file cannot be read.
    anatomy: Option<Anatomy>,
    /// When its last verification began.
    verified_at_us: Option<i64>,
    /// Why it may not serve.
    unusable: Option<String>,
    /// Whether its files have made room for others, and are brought again from its source when it is wanted.
    evicted: bool,
    /// Whether its files stay whatever room others need.
    pinned: bool,
    /// Of its own file as content, in the profile `unixfs-v1-2025`; null until the file has been read for it.
    cid: Option<String>,
    #[serde(flatten)]
    uses: Uses,
}

impl Listed {
    /// With its CID, however long that takes.
    async fn whole(entry: &Entry, api: &Api) -> Self {
        // A file that cannot be read is for whoever uses it to find.
        let _ = api.registry.layouts.of(entry.model.digest).await;
        Self::of(entry, api)
    }

    fn of(entry: &Entry, api: &Api) -> Self {
        let latest = api.registry.find(&entry.model.name, None);
        let History { added_at_us, anatomy, verification, .. } = entry.history.clone();
        Self {
            model: entry.model.clone(),
            latest: latest.is_ok_and(|latest| latest.model.digest == entry.model.digest),
            added_at_us,
            anatomy,
            verified_at_us: verification.map(|verification| verification.at_us),
            unusable: entry.unusable().map(str::to_owned),
            evicted: api.registry.evicted(entry),
            pinned: entry.pinned(),
            cid: api.registry.layouts.cid(entry.model.digest).map(|cid| cid.to_string()),
            uses: entry.served.uses(),
        }
    }
}

/// A model with its verdicts.
#[derive(Serialize, ToSchema)]
pub(super) struct Shown {
    #[serde(flatten)]
    listed: Listed,
    /// The last one, stage by stage.
    verification: Option<Verification>,
    /// Of a file that was made here in another precision.
    variant: Option<Variant>,
    /// Input sets that came with it.
    gate_inputs: usize,
    /// What `POST /api/v1/ask` does with it, where its files tell.
    task: Option<Task>,
    /// Why it takes tensors alone, where they do not.
    no_task: Option<String>,
    /// The plan that stands for it: `single` for the whole model in one lane, null where none was kept.
    plan: Option<PlanId>,
    verdicts: Vec<Judgement>,
    residence: Residence,
}

/// What a variant was made of, how small it is and how far off.
#[derive(Serialize, ToSchema)]
struct Variant {
    original: Digest,
    recipe: String,
    /// With the weights beside it.
    original_bytes: u64,
    bytes: u64,
    /// Of the weights that were changed, with their scales and zero points.
    bits_per_changed_weight: f64,
    /// Of all weights of floats.
    bits_per_weight: f64,
    accuracy: Accuracy,
    made_at_us: i64,
}

impl From<StoredVariant> for Variant {
    fn from(stored: StoredVariant) -> Self {
        Self {
            original: stored.original,
            recipe: stored.recipe,
            original_bytes: stored.original_bytes,
            bytes: stored.bytes,
            bits_per_changed_weight: stored.bits_per_changed_weight,
            bits_per_weight: stored.bits_per_weight,
            accuracy: stored.accuracy,
            made_at_us: stored.made_at_us,
        }
    }
}

#[derive(Serialize, ToSchema)]
struct Judgement {
    key: VerdictKey,
    verdict: Verdict,
    proven_at_us: i64,
}

/// One model, with its verdicts
#[utoipa::path(get, path = "/api/v1/models/{name}", tag = "models", params(("name" = String, Path)),
    responses((status = 200, body = Shown)))]
pub(super) async fn show(State(api): State<Arc<Api>>, name: Name) -> Result<Json<Shown>, Problem> {
    let Path(name) = name?;
    Ok(Json(shown(&api, find(&api, &name)?).await?))
}

async fn shown(api: &Api, entry: Arc<Entry>) -> Result<Shown, Problem> {
    let verdicts = api.store.verdicts(entry.model.digest).await?;
    let verdicts = verdicts
        .into_iter()
        .map(|stored| Judgement {
            key: stored.key,
            verdict: stored.verdict,
            proven_at_us: stored.proven_at_us,
        })
        .collect();
    let variant = api.store.variant(entry.model.digest).await?.map(Variant::from);
    let (listed, verification) = (Listed::whole(&entry, api).await, entry.history.verification.clone());
    let (task, no_task) = if api.registry.evicted(&entry) {
        (None, Some("its files have made room for others; they come back when it is wanted".to_owned()))
    } else {
        match entry.recipe().await {
            Ok(recipe) => (Some(recipe.task()), None),
            Err(failure) => (None, Some(failure.message)),
        }
    };
    let plan = api.plans.standing(entry.model.digest).map(|standing| standing.plan);
    let (gate_inputs, residence) = (entry.given.len(), api.scheduler.residence(entry).await?);
    Ok(Shown { listed, verification, variant, gate_inputs, task, no_task, plan, verdicts, residence })
}

#[derive(Serialize, ToSchema)]
pub(super) struct Uploaded {
    digest: Digest,
    bytes: u64,
}

/// Upload a file
///
/// It is kept under its digest; an upload that no model is made of goes when the daemon starts anew.
#[utoipa::path(post, path = "/api/v1/blobs", tag = "models",
    request_body(content = Option<Vec<u8>>, content_type = "application/octet-stream"),
    responses((status = 200, body = Uploaded)))]
pub(super) async fn upload(State(api): State<Arc<Api>>, body: Body) -> Result<Json<Uploaded>, Problem> {
    let upload = api.registry.blobs.receive(body.into_data_stream()).await?;
    Ok(Json(Uploaded { digest: upload.digest, bytes: upload.bytes }))
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = NewModel)]
pub(super) struct Add {
    name: ModelName,
    /// Of an uploaded file.
    digest: Option<Digest>,
    /// What came with an uploaded file, by name: the files that its weights lie in, a tokenizer, configurations.
    #[serde(default)]
    #[schema(value_type = BTreeMap<String, String>)]
    files: BTreeMap<String, Digest>,
    /// Where an uploaded or converted file came from, in words.
    source: Option<String>,
    /// What pins that source.
    revision: Option<String>,
    /// The id of a download that is done, in place of `digest`, `files` and `source`.
    download: Option<String>,
    #[schema(exclusive_minimum = 0.0, exclusive_maximum = 1.0)]
    tolerance: Option<f64>,
    licence: Option<String>,
    /// What it does, which says what it is thought to take before it has run.
    #[serde(default)]
    kind: ModelKind,
    #[serde(default)]
    #[schema(inline)]
    batch: Batch,
    #[serde(default)]
    gate: GateInputs,
}

#[derive(Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
struct Batch {
    /// Rows of a step at most.
    #[schema(minimum = 1, maximum = 1024)]
    max: Option<u32>,
    /// How long a request may wait for others.
    #[serde(with = "humantime_serde")]
    #[schema(value_type = Option<String>, pattern = "^[0-9]{1,4}ms$")]
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

/// What a model is made of.
struct Came {
    digest: Digest,
    files: BTreeMap<String, Digest>,
    source: String,
    revision: Option<String>,
    again: bool,
}

impl Add {
    /// The files, with where they came from.
    fn file(&self, api: &Api) -> Result<Came, Failure> {
        match (&self.download, self.digest, &self.source) {
            (None, Some(digest), Some(source)) => {
                let (files, source) = (self.files.clone(), source.clone());
                Ok(Came { digest, files, source, revision: self.revision.clone(), again: false })
            }
            (Some(download), None, None) if self.files.is_empty() && self.revision.is_none() => {
                let Brought { digest, file, files, source, revision, again, .. } =
                    api.downloads.brought(download)?;
                if is_weights(&file) {
                    let message =
                        format!("{file} holds weights: POST /api/v1/conversions makes a model of them");
                    return Err(Failure::invalid(message));
                }
                Ok(Came { digest, files, source, revision, again })
            }
            _ => Err(Failure::invalid("digest and source are wanted, or download")),
        }
    }
}

/// Give a file a name
///
/// One that was uploaded, or what a download brought. It is verified first.
/// A variant without gate inputs of its own gets those that came with its original.
/// A name that has other files keeps them as versions, and stands for this one.
#[utoipa::path(post, path = "/api/v1/models", tag = "models", request_body = Add,
    responses((status = 200, body = Listed)))]
pub(super) async fn add(State(api): State<Arc<Api>>, body: Text) -> Result<Json<Listed>, Problem> {
    let add: Add = serde_json::from_str(&body?).map_err(|error| Failure::invalid(error.to_string()))?;
    if add.tolerance.is_some_and(|tolerance| !(tolerance > 0.0 && tolerance < 1.0)) {
        return Err(Failure::invalid("a tolerance lies between 0 and 1").into());
    }
    let Came { digest, files, source, revision, again } = add.file(&api)?;
    let inputs = match add.gate.inputs.as_slice() {
        [] => api.registry.inputs_of_original(digest).await?,
        _ => add.gate,
    };
    let new = NewModel {
        name: add.name,
        digest,
        files,
        tolerance: add.tolerance.map(Tolerance),
        source,
        revision,
        again,
        licence: add.licence,
        kind: add.kind,
        batch: add.batch.limits()?,
        inputs,
    };
    let entry = api.registry.add(new, tasks::now_us()).await?;
    // With other inputs or another tolerance, earlier refusals say nothing.
    let changed = vec![entry.model.digest];
    api.scheduler.forget(entry.model.name.clone(), changed.clone(), changed).await;
    Ok(Json(Listed::whole(&entry, &api).await))
}

/// The lanes that are meant; all when none are named.
#[derive(Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Where {
    backend: Vec<BackendKind>,
    browser: Vec<String>,
}

/// A model with its verdicts, and what became of it in each lane.
#[derive(Serialize, ToSchema)]
pub(super) struct Verified {
    #[serde(flatten)]
    shown: Shown,
    lanes: Vec<Judged>,
}

/// Verify a model anew and prove it
///
/// First its file, which serves no more when that fails; then in every lane, or in those that the body names.
#[utoipa::path(post, path = "/api/v1/models/{name}/verify", tag = "models", params(("name" = String, Path)),
    request_body = Option<Where>, responses((status = 200, body = Verified)))]
pub(super) async fn verify(
    State(api): State<Arc<Api>>,
    name: Name,
    body: Text,
) -> Result<Json<Verified>, Problem> {
    let Path(name) = name?;
    let (entry, wants) = (find(&api, &name)?, wants(body)?);
    // Those of a model that can be had again are brought where they are damaged or away.
    let _held = api.cache.renew(&entry).await?;
    let verified = api.registry.verify(entry.clone()).await;
    if entry.unusable().is_some() {
        // It was, and its refusals say nothing any more; or it is, and what holds it goes.
        forget_file(&api, entry.model.digest).await;
    }
    let entry = verified?;
    let lanes = api.scheduler.prove(entry.clone(), wants, PROVE_WITHIN).await?;
    if lanes.is_empty() {
        let message = "no lane is of the backends and browsers named";
        return Err(Failure::new(Code::NoBackend, Retry::Never, message).into());
    }
    Ok(Json(Verified { shown: shown(&api, entry).await?, lanes }))
}

/// Load a model and keep it
///
/// In every lane, or in those that the body names.
#[utoipa::path(post, path = "/api/v1/models/{name}/load", tag = "models", params(("name" = String, Path)),
    request_body = Option<Where>, responses((status = 200, body = Verified)))]
pub(super) async fn load(
    State(api): State<Arc<Api>>,
    name: Name,
    body: Text,
) -> Result<Json<Verified>, Problem> {
    let Path(name) = name?;
    let entry = find(&api, &name)?;
    let _held = api.cache.hold(&entry).await?;
    let lanes = api.scheduler.load(entry.clone(), wants(body)?, PROVE_WITHIN).await?;
    Ok(Json(Verified { shown: shown(&api, entry).await?, lanes }))
}

/// Unload a model
///
/// Requests for it are refused until it is loaded.
#[utoipa::path(post, path = "/api/v1/models/{name}/unload", tag = "models", params(("name" = String, Path)),
    responses((status = 200, body = Shown)))]
pub(super) async fn unload(State(api): State<Arc<Api>>, name: Name) -> Result<Json<Shown>, Problem> {
    let Path(name) = name?;
    let entry = find(&api, &name)?;
    api.scheduler.unload(entry.clone()).await?;
    Ok(Json(shown(&api, entry).await?))
}

/// Pin a model
///
/// Its files stay whatever room others need; those that are away are brought first.
#[utoipa::path(post, path = "/api/v1/models/{name}/pin", tag = "models", params(("name" = String, Path)),
    responses((status = 200, body = Listed)))]
pub(super) async fn pin(State(api): State<Arc<Api>>, name: Name) -> Result<Json<Listed>, Problem> {
    let Path(name) = name?;
    let entry = find(&api, &name)?;
    let _held = api.cache.hold(&entry).await?;
    api.registry.pin(entry.clone(), true).await?;
    Ok(Json(Listed::whole(&entry, &api).await))
}

/// Unpin a model
///
/// Its files may make room for others again.
#[utoipa::path(post, path = "/api/v1/models/{name}/unpin", tag = "models", params(("name" = String, Path)),
    responses((status = 200, body = Listed)))]
pub(super) async fn unpin(State(api): State<Arc<Api>>, name: Name) -> Result<Json<Listed>, Problem> {
    let Path(name) = name?;
    let entry = find(&api, &name)?;
    api.registry.pin(entry.clone(), false).await?;
    Ok(Json(Listed::whole(&entry, &api).await))
}

/// The lanes that a body names; all when it is empty.
fn wants(body: Text) -> Result<Wants, Failure> {
    let body = body?;
    let named: Option<Where> = if body.is_empty() {
        None
    } else {
        serde_json::from_str(&body).map_err(|error| Failure::invalid(error.to_string()))?
    };
    Ok(named.unwrap_or_default().into())
}

impl From<Where> for Wants {
    fn from(named: Where) -> Self {
        Self { backends: named.backend, browsers: named.browser, ..Self::default() }
    }
}

/// Forget a model
///
/// All its versions, or the one that is named.
#[utoipa::path(delete, path = "/api/v1/models/{name}", tag = "models", params(("name" = String, Path)),
    responses((status = 200, body = Model)))]
pub(super) async fn remove(State(api): State<Arc<Api>>, name: Name) -> Result<Json<Model>, Problem> {
    let Path(name) = name?;
    let entry = find(&api, &name)?;
    let model = &entry.model;
    // Whatever is not the name alone means one version.
    let version = (name != model.name.as_str()).then_some(model.digest);
    for file in forget(&api, &model.name, version).await? {
        standing::fall(&api, file).await?;
    }
    Ok(Json(model.clone()))
}

/// Forgets a name, or one version of it; answers with the files that have no name any more.
pub(super) async fn forget(
    api: &Api,
    name: &ModelName,
    version: Option<Digest>,
) -> Result<Vec<Digest>, Failure> {
    let gone: Vec<_> = match version {
        Some(version) => vec![version],
        None => versions(api, name),
    };
    let unused = api.registry.remove(name, version).await?;
    api.scheduler.forget(name.clone(), gone, unused.clone()).await;
    Ok(unused)
}

fn versions(api: &Api, name: &ModelName) -> Vec<Digest> {
    let entries = api.registry.list().into_iter().filter(|entry| entry.model.name == *name);
    entries.map(|entry| entry.model.digest).collect()
}

/// Drops what the scheduler knows of a file, whatever names stand for it.
async fn forget_file(api: &Api, digest: Digest) {
    for entry in api.registry.list().iter().filter(|entry| entry.model.digest == digest) {
        api.scheduler.forget(entry.model.name.clone(), vec![digest], vec![digest]).await;
    }
}

/// What `NAME`, `NAME@VERSION` or a digest means.
pub(super) fn find(api: &Api, text: &str) -> Result<Arc<Entry>, Failure> {
    let asked = text.parse::<ModelRef>().map_err(|_| unknown(text, api))?;
    find_version(api, &asked.name, asked.version.as_deref())
}

pub(super) fn find_version(
    api: &Api,
    name: &ModelName,
    version: Option<&str>,
) -> Result<Arc<Entry>, Failure> {
    api.registry.find(name, version).map_err(|missing| match missing {
        NotFound::Name { name } => unknown(&name, api),
        missing => Failure::new(Code::UnknownModel, Retry::Never, missing.to_string()),
    })
}

pub(super) fn unknown(name: &str, api: &Api) -> Failure {
    let known: Vec<_> = api.registry.latest().iter().map(|entry| entry.model.name.to_string()).collect();
    let known = if known.is_empty() {
        "none has been added".to_owned()
    } else {
        format!("there are {}", known.join(", "))
    };
    Failure::new(Code::UnknownModel, Retry::Never, format!("no model is called {name:?}; {known}"))
}
