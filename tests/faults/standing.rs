//! A plan that stands for a model in real browsers: reviews come while requests run, a browser that becomes slow is left,
//! and no request fails.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use anyhow::{Context, ensure};
use futures_util::{SinkExt, StreamExt};
use nix::sys::signal::Signal;
use serde_json::{Value, json};
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::Message;

use crate::{
    engines,
    load::{self, Asking, Load, MODEL, TOLERANCE},
    processes::{signal, tree},
    scenarios,
    stage::{self, Stage},
};

const BROWSERS: [&str; 2] = ["chromium", "firefox"];

/// Enough for a plan that is found to be better twice.
const REVIEWS: usize = 3;

/// What was learned before a browser became slow counts in the first of them, too.
const REVIEWS_MAX: usize = 8;

/// They come every 256 answers, which on a slow machine take half a minute beside a browser that mostly stands.
const REVIEWED_WITHIN: Duration = Duration::from_secs(300);

/// Answers after the last review.
const AFTERWARDS: u64 = 100;

/// Processes that stand still in turns, until it is dropped.
struct Turns {
    over: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Turns {
    fn begin(processes: Vec<i32>) -> Self {
        let over = Arc::new(AtomicBool::new(false));
        let ended = over.clone();
        let turns = move || {
            while !ended.load(Ordering::Relaxed) {
                signal(&processes, Signal::SIGSTOP);
                thread::sleep(scenarios::STOPPED_FOR);
                signal(&processes, Signal::SIGCONT);
                thread::sleep(scenarios::GOING_FOR);
            }
        };
        Self { over, thread: Some(thread::spawn(turns)) }
    }
}

impl Drop for Turns {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            thread.join().expect("signals are sent without a panic");
        }
    }
}

async fn subscribed(url: &str) -> anyhow::Result<load::Socket> {
    let mut socket = load::connect(url).await?;
    let subscribe = json!({"type": "subscribe", "topics": ["plans"]}).to_string();
    socket.send(Message::text(subscribe)).await?;
    Ok(socket)
}

/// The next review, as it is told.
async fn next_review(socket: &mut load::Socket) -> anyhow::Result<Value> {
    loop {
        let message = socket.next().await.context("the daemon closed the connection")??;
        let Message::Text(text) = message else { continue };
        let review = serde_json::from_str::<Value>(&text)?["event"]["reviewed"].take();
        if review.is_object() {
            return Ok(review);
        }
    }
}

async fn reviews(socket: &mut load::Socket) -> anyhow::Result<Vec<Value>> {
    let mut seen = Vec::new();
    while seen.len() < REVIEWS {
        seen.push(next_review(socket).await?);
    }
    Ok(seen)
}

async fn standing(stage: &Stage) -> anyhow::Result<Value> {
    let shown = reqwest::get(format!("{}/api/v1/models/{MODEL}/plan", stage.served.url)).await?;
    Ok(shown.error_for_status()?.json().await?)
}

#[tokio::test]
async fn a_plan_that_stands_is_reviewed_while_requests_run() {
    let engines: Vec<_> = BROWSERS.iter().filter_map(|name| engines::present(name)).collect();
    if engines.len() < BROWSERS.len() {
        return;
    }
    let stage = Stage::start(&engines, 1).await.unwrap();
    for engine in &engines {
        stage.proven(MODEL, engine).await.unwrap();
    }
    let lanes = BROWSERS.map(|browser| format!("{browser}-1/wasm"));
    let objective = json!({"for": "throughput", "in_flight": 8});
    let split = json!({"strategy": "pipeline", "stages": 2, "lanes": lanes, "objective": objective});
    let order = json!({"split": split, "fallback": "none"}).to_string();
    let kept =
        stage.send(reqwest::Method::PUT, &format!("/api/v1/models/{MODEL}/plan"), order).await.unwrap();

    let mut socket = subscribed(&stage.served.url).await.unwrap();
    let asking = Asking { parameters: json!({"plan": "auto"}), tolerance: TOLERANCE };
    let load = Load::start(&stage.served.url, &stage.questions, &asking).await.unwrap();
    let seen = timeout(REVIEWED_WITHIN, reviews(&mut socket)).await.expect("reviews come").unwrap();
    load.answers(AFTERWARDS, stage::READY_WITHIN).await.unwrap();
    let tally = load.finish().await.unwrap();
    stage::law(&tally).unwrap();

    let shown = standing(&stage).await.unwrap();
    let mut stands = &kept["plan"];
    let told = shown["reviews"].as_array().unwrap();
    assert!(told.len() >= REVIEWS, "{shown}");
    for review in told.iter().rev() {
        assert_eq!(&review["standing"], stands, "{told:?}");
        if review["verdict"] == "replaced" {
            stands = &review["candidate"];
        }
    }
    assert_eq!(&shown["plan"], stands, "{told:?}");
    assert!(seen.iter().all(|review| told.contains(review)), "{seen:?} of {told:?}");
    stage.served.stop().await.unwrap();
}

/// One stage in whichever of these lanes takes less.
fn order_of_one(lanes: &[String]) -> Value {
    json!({"strategy": "pipeline", "stages": 1, "lanes": lanes, "objective": {"for": "latency"}})
}

/// Until the daemon has put another plan in the standing one's place, which it tells.
async fn replaced(socket: &mut load::Socket) -> anyhow::Result<Value> {
    let mut told = Vec::new();
    loop {
        let review = next_review(socket).await?;
        if review["verdict"] == "replaced" {
            return Ok(review);
        }
        told.push(review["says"].clone());
        ensure!(told.len() < REVIEWS_MAX, "nothing else came to stand: {told:?}");
    }
}

#[tokio::test]
async fn a_plan_in_a_browser_that_becomes_slow_is_replaced() {
    let engines: Vec<_> = BROWSERS.iter().filter_map(|name| engines::present(name)).collect();
    if engines.len() < BROWSERS.len() {
        return;
    }
    let stage = Stage::start(&engines, 1).await.unwrap();
    for engine in &engines {
        stage.proven(MODEL, engine).await.unwrap();
    }
    let lanes = BROWSERS.map(|browser| format!("{browser}-1/wasm"));
    // What both take is known before anything stands.
    for lane in &lanes {
        let split = order_of_one(std::slice::from_ref(lane));
        let order = json!({"model": MODEL, "split": split, "fallback": "none"}).to_string();
        let plan = stage.post("/api/v1/plans", order).await.unwrap();
        answered(&stage, &plan["id"], AFTERWARDS).await.unwrap();
    }
    let order = json!({"split": order_of_one(&lanes), "fallback": "none"}).to_string();
    let path = format!("/api/v1/models/{MODEL}/plan");
    let kept = stage.send(reqwest::Method::PUT, &path, order).await.unwrap();
    let slow = kept["made"]["stages"][0]["lane"].as_str().unwrap();
    let instance = slow.split_once('/').unwrap().0;

    let mut socket = subscribed(&stage.served.url).await.unwrap();
    let asking = Asking { parameters: json!({"plan": "auto"}), tolerance: TOLERANCE };
    let load = Load::start(&stage.served.url, &stage.questions, &asking).await.unwrap();
    let turns = Turns::begin(tree(scenarios::root(&stage, instance).unwrap()));
    let review = timeout(REVIEWED_WITHIN, replaced(&mut socket)).await.expect("reviews come").unwrap();
    load.answers(AFTERWARDS, stage::READY_WITHIN).await.unwrap();
    drop(turns);
    let tally = load.finish().await.unwrap();
    stage::law(&tally).unwrap();

    let other = lanes.iter().find(|lane| *lane != slow).unwrap();
    let shown = standing(&stage).await.unwrap();
    assert_eq!(review["standing"], kept["plan"], "{review}");
    assert_eq!((&shown["plan"], &shown["made"]["stages"][0]["lane"]), (&review["candidate"], &json!(other)));
    stage.served.stop().await.unwrap();
}

/// So many answers under a plan.
async fn answered(stage: &Stage, plan: &Value, times: u64) -> anyhow::Result<()> {
    let asking = Asking { parameters: json!({"plan": plan}), tolerance: TOLERANCE };
    let load = Load::start(&stage.served.url, &stage.questions, &asking).await?;
    load.answers(times, stage::READY_WITHIN).await?;
    stage::law(&load.finish().await?)
}
