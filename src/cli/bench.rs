//! `weft bench`: suites are measured; results are kept in the home, shown and compared.

mod aside;
mod asked;
mod certify;
mod clocks;
mod cold;
mod concurrent;
mod export;
mod history;
mod html;
mod kept;
mod lending;
mod machine;
mod material;
mod measure;
mod places;
mod print;
mod resumed;
mod run;
mod server;
mod soak;
mod socket;
mod suites;
mod threads;
mod told;

use std::{collections::BTreeSet, path::PathBuf};

use anyhow::bail;
use clap::{Args, Subcommand};
use serde_json::json;

use super::{Common, output};
use crate::{
    bench::{Comparison, Results, choices, compare_precisions},
    store::BenchFilter,
};
use aside::{Aside, Lying};
use export::{Export, Import};
use kept::Kept;

/// What two measurements of the same thing are off each other on a quiet machine, and no change.
const NOISE: f64 = 0.05;

/// Suites of models in browsers' lanes: measure, show, compare
#[derive(Subcommand)]
pub(super) enum Bench {
    /// Measure a suite, and fail when an answer is wrong
    ///
    /// Without a running daemon one is started for the call, with the browsers that the suite names.
    Run(run::Run),
    /// Say which cells of one result are slower or faster in another, and fail when one is slower
    Compare(Compare),
    /// Say which precision is best in each lane of a result, within a budget of error
    Choose(Choose),
    /// Show a result again
    Report {
        /// A file, or the id, commit or branch of a result that `weft bench list` shows
        result: String,
        /// Append the table as Markdown to this file
        #[arg(long, value_name = "PATH")]
        summary: Option<PathBuf>,
        /// Write the report with charts to this file, which any browser shows without a network
        #[arg(long, value_name = "PATH")]
        html: Option<PathBuf>,
    },
    /// List the suites that come with weft and the results that this home keeps
    List,
    /// Show a suite's cells over its runs, and where they changed
    History(history::Shown),
    /// Check whether a result can be believed, and fail when it cannot
    Validate(certify::Validate),
    /// Make a key to sign certificates with
    Key(certify::Key),
    /// Sign what a result is, where it was measured and what was checked
    Certify(certify::Certify),
    /// Check a certificate, for which nothing but its file is needed
    Verify(certify::Verify),
    /// Keep results that were measured elsewhere
    Import(Import),
    /// Write a result to a file that other programs read
    Export(Export),
}

#[derive(Args)]
pub(super) struct Compare {
    /// What was before: a file, or the id, commit or branch of a result that `weft bench list` shows
    base: String,
    /// What is now
    #[arg(required_unless_present = "precisions")]
    head: Option<String>,
    /// Instead of a head: two precisions of the one result, whose cells took turns
    #[arg(long, num_args = 2, value_names = ["BASE", "HEAD"], conflicts_with = "head")]
    precisions: Option<Vec<String>>,
    /// Medians that are apart by less than this share are the same
    #[arg(long, default_value_t = NOISE, value_name = "SHARE")]
    noise: f64,
    /// Append the table as Markdown to this file
    #[arg(long, value_name = "PATH")]
    summary: Option<PathBuf>,
}

#[derive(Args)]
pub(super) struct Choose {
    /// A file, or the id, commit or branch of a result that `weft bench list` shows, of a suite with precisions
    result: String,
    /// How far answers may be off those of the model as it is, as a share of the largest value
    #[arg(long, value_name = "SHARE")]
    error: f64,
    /// Times that are apart by less than this share are the same
    #[arg(long, default_value_t = NOISE, value_name = "SHARE")]
    noise: f64,
    /// Append the table as Markdown to this file
    #[arg(long, value_name = "PATH")]
    summary: Option<PathBuf>,
}

#[derive(Debug, thiserror::Error)]
#[error("{0} of the cells {1} slower")]
struct Slower(usize, &'static str);

impl Bench {
    pub(super) async fn run(self, common: &Common) -> anyhow::Result<()> {
        match self {
            Self::Run(run) => Box::pin(run.run(common)).await,
            Self::Compare(compare) => compare.run(common).await,
            Self::Choose(choose) => choose.run(common).await,
            Self::Report { result, summary, html } => {
                let results = kept::read(common, &result).await?;
                if let Some(path) = summary {
                    kept::append(&path, &print::markdown(&results))?;
                }
                if let Some(path) = html {
                    html::write(&path, &results)?;
                }
                if common.json {
                    return output::json(&results);
                }
                print::results(&results);
                Ok(())
            }
            Self::List => list(common).await,
            Self::History(shown) => shown.run(common).await,
            Self::Validate(validate) => validate.run(common).await,
            Self::Key(key) => key.run(common),
            Self::Certify(certify) => certify.run(common).await,
            Self::Verify(verify) => verify.run(common).await,
            Self::Import(import) => import.run(common).await,
            Self::Export(export) => export.run(common).await,
        }
    }
}

impl Compare {
    async fn run(self, common: &Common) -> anyhow::Result<()> {
        if !(self.noise > 0.0 && self.noise < 1.0) {
            return Err(super::Misuse("--noise is between 0 and 1".to_owned()).into());
        }
        let comparison = match (self.precisions.as_deref(), &self.head) {
            (Some([base, head]), _) => {
                let results = kept::read(common, &self.base).await?;
                precisions(&results, [base, head].map(String::as_str), self.noise)?
            }
            (_, Some(head)) => kept::compared(common, &self.base, head, self.noise).await?,
            _ => unreachable!("one of both is required"),
        };
        if let Some(path) = &self.summary {
            kept::append(path, &print::comparison_markdown(&comparison))?;
        }
        if common.json {
            output::json(&comparison)?;
        } else {
            print::comparison(&comparison);
        }
        match comparison.worse() {
            0 => Ok(()),
            worse => Err(Slower(worse, if worse == 1 { "is" } else { "are" }).into()),
        }
    }
}

impl Choose {
    async fn run(self, common: &Common) -> anyhow::Result<()> {
        if !(self.error >= 0.0 && self.error.is_finite()) {
            return Err(super::Misuse("--error is a share, 0 or more".to_owned()).into());
        }
        if !(self.noise > 0.0 && self.noise < 1.0) {
            return Err(super::Misuse("--noise is between 0 and 1".to_owned()).into());
        }
        let results = kept::read(common, &self.result).await?;
        let choices = choices(&results, self.error, self.noise);
        if choices.is_empty() {
            bail!("{} has no lane in which a model was measured in several precisions", results.id);
        }
        if let Some(path) = &self.summary {
            kept::append(path, &print::choices_markdown(&choices))?;
        }
        if common.json {
            return output::json(&choices);
        }
        print::choices(&choices);
        Ok(())
    }
}

fn precisions(results: &Results, named: [&str; 2], noise: f64) -> anyhow::Result<Comparison> {
    let there: BTreeSet<_> =
        results.cells.iter().filter_map(|cell| cell.varied.precision.as_deref()).collect();
    if let Some(missing) = named.into_iter().find(|name| !there.contains(name)) {
        let there = Vec::from_iter(there).join(", ");
        let there = if there.is_empty() { "none, since its suite names none" } else { &there };
        bail!("{} has no precision {missing:?}; there are {there}", results.id);
    }
    Ok(compare_precisions(results, named, noise))
}

async fn list(common: &Common) -> anyhow::Result<()> {
    let kept = Kept::open(common).await?;
    let listed = async { anyhow::Ok((kept.list(BenchFilter::default()).await?, kept.measured().await?)) };
    let listed = listed.await;
    kept.close().await?;
    let (results, measured) = listed?;
    let aside = Aside::of(common)?.list(&measured);
    let suites: Vec<_> = suites::SHIPPED.iter().map(suites::parsed).collect();
    if common.json {
        let suites: Vec<_> =
            suites.iter().map(|suite| json!({"name": suite.name, "about": suite.about})).collect();
        return output::json(&json!({"suites": suites, "results": results, "aside": aside}));
    }
    for suite in suites {
        output::line(&format!("{}: {}", suite.name, suite.about));
    }
    output::line("");
    if results.is_empty() {
        output::line("no results yet: `weft bench run smoke` makes one");
    } else {
        let rows: Vec<_> = results.iter().map(print::listed).collect();
        output::table(&["result", "suite", "cells", "failures", "commit", "branch", ""], &rows);
    }
    let (whole, partial): (Vec<_>, Vec<_>) = aside.iter().partition(|lying| lying.complete);
    beside("not whole: `weft bench run SUITE --resume RESULT` measures what is left", &partial);
    beside("not kept: `weft bench import FILE` does it", &whole);
    Ok(())
}

/// Results that are in no store.
fn beside(about: &str, results: &[&Lying]) {
    if results.is_empty() {
        return;
    }
    output::line(&format!("\n{about}"));
    let rows: Vec<_> = results.iter().map(|lying| print::lying(lying)).collect();
    output::table(&["result", "suite", "measured", "began", "file"], &rows);
}
