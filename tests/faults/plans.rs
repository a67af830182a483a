//! Faults under plans: each scenario on the lane of each stage in turn, while requests run through all of them.

use std::collections::BTreeMap;

use anyhow::Context;
use serde_json::{Value, json};

use crate::{
    cell::Cell,
    engines::{self, Engine},
    load::{Asking, MODEL},
    scenarios::{Scenario, slices},
    stage::{Aim, Stage, Trial},
};

/// Which engine has which stage: every engine has each once.
const ORDERS: [[&str; 3]; 3] = [
    ["chromium", "firefox", "webkitgtk"],
    ["firefox", "webkitgtk", "chromium"],
    ["webkitgtk", "chromium", "firefox"],
];

/// Trials per cell of a proof: one by each rule for fallback.
const TRIALS: usize = 2;

/// Stages answer as the whole does natively, in fp32.
const TOLERANCE: f32 = 1e-4;

const NATIVE: &str = "native/ort-cpu";

/// A model in stages over a daemon's browsers.
struct Sharded {
    stage: Stage,
    shards: Vec<String>,
    /// Of each stage; none natively.
    engines: Vec<Option<&'static Engine>>,
    /// By their rule for fallback.
    plans: BTreeMap<&'static str, String>,
}

impl Sharded {
    /// With a browser of each of these engines, and a stage in each; none where one is not installed.
    async fn start(order: &[&str]) -> anyhow::Result<Option<Self>> {
        let mut engines = Vec::new();
        for name in order {
            let engine = if *name == "native" { None } else { engines::present(name) };
            if engine.is_none() && *name != "native" {
                return Ok(None);
            }
            engines.push(engine);
        }
        let browsers: Vec<_> = engines.iter().flatten().copied().collect();
        let stage = Stage::start(&browsers, 1).await?;
        for engine in &browsers {
            stage.proven(MODEL, engine).await?;
        }
        let mut sharded = Self { stage, shards: Vec::new(), engines, plans: BTreeMap::new() };
        sharded.plan().await?;
        Ok(Some(sharded))
    }

    /// Splits the model, and makes a plan by each rule with its parts in these lanes.
    async fn plan(&mut self) -> anyhow::Result<()> {
        let lanes: Vec<_> = self.engines.iter().map(|engine| lane(*engine)).collect();
        let split = json!({"strategy": "even", "stages": lanes.len(), "lanes": lanes});
        let made = self.make(&json!({"model": MODEL, "split": split})).await?;
        let shards = made["shards"].as_array().context("a plan names its shards")?;
        self.shards = shards.iter().filter_map(|shard| shard.as_str().map(ToOwned::to_owned)).collect();
        let stage = |(shard, lane)| json!({"model": shard, "lane": lane});
        let stages: Vec<_> = self.shards.iter().zip(&lanes).map(stage).collect();
        for fallback in ["none", "lanes", "native"] {
            let made = self.make(&json!({"model": MODEL, "stages": stages, "fallback": fallback})).await?;
            self.plans.insert(fallback, made["id"].as_str().context("a plan has an id")?.to_owned());
        }
        Ok(())
    }

    async fn make(&self, order: &Value) -> anyhow::Result<Value> {
        self.stage.post("/api/v1/plans", order.to_string()).await
    }

    /// One fault in the lane of a stage while requests run under a plan.
    async fn trial(&self, scenario: Scenario, at: usize, number: usize) -> anyhow::Result<Trial> {
        let cascades = scenario == Scenario::CascadeFailure;
        for (shard, own) in self.shards.iter().zip(&self.engines) {
            // A failure that spreads needs somewhere to go at once.
            let everywhere = self.engines.iter().flatten().filter(|_| cascades);
            for engine in own.iter().chain(everywhere) {
                self.stage.proven(shard, engine).await?;
            }
        }
        let fallback = match (cascades, number % 2) {
            (true, _) => "lanes",
            (false, 0) => "none",
            (false, _) => "native",
        };
        let parameters = json!({"plan": self.plans[fallback]});
        let asking = Asking { parameters, tolerance: TOLERANCE };
        let ring = self.engines.iter().cycle().skip(at).take(self.engines.len());
        let instances = ring.flatten().map(|engine| format!("{}-1", engine.recipe)).collect();
        self.stage.suffer(scenario, &Aim { asking, fallback, instances }).await
    }
}

fn lane(engine: Option<&Engine>) -> String {
    engine.map_or_else(|| NATIVE.to_owned(), |engine| format!("{}-1/wasm", engine.recipe))
}

#[tokio::test]
async fn a_stage_that_is_hit_costs_no_request() {
    let Some(sharded) = Sharded::start(&["chromium", "native", "firefox"]).await.unwrap() else { return };
    let mut number = 0;
    for scenario in [Scenario::BrowserCrash, Scenario::PartialResult] {
        for at in [0, 2] {
            let trial = sharded.trial(scenario, at, number).await.unwrap();
            eprintln!("stage {at} {:16} {}", scenario.name(), trial.line());
            number += 1;
        }
        // Each stage by the other rule.
        number += 1;
    }
    sharded.stage.served.stop().await.unwrap();
}

/// A stage of a plan, as its cells are named.
fn subject(order: &[&str], at: usize) -> String {
    format!("{}-stage-{at}", order.join("-"))
}

/// All stages of all plans.
pub(crate) fn subjects() -> Vec<String> {
    ORDERS.iter().flat_map(|order| (0..order.len()).map(|at| subject(order, at))).collect()
}

/// The trials of one scenario that are still missing; each is kept as soon as it is done.
async fn prove(scenario: Scenario) {
    for order in ORDERS {
        let open = |at| Cell::open(&subject(&order, at), scenario, TRIALS);
        let mut cells: Vec<_> = (0..order.len()).map(open).collect();
        if cells.iter().all(|cell| cell.trials.len() >= TRIALS) {
            continue;
        }
        let Some(sharded) = Sharded::start(&order).await.unwrap() else { return };
        for (at, cell) in cells.iter_mut().enumerate() {
            while cell.trials.len() < TRIALS {
                cell.add(sharded.trial(scenario, at, cell.trials.len()).await.unwrap());
            }
            eprintln!("{}", cell.row());
        }
        sharded.stage.served.stop().await.unwrap();
    }
}

slices!("each stage of three plans in turn: run by `make prove`", super::prove);
