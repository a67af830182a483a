//! Where and from what a run's figures come: command, commit, date, machine.

use std::process::Command;

use serde::Serialize;

/// What earlier runs wrote makes no difference to this one.
const RESULTS: &str = ":(exclude)fixtures/measurements";

#[derive(Serialize)]
pub(crate) struct Origin {
    command: &'static str,
    /// None outside of a clone.
    commit: Option<String>,
    /// Whether tracked files, other than measurements, differed from the commit.
    dirty: bool,
    profile: &'static str,
    date: Option<String>,
    cpu: String,
    cores: usize,
    memory_mib: u64,
    kernel: String,
    /// Of the lanes that were measured, as they told it.
    browser: String,
    engine: String,
    threads: u64,
}

impl Origin {
    /// `answer` comes from a lane that was measured.
    pub(crate) fn of(answer: &crate::wire::Answer) -> Self {
        let browser = format!("{} {}", answer.told("browser"), answer.told("browser_version"));
        Self::measured(browser, answer.told("engine"), answer.threads())
    }

    /// Of what was measured without a daemon.
    pub(crate) fn measured(browser: String, engine: String, threads: u64) -> Self {
        let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
        let memory: u64 =
            after(&read("/proc/meminfo"), "MemTotal").trim_end_matches("kB").trim().parse().unwrap_or(0);
        Self {
            command: "make bench",
            commit: said("git", &["rev-parse", "HEAD"]),
            dirty: said("git", &["status", "--porcelain", "--untracked-files=no", "--", ".", RESULTS])
                .is_some(),
            profile: if cfg!(debug_assertions) { "debug" } else { "release" },
            date: said("date", &["-u", "+%Y-%m-%dT%H:%M:%SZ"]),
            cpu: after(&read("/proc/cpuinfo"), "model name"),
            cores: std::thread::available_parallelism().map_or(0, usize::from),
            memory_mib: memory >> 10,
            kernel: read("/proc/sys/kernel/osrelease").trim().to_owned(),
            browser,
            engine,
            threads,
        }
    }

    pub(crate) fn line(&self) -> String {
        let Self { cpu, cores, browser, engine, threads, profile, .. } = self;
        format!("{cpu}, {cores} cores; {browser}; {engine}, {threads} thread(s); {profile} build")
    }
}

/// What stands behind the first `key` and its colon.
fn after(text: &str, key: &str) -> String {
    let line = text.lines().find_map(|line| line.strip_prefix(key)?.trim_start().strip_prefix(':'));
    line.unwrap_or("?").trim().to_owned()
}

/// The output of a command that is there and has something to say.
fn said(program: &str, arguments: &[&str]) -> Option<String> {
    let output =
        Command::new(program).args(arguments).current_dir(env!("CARGO_MANIFEST_DIR")).output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?.trim().to_owned();
    (output.status.success() && !text.is_empty()).then_some(text)
}
