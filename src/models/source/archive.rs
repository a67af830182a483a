//! Files out of an archive. No name in it ever becomes a path of ours.

use std::{
    cell::Cell,
    collections::BTreeMap,
    fs::File,
    io::{self, BufReader, Read, SeekFrom},
    path::{Path, PathBuf},
    rc::Rc,
};

use flate2::read::GzDecoder;
use zip::ZipArchive;

/// Packages hold thousands of files, the largest some ten thousands.
const MEMBERS_MAX: usize = 100_000;

/// A zip's list of members, which is read into memory as a whole.
const DIRECTORY_MAX: u64 = 32 << 20;

/// A tar's record of a long name, which is read into memory as a whole.
const RECORD_MAX: u64 = 1 << 20;

/// A zip ends in 22 bytes and a comment of at most 65,535.
const TAIL_MAX: u64 = 22 + 65_535;

#[derive(Debug, thiserror::Error)]
pub enum ArchiveError {
    #[error("is not readable: {0}")]
    Unreadable(String),
    #[error("is refused: it holds {member:?}, which leads out of it")]
    Traversal { member: String },
    #[error("is refused: more than {limit} {what} come out of it")]
    Bomb { limit: u64, what: &'static str },
    /// Not the archive's fault.
    #[error("could not use {}: {source}", path.display())]
    Keep { path: PathBuf, source: io::Error },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    Zip,
    /// Members lie in one folder, whose name does not count.
    TarGz,
}

/// An archive to take files out of.
pub struct Unpack<'a> {
    pub archive: &'a Path,
    /// Bytes that may come out of it.
    pub limit: u64,
}

impl Unpack<'_> {
    /// The plain files that it holds.
    pub fn names(&self, form: Form) -> Result<Vec<String>, ArchiveError> {
        match form {
            Form::Zip => zip_names(&self.zip()?),
            Form::TarGz => self.tar_names(),
        }
    }

    /// Writes files of those names to their paths, together of no more bytes than the limit.
    pub fn take(&self, form: Form, wanted: &BTreeMap<String, PathBuf>) -> Result<(), ArchiveError> {
        let mut left = self.limit;
        match form {
            Form::Zip => {
                let mut zip = self.zip()?;
                for (name, target) in wanted {
                    let member = zip.by_name(name).map_err(|error| wrong(&error))?;
                    if !member.is_file() {
                        return Err(wrong(&format!("{name:?} is no plain file")));
                    }
                    // What the list says is not believed, but where it says too much already there is nothing to read.
                    if member.size() > left {
                        return Err(ArchiveError::Bomb { limit: self.limit, what: "bytes" });
                    }
                    self.write(member, target, &mut left)?;
                }
                Ok(())
            }
            Form::TarGz => self.each(false, |entry| {
                if let Some(target) = named(entry)?.and_then(|name| wanted.get(&name)) {
                    self.write(entry, target, &mut left)?;
                }
                Ok(())
            }),
        }
    }

    fn open(&self) -> Result<BufReader<File>, ArchiveError> {
        let keep = |source| ArchiveError::Keep { path: self.archive.to_owned(), source };
        Ok(BufReader::with_capacity(1 << 16, File::open(self.archive).map_err(keep)?))
    }

    fn zip(&self) -> Result<ZipArchive<BufReader<File>>, ArchiveError> {
        let mut file = self.open()?;
        match directory_bytes(&mut file) {
            Ok(Some(bytes)) if bytes <= DIRECTORY_MAX => {}
            Ok(Some(_)) => return Err(ArchiveError::Bomb { limit: DIRECTORY_MAX, what: "bytes of names" }),
            Ok(None) => return Err(wrong("it does not end as a zip does")),
            Err(error) => return Err(wrong(&error)),
        }
        let zip = ZipArchive::new(file).map_err(|error| wrong(&error))?;
        if zip.len() > MEMBERS_MAX {
            return Err(ArchiveError::Bomb { limit: MEMBERS_MAX as u64, what: "files" });
        }
        Ok(zip)
    }

    fn write(&self, member: impl Read, target: &Path, left: &mut u64) -> Result<(), ArchiveError> {
        let keep = |source| ArchiveError::Keep { path: target.to_owned(), source };
        let mut file = File::create(target).map_err(keep)?;
        let (mut member, mut chunk) = (member.take(left.saturating_add(1)), vec![0; 1 << 16]);
        loop {
            let read = member.read(&mut chunk).map_err(|error| wrong(&error))?;
            if read == 0 {
                return Ok(());
            }
            *left = left
                .checked_sub(read as u64)
                .ok_or(ArchiveError::Bomb { limit: self.limit, what: "bytes" })?;
            io::Write::write_all(&mut file, &chunk[..read]).map_err(keep)?;
        }
    }

    /// Twice through: for records too long to be read, and for the names.
    fn tar_names(&self) -> Result<Vec<String>, ArchiveError> {
        let mut members = 0;
        self.each(true, |entry| {
            members += 1;
            let kind = entry.header().entry_type();
            let record = kind.is_gnu_longname()
                || kind.is_gnu_longlink()
                || kind.is_pax_global_extensions()
                || kind.is_pax_local_extensions();
            if members > MEMBERS_MAX {
                return Err(ArchiveError::Bomb { limit: MEMBERS_MAX as u64, what: "files" });
            }
            if record && entry.size() > RECORD_MAX {
                return Err(ArchiveError::Bomb { limit: RECORD_MAX, what: "bytes of a name" });
            }
            Ok(())
        })?;
        let mut files = Vec::new();
        self.each(false, |entry| {
            files.extend(named(entry)?);
            Ok(())
        })?;
        Ok(files)
    }

    /// Shows every member.
    fn each(
        &self,
        raw: bool,
        mut look: impl FnMut(&mut tar::Entry<'_, Bounded>) -> Result<(), ArchiveError>,
    ) -> Result<(), ArchiveError> {
        let over = Rc::new(Cell::new(false));
        let inner = GzDecoder::new(self.open()?);
        let mut tar = tar::Archive::new(Bounded { inner, left: self.limit, over: over.clone() });
        let told = |error: io::Error| {
            if over.get() { ArchiveError::Bomb { limit: self.limit, what: "bytes" } } else { wrong(&error) }
        };
        for entry in tar.entries().map_err(told)?.raw(raw) {
            match look(&mut entry.map_err(told)?) {
                Ok(()) => {}
                Err(_) if over.get() => return Err(ArchiveError::Bomb { limit: self.limit, what: "bytes" }),
                Err(error) => return Err(error),
            }
        }
        // The sum over all bytes stands behind the last of them.
        io::copy(&mut tar.into_inner(), &mut io::sink()).map_err(told)?;
        Ok(())
    }
}

fn wrong(problem: &(impl ToString + ?Sized)) -> ArchiveError {
    ArchiveError::Unreadable(problem.to_string())
}

fn stays(member: &str) -> Result<(), ArchiveError> {
    let leads_out = member.starts_with(['/', '\\'])
        || member.contains(['\0', ':'])
        || member.split(['/', '\\']).any(|part| part == "..");
    if leads_out { Err(ArchiveError::Traversal { member: member.to_owned() }) } else { Ok(()) }
}

fn zip_names(zip: &ZipArchive<BufReader<File>>) -> Result<Vec<String>, ArchiveError> {
    let mut files = Vec::new();
    for name in zip.file_names() {
        let name = name.map_err(|error| wrong(&error))?;
        stays(&name)?;
        if !name.ends_with('/') {
            files.push(name.into_owned());
        }
    }
    Ok(files)
}

/// A plain file's name below the archive's one folder.
fn named(entry: &tar::Entry<'_, impl Read>) -> Result<Option<String>, ArchiveError> {
    let name = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
    stays(&name)?;
    let below = name.split_once('/').map(|(_, below)| below.to_owned());
    Ok(below.filter(|_| entry.header().entry_type().is_file()))
}

/// What comes out of the compression, up to a limit.
struct Bounded {
    inner: GzDecoder<BufReader<File>>,
    left: u64,
    over: Rc<Cell<bool>>,
}

impl Read for Bounded {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(buffer)?;
        match self.left.checked_sub(read as u64) {
            Some(left) => self.left = left,
            None => {
                self.over.set(true);
                return Err(io::Error::other("too much comes out of it"));
            }
        }
        Ok(read)
    }
}

/// The size of a zip's list of members, from the record at its end; nothing when there is none.
fn directory_bytes(file: &mut (impl Read + io::Seek)) -> io::Result<Option<u64>> {
    let length = file.seek(SeekFrom::End(0))?;
    file.seek(SeekFrom::Start(length.saturating_sub(TAIL_MAX)))?;
    let mut tail = Vec::new();
    file.read_to_end(&mut tail)?;
    file.seek(SeekFrom::Start(0))?;
    let record = tail.windows(22).rev().find(|window| window.starts_with(b"PK\x05\x06"));
    // Where 32 bits do not suffice they are all ones, which is over any limit.
    Ok(record.map(|record| u32::from_le_bytes(record[12..16].try_into().expect("four bytes")).into()))
}
