//! One model over one set of lanes: every split of it made, asked and compared with the whole.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
};

use rand::{SeedableRng, rngs::Xoshiro256PlusPlus, seq::SliceRandom};
use serde_json::{Value, json};
use weft::{
    domain::{Tensor, Tolerance, VerdictStatus},
    models::gate::compare,
};

use super::{
    fetched::{TELEMETRY, fetched},
    get, post,
    subjects::{Subject, answered, asked},
};
use crate::{
    daemon::FIXTURES,
    graphs, proof,
    serve::{Client, Served},
    webkit,
};

/// Splits answer as the whole does natively, in fp32.
pub(super) const TOLERANCE: Tolerance = Tolerance(1e-4);

/// Longer than a software adapter takes to be proven for a part.
const TIMEOUT_US: u64 = 600_000_000;

/// Requests at a time, by which a throughput is forecast.
pub(super) const IN_FLIGHT: u32 = 8;

const STAGES: [usize; 3] = [2, 3, 4];

/// What is there to split over.
#[derive(Clone, Copy, Debug)]
pub(super) struct Lanes {
    pub(super) name: &'static str,
    pub(super) browsers: &'static str,
    pub(super) backends: &'static [&'static str],
    pub(super) names: &'static [&'static str],
}

impl Lanes {
    /// A daemon with these browsers, all of whose lanes are there; nothing where a browser is not installed.
    pub(super) async fn serve(&self) -> Option<Served> {
        if self.browsers.contains("webkitgtk") && !webkit::here() {
            return None;
        }
        if !crate::daemon::installed(self.browsers) {
            return None;
        }
        let settings = format!("[lanes]\nbackends = {:?}\n\n{TELEMETRY}", self.backends);
        let program = Path::new(env!("CARGO_BIN_EXE_weft"));
        let served = Served::start_with(program, self.browsers, &[("weft.toml", &settings)]).await.unwrap();
        // Who is proven for a model is there.
        let upload = post(&served, "/api/v1/blobs", graphs::neg()).await;
        let small = json!({"name": "neg", "digest": upload["digest"], "source": "a test"});
        post(&served, "/api/v1/models", small.to_string()).await;
        post(&served, "/api/v1/models/neg/verify", json!({"backend": self.backends}).to_string()).await;
        let there = get(&served, "/api/v1/lanes").await;
        let there = there["items"].as_array().unwrap();
        for name in self.names {
            let is_there = |lane: &Value| lane["lane"] == *name && lane["state"] != "absent";
            assert!(there.iter().any(is_there), "no lane {name} among {there:?}");
        }
        Some(served)
    }
}

pub(super) fn file(subject: &Subject, lanes: &Lanes) -> PathBuf {
    let name = format!("{}-{}.json", subject.name, lanes.name);
    PathBuf::from(FIXTURES).join("measurements/sharding").join(name)
}

/// Runs the slice, unless it was run.
pub(super) async fn run(subject: &Subject, lanes: &Lanes) {
    let (file, commit) = (file(subject, lanes), proof::commit());
    if file.exists() || !subject.here() {
        return;
    }
    let Some(served) = lanes.serve().await else { return };
    let shown = subject.add(&served).await;
    assert!(shown["digest"].is_string(), "{}: {shown}", subject.name);
    let client = served.connect().await.unwrap();
    let mut bench = Bench { served, client, model: subject.name, sets: subject.sets(), whole: Vec::new() };
    bench.whole =
        bench.answers(&json!({"backend": ["ort-cpu"], "browser": ["native"]})).await.unwrap().outputs;
    let mut rows = Vec::new();
    for split in splits(subject, lanes) {
        let row = bench.row(&split).await;
        eprintln!("{}: {}", subject.name, told(&row));
        rows.push(row);
    }
    let weights = bench.weights(&rows).await;
    let sizes = |set: &Vec<Tensor>| -> Value {
        set.iter().map(|tensor| (tensor.name.clone(), json!(tensor.shape))).collect()
    };
    let slice = json!({
        "commit": commit, "machine": proof::machine(), "command": proof::COMMAND,
        "build": if cfg!(debug_assertions) { "debug" } else { "release" },
        "model": subject.name, "digest": shown["digest"], "bytes": size(&shown),
        "nodes": shown["anatomy"]["cost"]["nodes"], "parameter_bytes": shown["anatomy"]["parameter_bytes"],
        "lanes": lanes.names, "tolerance": TOLERANCE, "orders_per_stages": subject.orders,
        "sizes": bench.sets.iter().map(sizes).collect::<Vec<_>>(), "rows": rows, "weights": weights,
    });
    bench.served.stop().await.unwrap();
    let broken = |row: &&Value| {
        row["wrong"].is_string()
            || ["internal", "no_backend"].iter().any(|code| row["refused"]["code"] == *code)
    };
    let wrong: Vec<_> = rows.iter().filter(broken).map(told).collect();
    assert!(rows.iter().any(|row| row["ran"].is_array()), "{}: no split answered", subject.name);
    assert!(wrong.is_empty(), "{}: {}", subject.name, wrong.join("\n"));
    // What else came was a shard of a plan that was refused in a lane, and is gone again.
    let more = |of: &&Value| match of["file"].as_str() {
        Some(file) => shown["digest"] == file,
        None => of["served"] != of["bytes"],
    };
    let more: Vec<_> = weights.iter().filter(more).collect();
    assert!(more.is_empty(), "{}: {more:?}", subject.name);
    std::fs::create_dir_all(file.parent().unwrap()).unwrap();
    std::fs::write(&file, format!("{slice}\n")).unwrap();
}

/// Even stages in every order of the lanes, or in some of them by a seed; then what each strategy makes of all lanes.
fn splits(subject: &Subject, lanes: &Lanes) -> Vec<Value> {
    let mut random = Xoshiro256PlusPlus::seed_from_u64(subject.name.bytes().map(u64::from).sum());
    let mut splits = Vec::new();
    for stages in STAGES.into_iter().filter(|stages| *stages <= lanes.names.len()) {
        let mut orders = orders(lanes.names, stages);
        if let Some(taken) = subject.orders {
            orders.shuffle(&mut random);
            orders.truncate(taken);
        }
        splits.extend(orders.into_iter().map(|order| ("even", Some(stages), order)));
    }
    let all = || lanes.names.to_vec();
    for stages in STAGES.into_iter().filter(|stages| *stages <= lanes.names.len()) {
        splits.push(("pipeline", Some(stages), all()));
    }
    for strategy in ["component", "attention_feedforward", "hybrid", "auto"] {
        splits.push((strategy, None, all()));
    }
    let split = |(strategy, stages, lanes): (&str, Option<usize>, Vec<&str>)| {
        json!({"strategy": strategy, "objective": {"for": "throughput", "in_flight": IN_FLIGHT},
            "stages": stages, "lanes": lanes})
    };
    splits.into_iter().map(split).collect()
}

/// Every choice of so many, in every order.
pub(super) fn orders<'a>(all: &[&'a str], many: usize) -> Vec<Vec<&'a str>> {
    if many == 0 {
        return vec![Vec::new()];
    }
    let longer = |order: Vec<&'a str>| {
        let rest: Vec<_> = all.iter().filter(|lane| !order.contains(lane)).copied().collect();
        rest.into_iter().map(move |lane| [order.clone(), vec![lane]].concat())
    };
    orders(all, many - 1).into_iter().flat_map(longer).collect()
}

pub(super) fn size(shown: &Value) -> u64 {
    let beside = shown["external"].as_object().into_iter().flat_map(|files| files.values());
    beside.chain([&shown["bytes"]]).map(|bytes| bytes.as_u64().unwrap()).sum()
}

pub(super) struct Answers {
    pub(super) outputs: Vec<Vec<Tensor>>,
    /// Of the last one.
    provenance: Value,
    /// Microseconds of each.
    total_us: Vec<Value>,
}

pub(super) struct Bench {
    pub(super) served: Served,
    pub(super) client: Client,
    pub(super) model: &'static str,
    pub(super) sets: Vec<Vec<Tensor>>,
    /// What the whole model answers natively.
    pub(super) whole: Vec<Vec<Tensor>>,
}

impl Bench {
    /// One answer to each set of inputs, or the first refusal.
    pub(super) async fn answers(&mut self, parameters: &Value) -> Result<Answers, Value> {
        let mut parameters = parameters.clone();
        parameters["timeout"] = json!(TIMEOUT_US);
        let mut answers = Answers { outputs: Vec::new(), provenance: Value::Null, total_us: Vec::new() };
        for set in &self.sets {
            let answer = self.client.ask_with(self.model, asked(set), &parameters).await.unwrap();
            if !answer["outputs"].is_array() {
                return Err(answer["error"].clone());
            }
            answers.outputs.push(answered(&answer));
            let parameters = &answer["parameters"];
            answers.total_us.push(parameters["timing_us"]["total"].clone());
            answers.provenance = parameters["provenance"].clone();
        }
        Ok(answers)
    }

    /// A split with what was forecast, what came of it, and what it held.
    async fn row(&mut self, split: &Value) -> Value {
        let mut order = json!({"model": self.model, "split": split});
        let forecast = post(&self.served, "/api/v1/plans/forecast", order.to_string()).await;
        // A lane that compiles for each size is waited for while it proves one that it has not met.
        order["fallback"] = json!("none");
        let mut row = json!({"split": split, "forecast": forecast["forecast"], "shape": forecast["shape"],
            "load": load()});
        let plan = post(&self.served, "/api/v1/plans", order.to_string()).await;
        let Some(id) = plan["id"].as_str() else {
            row["refused"] = json!({"code": plan["code"], "detail": plan["detail"]});
            return row;
        };
        row["plan"] = json!(id);
        row["stages"] = self.stages(&plan).await;
        match self.answers(&json!({"plan": id})).await {
            Err(refused) => row["refused"] = refused,
            Ok(answers) => {
                let verdict = compare(&self.whole, &answers.outputs, TOLERANCE);
                row["error"] = json!(verdict.error);
                // An output that hardly varies proves less, but has not failed.
                row["verdict"] = json!(verdict.status);
                if verdict.status == VerdictStatus::Mismatch {
                    row["wrong"] = json!(verdict.detail);
                }
                let ran = answers.provenance["stages"].as_array().unwrap();
                row["ran"] = ran.iter().map(|stage| stage["lane"].clone()).collect();
                row["total_us"] = json!(answers.total_us);
                if !as_meant(&row) {
                    let reasons: Vec<_> = ran.iter().map(|stage| &stage["fallback"]["reason"]).collect();
                    row["wrong"] = json!(format!("it ran in {}: {reasons:?}", row["ran"]));
                }
            }
        }
        row
    }

    /// Where each stage of a plan is, and the size of its shard.
    async fn stages(&self, plan: &Value) -> Value {
        let mut stages = Vec::new();
        for (stage, shard) in
            plan["stages"].as_array().unwrap().iter().zip(plan["shards"].as_array().unwrap())
        {
            let shown = get(&self.served, &format!("/api/v1/models/{}", shard.as_str().unwrap())).await;
            let beside = shown["external"].as_object().into_iter().flat_map(|files| files.keys());
            let files: Vec<_> =
                beside.cloned().chain([shown["digest"].as_str().unwrap().to_owned()]).collect();
            stages.push(
                json!({"lane": stage["lane"], "browser": stage["browser"], "backend": stage["backend"],
                "shard": stage["model"], "bytes": size(&shown), "files": files}),
            );
        }
        json!(stages)
    }

    /// What each browser fetched, as the server says, beside what it held shards of.
    async fn weights(&self, rows: &[Value]) -> Vec<Value> {
        let mut held: BTreeMap<(String, String), (u64, BTreeSet<String>)> = BTreeMap::new();
        let mut placed = BTreeSet::new();
        for stage in rows.iter().flat_map(|row| row["stages"].as_array().into_iter().flatten()) {
            let files =
                stage["files"].as_array().unwrap().iter().map(|file| file.as_str().unwrap().to_owned());
            let held_by = (stage["bytes"].as_u64().unwrap(), files.collect::<BTreeSet<_>>());
            for browser in browsers(stage, rows) {
                let shard = (browser, stage["shard"].as_str().unwrap().to_owned());
                if stage["lane"].is_string() {
                    placed.insert(shard.clone());
                }
                held.insert(shard, held_by.clone());
            }
        }
        let mut came = fetched(&self.served);
        let neg = get(&self.served, "/api/v1/models/neg").await;
        came.retain(|(_, digest), _| neg["digest"] != digest.as_str());
        let mut weights = Vec::new();
        for ((browser, shard), (bytes, files)) in held {
            let served: u64 =
                files.iter().filter_map(|file| came.remove(&(browser.clone(), file.clone()))).sum();
            // A shard without a lane of its own need not have come everywhere, nor all of it by the end of the slice.
            if served >= bytes || placed.contains(&(browser.clone(), shard.clone())) {
                weights.push(json!({"browser": browser, "shard": shard, "bytes": bytes, "served": served}));
            }
        }
        // No plan that was made has a stage of these.
        for ((browser, digest), served) in came {
            weights.push(json!({"browser": browser, "file": digest, "bytes": 0, "served": served}));
        }
        weights
    }
}

/// Whose lanes hold a stage's shard: its own lane's, or any where it has none of its own.
fn browsers(stage: &Value, rows: &[Value]) -> BTreeSet<String> {
    let named = rows.iter().flat_map(|row| row["split"]["lanes"].as_array().unwrap());
    let lanes =
        stage["lane"].as_str().map_or_else(|| named.filter_map(Value::as_str).collect(), |lane| vec![lane]);
    let of = |lane: &str| lane.split_once("-1/").map(|(browser, _)| browser.to_owned());
    lanes.into_iter().filter_map(of).collect()
}

/// Whether each stage ran in its place, and even ones in the lanes that were named, in their order.
fn as_meant(row: &Value) -> bool {
    let (ran, stages) = (row["ran"].as_array().unwrap(), row["stages"].as_array().unwrap());
    let named = row["split"]["strategy"] != "even" || row["ran"] == row["split"]["lanes"];
    named && ran.iter().zip(stages).all(|(lane, place)| is_in(place, lane.as_str().unwrap()))
}

/// A place is a lane; of several, what they have in common.
fn is_in(place: &Value, lane: &str) -> bool {
    let (instance, backend) = lane.split_once('/').unwrap();
    let browser = instance.trim_end_matches("-1");
    let fits = |part: &str, is: &str| place[part].is_null() || place[part] == is;
    fits("lane", lane) && fits("browser", browser) && fits("backend", backend)
}

/// How busy the machine has been for a minute: times are noise where others compute.
pub(super) fn load() -> f64 {
    let text = std::fs::read_to_string("/proc/loadavg").unwrap();
    text.split(' ').next().unwrap().parse().unwrap()
}

fn told(row: &Value) -> String {
    let split = &row["split"];
    let what = format!("{} {} {}", split["strategy"], split["stages"], split["lanes"]);
    match (&row["wrong"], &row["refused"]) {
        (Value::String(wrong), _) => format!("{what}: {wrong}"),
        (_, Value::Object(refused)) => format!("{what}: {refused:?}"),
        _ => format!("{what}: {}", row["error"]),
    }
}
