//! Samples as a table in a file that other programs read. Needs no store: what is exported passes through a database in
//! memory, where a sample takes 17 bytes and what it is told apart by stands once for its cell.

use std::path::Path;

use duckdb::{Appender, Connection, params};

use super::{StoreError, open};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TableFormat {
    Parquet,
    Csv,
}

/// A cell's samples with all that they are told apart by.
#[derive(Clone, Debug)]
pub struct CellSamples<'a> {
    pub run: &'a str,
    pub suite: &'a str,
    pub commit: &'a str,
    pub branch: Option<&'a str>,
    pub started_at_us: i64,
    pub model: &'a str,
    pub browser: &'a str,
    pub backend: &'a str,
    pub scenario: &'a str,
    pub asked: &'a str,
    pub outcome: &'a str,
    pub measured: &'a [f64],
    pub warm_up: &'a [f64],
    pub alone: &'a [f64],
}

/// Writes every sample as a row to a file, which is replaced when it is there.
pub fn export<'a>(
    cells: impl Iterator<Item = CellSamples<'a>>,
    path: &Path,
    format: TableFormat,
) -> Result<(), StoreError> {
    write(cells, path, format)
        .map_err(|error: duckdb::Error| StoreError::Write { what: "the table", message: error.to_string() })
}

fn write<'a>(
    cells: impl Iterator<Item = CellSamples<'a>>,
    path: &Path,
    format: TableFormat,
) -> duckdb::Result<()> {
    let connection = open::unmigrated()?;
    connection.execute_batch(include_str!("queries/export_tables.sql"))?;
    fill(&connection, cells)?;
    // The statement takes no parameter there.
    let to = path.display().to_string().replace('\'', "''");
    let how = match format {
        TableFormat::Parquet => "FORMAT parquet, COMPRESSION zstd",
        TableFormat::Csv => "FORMAT csv, HEADER",
    };
    let rows = include_str!("queries/export_rows.sql");
    connection.execute_batch(&format!("COPY ({rows}) TO '{to}' ({how})"))
}

fn fill<'a>(connection: &Connection, cells: impl Iterator<Item = CellSamples<'a>>) -> duckdb::Result<()> {
    let mut names = connection.appender("cells")?;
    let mut samples = connection.appender("samples")?;
    for (at, cell) in (0u32..).zip(cells) {
        names.append_row(params![
            at,
            cell.run,
            cell.suite,
            cell.commit,
            cell.branch,
            super::rows::timestamp(cell.started_at_us),
            cell.model,
            cell.browser,
            cell.backend,
            cell.scenario,
            cell.asked,
            cell.outcome,
        ])?;
        append(&mut samples, at, &cell)?;
    }
    names.flush()?;
    samples.flush()
}

fn append(samples: &mut Appender<'_>, at: u32, cell: &CellSamples<'_>) -> duckdb::Result<()> {
    for (series, values) in (0u8..).zip([cell.measured, cell.warm_up, cell.alone]) {
        for (place, us) in (0u32..).zip(values) {
            samples.append_row(params![at, series, place, us])?;
        }
    }
    Ok(())
}
