//! A daemon with a home of its own and the models that a section asks.

use std::path::Path;

use anyhow::{Context, ensure};
use serde_json::{Value, json};

use crate::{
    daemon::Daemon,
    origin::Origin,
    requests::{BROWSER, Model, TIMEOUT_US},
    wire::{Answer, Wire},
};

pub(crate) struct Serving {
    pub(crate) daemon: Daemon,
    http: reqwest::Client,
    _home: tempfile::TempDir,
}

impl Serving {
    /// With native lanes alone.
    pub(crate) async fn native(program: &Path, config: &str) -> anyhow::Result<Self> {
        Self::start(program, 0, config).await
    }

    pub(crate) async fn start(program: &Path, browsers: usize, config: &str) -> anyhow::Result<Self> {
        let home = tempfile::tempdir().context("a throw-away home")?;
        std::fs::write(home.path().join("weft.toml"), config)?;
        let daemon = Daemon::start_with(program, home.path(), &format!("{BROWSER}={browsers}")).await?;
        let http = reqwest::Client::builder().no_proxy().build()?;
        Ok(Self { daemon, http, _home: home })
    }

    pub(crate) async fn post(&self, path: &str, body: impl Into<reqwest::Body>) -> anyhow::Result<Value> {
        let response = self.http.post(format!("{}{path}", self.daemon.url)).body(body).send().await?;
        let status = response.status();
        let answer = response.json().await?;
        ensure!(status.is_success(), "{path}: {status} {answer}");
        Ok(answer)
    }

    /// Adds a model under its name with these limits of its batches, and has it proven wherever it may run.
    pub(crate) async fn add(&self, model: &Model, batch: &Value) -> anyhow::Result<()> {
        let file = std::fs::read(&model.file).with_context(|| model.file.display().to_string())?;
        let uploaded = self.post("/api/v1/blobs", file).await?;
        let order = json!({
            "name": model.name, "digest": uploaded["digest"], "source": "the bench", "tolerance": 1e-3,
            "gate": {"inputs": model.written}, "batch": batch,
        });
        let added = self.post("/api/v1/models", order.to_string()).await?;
        let barred = &added["batching"]["barred"];
        ensure!(batch["delay"].is_null() || barred.is_null(), "{} shares no steps: {barred}", model.name);
        let proven = self.post(&format!("/api/v1/models/{}/verify", model.name), "{}").await?;
        let lanes = proven["lanes"].as_array().context("lanes are a list")?;
        let right = |lane: &Value| lane["verdict"] == "verified" || lane["verdict"] == "reference";
        ensure!(lanes.iter().all(right), "{} is not proven: {lanes:?}", model.name);
        Ok(())
    }
}

/// Where figures come from that no answer goes with: what a daemon of its own answers, with a browser or natively.
pub(crate) async fn origin(program: &Path, model: &Model, browsers: usize) -> anyhow::Result<Origin> {
    let serving = Serving::start(program, browsers, "").await?;
    serving.add(model, &json!({})).await?;
    let mut wire = Wire::connect(&serving.daemon.socket()).await?;
    let frame = if browsers > 0 { model.frame(0) } else { model.asking(0, &natively()) };
    let (_, answer) = wire.exchange(frame).await?;
    serving.daemon.stop().await?;
    Ok(Origin::of(&Answer::read(&answer)?))
}

/// What requests for the native lane say.
pub(crate) fn natively() -> Value {
    json!({"backend": "ort-cpu", "fallback": "none", "binary_data_output": true, "timeout": TIMEOUT_US})
}
