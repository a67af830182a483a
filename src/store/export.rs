//! Samples as a table in a file that other programs read. Needs no store: what is exported passes through a database in
//! memory.

use std::path::Path;

use duckdb::params;

use super::{StoreError, open};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TableFormat {
    Parquet,
    Csv,
}

/// A sample with all that it is told apart by.
#[derive(Clone, Debug, PartialEq)]
pub struct SampleRow<'a> {
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
    /// `measured`, `warm_up` or `alone`.
    pub series: &'a str,
    pub at: u32,
    pub us: f64,
}

/// Writes them to a file, which is replaced when it is there.
pub fn export<'a>(
    rows: impl Iterator<Item = SampleRow<'a>>,
    path: &Path,
    format: TableFormat,
) -> Result<(), StoreError> {
    let write = || {
        let connection = open::unmigrated()?;
        connection.execute_batch(include_str!("queries/export_table.sql"))?;
        let mut appender = connection.appender("samples")?;
        for row in rows {
            appender.append_row(params![
                row.run,
                row.suite,
                row.commit,
                row.branch,
                super::rows::timestamp(row.started_at_us),
                row.model,
                row.browser,
                row.backend,
                row.scenario,
                row.asked,
                row.outcome,
                row.series,
                row.at,
                row.us,
            ])?;
        }
        appender.flush()?;
        drop(appender);
        // The statement takes no parameter there.
        let to = path.display().to_string().replace('\'', "''");
        let how = match format {
            TableFormat::Parquet => "FORMAT parquet, COMPRESSION zstd",
            TableFormat::Csv => "FORMAT csv, HEADER",
        };
        connection.execute_batch(&format!("COPY samples TO '{to}' ({how})"))
    };
    write()
        .map_err(|error: duckdb::Error| StoreError::Write { what: "the table", message: error.to_string() })
}
