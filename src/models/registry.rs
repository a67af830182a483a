//! Names and what they stand for.

use std::{
    collections::BTreeMap,
    sync::{Arc, RwLock},
};

use tokio_util::sync::CancellationToken;

use super::{Blobs, Entry, GateInputs, ModelError, gate};
use crate::{
    backend::{Backend, LoadOrder, SessionName, Step, StepOutput},
    domain::{BackendKind, Digest, DimBinding, Model, ModelName, Port, Tensor, Tolerance},
    onnx,
    store::{Store, StoredModel},
};

/// What somebody adds, beside the file.
pub struct NewModel {
    pub name: ModelName,
    pub digest: Digest,
    pub tolerance: Option<Tolerance>,
    pub source: String,
    pub licence: Option<String>,
    pub inputs: GateInputs,
}

pub struct Registry {
    pub blobs: Blobs,
    store: Arc<Store>,
    /// Native ONNX Runtime on the CPU, not shared with requests.
    reference: Arc<dyn Backend>,
    entries: RwLock<BTreeMap<ModelName, Arc<Entry>>>,
}

impl Registry {
    /// Reads the names, and drops files that none of them needs.
    pub async fn open(
        blobs: Blobs,
        store: Arc<Store>,
        reference: Arc<dyn Backend>,
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
        blobs.keep_only(&stored.iter().map(|stored| stored.model.digest).collect::<Vec<_>>())?;
        Ok(Self { blobs, store, reference, entries: RwLock::new(entries) })
    }

    pub fn list(&self) -> Vec<Arc<Entry>> {
        self.entries.read().expect("no holder of the names panics").values().cloned().collect()
    }

    pub fn get(&self, name: &ModelName) -> Option<Arc<Entry>> {
        self.entries.read().expect("no holder of the names panics").get(name).cloned()
    }

    /// Verifies an uploaded file and gives it a name.
    pub async fn add(&self, new: NewModel, added_at_us: i64) -> Result<Arc<Entry>, ModelError> {
        let digest = new.digest;
        let path = self.blobs.path(digest);
        if !path.is_file() {
            return Err(ModelError::NoFile { digest });
        }
        let entry = self.verify(new, added_at_us).await;
        if entry.is_err() && !self.list().iter().any(|entry| entry.model.digest == digest) {
            self.blobs.remove(digest);
        }
        entry
    }

    async fn verify(&self, new: NewModel, added_at_us: i64) -> Result<Arc<Entry>, ModelError> {
        let path = self.blobs.path(new.digest);
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
            digest: new.digest,
            bytes: bytes.len() as u64,
            tolerance: new.tolerance.unwrap_or(analysis.tolerance),
            signature: analysis.signature,
            source: new.source,
            licence: new.licence,
            opset: analysis.opset,
        };
        let mut entry = Entry { model, path, given, shapes: Vec::new(), ranges: analysis.ranges };
        self.try_run(&mut entry).await?;
        let kept = GateInputs { inputs: new.inputs.inputs, shapes: entry.shapes.clone() };
        let kept = serde_json::to_string(&kept).expect("gate inputs hold only strings, numbers and lists");
        self.store.put_model(StoredModel { model: entry.model.clone(), added_at_us }, Some(kept)).await?;
        let entry = Arc::new(entry);
        let mut entries = self.entries.write().expect("no holder of the names panics");
        entries.insert(entry.model.name.clone(), entry.clone());
        Ok(entry)
    }

    /// Finds shapes that the model runs with, and checks that its outputs are the same twice.
    async fn try_run(&self, entry: &mut Entry) -> Result<(), ModelError> {
        let session = SessionName { model: entry.model.digest, shapes: DimBinding::new() };
        let order =
            LoadOrder { session: session.clone(), path: entry.path.clone(), bytes: entry.model.bytes };
        self.reference.load(order).await.map_err(ModelError::Load)?;
        let repeatable = self.repeatable(entry, &session).await;
        if let Err(error) = self.reference.unload(session).await {
            tracing::debug!(%error, "the reference kept a session");
        }
        if repeatable? {
            return Ok(());
        }
        let problem = "two runs on the same inputs differ".to_owned();
        Err(ModelError::Outputs { problem })
    }

    async fn repeatable(&self, entry: &mut Entry, session: &SessionName) -> Result<bool, ModelError> {
        let first = self.first_run(entry, session).await?;
        let again = self.run(session, entry.gate_inputs(&DimBinding::new()).swap_remove(0)).await?;
        Ok(first.outputs == again.outputs)
    }

    /// Runs on the given inputs; without any, on seeded ones of the first shapes that the model accepts.
    async fn first_run(&self, entry: &mut Entry, session: &SessionName) -> Result<StepOutput, ModelError> {
        if let Some(inputs) = entry.given.first() {
            let inputs = inputs.clone();
            let shape = |port: &Port| {
                let tensor = inputs.iter().find(|tensor| tensor.name == port.name);
                tensor.expect("bind found every input").shape.clone()
            };
            entry.shapes = entry.model.signature.inputs.iter().map(shape).collect();
            return self.run(session, inputs).await;
        }
        let mut refused = None;
        for shapes in gate::shape_candidates(&entry.model.signature) {
            entry.shapes = shapes;
            match self.run(session, entry.gate_inputs(&DimBinding::new()).swap_remove(0)).await {
                Ok(output) => return Ok(output),
                Err(error) => refused = refused.or(Some(error)),
            }
        }
        Err(refused.expect("there is always a candidate"))
    }

    async fn run(&self, session: &SessionName, inputs: Vec<Tensor>) -> Result<StepOutput, ModelError> {
        let step = Step {
            session: session.clone(),
            inputs,
            outputs: Vec::new(),
            cancelled: CancellationToken::new(),
        };
        self.reference.execute(step).await.map_err(ModelError::Run)
    }

    /// Forgets a name, and its file when no other name needs it; says what it stood for.
    pub async fn remove(&self, name: &ModelName) -> Result<Option<Arc<Entry>>, ModelError> {
        self.store.remove_model(name.clone()).await?;
        let mut entries = self.entries.write().expect("no holder of the names panics");
        let removed = entries.remove(name);
        if let Some(removed) = &removed
            && !entries.values().any(|entry| entry.model.digest == removed.model.digest)
        {
            self.blobs.remove(removed.model.digest);
        }
        Ok(removed)
    }
}

fn open_entry(blobs: &Blobs, model: Model, inputs: Option<&str>) -> Result<Entry, ModelError> {
    let path = blobs.path(model.digest);
    let (_, analysis) = onnx::open(&path)?;
    let inputs: GateInputs = match inputs {
        Some(text) => serde_json::from_str(text).map_err(|error| {
            ModelError::Inputs(crate::domain::Failure::invalid(format!(
                "the stored inputs do not parse: {error}"
            )))
        })?,
        None => GateInputs::default(),
    };
    let given = inputs.tensors().map_err(ModelError::Inputs)?;
    Ok(Entry { model, path, given, shapes: inputs.shapes, ranges: analysis.ranges })
}

/// Whether this kind is the one that the others are compared with.
pub(super) fn is_reference(backend: &BackendKind) -> bool {
    *backend == BackendKind::ort_cpu()
}
