//! How far a benchmark suite has come, as whoever measures it says.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Room for a result's id, a suite's name, and a cell's model, lane and scenario.
const TEXT_MAX: usize = 512;

/// As many as there can be.
const LEASES_MAX: usize = 64;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SuiteProgress {
    /// What its result will be called.
    pub id: String,
    pub suite: String,
    /// Cells that are to be measured, and how many of them have ended, and of those, how many without being right.
    pub cells: u32,
    pub ended: u32,
    pub failed: u32,
    /// What is being done at the moment.
    pub now: Option<String>,
    /// How long the rest takes if its cells take as long as those before; null before the first has ended.
    pub remaining_us: Option<u64>,
    /// When its budget is over.
    pub at_most_us: u64,
    /// Leases that it holds, which are given back when its connection ends.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub leases: Vec<String>,
}

impl SuiteProgress {
    pub(super) fn check(&self) -> Result<(), String> {
        if self.leases.len() > LEASES_MAX {
            return Err(format!("progress: a suite has at most {LEASES_MAX} leases"));
        }
        let texts = [&self.id, &self.suite].into_iter().chain(&self.now).chain(&self.leases);
        if texts.clone().any(|text| text.len() > TEXT_MAX) {
            return Err(format!("progress: a text has at most {TEXT_MAX} bytes"));
        }
        if self.id.is_empty() {
            return Err("progress: the id is empty".to_owned());
        }
        if self.ended > self.cells || self.failed > self.ended {
            return Err("progress: more cells have ended than there are".to_owned());
        }
        Ok(())
    }
}
