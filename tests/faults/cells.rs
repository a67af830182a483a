//! The table of faults: each scenario on each engine, once in `make test` and often in `make prove`.

use crate::{
    cell::Cell,
    engines::{self, ENGINES},
    plans,
    scenarios::{Scenario, slices},
    stage::{INSTANCES, Stage},
};

/// Trials per cell of a proof.
const TRIALS: usize = 20;

/// One case of every scenario, on one daemon.
async fn every_scenario(name: &str) {
    let Some(engine) = engines::present(name) else { return };
    let stage = Stage::start(&[engine], INSTANCES).await.unwrap();
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

/// The trials of one cell that are still missing; each is kept as soon as it is done.
async fn prove(name: &str, scenario: Scenario) {
    let Some(engine) = engines::present(name) else { return };
    if let Some(reason) = engines::inapplicable(engine, scenario) {
        eprintln!("{name} {}: does not exist there: {reason}", scenario.name());
        return;
    }
    let mut cell = Cell::open(name, scenario, TRIALS);
    while cell.trials.len() < TRIALS {
        let stage = Stage::start(&[engine], INSTANCES).await.unwrap();
        let last = TRIALS.min(cell.trials.len().saturating_add(stage.bears(scenario)));
        while cell.trials.len() < last {
            let trial = stage.trial(scenario, cell.trials.len()).await.unwrap();
            cell.add(trial);
        }
        stage.served.stop().await.unwrap();
    }
    eprintln!("{}", cell.row());
}

async fn prove_on_every_engine(scenario: Scenario) {
    for engine in &ENGINES {
        prove(engine.recipe, scenario).await;
    }
}

slices!("twenty trials on each engine: run by `make prove`", super::prove_on_every_engine);

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
            match (engines::inapplicable(engine, scenario), Cell::read(engine.recipe, scenario)) {
                (Some(reason), _) => eprintln!("| {} | {} | – | {reason} |", scenario.name(), engine.recipe),
                (None, Some(cell)) => eprintln!("{}", cell.row()),
                (None, None) => {}
            }
        }
        for cell in plans::subjects().iter().filter_map(|subject| Cell::read(subject, scenario)) {
            eprintln!("{}", cell.row());
        }
    }
}
