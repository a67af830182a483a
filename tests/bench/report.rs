//! What a run found, against its targets: a table for people, a file for everybody else.

use std::path::Path;

use anyhow::Context;
use serde::Serialize;
use serde_json::{Map, Value, json};

use crate::{Section, origin::Origin, statistics::Ratio};

/// What one section found.
pub(crate) struct Found {
    origin: Origin,
    targets: Vec<Target>,
    /// What the table does not hold, a line each.
    notes: Vec<String>,
    summary: Value,
    samples: Value,
}

/// One line of the table.
#[derive(Serialize)]
pub(crate) struct Target {
    pub(crate) what: String,
    pub(crate) found: String,
    pub(crate) bound: String,
    pub(crate) ratio: Ratio,
    pub(crate) wanted: String,
    /// None where nothing is wanted and the ratio is shown for orientation.
    pub(crate) met: Option<bool>,
}

impl Found {
    pub(crate) fn new(
        origin: Origin,
        targets: Vec<Target>,
        notes: Vec<String>,
        summary: &impl Serialize,
        samples: &impl Serialize,
    ) -> anyhow::Result<Self> {
        let (summary, samples) = (serde_json::to_value(summary)?, serde_json::to_value(samples)?);
        Ok(Self { origin, targets, notes, summary, samples })
    }

    fn kept(&self) -> Value {
        json!({"origin": self.origin, "summary": self.summarised(), "samples": self.samples})
    }

    fn summarised(&self) -> Value {
        json!({"targets": self.targets, "notes": self.notes, "measured": self.summary})
    }
}

/// What the sections of a run found, in the order of the run.
#[derive(Default)]
pub(crate) struct Report {
    found: Vec<(Section, Found)>,
    /// Sections that could not be measured here, with the reason.
    skipped: Vec<(Section, String)>,
}

impl Report {
    pub(crate) fn found(&mut self, section: Section, found: Found) {
        self.found.push((section, found));
    }

    pub(crate) fn skipped(&mut self, section: Section, why: String) {
        self.skipped.push((section, why));
    }

    /// Puts the sections of this run into the file, each with its own origin; others stay as they are.
    pub(crate) fn keep(&self, file: &Path) -> anyhow::Result<()> {
        let mut kept: Map<String, Value> = match std::fs::read(file) {
            Ok(bytes) => serde_json::from_slice(&bytes).with_context(|| file.display().to_string())?,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Map::new(),
            Err(error) => return Err(error).with_context(|| file.display().to_string()),
        };
        kept.extend(self.found.iter().map(|(section, found)| (section.name(), found.kept())));
        std::fs::create_dir_all(file.parent().context("the result's folder")?)?;
        Ok(std::fs::write(file, serde_json::to_vec(&kept)?)?)
    }

    pub(crate) fn summary(&self) -> Value {
        self.found.iter().map(|(section, found)| (section.name(), found.summarised())).collect()
    }

    /// Where the figures come from, the table, and below it what it does not hold.
    pub(crate) fn lines(&self) -> Vec<String> {
        let mut lines = vec![String::new()];
        for (section, found) in &self.found {
            lines.push(format!("{}: {}", section.name(), found.origin.line()));
        }
        lines.push(String::new());
        let mut rows =
            vec![["measured", "weft", "bound", "ratio", "95 % interval", "target", ""].map(str::to_owned)];
        rows.extend(self.found.iter().flat_map(|(_, found)| found.targets.iter().map(Target::row)));
        lines.extend(table(&rows));
        lines.push(String::new());
        lines.extend(self.found.iter().flat_map(|(_, found)| found.notes.clone()));
        let skipped = self.skipped.iter();
        lines.extend(skipped.map(|(section, why)| format!("{} was not measured: {why}", section.name())));
        lines
    }
}

/// Columns as wide as their widest cell.
pub(crate) fn table<const N: usize>(rows: &[[String; N]]) -> Vec<String> {
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let widths: Vec<_> = (0..N).map(width).collect();
    let padded = |row: &[String; N]| {
        let cells = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}"));
        cells.collect::<Vec<_>>().join("  ").trim_end().to_owned()
    };
    rows.iter().map(padded).collect()
}

impl Target {
    pub(crate) fn row(&self) -> [String; 7] {
        let Ratio { value, low, high } = self.ratio;
        let met = match self.met {
            Some(true) => "met",
            Some(false) => "missed",
            None => "",
        };
        [
            self.what.clone(),
            self.found.clone(),
            self.bound.clone(),
            format!("{value:.2}"),
            format!("{low:.2}–{high:.2}"),
            self.wanted.clone(),
            met.to_owned(),
        ]
    }
}
