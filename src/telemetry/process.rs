//! What the daemon's own process takes of the machine.

use std::fs;

use nix::{
    sys::{
        resource::{Usage, UsageWho, getrusage},
        time::TimeValLike,
    },
    unistd::{SysconfVar, sysconf},
};

use super::Sample;

/// Its samples, under the names that Prometheus' own clients use.
pub(super) fn samples() -> Vec<Sample> {
    let cpu = getrusage(UsageWho::RUSAGE_SELF).ok().map(|usage| seconds(&usage));
    let cpu = cpu.map(|seconds| Sample::new("process_cpu_seconds_total", seconds));
    let memory = resident().map(|bytes| Sample::new("process_resident_memory_bytes", bytes as f64));
    cpu.into_iter().chain(memory).collect()
}

fn seconds(usage: &Usage) -> f64 {
    (usage.user_time() + usage.system_time()).num_microseconds() as f64 / 1e6
}

/// Absent where there is no process table.
fn resident() -> Option<u64> {
    let statm = fs::read_to_string("/proc/self/statm").ok()?;
    let pages: u64 = statm.split_whitespace().nth(1)?.parse().ok()?;
    let page = sysconf(SysconfVar::PAGE_SIZE).ok()??;
    Some(pages * u64::try_from(page).ok()?)
}
