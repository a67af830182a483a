//! Requests that share a step: when they do, what each gets, and what becomes of one that fails.

use std::collections::BTreeSet;

use serde_json::{Value, json};
use tokio::sync::mpsc;

use crate::{
    native,
    support::{Asked, Client, Conduct, Deed, FakeBrowser, TestDaemon, graphs, home, infer, soon, wire},
};

fn pinned() -> Value {
    json!({"backend": ["wasm"]})
}

/// A request of `neg` of one row for each of these numbers.
fn rows(id: &str, numbers: &[f32], parameters: &Value) -> Value {
    let data: Vec<_> = numbers.iter().flat_map(|number| [*number, 2.0, 3.0, 4.0]).collect();
    let x = json!([{"name": "x", "datatype": "FP32", "shape": [numbers.len(), 4], "data": data}]);
    infer(id, "neg", &x, parameters)
}

fn row(id: &str, number: f32) -> Value {
    rows(id, &[number], &pinned())
}

async fn step(asked: &mut mpsc::UnboundedReceiver<Asked>) -> Asked {
    soon("a step", asked.recv()).await.expect("the browser lives")
}

/// The numbers of a step's rows.
fn numbers(asked: &Asked) -> Vec<f32> {
    let [x] = asked.inputs.as_slice() else { panic!("one input") };
    assert_eq!(x.shape[1..], [4]);
    let numbers: Vec<_> = wire::floats(&x.body.contiguous()).chunks(4).map(|row| row[0]).collect();
    assert_eq!(x.shape[0], numbers.len() as u64);
    numbers
}

struct Stage {
    browser: FakeBrowser,
    daemon: TestDaemon,
    client: Client,
    asked: mpsc::UnboundedReceiver<Asked>,
    /// The two that a lane takes before anything has to wait.
    running: [Asked; 2],
}

/// A lane that has two steps of one row each, held, so that whatever comes next waits for it.
async fn busy(backend: &'static str, batch: &Value) -> Stage {
    let (browser, daemon, mut client, mut asked) = ready(backend, batch).await;
    for number in [0.0, 0.5] {
        client.send(&rows(&number.to_string(), &[number], &json!({"backend": backend}))).await;
    }
    let running = [step(&mut asked).await, step(&mut asked).await];
    Stage { browser, daemon, client, asked, running }
}

async fn ready(
    backend: &'static str,
    batch: &Value,
) -> (FakeBrowser, TestDaemon, Client, mpsc::UnboundedReceiver<Asked>) {
    let browser = FakeBrowser::new("fake", &[backend]);
    let daemon = TestDaemon::start_in(home(), &[&browser], |_| {}).await.expect("a good start");
    daemon.settled().await;
    let (status, said) = daemon.try_add_batching("neg", graphs::neg(), batch).await;
    assert_eq!((status, &said["batching"]["barred"]), (200, &Value::Null), "{said}");
    daemon.verify("neg", &json!({"backend": [backend]})).await;
    let (ask, asked) = mpsc::unbounded_channel();
    browser.behaves(Conduct::Ask(ask));
    let client = daemon.client().await;
    (browser, daemon, client, asked)
}

impl Stage {
    async fn send(&mut self, requests: &[Value]) {
        for request in requests {
            self.client.send(request).await;
        }
        self.client.caught_up().await;
        assert!(self.asked.try_recv().is_err(), "the lane is full");
    }

    /// Lets the two go, and holds what follows them.
    async fn free(self) -> (FakeBrowser, TestDaemon, Client, mpsc::UnboundedReceiver<Asked>) {
        let Self { browser, daemon, mut client, asked, running } = self;
        for (held, id) in running.into_iter().zip(["0", "0.5"]) {
            held.answer(Deed::Compute);
            gets(&mut client, id, &[if id == "0" { 0.0 } else { 0.5 }], 1).await;
        }
        (browser, daemon, client, asked)
    }
}

/// A request is answered with its own rows, and told how many shared its step.
async fn gets(client: &mut Client, id: &str, numbers: &[f32], batch: u32) -> Value {
    let reply = client.reply(id).await;
    assert_eq!(reply.header["type"], "result", "{reply:?}");
    let wanted: Vec<_> = numbers.iter().flat_map(|number| [-*number, -2.0, -3.0, -4.0]).collect();
    let output = &reply.header["outputs"][0];
    assert_eq!(output["shape"], json!([numbers.len(), 4]), "{reply:?}");
    let data: Vec<f32> = serde_json::from_value(output["data"].clone()).expect("floats");
    assert_eq!(data, wanted, "{id}");
    assert_eq!(reply.provenance()["batch"], batch, "{id}");
    reply.provenance().clone()
}

#[tokio::test]
async fn what_waits_for_a_lane_shares_its_next_step() {
    let mut stage = busy("wasm", &json!({})).await;
    let requests: Vec<_> = (1..=5).map(|number| row(&number.to_string(), number as f32)).collect();
    stage.send(&requests).await;
    let (_, daemon, mut client, mut asked) = stage.free().await;
    let shared = step(&mut asked).await;
    assert_eq!(numbers(&shared), [1.0, 2.0, 3.0, 4.0, 5.0]);
    shared.answer(Deed::Compute);
    for number in 1..=5 {
        gets(&mut client, &number.to_string(), &[number as f32], 5).await;
    }
    let runs = daemon.runs().await;
    let batches: Vec<_> = runs.iter().map(|run| run["provenance"]["batch"].clone()).collect();
    assert_eq!(json!(batches), json!([1, 1, 5, 5, 5, 5, 5]));
    let names: BTreeSet<_> = runs.iter().map(|run| run["run"].to_string()).collect();
    assert_eq!(names.len(), 7, "each has a run of its own");
    let stats = daemon.get("/v2/models/neg/stats").await["model_stats"][0].clone();
    assert_eq!((&stats["inference_count"], &stats["execution_count"]), (&json!(7), &json!(3)), "{stats}");
    daemon.stop().await;
}

#[tokio::test]
async fn a_step_holds_what_its_limit_allows_and_only_what_is_alike() {
    let strict = json!({"backend": ["wasm"], "strict": true});
    // Requests by their first number, and the steps that they make.
    let cases: [(&[Value], &[&[f32]]); 3] = [
        (
            &[row("1", 1.0), row("2", 2.0), row("3", 3.0), row("4", 4.0), row("5", 5.0)],
            &[&[1.0, 2.0, 3.0, 4.0], &[5.0]],
        ),
        // Two rows each: two make the limit.
        (
            &[
                rows("1", &[1.0, 1.5], &pinned()),
                rows("2", &[2.0, 2.5], &pinned()),
                rows("3", &[3.0, 3.5], &pinned()),
            ],
            &[&[1.0, 1.5, 2.0, 2.5], &[3.0, 3.5]],
        ),
        (
            &[row("1", 1.0), rows("2", &[2.0], &strict), row("3", 3.0), rows("4", &[4.0, 4.5], &pinned())],
            &[&[1.0, 3.0], &[2.0], &[4.0, 4.5]],
        ),
    ];
    for (requests, wanted) in cases {
        let mut stage = busy("wasm", &json!({"max": 4})).await;
        stage.send(requests).await;
        let (_, daemon, mut client, mut asked) = stage.free().await;
        let mut steps = Vec::new();
        for _ in wanted {
            let next = step(&mut asked).await;
            steps.push(numbers(&next));
            next.answer(Deed::Compute);
        }
        assert_eq!(steps, wanted);
        for request in requests {
            let id = request["id"].as_str().expect("an id");
            assert_eq!(client.reply(id).await.header["type"], "result", "{id}");
        }
        daemon.stop().await;
    }
}

#[tokio::test]
async fn who_gives_up_leaves_the_others_their_step() {
    let mut stage = busy("wasm", &json!({})).await;
    let brief = json!({"backend": ["wasm"], "timeout": 400_000});
    stage.send(&[row("a", 1.0), row("b", 2.0), rows("brief", &[3.0], &brief), row("d", 4.0)]).await;
    let (browser, daemon, mut client, mut asked) = stage.free().await;
    let shared = step(&mut asked).await;
    assert_eq!(numbers(&shared).len(), 4);
    client.send(&json!({"type": "cancel", "id": "b"})).await;
    client.reply("b").await.refused("cancelled", "never", "cancelled by its caller");
    client.reply("brief").await.refused("deadline_exceeded", "same", "while computing");
    shared.answer(Deed::Compute);
    gets(&mut client, "a", &[1.0], 4).await;
    gets(&mut client, "d", &[4.0], 4).await;
    assert_eq!(*browser.state.cancels.borrow(), 0, "the lane was told nothing");
    // When all have given up, so has the step.
    for (id, number) in [("e", 5.0), ("f", 6.0), ("g", 7.0), ("h", 8.0)] {
        client.send(&row(id, number)).await;
    }
    client.caught_up().await;
    let (e, f) = (step(&mut asked).await, step(&mut asked).await);
    e.answer(Deed::Compute);
    gets(&mut client, "e", &[5.0], 1).await;
    let shared = step(&mut asked).await;
    assert_eq!(numbers(&shared), [7.0, 8.0]);
    for id in ["g", "h"] {
        client.send(&json!({"type": "cancel", "id": id})).await;
        client.reply(id).await.refused("cancelled", "never", "cancelled by its caller");
    }
    browser.cancels(1).await;
    f.answer(Deed::Compute);
    gets(&mut client, "f", &[6.0], 1).await;
    shared.answer(Deed::Compute);
    client.send(&row("last", 9.0)).await;
    step(&mut asked).await.answer(Deed::Compute);
    gets(&mut client, "last", &[9.0], 1).await;
    daemon.stop().await;
}

#[tokio::test]
async fn one_that_fails_does_not_fail_its_neighbours() {
    for deed in
        [Deed::Fail("invalid_request", "never"), Deed::Fail("out_of_memory", "elsewhere"), Deed::Short]
    {
        let mut stage = busy("wasm", &json!({})).await;
        stage.send(&[row("a", 1.0), row("poison", 2.0), row("c", 3.0)]).await;
        let (_, daemon, mut client, mut asked) = stage.free().await;
        let shared = step(&mut asked).await;
        assert_eq!(numbers(&shared).len(), 3);
        shared.answer(deed.clone());
        // Each is tried again alone.
        for _ in 0..3 {
            let alone = step(&mut asked).await;
            let poison = numbers(&alone) == [2.0];
            assert_eq!(numbers(&alone).len(), 1, "{deed:?}");
            alone.answer(if poison { Deed::Fail("invalid_request", "never") } else { Deed::Compute });
        }
        for (id, number) in [("a", 1.0), ("c", 3.0)] {
            assert_eq!(gets(&mut client, id, &[number], 1).await["attempt"], 2, "{deed:?}");
        }
        client.reply("poison").await.refused("invalid_request", "never", "told to fail");
        let runs = daemon.runs().await;
        let failed = runs.iter().filter(|run| run["provenance"]["batch"] == 3);
        assert_eq!(failed.filter(|run| !run["error"].is_null()).count(), 3, "{deed:?}: {runs:?}");
        daemon.stop().await;
    }
}

#[tokio::test]
async fn a_delay_fills_a_step_but_makes_nobody_late() {
    let delayed = json!({"max": 3, "delay": "1h"});
    let (status, said) = {
        let daemon = TestDaemon::start_in(home(), &[], |_| {}).await.expect("a good start");
        let added = daemon.try_add_batching("neg", graphs::neg(), &delayed).await;
        daemon.stop().await;
        added
    };
    assert_eq!((status, &said["code"]), (422, &json!("invalid_request")), "{said}");

    let (_, daemon, mut client, mut asked) = ready("wasm", &json!({"max": 3, "delay": "10s"})).await;
    for (id, number) in [("a", 1.0), ("b", 2.0)] {
        client.send(&row(id, number)).await;
    }
    client.caught_up().await;
    assert!(asked.try_recv().is_err(), "two wait for a third, though the lane is free");
    client.send(&row("c", 3.0)).await;
    let full = step(&mut asked).await;
    assert_eq!(numbers(&full), [1.0, 2.0, 3.0]);
    full.answer(Deed::Compute);
    for (id, number) in [("a", 1.0), ("b", 2.0), ("c", 3.0)] {
        gets(&mut client, id, &[number], 3).await;
    }
    // Its time would be over long before the delay is.
    client.send(&rows("brief", &[4.0], &json!({"backend": ["wasm"], "timeout": 2_000_000}))).await;
    step(&mut asked).await.answer(Deed::Compute);
    gets(&mut client, "brief", &[4.0], 1).await;
    daemon.stop().await;

    let (_, daemon, mut client, mut asked) = ready("wasm", &json!({"max": 8, "delay": "60ms"})).await;
    client.send(&row("a", 1.0)).await;
    step(&mut asked).await.answer(Deed::Compute);
    let reply = client.reply("a").await;
    let queued = reply.header["parameters"]["timing_us"]["queue"].as_u64().expect("a time");
    assert!((60_000..2_000_000).contains(&queued), "{queued} us");
    daemon.stop().await;
}

#[tokio::test]
async fn where_each_size_is_a_session_only_those_that_are_there_are_used() {
    let mut stage = busy("webnn", &json!({})).await;
    let webnn = json!({"backend": "webnn"});
    let single = |id: &str, number| rows(id, &[number], &webnn);
    stage.send(&[single("1", 1.0), single("2", 2.0), single("3", 3.0)]).await;
    let (browser, daemon, mut client, mut asked) = stage.free().await;
    for number in [1.0, 2.0, 3.0] {
        let alone = step(&mut asked).await;
        assert_eq!(numbers(&alone), [number]);
        alone.answer(Deed::Compute);
        gets(&mut client, &number.to_string(), &[number], 1).await;
    }
    // Somebody's request of two rows builds the session of two.
    browser.behaves(Conduct::Compute);
    client.send(&rows("two", &[4.0, 5.0], &webnn)).await;
    gets(&mut client, "two", &[4.0, 5.0], 1).await;
    let (ask, mut asked) = mpsc::unbounded_channel();
    browser.behaves(Conduct::Ask(ask));
    for number in 1..=5 {
        client.send(&single(&number.to_string(), number as f32)).await;
    }
    client.caught_up().await;
    let (one, two) = (step(&mut asked).await, step(&mut asked).await);
    one.answer(Deed::Compute);
    let shared = step(&mut asked).await;
    assert_eq!(numbers(&shared), [3.0, 4.0]);
    two.answer(Deed::Compute);
    let last = step(&mut asked).await;
    assert_eq!(numbers(&last), [5.0]);
    shared.answer(Deed::Compute);
    last.answer(Deed::Compute);
    for (number, batch) in [(1, 1), (2, 1), (3, 2), (4, 2), (5, 1)] {
        gets(&mut client, &number.to_string(), &[number as f32], batch).await;
    }
    daemon.stop().await;
}

#[tokio::test]
async fn whose_rows_are_not_known_to_be_apart_shares_no_step() {
    let daemon = TestDaemon::start_in(home(), &[], |_| {}).await.expect("a good start");
    let cases = [
        ("neg", graphs::neg(), None),
        ("mixing", graphs::mixing(), Some("not answered as they are alone")),
        ("constant", graphs::constant(), Some("not answered as they are alone")),
        ("vector", graphs::identity(graphs::FLOAT), Some("do not all begin")),
    ];
    for (name, file, barred) in cases {
        let (status, said) = daemon.try_add_batching(name, file, &json!({})).await;
        assert_eq!(status, 200, "{said}");
        let batching = &said["batching"];
        assert_eq!((&batching["max"], &batching["delay"]), (&json!(8), &json!("0s")), "{said}");
        match barred {
            None => assert_eq!(batching["barred"], Value::Null, "{name}"),
            Some(says) => {
                assert!(batching["barred"].as_str().is_some_and(|why| why.contains(says)), "{said}");
            }
        }
    }
    for batch in [json!({"max": 0}), json!({"max": 1025}), json!({"delay": "11s"}), json!({"wait": 1})] {
        let (status, said) = daemon.try_add_batching("neg", graphs::neg(), &batch).await;
        assert_eq!((status, &said["code"]), (422, &json!("invalid_request")), "{batch}: {said}");
    }
    daemon.stop().await;
}

/// The real model on the real native lane: what shares a step is answered as it is alone.
#[tokio::test]
async fn magika_answers_in_a_shared_step_as_it_does_alone() {
    let daemon = TestDaemon::start_in(home(), &[], |_| {}).await.expect("a good start");
    let file = std::fs::read(native::magika()).expect("`make setup` has brought it");
    let (status, said) = daemon.try_add_batching("magika", file, &json!({})).await;
    assert_eq!((status, &said["batching"]["barred"]), (200, &Value::Null), "{said}");
    let request = |id: &str, seed: usize| {
        let data: Vec<_> = (0..2048).map(|at| (at * (seed + 3) + seed) % 257).collect();
        let bytes = json!([{"name": "bytes", "datatype": "INT32", "shape": [1, 2048], "data": data}]);
        infer(id, "magika", &bytes, &json!({"backend": "ort-cpu"}))
    };
    let scores = |reply: &crate::support::Reply| -> Vec<f64> {
        let output = &reply.header["outputs"][0];
        assert_eq!(output["shape"], json!([1, 214]), "{reply:?}");
        serde_json::from_value(output["data"].clone()).expect("numbers")
    };
    let mut client = daemon.client().await;
    let mut alone = Vec::new();
    for seed in 0..12 {
        let reply = client.ask(&request("alone", seed)).await;
        assert_eq!(reply.provenance()["batch"], 1, "{reply:?}");
        alone.push(scores(&reply));
    }
    for seed in 0..12 {
        client.send(&request(&seed.to_string(), seed)).await;
    }
    let mut batches = Vec::new();
    for (seed, alone) in alone.iter().enumerate() {
        let reply = client.reply(&seed.to_string()).await;
        batches.push(reply.provenance()["batch"].as_u64().expect("a count"));
        let off = scores(&reply).iter().zip(alone).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
        assert!(off < 1e-5, "{seed}: {off}");
    }
    assert!(batches.iter().any(|batch| *batch > 1) && batches.iter().all(|batch| *batch <= 8), "{batches:?}");
    daemon.stop().await;
}
