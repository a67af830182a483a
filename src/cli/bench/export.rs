//! `weft bench import` and `weft bench export`.

use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum};
use serde_json::json;

use super::{
    super::{Common, output},
    aside::Aside,
    kept::{self, Kept},
};
use crate::{
    bench::Results,
    store::{CellSamples, TableFormat, export},
};

#[derive(Args)]
pub(in crate::cli) struct Import {
    /// As `weft bench run --out` and `weft bench export --format json` write them
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
}

impl Import {
    pub(super) async fn run(self, common: &Common) -> anyhow::Result<()> {
        // All are read before the first is kept.
        let read = self.files.iter().map(|file| kept::read_file(file));
        let results = read.collect::<anyhow::Result<Vec<_>>>()?;
        let (kept, aside) = (Kept::open(common).await?, Aside::of(common)?);
        let put = async {
            let mut told = Vec::new();
            for results in &results {
                told.push((results, kept.put(results, true).await?));
                aside.forget(&results.id);
            }
            anyhow::Ok(told)
        };
        let told = put.await;
        kept.close().await?;
        let told = told?;
        if common.json {
            let items: Vec<_> =
                told.iter().map(|(results, already)| json!({"id": results.id, "already": already})).collect();
            return output::json(&json!({"items": items}));
        }
        for (results, already) in told {
            let already = if already { ": was there already" } else { "" };
            output::line(&format!("{} ({}){already}", results.id, results.suite));
        }
        Ok(())
    }
}

#[derive(Clone, Copy, ValueEnum)]
enum Format {
    /// A table of samples, for data frames and databases
    Parquet,
    /// The same as text
    Csv,
    /// The document itself
    Json,
}

#[derive(Args)]
pub(in crate::cli) struct Export {
    /// A file, or the id, commit or branch of a result that `weft bench list` shows
    #[arg(value_name = "RUN")]
    result: String,
    #[arg(long, value_enum)]
    format: Format,
    /// Where to; a file that is there is replaced
    #[arg(short, long, value_name = "PATH")]
    out: PathBuf,
}

impl Export {
    pub(super) async fn run(self, common: &Common) -> anyhow::Result<()> {
        let results = kept::read(common, &self.result).await?;
        match self.format {
            Format::Parquet => table(&results, &self.out, TableFormat::Parquet)?,
            Format::Csv => table(&results, &self.out, TableFormat::Csv)?,
            Format::Json => kept::write(&self.out, &results)?,
        }
        let path = self.out.display().to_string();
        if common.json {
            return output::json(&json!({"id": results.id, "path": path}));
        }
        output::line(&path);
        Ok(())
    }
}

/// Every sample as a row.
fn table(results: &Results, path: &Path, format: TableFormat) -> anyhow::Result<()> {
    let words: Vec<_> =
        results.cells.iter().map(|cell| (cell.backend.to_string(), cell.varied.of(cell.scenario))).collect();
    let cells = results.cells.iter().zip(&words).map(|(cell, (backend, asked))| CellSamples {
        run: &results.id,
        suite: &results.suite,
        commit: &results.environment.commit,
        branch: results.branch.as_deref(),
        started_at_us: results.started_at_us,
        model: cell.model.as_str(),
        browser: &cell.browser,
        backend,
        scenario: cell.scenario.name(),
        asked,
        outcome: cell.state.outcome.name(),
        measured: &cell.samples_us,
        warm_up: &cell.warm_up_us,
        alone: &cell.alone_us,
    });
    Ok(export(cells, path, format)?)
}
