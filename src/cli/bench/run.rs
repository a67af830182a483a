//! `weft bench run`.

use std::{collections::BTreeSet, path::PathBuf};

use clap::Args;
use serde_json::json;

use super::{
    super::{Common, Interrupts, client::Client, output},
    aside::{Aside, Draft},
    html, kept, lending,
    machine::{self, Quiet},
    measure::Measuring,
    places::{self, Leases},
    print,
    resumed::Resumed,
    suites::{self, Found},
    told,
};
use crate::{
    bench::{Environment, Outcome, Results, VERSION},
    config, tasks,
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
    /// Go on where this run was interrupted: cells that were measured stay as they are
    #[arg(long, value_name = "RESULT")]
    resume: Option<String>,
}

#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Fallen(String);

impl Run {
    pub(super) async fn run(self, common: &Common) -> anyhow::Result<()> {
        let mut found =
            suites::find(&self.suite).map_err(|error| super::super::Misuse(format!("{error:#}")))?;
        let earlier = match &self.resume {
            Some(name) => Some(kept::read(common, name).await?),
            None => None,
        };
        let mut interrupts = Interrupts::catch()?;
        let client = lending::connect(common, &mut found).await?;
        let (mut leases, aside) = (Leases::default(), Aside::of(common)?);
        aside.begin()?;
        let superseded = earlier.as_ref().map(|earlier| earlier.id.clone());
        let order = Order { client: &client, found: &found, aside: &aside, earlier };
        let measured = Box::pin(order.measured(&mut leases, &mut interrupts)).await;
        leases.release(&client).await;
        let kept = match &measured {
            Ok((results, _)) => kept::put(&client, results, false).await.map(drop),
            Err(_) => Ok(()),
        };
        client.finish().await;
        let (results, interrupted) = measured?;
        if let Err(refused) = kept {
            let path = aside.keep(&results)?;
            output::progress(&format!("the daemon did not keep the result: {refused:#}"));
            output::progress(&format!("`weft bench import {}` has it kept", path.display()));
        } else {
            aside.forget(&results.id);
            output::progress(&format!("kept as {}", results.id));
        }
        if let Some(earlier) = superseded {
            aside.forget(&earlier);
        }
        if !results.complete {
            let (suite, id) = (&self.suite, &results.id);
            output::progress(&format!("`weft bench run {suite} --resume {id}` measures what is left"));
        }
        self.show(common, &results)?;
        match interrupted {
            Some(interrupted) => Err(interrupted),
            None => self.judge(&results),
        }
    }

    fn show(&self, common: &Common, results: &Results) -> anyhow::Result<()> {
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

/// What is to be measured, and where it lies until the daemon keeps it.
struct Order<'a> {
    client: &'a Client,
    found: &'a Found,
    aside: &'a Aside,
    earlier: Option<Results>,
}

impl Order<'_> {
    /// What was measured until it was done or interrupted.
    async fn measured(
        self,
        leases: &mut Leases,
        interrupts: &mut Interrupts,
    ) -> anyhow::Result<(Results, Option<anyhow::Error>)> {
        let Self { client, found, .. } = self;
        let suite = &found.suite;
        let mut environment = machine::environment(&client.get("/v2").await?);
        let lanes = tokio::select! {
            biased;
            interrupted = interrupts.next() => return Err(interrupted.into()),
            lanes = async {
                places::settled(client, suite).await?;
                places::lanes(client, found).await
            } => lanes?,
        };
        let there = lanes
            .iter()
            .filter_map(|((browser, backend), place)| Some((browser, backend, place.as_ref().ok()?)));
        for (browser, backend, place) in there.clone() {
            environment.places.insert(format!("{browser}/{backend}"), place.clone());
        }
        let resumed =
            self.earlier.map(|earlier| Resumed::new(earlier, &found.sha256.to_string(), &environment));
        let resumed = resumed.transpose()?;
        let browsers = there.filter(|(_, backend, _)| !backend.is_native()).map(|(browser, ..)| browser);
        if suite.plans.is_empty() {
            leases.take(client, browsers.collect(), suite).await?;
        }
        let quiet = Quiet::before();
        let mut results = begun(found, environment, quiet.calibration());
        results.copied = Some(machine::copied());
        let draft = Draft::new(results.clone(), self.aside.clone(), resumed);
        let mut measuring = Measuring::new(client, found, &lanes, leases, draft);
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
        let (calibration_us, warnings) = quiet.after();
        results.calibration_us = calibration_us;
        results.warnings.extend(warnings);
        let elapsed = i64::try_from(quiet.elapsed().as_micros()).unwrap_or(i64::MAX);
        results.ended_at_us = results.started_at_us.saturating_add(elapsed);
        results.complete = interrupted.is_none() && measuring.is_complete();
        results.cells = measuring.cells;
        measuring.draft.join(&mut results);
        Ok((results, interrupted))
    }
}

/// A result before anything is measured.
fn begun(found: &Found, environment: Environment, calibration_us: f64) -> Results {
    let suite = &found.suite;
    let on_software = environment.places.iter().filter(|(_, place)| place.software_adapter);
    let mut warnings: Vec<_> = on_software
        .map(|(name, _)| format!("{name} computes on a software adapter: its times are not a GPU's"))
        .collect();
    if !suite.plans.is_empty() {
        let shared = "a plan runs in no browser that is leased, so none was: others' requests may have come in between";
        warnings.push(shared.to_owned());
    }
    let seeded: Vec<_> =
        suite.models.iter().filter(|model| model.seeded).map(|model| model.name.as_str()).collect();
    if !seeded.is_empty() {
        warnings.push(format!("the weights of {} are seeded: their answers mean nothing", seeded.join(", ")));
    }
    let started_at_us = tasks::now_us();
    Results {
        version: VERSION,
        id: format!("{}-{:08x}", suite.name, rand::random::<u32>()),
        suite: suite.name.clone(),
        suite_sha256: found.sha256.to_string(),
        branch: config::branch(),
        started_at_us,
        ended_at_us: started_at_us,
        complete: false,
        warnings,
        calibration_us: [calibration_us; 2],
        copied: None,
        environment,
        cells: Vec::new(),
    }
}
