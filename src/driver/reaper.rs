//! Orphans of our browsers: crash helpers and double forks come to us instead of to the system's first process.
//!
//! Those that have ended are reaped, each by its own number: a wait for any child would take the ends of the
//! runtime's own children from their waiters. Those that live are written to the ledger, because an orphan that left
//! its group and cleared its environment can be told by nothing else; the run's sweep ends them.
//!
//! As a container's first process we also inherit what others started in it. Such a stranger is reaped and never
//! written down.

use std::{
    collections::HashSet,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use super::{
    ledger::RunDir,
    procs::{self, Proc},
    spawner,
    sweep::Leader,
};
use crate::tasks::Tasks;

/// No event tells that an orphan has come to us. One that is not found by its group or mark lives unnoticed
/// for as long as this; a look costs some milliseconds of one core.
const LOOK_EVERY: Duration = Duration::from_secs(5);

#[derive(Debug, thiserror::Error)]
pub enum ReaperError {
    #[error("could not ask the kernel for the orphans of browsers: {source}")]
    Adopt { source: std::io::Error },
    #[error("could not listen for the ends of processes: {source}")]
    Listen { source: std::io::Error },
}

pub struct Reaper {
    run: Arc<RunDir>,
    noted: Mutex<HashSet<Leader>>,
}

impl Reaper {
    /// Adopts orphans from now on. Every child of this process must come from the spawning thread, or its end is
    /// taken from whoever waits for it.
    pub fn start(run: Arc<RunDir>, tasks: &Tasks) -> Result<Arc<Self>, ReaperError> {
        use tokio::signal::unix::{SignalKind, signal};
        adopt()?;
        let mut ends = signal(SignalKind::child()).map_err(|source| ReaperError::Listen { source })?;
        let reaper = Arc::new(Self { run, noted: Mutex::default() });
        let (own, stopping) = (Arc::clone(&reaper), tasks.stopping());
        tasks.spawn("reaper", async move {
            loop {
                tokio::select! {
                    _ = ends.recv() => {}
                    () = tokio::time::sleep(LOOK_EVERY) => {}
                    () = stopping.cancelled() => return,
                }
                let reaper = Arc::clone(&own);
                let looked = tokio::task::spawn_blocking(move || reaper.look()).await;
                looked.expect("a look at the process table does not panic");
            }
        });
        Ok(reaper)
    }

    /// Reaps the adopted that have ended and writes the others down. It blocks for some milliseconds.
    pub fn look(&self) {
        let me = std::process::id().cast_signed();
        let mut noted = self.noted.lock().unwrap_or_else(PoisonError::into_inner);
        // While it is held nobody is started, so whoever is no child of ours in the list is an adopted one.
        let own = spawner::own();
        let (ended, alive): (Vec<Proc>, Vec<Proc>) =
            adopted(procs::children(me), &own).into_iter().partition(|proc| proc.zombie);
        ended.iter().for_each(reap);
        drop(own);
        noted.retain(|leader| alive.iter().any(|proc| proc.pid == leader.pid && proc.start == leader.start));
        if is_first() {
            return;
        }
        for proc in &alive {
            let leader = Leader { pid: proc.pid, start: proc.start };
            if noted.insert(leader)
                && let Err(error) = self.run.adopt(leader)
            {
                tracing::warn!(%error, pid = proc.pid, "an orphan is not in the ledger");
            }
        }
    }
}

/// Children that nobody here started.
pub(super) fn adopted(children: Vec<Proc>, own: &[Leader]) -> Vec<Proc> {
    let known = |proc: &Proc| {
        let start = |leader: &Leader| [proc.start, spawner::UNKNOWN].contains(&leader.start);
        own.iter().any(|leader| leader.pid == proc.pid && start(leader))
    };
    children.into_iter().filter(|proc| !known(proc)).collect()
}

/// Whether we are the first process of a container: what comes to us then need not be ours.
fn is_first() -> bool {
    std::process::id() == 1
}

#[cfg(target_os = "linux")]
fn adopt() -> Result<(), ReaperError> {
    let me = rustix::process::getpid();
    rustix::process::set_child_subreaper(Some(me))
        .map_err(|error| ReaperError::Adopt { source: error.into() })
}

#[cfg(target_os = "linux")]
fn reap(ended: &Proc) {
    use rustix::process::{Pid, WaitOptions, waitpid};
    // Its number is its own until this call: only a parent can free it.
    if let Some(pid) = Pid::from_raw(ended.pid) {
        match waitpid(Some(pid), WaitOptions::NOHANG) {
            Ok(_) => tracing::debug!(pid = ended.pid, "reaped an orphan"),
            Err(error) => tracing::warn!(pid = ended.pid, %error, "an orphan was not reaped"),
        }
    }
}

#[cfg(not(target_os = "linux"))]
fn adopt() -> Result<(), ReaperError> {
    Ok(())
}

#[cfg(not(target_os = "linux"))]
fn reap(_ended: &Proc) {}
