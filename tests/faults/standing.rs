//! A plan that stands for a model, in a browser that becomes slow: reviews replace it while requests run.

use std::time::Duration;

use anyhow::Context;
use futures_util::{SinkExt, StreamExt};
use nix::sys::signal::Signal;
use serde_json::{Value, json};
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::Message;
use tokio_util::sync::CancellationToken;

use crate::{
    engines,
    load::{self, Asking, Load, MODEL, TOLERANCE},
    processes::{signal, tree},
    scenarios,
    stage::{self, Stage},
};

const BROWSERS: [&str; 2] = ["chromium", "firefox"];

/// A browser that is slow gets a quarter of the processor's time.
const STOPPED_FOR: Duration = Duration::from_millis(60);
const GOING_FOR: Duration = Duration::from_millis(20);

/// Reviews come every 256 answers, and take some seconds with a slow browser.
const REPLACED_WITHIN: Duration = Duration::from_secs(150);

/// Answers under the plan that has taken the other's place.
const AFTERWARDS: u64 = 100;

struct Reviews {
    socket: load::Socket,
    seen: Vec<Value>,
}

impl Reviews {
    async fn subscribe(url: &str) -> anyhow::Result<Self> {
        let mut socket = load::connect(url).await?;
        let subscribe = json!({"type": "subscribe", "topics": ["plans"]}).to_string();
        socket.send(Message::text(subscribe)).await?;
        Ok(Self { socket, seen: Vec::new() })
    }

    /// Waits for a review that ends so.
    async fn until(&mut self, verdict: &str) -> anyhow::Result<()> {
        let coming = async {
            loop {
                let message = self.socket.next().await.context("the daemon closed the connection")??;
                let Message::Text(text) = message else { continue };
                let review = serde_json::from_str::<Value>(&text)?["event"]["reviewed"].take();
                if review.is_object() {
                    self.seen.push(review);
                }
                if self.seen.last().is_some_and(|review| review["verdict"] == verdict) {
                    return Ok(());
                }
            }
        };
        let came = timeout(REPLACED_WITHIN, coming).await;
        came.with_context(|| format!("no review was {verdict}: {:?}", self.seen))?
    }
}

/// What stands: the plan, and the instance that its one stage has.
async fn stands(stage: &Stage) -> anyhow::Result<(String, String)> {
    let shown = reqwest::get(format!("{}/api/v1/models/{MODEL}/plan", stage.served.url)).await?;
    let shown: Value = shown.error_for_status()?.json().await?;
    let (plan, lane) = (shown["plan"].as_str(), shown["made"]["stages"][0]["lane"].as_str());
    let (plan, lane) = plan.zip(lane).with_context(|| shown.to_string())?;
    let instance = lane.split_once('/').context("a lane is of an instance")?.0;
    Ok((plan.to_owned(), instance.to_owned()))
}

/// Holds these processes still for most of the time, until told to end.
async fn slow(pids: Vec<i32>, end: CancellationToken) {
    while !end.is_cancelled() {
        signal(&pids, Signal::SIGSTOP);
        tokio::time::sleep(STOPPED_FOR).await;
        signal(&pids, Signal::SIGCONT);
        tokio::time::sleep(GOING_FOR).await;
    }
}

#[tokio::test]
async fn the_plan_of_a_slow_browser_is_replaced_while_requests_run() {
    let engines: Vec<_> = BROWSERS.iter().filter_map(|name| engines::present(name)).collect();
    if engines.len() < BROWSERS.len() {
        return;
    }
    let stage = Stage::start(&engines, 1).await.unwrap();
    for engine in &engines {
        stage.proven(MODEL, engine).await.unwrap();
    }
    let lanes = BROWSERS.map(|browser| format!("{browser}-1/wasm"));
    let split = json!({"strategy": "pipeline", "stages": 1, "lanes": lanes, "objective": {"for": "latency"}});
    let order = json!({"split": split, "fallback": "none"}).to_string();
    let path = format!("/api/v1/models/{MODEL}/plan");
    stage.send(reqwest::Method::PUT, &path, order).await.unwrap();

    let mut reviews = Reviews::subscribe(&stage.served.url).await.unwrap();
    let asking = Asking { parameters: json!({"plan": "auto"}), tolerance: TOLERANCE };
    let load = Load::start(&stage.served.url, &stage.questions, &asking).await.unwrap();
    // Until then the lanes are guessed.
    reviews.until("kept").await.unwrap();
    let (slowed, instance) = stands(&stage).await.unwrap();
    let (pids, end) = (tree(scenarios::root(&stage, &instance).unwrap()), CancellationToken::new());
    let slow = tokio::spawn(slow(pids, end.clone()));
    let replaced = reviews.until("replaced").await;
    end.cancel();
    slow.await.unwrap();
    replaced.unwrap();
    let (fast, other) = stands(&stage).await.unwrap();
    assert!(fast != slowed && other != instance, "{fast} in {other}: {:?}", reviews.seen);
    let verdicts: Vec<_> =
        reviews.seen.iter().filter(|review| review["candidate"] == fast.as_str()).collect();
    let [.., once, twice] = verdicts.as_slice() else { panic!("{:?}", reviews.seen) };
    assert_eq!([&once["verdict"], &twice["verdict"]], ["better_once", "replaced"], "{:?}", reviews.seen);
    load.answers(AFTERWARDS, stage::READY_WITHIN).await.unwrap();
    let tally = load.finish().await.unwrap();
    stage::law(&tally).unwrap();
    stage.served.stop().await.unwrap();
}
