//! Downloads under way, and those that ended lately.

use std::{
    collections::VecDeque,
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, OnceLock},
    time::Duration,
};

use tokio_util::sync::CancellationToken;

use super::{
    Brought, Download, Locator, Settings, SourceError,
    bring::Bring,
    parts::Parts,
    progress::Progress,
    web::{Dial, Web},
};
use crate::{
    domain::Failure,
    events::Events,
    models::{Entry, Registry},
    tasks::Tasks,
};

/// One fills most networks; more than these only make each other slow.
const RUNNING_MAX: usize = 8;

/// Downloads that are remembered, those under way included.
const REMEMBERED: usize = 64;

/// What is here is a model, whatever it was made of.
const HELD: &str = "model.onnx";

/// What somebody wants.
pub struct Order {
    pub source: Locator,
    /// Only when it is here already.
    pub offline: bool,
}

/// The handle. Clones share the downloads.
#[derive(Clone)]
pub struct Downloads(Arc<Inner>);

struct Inner {
    settings: Arc<Settings>,
    dial: Arc<Dial>,
    parts: Arc<Parts>,
    registry: Arc<Registry>,
    events: Events,
    tasks: Tasks,
    /// The oldest first.
    jobs: Mutex<VecDeque<Arc<Job>>>,
}

struct Job {
    source: Locator,
    offline: bool,
    progress: Progress,
    cancel: CancellationToken,
    brought: OnceLock<Brought>,
}

impl Job {
    fn is(&self, id: &str) -> bool {
        self.progress.now().id.to_string() == id
    }

    fn ended(&self) -> bool {
        self.progress.now().state.ended()
    }

    fn end(&self, outcome: Result<Brought, SourceError>) {
        if let Ok(brought) = &outcome {
            // It is empty, since a job ends once.
            let _ = self.brought.set(brought.clone());
        }
        self.progress.ends(outcome);
    }
}

impl Downloads {
    /// `folder` keeps what is there in part.
    pub fn open(
        folder: PathBuf,
        settings: Settings,
        registry: Arc<Registry>,
        events: Events,
        tasks: Tasks,
    ) -> Result<Self, SourceError> {
        let (settings, dial, parts) = (Arc::new(settings), Arc::default(), Parts::open(folder)?);
        Ok(Self(Arc::new(Inner { settings, dial, parts, registry, events, tasks, jobs: Mutex::default() })))
    }

    /// Starts a download, or joins the one of the same source; says how far it is.
    pub fn order(&self, order: Order) -> Result<Download, SourceError> {
        let inner = &self.0;
        let offline = order.offline || inner.settings.offline;
        let source = order.source.source()?;
        let mut jobs = self.jobs();
        let same = |job: &&Arc<Job>| !job.ended() && job.source == order.source && job.offline == offline;
        if let Some(job) = jobs.iter().find(same) {
            return Ok(job.progress.now());
        }
        if jobs.iter().filter(|job| !job.ended()).count() >= RUNNING_MAX {
            return Err(SourceError::Full { most: RUNNING_MAX });
        }
        let held = if offline { Some(self.held(&order.source)?) } else { None };
        if jobs.len() >= REMEMBERED
            && let Some(oldest) = jobs.iter().position(|job| job.ended())
        {
            jobs.remove(oldest);
        }
        let job = Arc::new(Job {
            progress: Progress::new(order.source.to_string(), inner.events.clone()),
            source: order.source,
            offline,
            cancel: CancellationToken::new(),
            brought: OnceLock::new(),
        });
        jobs.push_back(job.clone());
        drop(jobs);
        let download = job.progress.now();
        if let Some(held) = held {
            job.end(Ok(held));
            return Ok(job.progress.now());
        }
        let (inner, stopping) = (inner.clone(), inner.tasks.stopping());
        self.0.tasks.spawn("download", async move {
            let web = inner.web(&job);
            let Registry { blobs, layouts, .. } = &*inner.registry;
            let bring = Bring { web: &web, parts: &inner.parts, blobs, layouts };
            let run = async { bring.found(source.find(&web).await?).await };
            let outcome = tokio::select! {
                biased;
                () = job.cancel.cancelled() => Err(SourceError::Cancelled),
                () = stopping.cancelled() => Err(SourceError::Stopping),
                outcome = run => outcome,
            };
            if let Err(error) = &outcome {
                tracing::warn!(source = %job.source, %error, "a download came to nothing");
            }
            job.end(outcome);
        });
        Ok(download)
    }

    /// What is here of a source already.
    fn held(&self, source: &Locator) -> Result<Brought, SourceError> {
        let entries = self.0.registry.list();
        let file = match source {
            Locator::Ipfs(cid) => self.0.registry.layouts.file(cid),
            _ => None,
        };
        let meant = |entry: &&Arc<Entry>| {
            let model = &entry.model;
            let is = file == Some(model.digest) || source.admits(&model.source, model.revision.as_deref());
            is && !self.0.registry.evicted(entry)
        };
        let held = entries.iter().find(meant);
        let entry = held.ok_or_else(|| SourceError::Offline { source_text: source.to_string() })?;
        let model = &entry.model;
        Ok(Brought {
            digest: model.digest,
            bytes: model.bytes,
            file: HELD.to_owned(),
            files: model.companions.clone(),
            source: model.source.clone(),
            revision: model.revision.clone(),
            again: entry.keeping.again,
        })
    }

    /// What a source has, from there, and once however many ask.
    pub(in crate::models) async fn bring(&self, source: Locator) -> Result<Brought, Failure> {
        let id = self.order(Order { source, offline: false })?.id.to_string();
        match self.get(&id, Duration::MAX).await? {
            Download { error: Some(error), .. } => Err(error),
            _ => Ok(self.brought(&id)?),
        }
    }

    pub(in crate::models) fn offline(&self) -> bool {
        self.0.settings.offline
    }

    pub fn list(&self) -> Vec<Download> {
        self.jobs().iter().map(|job| job.progress.now()).collect()
    }

    /// One download: at once, or as soon as it has ended or `within` is over.
    pub async fn get(&self, id: &str, within: Duration) -> Result<Download, SourceError> {
        let mut watch = self.job(id)?.progress.watch();
        let ended = watch.wait_for(|download| download.state.ended());
        // Its sender is held by the job.
        let _ = tokio::time::timeout(within, ended).await;
        let download = watch.borrow().clone();
        Ok(download)
    }

    /// Ends a download; what came of it stays for the next one of its source.
    pub async fn cancel(&self, id: &str) -> Result<Download, SourceError> {
        self.job(id)?.cancel.cancel();
        // The task of one that runs does nothing else any more.
        self.get(id, Duration::MAX).await
    }

    /// What a download brought.
    pub fn brought(&self, id: &str) -> Result<Brought, SourceError> {
        self.job(id)?.brought.get().cloned().ok_or_else(|| SourceError::NotDone { id: id.to_owned() })
    }

    fn job(&self, id: &str) -> Result<Arc<Job>, SourceError> {
        let job = self.jobs().iter().find(|job| job.is(id)).cloned();
        job.ok_or_else(|| SourceError::Unknown { id: id.to_owned() })
    }

    fn jobs(&self) -> MutexGuard<'_, VecDeque<Arc<Job>>> {
        self.0.jobs.lock().expect("no holder of the downloads panics")
    }
}

impl Inner {
    fn web(&self, job: &Job) -> Web {
        Web { settings: self.settings.clone(), dial: self.dial.clone(), progress: job.progress.clone() }
    }
}
