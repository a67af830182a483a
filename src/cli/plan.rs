//! `weft plan`.

mod forecast;
mod picture;
mod standing;

use std::{path::PathBuf, str::FromStr};

use super::{Common, client::with_daemon, output};
use crate::{
    domain::Activations,
    planner::{Objective, Strategy},
};
use anyhow::Context as _;
use clap::{Args, Subcommand, ValueEnum};
use serde_json::{Map, Value, json};

/// Hexadecimal digits of a plan's name.
const ID_DIGITS: usize = 16;

#[derive(Args)]
#[command(args_conflicts_with_subcommands = true, arg_required_else_help = true)]
pub(super) struct Plan {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    ask: Ask,
}

/// How a model would be split over the lanes that there are: nothing is made
#[derive(Args)]
struct Ask {
    /// The whole model
    #[arg(value_name = "MODEL")]
    model: Option<String>,
    #[command(flatten)]
    split: Split,
    /// Also show what each stage takes of time and bytes, and what else was considered
    #[arg(long)]
    explain: bool,
    /// Write a picture of the stages to this file
    #[arg(long, value_name = "FILE")]
    svg: Option<PathBuf>,
}

#[derive(Subcommand)]
enum Command {
    /// Make a plan, of shards or by splitting a model, prove it, and show it
    Make(Make),
    /// List plans
    List,
    /// Show a plan: its stages, where they run, and what passes between them; or what is kept for a model
    Show {
        #[arg(value_name = "ID|MODEL")]
        id: String,
    },
    /// Forget a plan; its shards stay
    Remove {
        #[arg(value_name = "ID")]
        id: String,
    },
    /// Make the best plan for a model and keep it: requests with the plan `auto` run under it
    ///
    /// Where splitting is not worth it, the whole model is kept. It is reviewed as answers are given, and replaced by one
    /// that was measured to be better twice.
    Keep(Keep),
    /// Look at once whether there is a better plan than the one that is kept for a model
    Review {
        #[arg(value_name = "MODEL")]
        model: String,
    },
    /// Keep no plan for a model any more
    Drop {
        #[arg(value_name = "MODEL")]
        model: String,
    },
}

/// How a model is split.
#[derive(Args)]
struct Split {
    /// `pipeline`, `even`, `component`, `attention_feedforward`, `hybrid`, `tensor`, or `auto` for whatever is best
    #[arg(long, value_name = "STRATEGY")]
    strategy: Option<Strategy>,
    /// latency, throughput, or memory for as few lanes as hold it
    #[arg(long, value_name = "GOAL", default_value = "latency")]
    objective: Goal,
    /// Requests under way at a time, for throughput
    #[arg(long, value_name = "N", default_value_t = 8)]
    in_flight: u32,
    /// How many stages; as many as are good without it
    #[arg(long, value_name = "N")]
    stages: Option<usize>,
    /// How floats pass between the stages: fp16, or as they are made without it
    #[arg(long, value_name = "PRECISION", default_value = "as-made")]
    activations: Passing,
    /// A lane to split over, again for each and for even stages in their order; all that compute in hardware without it
    #[arg(long = "lane", value_name = "LANE")]
    lanes: Vec<String>,
}

#[derive(Clone, Copy, ValueEnum)]
enum Passing {
    AsMade,
    Fp16,
}

#[derive(Clone, Copy, ValueEnum)]
enum Goal {
    Latency,
    Throughput,
    Memory,
}

impl Split {
    fn order(&self) -> Value {
        let objective = match self.objective {
            Goal::Latency => Objective::Latency,
            Goal::Throughput => Objective::Throughput { in_flight: self.in_flight },
            Goal::Memory => Objective::Memory,
        };
        let strategy = self.strategy.unwrap_or(Strategy::Auto);
        let activations = match self.activations {
            Passing::AsMade => Activations::AsMade,
            Passing::Fp16 => Activations::Fp16,
        };
        json!({
            "strategy": strategy, "objective": objective, "stages": self.stages, "lanes": self.lanes,
            "activations": activations,
        })
    }
}

#[derive(Args)]
struct Make {
    /// The whole model
    #[arg(value_name = "MODEL")]
    model: String,
    /// A shard and where it runs, in the order in which they can run: as half,browser=firefox,backend=wasm or
    /// half,lane=firefox-1/wasm; without any the model is split
    #[arg(long = "stage", value_name = "SHARD[,WHERE]…", conflicts_with_all = ["strategy", "stages", "lanes", "activations"])]
    shards: Vec<Stage>,
    #[command(flatten)]
    split: Split,
    #[command(flatten)]
    losses: Losses,
}

#[derive(Args)]
struct Keep {
    /// The whole model
    #[arg(value_name = "MODEL")]
    model: String,
    #[command(flatten)]
    split: Split,
    #[command(flatten)]
    losses: Losses,
}

/// What becomes of a stage whose lane is lost.
#[derive(Args)]
struct Losses {
    /// What may run a stage when its place cannot
    #[arg(long, value_name = "native|lanes|none", default_value = "native")]
    fallback: String,
    /// What is held ahead of need: nothing, every shard in one other lane, or each in some other lane
    #[arg(long, value_name = "none|shared|per_stage", default_value = "none")]
    spares: String,
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
        match self.command {
            Some(command) => command.run(common).await,
            None => self.ask.run(common).await,
        }
    }
}

impl Command {
    async fn run(self, common: &Common) -> anyhow::Result<()> {
        let answer = with_daemon(common, async |client| match &self {
            Self::Make(make) => client.post("/api/v1/plans", &make.order()).await,
            Self::List => client.get("/api/v1/plans").await,
            Self::Show { id } if is_plan(id) => client.get(&format!("/api/v1/plans/{id}")).await,
            Self::Show { id: model } => client.get(&standing::path(model)).await,
            Self::Remove { id } => client.delete(&format!("/api/v1/plans/{id}")).await,
            Self::Keep(keep) => client.put(&standing::path(&keep.model), &keep.order()).await,
            Self::Review { model } => {
                output::progress("measured in turns, behind all that others ask …");
                client.post(&format!("{}/review", standing::path(model)), &json!({})).await
            }
            Self::Drop { model } => client.delete(&standing::path(model)).await,
        })
        .await?;
        if common.json {
            return output::json(&answer);
        }
        match self {
            Self::Keep(_) => standing::show(&answer),
            Self::Show { id } if !is_plan(&id) => standing::show(&answer),
            Self::Make(_) | Self::Show { .. } => show(&answer),
            Self::Review { .. } => output::line(&text(&answer["says"])),
            Self::Drop { model } => output::line(&format!("no plan is kept for {model} any more")),
            Self::Remove { .. } => output::line(&format!("removed {}", text(&answer["id"]))),
            Self::List => list(&answer),
        }
        Ok(())
    }
}

impl Make {
    fn order(&self) -> Value {
        let Losses { fallback, spares } = &self.losses;
        let mut order = json!({"model": self.model, "fallback": fallback, "spares": spares});
        if self.shards.is_empty() {
            order["split"] = self.split.order();
        } else {
            order["stages"] = self.shards.iter().map(|stage| Value::Object(stage.0.clone())).collect();
        }
        order
    }
}

impl Keep {
    fn order(&self) -> Value {
        let Losses { fallback, spares } = &self.losses;
        json!({"split": self.split.order(), "fallback": fallback, "spares": spares})
    }
}

/// Whether this is the name of a plan, and not of a model.
fn is_plan(name: &str) -> bool {
    let digits = name.strip_prefix("plan-");
    digits.is_some_and(|digits| {
        digits.len() == ID_DIGITS && digits.chars().all(|digit| digit.is_ascii_hexdigit())
    })
}

impl Ask {
    async fn run(self, common: &Common) -> anyhow::Result<()> {
        let model =
            self.model.context("a model is wanted, or list, show, make, remove, keep, review or drop")?;
        let order = json!({"model": model, "split": self.split.order()});
        let answer = with_daemon(common, async |client| client.post("/api/v1/plans/forecast", &order).await);
        let answer = answer.await?;
        if let Some(file) = &self.svg {
            std::fs::write(file, picture::svg(&answer)).with_context(|| file.display().to_string())?;
        }
        if common.json {
            return output::json(&answer);
        }
        forecast::show(&answer, self.explain);
        Ok(())
    }
}

fn list(answer: &Value) {
    let row = |plan: &Value| {
        let shards = plan["shards"].as_array().into_iter().flatten().map(text);
        vec![text(&plan["id"]), text(&plan["name"]), shards.collect::<Vec<_>>().join(", "), state(plan)]
    };
    let rows: Vec<_> = answer["items"].as_array().into_iter().flatten().map(row).collect();
    if rows.is_empty() {
        output::line("no plans yet: `weft plan make MODEL --strategy pipeline` makes one");
    } else {
        output::table(&["plan", "model", "stages", "state"], &rows);
    }
}

fn state(plan: &Value) -> String {
    let state = match plan["unusable"].as_str() {
        None => "ready".to_owned(),
        Some(reason) => format!("unusable: {reason}"),
    };
    if plan["standing"] == true { format!("{state}, kept for its model") } else { state }
}

fn show(plan: &Value) {
    output::line(&format!("{} of {}: {}", text(&plan["id"]), text(&plan["name"]), state(plan)));
    let spares = plan["spares"].as_str().unwrap_or("none");
    output::line(&format!("fallback {}, spares {spares}", text(&plan["fallback"])));
    let error = plan["error"].as_f64().map_or_else(|| "unknown".to_owned(), |error| format!("{error:.1e}"));
    let passing = if plan["activations"] == "fp16" { ", floats pass as fp16" } else { "" };
    output::line(&format!("off the whole model by {error} of the largest value{passing}"));
    let names: Vec<_> = plan["shards"].as_array().into_iter().flatten().map(text).collect();
    let stages = plan["stages"].as_array().into_iter().flatten().zip(names).enumerate();
    let rows: Vec<_> = stages.map(|(at, (stage, name))| row(at, stage, name)).collect();
    output::table(&["stage", "shard", "where", "reads", "makes"], &rows);
    for moved in plan["recoveries"].as_array().into_iter().flatten() {
        let (stage, lane) = (&moved["stage"], text(&moved["lane"]));
        let after = moved["took_us"].as_u64().map(|us| format!(" {} ms after the loss", us / 1000));
        let after = after.unwrap_or_default();
        output::line(&match moved["fallback"]["reason"].as_str() {
            Some(reason) => format!("stage {stage} went to {lane}{after}: {reason}"),
            None => format!("stage {stage} came back to {lane}{after}"),
        });
    }
}

fn row(at: usize, stage: &Value, name: String) -> Vec<String> {
    let places = ["lane", "backend", "browser"].iter().filter_map(|key| stage[key].as_str());
    let lanes = stage["lanes"].as_array().into_iter().flatten().filter_map(Value::as_str);
    let place = places.collect::<Vec<_>>().join(" in ") + &lanes.collect::<Vec<_>>().join(" or ");
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
