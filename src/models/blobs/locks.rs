//! Who needs a file at the moment, in this process or another: told by locks that the kernel releases with whoever
//! holds them.
//!
//! A process has one lock per file, however many of its own need it.
//! What was taken in and has no name yet is leased, so that nobody takes it for a leftover.

use std::{
    collections::HashMap,
    fs::File,
    io,
    os::unix::fs::MetadataExt as _,
    path::Path,
    sync::{Arc, Mutex, MutexGuard, Weak},
    time::{Duration, Instant},
};

use crate::domain::Digest;

/// Whoever uploads or downloads a file names it within this time, or it may go.
const LEASE: Duration = Duration::from_secs(3600);

/// Leases of one file: more of them say nothing more.
const LEASES_MAX: usize = 64;

/// Files that stay as long as this lives.
#[derive(Clone, Debug, Default)]
pub struct Held(Vec<Arc<File>>);

impl Held {
    pub(super) fn add(&mut self, file: Arc<File>) {
        self.0.push(file);
    }
}

#[derive(Default)]
pub(super) struct Locks {
    files: Mutex<HashMap<Digest, Weak<File>>>,
    leases: Mutex<HashMap<Digest, Vec<(Instant, Arc<File>)>>>,
}

impl Locks {
    fn files(&self) -> MutexGuard<'_, HashMap<Digest, Weak<File>>> {
        self.files.lock().expect("no holder of the locks panics")
    }

    fn leases(&self) -> MutexGuard<'_, HashMap<Digest, Vec<(Instant, Arc<File>)>>> {
        self.leases.lock().expect("no holder of the leases panics")
    }

    /// Nothing when the file is not there.
    pub(super) fn hold(&self, digest: Digest, path: &Path) -> io::Result<Option<Arc<File>>> {
        let mut files = self.files();
        if let Some(file) = files.get(&digest).and_then(Weak::upgrade)
            && lies_at(&file, path)?
        {
            return Ok(Some(file));
        }
        while let Some(file) = open(path)? {
            file.lock_shared()?;
            if lies_at(&file, path)? {
                let file = Arc::new(file);
                files.insert(digest, Arc::downgrade(&file));
                return Ok(Some(file));
            }
        }
        Ok(None)
    }

    /// Takes over the lock of a file that was written under another name, and leases it.
    pub(super) fn written(&self, digest: Digest, file: File) {
        let file = Arc::new(file);
        self.files().insert(digest, Arc::downgrade(&file));
        self.push(digest, file);
    }

    /// Leases what is there.
    pub(super) fn lease(&self, digest: Digest, path: &Path) -> io::Result<()> {
        if let Some(file) = self.hold(digest, path)? {
            self.push(digest, file);
        }
        Ok(())
    }

    fn push(&self, digest: Digest, file: Arc<File>) {
        let mut leases = self.leases();
        expire(&mut leases);
        let leases = leases.entry(digest).or_default();
        if leases.len() < LEASES_MAX {
            leases.push((Instant::now(), file));
        }
    }

    /// Gives one lease back.
    pub(super) fn release(&self, digest: Digest) {
        let mut leases = self.leases();
        if let Some(of) = leases.get_mut(&digest) {
            of.pop();
        }
        leases.retain(|_, of| !of.is_empty());
    }

    pub(super) fn leased(&self, digest: Digest) -> bool {
        let mut leases = self.leases();
        expire(&mut leases);
        leases.contains_key(&digest)
    }

    /// Whether this process needs it.
    pub(super) fn holds(&self, digest: Digest) -> bool {
        let _ = self.leased(digest);
        self.files().get(&digest).is_some_and(|file| file.strong_count() > 0)
    }

    /// Removes a file that no other process needs, and unless `own` is set, nobody here either, when `allowed` says so
    /// with nobody able to take it meanwhile.
    pub(super) fn remove(
        &self,
        digest: Digest,
        path: &Path,
        own: bool,
        allowed: impl FnOnce() -> io::Result<bool>,
    ) -> io::Result<bool> {
        let mut files = self.files();
        let mine = match files.get(&digest).and_then(Weak::upgrade) {
            Some(file) if lies_at(&file, path)? => Some(file),
            _ => None,
        };
        if mine.is_some() && !own {
            return Ok(false);
        }
        let file = match &mine {
            Some(file) => Some(file.clone()),
            None => open(path)?.map(Arc::new),
        };
        let Some(file) = file else { return Ok(true) };
        // On Linux a lock that is held becomes the other kind, or is lost where others stand in the way.
        let removable = file.try_lock().is_ok() && lies_at(&file, path)? && allowed()?;
        if removable {
            std::fs::remove_file(path)?;
            files.remove(&digest);
        } else if let Some(mine) = mine {
            mine.lock_shared()?;
        }
        Ok(removable)
    }
}

fn expire(leases: &mut HashMap<Digest, Vec<(Instant, Arc<File>)>>) {
    for of in leases.values_mut() {
        of.retain(|(since, _)| since.elapsed() < LEASE);
    }
    leases.retain(|_, of| !of.is_empty());
}

fn open(path: &Path) -> io::Result<Option<File>> {
    match File::open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        file => file.map(Some),
    }
}

/// Whether the path still leads to this file.
pub(super) fn lies_at(file: &File, path: &Path) -> io::Result<bool> {
    let own = file.metadata()?;
    match std::fs::metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        there => there.map(|there| (there.dev(), there.ino()) == (own.dev(), own.ino())),
    }
}
