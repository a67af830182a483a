//! `weft plan`.

use std::str::FromStr;

use clap::{Args, Subcommand};
use serde_json::{Map, Value, json};

use super::{Common, client::with_daemon, output};

#[derive(Subcommand)]
pub(super) enum Plan {
    /// Make a plan of shards, prove it, and show it
    Make(Make),
    /// List plans
    List,
    /// Show a plan: its stages, where they run, and what passes between them
    Show {
        #[arg(value_name = "ID")]
        id: String,
    },
    /// Forget a plan; its shards stay
    Remove {
        #[arg(value_name = "ID")]
        id: String,
    },
}

#[derive(Args)]
pub(super) struct Make {
    /// The whole model
    #[arg(value_name = "MODEL")]
    model: String,
    /// A shard and where it runs, in the order in which they can run: as half,browser=firefox,backend=wasm or
    /// half,lane=firefox-1/wasm
    #[arg(long = "stage", value_name = "SHARD[,WHERE]…", required = true)]
    stages: Vec<Stage>,
    /// What may run a stage when its place cannot
    #[arg(long, value_name = "native|lanes|none", default_value = "native")]
    fallback: String,
}

/// As the daemon takes it.
#[derive(Clone)]
struct Stage(Map<String, Value>);

impl FromStr for Stage {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (model, places) = text.split_once(',').unwrap_or((text, ""));
        let mut stage = Map::from_iter([("model".to_owned(), json!(model))]);
        for place in places.split(',').filter(|place| !place.is_empty()) {
            let (key, value) = place
                .split_once('=')
                .filter(|(key, _)| ["lane", "browser", "backend"].contains(key))
                .ok_or_else(|| format!("{place:?} is no place: use lane=…, browser=… or backend=…"))?;
            stage.insert(key.to_owned(), json!(value));
        }
        Ok(Self(stage))
    }
}

impl Plan {
    pub(super) async fn run(self, common: &Common) -> anyhow::Result<()> {
        let answer = with_daemon(common, async |client| match &self {
            Self::Make(make) => client.post("/api/v1/plans", &make.order()).await,
            Self::List => client.get("/api/v1/plans").await,
            Self::Show { id } => client.get(&format!("/api/v1/plans/{id}")).await,
            Self::Remove { id } => client.delete(&format!("/api/v1/plans/{id}")).await,
        })
        .await?;
        if common.json {
            return output::json(&answer);
        }
        match self {
            Self::Make(_) | Self::Show { .. } => show(&answer),
            Self::Remove { .. } => output::line(&format!("removed {}", text(&answer["id"]))),
            Self::List => list(&answer),
        }
        Ok(())
    }
}

impl Make {
    fn order(&self) -> Value {
        let stages: Vec<_> = self.stages.iter().map(|stage| &stage.0).collect();
        json!({"model": self.model, "stages": stages, "fallback": self.fallback})
    }
}

fn list(answer: &Value) {
    let row = |plan: &Value| {
        let shards = plan["shards"].as_array().into_iter().flatten().map(text);
        vec![text(&plan["id"]), text(&plan["name"]), shards.collect::<Vec<_>>().join(", "), state(plan)]
    };
    let rows: Vec<_> = answer["items"].as_array().into_iter().flatten().map(row).collect();
    if rows.is_empty() {
        output::line("no plans yet: `weft plan make MODEL --stage SHARD --stage SHARD` makes one");
    } else {
        output::table(&["plan", "model", "stages", "state"], &rows);
    }
}

fn state(plan: &Value) -> String {
    plan["unusable"].as_str().map_or_else(|| "ready".to_owned(), |reason| format!("unusable: {reason}"))
}

fn show(plan: &Value) {
    output::line(&format!("{} of {}: {}", text(&plan["id"]), text(&plan["name"]), state(plan)));
    output::line(&format!("fallback {}", text(&plan["fallback"])));
    let names: Vec<_> = plan["shards"].as_array().into_iter().flatten().map(text).collect();
    let stages = plan["stages"].as_array().into_iter().flatten().zip(names).enumerate();
    let rows: Vec<_> = stages.map(|(at, (stage, name))| row(at, stage, name)).collect();
    output::table(&["stage", "shard", "where", "reads", "makes"], &rows);
    for moved in plan["recoveries"].as_array().into_iter().flatten() {
        let (stage, lane) = (&moved["stage"], text(&moved["lane"]));
        output::line(&match moved["fallback"]["reason"].as_str() {
            Some(reason) => format!("stage {stage} went to {lane}: {reason}"),
            None => format!("stage {stage} came back to {lane}"),
        });
    }
}

fn row(at: usize, stage: &Value, name: String) -> Vec<String> {
    let places = ["lane", "backend", "browser"].iter().filter_map(|key| stage[key].as_str());
    let place = places.collect::<Vec<_>>().join(" in ");
    let read = |read: &Value| match read["from"].as_u64() {
        Some(from) => format!("{} of {from}", text(&read["name"])),
        None => text(&read["name"]),
    };
    let reads: Vec<_> = stage["inputs"].as_array().into_iter().flatten().map(read).collect();
    let makes: Vec<_> = stage["outputs"].as_array().into_iter().flatten().map(text).collect();
    let place = if place.is_empty() { "any".to_owned() } else { place };
    vec![at.to_string(), name, place, reads.join(", "), makes.join(", ")]
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or("-").to_owned()
}
