//! A result's document, read strictly: what a later weft wrote or a hand changed is an error with a name.

use std::collections::BTreeSet;

use serde::Deserialize;

use super::{Outcome, Results};

/// Of the form in which results are written now.
pub const VERSION: u32 = 1;

#[derive(Debug, thiserror::Error)]
pub enum DocumentError {
    #[error("it has version {0} of the document, and this weft knows those up to {VERSION}")]
    Newer(u32),
    #[error(transparent)]
    Malformed(#[from] serde_json::Error),
    #[error("no run writes this: {0}")]
    Impossible(String),
}

/// What is read before the rest, whose form it tells.
#[derive(Deserialize)]
struct Versioned {
    version: Option<u32>,
}

impl Results {
    pub fn read(text: &[u8]) -> Result<Self, DocumentError> {
        let versioned: Versioned = serde_json::from_slice(text)?;
        if let Some(newer) = versioned.version.filter(|version| *version > VERSION) {
            return Err(DocumentError::Newer(newer));
        }
        let results: Self = serde_json::from_slice(text)?;
        results.possible().map_err(DocumentError::Impossible)?;
        Ok(results)
    }

    /// What is wrong with it that its form does not tell.
    fn possible(&self) -> Result<(), String> {
        if self.ended_at_us < self.started_at_us {
            return Err("it ended before it started".to_owned());
        }
        let mut keys = BTreeSet::new();
        for cell in &self.cells {
            let name =
                || format!("{} in {}/{}, {}", cell.model, cell.browser, cell.backend, cell.scenario.name());
            let mut times = cell.samples_us.iter().chain(&cell.warm_up_us);
            if let Some(sample) = times.find(|sample| **sample < 0.0) {
                return Err(format!("{}: a sample took {sample} µs", name()));
            }
            if cell.state.outcome == Outcome::Ok && cell.samples_us.is_empty() {
                return Err(format!("{}: it is ok without a sample", name()));
            }
            let varied = cell.varied.of(cell.scenario);
            if !keys.insert((&cell.model, &cell.browser, &cell.backend, varied)) {
                return Err(format!("{} is there twice", name()));
            }
        }
        Ok(())
    }
}
