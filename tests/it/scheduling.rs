//! The scheduler at work: order, time, cancelling, retries, fallback and limits.

use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio_tungstenite::tungstenite::Message;
use weft::domain::Policy;

use crate::support::{
    Asked, Client, Conduct, Deed, FakeBrowser, TestDaemon, graphs, home, infer, infer_x, soon, wire,
};

fn pinned() -> Value {
    json!({"backend": ["wasm"]})
}

/// Steps wait for the test from now on.
pub(crate) fn hold(browsers: &[&FakeBrowser]) -> mpsc::UnboundedReceiver<Asked> {
    let (ask, asked) = mpsc::unbounded_channel();
    for browser in browsers {
        browser.behaves(Conduct::Ask(ask.clone()));
    }
    asked
}

pub(crate) async fn step(asked: &mut mpsc::UnboundedReceiver<Asked>) -> Asked {
    soon("a step", asked.recv()).await.expect("the browser lives")
}

/// A request whose only distinction is its first element.
fn numbered(id: &str, first: f32, parameters: &Value) -> Value {
    infer(
        id,
        "neg",
        &json!([{"name": "x", "datatype": "FP32", "shape": [1, 4], "data": [first, 2, 3, 4]}]),
        parameters,
    )
}

fn number(asked: &Asked) -> f32 {
    wire::floats(&asked.inputs[0].body.contiguous())[0]
}

/// A daemon with these browsers, `neg` proven in all, their steps held.
async fn held(browsers: &[&FakeBrowser]) -> (TestDaemon, Client, mpsc::UnboundedReceiver<Asked>) {
    let daemon = TestDaemon::start(browsers).await;
    daemon.verify("neg", &pinned()).await;
    let client = daemon.client().await;
    (daemon, client, hold(browsers))
}

#[tokio::test]
async fn replies_come_as_steps_end_not_as_requests_came() {
    let (alpha, beta) = (FakeBrowser::new("alpha", &["wasm"]), FakeBrowser::new("beta", &["wasm"]));
    let (daemon, mut client, mut asked) = held(&[&alpha, &beta]).await;
    client.send(&numbered("first", 1.0, &json!({"browser": "alpha"}))).await;
    client.send(&numbered("second", 2.0, &json!({"browser": "beta"}))).await;
    let (one, two) = (step(&mut asked).await, step(&mut asked).await);
    let (first, second) = if number(&one) < 2.0 { (one, two) } else { (two, one) };
    assert_eq!((first.lane.as_str(), second.lane.as_str()), ("alpha-1/wasm", "beta-1/wasm"));
    second.answer(Deed::Compute);
    assert_eq!(client.next().await.header["id"], "second");
    first.answer(Deed::Compute);
    assert_eq!(client.next().await.header["id"], "first");
    daemon.stop().await;
}

#[tokio::test]
async fn a_lane_takes_two_steps_and_the_queue_is_served_by_priority() {
    let browser = FakeBrowser::new("fake", &["wasm"]);
    let (daemon, mut client, mut asked) = held(&[&browser]).await;
    let wants =
        [(0, "a"), (0, "b"), (0, "default"), (9, "deferred"), (1, "urgent"), (8, "as default, but later")];
    for (number, (priority, id)) in wants.iter().enumerate() {
        client.send(&numbered(id, number as f32, &json!({"backend": "wasm", "priority": priority}))).await;
    }
    client.caught_up().await;
    let mut running = vec![step(&mut asked).await, step(&mut asked).await];
    assert_eq!(daemon.lane("fake-1/wasm").await["load"]["running"], 2);
    assert!(asked.try_recv().is_err(), "a third step waits in the daemon");
    let mut order = Vec::new();
    while !running.is_empty() {
        running.remove(0).answer(Deed::Compute);
        if order.len() < 4 {
            let next = step(&mut asked).await;
            order.push(number(&next));
            running.push(next);
        }
    }
    assert_eq!(order, [4.0, 2.0, 5.0, 3.0]);
    for (_, id) in wants {
        assert_eq!(client.reply(id).await.header["type"], "result");
    }
    daemon.stop().await;
}

#[tokio::test]
async fn time_runs_out_in_the_queue_and_while_computing() {
    let browser = FakeBrowser::new("fake", &["wasm"]);
    let (daemon, mut client, mut asked) = held(&[&browser]).await;
    let brief = json!({"backend": "wasm", "timeout": 30_000});
    client.send(&infer_x("a", &pinned())).await;
    client.send(&infer_x("computing", &brief)).await;
    let (a, computing) = (step(&mut asked).await, step(&mut asked).await);
    client.reply("computing").await.refused("deadline_exceeded", "same", "while computing");
    // Its caller has been answered, the lane still has it.
    browser.cancels(1).await;
    assert_eq!(daemon.lane("fake-1/wasm").await["load"]["running"], 2);
    client.ask(&infer_x("queued", &brief)).await.refused("deadline_exceeded", "same", "in the queue");
    a.answer(Deed::Compute);
    client.reply("a").await.negated();
    computing.answer(Deed::Compute);
    // Both places are free again.
    client.send(&infer_x("b", &pinned())).await;
    client.send(&infer_x("c", &pinned())).await;
    for _ in 0..2 {
        step(&mut asked).await.answer(Deed::Compute);
    }
    client.reply("b").await.negated();
    client.reply("c").await.negated();
    daemon.stop().await;
}

#[tokio::test]
async fn a_cancel_is_answered_at_once_and_frees_the_lane_later() {
    let browser = FakeBrowser::new("fake", &["wasm"]);
    let (daemon, mut client, mut asked) = held(&[&browser]).await;
    for id in ["a", "b", "queued"] {
        client.send(&infer_x(id, &pinned())).await;
    }
    let (a, b) = (step(&mut asked).await, step(&mut asked).await);
    for id in ["queued", "a"] {
        client.send(&json!({"type": "cancel", "id": id})).await;
        client.reply(id).await.refused("cancelled", "never", "cancelled by its caller");
    }
    client.ask(&json!({"type": "cancel", "id": "a"})).await.refused("invalid_request", "never", "in flight");
    browser.cancels(1).await;
    a.answer(Deed::Compute);
    b.answer(Deed::Compute);
    client.reply("b").await.negated();
    client.send(&infer_x("next", &pinned())).await;
    step(&mut asked).await.answer(Deed::Compute);
    client.reply("next").await.negated();
    client.caught_up().await;
    daemon.stop().await;
}

#[tokio::test]
async fn who_leaves_cancels_what_is_in_flight() {
    let browser = FakeBrowser::new("fake", &["wasm"]);
    let (daemon, mut client, mut asked) = held(&[&browser]).await;
    client.send(&infer_x("a", &pinned())).await;
    let a = step(&mut asked).await;
    drop(client);
    browser.cancels(1).await;
    a.answer(Deed::Compute);
    let mut client = daemon.client().await;
    client.send(&infer_x("b", &pinned())).await;
    step(&mut asked).await.answer(Deed::Compute);
    client.reply("b").await.negated();
    daemon.stop().await;
}

/// Whatever ends a lane in the middle of a step, another one answers.
#[tokio::test]
async fn a_lost_lane_costs_a_retry_elsewhere() {
    let deeds = [
        Deed::Close,
        Deed::Short,
        Deed::Say(Message::text("not JSON")),
        Deed::Say(Message::text(r#"{"type":"gossip"}"#)),
        Deed::Say(Message::binary(vec![255, 255, 255, 255])),
        Deed::Say(Message::binary(wire::raw(&[0xff], &[]))),
        Deed::Say(Message::text(r#"{"type":"lane_unavailable","reason":"gone"}"#)),
        Deed::Say(Message::Close(None)),
        Deed::Fail("out_of_memory", "elsewhere"),
    ];
    for deed in deeds {
        // A daemon each, since a lane that came back might win the retry.
        let (alpha, beta) = (FakeBrowser::new("alpha", &["wasm"]), FakeBrowser::new("beta", &["wasm"]));
        let (daemon, mut client, mut asked) = held(&[&alpha, &beta]).await;
        client.send(&infer_x("r", &pinned())).await;
        let first = step(&mut asked).await;
        let lost = first.lane.clone();
        first.answer(deed.clone());
        let second = step(&mut asked).await;
        assert_ne!(second.lane, lost, "{deed:?}");
        second.answer(Deed::Compute);
        let reply = client.reply("r").await;
        let provenance = reply.negated();
        assert_eq!((&provenance["attempt"], provenance["lane"] != lost), (&json!(2), true), "{deed:?}");
        let runs = daemon.runs().await;
        let [failed, done] = &runs[runs.len() - 2..] else { panic!("two attempts, two rows") };
        assert_eq!(
            (&failed["provenance"]["lane"], &failed["provenance"]["attempt"]),
            (&json!(lost), &json!(1))
        );
        let code = failed["error"]["code"].as_str().expect("the first attempt failed");
        assert_eq!(code, if matches!(deed, Deed::Fail(..)) { "out_of_memory" } else { "lane_lost" });
        assert_eq!((&done["run"], &done["error"]), (&reply.header["parameters"]["run"], &Value::Null));
        daemon.stop().await;
    }
}

#[tokio::test]
async fn the_only_lane_comes_back_and_serves_who_waited() {
    let browser = FakeBrowser::new("fake", &["wasm"]);
    let (daemon, mut client, mut asked) = held(&[&browser]).await;
    for end in ["the lane", "the browser"] {
        for id in ["a", "b", "queued"] {
            client.send(&infer_x(id, &pinned())).await;
        }
        client.caught_up().await;
        let lost = (step(&mut asked).await, step(&mut asked).await);
        if end == "the lane" {
            browser.kill_lane("wasm");
        } else {
            browser.crash();
        }
        for _ in 0..3 {
            step(&mut asked).await.answer(Deed::Compute);
        }
        drop(lost);
        for (id, attempt) in [("a", 2), ("b", 2), ("queued", 1)] {
            let reply = client.reply(id).await;
            assert_eq!(reply.negated()["attempt"], attempt, "{end}, {id}");
        }
    }
    daemon.stop().await;
}

#[tokio::test]
async fn a_retry_goes_where_the_failure_says_and_not_on_for_ever() {
    // What a lane answers, how often it is asked, and what becomes of the request.
    let cases = [
        ("internal", "same", 3, Some("same")),
        ("internal", "elsewhere", 2, Some("elsewhere")),
        ("invalid_request", "never", 1, Some("never")),
    ];
    let (alpha, beta) = (FakeBrowser::new("alpha", &["wasm"]), FakeBrowser::new("beta", &["wasm"]));
    let daemon = TestDaemon::start(&[&alpha, &beta]).await;
    daemon.verify("neg", &pinned()).await;
    let mut client = daemon.client().await;
    for (code, retry, attempts, told) in cases {
        for browser in [&alpha, &beta] {
            browser.behaves(Conduct::Always(Deed::Fail(code, retry)));
        }
        let (before, steps) = (daemon.runs().await.len(), alpha.steps() + beta.steps());
        let reply = client.ask(&infer_x("r", &pinned())).await;
        reply.refused(code, told.expect("all fail"), "told to fail");
        assert_eq!(alpha.steps() + beta.steps() - steps, attempts, "{code} {retry}");
        let rows = &daemon.runs().await[before..];
        assert_eq!(rows.len(), attempts, "{rows:?}");
        assert!(
            rows.iter().all(|row| row["error"]["code"] == code && row["provenance"]["browser"].is_string())
        );
    }
    // With a native lane to fall back to, the same request is answered.
    alpha.behaves(Conduct::Always(Deed::Fail("internal", "elsewhere")));
    beta.behaves(Conduct::Always(Deed::Fail("internal", "elsewhere")));
    let reply = client.ask(&infer_x("r", &json!({}))).await;
    let provenance = reply.negated();
    assert_eq!((&provenance["browser"], &provenance["attempt"]), (&json!("native"), &json!(3)));
    assert_eq!(provenance["fallback"]["reason"], "the fake lane was told to fail");
    daemon.stop().await;
}

#[tokio::test]
async fn native_answers_only_when_it_may_and_says_why() {
    let browser = FakeBrowser::new("fake", &["wasm", "webgpu"]);
    browser.settings().unavailable.insert("webgpu", "the fake has no GPU");
    let daemon = TestDaemon::start(&[&browser]).await;
    daemon.verify("neg", &json!({})).await;
    let mut client = daemon.client().await;
    let wanted = |backend: &str, fallback: &str| json!({"backend": backend, "fallback": fallback});
    let reply = client.ask(&infer_x("r", &wanted("webgpu", "native"))).await;
    let provenance = reply.negated();
    assert_eq!((&provenance["backend"], &provenance["verdict"]), (&json!("ort-cpu"), &json!("reference")));
    let reason = "no lane offers webgpu: webgpu in fake: the fake has no GPU";
    assert_eq!(provenance["fallback"], json!({"wanted": "webgpu", "reason": reason}));
    for parameters in [wanted("webgpu", "none"), json!({"backend": "webgpu"})] {
        client.ask(&infer_x("r", &parameters)).await.refused("no_backend", "never", reason);
    }
    let none = "no lane offers netscape: none is configured";
    client.ask(&infer_x("r", &json!({"browser": "netscape"}))).await.refused("no_backend", "never", none);
    // Asked for by name, native is no fallback.
    let reply = client.ask(&infer_x("r", &json!({"backend": "ort-cpu"}))).await;
    assert_eq!(reply.negated()["fallback"], Value::Null);
    // Left to us, a browser answers.
    let reply = client.ask(&infer_x("r", &json!({}))).await;
    let provenance = reply.negated();
    assert_eq!((&provenance["backend"], &provenance["placement"]), (&json!("wasm"), &json!({"wasm": 1})));
    daemon.stop().await;
}

#[tokio::test]
async fn strict_refuses_a_session_that_mixes_providers() {
    let browser = FakeBrowser::new("fake", &["webnn"]);
    browser.settings().placement = Some(json!({"webnn": 1, "cpu": 2}));
    let daemon = TestDaemon::start(&[&browser]).await;
    let mut client = daemon.client().await;
    let reply = client.ask(&infer_x("r", &json!({"backend": "webnn"}))).await;
    assert_eq!(reply.negated()["placement"], json!({"cpu": 2, "webnn": 1}));
    let strict = json!({"backend": "webnn", "strict": true});
    client.ask(&infer_x("r", &strict)).await.refused("no_backend", "never", "several execution providers");
    daemon.stop().await;
}

#[tokio::test]
async fn what_may_be_pending_is_bounded() {
    let big = infer(
        "big",
        "any",
        &json!([{"name": "x", "datatype": "FP32", "shape": [64], "data": vec![0; 64]}]),
        &json!({}),
    );
    let cases: [(usize, usize, &str); 2] =
        [(2, 1 << 20, "2 requests are pending"), (9, 256, "hold 32 bytes of inputs")];
    for (requests, bytes, says) in cases {
        let browser = FakeBrowser::new("fake", &["wasm"]);
        let daemon = TestDaemon::start_in(home(), &[&browser], |config| {
            config.limits.requests = requests;
            config.limits.bytes = bytes;
        })
        .await
        .expect("a good start");
        daemon.settled().await;
        daemon.add("neg", graphs::neg()).await;
        daemon.add("any", graphs::identity(graphs::FLOAT)).await;
        daemon.verify("neg", &pinned()).await;
        let mut asked = hold(&[&browser]);
        let mut client = daemon.client().await;
        for id in ["a", "b"] {
            client.send(&infer_x(id, &pinned())).await;
        }
        client.ask(&big).await.refused("overloaded", "same", says);
        for id in ["a", "b"] {
            step(&mut asked).await.answer(Deed::Compute);
            client.reply(id).await.negated();
        }
        browser.behaves(Conduct::Compute);
        client.serves(&pinned()).await;
        daemon.stop().await;
    }
}

#[tokio::test]
async fn the_earliest_deadline_comes_first() {
    let browser = FakeBrowser::new("fake", &["wasm"]);
    let (daemon, mut client, mut asked) = held(&[&browser]).await;
    for (number, seconds) in [60, 60, 50, 30, 40].into_iter().enumerate() {
        let within = json!({"backend": "wasm", "timeout": seconds * 1_000_000});
        client.send(&numbered(&number.to_string(), number as f32, &within)).await;
    }
    client.caught_up().await;
    let mut running = vec![step(&mut asked).await, step(&mut asked).await];
    let mut order = Vec::new();
    while order.len() < 3 {
        running.remove(0).answer(Deed::Compute);
        let next = step(&mut asked).await;
        order.push(number(&next));
        running.push(next);
    }
    assert_eq!(order, [3.0, 4.0, 2.0]);
    for step in running {
        step.answer(Deed::Compute);
    }
    for number in 0..5 {
        assert_eq!(client.reply(&number.to_string()).await.header["type"], "result");
    }
    daemon.stop().await;
}

#[tokio::test]
async fn a_caller_has_a_limit_of_its_own_and_may_always_cancel() {
    let browser = FakeBrowser::new("fake", &["wasm"]);
    let daemon = TestDaemon::start_in(home(), &[&browser], |config| config.limits.caller_requests = 2)
        .await
        .expect("a good start");
    daemon.settled().await;
    daemon.add("neg", graphs::neg()).await;
    daemon.verify("neg", &pinned()).await;
    let mut asked = hold(&[&browser]);
    let (mut client, mut same) = (daemon.client().await, daemon.client().await);
    client.send(&infer_x("a", &pinned())).await;
    client.send(&infer_x("b", &pinned())).await;
    client.caught_up().await;
    // Every connection counts; what is refused is not even looked at.
    let nonsense = json!({"type": "infer", "id": "r", "model_name": "none", "inputs": 7});
    for request in [infer_x("r", &pinned()), nonsense] {
        same.ask(&request).await.refused("rate_limited", "same", "2 requests of this caller are pending");
    }
    client.send(&json!({"type": "cancel", "id": "a"})).await;
    client.reply("a").await.refused("cancelled", "never", "cancelled by its caller");
    for _ in 0..2 {
        step(&mut asked).await.answer(Deed::Compute);
    }
    client.reply("b").await.negated();
    browser.behaves(Conduct::Compute);
    same.serves(&pinned()).await;
    daemon.stop().await;
}

#[tokio::test]
async fn what_would_come_too_late_is_refused_at_once() {
    let browser = FakeBrowser::new("fake", &["wasm"]);
    let (daemon, mut client, mut asked) = held(&[&browser]).await;
    let slow = std::time::Duration::from_millis(60);
    for _ in 0..17 {
        client.send(&infer_x("known", &pinned())).await;
        let step = step(&mut asked).await;
        // That the lane takes its time is what is to be learnt.
        tokio::time::sleep(slow).await;
        step.answer(Deed::Compute);
        client.reply("known").await.negated();
    }
    for id in ["a", "b"] {
        client.send(&infer_x(id, &pinned())).await;
    }
    let running = [step(&mut asked).await, step(&mut asked).await];
    let brief = json!({"backend": "wasm", "timeout": 60_000});
    let refused = client.ask(&infer_x("brief", &brief)).await;
    refused.refused("overloaded", "same", "its answer is expected in");
    assert_eq!(refused.header["error"]["retry_after_s"], 1);
    client.send(&infer_x("patient", &pinned())).await;
    for step in running {
        step.answer(Deed::Compute);
    }
    step(&mut asked).await.answer(Deed::Compute);
    client.reply("patient").await.negated();
    daemon.stop().await;
}

#[tokio::test]
async fn each_policy_prefers_its_lanes() {
    let kinds = ["wasm", "webgpu", "webnn"];
    let browser = FakeBrowser::new("fake", &kinds);
    let daemon = TestDaemon::start_in(home(), &[&browser], |config| config.policy = Policy::NativeFirst)
        .await
        .expect("a good start");
    daemon.settled().await;
    daemon.add("neg", graphs::neg()).await;
    let mut client = daemon.client().await;
    for kind in kinds.into_iter().chain(["ort-cpu"]) {
        client.serves(&json!({"backend": kind})).await;
    }
    // The daemon's own, which is native first, and what a request says instead.
    for (parameters, native) in [
        (json!({}), true),
        (json!({"policy": "native-first", "fallback": "none"}), true),
        (json!({"policy": "browser-first"}), false),
        (json!({"policy": "pin", "browser": "fake"}), false),
        (json!({"policy": "pin", "backend": "ort-cpu"}), true),
        (json!({"backend": ["webgpu"]}), false),
    ] {
        let reply = client.ask(&infer_x("r", &parameters)).await;
        let provenance = reply.negated();
        let found = (provenance["browser"] == "native", &provenance["fallback"]);
        assert_eq!(found, (native, &Value::Null), "{parameters}");
    }
    for (parameters, says) in [
        (json!({"policy": "pin"}), "wants a backend, a browser or a lease"),
        (json!({"policy": "pin", "backend": "wasm", "fallback": "native"}), "allows no fallback"),
        (json!({"policy": "best"}), "unknown variant"),
    ] {
        client.ask(&infer_x("r", &parameters)).await.refused("invalid_request", "never", says);
    }
    // All four kinds on one queue: those that are held fill up, and the native one does the rest.
    let mut asked = hold(&[&browser]);
    let spread = json!({"policy": "spread"});
    for number in 0..20 {
        client.send(&infer_x(&number.to_string(), &spread)).await;
    }
    let mut held = Vec::new();
    for _ in 0..6 {
        held.push(step(&mut asked).await);
    }
    let lanes: std::collections::BTreeSet<_> = held.iter().map(|asked| asked.lane.clone()).collect();
    assert_eq!(lanes.len(), 3, "{lanes:?}");
    browser.behaves(Conduct::Compute);
    for step in held {
        step.answer(Deed::Compute);
    }
    let mut backends = std::collections::BTreeSet::new();
    for number in 0..20 {
        let reply = client.reply(&number.to_string()).await;
        backends.insert(reply.negated()["backend"].to_string());
    }
    assert_eq!(backends.len(), 4, "{backends:?}");
    daemon.stop().await;
}
