//! A stage whose browser is killed with requests on their way through it: how long the first of them takes to its answer
//! from elsewhere.

use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use nix::sys::signal::{Signal, kill};
use serde::Serialize;
use serde_json::Value;

use super::{IN_FLIGHT, contest::ALIKE, plans};
use crate::{
    pool::{Pool, limit, process},
    report::Target,
    requests::Model,
    statistics::{median, quantile},
    wire::{Answer, Wire},
};

/// As many as a p95 takes.
const KILLS: usize = 20;

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
    for _ in 0..KILLS {
        at_home(pool, model, &plan).await?;
        let (without, by) = killed(pool, model, &plan).await?;
        samples.without.push(without);
        samples.by.push(by);
    }
    at_home(pool, model, &plan).await?;
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

/// Kills the stage's browser with requests on their way through it; what the first one that lost its stage took from then,
/// less what another lane computed for, and which lane that was.
async fn killed(pool: &Pool, model: &Model, plan: &Value) -> anyhow::Result<(u64, String)> {
    let browser = process(&pool.instance(Some(&VICTIM.into())).await?)?;
    let mut wire = Wire::connect(&pool.daemon.socket()).await?;
    for number in 0..IN_FLIGHT {
        wire.send(model.asking(number, plan)).await?;
    }
    // From the first answer on the stage always has a request.
    wire.receive().await?;
    let struck = Instant::now();
    kill(browser, Signal::SIGKILL)?;
    let mut first = None;
    for _ in 1..IN_FLIGHT {
        let answer = Answer::read(&wire.receive().await?)?;
        let after = struck.elapsed().as_micros() as u64;
        let stage = &answer.provenance["stages"][STAGE];
        if first.is_none() && !stage["fallback"].is_null() {
            let compute = stage["timing_us"]["compute"].as_u64();
            let compute = compute.with_context(|| format!("what {stage} took"))?;
            first = Some((after.saturating_sub(compute), stage["lane"].as_str().unwrap_or("?").to_owned()));
        }
    }
    first.context("no request lost its stage")
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
