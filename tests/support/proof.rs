//! What `make prove` keeps, at which commit and on which machine it was measured.

#![allow(dead_code, reason = "each target that includes this file uses its own part of it")]

use std::{process::Command, thread::available_parallelism};

pub(crate) const COMMAND: &str = "make prove";

/// All that can change what is measured; results and documents cannot.
const MEASURED: [&str; 8] =
    ["--", "src", "web-harness", "browsers", "Cargo.lock", "tests/faults", "tests/browsers", "tests/support"];

/// The last commit that can have changed what is measured.
pub(crate) fn commit() -> String {
    let git = |arguments: &[&str]| {
        let arguments = arguments.iter().chain(&MEASURED);
        let output = Command::new("git")
            .args(arguments)
            .current_dir(env!("CARGO_MANIFEST_DIR"))
            .output()
            .expect("git runs");
        String::from_utf8(output.stdout).expect("UTF-8").trim().to_owned()
    };
    let dirty = git(&["status", "--porcelain"]);
    format!("{}{}", git(&["log", "-1", "--format=%H"]), if dirty.is_empty() { "" } else { "-dirty" })
}

/// A commit as tables name it.
pub(crate) fn short(commit: &str) -> &str {
    commit.get(..7).unwrap_or(commit)
}

/// What the tests' daemons are.
pub(crate) fn build() -> &'static str {
    if cfg!(debug_assertions) { "debug" } else { "release" }
}

/// Processor and cores, as they bear on times.
pub(crate) fn machine() -> String {
    let cores = available_parallelism().map_or(0, usize::from);
    let said = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = said.lines().find_map(|line| line.strip_prefix("model name")?.split_once(':'));
    format!("{} cores, {}", cores, model.map_or("processor unknown", |(_, name)| name.trim()))
}
