//! Which files are known to be what their digests say, since when: a file is read to its end once after the daemon's
//! start, and again when anything tells that it is another.

use std::{
    collections::HashMap,
    io::{self, Read as _},
    os::unix::fs::MetadataExt as _,
    path::Path,
    sync::{Arc, Mutex},
};

use sha2::{Digest as _, Sha256};

use crate::domain::Digest;

/// What a file is, as far as a look at it tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::models) struct Stamp {
    bytes: u64,
    modified: (i64, i64),
    changed: (i64, i64),
    place: (u64, u64),
}

impl Stamp {
    /// Nothing when no file is there.
    pub(super) fn of(path: &Path) -> io::Result<Option<Self>> {
        let there = match std::fs::metadata(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            there => there?,
        };
        Ok(Some(Self {
            bytes: there.len(),
            modified: (there.mtime(), there.mtime_nsec()),
            changed: (there.ctime(), there.ctime_nsec()),
            place: (there.dev(), there.ino()),
        }))
    }
}

/// How a file stands to its digest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::models) enum Soundness {
    Whole,
    Absent,
    /// It has another digest.
    Damaged(Digest),
}

#[derive(Default)]
pub(super) struct Stamps {
    known: Mutex<HashMap<Digest, Stamp>>,
    /// Who reads a file to its end; the others wait for that.
    turns: Mutex<HashMap<Digest, Arc<Mutex<()>>>>,
}

impl Stamps {
    pub(super) fn note(&self, digest: Digest, stamp: Stamp) {
        self.known.lock().expect("no holder of the stamps panics").insert(digest, stamp);
    }

    /// Has the file read anew by whoever asks next.
    pub(super) fn forget(&self, digest: Digest) {
        self.known.lock().expect("no holder of the stamps panics").remove(&digest);
        self.turns.lock().expect("no holder of the turns panics").remove(&digest);
    }

    /// Whether it is as it was when it was last read to its end, and found whole.
    pub(super) fn knows(&self, digest: Digest, path: &Path) -> io::Result<bool> {
        let stamp = Stamp::of(path)?;
        Ok(stamp.is_some()
            && self.known.lock().expect("no holder of the stamps panics").get(&digest) == stamp.as_ref())
    }

    /// Reads the file to its end unless that is known.
    pub(super) fn check(&self, digest: Digest, path: &Path) -> io::Result<Soundness> {
        if self.knows(digest, path)? {
            return Ok(Soundness::Whole);
        }
        let turn =
            self.turns.lock().expect("no holder of the turns panics").entry(digest).or_default().clone();
        let _turn = turn.lock().expect("no reader of a file panics");
        if self.knows(digest, path)? {
            return Ok(Soundness::Whole);
        }
        let Some(stamp) = Stamp::of(path)? else { return Ok(Soundness::Absent) };
        let found = match std::fs::File::open(path).and_then(hash) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Soundness::Absent),
            found => found?,
        };
        if found != digest {
            return Ok(Soundness::Damaged(found));
        }
        self.note(digest, stamp);
        Ok(Soundness::Whole)
    }
}

/// What a file has from where it stands to its end.
pub(super) fn hash(mut file: std::fs::File) -> io::Result<Digest> {
    let (mut hash, mut chunk) = (Sha256::new(), vec![0; 1 << 20]);
    loop {
        match file.read(&mut chunk)? {
            0 => return Ok(Digest::new(hash.finalize().into())),
            read => hash.update(&chunk[..read]),
        }
    }
}
