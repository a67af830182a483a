//! Finds what the binary needs beside its crates, and says which command brings it when it is missing.

use std::{env, path::Path, process::Command};

/// Linked against; ONNX Runtime is opened at run time.
const LIBRARY: &str = if cfg!(target_os = "macos") { "libduckdb.dylib" } else { "libduckdb.so" };

const UNKNOWN: &str = "unknown";

/// What goes into the binary: measurements that are written meanwhile do not.
const BUILT: [&str; 14] = [
    "src",
    "browsers",
    "web-harness/build.mjs",
    "web-harness/dashboard",
    "web-harness/docs",
    "web-harness/harness",
    "web-harness/kernels",
    "web-harness/package-lock.json",
    "web-harness/protocol",
    "web-harness/report",
    "fixtures/inputs",
    "fixtures/workloads",
    "Cargo.toml",
    "Cargo.lock",
];

fn main() {
    println!("cargo:rerun-if-env-changed=WEFT_NATIVE_DIR");
    // Clones share a target folder, and Cargo tells their files apart by age alone: another clone is another build.
    println!("cargo:rerun-if-env-changed=WEFT_ROOT");
    println!("cargo:rerun-if-changed=web-harness/dist/index.html");
    if !Path::new("web-harness/dist/index.html").exists() {
        fail("web-harness/dist/index.html is missing");
    }
    let Ok(folder) = env::var("WEFT_NATIVE_DIR") else {
        fail("WEFT_NATIVE_DIR is not set in .cargo/config.toml");
    };
    println!("cargo:rustc-env=WEFT_NATIVE_DIR={folder}");
    println!("cargo:rustc-env=WEFT_COMMIT={}", commit());
    if env::var_os("CARGO_FEATURE_BUNDLED_DUCKDB").is_some() {
        return;
    }
    if !Path::new(&folder).join(LIBRARY).exists() {
        fail(&format!("{folder}/{LIBRARY} is missing"));
    }
    println!("cargo:rustc-link-arg=-Wl,-rpath,{folder}");
}

/// What is built: of a tree that differs from its commit with `-dirty` behind it, outside of git `unknown`.
///
/// A debug build says nothing of it, since each commit would then build everything anew, and no time of it counts.
fn commit() -> String {
    println!("cargo:rerun-if-env-changed=WEFT_COMMIT");
    if let Ok(said) = env::var("WEFT_COMMIT") {
        return said;
    }
    if env::var("PROFILE").is_ok_and(|profile| profile != "release") {
        return UNKNOWN.to_owned();
    }
    let Some(head) = git(&["rev-parse", "HEAD"]) else { return UNKNOWN.to_owned() };
    let moves = git(&["rev-parse", "--git-path", "logs/HEAD"]).filter(|path| Path::new(path).exists());
    for path in moves.iter().map(String::as_str).chain(BUILT) {
        println!("cargo:rerun-if-changed={path}");
    }
    let changes = git(&[&["status", "--porcelain", "--untracked-files=normal", "--"], &BUILT[..]].concat());
    let changed = changes.is_none_or(|files| !files.is_empty());
    head + if changed { "-dirty" } else { "" }
}

fn git(arguments: &[&str]) -> Option<String> {
    let asked = Command::new("git").args(arguments).output().ok().filter(|asked| asked.status.success())?;
    Some(String::from_utf8(asked.stdout).ok()?.trim().to_owned())
}

fn fail(problem: &str) -> ! {
    panic!("{problem}: run `make setup`, which brings it");
}
