//! Sequences: held to the lane that answered first, in order, and lost with it.

use serde_json::{Value, json};
use tokio::sync::mpsc;

use crate::support::{Asked, Client, Conduct, Deed, FakeBrowser, TestDaemon, infer, infer_x, soon, wire};

/// A request of sequence `id`; `place` is `start`, `end` or neither.
fn part(request: &str, id: &Value, place: &str, number: f32) -> Value {
    let mut parameters = json!({"backend": "wasm", "sequence_id": id});
    if !place.is_empty() {
        parameters[format!("sequence_{place}")] = json!(true);
    }
    let x = json!([{"name": "x", "datatype": "FP32", "shape": [1, 4], "data": [number, 2, 3, 4]}]);
    infer(request, "neg", &x, &parameters)
}

async fn step(asked: &mut mpsc::UnboundedReceiver<Asked>) -> Asked {
    soon("a step", asked.recv()).await.expect("the browser lives")
}

fn number(asked: &Asked) -> u32 {
    wire::floats(&asked.inputs[0].body.contiguous())[0] as u32
}

async fn stage() -> ([FakeBrowser; 2], TestDaemon, Client, mpsc::UnboundedReceiver<Asked>) {
    let browsers = ["alpha", "beta"].map(|name| FakeBrowser::new(name, &["wasm"]));
    let daemon = TestDaemon::start(&[&browsers[0], &browsers[1]]).await;
    daemon.verify("neg", &json!({"backend": ["wasm"]})).await;
    let client = daemon.client().await;
    let (ask, asked) = mpsc::unbounded_channel();
    for browser in &browsers {
        browser.behaves(Conduct::Ask(ask.clone()));
    }
    (browsers, daemon, client, asked)
}

#[tokio::test]
async fn a_sequence_stays_in_its_lane_and_in_order() {
    let (_, daemon, mut client, mut asked) = stage().await;
    for (id, other) in [(json!(7), json!("seven")), (json!("a b"), json!(8))] {
        client.send(&part("one", &id, "start", 1.0)).await;
        client.send(&part("two", &id, "", 2.0)).await;
        client.send(&part("three", &id, "end", 3.0)).await;
        let mut lanes = Vec::new();
        for wanted in [1, 2, 3] {
            let next = step(&mut asked).await;
            assert_eq!(number(&next), wanted);
            lanes.push(next.lane.clone());
            client.caught_up().await;
            assert!(asked.try_recv().is_err(), "the next waits for this one's end");
            // The other lane is free, and as good.
            let other = if next.lane.starts_with("alpha") { "beta" } else { "alpha" };
            client.send(&infer_x("between", &json!({"browser": other}))).await;
            let between = step(&mut asked).await;
            assert_ne!(between.lane, next.lane);
            between.answer(Deed::Compute);
            client.reply("between").await.negated();
            next.answer(Deed::Compute);
        }
        assert!(lanes.iter().all(|lane| *lane == lanes[0]), "{lanes:?}");
        for id in ["one", "two", "three"] {
            assert_eq!(client.reply(id).await.header["type"], "result");
        }
        let unknown = "begun with sequence_start";
        for never in [&id, &other] {
            client.ask(&part("r", never, "", 4.0)).await.refused("invalid_request", "never", unknown);
        }
    }
    let odd = json!({"sequence_start": true});
    client.ask(&infer_x("r", &odd)).await.refused("invalid_request", "never", "need a sequence_id");
    daemon.stop().await;
}

#[tokio::test]
async fn a_sequence_is_lost_with_its_lane_and_begun_anew() {
    for between_steps in [true, false] {
        let (browsers, daemon, mut client, mut asked) = stage().await;
        let id = json!(5);
        // Before anything was answered no lane holds anything: the first is tried elsewhere.
        client.send(&part("first", &id, "start", 1.0)).await;
        let lost = step(&mut asked).await;
        let elsewhere = lost.lane.clone();
        lost.answer(Deed::Close);
        let first = step(&mut asked).await;
        assert_ne!(first.lane, elsewhere);
        let held =
            browsers.iter().find(|browser| first.lane.starts_with(&browser.name)).expect("one of them");
        first.answer(Deed::Compute);
        assert_eq!(client.reply("first").await.provenance()["attempt"], 2);
        let anew = "begin it anew";
        if between_steps {
            held.kill_lane("wasm");
            let second = part("second", &id, "", 2.0);
            let mut gone = Box::pin(client.ask(&second));
            // The daemon may hear of the request before it hears of the loss; then the step is lost with the lane.
            let reply = loop {
                tokio::select! {
                    biased;
                    reply = &mut gone => break reply,
                    Some(late) = asked.recv() => drop(late),
                }
            };
            drop(gone);
            reply.refused("lane_lost", "never", anew);
        } else {
            client.send(&part("second", &id, "", 2.0)).await;
            client.send(&part("third", &id, "", 3.0)).await;
            step(&mut asked).await.answer(Deed::Close);
            client.reply("second").await.refused("lane_lost", "never", anew);
            client.reply("third").await.refused("lane_lost", "never", anew);
            assert!(asked.try_recv().is_err(), "nothing of it is tried elsewhere");
        }
        client.ask(&part("later", &id, "", 4.0)).await.refused("lane_lost", "never", anew);
        client.send(&part("again", &id, "start", 5.0)).await;
        step(&mut asked).await.answer(Deed::Compute);
        assert_eq!(client.reply("again").await.header["type"], "result");
        client.send(&part("goes on", &id, "end", 6.0)).await;
        step(&mut asked).await.answer(Deed::Compute);
        assert_eq!(client.reply("goes on").await.header["type"], "result");
        daemon.stop().await;
    }
}

#[tokio::test]
async fn what_waits_in_a_sequence_ends_in_time_or_when_it_is_cancelled() {
    let (_, daemon, mut client, mut asked) = stage().await;
    let id = json!(1);
    client.send(&part("first", &id, "start", 1.0)).await;
    let first = step(&mut asked).await;
    let mut brief = part("brief", &id, "", 2.0);
    brief["parameters"]["timeout"] = json!(30_000);
    client.send(&brief).await;
    client.send(&part("cancelled", &id, "", 3.0)).await;
    client.send(&part("last", &id, "end", 4.0)).await;
    client.reply("brief").await.refused("deadline_exceeded", "same", "in the queue");
    client.send(&json!({"type": "cancel", "id": "cancelled"})).await;
    client.reply("cancelled").await.refused("cancelled", "never", "cancelled by its caller");
    first.answer(Deed::Compute);
    assert_eq!(client.reply("first").await.header["type"], "result");
    let last = step(&mut asked).await;
    assert_eq!(number(&last), 4);
    last.answer(Deed::Compute);
    assert_eq!(client.reply("last").await.header["type"], "result");
    daemon.stop().await;
}
