//! `weft bench run`.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
};

use clap::Args;
use serde_json::json;

use super::{
    super::{Common, Interrupts, client::Client, output},
    html,
    kept::{self, Kept},
    machine::{self, Quiet},
    measure::Measuring,
    places::{self, Leases},
    print,
    suites::{self, Found},
    told,
};
use crate::{
    bench::{Outcome, Results, VERSION},
    config::RawInstances,
    driver::recipe::Recipe,
    tasks,
};

#[derive(Args)]
pub(in crate::cli) struct Run {
    /// A file, or a suite that `weft bench list` shows
    suite: String,
    /// Write the result to this file as well
    #[arg(long, value_name = "PATH")]
    out: Option<PathBuf>,
    /// Append the table as Markdown to this file
    #[arg(long, value_name = "PATH")]
    summary: Option<PathBuf>,
    /// Write the cells to this file as `JUnit` does
    #[arg(long, value_name = "PATH")]
    junit: Option<PathBuf>,
    /// Write the report with charts to this file
    #[arg(long, value_name = "PATH")]
    html: Option<PathBuf>,
    /// Fail when a cell cannot be measured here
    #[arg(long)]
    complete: bool,
}

#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Fallen(String);

impl Run {
    pub(super) async fn run(self, common: &Common) -> anyhow::Result<()> {
        let found = suites::find(&self.suite).map_err(|error| super::super::Misuse(format!("{error:#}")))?;
        let mut interrupts = Interrupts::catch()?;
        let browsers = browsers(&found);
        let client = Client::connect_with(common, move |raw| raw.browsers = Some(browsers.clone())).await?;
        let mut leases = Leases::default();
        let measured = Box::pin(measured(&client, &found, &mut leases, &mut interrupts)).await;
        leases.release(&client).await;
        client.finish().await;
        let (results, interrupted) = measured?;
        self.keep(common, &results)?;
        match interrupted {
            Some(interrupted) => Err(interrupted),
            None => self.judge(&results),
        }
    }

    fn keep(&self, common: &Common, results: &Results) -> anyhow::Result<()> {
        let path = Kept::of(common)?.put(results)?;
        if let Some(out) = &self.out {
            kept::write(out, results)?;
        }
        if let Some(summary) = &self.summary {
            kept::append(summary, &print::markdown(results))?;
        }
        if let Some(junit) = &self.junit {
            std::fs::write(junit, print::junit(results))?;
        }
        if let Some(html) = &self.html {
            html::write(html, results)?;
        }
        output::progress(&format!("kept as {}", path.display()));
        if common.json {
            let engines: BTreeSet<_> = results.environment.places.keys().collect();
            let failures: Vec<_> = results.failures().collect();
            return output::json(&json!({"id": results.id, "complete": results.complete, "engines": engines,
                "cells": results.cells.iter().map(print::cell).collect::<Vec<_>>(), "failures": failures,
                "warnings": results.warnings}));
        }
        print::results(results);
        Ok(())
    }

    fn judge(&self, results: &Results) -> anyhow::Result<()> {
        let count = |outcomes: &[Outcome]| {
            results.cells.iter().filter(|cell| outcomes.contains(&cell.state.outcome)).count()
        };
        let failed = count(&[Outcome::Wrong, Outcome::Failed]);
        if failed > 0 {
            return Err(Fallen(format!("{failed} of {} cells failed", results.cells.len())).into());
        }
        let missing = count(&[Outcome::Skipped, Outcome::TimedOut]);
        if self.complete && missing > 0 {
            return Err(
                Fallen(format!("{missing} of {} cells were not measured", results.cells.len())).into()
            );
        }
        Ok(())
    }
}

/// What a daemon of its own runs: one of each browser of the suite that weft knows.
fn browsers(found: &Found) -> BTreeMap<String, RawInstances> {
    let known: BTreeSet<_> = Recipe::embedded().into_iter().map(|recipe| recipe.name).collect();
    let named = found.suite.browsers().into_iter().filter(|browser| known.contains(*browser));
    named.map(|browser| (browser.to_owned(), RawInstances::Count(1))).collect()
}

/// What was measured until it was done or interrupted.
async fn measured(
    client: &Client,
    found: &Found,
    leases: &mut Leases,
    interrupts: &mut Interrupts,
) -> anyhow::Result<(Results, Option<anyhow::Error>)> {
    let suite = &found.suite;
    let mut environment = machine::environment();
    let lanes = tokio::select! {
        biased;
        interrupted = interrupts.next() => return Err(interrupted.into()),
        lanes = async {
            places::settled(client, suite).await?;
            places::lanes(client, suite).await
        } => lanes?,
    };
    let there =
        lanes.iter().filter_map(|((browser, backend), place)| Some((browser, backend, place.as_ref().ok()?)));
    for (browser, backend, place) in there.clone() {
        environment.places.insert(format!("{browser}/{backend}"), place.clone());
    }
    let browsers = there.filter(|(_, backend, _)| !backend.is_native()).map(|(browser, ..)| browser);
    if suite.plans.is_empty() {
        leases.take(client, browsers.collect(), suite).await?;
    }
    let quiet = Quiet::before();
    let started_at_us = tasks::now_us();
    let id = format!("{}-{:08x}", suite.name, rand::random::<u32>());
    let mut measuring = Measuring::new(client, found, &lanes, leases, &id);
    let telling = told::tell(client, measuring.told.newest());
    let interrupted = tokio::select! {
        biased;
        interrupted = interrupts.next() => Some(interrupted.into()),
        // What was measured until then is kept all the same.
        ran = measuring.run() => ran.err(),
        // Whether anybody hears of it changes nothing.
        never = telling => match never {},
    };
    measuring.tidy().await;
    let (calibration_us, mut warnings) = quiet.after();
    warnings.extend(
        environment
            .places
            .iter()
            .filter(|(_, place)| place.software_adapter)
            .map(|(name, _)| format!("{name} computes on a software adapter: its times are not a GPU's")),
    );
    if !suite.plans.is_empty() {
        let shared = "a plan runs in no browser that is leased, so none was: others' requests may have come in between";
        warnings.push(shared.to_owned());
    }
    let results = Results {
        version: VERSION,
        id,
        suite: suite.name.clone(),
        suite_sha256: found.sha256.to_string(),
        started_at_us,
        ended_at_us: tasks::now_us(),
        complete: interrupted.is_none() && measuring.is_complete(),
        warnings,
        calibration_us,
        environment,
        cells: measuring.cells,
    };
    Ok((results, interrupted))
}
