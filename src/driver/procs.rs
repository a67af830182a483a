//! Reads the process table. It never sends a signal.
//!
//! Only Linux has one here: elsewhere nothing is found, so nothing is claimed and nothing killed.

use std::{
    collections::BTreeSet,
    ffi::OsStr,
    fs,
    os::unix::ffi::OsStrExt as _,
    path::{Path, PathBuf},
};

/// The variable that every process we start carries: its own directory under the run directory.
/// It is inherited across `setsid` and reparenting.
pub(super) const MARKER: &str = "WEFT_RUN";

/// Fields of `/proc/PID/stat` after the command's closing parenthesis, counted from 0.
const STATE: usize = 0;
const PARENT: usize = 1;
const GROUP: usize = 2;
const START: usize = 19;

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Proc {
    pub(super) pid: i32,
    pub(super) parent: i32,
    pub(super) group: i32,
    /// Clock ticks since the boot.
    pub(super) start: u64,
    /// Ended, waiting to be reaped.
    pub(super) zombie: bool,
    /// Command line and environment as the kernel shows them; empty where it does not.
    /// Chromium writes its command line over both, so either may hold the other's words.
    pub(super) words: Vec<u8>,
}

impl Proc {
    /// The directory that [`MARKER`] names.
    pub(super) fn marker(&self) -> Option<PathBuf> {
        let prefix = [MARKER.as_bytes(), b"="].concat();
        let word =
            self.words.split(|byte| *byte == 0).find_map(|word| word.strip_prefix(prefix.as_slice()))?;
        Some(PathBuf::from(OsStr::from_bytes(word)))
    }

    pub(super) fn mentions(&self, path: &Path) -> bool {
        let path = path.as_os_str().as_bytes();
        self.words.windows(path.len()).any(|window| window == path)
    }
}

/// One process, without its words.
pub(super) fn read(pid: i32) -> Option<Proc> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The command may hold spaces and parentheses itself.
    let (_, rest) = stat.rsplit_once(')')?;
    let fields: Vec<&str> = rest.split_whitespace().collect();
    Some(Proc {
        pid,
        parent: fields.get(PARENT)?.parse().ok()?,
        group: fields.get(GROUP)?.parse().ok()?,
        start: fields.get(START)?.parse().ok()?,
        zombie: matches!(*fields.get(STATE)?, "Z" | "X"),
        words: Vec::new(),
    })
}

/// The direct children of a process, without their words.
pub(super) fn children(parent: i32) -> Vec<Proc> {
    pids().into_iter().filter_map(read).filter(|proc| proc.parent == parent).collect()
}

fn pids() -> Vec<i32> {
    let Ok(entries) = fs::read_dir("/proc") else { return Vec::new() };
    entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect()
}

/// The bytes of memory that a process, its descendants and its group hold, each shared page counted once among those
/// who share it. `None` where the process is gone or the kernel does not tell.
///
/// It walks page tables, which takes milliseconds for a browser: not for the runtime's own threads.
pub fn memory(leader: i32) -> Option<u64> {
    let own = proportional(leader)?;
    let procs: Vec<_> = pids().into_iter().filter_map(read).collect();
    let others = family(leader, &procs).into_iter().filter(|pid| *pid != leader);
    // One that has ended since holds nothing.
    Some(own + others.filter_map(proportional).sum::<u64>())
}

/// A process with its descendants and those in its group, and theirs.
pub(super) fn family(leader: i32, procs: &[Proc]) -> BTreeSet<i32> {
    let mut family = BTreeSet::from([leader]);
    loop {
        let before = family.len();
        let ours = |proc: &&Proc| proc.group == leader || family.contains(&proc.parent);
        let found: Vec<i32> = procs.iter().filter(ours).map(|proc| proc.pid).collect();
        family.extend(found);
        if family.len() == before {
            return family;
        }
    }
}

/// The proportional set size of one process; a zombie has none.
fn proportional(pid: i32) -> Option<u64> {
    let rollup = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).ok()?;
    let kib = rollup.lines().find_map(|line| line.strip_prefix("Pss:")?.trim().strip_suffix("kB"))?;
    kib.trim().parse::<u64>().ok()?.checked_mul(1024)
}

/// Every process that we may see.
pub(super) fn all() -> Vec<Proc> {
    let whole = |pid: i32| {
        let mut proc = read(pid)?;
        for file in ["cmdline", "environ"] {
            proc.words.extend(fs::read(format!("/proc/{pid}/{file}")).unwrap_or_default());
            proc.words.push(0);
        }
        Some(proc)
    };
    pids().into_iter().filter_map(whole).collect()
}

/// Tells this boot from others: start times count from it.
pub(super) fn boot() -> String {
    fs::read_to_string("/proc/sys/kernel/random/boot_id").map(|id| id.trim().to_owned()).unwrap_or_default()
}
