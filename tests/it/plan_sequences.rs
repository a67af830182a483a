//! Sequences under plans: one request at a time through all stages, each held to its lane, and begun anew when one is
//! lost.

use serde_json::{Value, json};

use crate::{
    plans::{Set, answered, first, make, set, spread, stage, under},
    scheduling::{hold, step},
    support::{Conduct, Deed},
};

/// A request of sequence 7; `place` is `start`, `end` or neither.
fn part(id: &str, plan: &str, place: &str, first: f32) -> Value {
    let mut parameters = json!({"sequence_id": 7});
    if !place.is_empty() {
        parameters[format!("sequence_{place}")] = json!(true);
    }
    under(id, plan, first, &parameters)
}

#[tokio::test]
async fn its_requests_go_through_all_stages_one_after_the_other() {
    let Set { browsers, daemon, mut client } = set().await;
    let plan = make(&daemon, &spread("native")).await;
    let mut asked = hold(&browsers.each_ref());
    for (id, place, number) in [("one", "start", 1.0), ("two", "", 2.0), ("three", "end", 3.0)] {
        client.send(&part(id, &plan, place, number)).await;
    }
    for number in [1.0, 2.0, 3.0] {
        for at in 0..3 {
            let step = step(&mut asked).await;
            assert_eq!((stage(&step), first(&step)), (at, number));
            client.caught_up().await;
            assert!(asked.try_recv().is_err(), "the next waits for this one's end in all stages");
            step.answer(Deed::Compute);
        }
    }
    for (id, number) in [("one", 1.0), ("two", 2.0), ("three", 3.0)] {
        answered(&client.reply(id).await, number);
    }
    let unknown = "begun with sequence_start";
    client.ask(&part("late", &plan, "", 4.0)).await.refused("invalid_request", "never", unknown);
    daemon.stop().await;
}

/// Each stage's lane in turn is lost, between two requests and in the middle of one.
#[tokio::test]
async fn a_sequence_that_loses_a_lane_is_begun_anew_and_asked_all_of_it_again() {
    for (lost, between) in [(0, true), (1, true), (2, false), (1, false)] {
        let Set { browsers, daemon, mut client } = set().await;
        let plan = make(&daemon, &spread("none")).await;
        for (id, place, number) in [("one", "start", 1.0), ("two", "", 2.0)] {
            answered(&client.ask(&part(id, &plan, place, number)).await, number);
        }
        let mut asked = hold(&[&browsers[lost]]);
        if between {
            browsers[lost].kill_lane("wasm");
            client.send(&part("three", &plan, "", 3.0)).await;
        } else {
            client.send(&part("three", &plan, "", 3.0)).await;
            step(&mut asked).await.answer(Deed::Close);
        }
        let mut seen = Vec::new();
        while seen.len() < 3 {
            let step = step(&mut asked).await;
            // The daemon may hear of the request before it hears of the loss; then the step is lost with the lane.
            if !(between && seen.is_empty() && first(&step) > 1.0) {
                seen.push(first(&step));
            }
            step.answer(Deed::Compute);
        }
        assert_eq!(seen, [1.0, 2.0, 3.0], "stage {lost}");
        browsers[lost].behaves(Conduct::Compute);
        answered(&client.reply("three").await, 3.0);
        answered(&client.ask(&part("four", &plan, "end", 4.0)).await, 4.0);
        daemon.stop().await;
    }
}

/// A request that ends in some stages alone leaves their lanes apart: the next one sets them right.
#[tokio::test]
async fn a_sequence_whose_request_ended_midway_is_asked_again() {
    let Set { browsers, daemon, mut client } = set().await;
    let plan = make(&daemon, &spread("none")).await;
    answered(&client.ask(&part("one", &plan, "start", 1.0)).await, 1.0);
    let mut asked = hold(&[&browsers[1]]);
    client.send(&part("two", &plan, "", 2.0)).await;
    client.send(&part("three", &plan, "", 3.0)).await;
    let held = step(&mut asked).await;
    client.send(&json!({"type": "cancel", "id": "two"})).await;
    client.reply("two").await.refused("cancelled", "never", "stage 1: ");
    held.answer(Deed::Compute);
    for number in [1.0, 3.0] {
        let step = step(&mut asked).await;
        assert!((first(&step) - number).abs() < f32::EPSILON, "{number}");
        step.answer(Deed::Compute);
    }
    answered(&client.reply("three").await, 3.0);
    daemon.stop().await;
}

#[tokio::test]
async fn what_waits_in_a_sequence_ends_in_time_or_when_it_is_cancelled() {
    let Set { browsers, daemon, mut client } = set().await;
    let plan = make(&daemon, &spread("none")).await;
    let mut asked = hold(&[&browsers[0]]);
    client.send(&part("one", &plan, "start", 1.0)).await;
    let held = step(&mut asked).await;
    let mut brief = part("brief", &plan, "", 2.0);
    brief["parameters"]["timeout"] = json!(30_000);
    client.send(&brief).await;
    client.send(&part("cancelled", &plan, "", 3.0)).await;
    client.send(&part("last", &plan, "end", 4.0)).await;
    client.reply("brief").await.refused("deadline_exceeded", "same", "behind others of its sequence");
    client.send(&json!({"type": "cancel", "id": "cancelled"})).await;
    client.reply("cancelled").await.refused("cancelled", "never", "cancelled by its caller");
    held.answer(Deed::Compute);
    answered(&client.reply("one").await, 1.0);
    let last = step(&mut asked).await;
    assert!((first(&last) - 4.0).abs() < f32::EPSILON);
    last.answer(Deed::Compute);
    answered(&client.reply("last").await, 4.0);
    daemon.stop().await;
}
