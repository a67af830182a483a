//! Names and what they stand for.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, RwLock},
    time::Duration,
};

use tokio::sync::{Mutex, oneshot};

use super::{
    Blobs, Entry, GateInputs, ModelError, Recipes, Reference, Served, entry::SEED, files::Files, gate,
    reference::Loaded,
};
use crate::{
    backend::BackendError,
    domain::{Batching, Digest, DimBinding, Model, ModelKind, ModelName, Port, Tolerance},
    onnx,
    store::{Store, StoredModel},
    tasks::Tasks,
};

/// Why the requests of most models cannot be joined.
const NO_BATCH_AXIS: &str = "its inputs and outputs do not all begin with one dimension that requests choose";

/// What somebody adds, beside the file.
pub struct NewModel {
    pub name: ModelName,
    pub digest: Digest,
    /// What came with it, by name: files of weights, and what belongs to it.
    pub files: BTreeMap<String, Digest>,
    pub tolerance: Option<Tolerance>,
    pub source: String,
    pub revision: Option<String>,
    pub licence: Option<String>,
    pub kind: ModelKind,
    pub batch: BatchLimits,
    pub inputs: GateInputs,
}

/// How requests may share steps, as far as somebody said.
#[derive(Clone, Copy, Debug, Default)]
pub struct BatchLimits {
    pub max: Option<u32>,
    pub delay: Option<Duration>,
}

pub struct Registry {
    pub blobs: Blobs,
    store: Arc<Store>,
    reference: Arc<Reference>,
    tasks: Tasks,
    /// Held while names change: two changes of one file would undo each other.
    changing: Mutex<()>,
    entries: RwLock<BTreeMap<ModelName, Arc<Entry>>>,
}

impl Registry {
    /// Reads the names, and drops files that none of them needs.
    pub async fn open(
        blobs: Blobs,
        store: Arc<Store>,
        reference: Arc<Reference>,
        tasks: Tasks,
    ) -> Result<Self, ModelError> {
        let stored = store.models().await?;
        let mut entries = BTreeMap::new();
        for StoredModel { model, .. } in &stored {
            let inputs = store.model_inputs(model.name.clone()).await?;
            match open_entry(&blobs, model.clone(), inputs.as_deref()) {
                Ok(entry) => {
                    entries.insert(model.name.clone(), Arc::new(entry));
                }
                Err(error) => {
                    tracing::error!(model = %model.name, %error, "a model's file is unusable; add it again");
                }
            }
        }
        blobs.keep_only(&stored.iter().flat_map(|stored| stored.model.files()).collect())?;
        let (changing, entries) = (Mutex::default(), RwLock::new(entries));
        Ok(Self { blobs, store, reference, tasks, changing, entries })
    }

    pub fn list(&self) -> Vec<Arc<Entry>> {
        self.entries.read().expect("no holder of the names panics").values().cloned().collect()
    }

    pub fn get(&self, name: &ModelName) -> Option<Arc<Entry>> {
        self.entries.read().expect("no holder of the names panics").get(name).cloned()
    }

    /// Verifies an uploaded file and gives it a name; says which model that name no longer stands for.
    pub async fn add(
        self: &Arc<Self>,
        new: NewModel,
        added_at_us: i64,
    ) -> Result<(Arc<Entry>, Option<Digest>), ModelError> {
        self.whole(|registry| async move { registry.add_alone(new, added_at_us).await }).await
    }

    /// Forgets a name; says which model no name stands for any more.
    pub async fn remove(self: &Arc<Self>, name: &ModelName) -> Result<Option<Digest>, ModelError> {
        let name = name.clone();
        self.whole(|registry| async move { registry.remove_alone(&name).await }).await
    }

    /// Makes a change to its end, one at a time, also when whoever asked for it has left.
    async fn whole<T, F>(self: &Arc<Self>, change: impl FnOnce(Arc<Self>) -> F) -> Result<T, ModelError>
    where
        T: Send + 'static,
        F: Future<Output = Result<T, ModelError>> + Send + 'static,
    {
        let (done, changed) = oneshot::channel();
        let (registry, stopping, change) = (self.clone(), self.tasks.stopping(), change(self.clone()));
        self.tasks.spawn("registry change", async move {
            let change = async {
                let _turn = registry.changing.lock().await;
                change.await
            };
            tokio::select! {
                // Whoever asked may have left.
                result = change => drop(done.send(result)),
                () = stopping.cancelled() => {}
            }
        });
        changed.await.unwrap_or(Err(ModelError::Stopping))
    }

    async fn add_alone(
        &self,
        new: NewModel,
        added_at_us: i64,
    ) -> Result<(Arc<Entry>, Option<Digest>), ModelError> {
        let digest = new.digest;
        if !self.blobs.has(digest) {
            return Err(ModelError::NoFile { digest });
        }
        let came: Vec<_> = [digest].into_iter().chain(new.files.values().copied()).collect();
        let added = self.settle_and_verify(new, added_at_us).await;
        self.drop_unused(came);
        let (entry, replaced) = added?;
        let Some(replaced) = replaced else { return Ok((entry, None)) };
        let gone = self.drop_unused(replaced.model.files()).contains(&replaced.model.digest);
        Ok((entry, gone.then_some(replaced.model.digest)))
    }

    /// Removes those of the files that no model consists of; says which.
    fn drop_unused(&self, files: impl IntoIterator<Item = Digest>) -> BTreeSet<Digest> {
        let used: BTreeSet<_> = self.list().iter().flat_map(|entry| entry.model.files()).collect();
        let unused: BTreeSet<_> = files.into_iter().filter(|file| !used.contains(file)).collect();
        unused.iter().for_each(|file| self.blobs.remove(*file));
        unused
    }

    async fn settle_and_verify(
        &self,
        mut new: NewModel,
        added_at_us: i64,
    ) -> Result<(Arc<Entry>, Option<Arc<Entry>>), ModelError> {
        let (blobs, digest, beside) = (self.blobs.clone(), new.digest, std::mem::take(&mut new.files));
        let settle = move || Files::settle(&blobs, digest, beside);
        let files = tokio::task::spawn_blocking(settle).await.expect("reading a file does not panic")?;
        let rewritten = files.digest;
        let verified = self.verify(new, files, added_at_us).await;
        if verified.is_err() {
            self.drop_unused([rewritten]);
        }
        verified
    }

    async fn verify(
        &self,
        new: NewModel,
        files: Files,
        added_at_us: i64,
    ) -> Result<(Arc<Entry>, Option<Arc<Entry>>), ModelError> {
        let path = self.blobs.path(files.digest);
        let (bytes, analysis) = {
            let path = path.clone();
            tokio::task::spawn_blocking(move || onnx::open(&path))
                .await
                .expect("reading a file does not panic")?
        };
        let given = new.inputs.tensors().map_err(ModelError::Inputs)?;
        for inputs in &given {
            analysis.signature.bind(inputs).map_err(ModelError::Inputs)?;
        }
        let model = Model {
            name: new.name,
            digest: files.digest,
            bytes: bytes.len() as u64,
            tolerance: new.tolerance.unwrap_or(analysis.tolerance),
            signature: analysis.signature,
            source: new.source,
            revision: new.revision,
            licence: new.licence,
            opset: analysis.opset,
            kind: new.kind,
            batching: Batching {
                max: new.batch.max.unwrap_or(Batching::MAX),
                delay: new.batch.delay.unwrap_or_default(),
                barred: None,
            },
            external: files.external,
            companions: files.companions,
            conversion: analysis.conversion,
        };
        let (shapes, ranges) = (Vec::new(), analysis.ranges);
        let converted = model.conversion.as_ref().map(|conversion| conversion.to_string().into());
        let recipes = Recipes::new(&self.blobs, &model, analysis.metadata);
        let served = Served::default();
        let mut entry = Entry { model, path, given, shapes, ranges, served, converted, recipes };
        self.try_run(&mut entry).await?;
        entry.model.batching.barred = self.try_batch(&entry).await;
        let kept = GateInputs { inputs: new.inputs.inputs, shapes: entry.shapes.clone() };
        let kept = serde_json::to_string(&kept).expect("gate inputs hold only strings, numbers and lists");
        self.store.put_model(StoredModel { model: entry.model.clone(), added_at_us }, Some(kept)).await?;
        let entry = Arc::new(entry);
        let mut entries = self.entries.write().expect("no holder of the names panics");
        let replaced = entries.insert(entry.model.name.clone(), entry.clone());
        Ok((entry, replaced))
    }

    /// Finds shapes that the model runs with, and checks that its outputs are the same twice.
    async fn try_run(&self, entry: &mut Entry) -> Result<(), ModelError> {
        let known = self.reference.with(entry, async |loaded| known_shapes(entry, loaded).await).await;
        entry.shapes = known.map_err(ModelError::Load)??;
        let inputs = entry.gate_inputs(&DimBinding::new()).swap_remove(0);
        let twice = [inputs.clone(), inputs];
        let outputs = self.reference.with(entry, async |loaded| loaded.run_all(&twice).await).await;
        let outputs = outputs.map_err(ModelError::Load)?.map_err(ModelError::Run)?;
        if outputs[0] == outputs[1] {
            return Ok(());
        }
        Err(ModelError::Outputs { problem: "two runs on the same inputs differ".to_owned() })
    }

    /// Why requests of this model may not share a step; nothing once a shared one gave what each gave alone.
    async fn try_batch(&self, entry: &Entry) -> Option<String> {
        let mut sets = entry.gate_inputs(&DimBinding::new());
        let Some(alike) = gate::alike(&entry.model.signature, &sets) else {
            return Some(NO_BATCH_AXIS.to_owned());
        };
        sets = alike.into_iter().map(|at| std::mem::take(&mut sets[at])).collect();
        let run = async |loaded: &Loaded<'_>| {
            Ok::<_, BackendError>((loaded.run_all(&sets).await?, loaded.run_joined(&sets).await?))
        };
        match self.reference.with(entry, run).await.flatten() {
            Ok((alone, shared)) => {
                let barred = gate::shared_barred(&sets, &alone, &shared, entry.model.tolerance);
                barred.map(|detail| {
                    format!("requests in one step are not answered as they are alone: {detail}")
                })
            }
            Err(error) => Some(format!("a shared step fails: {error}")),
        }
    }

    async fn remove_alone(&self, name: &ModelName) -> Result<Option<Digest>, ModelError> {
        self.store.remove_model(name.clone()).await?;
        let removed = self.entries.write().expect("no holder of the names panics").remove(name);
        let Some(removed) = removed else { return Ok(None) };
        let gone = self.drop_unused(removed.model.files()).contains(&removed.model.digest);
        Ok(gone.then_some(removed.model.digest))
    }
}

/// Shapes of the given inputs; without any, the first candidates that the model accepts.
async fn known_shapes(entry: &Entry, loaded: &Loaded<'_>) -> Result<Vec<Vec<u64>>, ModelError> {
    let signature = &entry.model.signature;
    if let Some(inputs) = entry.given.first() {
        let shape = |port: &Port| {
            let tensor = inputs.iter().find(|tensor| tensor.name == port.name);
            tensor.expect("bind found every input").shape.clone()
        };
        return Ok(signature.inputs.iter().map(shape).collect());
    }
    let mut refused = None;
    for shapes in gate::shape_candidates(signature) {
        let inputs = gate::seeded(signature, &entry.ranges, &shapes, SEED, 1).swap_remove(0);
        match loaded.run(inputs).await {
            Ok(_) => return Ok(shapes),
            Err(error) => refused = refused.or(Some(ModelError::Run(error))),
        }
    }
    let problem = "its inputs are too large to make any up; add it with inputs".to_owned();
    Err(refused.unwrap_or(ModelError::Outputs { problem }))
}

fn open_entry(blobs: &Blobs, model: Model, inputs: Option<&str>) -> Result<Entry, ModelError> {
    let path = blobs.path(model.digest);
    let (_, analysis) = onnx::open(&path)?;
    if let Some(missing) = model.files().find(|file| !blobs.has(*file)) {
        return Err(ModelError::NoFile { digest: missing });
    }
    let inputs: GateInputs = match inputs {
        Some(text) => serde_json::from_str(text).map_err(|error| {
            ModelError::Inputs(crate::domain::Failure::invalid(format!(
                "the stored inputs do not parse: {error}"
            )))
        })?,
        None => GateInputs::default(),
    };
    let given = inputs.tensors().map_err(ModelError::Inputs)?;
    let (shapes, ranges) = (inputs.shapes, analysis.ranges);
    let converted = model.conversion.as_ref().map(|conversion| conversion.to_string().into());
    let recipes = Recipes::new(blobs, &model, analysis.metadata);
    Ok(Entry { model, path, given, shapes, ranges, served: Served::default(), converted, recipes })
}
