//! Clients that we did not write, each in a script of its own, against a daemon that has native lanes alone.

#![allow(clippy::unwrap_used, reason = "a failed step of a test is a failed test")]
#![allow(clippy::print_stderr, reason = "a skip is said")]

mod checker;
#[path = "../support/checkpoints.rs"]
mod checkpoints;
mod content;
#[path = "../support/conversion.rs"]
mod conversion;
#[path = "../it/support/graphs.rs"]
mod graphs;
mod kernels;
#[path = "../support/lowered.rs"]
mod lowered;
mod openai;
mod packing;
mod prometheus;
mod schemathesis;
#[path = "../support/serve.rs"]
mod serve;
mod triton;
mod websockets;

use std::path::{Path, PathBuf};

use serde_json::json;
use tokio::process::Command;

use serve::{Served, cache};

const FOLDER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/clients");

/// The interpreter that has what `requirements.txt` locks.
/// Missing packages are a skip by name; in CI, which installs them, they are a failure.
fn python() -> Option<PathBuf> {
    use sha2::Digest as _;
    let lock = std::fs::read(format!("{FOLDER}/requirements.txt")).unwrap();
    let digest = weft::domain::Digest::new(sha2::Sha256::digest(&lock).into()).to_string();
    let python = cache().unwrap().join("clients").join(&digest[..16]).join("bin/python");
    if python.exists() {
        return Some(python);
    }
    let message = format!("skipped: {} is missing; `make test-setup` brings it", python.display());
    assert_ne!(std::env::var("CI").as_deref(), Ok("true"), "{message}");
    eprintln!("{message}");
    None
}

async fn served() -> Served {
    Served::start(Path::new(env!("CARGO_BIN_EXE_weft")), "chromium=0").await.unwrap()
}

/// One that wants a credential, and the one that its owner has.
async fn guarded() -> (Served, String) {
    let files = [("weft.toml", "[access]\nrequired = true\n")];
    let served =
        Served::start_with(Path::new(env!("CARGO_BIN_EXE_weft")), "chromium=0", &files).await.unwrap();
    let record = std::fs::read(served.home().join("daemon.json")).unwrap();
    let record: serde_json::Value = serde_json::from_slice(&record).unwrap();
    let key = record["key"].as_str().unwrap().to_owned();
    (served, key)
}

/// Uploads a model and names it.
async fn add(url: &str, name: &str, file: Vec<u8>) {
    add_as("", url, name, file, &[]).await;
}

/// Uploads a model with what belongs to it; one of tokens is one of vectors.
async fn add_as(key: &str, url: &str, name: &str, file: Vec<u8>, files: &[(&str, Vec<u8>)]) {
    let http = reqwest::Client::builder().no_proxy().build().unwrap();
    let post =
        |path: &str, body: Vec<u8>| http.post(format!("{url}{path}")).bearer_auth(key).body(body).send();
    let uploaded = async |file: Vec<u8>| {
        let upload = post("/api/v1/blobs", file).await.unwrap().text().await.unwrap();
        serde_json::from_str::<serde_json::Value>(&upload).unwrap()["digest"].clone()
    };
    let mut beside = serde_json::Map::new();
    for (name, file) in files {
        beside.insert((*name).to_owned(), uploaded(file.clone()).await);
    }
    let kind = if beside.is_empty() { "other" } else { "embedding" };
    let digest = uploaded(file).await;
    let model = json!({"name": name, "digest": digest, "files": beside, "kind": kind, "source": "a test"});
    let added = post("/api/v1/models", model.to_string().into()).await.unwrap();
    let status = added.status();
    assert!(status.is_success(), "{name}: {status}: {}", added.text().await.unwrap());
}

/// Runs a script of this folder, which ends well or says what was wrong.
async fn run(interpreter: &Path, script: &str, arguments: &[&str]) -> String {
    let output = Command::new(interpreter)
        .arg(format!("{FOLDER}/{script}"))
        .args(arguments)
        .env("NO_PROXY", "127.0.0.1")
        .kill_on_drop(true)
        .output()
        .await
        .unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(
        output.status.success(),
        "{script} ended with {}:\n{}{}",
        output.status,
        text(&output.stdout),
        text(&output.stderr)
    );
    text(&output.stdout)
}
