//! What splits take beside what was forecast before any of them had run: forecasts rest on other splits of the model.
//!
//! The measurement means something on a machine that does nothing else; each slice says how much others computed, and one
//! in which that was too much is measured again.

use std::{
    path::PathBuf,
    time::{Duration, Instant},
};

use futures_util::future::try_join_all;
use serde_json::{Value, json};

use super::{
    ENGINES, MAGIKA, RECOGNITION, SILERO, made, post,
    slice::{Bench, IN_FLIGHT},
    subjects::{Subject, asked},
};
use crate::{
    daemon::FIXTURES,
    proof,
    serve::{Client, Served, processes_of},
};

const CHROMIUM: &str = ENGINES.names[0];
const FIREFOX: &str = ENGINES.names[1];
const WEBKIT: &str = ENGINES.names[2];
const NATIVE: &str = ENGINES.names[3];

/// Splits that the forecasts rest on: every engine first and second.
const KNOWN: [&[&str]; 4] =
    [&[CHROMIUM, FIREFOX], &[FIREFOX, WEBKIT], &[WEBKIT, NATIVE], &[NATIVE, CHROMIUM]];

/// Splits that nothing is known of when they are forecast.
const HELD_OUT: [(&str, &[&str]); 11] = [
    ("even", &[CHROMIUM, NATIVE]),
    ("even", &[FIREFOX, CHROMIUM]),
    ("even", &[WEBKIT, FIREFOX]),
    ("even", &[NATIVE, WEBKIT]),
    ("even", &[CHROMIUM, FIREFOX, NATIVE]),
    ("even", &[NATIVE, WEBKIT, CHROMIUM]),
    ("even", &[FIREFOX, NATIVE, WEBKIT]),
    ("even", &[CHROMIUM, FIREFOX, WEBKIT, NATIVE]),
    ("even", &[NATIVE, WEBKIT, FIREFOX, CHROMIUM]),
    ("pipeline", &[CHROMIUM, FIREFOX]),
    ("pipeline", &[NATIVE, FIREFOX, WEBKIT]),
];

/// All plans are measured once before the next round begins, so that a slow minute is every plan's.
const ROUNDS: usize = 5;

/// Of one round: requests that are alone, and how long several are under way.
const ALONE: usize = 6;
const TOGETHER: Duration = Duration::from_secs(2);

/// The share of the processors' time that others may have had, for times to mean something.
const OTHERS_MOST: f64 = 0.05;

const SUBJECTS: [Subject; 4] = [SILERO, MAGIKA, RECOGNITION, made("transformer-106", 6, 128, None)];

fn file(subject: &Subject) -> PathBuf {
    PathBuf::from(FIXTURES).join("measurements/sharding").join(format!("timing-{}.json", subject.name))
}

/// What was measured while others computed next to nothing.
pub(super) fn known() -> impl Iterator<Item = Value> {
    SUBJECTS.iter().filter_map(measured)
}

fn measured(subject: &Subject) -> Option<Value> {
    let slice: Value = serde_json::from_slice(&std::fs::read(file(subject)).ok()?).ok()?;
    let share = |of: &str| slice["cpu"][of].as_f64().unwrap();
    (share("others") + share("stolen") <= OTHERS_MOST).then_some(slice)
}

#[tokio::test]
#[ignore = "a full matrix: run by `make prove`, on a machine that does nothing else"]
async fn forecasts_beside_what_was_measured() {
    let commit = proof::commit();
    for subject in SUBJECTS {
        if measured(&subject).is_some() {
            continue;
        }
        let file = file(&subject);
        let Some(served) = ENGINES.serve().await else { return };
        let shown = subject.add(&served).await;
        let client = served.connect().await.unwrap();
        let mut bench =
            Bench { served, client, model: subject.name, sets: subject.sets(), whole: Vec::new() };
        let (from, rows) = (Cpu::read(&bench.served), bench.timed().await);
        let slice = json!({
            "commit": commit, "machine": proof::machine(), "command": proof::COMMAND,
            "build": if cfg!(debug_assertions) { "debug" } else { "release" },
            "model": subject.name, "digest": shown["digest"], "in_flight": IN_FLIGHT,
            "cpu": Cpu::read(&bench.served).since(&from), "rows": rows,
        });
        bench.served.stop().await.unwrap();
        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        std::fs::write(&file, format!("{slice}\n")).unwrap();
    }
}

impl Bench {
    async fn timed(&mut self) -> Vec<Value> {
        let known: Vec<_> = KNOWN.iter().map(|lanes| self.order("even", lanes)).collect();
        let known = self.made(&known).await;
        let held_out: Vec<_> = HELD_OUT.iter().map(|(strategy, lanes)| self.order(strategy, lanes)).collect();
        let by_proofs = self.forecasts(&held_out).await;
        for plan in &known {
            self.round(plan).await;
        }
        let forecasts = self.forecasts(&held_out).await;
        let plans = self.made(&held_out).await;
        let mut rounds = vec![Vec::new(); plans.len()];
        for _ in 0..ROUNDS {
            for (plan, rounds) in plans.iter().zip(&mut rounds) {
                rounds.push(self.round(plan).await);
            }
        }
        let rows = held_out.iter().zip(by_proofs).zip(forecasts).zip(&plans).zip(rounds);
        let row = |((((order, by_proofs), forecast), plan), rounds)| {
            let order: &Value = order;
            json!({"split": order["split"], "plan": plan, "forecast_by_proofs": by_proofs, "forecast": forecast,
                "rounds": rounds})
        };
        rows.map(row).collect()
    }

    fn order(&self, strategy: &str, lanes: &[&str]) -> Value {
        json!({"model": self.model, "split": {"strategy": strategy, "stages": lanes.len(), "lanes": lanes,
            "objective": {"for": "throughput", "in_flight": IN_FLIGHT}}})
    }

    async fn forecasts(&self, orders: &[Value]) -> Vec<Value> {
        let mut forecasts = Vec::new();
        for order in orders {
            let said = post(&self.served, "/api/v1/plans/forecast", order.to_string()).await;
            assert_eq!(said["forecast"]["measured"], true, "{order}: {said}");
            forecasts.push(said["forecast"].clone());
        }
        forecasts
    }

    /// The plans' names.
    async fn made(&self, orders: &[Value]) -> Vec<Value> {
        let mut plans = Vec::new();
        for order in orders {
            let plan = post(&self.served, "/api/v1/plans", order.to_string()).await;
            assert!(plan["id"].is_string(), "{order}: {plan}");
            plans.push(plan["id"].clone());
        }
        plans
    }

    /// Requests of the first set, one by one and then several at a time.
    async fn round(&mut self, plan: &Value) -> Value {
        let (inputs, parameters) = (asked(&self.sets[0]), json!({"plan": plan}));
        let mut alone_us = Vec::new();
        for _ in 0..ALONE {
            let begun = Instant::now();
            answer(&mut self.client, self.model, &inputs, &parameters).await;
            alone_us.push(begun.elapsed().as_micros() as u64);
        }
        let clients = try_join_all((0..IN_FLIGHT).map(|_| self.served.connect())).await.unwrap();
        let begun = Instant::now();
        let one = async |mut client: Client| {
            let mut answers = Vec::new();
            while begun.elapsed() < TOGETHER {
                answers.push(answer(&mut client, self.model, &inputs, &parameters).await);
            }
            answers
        };
        let answers = futures_util::future::join_all(clients.into_iter().map(one)).await.concat();
        let together_us = begun.elapsed().as_micros() as u64;
        json!({"alone_us": alone_us, "answers": answers.len(), "together_us": together_us,
            "stages": stages(&answers)})
    }
}

/// Its stages.
async fn answer(client: &mut Client, model: &str, inputs: &Value, parameters: &Value) -> Value {
    let answer = client.ask_with(model, inputs.clone(), parameters).await.unwrap();
    assert!(answer["outputs"].is_array(), "{answer}");
    answer["parameters"]["provenance"]["stages"].clone()
}

/// What each stage took in the middle, in microseconds, and how many requests shared its steps.
fn stages(answers: &[Value]) -> Value {
    let stages = answers[0].as_array().unwrap().len();
    let stage = |at: usize| {
        let middle = |of: fn(&Value) -> &Value| {
            let mut values: Vec<_> = answers.iter().map(|answer| of(&answer[at]).as_u64().unwrap()).collect();
            values.sort_unstable();
            values[values.len() / 2]
        };
        json!({"lane": answers[0][at]["lane"], "batch": middle(|stage| &stage["batch"]),
            "queue": middle(|stage| &stage["timing_us"]["queue"]),
            "compute": middle(|stage| &stage["timing_us"]["compute"]),
            "transfer": middle(|stage| &stage["timing_us"]["transfer"]),
            "total": middle(|stage| &stage["timing_us"]["total"])})
    };
    (0..stages).map(stage).collect()
}

/// The kernel's count of what the processors did, in its ticks.
struct Cpu {
    total: u64,
    idle: u64,
    stolen: u64,
    /// By the daemon, what it started, and this test.
    ours: u64,
}

impl Cpu {
    fn read(served: &Served) -> Self {
        let stat = std::fs::read_to_string("/proc/stat").unwrap();
        // user, nice, system, idle, iowait, irq, softirq, steal; what follows is in the first two already.
        let ticks: Vec<u64> = stat
            .lines()
            .next()
            .unwrap()
            .split_whitespace()
            .skip(1)
            .take(8)
            .map(|field| field.parse().unwrap())
            .collect();
        let processes = processes_of(served.home());
        let paths = processes.iter().filter_map(|process| process.split(' ').next());
        let ours = paths.chain(["/proc/self"]).filter_map(ticks_of).sum();
        Self { total: ticks.iter().sum(), idle: ticks[3] + ticks[4], stolen: ticks[7], ours }
    }

    /// Shares of all processors' time.
    fn since(&self, from: &Self) -> Value {
        let total = (self.total - from.total) as f64;
        let [idle, stolen] =
            [self.idle - from.idle, self.stolen - from.stolen].map(|ticks| ticks as f64 / total);
        let ours = self.ours.saturating_sub(from.ours) as f64 / total;
        json!({"ours": ours, "idle": idle, "stolen": stolen, "others": (1.0 - ours - idle - stolen).max(0.0)})
    }
}

/// Nothing for a process that has ended.
fn ticks_of(process: &str) -> Option<u64> {
    let stat = std::fs::read_to_string(format!("{process}/stat")).ok()?;
    let fields: Vec<_> = stat.rsplit_once(')')?.1.split_whitespace().collect();
    Some(fields[11].parse::<u64>().ok()? + fields[12].parse::<u64>().ok()?)
}
