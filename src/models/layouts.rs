//! Which blocks the models' files have: worked out once for each file, one file at a time, and kept beside it.
//!
//! What is kept follows from the file, so a damaged or lost one costs nothing but working it out again.

use std::{
    collections::HashMap,
    io::Read as _,
    sync::{Arc, Mutex, MutexGuard},
};

use tokio::sync::{Semaphore, watch};
use tokio_util::sync::CancellationToken;

use super::{Blobs, ModelError};
use crate::{
    content::{Cid, LEAF, Layout, Layouter},
    domain::Digest,
    tasks::Tasks,
};

/// Clones share the layouts.
#[derive(Clone)]
pub struct Layouts(Arc<Inner>);

struct Inner {
    blobs: Blobs,
    tasks: Tasks,
    /// One at a time: two would only make each other slow, and requests slower.
    turn: Semaphore,
    files: Mutex<HashMap<Digest, Outcome>>,
}

/// Nothing as long as it is being worked out.
type Outcome = watch::Receiver<Option<Result<Arc<Layout>, String>>>;

impl Layouts {
    pub fn new(blobs: Blobs, tasks: Tasks) -> Self {
        let (turn, files) = (Semaphore::new(1), Mutex::default());
        Self(Arc::new(Inner { blobs, tasks, turn, files }))
    }

    fn files(&self) -> MutexGuard<'_, HashMap<Digest, Outcome>> {
        self.0.files.lock().expect("no holder of the layouts panics")
    }

    /// Sees to it that a file's layout is worked out.
    pub(super) fn want(&self, file: Digest) {
        self.outcome(file);
    }

    /// Joins whoever works it out, or starts.
    fn outcome(&self, file: Digest) -> Outcome {
        let mut files = self.files();
        let failed = |outcome: &Outcome| matches!(&*outcome.borrow(), Some(Err(_)));
        if let Some(outcome) = files.get(&file).filter(|outcome| !failed(outcome)) {
            return outcome.clone();
        }
        let (told, outcome) = watch::channel(None);
        files.insert(file, outcome.clone());
        let (inner, stopping) = (self.0.clone(), self.0.tasks.stopping());
        self.0.tasks.spawn("layout", async move {
            let work = async {
                let _turn = inner.turn.acquire().await.expect("nobody closes it");
                let (blobs, stop) = (inner.blobs.clone(), inner.tasks.stopping());
                let read = tokio::task::spawn_blocking(move || lay_out(&blobs, file, &stop));
                read.await.expect("reading a file does not panic")
            };
            tokio::select! {
                result = work => {
                    if let Err(error) = &result {
                        tracing::warn!(digest = %file, %error, "a file's blocks are not known");
                    }
                    let result = result.map(Arc::new).map_err(|error| error.to_string());
                    told.send_replace(Some(result));
                }
                () = stopping.cancelled() => {}
            }
        });
        outcome
    }

    /// Of a file that is here, however long it takes to work it out.
    pub async fn of(&self, file: Digest) -> Result<Arc<Layout>, ModelError> {
        let mut outcome = self.outcome(file);
        let known = outcome.wait_for(Option::is_some).await.map_err(|_| ModelError::Stopping)?;
        let known = known.as_ref().expect("it was waited for");
        known.clone().map_err(|problem| ModelError::Layout { digest: file, problem })
    }

    /// A file's name as content, when it is known already.
    pub fn cid(&self, file: Digest) -> Option<Cid> {
        let files = self.files();
        let outcome = files.get(&file)?.borrow();
        let layout = outcome.as_ref()?.as_ref().ok()?;
        Some(layout.cid(layout.root()))
    }

    /// The file that has the block of that digest, as far as the files are known.
    pub fn holder(&self, block: &Digest) -> Option<(Digest, Arc<Layout>)> {
        let files = self.files();
        files.iter().find_map(|(file, outcome)| {
            let outcome = outcome.borrow();
            let layout = outcome.as_ref()?.as_ref().ok()?;
            layout.find(block).map(|_| (*file, layout.clone()))
        })
    }

    /// The same, once every file is known.
    pub async fn find(&self, block: &Digest) -> Option<(Digest, Arc<Layout>)> {
        let waiting = || {
            let files = self.files();
            files.values().find(|outcome| outcome.borrow().is_none()).cloned()
        };
        loop {
            if let Some(found) = self.holder(block) {
                return Some(found);
            }
            // A failure is known too; an end without one is the daemon's.
            waiting()?.wait_for(Option::is_some).await.ok()?;
        }
    }

    /// The file whose name as content this is.
    pub fn file(&self, cid: &Cid) -> Option<Digest> {
        let (file, layout) = self.holder(&cid.digest)?;
        (layout.cid(layout.root()) == *cid).then_some(file)
    }

    pub(super) fn forget(&self, file: Digest) {
        self.files().remove(&file);
    }
}

/// What was kept, or the file read to its end.
fn lay_out(blobs: &Blobs, file: Digest, stop: &CancellationToken) -> Result<Layout, ModelError> {
    let bytes = blobs.bytes(file)?;
    let kept = blobs.layout(file).and_then(|kept| Layout::from_kept(&kept));
    if let Some(kept) = kept.filter(|kept| kept.bytes() == bytes) {
        return Ok(kept);
    }
    let path = blobs.path(file);
    let unreadable = |source| ModelError::Keep { path: path.clone(), source };
    let mut reader = std::fs::File::open(&path).map_err(unreadable)?;
    let (mut layouter, mut chunk) = (Layouter::default(), vec![0; LEAF]);
    loop {
        match reader.read(&mut chunk).map_err(unreadable)? {
            0 => break,
            _ if stop.is_cancelled() => return Err(ModelError::Stopping),
            read => layouter.update(&chunk[..read]),
        }
    }
    let layout = layouter.finish();
    // Without it the file is read again when the daemon starts anew.
    if let Err(error) = blobs.keep_layout(file, &layout.kept()) {
        tracing::warn!(digest = %file, %error, "a file's layout was not kept");
    }
    Ok(layout)
}
