//! A stage whose browser is killed while it computes: how long the request takes to its answer from elsewhere.

use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use nix::sys::signal::{Signal, kill};
use serde::Serialize;
use serde_json::Value;

use super::{contest::ALIKE, plans};
use crate::{
    pool::{Pool, limit, process},
    report::Target,
    requests::Model,
    statistics::{median, quantile},
    wire::{Answer, Wire},
};

/// As many as a p95 takes.
const KILLS: usize = 20;

/// Kills that may miss their stage: between the look at the lanes and the signal it may have ended.
const LATE_MAX: usize = 20;

/// A browser's launch and a shard's load on a loaded machine.
const HOME_WITHIN: Duration = Duration::from_secs(60);

const MOST_US: f64 = 1e6;

/// Whose browser is killed: the second stage's.
const VICTIM: &str = "chromium-2";
const STAGE: usize = 1;

/// Microseconds.
#[derive(Default, Serialize)]
pub(super) struct Samples {
    /// From the kill to the answer, less what the other lane computed for; its load is in it.
    without: Vec<u64>,
    /// Lanes that answered in its place.
    by: Vec<String>,
}

pub(super) async fn measure(pool: &Pool, model: &Model) -> anyhow::Result<Samples> {
    let order = plans::order(model, "even", &ALIKE);
    let plan = plans::under(&plans::forecast_and_made(pool, &order).await?.id);
    let mut samples = Samples::default();
    for _ in 0..KILLS + LATE_MAX {
        if samples.without.len() == KILLS {
            break;
        }
        at_home(pool, model, &plan).await?;
        if let Some((without, by)) = killed(pool, model, &plan).await? {
            samples.without.push(without);
            samples.by.push(by);
        }
    }
    at_home(pool, model, &plan).await?;
    ensure!(samples.without.len() == KILLS, "{} of {KILLS} kills came in time", samples.without.len());
    Ok(samples)
}

/// Asks until every stage runs in its own lane.
async fn at_home(pool: &Pool, model: &Model, plan: &Value) -> anyhow::Result<()> {
    let mut wire = Wire::connect(&pool.daemon.socket()).await?;
    let deadline = Instant::now() + HOME_WITHIN;
    for number in 0.. {
        let (_, answer) = wire.exchange(model.asking(number, plan)).await?;
        if Answer::read(&answer)?.provenance["fallback"].is_null() {
            break;
        }
        ensure!(Instant::now() < deadline, "the stage has not come home");
    }
    Ok(())
}

/// Kills the stage's browser while it computes; nothing where it had ended before.
async fn killed(pool: &Pool, model: &Model, plan: &Value) -> anyhow::Result<Option<(u64, String)>> {
    let browser = process(&pool.instance(Some(&VICTIM.into())).await?)?;
    let mut wire = Wire::connect(&pool.daemon.socket()).await?;
    wire.send(model.asking(0, plan)).await?;
    tokio::select! {
        // It was over before it was seen.
        answer = wire.receive() => return answer.map(|_| None),
        seen = computing(pool) => seen?,
    }
    let struck = Instant::now();
    kill(browser, Signal::SIGKILL)?;
    let answer = Answer::read(&wire.receive().await?)?;
    let after = struck.elapsed().as_micros() as u64;
    let stage = &answer.provenance["stages"][STAGE];
    let compute = stage["timing_us"]["compute"].as_u64().with_context(|| format!("no stage in {stage}"))?;
    let by = stage["lane"].as_str().unwrap_or("?").to_owned();
    Ok((!stage["fallback"].is_null()).then(|| (after.saturating_sub(compute), by)))
}

/// Looks at the lanes until the stage computes.
async fn computing(pool: &Pool) -> anyhow::Result<()> {
    loop {
        let listed = pool.get("/api/v1/lanes").await?;
        let lanes = listed["items"].as_array().context("lanes are a list")?;
        if lanes.iter().any(|lane| lane["state"] == "executing" && lane["instance"] == VICTIM) {
            return Ok(());
        }
    }
}

impl Samples {
    pub(super) fn targets(&self) -> Vec<Target> {
        let without: Vec<_> = self.without.iter().map(|us| *us as f64).collect();
        let p95 = |series: &[f64]| quantile(series, 0.95);
        let line = limit(
            "a stage's browser killed, to its answer from elsewhere, p95",
            (format!("{:.0} ms", p95(&without) / 1e3), "1 s"),
            (&without, MOST_US),
            p95,
        );
        vec![line]
    }

    pub(super) fn note(&self) -> String {
        let without: Vec<_> = self.without.iter().map(|us| *us as f64 / 1e3).collect();
        let native = self.by.iter().filter(|lane| lane.starts_with("native")).count();
        format!(
            "a stage's browser killed {KILLS} times with the fallback {}: median {:.0} ms with the shard's load, \
             {native} answers from the native lane",
            plans::FALLBACK,
            median(&without)
        )
    }
}
