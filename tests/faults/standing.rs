//! A plan that stands for a model in real browsers: reviews come while requests run, and none of these fails.

use std::time::Duration;

use anyhow::Context;
use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::Message;

use crate::{
    engines,
    load::{self, Asking, Load, MODEL, TOLERANCE},
    stage::{self, Stage},
};

const BROWSERS: [&str; 2] = ["chromium", "firefox"];

/// Enough for a plan that is found to be better twice.
const REVIEWS: usize = 3;

/// They come every 256 answers.
const REVIEWED_WITHIN: Duration = Duration::from_secs(120);

/// Answers after the last review.
const AFTERWARDS: u64 = 100;

async fn subscribed(url: &str) -> anyhow::Result<load::Socket> {
    let mut socket = load::connect(url).await?;
    let subscribe = json!({"type": "subscribe", "topics": ["plans"]}).to_string();
    socket.send(Message::text(subscribe)).await?;
    Ok(socket)
}

/// The next reviews, as they are told.
async fn reviews(socket: &mut load::Socket) -> anyhow::Result<Vec<Value>> {
    let mut seen = Vec::new();
    while seen.len() < REVIEWS {
        let message = socket.next().await.context("the daemon closed the connection")??;
        let Message::Text(text) = message else { continue };
        let review = serde_json::from_str::<Value>(&text)?["event"]["reviewed"].take();
        if review.is_object() {
            seen.push(review);
        }
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
