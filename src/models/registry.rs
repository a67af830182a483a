//! Names and what they stand for.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
    sync::{Arc, RwLock, RwLockReadGuard, RwLockWriteGuard, atomic::Ordering},
    time::Duration,
};

use tokio::sync::{Mutex, oneshot};

use super::{
    Blobs, Entry, GateInputs, History, Layouts, ModelError, NotFound, Reference,
    blobs::{Claim, Claims, Stay, claim},
    entry::Keeping,
    files::Files,
    inputs::{self, Inputs},
    uses,
    verify::{self, Contents, Proven},
    versions::Versions,
};
use crate::{
    domain::{
        Anatomy, Batching, Cost, Digest, Failure, Model, ModelKind, ModelName, ProofCost, Retry, StageKind,
        Tensor, Tolerance, Uses, Verification,
    },
    onnx::{self, Expr, Sizes},
    store::{Store, StoredModel},
    tasks::{self, Tasks},
};

/// Versions of a name: each keeps its file, and is a row of every list.
const VERSIONS_MAX: usize = 64;

/// What somebody adds, beside the file.
pub struct NewModel {
    pub name: ModelName,
    pub digest: Digest,
    /// What came with it, by name: files of weights, and what belongs to it.
    pub files: BTreeMap<String, Digest>,
    pub tolerance: Option<Tolerance>,
    pub source: String,
    pub revision: Option<String>,
    /// Whether the files came from that source, which can be asked for them again.
    pub again: bool,
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
    pub layouts: Layouts,
    pub(super) store: Arc<Store>,
    pub(super) inputs: Inputs,
    pub(super) reference: Arc<Reference>,
    tasks: Tasks,
    /// Nothing that is gone can be downloaded again.
    offline: bool,
    /// Held while names change: two changes of one file would undo each other.
    changing: Mutex<()>,
    versions: RwLock<Versions>,
}

impl Registry {
    /// Reads the names, and drops files that none of them needs.
    pub async fn open(
        home: &Path,
        blobs: Blobs,
        store: Arc<Store>,
        reference: Arc<Reference>,
        offline: bool,
        tasks: Tasks,
    ) -> Result<Arc<Self>, ModelError> {
        let inputs = Inputs::open(home)?;
        let mut versions = Versions::default();
        let mut wanted = BTreeSet::new();
        for stored in store.models().await? {
            let Model { name, digest, .. } = &stored.model;
            wanted.extend(stored.model.files());
            let judged_by = store.model_inputs(name.clone(), *digest).await?;
            versions.push(open_entry(&blobs, &inputs, stored, judged_by));
        }
        store.prune_variants().await?;
        let layouts = Layouts::new(blobs.clone(), tasks.clone());
        versions.all().flat_map(|entry| entry.model.files()).for_each(|file| layouts.want(file));
        let (changing, versions) = (Mutex::default(), RwLock::new(versions));
        let registry =
            Arc::new(Self { blobs, layouts, store, inputs, reference, tasks, offline, changing, versions });
        let named_by = Arc::downgrade(&registry);
        registry.blobs.named_by(move || Some(named_by.upgrade()?.claims()));
        registry.blobs.tell()?;
        registry.blobs.keep_only(&wanted)?;
        registry.drop_unused_inputs();
        let stopping = registry.tasks.stopping();
        registry.tasks.spawn("uses of models", uses::keep(registry.clone(), stopping));
        Ok(registry)
    }

    /// All versions, by name and the latest first.
    pub fn list(&self) -> Vec<Arc<Entry>> {
        self.read().all().cloned().collect()
    }

    /// What each name stands for.
    pub fn latest(&self) -> Vec<Arc<Entry>> {
        self.read().latest().cloned().collect()
    }

    /// The latest version of a name, or the one that is asked for by its digest or how that begins.
    /// In place of a name, a digest means its file.
    pub fn find(&self, name: &ModelName, version: Option<&str>) -> Result<Arc<Entry>, NotFound> {
        self.read().find(name, version).cloned()
    }

    /// What the names want the files for.
    fn claims(&self) -> Claims {
        let mut claims = Claims::new();
        for entry in self.list() {
            let added_ms = u64::try_from(entry.history.added_at_us / 1000).unwrap_or(0);
            let stay = match (entry.pinned(), entry.keeping.again && !self.offline) {
                (true, _) => Stay::Pinned,
                (false, true) => Stay::Again,
                (false, false) => Stay::Only,
            };
            let used_ms = entry.served.last_ms().max(added_ms);
            entry.model.files().for_each(|file| claim(&mut claims, file, Claim { stay, used_ms }));
        }
        claims
    }

    /// Tells daemons that share the folder.
    pub(super) async fn tell(&self) {
        let blobs = self.blobs.clone();
        let told = tokio::task::spawn_blocking(move || blobs.tell()).await;
        if let Err(error) = told.expect("writing a list does not panic") {
            tracing::error!(%error, "daemons that share the models' folder were not told what is needed of it");
        }
    }

    /// Whether some of its files made room for others.
    pub fn evicted(&self, entry: &Entry) -> bool {
        entry.unusable().is_none() && entry.model.files().any(|file| !self.blobs.has(file))
    }

    /// A version of that file whose source can be asked for it again.
    pub(super) fn source_of(&self, digest: Digest) -> Option<Arc<Entry>> {
        self.list().into_iter().find(|entry| entry.model.digest == digest && entry.keeping.again)
    }

    fn read(&self) -> RwLockReadGuard<'_, Versions> {
        self.versions.read().expect("no holder of the names panics")
    }

    fn write(&self) -> RwLockWriteGuard<'_, Versions> {
        self.versions.write().expect("no holder of the names panics")
    }

    /// Verifies an uploaded file and makes it what a name stands for.
    pub async fn add(self: &Arc<Self>, new: NewModel, added_at_us: i64) -> Result<Arc<Entry>, ModelError> {
        self.whole(|registry| async move { registry.add_alone(new, added_at_us).await }).await
    }

    /// Forgets a version of a name, or all of them; says which files no name stands for any more.
    pub async fn remove(
        self: &Arc<Self>,
        name: &ModelName,
        version: Option<Digest>,
    ) -> Result<Vec<Digest>, ModelError> {
        let name = name.clone();
        self.whole(|registry| async move { registry.remove_alone(&name, version).await }).await
    }

    /// Verifies a model's file anew. One that fails serves no more, under no name, and the error says why.
    pub async fn verify(self: &Arc<Self>, entry: Arc<Entry>) -> Result<Arc<Entry>, Failure> {
        self.whole(|registry| async move { registry.verify_alone(&entry).await }).await?
    }

    /// Has a model judged by these inputs from now on, once it has run on them natively.
    pub(super) async fn give(
        self: &Arc<Self>,
        entry: Arc<Entry>,
        inputs: GateInputs,
    ) -> Result<Arc<Entry>, ModelError> {
        self.whole(|registry| async move {
            let (mut entry, mut log) = (anew(&entry), Verification::begun(tasks::now_us()));
            let contents = registry.contents(&entry, &mut log).await?;
            let kept = registry.prove(&mut entry, contents, inputs, log).await?;
            registry.renew(entry, kept).await
        })
        .await
    }

    /// Keeps a version's files whatever room others need, or no longer.
    pub async fn pin(self: &Arc<Self>, entry: Arc<Entry>, pinned: bool) -> Result<(), ModelError> {
        self.whole(|registry| async move {
            let Model { name, digest, .. } = &entry.model;
            registry.store.put_pinned(name.clone(), *digest, pinned).await?;
            entry.keeping.pinned.store(pinned, Ordering::Relaxed);
            registry.tell().await;
            Ok(())
        })
        .await
    }

    /// Takes a file out of use that was found to be another.
    pub(super) async fn damaged(
        self: &Arc<Self>,
        digest: Digest,
        error: ModelError,
    ) -> Result<(), ModelError> {
        self.whole(|registry| async move {
            let mut log = Verification::begun(tasks::now_us());
            log.note(StageKind::Digest, Duration::ZERO, Err(error.to_string()));
            registry.condemn(digest, &log).await
        })
        .await
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

    async fn add_alone(&self, new: NewModel, added_at_us: i64) -> Result<Arc<Entry>, ModelError> {
        let digest = new.digest;
        let came: Vec<_> = [digest].into_iter().chain(new.files.values().copied()).collect();
        // They stay by this until they have a name.
        let (_held, there) = self.blobs.hold(came.iter().copied())?;
        if !there.contains(&digest) {
            return Err(ModelError::NoFile { digest });
        }
        let added = self.settle(new, added_at_us).await;
        for file in &came {
            self.blobs.release(*file);
        }
        self.drop_unused(came);
        self.drop_unused_inputs();
        added
    }

    /// Removes those of the files that no model consists of and nobody is about to name; says which have no name.
    pub(super) fn drop_unused(&self, files: impl IntoIterator<Item = Digest>) -> BTreeSet<Digest> {
        let used: BTreeSet<_> = self.list().iter().flat_map(|entry| entry.model.files()).collect();
        let unused: BTreeSet<_> = files.into_iter().filter(|file| !used.contains(file)).collect();
        for file in unused.iter().filter(|file| !self.blobs.leased(**file)) {
            self.blobs.remove(*file);
            self.layouts.forget(*file);
        }
        unused
    }

    /// Removes the files of inputs that no model is judged by.
    fn drop_unused_inputs(&self) {
        let used = self.read().all().filter_map(|entry| entry.history.judged_by.clone()).collect();
        self.inputs.keep_only(&used);
    }

    async fn settle(&self, mut new: NewModel, added_at_us: i64) -> Result<Arc<Entry>, ModelError> {
        let (blobs, digest, beside) = (self.blobs.clone(), new.digest, std::mem::take(&mut new.files));
        let settle = move || Files::settle(&blobs, digest, beside);
        let files = tokio::task::spawn_blocking(settle).await.expect("reading a file does not panic")?;
        let rewritten = files.digest;
        let added = self.try_add(NewModel { digest: rewritten, ..new }, files, added_at_us).await;
        if rewritten != digest {
            self.blobs.release(rewritten);
        }
        if added.is_err() && rewritten != digest {
            self.drop_unused([rewritten]);
        }
        added
    }

    async fn try_add(&self, new: NewModel, files: Files, added_at_us: i64) -> Result<Arc<Entry>, ModelError> {
        let known = self.find(&new.name, None).is_ok() && self.same(&new.name, new.digest).is_some();
        if !known && self.read().count(&new.name) >= VERSIONS_MAX {
            return Err(ModelError::Versions { name: new.name, limit: VERSIONS_MAX });
        }
        let (path, mut log) = (self.blobs.path(new.digest), Verification::begun(added_at_us));
        let beside = files.external.keys().chain(files.companions.values()).copied();
        let all: Vec<_> = [files.digest].into_iter().chain(beside).collect();
        let contents = verify::read(&self.blobs, &all, &mut log).await?;
        let (bytes, analysis) = (contents.bytes, &contents.analysis);
        let model = Model {
            name: new.name,
            digest: new.digest,
            bytes,
            tolerance: new.tolerance.unwrap_or(analysis.tolerance),
            signature: analysis.signature.clone(),
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
            conversion: analysis.conversion.clone(),
        };
        let history = History { added_at_us, ..History::default() };
        // What was asked of the same file under the same name goes on being counted.
        let same = self.same(&model.name, model.digest);
        let uses = same.as_ref().map_or_else(Uses::default, |same| same.served.uses());
        let pinned = same.is_some_and(|same| same.pinned());
        let mut entry = Entry::new(model, path, history, uses);
        entry.keeping = Arc::new(Keeping { pinned: pinned.into(), again: new.again });
        let inputs = self.prove(&mut entry, contents, new.inputs, log).await?;
        self.store.put_model(stored(&entry), Some(inputs)).await?;
        entry.model.files().for_each(|file| self.layouts.want(file));
        let entry = Arc::new(entry);
        self.write().add(entry.clone());
        self.tell().await;
        Ok(entry)
    }

    /// The version of that file.
    fn same(&self, name: &ModelName, digest: Digest) -> Option<Arc<Entry>> {
        let same = |entry: &&Arc<Entry>| entry.model.name == *name && entry.model.digest == digest;
        self.read().all().find(same).cloned()
    }

    /// Runs a file that has been read; answers with the inputs as they are kept.
    async fn prove(
        &self,
        entry: &mut Entry,
        contents: Contents,
        inputs: GateInputs,
        mut log: Verification,
    ) -> Result<String, ModelError> {
        let given = inputs.tensors().map_err(ModelError::Inputs)?;
        for inputs in &given {
            entry.model.signature.bind(inputs).map_err(ModelError::Inputs)?;
        }
        self.check_room(&entry.model, &given)?;
        (entry.given, entry.ranges) = (given, contents.analysis.ranges.clone().into());
        let ran = verify::run(&self.reference, entry, &contents.analysis, &mut log).await;
        entry.history.verification = Some(log);
        let Proven { shapes, barred } = ran?;
        entry.shapes = shapes;
        entry.model.batching.barred = barred;
        entry.history.anatomy = Some(anatomy(contents, &entry.sizes()));
        let (files, kept) =
            (self.inputs.clone(), GateInputs { inputs: inputs.inputs, shapes: entry.shapes.clone() });
        let kept =
            tokio::task::spawn_blocking(move || files.keep(&kept)).await.expect("writing does not panic")?;
        entry.history.judged_by = Some(kept.clone());
        Ok(kept)
    }

    /// Whether there is room for what a model is judged by, beside what all others are.
    fn check_room(&self, model: &Model, given: &[Vec<Tensor>]) -> Result<(), ModelError> {
        let bytes =
            |sets: &[Vec<Tensor>]| sets.iter().flatten().map(|tensor| tensor.body.len()).sum::<usize>();
        let versions = self.read();
        let other =
            |other: &&Arc<Entry>| (&other.model.name, other.model.digest) != (&model.name, model.digest);
        inputs::check_room(versions.all().filter(other).map(|other| bytes(&other.given)).sum(), bytes(given))
    }

    async fn verify_alone(&self, old: &Entry) -> Result<Result<Arc<Entry>, Failure>, ModelError> {
        let Model { name, digest, .. } = &old.model;
        let mut entry = anew(old);
        let kept = self.store.model_inputs(name.clone(), *digest).await?;
        let mut log = Verification::begun(tasks::now_us());
        let proven = async {
            let inputs = self.inputs.read(kept.as_deref())?;
            let contents = self.contents(&entry, &mut log).await?;
            self.prove(&mut entry, contents, inputs, log.clone()).await
        }
        .await;
        match proven {
            Ok(inputs) => self.renew(entry, inputs).await.map(Ok),
            // Nothing that the file has done.
            Err(error) if error.retry() != Retry::Never => Err(error),
            Err(error) => {
                let mut log = entry.history.verification.take().unwrap_or(log);
                if log.failure().is_none() {
                    log.note(StageKind::Run, Duration::ZERO, Err(error.to_string()));
                }
                self.condemn(*digest, &log).await?;
                let failed = self.same(name, *digest).and_then(|entry| entry.check_usable().err());
                Ok(Err(failed.unwrap_or_else(|| error.into())))
            }
        }
    }

    async fn contents(&self, entry: &Entry, log: &mut Verification) -> Result<Contents, ModelError> {
        let all: Vec<_> = entry.model.files().collect();
        verify::read(&self.blobs, &all, log).await
    }

    /// Puts what was verified anew, with these inputs, in its own place.
    async fn renew(&self, entry: Entry, inputs: String) -> Result<Arc<Entry>, ModelError> {
        self.store.put_verification(stored(&entry), Some(inputs)).await?;
        let entry = Arc::new(entry);
        self.write().replace(&entry);
        self.drop_unused_inputs();
        Ok(entry)
    }

    /// Takes a file out of use, whatever names stand for it.
    async fn condemn(&self, digest: Digest, log: &Verification) -> Result<(), ModelError> {
        let reason = log.failure().unwrap_or_default();
        let concerned: Vec<_> =
            self.list().into_iter().filter(|entry| entry.model.digest == digest).collect();
        for old in concerned {
            // Requests that have been taken hold the old entry.
            let _ = old.unusable.set(reason.clone());
            let history = History { verification: Some(log.clone()), ..old.history.clone() };
            let mut entry = Entry::new(old.model.clone(), old.path.clone(), history, Uses::default());
            (entry.served, entry.keeping) = (old.served.clone(), old.keeping.clone());
            let _ = entry.unusable.set(reason.clone());
            tracing::error!(model = %entry.model.name, reason, "a model is unusable");
            self.store.put_verification(stored(&entry), None).await?;
            self.write().replace(&Arc::new(entry));
        }
        Ok(())
    }

    async fn remove_alone(
        &self,
        name: &ModelName,
        version: Option<Digest>,
    ) -> Result<Vec<Digest>, ModelError> {
        let meant = |entry: &&Arc<Entry>| {
            entry.model.name == *name && version.is_none_or(|version| entry.model.digest == version)
        };
        let digests: Vec<_> = self.read().all().filter(meant).map(|entry| entry.model.digest).collect();
        for digest in digests {
            self.store.remove_model(name.clone(), digest).await?;
        }
        let removed = self.write().remove(name, version);
        self.tell().await;
        self.drop_unused_inputs();
        let unused = self.drop_unused(removed.iter().flat_map(|removed| removed.model.files()));
        let gone = removed.iter().map(|removed| removed.model.digest);
        Ok(gone.filter(|digest| unused.contains(digest)).collect())
    }
}

/// The same version before its verification.
fn anew(old: &Entry) -> Entry {
    let history = History { verification: None, ..old.history.clone() };
    let mut entry = Entry::new(old.model.clone(), old.path.clone(), history, Uses::default());
    (entry.served, entry.keeping) = (old.served.clone(), old.keeping.clone());
    entry
}

fn anatomy(contents: Contents, sizes: &Sizes) -> Anatomy {
    let Contents { analysis, cost, .. } = contents;
    let told = |sum: &Option<Expr>| sum.as_ref().map(ToString::to_string);
    let proof = cost.at(sizes).map(|(flops, activation_bytes)| ProofCost { flops, activation_bytes });
    Anatomy {
        operators: analysis.operators,
        parameters: analysis.parameters,
        parameter_bytes: analysis.parameter_bytes,
        cost: Cost {
            flops: told(&cost.flops),
            activation_bytes: told(&cost.activation_bytes),
            nodes: cost.nodes,
            known: cost.known,
            proof,
        },
    }
}

/// As the store keeps it; how often it is used is written apart.
fn stored(entry: &Entry) -> StoredModel {
    let History { added_at_us, anatomy, verification, .. } = entry.history.clone();
    let uses = entry.served.uses();
    let (pinned, again) = (entry.pinned(), entry.keeping.again);
    StoredModel { model: entry.model.clone(), added_at_us, anatomy, verification, pinned, again, uses }
}

/// A model of an earlier daemon. One whose file cannot be read is unusable, and so is one that has failed before.
fn open_entry(blobs: &Blobs, inputs: &Inputs, stored: StoredModel, judged_by: Option<String>) -> Entry {
    let StoredModel { model, added_at_us, anatomy, verification, pinned, again, uses } = stored;
    let path = blobs.path(model.digest);
    let failed = verification.as_ref().and_then(Verification::failure);
    let history = History { added_at_us, anatomy, verification, judged_by };
    let mut entry = Entry::new(model, path, history, uses);
    entry.keeping = Arc::new(Keeping { pinned: pinned.into(), again });
    let reason = match failed {
        Some(reason) => Some(reason),
        None => filled(blobs, inputs, &mut entry).err().map(|error| error.to_string()),
    };
    if let Some(reason) = reason {
        tracing::error!(model = %entry.model.name, reason, "a model is unusable");
        let _ = entry.unusable.set(reason);
    }
    entry
}

fn filled(blobs: &Blobs, inputs: &Inputs, entry: &mut Entry) -> Result<(), ModelError> {
    let inputs = inputs.read(entry.history.judged_by.as_deref())?;
    entry.given = inputs.tensors().map_err(ModelError::Inputs)?;
    entry.shapes = inputs.shapes;
    match fill(blobs, entry) {
        // It is brought again when it is wanted, and looked at then.
        Err(_) if entry.keeping.again => Ok(()),
        filled => filled,
    }
}

fn fill(blobs: &Blobs, entry: &mut Entry) -> Result<(), ModelError> {
    if let Some(missing) = entry.model.files().find(|file| !blobs.has(*file)) {
        return Err(ModelError::Gone { digest: missing });
    }
    let (file, analysis) = onnx::open_whole(&entry.path)?;
    let (bytes, found) = (entry.model.bytes, file.len() as u64);
    if found != bytes {
        return Err(ModelError::Resized { bytes, found });
    }
    entry.ranges = analysis.ranges.clone().into();
    // Of what an earlier weft added.
    if entry.history.anatomy.is_none() {
        let contents = Contents { bytes, analysis, cost: onnx::costs(&file)?.total() };
        entry.history.anatomy = Some(anatomy(contents, &entry.sizes()));
    }
    Ok(())
}
