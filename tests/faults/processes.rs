//! A browser's processes, as the kernel knows them.

#![allow(dead_code, reason = "each target that includes this file uses its own part of it")]

use std::{collections::BTreeMap, fs, time::Duration};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

/// A process and everything that descends from it, itself first.
pub(crate) fn tree(root: i32) -> Vec<i32> {
    let mut children: BTreeMap<i32, Vec<i32>> = BTreeMap::new();
    let entries = fs::read_dir("/proc").expect("a process table").flatten();
    for pid in entries.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok()) {
        if let Some((parent, _)) = stat(pid) {
            children.entry(parent).or_default().push(pid);
        }
    }
    let mut found = vec![root];
    let mut at = 0;
    while at < found.len() {
        found.extend(children.remove(&found[at]).unwrap_or_default());
        at += 1;
    }
    found
}

/// Those of a tree whose command line holds these words.
pub(crate) fn saying(tree: &[i32], words: &str) -> Vec<i32> {
    let says = |pid: &&i32| {
        let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        String::from_utf8_lossy(&line).replace('\0', " ").contains(words)
    };
    tree.iter().filter(says).copied().collect()
}

/// A process's parent and state.
fn stat(pid: i32) -> Option<(i32, char)> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name, in parentheses, may hold anything.
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace();
    let state = fields.next()?.chars().next()?;
    Some((fields.next()?.parse().ok()?, state))
}

/// Bytes of a process that are in memory; none once it has ended.
pub(crate) fn resident(pid: i32) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let kib = status.lines().find_map(|line| line.strip_prefix("VmRSS:")?.trim().strip_suffix("kB"))?;
    kib.trim().parse::<u64>().ok().map(|kib| kib << 10)
}

pub(crate) fn stopped(pid: i32) -> bool {
    stat(pid).is_some_and(|(_, state)| state == 'T')
}

/// Sends a signal to each; one that has ended meanwhile is none of the test's concern. Says how many got it.
pub(crate) fn signal(pids: &[i32], signal: Signal) -> usize {
    pids.iter().filter(|pid| kill(Pid::from_raw(**pid), signal).is_ok()).count()
}

/// Clock ticks in a second, as every Linux tells programs.
const TICKS: f64 = 100.0;

/// Processor time that a process has had, its threads included.
pub(crate) fn spent(pid: i32) -> Duration {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let fields = stat.rsplit_once(')').map_or("", |(_, fields)| fields).split_whitespace();
    // Time in user and in kernel mode, the 14th and 15th field of all.
    let ticks: f64 = fields.skip(11).take(2).filter_map(|field| field.parse::<f64>().ok()).sum();
    Duration::from_secs_f64(ticks / TICKS)
}
