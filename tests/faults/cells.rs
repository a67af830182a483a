//! The table of faults: each scenario on each engine, once in `make test` and often in `make prove`.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::{
    FIXTURES,
    engines::{self, ENGINES, Engine},
    proof,
    scenarios::Scenario,
    stage::{Stage, Trial},
};

/// Trials per cell of a proof.
const TRIALS: usize = 20;

/// Of a commit's name, in the table.
const SHORT: usize = 7;

/// One case of every scenario, on one daemon.
async fn every_scenario(name: &str) {
    let Some(engine) = engines::present(name) else { return };
    let stage = Stage::start(engine).await.unwrap();
    let mut wrong = Vec::new();
    for (number, scenario) in Scenario::ALL.into_iter().enumerate() {
        if let Some(reason) = engines::inapplicable(engine, scenario) {
            eprintln!("{name} {}: does not exist there: {reason}", scenario.name());
            continue;
        }
        match stage.trial(scenario, number).await {
            Ok(trial) => eprintln!("{name} {:24} {}", scenario.name(), trial.line()),
            Err(error) => wrong.push(format!("{error:#}")),
        }
    }
    assert!(wrong.is_empty(), "{} scenarios went wrong on {name}:\n{}", wrong.len(), wrong.join("\n\n"));
    stage.served.stop().await.unwrap();
}

#[tokio::test]
async fn every_scenario_on_chromium() {
    every_scenario("chromium").await;
}

#[tokio::test]
async fn every_scenario_on_firefox() {
    every_scenario("firefox").await;
}

#[tokio::test]
async fn every_scenario_on_webkitgtk() {
    every_scenario("webkitgtk").await;
}

/// One cell of the proof, as it is kept.
#[derive(Serialize, Deserialize)]
struct Cell {
    commit: String,
    machine: String,
    command: String,
    engine: String,
    scenario: String,
    trials: Vec<Trial>,
}

impl Cell {
    fn file(engine: &str, scenario: &str) -> PathBuf {
        PathBuf::from(FIXTURES).join("measurements/faults").join(format!("{engine}-{scenario}.json"))
    }

    fn read(engine: &Engine, scenario: Scenario) -> Option<Self> {
        let file = std::fs::read(Self::file(engine.recipe, scenario.name())).ok()?;
        serde_json::from_slice(&file).ok()
    }

    fn write(&self) {
        let file = Self::file(&self.engine, &self.scenario);
        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        std::fs::write(&file, format!("{}\n", serde_json::to_string(self).unwrap())).unwrap();
    }

    /// A row of the table.
    fn row(&self) -> String {
        let sum = |count: fn(&Trial) -> u64| self.trials.iter().map(count).sum::<u64>();
        let recoveries: Vec<f64> =
            self.trials.iter().flat_map(|trial| trial.recovery_ms.iter().copied()).collect();
        let recovery = |q| quantile(&recoveries, q).map_or("–".to_owned(), |ms| format!("{ms:.0} ms"));
        let longest = self.trials.iter().map(|trial| trial.longest_ms).fold(0.0, f64::max);
        format!(
            "| {} | {} | {} | {} | {} | {} | {} | {} | {longest:.0} ms | {} | {} |",
            self.scenario,
            self.engine,
            self.trials.len(),
            sum(|trial| trial.accepted),
            sum(|trial| trial.failed.values().sum()),
            sum(|trial| trial.retried),
            recovery(0.5),
            recovery(0.95),
            self.commit.get(..SHORT).unwrap_or(&self.commit),
            self.machine,
        )
    }
}

/// The smallest sample that at least the share `q` of all does not exceed.
fn quantile(samples: &[f64], q: f64) -> Option<f64> {
    let mut samples = samples.to_vec();
    samples.sort_by(f64::total_cmp);
    let rank = (q * samples.len() as f64).ceil() as usize;
    samples.get(rank.max(1) - 1).copied()
}

/// Whether a cell that was begun at another commit counts: a whole one does, and keeps the commit that it names.
/// A part of one goes on only where it was begun, so that no row mixes two commits.
fn stands(trials: usize, begun: &str, now: &str) -> bool {
    trials >= TRIALS || begun == now
}

#[test]
fn only_whole_cells_outlive_their_commit() {
    let cases = [(TRIALS, "a", true), (TRIALS, "b", true), (TRIALS - 1, "a", true), (TRIALS - 1, "b", false)];
    for (trials, begun, wanted) in cases {
        assert_eq!(stands(trials, begun, "a"), wanted, "{trials} trials, begun at {begun}");
    }
}

/// The trials of one cell that are still missing; each is kept as soon as it is done.
async fn prove(name: &str, scenario: Scenario) {
    let Some(engine) = engines::present(name) else { return };
    if let Some(reason) = engines::inapplicable(engine, scenario) {
        eprintln!("{name} {}: does not exist there: {reason}", scenario.name());
        return;
    }
    let commit = proof::commit();
    let stands = |cell: &Cell| stands(cell.trials.len(), &cell.commit, &commit);
    let known = Cell::read(engine, scenario).filter(stands);
    let mut cell = known.unwrap_or_else(|| Cell {
        commit,
        machine: proof::machine(),
        command: proof::COMMAND.to_owned(),
        engine: name.to_owned(),
        scenario: scenario.name().to_owned(),
        trials: Vec::new(),
    });
    while cell.trials.len() < TRIALS {
        let stage = Stage::start(engine).await.unwrap();
        let last = TRIALS.min(cell.trials.len().saturating_add(stage.bears(scenario)));
        while cell.trials.len() < last {
            let trial = stage.trial(scenario, cell.trials.len()).await.unwrap();
            cell.trials.push(trial);
            cell.write();
        }
        stage.served.stop().await.unwrap();
    }
    eprintln!("{}", cell.row());
}

/// A slice of the proof per scenario.
macro_rules! slices {
    ($($name:ident: $scenario:ident,)*) => {
        mod slices {
            $(
                #[tokio::test]
                #[ignore = "twenty trials on each engine: run by `make prove`"]
                async fn $name() {
                    for engine in &super::ENGINES {
                        super::prove(engine.recipe, super::Scenario::$scenario).await;
                    }
                }
            )*
        }
    };
}

slices! {
    connection_lost: ConnectionLost,
    network_latency: NetworkLatency,
    network_instability: NetworkInstability,
    browser_crash: BrowserCrash,
    browser_reload: BrowserReload,
    browser_memory_pressure: BrowserMemoryPressure,
    browser_cpu_throttling: BrowserCpuThrottling,
    component_timeout: ComponentTimeout,
    component_error: ComponentError,
    partial_result: PartialResult,
    cascade_failure: CascadeFailure,
    multi_browser_failure: MultiBrowserFailure,
    staggered_failure: StaggeredFailure,
}

/// What has been measured so far, as `docs/operations.md` shows it.
#[test]
#[ignore = "prints what the slices before it have kept: run by `make prove`"]
fn table() {
    eprintln!(
        "| scenario | engine | n | requests | failed | retried | recovery p50 | p95 | longest request | measured at | on |"
    );
    eprintln!("|---|---|---|---|---|---|---|---|---|---|---|");
    for scenario in Scenario::ALL {
        for engine in &ENGINES {
            match (engines::inapplicable(engine, scenario), Cell::read(engine, scenario)) {
                (Some(reason), _) => eprintln!("| {} | {} | – | {reason} |", scenario.name(), engine.recipe),
                (None, Some(cell)) => eprintln!("{}", cell.row()),
                (None, None) => {}
            }
        }
    }
}
