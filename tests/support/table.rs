//! The process table as tests look at it: apart from the daemon's own reader, so that it is not its only witness.

#![allow(dead_code, reason = "each target that includes this file uses its own part of it")]

use std::{
    fs,
    os::fd::OwnedFd,
    time::{Duration, Instant},
};

use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    process::{Pid, PidfdFlags, pidfd_open},
};

/// A child's number and whether it has ended and waits to be reaped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) pid: i32,
    pub(crate) zombie: bool,
}

pub(crate) fn pids() -> Vec<i32> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect()
}

/// The children of a process.
pub(crate) fn children(parent: i32) -> Vec<Entry> {
    let child = |pid| {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        let mut fields = stat.rsplit_once(')')?.1.split_whitespace();
        let zombie = fields.next()? == "Z";
        (fields.next()?.parse() == Ok(parent)).then_some(Entry { pid, zombie })
    };
    pids().into_iter().filter_map(child).collect()
}

/// Live processes with these bytes in their command line.
pub(crate) fn saying(words: &str) -> Vec<i32> {
    let says = |pid: &i32| {
        let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        line.windows(words.len()).any(|window| window == words.as_bytes())
    };
    pids().into_iter().filter(says).collect()
}

/// Waits for what no event tells, and fails with what it is when it does not come.
pub(crate) fn until(what: &str, limit: Duration, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + limit;
    while !holds() {
        assert!(Instant::now() < deadline, "{what} did not come within {limit:?}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// `None` when there is no such process any more.
pub(crate) fn open(pid: i32) -> Option<OwnedFd> {
    pidfd_open(Pid::from_raw(pid)?, PidfdFlags::empty()).ok()
}

/// Whether the process ends within the limit; it need not be our child.
pub(crate) fn ends(handle: &OwnedFd, limit: Duration) -> bool {
    let limit = Timespec { tv_sec: limit.as_secs().cast_signed(), tv_nsec: limit.subsec_nanos().into() };
    poll(&mut [PollFd::new(handle, PollFlags::IN)], Some(&limit)).is_ok_and(|ready| ready == 1)
}
