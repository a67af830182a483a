//! Sees to it that a model's files are here and whole before anybody uses them, and brings those again that made room
//! for others, or were damaged.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard},
};

use futures_util::future::try_join_all;
use tokio::sync::watch;

use super::{
    Entry, Held, ModelError, Registry,
    blobs::Soundness,
    files::Files,
    recipes,
    source::{Brought, Downloads, Locator},
};
use crate::{
    domain::{Code, Digest, Failure, Model, Retry},
    modality::{Recipe, Task},
    onnx,
    tasks::Tasks,
};

pub struct Cache {
    registry: Arc<Registry>,
    downloads: Downloads,
    tasks: Tasks,
    /// Models on their way: all who want one wait for one download.
    bringing: Mutex<HashMap<Digest, Outcome>>,
}

/// Nothing as long as it is on its way.
type Outcome = watch::Receiver<Option<Result<Held, Failure>>>;

impl Cache {
    pub fn new(registry: Arc<Registry>, downloads: Downloads, tasks: Tasks) -> Arc<Self> {
        Arc::new(Self { registry, downloads, tasks, bringing: Mutex::default() })
    }

    /// A usable model's files, which are here and whole as long as what this gives lives.
    pub async fn hold(self: &Arc<Self>, entry: &Arc<Entry>) -> Result<Held, Failure> {
        entry.check_usable()?;
        self.whole(entry).await
    }

    /// What these models do, alone or together; `task` says it where their files leave it open.
    pub async fn recipe(
        self: &Arc<Self>,
        entries: &[Arc<Entry>],
        task: Option<Task>,
    ) -> Result<Recipe, Failure> {
        entries.iter().try_for_each(|entry| entry.check_usable())?;
        if let Some(known) = recipes::known(entries, task) {
            return Ok(known);
        }
        let _held = try_join_all(entries.iter().map(|entry| self.whole(entry))).await?;
        recipes::recipe(entries, task).await
    }

    /// The same for some model that has this file; nothing when none has.
    pub async fn hold_file(self: &Arc<Self>, file: Digest) -> Result<Option<Held>, Failure> {
        let entries = self.registry.list();
        let has = |entry: &&Arc<Entry>| {
            entry.unusable().is_none() && entry.model.files().any(|other| other == file)
        };
        match entries.iter().find(has) {
            Some(entry) => self.whole(entry).await.map(Some),
            None => Ok(None),
        }
    }

    /// Has a model's files read to their ends, whatever is known of them, and those brought again that are not whole.
    /// Whether the others make the model unusable is the registry's to say.
    pub async fn renew(self: &Arc<Self>, entry: &Arc<Entry>) -> Result<Held, Failure> {
        entry.model.files().for_each(|file| self.registry.blobs.doubt(file));
        match self.registry.source_of(entry.model.digest) {
            Some(_) => self.whole(entry).await,
            None => Ok(self.registry.blobs.hold(entry.model.files())?.0),
        }
    }

    async fn whole(self: &Arc<Self>, entry: &Arc<Entry>) -> Result<Held, Failure> {
        let held = match self.here(entry).await? {
            Some(held) => held,
            None => self.bring(entry).await?,
        };
        known(entry.clone()).await?;
        Ok(held)
    }

    /// The files when all are here and whole.
    async fn here(&self, entry: &Entry) -> Result<Option<Held>, Failure> {
        let (blobs, files) = (self.registry.blobs.clone(), entry.model.files().collect::<Vec<_>>());
        let look = move || {
            let (held, _) = blobs.hold(files.iter().copied())?;
            let unsound = files.into_iter().map(|file| Ok((file, blobs.check(file)?)));
            let unsound = unsound.filter(|found| !matches!(found, Ok((_, Soundness::Whole))));
            Ok::<_, ModelError>((held, unsound.collect::<Result<Vec<_>, ModelError>>()?))
        };
        let looked = tokio::task::spawn_blocking(look).await.expect("reading a file does not panic");
        let (held, unsound) = looked?;
        if unsound.is_empty() {
            return Ok(Some(held));
        }
        let returns = self.registry.source_of(entry.model.digest).is_some();
        for (digest, soundness) in unsound {
            let error = match soundness {
                Soundness::Damaged(found) => ModelError::Changed { digest, found },
                Soundness::Absent | Soundness::Whole => ModelError::Gone { digest },
            };
            if let Soundness::Damaged(found) = soundness {
                let model = &entry.model.name;
                tracing::error!(%model, %digest, %found, returns, "a model's file is damaged and taken out of use");
                if returns {
                    self.registry.blobs.discard(digest)?;
                } else {
                    self.registry.damaged(entry.model.digest, error).await?;
                    entry.check_usable()?;
                }
            } else if !returns {
                let message = format!("{} is not here: {error}", entry.model.name);
                return Err(Failure::new(Code::ModelNotReady, Retry::Never, message));
            }
        }
        Ok(None)
    }

    /// Joins whoever brings it, or starts.
    async fn bring(self: &Arc<Self>, entry: &Arc<Entry>) -> Result<Held, Failure> {
        let mut outcome = self.outcome(entry.model.digest);
        let stopping = || Failure::from(ModelError::Stopping);
        let brought = outcome.wait_for(Option::is_some).await.map_err(|_| stopping())?;
        brought.clone().unwrap_or_else(|| Err(stopping()))
    }

    fn outcome(self: &Arc<Self>, model: Digest) -> Outcome {
        let mut bringing = self.bringing();
        if let Some(outcome) = bringing.get(&model) {
            return outcome.clone();
        }
        let (told, outcome) = watch::channel(None);
        bringing.insert(model, outcome.clone());
        let (cache, stopping) = (self.clone(), self.tasks.stopping());
        self.tasks.spawn("bringing a model again", async move {
            let result = tokio::select! {
                result = cache.fetch(model) => Some(result),
                () = stopping.cancelled() => None,
            };
            cache.bringing().remove(&model);
            told.send_replace(result);
        });
        outcome
    }

    fn bringing(&self) -> MutexGuard<'_, HashMap<Digest, Outcome>> {
        self.bringing.lock().expect("no holder of the models on their way panics")
    }

    async fn fetch(&self, model: Digest) -> Result<Held, Failure> {
        let Some(entry) = self.registry.source_of(model) else {
            return Err(ModelError::Gone { digest: model }.into());
        };
        let Model { name, digest, source, revision, .. } = &entry.model;
        let away = |why: &str| {
            format!("{name} has made room for others, and does not come back from {source}: {why}")
        };
        let failed = |failure: Failure| Failure { message: away(&failure.message), ..failure };
        if self.downloads.offline() {
            let why = "the daemon is offline; without `--offline` and `models.offline` it is downloaded";
            return Err(Failure::new(Code::SourceUnavailable, Retry::Never, away(why)));
        }
        tracing::info!(model = %name, source, "a model's files are brought again");
        let locator = source.parse::<Locator>().map_err(|error| failed(error.into()))?;
        let brought = self.downloads.bring(locator.pinned(revision.as_deref())).await.map_err(failed)?;
        let found = brought.digest;
        let whole = self.settle(&entry.model, brought).await.map_err(|error| failed(error.into()))?;
        whole.ok_or_else(|| {
            let why = format!(
                "it has other files there now ({found}, of which {digest} does not come); \
                 add it again with `weft models add`, or remove it with `weft models remove {name}`"
            );
            Failure::new(Code::SourceUnavailable, Retry::Never, away(&why))
        })
    }

    /// Makes of what came the files of the model; nothing when that is another one.
    async fn settle(&self, model: &Model, brought: Brought) -> Result<Option<Held>, ModelError> {
        let mut came: Vec<_> = brought.files.values().copied().chain([brought.digest]).collect();
        let (blobs, digest, wanted) =
            (self.registry.blobs.clone(), model.digest, model.files().collect::<Vec<_>>());
        let settle = move || {
            let (own, files) = (brought.digest, brought.files);
            let settled = Files::settle(&blobs, own, files)?.digest;
            let (held, _) = blobs.hold(wanted.iter().copied())?;
            let mut whole = settled == digest;
            for file in wanted {
                whole = whole && blobs.check(file)? == Soundness::Whole;
            }
            Ok::<_, ModelError>((held, whole, (settled != own).then_some(settled)))
        };
        let settled = tokio::task::spawn_blocking(settle).await.expect("reading a file does not panic");
        if let Ok((_, _, Some(rewritten))) = &settled {
            came.push(*rewritten);
        }
        for file in &came {
            self.registry.blobs.release(*file);
        }
        self.registry.drop_unused(came);
        let (held, whole, _) = settled?;
        Ok(whole.then_some(held))
    }
}

/// What the daemon could not see when it started, because the file was away.
async fn known(entry: Arc<Entry>) -> Result<(), ModelError> {
    if entry.ranges.get().is_some() {
        return Ok(());
    }
    let open = move || {
        let (_, analysis) = onnx::open(&entry.path)?;
        // Somebody else may have looked meanwhile, and seen the same.
        let _ = entry.ranges.set(analysis.ranges);
        Ok(())
    };
    tokio::task::spawn_blocking(open).await.expect("reading a file does not panic")
}
