//! A browser that is launched anew, until it has answered: by the pool after a kill, and by Playwright.

use std::{
    process::Stdio,
    time::{Duration, Instant},
};

use anyhow::{Context, ensure};
use serde::Serialize;
use serde_json::json;
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader},
    process::Command,
};

use crate::{
    daemon::Launched,
    pool::Pool,
    requests::Model,
    site::{LoopWorker, Site},
    statistics::{Ratio, median, ratio},
};

const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/bench/playwright/launch.mjs");

/// What the pool holds to be a good life, after which it launches again at once.
const LIFE: Duration = Duration::from_secs(6);

const SEED: u64 = 6;

/// Microseconds, one entry per repetition.
#[derive(Default, Serialize)]
pub(crate) struct Samples {
    /// From the kill of the only browser to the answer of the next.
    pool: Vec<u64>,
    /// From the order to launch to the answer of the page's Worker.
    playwright: Vec<u64>,
}

impl Samples {
    pub(crate) fn ratio(&self) -> Ratio {
        let pairs: Vec<_> = self
            .pool
            .iter()
            .zip(&self.playwright)
            .map(|(pool, bound)| (*pool as f64, *bound as f64))
            .collect();
        ratio(&pairs, median, 1, SEED)
    }

    pub(crate) fn medians_ms(&self) -> (f64, f64) {
        let ms =
            |series: &[u64]| median(&series.iter().map(|micros| *micros as f64 / 1e3).collect::<Vec<_>>());
        (ms(&self.pool), ms(&self.playwright))
    }
}

/// `pool` holds one browser, which `launched` describes, and knows `model`.
pub(crate) async fn measure(
    pool: &Pool,
    launched: &Launched,
    site: &mut Site,
    model: &Model,
    times: usize,
) -> anyhow::Result<Samples> {
    let mut samples = Samples::default();
    for number in 0..times {
        pool.prove(model).await?;
        tokio::time::sleep(LIFE).await;
        samples.pool.push(pool.relaunched(model, number).await?.as_micros() as u64);
        samples.playwright.push(playwright(launched, site, model).await?.as_micros() as u64);
    }
    Ok(samples)
}

async fn playwright(launched: &Launched, site: &mut Site, model: &Model) -> anyhow::Result<Duration> {
    let mut node = Command::new("node");
    node.arg(SCRIPT).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::inherit()).kill_on_drop(true);
    let mut child = node.spawn().context("starting node")?;
    let mut stdin = child.stdin.take().context("stdin was piped")?;
    let mut stdout = BufReader::new(child.stdout.take().context("stdout was piped")?).lines();
    let url = site.loop_page(&model.name, 1);
    let task = json!({"executable": launched.program, "sandbox": launched.sandbox(), "url": url});
    stdin.write_all(format!("{task}\n").as_bytes()).await?;
    let loaded = stdout.next_line().await?;
    ensure!(loaded.as_deref() == Some("loaded"), "the script said {loaded:?}");
    let started = Instant::now();
    stdin.write_all(b"launch\n").await?;
    let mut worker = LoopWorker::start(site.linked().await?, &[model.frame(0)]).await?;
    worker.run(1).await?;
    let took = started.elapsed();
    drop(stdin);
    let status = child.wait().await?;
    ensure!(status.success(), "the script ended with {status}");
    Ok(took)
}
