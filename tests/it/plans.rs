//! Plans: models in stages over several lanes.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::{
    scheduling::{hold, step},
    support::{
        Asked, Client, Conduct, Deed, FakeBrowser, Reply, TestDaemon, graphs, home, infer, soon, wire,
    },
};

/// `y = -2x²` in three nodes; the last reads what the caller gives as well.
pub(crate) const NODES: [graphs::Node<'_>; 3] =
    [("Neg", &["x"], &["h"]), ("Add", &["h", "h"], &["g"]), ("Mul", &["g", "x"], &["y"])];

/// Requests between a stage's start and the end of the next.
const CREDITS: usize = 16;

/// The whole model, and each of its nodes as a shard.
pub(crate) async fn add_models(daemon: &TestDaemon) {
    daemon.add("whole", graphs::part(&NODES, &["x"], &["y"])).await;
    daemon.add("first", graphs::part(&NODES[..1], &["x"], &["h"])).await;
    daemon.add("second", graphs::part(&NODES[1..2], &["h"], &["g"])).await;
    daemon.add("third", graphs::part(&NODES[2..], &["g", "x"], &["y"])).await;
}

/// A plan of `first`, `second` and `third` in these places.
pub(crate) fn order(places: [Value; 3], fallback: &str) -> Value {
    let stages = ["first", "second", "third"].into_iter().zip(places);
    let stage = |(model, mut place): (&str, Value)| {
        place["model"] = json!(model);
        place
    };
    json!({"model": "whole", "stages": stages.map(stage).collect::<Vec<_>>(), "fallback": fallback})
}

pub(crate) fn lane(name: &str) -> Value {
    json!({"lane": name})
}

pub(crate) async fn make(daemon: &TestDaemon, order: &Value) -> String {
    let (status, made) = daemon.post("/api/v1/plans", order.to_string()).await;
    assert_eq!(status, 201, "{made}");
    made["id"].as_str().expect("an id").to_owned()
}

/// A request of the whole model under a plan, whose answer is -2 times the square of `first`, 8, 18 and 32.
pub(crate) fn under(id: &str, plan: &str, first: f32, more: &Value) -> Value {
    let mut parameters = json!({"plan": plan});
    parameters.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
    let x = json!([{"name": "x", "datatype": "FP32", "shape": [1, 4], "data": [first, 2, 3, 4]}]);
    infer(id, "whole", &x, &parameters)
}

#[track_caller]
pub(crate) fn answered(reply: &Reply, first: f32) -> &Value {
    assert_eq!(reply.header["type"], "result", "{reply:?}");
    let wanted = json!([-2.0 * first * first, -8.0, -18.0, -32.0]);
    assert_eq!(reply.header["outputs"][0]["data"], wanted, "{reply:?}");
    assert_eq!(reply.header["outputs"].as_array().map(Vec::len), Some(1));
    reply.provenance()
}

/// Which stage a step is, by what it reads.
pub(crate) fn stage(asked: &Asked) -> usize {
    match asked.inputs[0].name.as_str() {
        "x" => 0,
        "h" => 1,
        "g" => 2,
        other => panic!("no stage reads {other}"),
    }
}

/// The first element of the request that a step is part of.
pub(crate) fn first(asked: &Asked) -> f32 {
    let value = wire::floats(&asked.inputs[0].body.contiguous())[0];
    [value, -value, value / -2.0][stage(asked)]
}

pub(crate) struct Set {
    pub(crate) browsers: [FakeBrowser; 3],
    pub(crate) daemon: TestDaemon,
    pub(crate) client: Client,
}

/// Three browsers with a lane each, and the models.
pub(crate) async fn set() -> Set {
    let browsers = ["alpha", "beta", "gamma"].map(|name| FakeBrowser::new(name, &["wasm"]));
    let daemon = TestDaemon::start(&browsers.each_ref()).await;
    add_models(&daemon).await;
    let client = daemon.client().await;
    Set { browsers, daemon, client }
}

/// A stage in each browser.
pub(crate) fn spread(fallback: &str) -> Value {
    order(["alpha-1/wasm", "beta-1/wasm", "gamma-1/wasm"].map(lane), fallback)
}

#[tokio::test]
async fn stages_answer_together_as_the_whole_model() {
    let Set { browsers, daemon, mut client } = set().await;
    let places = [json!({"browser": "alpha"}), lane("beta-1/wasm"), json!({"backend": "ort-cpu"})];
    let plan = make(&daemon, &order(places, "none")).await;
    assert_eq!(browsers.each_ref().map(FakeBrowser::loads), [1, 1, 0], "each lane has its own shard alone");
    let reply = client.ask(&under("r", &plan, 3.0, &json!({}))).await;
    let provenance = answered(&reply, 3.0);
    let digest = |name: &str| {
        let path = format!("/api/v1/models/{name}");
        let daemon = &daemon;
        async move { daemon.get(&path).await["digest"].clone() }
    };
    let wanted = [
        ("first", "alpha", "alpha-1/wasm", "wasm", 16, 16),
        ("second", "beta", "beta-1/wasm", "wasm", 16, 16),
        ("third", "native", "native/ort-cpu", "ort-cpu", 32, 16),
    ];
    for (at, (model, browser, lane, backend, bytes_in, bytes_out)) in wanted.into_iter().enumerate() {
        let stage = &provenance["stages"][at];
        let expected = json!({"stage": at, "browser": browser, "lane": lane, "backend": backend, "attempt": 1,
            "model_digest": digest(model).await, "bytes_in": bytes_in, "bytes_out": bytes_out, "plan": plan,
            "fallback": null});
        for (key, value) in expected.as_object().expect("an object") {
            assert_eq!(stage[key], *value, "stage {at}, {key}: {stage}");
        }
        assert!(stage["timing_us"]["total"].as_u64() > Some(0), "{stage}");
    }
    let whole = json!({"plan": plan, "model_digest": digest("whole").await, "lane": "native/ort-cpu",
        "verdict": "verified", "placement": {"wasm": 2, "cpu": 1}});
    for (key, value) in whole.as_object().expect("an object") {
        assert_eq!(provenance[key], *value, "{key}: {provenance}");
    }
    assert_eq!(reply.header["model_version"], digest("whole").await);
    // The request has a row, and so has each of its stages.
    let runs = daemon.runs().await;
    let request = &reply.header["parameters"]["request"];
    let rows: Vec<_> = runs.iter().filter(|run| run["request"] == *request).collect();
    let models: Vec<_> = rows.iter().map(|row| row["model"].as_str().expect("a name")).collect();
    assert_eq!(models, ["first", "second", "third", "whole"]);
    assert_eq!(rows[3]["run"], reply.header["parameters"]["run"]);
    assert_eq!(rows[3]["provenance"]["stages"], provenance["stages"]);
    for (at, row) in rows[..3].iter().enumerate() {
        assert_eq!(row["run"], provenance["stages"][at]["run"]);
    }
    // A shard is judged by what passed to it.
    assert_eq!(daemon.get("/api/v1/models/second").await["gate_inputs"], 3);
    daemon.stop().await;
}

#[tokio::test]
async fn requests_are_pipelined() {
    let Set { browsers, daemon, mut client } = set().await;
    let plan = make(&daemon, &spread("none")).await;
    let mut asked = hold(&browsers.each_ref());
    for at in 1..=3 {
        client.send(&under(&at.to_string(), &plan, at as f32, &json!({}))).await;
    }
    // Until each browser has a step of another request.
    let mut held: BTreeMap<usize, Vec<Asked>> = BTreeMap::new();
    let mut next = async |held: &mut BTreeMap<usize, Vec<Asked>>, count: usize| {
        for _ in 0..count {
            let step = step(&mut asked).await;
            held.entry(stage(&step)).or_default().push(step);
        }
    };
    next(&mut held, 2).await;
    let take = |held: &mut BTreeMap<usize, Vec<Asked>>, stage: usize| {
        held.get_mut(&stage).expect("it is there").remove(0)
    };
    take(&mut held, 0).answer(Deed::Compute);
    next(&mut held, 2).await;
    take(&mut held, 1).answer(Deed::Compute);
    take(&mut held, 0).answer(Deed::Compute);
    next(&mut held, 2).await;
    let under_way: Vec<_> =
        held.iter().map(|(stage, steps)| (*stage, steps.iter().map(first).collect::<Vec<_>>())).collect();
    assert_eq!(under_way, [(0, vec![3.0]), (1, vec![2.0]), (2, vec![1.0])]);
    for steps in held.into_values().flatten() {
        steps.answer(Deed::Compute);
    }
    for browser in &browsers {
        browser.behaves(Conduct::Compute);
    }
    for at in 1..=3 {
        answered(&client.reply(&at.to_string()).await, at as f32);
    }
    daemon.stop().await;
}

#[tokio::test]
async fn a_slow_stage_holds_back_the_first() {
    let Set { browsers, daemon, mut client } = set().await;
    let plan = make(&daemon, &spread("none")).await;
    let mut asked = hold(&[&browsers[0], &browsers[1]]);
    let count = CREDITS + 3;
    for at in 0..count {
        client.send(&under(&at.to_string(), &plan, at as f32, &json!({}))).await;
    }
    // The first stage is let go on, and the second held.
    let (mut begun, mut held) = (0, Vec::new());
    while begun < CREDITS || held.len() < 2 {
        let step = step(&mut asked).await;
        if stage(&step) == 0 {
            begun += 1;
            step.answer(Deed::Compute);
        } else {
            held.push(step);
        }
    }
    client.caught_up().await;
    assert!(asked.try_recv().is_err(), "there is no room for another before the second stage");
    assert_eq!(begun, CREDITS);
    // Whoever waits for room is told in time, and leaves none.
    let late = client.ask(&under("late", &plan, 1.0, &json!({"timeout": 200_000}))).await;
    late.refused("deadline_exceeded", "same", "while a later stage had no room");
    client.send(&under("cancelled", &plan, 1.0, &json!({}))).await;
    client.send(&json!({"type": "cancel", "id": "cancelled"})).await;
    client.reply("cancelled").await.refused("cancelled", "never", "cancelled by its caller");
    // Each that leaves the second stage makes room for one.
    held.remove(0).answer(Deed::Compute);
    let mut next = [step(&mut asked).await, step(&mut asked).await];
    next.sort_by_key(stage);
    let [first_again, second_again] = next;
    assert_eq!((stage(&first_again), stage(&second_again)), (0, 1));
    for browser in &browsers {
        browser.behaves(Conduct::Compute);
    }
    for step in held.into_iter().chain([first_again, second_again]) {
        step.answer(Deed::Compute);
    }
    for at in 0..count {
        answered(&client.reply(&at.to_string()).await, at as f32);
    }
    daemon.stop().await;
}

/// Whichever stage's lane dies in the middle of a stream, every request is answered once, and right.
#[tokio::test]
async fn a_lane_that_dies_costs_its_stage_another_try() {
    for (fallback, dies) in
        [("none", 0), ("none", 1), ("none", 2), ("lanes", 1), ("native", 0), ("native", 2)]
    {
        let Set { browsers, daemon, mut client } = set().await;
        let plan = make(&daemon, &spread(fallback)).await;
        let mut asked = hold(&[&browsers[dies]]);
        for at in 1..=6 {
            client.send(&under(&at.to_string(), &plan, at as f32, &json!({}))).await;
        }
        let lost = (step(&mut asked).await, step(&mut asked).await);
        browsers[dies].behaves(Conduct::Compute);
        browsers[dies].kill_lane("wasm");
        let mut retried = 0;
        for at in 1..=6 {
            let reply = client.reply(&at.to_string()).await;
            let stage = &answered(&reply, at as f32)["stages"][dies];
            retried += usize::from(stage["attempt"] == 2);
            if fallback == "none" {
                assert_eq!((&stage["lane"], &stage["fallback"]), (&json!(browsers_lane(dies)), &Value::Null));
            }
        }
        drop(lost);
        assert_eq!(retried, 2, "{fallback} {dies}");
        client.caught_up().await;
        daemon.stop().await;
    }
}

fn browsers_lane(at: usize) -> String {
    format!("{}-1/wasm", ["alpha", "beta", "gamma"][at])
}

/// A request ends at once in whichever stage it is, and the plan serves the next.
#[tokio::test]
async fn time_and_cancelling_hold_over_every_stage() {
    let Set { browsers, daemon, mut client } = set().await;
    let plan = make(&daemon, &spread("none")).await;
    for (at, browser) in browsers.iter().enumerate() {
        let mut asked = hold(&[browser]);
        let says = format!("stage {at}: ");
        client.send(&under("cancelled", &plan, 1.0, &json!({}))).await;
        let held = step(&mut asked).await;
        client.send(&json!({"type": "cancel", "id": "cancelled"})).await;
        client.reply("cancelled").await.refused("cancelled", "never", &says);
        held.answer(Deed::Compute);
        client.send(&under("late", &plan, 1.0, &json!({"timeout": 400_000}))).await;
        let held = step(&mut asked).await;
        client.reply("late").await.refused("deadline_exceeded", "same", &says);
        held.answer(Deed::Compute);
        browser.behaves(Conduct::Compute);
        answered(&client.ask(&under("after", &plan, 2.0, &json!({}))).await, 2.0);
    }
    // Nothing is left of any of them.
    client.caught_up().await;
    daemon.drain().await;
    daemon.stop().await;
}

#[tokio::test]
async fn a_stage_that_fails_ends_its_request() {
    let Set { browsers, daemon, mut client } = set().await;
    let plan = make(&daemon, &spread("none")).await;
    browsers[1].behaves(Conduct::Always(Deed::Fail("invalid_request", "never")));
    let reply = client.ask(&under("r", &plan, 1.0, &json!({}))).await;
    reply.refused("invalid_request", "never", "stage 1: the fake lane was told to fail");
    let runs = daemon.runs().await;
    let last = runs.last().expect("a row");
    assert_eq!((&last["model"], &last["provenance"]["stages"][0]["stage"]), (&json!("whole"), &json!(0)));
    assert_eq!(last["error"]["code"], "invalid_request");
    daemon.stop().await;
}

/// `y = -x + (x + x)`: two towers, which run at once, and what joins them.
#[tokio::test]
async fn towers_run_beside_each_other() {
    let Set { browsers, daemon, mut client } = set().await;
    let nodes: [graphs::Node<'_>; 3] =
        [("Neg", &["x"], &["p"]), ("Add", &["x", "x"], &["q"]), ("Mul", &["p", "q"], &["y"])];
    daemon.add("towers", graphs::part(&nodes, &["x"], &["y"])).await;
    daemon.add("left", graphs::part(&nodes[..1], &["x"], &["p"])).await;
    daemon.add("right", graphs::part(&nodes[1..2], &["x"], &["q"])).await;
    daemon.add("fusion", graphs::part(&nodes[2..], &["p", "q"], &["y"])).await;
    let stages = [("left", "alpha-1/wasm"), ("right", "beta-1/wasm"), ("fusion", "gamma-1/wasm")];
    let stages = stages.map(|(model, lane)| json!({"model": model, "lane": lane}));
    let plan = make(&daemon, &json!({"model": "towers", "stages": stages})).await;
    let mut asked = hold(&browsers.each_ref());
    let x = json!([{"name": "x", "datatype": "FP32", "shape": [1, 4], "data": [1, 2, 3, 4]}]);
    client.send(&infer("r", "towers", &x, &json!({"plan": plan}))).await;
    let (one, other) = (step(&mut asked).await, step(&mut asked).await);
    let mut lanes = [one.lane.clone(), other.lane.clone()];
    lanes.sort();
    assert_eq!(lanes, ["alpha-1/wasm", "beta-1/wasm"], "both towers are under way");
    other.answer(Deed::Compute);
    client.caught_up().await;
    assert!(asked.try_recv().is_err(), "the fusion waits for both");
    one.answer(Deed::Compute);
    let fusion = step(&mut asked).await;
    assert_eq!(fusion.lane, "gamma-1/wasm");
    fusion.answer(Deed::Compute);
    let reply = client.reply("r").await;
    assert_eq!(reply.header["outputs"][0]["data"], json!([-2.0, -8.0, -18.0, -32.0]), "{reply:?}");
    daemon.stop().await;
}

#[tokio::test]
async fn what_is_kept_between_stages_is_bounded() {
    let alpha = FakeBrowser::new("alpha", &["wasm"]);
    let daemon = TestDaemon::start_in(home(), &[&alpha], |config| config.limits.bytes = 2048).await;
    let daemon = daemon.expect("a good start");
    daemon.settled().await;
    for (name, file) in ["wide", "widen", "narrow"].into_iter().zip(graphs::widening()) {
        daemon.add(name, file).await;
    }
    let stages = ["widen", "narrow"].map(|model| json!({"model": model, "lane": "alpha-1/wasm"}));
    let plan = make(&daemon, &json!({"model": "wide", "stages": stages, "fallback": "none"})).await;
    let mut client = daemon.client().await;
    for (rows, fits) in [(1, true), (32, false), (1, true)] {
        let x = json!([{"name": "x", "datatype": "FP32", "shape": [rows, 4], "data": vec![1; rows * 4]}]);
        let reply = client.ask(&infer("r", "wide", &x, &json!({"plan": plan}))).await;
        if fits {
            assert_eq!(reply.header["type"], "result", "{reply:?}");
        } else {
            reply.refused(
                "overloaded",
                "same",
                "pending requests hold 512 bytes of inputs, the limit is 2048",
            );
        }
    }
    daemon.stop().await;
}

#[tokio::test]
async fn a_stage_of_several_requests_is_one_step() {
    let Set { browsers, daemon, mut client } = set().await;
    for (name, nodes, from, to) in [
        ("first", &NODES[..1], &["x"][..], "h"),
        ("second", &NODES[1..2], &["h"], "g"),
        ("third", &NODES[2..], &["g", "x"], "y"),
    ] {
        let file = graphs::part(nodes, from, &[to]);
        let (status, said) = daemon.try_add_batching(name, file, &json!({"max": 4})).await;
        assert_eq!(status, 200, "{said}");
    }
    let plan = make(&daemon, &spread("none")).await;
    let mut asked = hold(&[&browsers[1]]);
    for at in 1..=6 {
        client.send(&under(&at.to_string(), &plan, at as f32, &json!({}))).await;
    }
    let mut held = vec![step(&mut asked).await, step(&mut asked).await];
    let under_way: u64 = held.iter().map(|step| step.inputs[0].shape[0]).sum();
    // The others wait for the second stage.
    let waiting = format!("weft_queue_depth {}", 6 - under_way);
    soon("the others' turn", async {
        let metrics = format!("{}/metrics", daemon.url);
        while !daemon
            .http
            .get(&metrics)
            .send()
            .await
            .expect("an answer")
            .text()
            .await
            .expect("a text")
            .contains(&waiting)
        {}
    })
    .await;
    held.remove(0).answer(Deed::Compute);
    let joined = step(&mut asked).await;
    assert_eq!(joined.inputs[0].shape, [(6 - under_way).min(4), 4]);
    browsers[1].behaves(Conduct::Compute);
    joined.answer(Deed::Compute);
    for step in held {
        step.answer(Deed::Compute);
    }
    for at in 1..=6 {
        answered(&client.reply(&at.to_string()).await, at as f32);
    }
    daemon.stop().await;
}
