//! A browser that is launched anew, until it has answered: by the pool after a kill, and without it: Chromium by
//! Playwright, the others bare.

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
    bare,
    daemon::Launched,
    pool::Pool,
    report::Target,
    requests::{BROWSER, Model},
    site::{LoopWorker, Site},
    statistics::{median, ratio},
};

const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/bench/playwright/launch.mjs");

/// What the pool holds to be a good life, after which it launches again at once.
const LIFE: Duration = Duration::from_secs(6);

const SEED: u64 = 6;

/// Microseconds, one entry per repetition.
#[derive(Serialize)]
pub(crate) struct Samples {
    browser: &'static str,
    /// From the kill of the only browser to the answer of the next.
    pool: Vec<u64>,
    /// From the order to launch to the answer of the page's Worker, without the pool.
    bound: Vec<u64>,
}

impl Samples {
    pub(crate) fn target(&self) -> Target {
        let pairs: Vec<_> = self.pool.iter().copied().zip(self.bound.iter().copied()).collect();
        let pairs: Vec<_> =
            pairs.iter().map(|(pool, bound)| (*pool as f64 / 1e3, *bound as f64 / 1e3)).collect();
        let (pool, bound): (Vec<_>, Vec<_>) = pairs.iter().copied().unzip();
        let by = if self.browser == BROWSER { "Playwright" } else { "bare" };
        let ratio = ratio(&pairs, median, 1, SEED);
        Target {
            what: format!("{} launched again to its first answer", self.browser),
            found: format!("{:.0} ms", median(&pool)),
            bound: format!("{by} {:.0} ms", median(&bound)),
            ratio,
            wanted: "≤ 1.20".to_owned(),
            met: Some(ratio.value <= 1.2),
        }
    }
}

/// `pool` holds one browser, that of `model`'s requests.
pub(crate) async fn measure(
    pool: &Pool,
    launched: &Launched,
    site: &mut Site,
    model: &Model,
    times: usize,
) -> anyhow::Result<Samples> {
    let mut samples = Samples { browser: model.browser, pool: Vec::new(), bound: Vec::new() };
    for number in 0..times {
        pool.prove(model).await?;
        tokio::time::sleep(LIFE).await;
        samples.pool.push(pool.relaunched(model, number).await?.as_micros() as u64);
        let bound = match model.browser {
            BROWSER => playwright(launched, site, model).await?,
            other => bare::launch(other, launched, site, model).await?,
        };
        samples.bound.push(bound.as_micros() as u64);
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
