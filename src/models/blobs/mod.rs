//! Files by digest: models, what their weights lie in, what belongs to them. In one folder, without an extension, so that
//! a model finds its weights beside it by their digest; each is written aside and renamed when it is whole.
//!
//! Several daemons may share the folder: `locks` tells what each needs at the moment, `homes` what its names need.

mod homes;
mod locks;
mod room;
mod stamps;

use std::{
    collections::BTreeSet,
    fs::File,
    io::{self, BufWriter, Write},
    path::{Path, PathBuf},
    sync::{Arc, OnceLock},
};

use bytes::Bytes;
use futures_util::{Stream, StreamExt};
use sha2::{Digest as _, Sha256};
use tokio::io::AsyncWriteExt;

use self::{
    homes::Homes,
    locks::{Locks, lies_at},
    room::{Kept, room},
    stamps::Stamps,
};
pub(super) use self::{
    homes::{Claim, Claims, Stay, claim},
    stamps::{Soundness, Stamp},
};
pub use self::{locks::Held, room::Full};
use super::ModelError;
use crate::domain::Digest;

/// What one file may have: weights for a hundred thousand million parameters lie in several.
const FILE_BYTES_MAX: u64 = 64 << 30;

/// Marks files that are still being written.
const PARTIAL: &str = "partial";

/// Marks what is kept of a file's layout in blocks, beside it.
const LAYOUT: &str = "layout";
/// What an earlier weft called models' files.
const FORMER: &str = "onnx";

/// Clones share the folder.
#[derive(Clone)]
pub struct Blobs(Arc<Inner>);

/// What this home's names want, asked when room is to be made; nothing while that is not known.
type Names = Box<dyn Fn() -> Option<Claims> + Send + Sync>;

struct Inner {
    folder: PathBuf,
    /// Bytes of all files together.
    limit: Option<u64>,
    names: OnceLock<Names>,
    homes: Homes,
    locks: Locks,
    stamps: Stamps,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Upload {
    pub digest: Digest,
    pub bytes: u64,
}

impl Blobs {
    /// Opens the folder for a home and removes what daemons that ended did not finish.
    pub fn open(folder: PathBuf, home: &Path, limit: Option<u64>) -> Result<Self, ModelError> {
        let keep = |source| ModelError::Keep { path: folder.clone(), source };
        std::fs::create_dir_all(&folder).map_err(keep)?;
        let homes = Homes::open(&folder, home).map_err(keep)?;
        for entry in std::fs::read_dir(&folder).map_err(keep)? {
            let path = entry.map_err(keep)?.path();
            if path.extension().is_some_and(|extension| extension == PARTIAL) {
                sweep(&path).map_err(keep)?;
            } else if path.extension().is_some_and(|extension| extension == FORMER) {
                std::fs::rename(&path, path.with_extension("")).map_err(keep)?;
            }
        }
        let (names, locks, stamps) = (OnceLock::new(), Locks::default(), Stamps::default());
        Ok(Self(Arc::new(Inner { folder, limit, names, homes, locks, stamps })))
    }

    /// Says once who knows what this home's names want.
    pub(super) fn named_by(&self, names: impl Fn() -> Option<Claims> + Send + Sync + 'static) {
        // The registry is opened once.
        let _ = self.0.names.set(Box::new(names));
    }

    fn claims(&self) -> Option<Claims> {
        self.0.names.get()?()
    }

    /// Tells daemons that share the folder what this home's names want. Blocks for as long as the disk takes; so below.
    pub(super) fn tell(&self) -> Result<(), ModelError> {
        let Some(claims) = self.claims() else { return Ok(()) };
        self.0.homes.tell(&claims).map_err(|source| self.unusable(source))
    }

    fn unusable(&self, source: io::Error) -> ModelError {
        ModelError::Keep { path: self.0.folder.clone(), source }
    }

    pub fn folder(&self) -> &Path {
        &self.0.folder
    }

    pub fn path(&self, digest: Digest) -> PathBuf {
        self.0.folder.join(digest.to_string())
    }

    /// Where what follows from a file is kept.
    fn beside(&self, digest: Digest) -> PathBuf {
        self.path(digest).with_extension(LAYOUT)
    }

    pub(super) fn layout(&self, digest: Digest) -> Option<Vec<u8>> {
        std::fs::read(self.beside(digest)).ok()
    }

    pub(super) fn keep_layout(&self, digest: Digest, layout: &[u8]) -> Result<(), ModelError> {
        let mut partial = self.partial()?;
        let keep = |source| ModelError::Keep { path: self.beside(digest), source };
        partial.file.write_all(layout).and_then(|()| partial.file.sync_all()).map_err(keep)?;
        std::fs::rename(&partial.path, self.beside(digest)).map_err(keep)
    }

    /// Takes a file in; it is there under its digest afterwards, or not at all.
    pub async fn receive<E: std::fmt::Display>(
        &self,
        mut stream: impl Stream<Item = Result<Bytes, E>> + Unpin,
    ) -> Result<Upload, ModelError> {
        let partial = self.partial()?;
        let path = partial.path.clone();
        let keep = |source| ModelError::Keep { path: path.clone(), source };
        let mut file = tokio::fs::File::from_std(partial.file.try_clone().map_err(keep)?);
        let (mut hash, mut bytes) = (Sha256::new(), 0u64);
        let limit = self.0.limit.map_or(FILE_BYTES_MAX, |limit| limit.min(FILE_BYTES_MAX));
        while let Some(part) = stream.next().await {
            let part = part.map_err(|error| ModelError::Upload { message: error.to_string() })?;
            bytes += part.len() as u64;
            if bytes > limit {
                return Err(ModelError::TooLarge { limit });
            }
            hash.update(&part);
            file.write_all(&part).await.map_err(keep)?;
        }
        file.sync_all().await.map_err(keep)?;
        let upload = Upload { digest: Digest::new(hash.finalize().into()), bytes };
        let blobs = self.clone();
        let taken = tokio::task::spawn_blocking(move || blobs.take_in(&partial, upload));
        taken.await.expect("taking a file in does not panic")
    }

    /// Gives what was written aside its place, with room made for it, and leases it.
    fn take_in(&self, partial: &Partial, upload: Upload) -> Result<Upload, ModelError> {
        let (digest, path) = (upload.digest, self.path(upload.digest));
        let keep = |source| ModelError::Keep { path: path.clone(), source };
        let _turn = self.0.homes.turn().map_err(keep)?;
        if self.0.stamps.knows(digest, &path).map_err(keep)? {
            // The other one stays: somebody may have it open.
            self.0.locks.lease(digest, &path).map_err(keep)?;
            return Ok(upload);
        }
        self.make_room(upload.bytes, digest)?;
        std::fs::rename(&partial.path, &path).map_err(keep)?;
        if let Some(stamp) = Stamp::of(&path).map_err(keep)? {
            self.0.stamps.note(digest, stamp);
        }
        self.0.locks.written(digest, partial.file.try_clone().map_err(keep)?);
        Ok(upload)
    }

    /// Has files go, least recently used first, until `wanted` bytes fit. Its caller has the turn.
    fn make_room(&self, wanted: u64, coming: Digest) -> Result<(), ModelError> {
        let Some(limit) = self.0.limit else { return Ok(()) };
        let own = self.claims();
        let others = self.0.homes.others().map_err(|source| self.unusable(source))?;
        let mut kept = self.kept(own.as_ref(), &others)?;
        kept.retain(|file| file.digest != coming);
        let (may_go, mut missing) = room(&kept, wanted, limit).map_err(ModelError::Full)?;
        for Kept { digest, bytes, .. } in may_go {
            if missing == 0 {
                break;
            }
            if self.evict(digest)? {
                tracing::info!(%digest, bytes, "a model's file has made room for another");
                missing = missing.saturating_sub(bytes);
            }
        }
        if missing == 0 {
            return Ok(());
        }
        // Other daemons have loaded what was to go.
        Err(ModelError::Full(Full { wanted, limit, in_use: missing, ..Full::default() }))
    }

    /// Fails when no room can be made for a file of so many bytes.
    pub(super) fn has_room(&self, wanted: u64) -> Result<(), ModelError> {
        let Some(limit) = self.0.limit else { return Ok(()) };
        let others = self.0.homes.others().map_err(|source| self.unusable(source))?;
        let kept = self.kept(self.claims().as_ref(), &others)?;
        room(&kept, wanted, limit).map(drop).map_err(ModelError::Full)
    }

    fn kept(&self, own: Option<&Claims>, others: &Claims) -> Result<Vec<Kept>, ModelError> {
        let mut kept = Vec::new();
        for (digest, path) in self.files()? {
            // It may have gone meanwhile, through another daemon.
            let Ok(found) = path.metadata() else { continue };
            let beside = self.beside(digest).metadata().map_or(0, |beside| beside.len());
            kept.push(Kept {
                digest,
                bytes: found.len() + beside,
                own: own.and_then(|own| own.get(&digest)).copied(),
                others: others.get(&digest).copied(),
                in_use: own.is_none() || self.0.locks.holds(digest),
            });
        }
        Ok(kept)
    }

    fn files(&self) -> Result<Vec<(Digest, PathBuf)>, ModelError> {
        let mut files = Vec::new();
        for entry in std::fs::read_dir(&self.0.folder).map_err(|source| self.unusable(source))? {
            let path = entry.map_err(|source| self.unusable(source))?.path();
            if let Some(digest) = path.file_name().and_then(|name| name.to_str()?.parse().ok()) {
                files.push((digest, path));
            }
        }
        Ok(files)
    }

    /// Removes a file that nobody needs at the moment; what is kept beside it stays, for when it comes back.
    fn evict(&self, digest: Digest) -> Result<bool, ModelError> {
        let path = self.path(digest);
        let gone = self.0.locks.remove(digest, &path, false, || Ok(true));
        gone.map_err(|source| ModelError::Keep { path, source })
    }

    /// Removes a damaged file, whoever holds it: what they hold is open.
    pub(super) fn discard(&self, digest: Digest) -> Result<(), ModelError> {
        let path = self.path(digest);
        match std::fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(ModelError::Keep { path, source: error })
            }
            _ => Ok(()),
        }
    }

    /// Holds these files where they are, whole or not; says which are there.
    pub(super) fn hold(
        &self,
        files: impl IntoIterator<Item = Digest>,
    ) -> Result<(Held, BTreeSet<Digest>), ModelError> {
        let (mut held, mut there) = (Held::default(), BTreeSet::new());
        for digest in files {
            let path = self.path(digest);
            let file = self.0.locks.hold(digest, &path);
            if let Some(file) = file.map_err(|source| ModelError::Keep { path, source })? {
                held.add(file);
                there.insert(digest);
            }
        }
        Ok((held, there))
    }

    /// Keeps what has come and has no name, until somebody gives it one or nobody has for long.
    pub(super) fn lease(&self, digest: Digest) -> Result<(), ModelError> {
        let path = self.path(digest);
        self.0.locks.lease(digest, &path).map_err(|source| ModelError::Keep { path, source })
    }

    /// Whoever leased it needs it no more.
    pub(super) fn release(&self, digest: Digest) {
        self.0.locks.release(digest);
    }

    /// Whether a file is what its digest says, which is found out once as long as it does not change.
    pub(super) fn check(&self, digest: Digest) -> Result<Soundness, ModelError> {
        let path = self.path(digest);
        self.0.stamps.check(digest, &path).map_err(|source| ModelError::Keep { path, source })
    }

    /// The same, found out anew by whoever asks next.
    pub(super) fn doubt(&self, digest: Digest) {
        self.0.stamps.forget(digest);
    }

    /// What was read of a file to its end, with what it looked like before.
    pub(super) fn vouch(&self, digest: Digest, seen: Option<Stamp>) {
        if let Some(stamp) = seen {
            self.0.stamps.note(digest, stamp);
        }
    }

    pub(super) fn seen(&self, digest: Digest) -> Option<Stamp> {
        Stamp::of(&self.path(digest)).ok().flatten()
    }

    pub fn has(&self, digest: Digest) -> bool {
        self.path(digest).is_file()
    }

    pub fn bytes(&self, digest: Digest) -> Result<u64, ModelError> {
        let path = self.path(digest);
        let metadata = std::fs::metadata(&path).map_err(|source| ModelError::Keep { path, source })?;
        Ok(metadata.len())
    }

    /// Keeps bytes that are here.
    pub(super) fn put(&self, bytes: &[u8]) -> Result<Upload, ModelError> {
        let partial = self.partial()?;
        let keep = |source| ModelError::Keep { path: partial.path.clone(), source };
        (&partial.file).write_all(bytes).and_then(|()| partial.file.sync_all()).map_err(keep)?;
        let digest = Digest::new(Sha256::digest(bytes).into());
        self.take_in(&partial, Upload { digest, bytes: bytes.len() as u64 })
    }

    /// Keeps what `write` writes; it is there under its digest afterwards, or not at all.
    pub(super) fn write<E: From<ModelError>>(
        &self,
        write: impl FnOnce(&mut dyn Write) -> Result<(), E>,
    ) -> Result<Upload, E> {
        let partial = self.partial()?;
        let keep = |source| ModelError::Keep { path: partial.path.clone(), source };
        let file = BufWriter::with_capacity(1 << 20, &partial.file);
        let mut out = Hashing { file, hash: Sha256::new(), bytes: 0 };
        write(&mut out)?;
        out.file.flush().and_then(|()| partial.file.sync_all()).map_err(keep)?;
        let upload = Upload { digest: Digest::new(out.hash.finalize().into()), bytes: out.bytes };
        Ok(self.take_in(&partial, upload)?)
    }

    /// A file of one's own to write to, which other daemons leave alone.
    fn partial(&self) -> Result<Partial, ModelError> {
        loop {
            let path = self.0.folder.join(format!("{:032x}.{PARTIAL}", rand::random::<u128>()));
            let keep = |source| ModelError::Keep { path: path.clone(), source };
            let file = File::options().read(true).write(true).create_new(true).open(&path).map_err(keep)?;
            file.lock_shared().map_err(keep)?;
            // A daemon that started in between has taken it for a leftover.
            if lies_at(&file, &path).map_err(keep)? {
                return Ok(Partial { path, file });
            }
        }
    }

    /// What a file is, which is on the disk to the last byte afterwards.
    pub(super) fn weigh(file: &Path) -> Result<Upload, ModelError> {
        let keep = |source| ModelError::Keep { path: file.to_owned(), source };
        let reader = File::open(file).map_err(keep)?;
        let bytes = reader.metadata().map_err(keep)?.len();
        if bytes > FILE_BYTES_MAX {
            return Err(ModelError::TooLarge { limit: FILE_BYTES_MAX });
        }
        reader.sync_all().map_err(keep)?;
        Ok(Upload { digest: stamps::hash(reader).map_err(keep)?, bytes })
    }

    /// Takes over a weighed file; it is there under its digest afterwards, or as it was.
    pub(super) fn adopt(&self, file: &Path, weighed: Upload) -> Result<Upload, ModelError> {
        let keep = |source| ModelError::Keep { path: file.to_owned(), source };
        let partial = self.partial()?;
        match std::fs::rename(file, &partial.path) {
            Ok(()) => {
                let moved = File::open(&partial.path).map_err(keep)?;
                moved.lock_shared().map_err(keep)?;
                self.take_in(&Partial { file: moved, path: partial.path.clone() }, weighed)
            }
            // The folder is on another disk.
            Err(error) if error.kind() == io::ErrorKind::CrossesDevices => {
                let copied = File::open(file).and_then(|from| io::copy(&mut &from, &mut &partial.file));
                copied.and_then(|_| partial.file.sync_all()).map_err(keep)?;
                let copy = Self::weigh(&partial.path)?;
                if copy != weighed {
                    return Err(ModelError::Changed { digest: weighed.digest, found: copy.digest });
                }
                self.take_in(&partial, weighed)
            }
            Err(error) => Err(keep(error)),
        }
    }

    /// Removes a file that none of this home's names needs, unless other daemons or homes do; says whether it has gone.
    pub(super) fn remove(&self, digest: Digest) -> bool {
        let path = self.path(digest);
        let unneeded = || Ok(!self.0.homes.others()?.contains_key(&digest));
        let gone = self.0.locks.remove(digest, &path, true, unneeded).unwrap_or_else(|error| {
            tracing::warn!(%digest, %error, "a model's file was not removed");
            false
        });
        if gone {
            self.0.stamps.forget(digest);
            // Absent when nobody asked for it.
            let _ = std::fs::remove_file(self.beside(digest));
        }
        gone
    }

    /// Whether somebody has yet to name it.
    pub(super) fn leased(&self, digest: Digest) -> bool {
        self.0.locks.leased(digest)
    }

    /// Removes files that neither these nor other homes' names nor other daemons need.
    pub fn keep_only(&self, wanted: &BTreeSet<Digest>) -> Result<(), ModelError> {
        let others = self.0.homes.others().map_err(|source| self.unusable(source))?;
        let needless = |digest: &Digest| !wanted.contains(digest) && !others.contains_key(digest);
        for (digest, _) in self.files()?.into_iter().filter(|(digest, _)| needless(digest)) {
            self.remove(digest);
        }
        for entry in std::fs::read_dir(&self.0.folder).map_err(|source| self.unusable(source))? {
            let path = entry.map_err(|source| self.unusable(source))?.path();
            let of = path.file_name().and_then(|name| name.to_str()?.strip_suffix(LAYOUT)?.strip_suffix('.'));
            let of: Option<Digest> = of.and_then(|of| of.parse().ok());
            // That of a file that is away stays for when it comes back.
            if of.is_some_and(|of| needless(&of) && !self.has(of)) {
                let _ = std::fs::remove_file(&path);
            }
        }
        Ok(())
    }
}

/// Removes what a daemon left that wrote it; one that still writes has it locked.
fn sweep(partial: &Path) -> io::Result<()> {
    let removed = File::open(partial).and_then(|file| match file.try_lock() {
        Ok(()) => std::fs::remove_file(partial),
        Err(_) => Ok(()),
    });
    match removed {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

struct Hashing<'a> {
    file: BufWriter<&'a File>,
    hash: Sha256,
    bytes: u64,
}

impl Write for Hashing<'_> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let written = self.file.write(bytes)?;
        self.hash.update(&bytes[..written]);
        self.bytes += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.file.flush()
    }
}

/// A file that goes away unless it was renamed.
struct Partial {
    path: PathBuf,
    file: File,
}

impl Drop for Partial {
    fn drop(&mut self) {
        // Absent after the rename, which is the good case.
        let _ = std::fs::remove_file(&self.path);
    }
}
