//! How much of what suites measured is kept: `[bench]`.

use std::time::Duration;

use serde::Deserialize;

use super::{ConfigError, positive};
use crate::bench::Keeping;

/// Years of a run a day; of the suite `smoke` some tens of MiB.
const RUNS: u32 = 1000;

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RawBench {
    pub runs: Option<u32>,
    #[serde(with = "humantime_serde")]
    pub age: Option<Duration>,
}

impl RawBench {
    pub(super) fn resolve(&self) -> Result<Keeping, ConfigError> {
        let age = self.age.map(|age| positive(Some(age), age, "bench.age")).transpose()?;
        Ok(Keeping { runs: positive(self.runs, RUNS, "bench.runs")?, age })
    }
}
