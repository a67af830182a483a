//! Everything at once, from a seed: whatever dies, each accepted request is answered, and answered once.

use std::collections::HashMap;

use rand::{RngExt, SeedableRng, rngs::Xoshiro256PlusPlus};
use serde_json::{Value, json};

use crate::support::{Conduct, Deed, FakeBrowser, Reply, TestDaemon, infer};

const REQUESTS: usize = 400;

/// What a request was put through, which decides how it may end.
#[derive(Clone, Copy, Default)]
struct Fate {
    cancelled: bool,
    hurried: bool,
    pinned: bool,
}

fn seeds() -> Vec<u64> {
    match std::env::var("WEFT_STORM_SEED") {
        Ok(seed) => vec![seed.parse().expect("a number")],
        Err(_) => vec![7, rand::random()],
    }
}

#[tokio::test]
async fn every_request_is_answered_once_whatever_dies() {
    for seed in seeds() {
        storm(seed).await;
    }
}

async fn storm(seed: u64) {
    let mut random = Xoshiro256PlusPlus::seed_from_u64(seed);
    let browsers = ["alpha", "beta", "gamma"].map(|name| FakeBrowser::new(name, &["wasm"]));
    let daemon = TestDaemon::start(&browsers.each_ref()).await;
    daemon.verify("neg", &json!({"backend": ["wasm"]})).await;
    // Hangs until it first dies, so that something is always lost in the middle of a step.
    browsers[0].behaves(Conduct::Always(Deed::Never));
    let mut client = daemon.client().await;
    let mut fates = HashMap::new();
    let mut replies = Vec::new();
    for number in 0..REQUESTS {
        let id = number.to_string();
        // The first ones are put through nothing but alpha.
        let rough = number >= 10;
        let mut fate = Fate {
            hurried: rough && random.random_bool(0.1),
            pinned: random.random_bool(0.3),
            ..Fate::default()
        };
        let mut parameters = json!({"priority": random.random_range(0..10)});
        if fate.hurried {
            parameters["timeout"] = json!(random.random_range(1..3000));
        }
        if fate.pinned {
            parameters["backend"] = json!("wasm");
        }
        client.send(&request(&id, number, &parameters)).await;
        if rough && random.random_bool(0.1) {
            fate.cancelled = true;
            client.send(&json!({"type": "cancel", "id": id})).await;
        }
        fates.insert(id, fate);
        // Alpha loses lanes, beta whole browsers; gamma lives.
        match random.random_range(0..100) {
            _ if !rough => {}
            0..5 => browsers[0].kill_lane("wasm"),
            5 => browsers[1].crash(),
            _ => {}
        }
        if number == 50 {
            browsers[0].behaves(Conduct::Compute);
            browsers[0].kill_lane("wasm");
        }
        // No more than a connection may have in flight.
        while fates.len() - replies.len() > 100 {
            take(client.next().await, &mut replies);
        }
    }
    while replies.len() < REQUESTS {
        take(client.next().await, &mut replies);
    }
    client.caught_up().await;
    for reply in replies {
        let id = reply.header["id"].as_str().unwrap_or_else(|| panic!("seed {seed}: {reply:?}")).to_owned();
        let fate = fates.remove(&id).unwrap_or_else(|| panic!("seed {seed}: {id} is answered twice"));
        judge(seed, &id, fate, &reply);
    }
    assert!(fates.is_empty(), "seed {seed}");
    let runs = daemon.runs().await;
    let lost = runs.iter().filter(|run| run["error"]["code"] == "lane_lost").count();
    let in_browsers = runs.iter().filter(|run| run["provenance"]["backend"] == "wasm").count();
    assert!(lost >= 1 && in_browsers > REQUESTS / 10, "seed {seed}: {lost} lost, {in_browsers} in browsers");
    client.ask(&request("after", 0, &json!({"backend": "wasm", "browser": "gamma"}))).await;
    assert_eq!(
        daemon.lane("gamma-1/wasm").await["load"]["running"].as_u64().map(|running| running <= 1),
        Some(true)
    );
    daemon.stop().await;
}

fn request(id: &str, number: usize, parameters: &Value) -> Value {
    let input = json!([{"name": "x", "datatype": "FP32", "shape": [1, 4], "data": [number, 2, 3, 4]}]);
    infer(id, "neg", &input, parameters)
}

/// A cancel that came too late is told so, under the id that it named; that is no second answer.
fn take(reply: Reply, replies: &mut Vec<Reply>) {
    let late = reply.header["error"]["message"]
        .as_str()
        .is_some_and(|message| message.starts_with("no request with id"));
    if !late {
        replies.push(reply);
    }
}

fn judge(seed: u64, id: &str, fate: Fate, reply: &Reply) {
    if reply.header["type"] == "result" {
        let number: f64 = id.parse().expect("ids are numbers");
        assert_eq!(
            reply.header["outputs"][0]["data"],
            json!([-number, -2.0, -3.0, -4.0]),
            "seed {seed}, {id}"
        );
        return;
    }
    let allowed = match reply.header["error"]["code"].as_str() {
        Some("cancelled") => fate.cancelled,
        // Refused, where it is known ahead that its time will run out.
        Some("deadline_exceeded" | "overloaded") => fate.hurried,
        // Three browsers died under it.
        Some("lane_lost") => true,
        _ => false,
    };
    assert!(allowed, "seed {seed}, {id}: {reply:?}");
}
