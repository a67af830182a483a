//! Files that are there in part, so that a download goes on where it broke off.
//!
//! `{key}.part` holds the bytes, `{key}.json` says of which file and version they are.

use std::{
    collections::BTreeSet,
    fs::File,
    io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
    time::{Duration, SystemTime},
};

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use tempfile::TempDir;
use url::Url;

use super::{SourceError, locator::place, web::Rest};
use crate::domain::Digest;

/// What nobody asked for again in a week is not wanted any more.
const AGE_MAX: Duration = Duration::from_secs(7 * 24 * 3600);

/// Kept from one daemon to the next.
const KEPT_MAX: usize = 16;

pub(super) struct Parts {
    folder: PathBuf,
    /// Keys of downloads under way.
    claimed: Mutex<BTreeSet<String>>,
}

#[derive(Serialize, Deserialize)]
struct Note {
    /// The whole address would hold its secrets.
    place: String,
    etag: String,
}

impl Parts {
    /// Opens the folder and removes what is old, too much or of no use.
    pub(super) fn open(folder: PathBuf) -> Result<Arc<Self>, SourceError> {
        let keep = |source| SourceError::Keep { path: folder.clone(), source };
        std::fs::create_dir_all(&folder).map_err(keep)?;
        let mut parts = Vec::new();
        for entry in std::fs::read_dir(&folder).map_err(keep)? {
            let path = entry.map_err(keep)?.path();
            if path.extension().is_some_and(|extension| extension == "part") {
                let touched = path.metadata().and_then(|metadata| metadata.modified()).map_err(keep)?;
                parts.push((touched, path));
            } else if path.is_dir() {
                std::fs::remove_dir_all(&path).map_err(keep)?;
            } else if !path.with_extension("part").exists() {
                std::fs::remove_file(&path).map_err(keep)?;
            }
        }
        parts.sort_by(|a, b| b.cmp(a));
        let old = |touched: &SystemTime| touched.elapsed().is_ok_and(|age| age > AGE_MAX);
        let gone = parts.iter().enumerate().filter(|(at, (touched, _))| *at >= KEPT_MAX || old(touched));
        for (_, (_, path)) in gone {
            remove(path).and_then(|()| remove(&path.with_extension("json"))).map_err(keep)?;
        }
        Ok(Arc::new(Self { folder, claimed: Mutex::default() }))
    }

    /// The part of the file at `url`, for one download at a time.
    pub(super) fn claim(self: &Arc<Self>, url: &Url) -> Result<Part, SourceError> {
        let key = Digest::new(Sha256::digest(url.as_str()).into()).to_string();
        if !self.claimed.lock().expect("no holder of the claims panics").insert(key.clone()) {
            return Err(SourceError::Busy { place: place(url) });
        }
        Ok(Part {
            parts: self.clone(),
            path: self.folder.join(format!("{key}.part")),
            key,
            place: place(url),
        })
    }
}

/// One file that is there in part, as long as its download goes on.
pub(super) struct Part {
    parts: Arc<Parts>,
    key: String,
    path: PathBuf,
    place: String,
}

impl Part {
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// A folder for the files that come out of it, which goes with what is left in it.
    pub(super) fn members(&self) -> Result<TempDir, SourceError> {
        let folder = &self.parts.folder;
        let made = tempfile::Builder::new().prefix("members-").tempdir_in(folder);
        made.map_err(|source| SourceError::Keep { path: folder.clone(), source })
    }

    fn note(&self) -> PathBuf {
        self.path.with_extension("json")
    }

    pub(super) fn len(&self) -> u64 {
        self.path.metadata().map_or(0, |metadata| metadata.len())
    }

    /// What is missing, when what is there can be told from other versions.
    pub(super) fn rest(&self) -> Option<Rest> {
        let note: Note = serde_json::from_slice(&std::fs::read(self.note()).ok()?).ok()?;
        let from = self.len();
        (from > 0).then_some(Rest { from, etag: note.etag })
    }

    /// Starts over. The file is a new one: a write that an earlier try left under way goes to the old.
    pub(super) fn begin(&self, etag: Option<&str>) -> Result<File, SourceError> {
        let keep = |source| SourceError::Keep { path: self.path.clone(), source };
        remove(&self.note()).and_then(|()| remove(&self.path)).map_err(keep)?;
        let file = File::create_new(&self.path).map_err(keep)?;
        if let Some(etag) = etag {
            let note = Note { place: self.place.clone(), etag: etag.to_owned() };
            let text = serde_json::to_vec(&note).expect("a note holds strings");
            std::fs::write(self.note(), text).map_err(keep)?;
        }
        Ok(file)
    }

    /// Goes on behind what is there.
    pub(super) fn resume(&self, from: u64) -> Result<File, SourceError> {
        let keep = |source| SourceError::Keep { path: self.path.clone(), source };
        let mut file = File::options().write(true).open(&self.path).map_err(keep)?;
        io::Seek::seek(&mut file, io::SeekFrom::Start(from)).map_err(keep)?;
        Ok(file)
    }

    /// It is of no use any more, or has become a model's file.
    pub(super) fn discard(&self) {
        for path in [self.path.clone(), self.note()] {
            if let Err(error) = remove(&path) {
                tracing::warn!(path = %path.display(), %error, "a part of a download was not removed");
            }
        }
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        self.parts.claimed.lock().expect("no holder of the claims panics").remove(&self.key);
    }
}

fn remove(path: &Path) -> io::Result<()> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}
