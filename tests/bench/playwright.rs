//! What a user would do without weft, measured beside it.

use std::process::Stdio;

use anyhow::{Context, ensure};
use serde::{Deserialize, Serialize};
use serde_json::json;
use tokio::{io::AsyncWriteExt, process::Command};

use crate::{
    daemon::Launched,
    requests::Model,
    site::Site,
    statistics::{median, quantile},
};

const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/bench/playwright/measure.mjs");

/// Enough for a p99, at some milliseconds each.
const REQUESTS: usize = 500;
const WARM_UP: usize = 50;

#[derive(Serialize, Deserialize)]
pub(crate) struct Samples {
    browser_version: String,
    /// Per request: total and compute, in microseconds.
    samples: Vec<(u64, u64)>,
}

/// Microseconds.
#[derive(Serialize)]
pub(crate) struct Summary {
    pub(crate) added_median: f64,
    pub(crate) added_p99: f64,
    pub(crate) compute: f64,
}

pub(crate) async fn measure(
    launched: &Launched,
    site: &Site,
    model: &Model,
    threads: u64,
) -> anyhow::Result<Samples> {
    let task = json!({
        "executable": launched.program,
        "sandbox": launched.sandbox(),
        "site": site.url(""),
        "module": site.engine.module,
        "wasm": site.engine.wasm,
        "model": format!("/models/{}", model.name),
        "threads": threads,
        "requests": REQUESTS,
        "warm_up": WARM_UP,
        "inputs": model.written,
    });
    let mut node = Command::new("node");
    node.arg(SCRIPT).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    let mut child = node.spawn().context("starting node")?;
    let mut stdin = child.stdin.take().context("stdin was piped")?;
    stdin.write_all(task.to_string().as_bytes()).await?;
    drop(stdin);
    let output = child.wait_with_output().await?;
    ensure!(output.status.success(), "playwright: {}", String::from_utf8_lossy(&output.stderr));
    let samples: Samples = serde_json::from_slice(&output.stdout).context("the script's answer")?;
    ensure!(samples.samples.len() == REQUESTS, "{} samples came", samples.samples.len());
    Ok(samples)
}

impl Samples {
    pub(crate) fn summary(&self) -> Summary {
        let added: Vec<_> =
            self.samples.iter().map(|(total, compute)| total.saturating_sub(*compute) as f64).collect();
        let compute: Vec<_> = self.samples.iter().map(|(_, compute)| *compute as f64).collect();
        Summary { added_median: median(&added), added_p99: quantile(&added, 0.99), compute: median(&compute) }
    }
}
