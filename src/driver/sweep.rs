//! Ends every process of a run, and nothing else.
//!
//! A process is ours when the ledger names it (pid and start time), when it carries our marker,
//! when it is in a group of ours, or when one of ours started it.

use std::{
    path::Path,
    time::{Duration, Instant},
};

use super::procs::{self, Proc};

/// SIGKILL ends a process within milliseconds; only one stuck in the kernel outlives this.
const LIMIT: Duration = Duration::from_secs(20);

/// A process that we started ourselves, at the head of its own group.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Leader {
    pub(super) pid: i32,
    pub(super) start: u64,
}

/// What belongs to one process directory, or to a whole run.
#[derive(Clone, Copy, Debug)]
pub(super) struct Claim<'a> {
    pub(super) folder: &'a Path,
    pub(super) leaders: &'a [Leader],
}

/// Kills what is claimed until nothing of it is left; answers how many, or which pids would not die.
pub(super) fn sweep(claim: Claim<'_>) -> Result<usize, Vec<i32>> {
    let deadline = Instant::now() + LIMIT;
    let mut killed = 0;
    loop {
        let mut alive = claimed(&procs::all(), claim);
        alive.retain(|proc| !proc.zombie);
        if alive.is_empty() {
            return Ok(killed);
        }
        if Instant::now() >= deadline {
            return Err(alive.iter().map(|proc| proc.pid).collect());
        }
        killed += kill_all(&alive, deadline);
    }
}

/// Which processes of the table are ours.
pub(super) fn claimed(table: &[Proc], claim: Claim<'_>) -> Vec<Proc> {
    let led = |group: i32| claim.leaders.iter().any(|leader| leader.pid == group);
    let named = |proc: &Proc| claim.leaders.contains(&Leader { pid: proc.pid, start: proc.start });
    let marked = |proc: &Proc| proc.marker().is_some_and(|folder| folder.starts_with(claim.folder));
    // A group's number may have been given away after its leader died, so membership alone proves nothing.
    let member = |proc: &Proc| led(proc.group) && proc.mentions(claim.folder);

    let me = std::process::id().cast_signed();
    let (mut ours, mut rest): (Vec<Proc>, Vec<Proc>) = table
        .iter()
        .filter(|proc| proc.pid != me)
        .cloned()
        .partition(|proc| named(proc) || marked(proc) || member(proc));
    loop {
        let groups: Vec<i32> = ours
            .iter()
            .filter(|proc| proc.group == proc.pid || led(proc.group))
            .map(|proc| proc.group)
            .collect();
        let follows =
            |proc: &Proc| groups.contains(&proc.group) || ours.iter().any(|parent| parent.pid == proc.parent);
        let (joined, strangers): (Vec<Proc>, Vec<Proc>) = rest.into_iter().partition(follows);
        if joined.is_empty() {
            return ours;
        }
        ours.extend(joined);
        rest = strangers;
    }
}

/// Kills each through a descriptor that was checked to be that very process, and waits for the ends.
#[cfg(target_os = "linux")]
fn kill_all(alive: &[Proc], deadline: Instant) -> usize {
    use rustix::{
        event::{PollFd, PollFlags, Timespec, poll},
        process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal},
    };

    let struck: Vec<_> = alive
        .iter()
        .filter_map(|proc| {
            let handle = pidfd_open(Pid::from_raw(proc.pid)?, PidfdFlags::empty()).ok()?;
            let same = procs::read(proc.pid).is_some_and(|now| now.start == proc.start);
            (same && pidfd_send_signal(&handle, Signal::KILL).is_ok()).then_some(handle)
        })
        .collect();
    for handle in &struck {
        let left = deadline.saturating_duration_since(Instant::now());
        let limit =
            Timespec { tv_sec: left.as_secs().cast_signed(), tv_nsec: i64::from(left.subsec_nanos()) };
        // A failed wait shows in the next look at the table.
        let _ = poll(&mut [PollFd::new(handle, PollFlags::IN)], Some(&limit));
    }
    struck.len()
}

#[cfg(not(target_os = "linux"))]
fn kill_all(_alive: &[Proc], _deadline: Instant) -> usize {
    0
}
