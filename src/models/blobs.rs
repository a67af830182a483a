//! Files by digest: models, what their weights lie in, what belongs to them. In one folder, without an extension, so that
//! a model finds its weights beside it by their digest; each is written aside and renamed when it is whole.

use std::{
    collections::BTreeSet,
    io::{BufWriter, Write},
    path::{Path, PathBuf},
};

use bytes::Bytes;
use futures_util::{Stream, StreamExt};
use sha2::{Digest as _, Sha256};
use tokio::io::AsyncWriteExt;

use super::ModelError;
use crate::{domain::Digest, onnx::convert::ConvertError};

/// What one file may have: weights for a hundred thousand million parameters lie in several.
const FILE_BYTES_MAX: u64 = 64 << 30;

/// Marks files that are still being written.
const PARTIAL: &str = "partial";

/// Marks what is kept of a file's layout in blocks, beside it.
const LAYOUT: &str = "layout";
/// What an earlier weft called models' files.
const FORMER: &str = "onnx";

#[derive(Clone)]
pub struct Blobs {
    folder: PathBuf,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Upload {
    pub digest: Digest,
    pub bytes: u64,
}

impl Blobs {
    /// Opens the folder and removes what an earlier daemon did not finish.
    pub fn open(folder: PathBuf) -> Result<Self, ModelError> {
        let keep = |source| ModelError::Keep { path: folder.clone(), source };
        std::fs::create_dir_all(&folder).map_err(keep)?;
        for entry in std::fs::read_dir(&folder).map_err(keep)? {
            let path = entry.map_err(keep)?.path();
            if path.extension().is_some_and(|extension| extension == PARTIAL) {
                std::fs::remove_file(&path).map_err(keep)?;
            } else if path.extension().is_some_and(|extension| extension == FORMER) {
                std::fs::rename(&path, path.with_extension("")).map_err(keep)?;
            }
        }
        Ok(Self { folder })
    }

    pub fn folder(&self) -> &Path {
        &self.folder
    }

    pub fn path(&self, digest: Digest) -> PathBuf {
        self.folder.join(digest.to_string())
    }

    /// Where what follows from a file is kept. Blocks for as long as the disk takes; so below.
    fn beside(&self, digest: Digest) -> PathBuf {
        self.path(digest).with_extension(LAYOUT)
    }

    pub(super) fn layout(&self, digest: Digest) -> Option<Vec<u8>> {
        std::fs::read(self.beside(digest)).ok()
    }

    pub(super) fn keep_layout(&self, digest: Digest, layout: &[u8]) -> Result<(), ModelError> {
        let partial = self.partial();
        let keep = |source| ModelError::Keep { path: partial.0.clone(), source };
        let mut file = std::fs::File::create(&partial.0).map_err(keep)?;
        file.write_all(layout).and_then(|()| file.sync_all()).map_err(keep)?;
        std::fs::rename(&partial.0, self.beside(digest)).map_err(keep)
    }

    /// Takes a file in; it is there under its digest afterwards, or not at all.
    pub async fn receive<E: std::fmt::Display>(
        &self,
        mut stream: impl Stream<Item = Result<Bytes, E>> + Unpin,
    ) -> Result<Upload, ModelError> {
        let partial = self.partial();
        let keep = |source| ModelError::Keep { path: partial.0.clone(), source };
        let mut file = tokio::fs::File::create(&partial.0).await.map_err(keep)?;
        let (mut hash, mut bytes) = (Sha256::new(), 0u64);
        while let Some(part) = stream.next().await {
            let part = part.map_err(|error| ModelError::Upload { message: error.to_string() })?;
            bytes += part.len() as u64;
            if bytes > FILE_BYTES_MAX {
                return Err(ModelError::TooLarge { limit: FILE_BYTES_MAX });
            }
            hash.update(&part);
            file.write_all(&part).await.map_err(keep)?;
        }
        file.sync_all().await.map_err(keep)?;
        let digest = Digest::new(hash.finalize().into());
        tokio::fs::rename(&partial.0, self.path(digest)).await.map_err(keep)?;
        Ok(Upload { digest, bytes })
    }

    pub fn has(&self, digest: Digest) -> bool {
        self.path(digest).is_file()
    }

    pub fn bytes(&self, digest: Digest) -> Result<u64, ModelError> {
        let path = self.path(digest);
        let metadata = std::fs::metadata(&path).map_err(|source| ModelError::Keep { path, source })?;
        Ok(metadata.len())
    }

    /// Keeps bytes that are here. Blocks for as long as the disk takes.
    pub(super) fn put(&self, bytes: &[u8]) -> Result<Upload, ModelError> {
        let digest = Digest::new(Sha256::digest(bytes).into());
        let partial = self.partial();
        let keep = |source| ModelError::Keep { path: partial.0.clone(), source };
        let mut file = std::fs::File::create(&partial.0).map_err(keep)?;
        file.write_all(bytes).and_then(|()| file.sync_all()).map_err(keep)?;
        std::fs::rename(&partial.0, self.path(digest)).map_err(keep)?;
        Ok(Upload { digest, bytes: bytes.len() as u64 })
    }

    /// Keeps what `write` writes; it is there under its digest afterwards, or not at all. Blocks as `put` does.
    pub(super) fn write(
        &self,
        write: impl FnOnce(&mut dyn Write) -> Result<(), ConvertError>,
    ) -> Result<Upload, ModelError> {
        let partial = self.partial();
        let keep = |source| ModelError::Keep { path: partial.0.clone(), source };
        let file = std::fs::File::create(&partial.0).map_err(keep)?;
        let mut out =
            Hashing { file: BufWriter::with_capacity(1 << 20, file), hash: Sha256::new(), bytes: 0 };
        write(&mut out)?;
        out.file.flush().and_then(|()| out.file.get_ref().sync_all()).map_err(keep)?;
        let digest = Digest::new(out.hash.finalize().into());
        std::fs::rename(&partial.0, self.path(digest)).map_err(keep)?;
        Ok(Upload { digest, bytes: out.bytes })
    }

    fn partial(&self) -> Partial {
        Partial(self.folder.join(format!("{:032x}.{PARTIAL}", rand::random::<u128>())))
    }

    /// What a file is, which is on the disk to the last byte afterwards. Blocks for as long as the disk takes.
    pub(super) fn weigh(file: &Path) -> Result<Upload, ModelError> {
        let keep = |source| ModelError::Keep { path: file.to_owned(), source };
        let (mut reader, mut hash) = (std::fs::File::open(file).map_err(keep)?, Sha256::new());
        let bytes = reader.metadata().map_err(keep)?.len();
        if bytes > FILE_BYTES_MAX {
            return Err(ModelError::TooLarge { limit: FILE_BYTES_MAX });
        }
        let mut chunk = vec![0; 1 << 20];
        loop {
            match std::io::Read::read(&mut reader, &mut chunk).map_err(keep)? {
                0 => break,
                read => hash.update(&chunk[..read]),
            }
        }
        reader.sync_all().map_err(keep)?;
        Ok(Upload { digest: Digest::new(hash.finalize().into()), bytes })
    }

    /// Takes over a weighed file of the same disk; it is there under its digest afterwards, or as it was.
    pub(super) fn adopt(&self, file: &Path, weighed: Upload) -> Result<Upload, ModelError> {
        let keep = |source| ModelError::Keep { path: file.to_owned(), source };
        std::fs::rename(file, self.path(weighed.digest)).map_err(keep)?;
        Ok(weighed)
    }

    pub fn remove(&self, digest: Digest) {
        if let Err(error) = std::fs::remove_file(self.path(digest)) {
            tracing::warn!(%digest, %error, "a model's file was not removed");
        }
        // Absent when nobody asked for it.
        let _ = std::fs::remove_file(self.beside(digest));
    }

    /// Removes files that no name points to.
    pub fn keep_only(&self, wanted: &BTreeSet<Digest>) -> Result<(), ModelError> {
        let keep = |source| ModelError::Keep { path: self.folder.clone(), source };
        for entry in std::fs::read_dir(&self.folder).map_err(keep)? {
            let path = entry.map_err(keep)?.path();
            let name = path.file_name().and_then(|name| name.to_str());
            let name = name.map(|name| {
                name.strip_suffix(LAYOUT).and_then(|name| name.strip_suffix('.')).unwrap_or(name)
            });
            let digest = name.and_then(|name| name.parse().ok());
            if digest.is_some_and(|digest: Digest| !wanted.contains(&digest)) {
                std::fs::remove_file(&path).map_err(keep)?;
            }
        }
        Ok(())
    }
}

struct Hashing {
    file: BufWriter<std::fs::File>,
    hash: Sha256,
    bytes: u64,
}

impl Write for Hashing {
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
struct Partial(PathBuf);

impl Drop for Partial {
    fn drop(&mut self) {
        // Absent after the rename, which is the good case.
        let _ = std::fs::remove_file(&self.0);
    }
}
