//! A result's document, read strictly: what a later weft wrote or a hand changed is an error with a name.

use std::collections::BTreeSet;

use serde::Deserialize;

use super::{Outcome, Results};
use crate::domain::{Code, Failure, Retry};

/// Of the form in which results are written now.
/// The second has the branch and weft's commit, the third what requests take and how fast the machine copies,
/// the fourth in which turns samples were taken.
pub const VERSION: u32 = 4;

/// A document's bytes: a million samples and more, several times what a suite's hour gives.
pub const DOCUMENT_MAX: usize = 32 << 20;

/// Each is compared with others' by its name.
const CELLS_MAX: usize = 10_000;

#[derive(Debug, thiserror::Error)]
pub enum DocumentError {
    #[error("it has version {0} of the document, and this weft knows those up to {VERSION}")]
    Newer(u32),
    #[error("it has {0} bytes, and no document has more than {DOCUMENT_MAX}")]
    TooLarge(usize),
    #[error(transparent)]
    Malformed(#[from] serde_json::Error),
    #[error("no run writes this: {0}")]
    Impossible(String),
}

impl From<DocumentError> for Failure {
    fn from(error: DocumentError) -> Self {
        let code = match &error {
            DocumentError::TooLarge(_) => Code::TooLarge,
            _ => Code::InvalidRequest,
        };
        Self::new(code, Retry::Never, error.to_string())
    }
}

/// What is read before the rest, whose form it tells.
#[derive(Deserialize)]
struct Versioned {
    version: Option<u32>,
}

impl Results {
    pub fn read(text: &[u8]) -> Result<Self, DocumentError> {
        if text.len() > DOCUMENT_MAX {
            return Err(DocumentError::TooLarge(text.len()));
        }
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
        if let Some(copied) = self.copied.filter(|copied| *copied <= 0.0) {
            return Err(format!("it copied {copied} bytes per second"));
        }
        if self.cells.len() > CELLS_MAX {
            return Err(format!("it has {} cells, over {CELLS_MAX}", self.cells.len()));
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
            if let Some(turns) = &cell.turns {
                let told = turns.samples.iter().try_fold(0usize, |sum, count| sum.checked_add(*count));
                if told != Some(cell.samples_us.len()) || turns.samples.contains(&0) {
                    return Err(format!("{}: its turns have other samples than it has", name()));
                }
            }
            let varied = cell.varied.of(cell.scenario);
            if !keys.insert((&cell.model, &cell.browser, &cell.backend, varied)) {
                return Err(format!("{} is there twice", name()));
            }
        }
        Ok(())
    }
}
