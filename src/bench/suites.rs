//! Suites of which something is kept, and what their histories can be narrowed to. Pure.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;
use utoipa::ToSchema;

use super::Environment;
use crate::store::{StoredCellKey, StoredRuns};

/// A suite of which runs are kept, with what its cells that were right are of
#[derive(Clone, Debug, Default, PartialEq, Serialize, ToSchema)]
#[schema(as = BenchSuite)]
pub struct KeptSuite {
    pub suite: String,
    pub runs: u64,
    /// When the newest began.
    pub latest_us: i64,
    /// Those whose runs cannot be compared with each other's; the one of the newest run comes first.
    pub machines: Vec<Machine>,
    pub branches: BTreeSet<String>,
    pub models: BTreeSet<String>,
    pub browsers: BTreeSet<String>,
    pub backends: BTreeSet<String>,
    pub scenarios: BTreeSet<String>,
    pub precisions: BTreeSet<String>,
    /// Scenarios with what varies beside them.
    pub asked: BTreeSet<String>,
}

/// A machine that a suite was measured on
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
#[schema(as = BenchMachine)]
pub struct Machine {
    pub id: String,
    /// For people; two machines may have the same.
    pub name: String,
    pub runs: u64,
    pub latest_us: i64,
}

impl KeptSuite {
    /// The one that was measured last first; environments by their digests.
    #[must_use]
    pub fn all(
        runs: Vec<StoredRuns>,
        cells: Vec<(String, StoredCellKey)>,
        environments: &BTreeMap<String, Environment>,
    ) -> Vec<Self> {
        let mut suites: BTreeMap<String, Self> = BTreeMap::new();
        for told in runs {
            let suite = suites.entry(told.suite.clone()).or_default();
            suite.suite.clone_from(&told.suite);
            suite.runs += told.runs;
            suite.latest_us = suite.latest_us.max(told.latest_us);
            if let Some(environment) = environments.get(&told.environment) {
                suite.measured_on(environment, &told);
            }
            suite.branches.extend(told.branch);
        }
        for (suite, cell) in cells {
            let suite = suites.entry(suite).or_default();
            suite.models.insert(cell.model);
            suite.browsers.insert(cell.browser);
            suite.backends.insert(cell.backend);
            suite.scenarios.insert(cell.scenario);
            suite.precisions.extend(cell.precision);
            suite.asked.insert(cell.asked);
        }
        let mut suites: Vec<_> = suites.into_values().collect();
        for suite in &mut suites {
            suite.machines.sort_by_key(|machine| -machine.latest_us);
        }
        suites.sort_by_key(|suite| -suite.latest_us);
        suites
    }

    fn measured_on(&mut self, environment: &Environment, told: &StoredRuns) {
        let id = environment.machine();
        if let Some(machine) = self.machines.iter_mut().find(|machine| machine.id == id) {
            machine.runs += told.runs;
            machine.latest_us = machine.latest_us.max(told.latest_us);
        } else {
            let StoredRuns { runs, latest_us, .. } = *told;
            self.machines.push(Machine { id, name: named(environment), runs, latest_us });
        }
    }
}

fn named(of: &Environment) -> String {
    let gibibytes = of.memory_bytes as f64 / f64::from(1u32 << 30);
    let limit = |what: &str, limit: &Option<String>| limit.as_ref().map(|limit| format!("{what} {limit}"));
    let parts = [
        Some(of.processor.clone()),
        Some(format!("{} cores", of.cores)),
        Some(format!("{gibibytes:.1} GiB")),
        Some(format!("kernel {}", of.kernel)),
        limit("processor time", &of.cpu_limit),
        limit("memory", &of.memory_limit),
    ];
    parts.into_iter().flatten().collect::<Vec<_>>().join(", ")
}
