//! Plans that lose lanes for good: what is held ahead of that, and where the stages go.

use serde_json::{Value, json};
use weft::config::Config;

use crate::{
    plans::{NODES, add_models, answered, make, spread, under},
    support::{Client, FakeBrowser, TestDaemon, graphs, home, soon},
};

/// A browser per name, each with a lane, and the models.
async fn daemon(names: &[&str]) -> (Vec<FakeBrowser>, TestDaemon) {
    let browsers: Vec<_> = names.iter().map(|name| FakeBrowser::new(name, &["wasm"])).collect();
    let daemon = TestDaemon::start(&browsers.iter().collect::<Vec<_>>()).await;
    add_models(&daemon).await;
    (browsers, daemon)
}

fn spared(spares: &str) -> Value {
    let mut order = spread("native");
    order["spares"] = json!(spares);
    order
}

/// Ends a browser's lane, and waits until it is known not to come back.
async fn lose(daemon: &TestDaemon, browser: &FakeBrowser) {
    browser.settings().unavailable.insert("wasm", "no threads");
    browser.kill_lane("wasm");
    let lane = format!("{}-1/wasm", browser.name);
    soon("the lane's absence", async {
        while daemon.lane(&lane).await["state"] != "absent" {
            tokio::task::yield_now().await;
        }
    })
    .await;
}

/// The lanes of the stages that a request ran in.
async fn ran(client: &mut Client, plan: &str) -> Vec<String> {
    let reply = client.ask(&under("r", plan, 3.0, &json!({}))).await;
    let stages = answered(&reply, 3.0)["stages"].as_array().expect("stages").clone();
    stages.iter().map(|stage| stage["lane"].as_str().expect("a lane").to_owned()).collect()
}

/// The names of the browsers that hold a model, proven.
async fn holders(daemon: &TestDaemon, model: &str) -> Vec<String> {
    let shown = daemon.get(&format!("/api/v1/models/{model}")).await;
    let lanes = shown["residence"]["lanes"].as_array().unwrap_or_else(|| panic!("no lanes in {shown}"));
    let proven = lanes.iter().filter(|seat| seat["state"] == "verified");
    proven.map(|seat| seat["lane"].as_str().expect("a lane").to_owned()).collect()
}

async fn until_held(daemon: &TestDaemon, holds: impl Fn(&[Vec<String>; 3]) -> bool) -> [Vec<String>; 3] {
    soon("the spares", async {
        loop {
            let held = [
                holders(daemon, "first").await,
                holders(daemon, "second").await,
                holders(daemon, "third").await,
            ];
            if holds(&held) {
                return held;
            }
        }
    })
    .await
}

#[tokio::test]
async fn a_shared_spare_holds_every_stage_and_takes_over_without_a_load() {
    let (browsers, daemon) = daemon(&["alpha", "beta", "gamma", "delta"]).await;
    let plan = make(&daemon, &spared("shared")).await;
    let delta = || "delta-1/wasm".to_owned();
    until_held(&daemon, |held| held.iter().all(|lanes| lanes.contains(&delta()))).await;
    let loads = || browsers.iter().map(FakeBrowser::loads).collect::<Vec<_>>();
    assert_eq!(loads(), [1, 1, 1, 3], "no other lane is given anything");
    let mut client = daemon.client().await;
    client.send(&json!({"type": "subscribe", "topics": ["plans"]})).await;
    assert_eq!(ran(&mut client, &plan).await, ["alpha-1/wasm", "beta-1/wasm", "gamma-1/wasm"]);
    browsers[1].settings().unavailable.insert("wasm", "no threads");
    browsers[1].kill_lane("wasm");
    // Also before it is known that the lane does not come back.
    let went = loop {
        if ran(&mut client, &plan).await[1] == delta() {
            break client.event().await.header["event"]["recovery"].clone();
        }
    };
    assert_eq!((&went["stage"], &went["lane"]), (&json!(1), &json!(delta())), "{went}");
    assert!(went["took_us"].as_u64() > Some(0), "{went}");
    assert_eq!(loads()[3], 3, "it held the shard already");
    // A plan that is forgotten wants nothing more in lanes that come.
    let gone = daemon.http.delete(format!("{}/api/v1/plans/{plan}", daemon.url)).send().await;
    assert_eq!(gone.expect("an answer").status(), 200);
    daemon.stop().await;
}

#[tokio::test]
async fn a_shared_spare_holds_no_more_than_fits() {
    let browsers = ["alpha", "beta", "gamma", "delta"].map(|name| FakeBrowser::new(name, &["wasm"]));
    let bytes = graphs::part(&NODES[..1], &["x"], &["h"]).len() as u64;
    // Room for one shard while it is loaded, which takes its bytes twice, but not beside another.
    let room = |config: &mut Config| config.limits.lane_memory = 2 * bytes + bytes / 2;
    let daemon = TestDaemon::start_in(home(), &browsers.each_ref(), room).await.expect("a good start");
    daemon.settled().await;
    add_models(&daemon).await;
    make(&daemon, &spared("shared")).await;
    until_held(&daemon, |held| held[0].len() == 2).await;
    // Whatever was begun with it is there when another model is proven in that lane.
    daemon.add("neg", graphs::neg()).await;
    daemon.verify("neg", &json!({"browser": ["delta"]})).await;
    assert_eq!(browsers[3].loads(), 2, "the first stage's shard, and what was asked for just now");
    daemon.stop().await;
}

#[tokio::test]
async fn a_spare_per_stage_is_spread_over_the_lanes() {
    let (browsers, daemon) = daemon(&["alpha", "beta", "gamma"]).await;
    let plan = make(&daemon, &spared("per_stage")).await;
    // In its place, and in one other browser's lane.
    until_held(&daemon, |held| held.iter().all(|lanes| lanes.len() == 2)).await;
    assert_eq!(browsers.iter().map(FakeBrowser::loads).collect::<Vec<_>>(), [2, 2, 2]);
    let mut client = daemon.client().await;
    lose(&daemon, &browsers[0]).await;
    let lanes = ran(&mut client, &plan).await;
    assert!(["beta-1/wasm", "gamma-1/wasm"].contains(&&*lanes[0]), "{lanes:?}");
    daemon.stop().await;
}

#[tokio::test]
async fn stages_that_have_to_move_are_spread_over_what_is_left_and_at_last_run_natively() {
    let (browsers, daemon) = daemon(&["alpha", "beta", "gamma", "delta", "epsilon"]).await;
    let plan = make(&daemon, &spread("native")).await;
    let mut client = daemon.client().await;
    assert_eq!(ran(&mut client, &plan).await, ["alpha-1/wasm", "beta-1/wasm", "gamma-1/wasm"]);
    lose(&daemon, &browsers[0]).await;
    lose(&daemon, &browsers[1]).await;
    // Natively until the others are ready.
    let moved = soon("both stages in lanes", async {
        loop {
            let lanes = ran(&mut client, &plan).await;
            if lanes.iter().all(|lane| lane.ends_with("wasm")) {
                return lanes;
            }
        }
    })
    .await;
    let mut taken = moved[..2].to_vec();
    taken.sort();
    assert_eq!(taken, ["delta-1/wasm", "epsilon-1/wasm"], "not both in one, nor where another stage is");
    assert_eq!(moved[2], "gamma-1/wasm");
    assert_eq!(browsers.iter().map(FakeBrowser::loads).collect::<Vec<_>>(), [1, 1, 1, 1, 1]);
    for browser in &browsers[2..] {
        lose(&daemon, browser).await;
    }
    assert_eq!(ran(&mut client, &plan).await, ["native/ort-cpu"; 3]);
    daemon.stop().await;
}
