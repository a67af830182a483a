//! What this process may use of its machine: memory and processor time, control groups of both versions included.
//!
//! A limit of a group holds for everything below it, so each file is read from our group up to the mount's top.
//! Elsewhere than on Linux nothing is found, and nothing is limited.

use std::{fs, path::PathBuf};

/// Limits and use as they are now. What is absent is not limited, or not told.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Machine {
    /// All of the machine's memory.
    pub memory_total: Option<u64>,
    /// What can be had without swapping, on the whole machine.
    pub memory_available: Option<u64>,
    /// The tightest limit of our control groups.
    pub memory_limit: Option<MemoryLimit>,
    /// Cores' worth of processor time, which may be a fraction.
    pub cpu_quota: Option<f64>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MemoryLimit {
    pub bytes: u64,
    /// Held by the group, without what the kernel drops first when it needs room.
    pub used: u64,
}

impl MemoryLimit {
    fn left(self) -> u64 {
        self.bytes.saturating_sub(self.used)
    }
}

impl Machine {
    pub fn read() -> Self {
        Self::of(&|path| fs::read_to_string(path).ok())
    }

    /// What another process of ours could take: the machine's or our groups', whichever is less.
    pub fn memory_left(&self) -> Option<u64> {
        let left = self.memory_limit.map(MemoryLimit::left);
        self.memory_available.into_iter().chain(left).min()
    }

    /// As the files say that `read` gives by their path.
    fn of(read: &dyn Fn(&str) -> Option<String>) -> Self {
        let meminfo = read("/proc/meminfo").unwrap_or_default();
        let memory_total = kib(&meminfo, "MemTotal");
        let groups = Groups {
            mounts: read("/proc/self/mountinfo").unwrap_or_default(),
            own: read("/proc/self/cgroup").unwrap_or_default(),
        };
        // Version 1 writes nearly 2^63 for no limit, and any limit over what is there is none.
        let most = memory_total.unwrap_or(1 << 62);
        let limits = groups.folders("memory").into_iter().filter_map(|(folder, version)| {
            let limit = memory_limit(&folder, version, read)?;
            (limit.bytes < most).then_some(limit)
        });
        let quotas = groups.folders("cpu").into_iter();
        Self {
            memory_total,
            memory_available: kib(&meminfo, "MemAvailable"),
            memory_limit: limits.min_by_key(|limit| limit.left()),
            cpu_quota: quotas
                .filter_map(|(folder, version)| cpu_quota(&folder, version, read))
                .min_by(f64::total_cmp),
        }
    }
}

#[derive(Clone, Copy, PartialEq)]
enum Version {
    One,
    Two,
}

/// What the kernel says of our control groups.
struct Groups {
    mounts: String,
    own: String,
}

impl Groups {
    /// The folders of our groups that a controller may have files in, ours first, up to the top of each mount.
    fn folders(&self, controller: &str) -> Vec<(String, Version)> {
        let mut folders = Vec::new();
        for mount in self.mounts.lines() {
            // ID PARENT DEVICE ROOT POINT OPTIONS [TAGS…] - TYPE SOURCE OPTIONS
            let Some((place, kind)) = mount.split_once(" - ") else { continue };
            let (place, kind): (Vec<_>, Vec<_>) = (place.split(' ').collect(), kind.split(' ').collect());
            let [_, _, _, root, point, ..] = place[..] else { continue };
            let version = match kind[..] {
                ["cgroup2", ..] => Version::Two,
                ["cgroup", _, options] if options.split(',').any(|option| option == controller) => {
                    Version::One
                }
                _ => continue,
            };
            let Some(own) = self.own(controller, version) else { continue };
            folders.extend(up(root, point, own).into_iter().map(|folder| (folder, version)));
        }
        folders
    }

    /// Our group's path in the hierarchy of a controller.
    fn own(&self, controller: &str, version: Version) -> Option<&str> {
        self.own.lines().find_map(|line| {
            // ID:CONTROLLERS:PATH, the second empty in version 2.
            let mut fields = line.splitn(3, ':').skip(1);
            let (controllers, path) = (fields.next()?, fields.next()?);
            let ours = match version {
                Version::One => controllers.split(',').any(|name| name == controller),
                Version::Two => controllers.is_empty(),
            };
            ours.then_some(path)
        })
    }
}

/// From our group's folder below a mount to the mount itself; a group outside of what is mounted shows its top alone.
fn up(root: &str, point: &str, own: &str) -> Vec<String> {
    let below = own.strip_prefix(root.trim_end_matches('/')).unwrap_or_default();
    let mut folder = PathBuf::from(point);
    let mut folders = vec![folder.display().to_string()];
    for part in below.split('/').filter(|part| !part.is_empty() && *part != "..") {
        folder.push(part);
        folders.push(folder.display().to_string());
    }
    folders.reverse();
    folders
}

fn memory_limit(
    folder: &str,
    version: Version,
    read: &dyn Fn(&str) -> Option<String>,
) -> Option<MemoryLimit> {
    let (limit, usage, cache) = match version {
        Version::One => ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
        Version::Two => ("memory.max", "memory.current", "inactive_file"),
    };
    // `max` is no number, and no limit.
    let bytes = read(&format!("{folder}/{limit}"))?.trim().parse().ok()?;
    let usage: u64 = read(&format!("{folder}/{usage}"))?.trim().parse().ok()?;
    let statistics = read(&format!("{folder}/memory.stat")).unwrap_or_default();
    let cache = statistics.lines().find_map(|line| line.strip_prefix(cache)?.trim().parse::<u64>().ok());
    Some(MemoryLimit { bytes, used: usage.saturating_sub(cache.unwrap_or(0)) })
}

fn cpu_quota(folder: &str, version: Version, read: &dyn Fn(&str) -> Option<String>) -> Option<f64> {
    let (quota, period) = match version {
        Version::One => {
            (read(&format!("{folder}/cpu.cfs_quota_us"))?, read(&format!("{folder}/cpu.cfs_period_us"))?)
        }
        Version::Two => {
            let both = read(&format!("{folder}/cpu.max"))?;
            let (quota, period) = both.trim().split_once(' ')?;
            (quota.to_owned(), period.to_owned())
        }
    };
    // -1 and `max` are no limit.
    let (quota, period): (u64, u64) = (quota.trim().parse().ok()?, period.trim().parse().ok()?);
    (quota > 0 && period > 0).then(|| quota as f64 / period as f64)
}

/// A line of `/proc/meminfo`, as `MemTotal:  24683656 kB`.
fn kib(meminfo: &str, name: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
    line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()?.checked_mul(1024)
}

#[cfg(test)]
mod tests;
