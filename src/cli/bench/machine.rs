//! The machine as the kernel tells it, and how quiet it is.

use std::{
    collections::BTreeMap,
    fs,
    thread::{self, available_parallelism},
    time::{Duration, Instant},
};

use nix::sys::utsname::uname;
use serde_json::Value;
use sha2::{Digest as _, Sha256};

use super::clocks::Clocks;
use crate::{bench::Environment, bench::statistics::median, domain::Digest};

/// The share of processor time that another virtual machine took, above which times are doubtful.
const STOLEN_MAX: f64 = 0.01;

/// Runnable processes per core before anything was measured.
const LOAD_MAX: f64 = 0.5;

/// How much longer or shorter the same work may take afterwards.
const DRIFT_MAX: f64 = 0.05;

/// The work whose time shows a machine that drifts: so many bytes digested, so many times.
const WORK: usize = 4 << 20;
const TIMES: usize = 9;

/// Bytes that each thread copies: more than a core's share of the caches. A few cores have all that the memory gives, and
/// together they take 256 MiB for a moment.
const COPIED: usize = 32 << 20;
const COPIERS_MAX: usize = 4;

/// The machine, with what the daemon says that it was built of: it computes, and may be another build than the command.
pub(super) fn environment(daemon: &Value) -> Environment {
    let built = |part: &str| daemon[part].as_str().unwrap_or("unknown").to_owned();
    let cpuinfo = read("/proc/cpuinfo");
    let field = |name: &str| {
        let line = cpuinfo.lines().find(|line| line.split(':').next().is_some_and(|key| key.trim() == name));
        line.and_then(|line| line.split_once(':')).map_or("unknown", |(_, value)| value.trim()).to_owned()
    };
    let memory = read("/proc/meminfo");
    let kib = memory
        .lines()
        .find_map(|line| line.strip_prefix("MemTotal:")?.split_whitespace().next()?.parse().ok());
    let unlimited = |text: &String| !text.is_empty() && !text.starts_with("max");
    let limit = |file: &str| Some(read(&format!("/sys/fs/cgroup{}/{file}", group()))).filter(unlimited);
    Environment {
        weft: built("version"),
        commit: built("commit"),
        processor: field("model name"),
        processor_flags: Digest::new(Sha256::digest(field("flags")).into()).to_string(),
        cores: available_parallelism().map_or(0, usize::from),
        memory_bytes: kib.unwrap_or(0u64) * 1024,
        kernel: uname().map(|name| name.release().to_string_lossy().into_owned()).unwrap_or_default(),
        cpu_limit: limit("cpu.max"),
        memory_limit: limit("memory.max"),
        places: BTreeMap::new(),
    }
}

/// This process's control group.
fn group() -> String {
    read("/proc/self/cgroup")
        .lines()
        .find_map(|line| line.strip_prefix("0::").map(str::to_owned))
        .unwrap_or_default()
}

fn read(path: &str) -> String {
    fs::read_to_string(path).map(|text| text.trim_end().to_owned()).unwrap_or_default()
}

/// What a fixed piece of work takes now, in microseconds.
pub(super) fn calibrate() -> f64 {
    let work = vec![7; WORK];
    let once = || {
        let started = Instant::now();
        std::hint::black_box(Sha256::digest(std::hint::black_box(&work)));
        started.elapsed().as_secs_f64() * 1e6
    };
    median(&(0..TIMES).map(|_| once()).collect::<Vec<_>>())
}

/// Bytes per second that copies in several cores together read and write, at best: what the memory gives to whoever computes
/// nothing.
pub(super) fn copied() -> f64 {
    let threads = available_parallelism().map_or(1, usize::from).min(COPIERS_MAX);
    let mut buffers: Vec<_> = (0..threads).map(|_| (vec![7u8; COPIED], vec![0u8; COPIED])).collect();
    let mut once = || {
        let started = Instant::now();
        thread::scope(|scope| {
            for (from, to) in &mut buffers {
                scope.spawn(|| std::hint::black_box(to).copy_from_slice(std::hint::black_box(from)));
            }
        });
        (2 * COPIED * threads) as f64 / started.elapsed().as_secs_f64()
    };
    (0..TIMES).map(|_| once()).fold(0.0, f64::max)
}

/// The machine before a measurement, for saying afterwards what disturbed it.
pub(super) struct Quiet {
    load: Option<f64>,
    times: Option<(u64, u64)>,
    calibration: f64,
    clocks: Clocks,
}

impl Quiet {
    pub(super) fn before() -> Self {
        let load = read("/proc/loadavg").split(' ').next().and_then(|load| load.parse().ok());
        Self { load, times: times(), calibration: calibrate(), clocks: Clocks::read() }
    }

    /// What the work took before.
    pub(super) fn calibration(&self) -> f64 {
        self.calibration
    }

    /// How long it is since, whatever has been done to the clock.
    pub(super) fn elapsed(&self) -> Duration {
        self.clocks.elapsed(&Clocks::read())
    }

    /// What the work took before and takes now, and what to be wary of.
    pub(super) fn after(&self) -> ([f64; 2], Vec<String>) {
        let calibration = [self.calibration, calibrate()];
        let mut warnings = self.clocks.warnings(&Clocks::read());
        let cores = available_parallelism().map_or(1, usize::from) as f64;
        if let Some(load) = self.load.filter(|load| *load > cores * LOAD_MAX) {
            warnings.push(format!("the machine was busy already: its load was {load} on {cores} cores"));
        }
        if let (Some((stolen, all)), Some((stolen_now, all_now))) = (self.times, times()) {
            let share = stolen_now.saturating_sub(stolen) as f64 / all_now.saturating_sub(all).max(1) as f64;
            if share > STOLEN_MAX {
                warnings
                    .push(format!("{:.1} % of the processor's time went to other machines", share * 100.0));
            }
        }
        let drift = calibration[1] / calibration[0];
        if !(1.0 / (1.0 + DRIFT_MAX)..=1.0 + DRIFT_MAX).contains(&drift) {
            warnings
                .push(format!("the machine drifted: the same work took {drift:.2} of what it took before"));
        }
        (calibration, warnings)
    }
}

/// Stolen time and all time of all processors.
fn times() -> Option<(u64, u64)> {
    let stat = read("/proc/stat");
    let times: Vec<u64> =
        stat.lines().next()?.split_whitespace().skip(1).map(str::parse).collect::<Result<_, _>>().ok()?;
    // Guests' time, from the ninth on, is counted among the others already.
    Some((*times.get(7)?, times.iter().take(8).sum()))
}
