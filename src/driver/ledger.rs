//! The run directory and its ledger: what this daemon has started, so that somebody else can end it.
//!
//! A line is one `write` to a file opened for appending: it outlives the daemon's SIGKILL at once,
//! and `fsync` follows so that it outlives the machine's as far as the disk does.
//! Nothing is ever taken back: whether an entry still lives is checked when it is swept.

use std::{
    fs,
    io::{self, Write as _},
    os::unix::fs::{DirBuilderExt as _, MetadataExt as _},
    path::{Path, PathBuf},
    sync::Arc,
};

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::{
    display, procs,
    sweep::{self, Claim, Leader},
};

/// Bytes of the run directory's hash in the scratch directory's name: no two runs of a machine meet.
const SCRATCH_HASH: usize = 6;

/// Less than this and a browser's profile, with the code that it caches, may fill the disk;
/// what a browser does then is not to be foreseen.
const ROOM_MIB: u64 = 64;

#[derive(Debug, thiserror::Error)]
pub enum LedgerError {
    #[error("could not {action} {path}: {source}")]
    Io { action: &'static str, path: PathBuf, source: io::Error },
    #[error("{name:?} cannot name a process: use a-z, 0-9 and -")]
    Name { name: String },
    #[error("no room for a profile: {path} has {left_mib} MiB left, and a browser wants {ROOM_MIB}")]
    NoRoom { path: PathBuf, left_mib: u64 },
    #[error("processes {pids:?} of {path} would not end")]
    Survivors { path: PathBuf, pids: Vec<i32> },
}

/// One daemon's directory, `HOME/run/PID-START`.
#[derive(Debug)]
pub struct RunDir {
    path: PathBuf,
    scratch: PathBuf,
    ledger: fs::File,
}

/// Where one process may write: both end with it.
#[derive(Clone, Debug)]
pub struct Folders {
    pub(super) name: String,
    /// Below the run directory; holds the profile. Its path is the process's marker.
    pub(super) own: PathBuf,
    pub(super) profile: PathBuf,
    /// For `TMPDIR`, outside of the run directory: Chromium aborts when the path of its socket there
    /// exceeds the 107 bytes that a socket's address holds, and a home's path may be long.
    pub(super) scratch: PathBuf,
}

impl Folders {
    /// Removes both; what cannot be removed now is the guardian's to remove.
    pub(super) fn abandon(&self) {
        for folder in [&self.own, &self.scratch] {
            if let Err(error) = remove(folder) {
                tracing::warn!(name = self.name, %error, "left for the guardian");
            }
        }
    }
}

#[derive(Serialize, Deserialize)]
#[serde(tag = "line", rename_all = "snake_case", deny_unknown_fields)]
enum Line {
    Daemon {
        pid: i32,
        start: u64,
        boot: String,
        scratch: PathBuf,
    },
    Process {
        name: String,
        pid: i32,
        group: i32,
        start: u64,
        profile: PathBuf,
    },
    /// An orphan of a process of ours.
    Adopted {
        pid: i32,
        start: u64,
    },
}

impl RunDir {
    /// Makes the directory of this process.
    pub fn create(home: &Path) -> Result<Arc<Self>, LedgerError> {
        let pid = std::process::id().cast_signed();
        let start = procs::read(pid).map_or(0, |own| own.start);
        let runs = home.join("run");
        make_private(&runs, true)?;
        let runs = runs.canonicalize().map_err(failed("resolve", &runs))?;
        let path = runs.join(format!("{pid}-{start}"));
        make_private(&path, false)?;
        let file = path.join("ledger");
        let ledger = fs::OpenOptions::new()
            .create_new(true)
            .append(true)
            .open(&file)
            .map_err(failed("create", &file))?;
        let scratch = std::env::temp_dir().join(scratch_name(&path));
        let run = Self { path, scratch, ledger };
        run.append(&Line::Daemon { pid, start, boot: procs::boot(), scratch: run.scratch.clone() })?;
        make_private(&run.scratch, false)?;
        Ok(Arc::new(run))
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Ends and removes what the run still has, in the place of a guardian that cannot. It blocks.
    pub fn clear(&self) -> Result<usize, LedgerError> {
        let mut account = Account::read(&self.path);
        account.scratch.get_or_insert_with(|| self.scratch.clone());
        clear(&self.path, account)
    }

    /// Makes the folders of a process about to start.
    pub(super) fn folders(&self, name: &str) -> Result<Folders, LedgerError> {
        let allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
        if name.is_empty() || !name.bytes().all(allowed) {
            return Err(LedgerError::Name { name: name.to_owned() });
        }
        has_room(&self.path)?;
        has_room(&self.scratch)?;
        let own = self.path.join(name);
        let folders = Folders {
            name: name.to_owned(),
            profile: own.join("profile"),
            own,
            scratch: self.scratch.join(name),
        };
        // An earlier process of this name has ended, but its folders could not be removed then.
        remove(&folders.own)?;
        remove(&folders.scratch)?;
        for folder in [&folders.own, &folders.profile, &folders.scratch] {
            make_private(folder, false)?;
        }
        Ok(folders)
    }

    /// Writes a started process down; the caller has `fsync` follow through the file that comes back.
    pub(super) fn enter(&self, folders: &Folders, leader: Leader) -> Result<fs::File, LedgerError> {
        self.append(&Line::Process {
            name: folders.name.clone(),
            pid: leader.pid,
            group: leader.pid,
            start: leader.start,
            profile: folders.profile.clone(),
        })?;
        self.ledger.try_clone().map_err(failed("share", &self.path))
    }

    /// Writes an orphan down that has come to us.
    pub(super) fn adopt(&self, orphan: Leader) -> Result<(), LedgerError> {
        self.append(&Line::Adopted { pid: orphan.pid, start: orphan.start })
    }

    fn append(&self, line: &Line) -> Result<(), LedgerError> {
        let mut text = serde_json::to_vec(line).expect("a ledger line is plain strings and numbers");
        text.push(b'\n');
        (&self.ledger).write_all(&text).map_err(failed("write the ledger of", &self.path))
    }
}

/// What a ledger says; lines that a crash cut short are passed over.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Account {
    pub(super) daemon: Option<Leader>,
    pub(super) boot: String,
    pub(super) scratch: Option<PathBuf>,
    pub(super) leaders: Vec<Leader>,
}

impl Account {
    pub(super) fn read(run_dir: &Path) -> Self {
        Self::parse(&fs::read(run_dir.join("ledger")).unwrap_or_default(), run_dir)
    }

    pub(super) fn parse(text: &[u8], run_dir: &Path) -> Self {
        let mut account = Self::default();
        for line in text.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
            match serde_json::from_slice(line) {
                Ok(Line::Daemon { pid, start, boot, scratch }) => {
                    account.daemon = Some(Leader { pid, start });
                    account.boot = boot;
                    account.scratch = Some(scratch);
                }
                Ok(Line::Process { pid, start, .. } | Line::Adopted { pid, start }) => {
                    account.leaders.push(Leader { pid, start });
                }
                Err(error) => {
                    let run = run_dir.display();
                    tracing::warn!(%run, %error, "a line of the ledger is not whole");
                }
            }
        }
        account
    }

    /// Whether its daemon is still running.
    pub(super) fn daemon_lives(&self) -> bool {
        let Some(daemon) = self.daemon else { return false };
        self.boot == procs::boot()
            && procs::read(daemon.pid).is_some_and(|now| now.start == daemon.start && !now.zombie)
    }
}

/// Ends every process of a run and removes all that it wrote; answers how many were killed.
pub(super) fn clear(run_dir: &Path, account: Account) -> Result<usize, LedgerError> {
    let same_boot = account.boot == procs::boot();
    let leaders = if same_boot { account.leaders.as_slice() } else { &[] };
    let killed = sweep::sweep(Claim { folder: run_dir, leaders })
        .map_err(|pids| LedgerError::Survivors { path: run_dir.to_owned(), pids })?;
    display::clear_after(run_dir);
    if let Some(scratch) = account.scratch.filter(|scratch| is_own_scratch(scratch, run_dir)) {
        remove(&scratch)?;
    }
    remove(run_dir)?;
    Ok(killed)
}

/// Removes a directory with all in it; one that is gone already is fine.
pub(super) fn remove(folder: &Path) -> Result<(), LedgerError> {
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(failed("remove", folder)(error)),
        _ => Ok(()),
    }
}

fn scratch_name(run_dir: &Path) -> String {
    let hash = Sha256::digest(run_dir.as_os_str().as_encoded_bytes());
    hash[..SCRATCH_HASH].iter().fold("weft-".to_owned(), |name, byte| format!("{name}{byte:02x}"))
}

/// The temporary directory is everybody's: what lies there under our name is ours only if we own it.
fn is_own_scratch(scratch: &Path, run_dir: &Path) -> bool {
    let named = scratch.file_name().is_some_and(|name| name == scratch_name(run_dir).as_str());
    let owned = fs::symlink_metadata(scratch)
        .is_ok_and(|metadata| metadata.is_dir() && metadata.uid() == nix::unistd::geteuid().as_raw());
    named && owned
}

fn has_room(folder: &Path) -> Result<(), LedgerError> {
    // Where the system does not tell, the browser finds out.
    let Ok(room) = nix::sys::statvfs::statvfs(folder) else { return Ok(()) };
    let left_mib = (room.blocks_available() * room.fragment_size()) >> 20;
    if left_mib < ROOM_MIB { Err(LedgerError::NoRoom { path: folder.to_owned(), left_mib }) } else { Ok(()) }
}

fn make_private(folder: &Path, with_parents: bool) -> Result<(), LedgerError> {
    fs::DirBuilder::new().mode(0o700).recursive(with_parents).create(folder).map_err(failed("create", folder))
}

fn failed(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> LedgerError {
    let path = path.to_owned();
    move |source| LedgerError::Io { action, path, source }
}
