//! What a request under a plan may do next, as tables.

use std::{sync::Arc, time::Duration};

use tokio::time::Instant;

use super::{
    flow::{CREDITS, Flow},
    progress::Progress,
    seats::{Moved, Ran, Seats},
};
use crate::domain::{
    Datatype, Digest, Dim, LaneId, Place, Plan, PlanFallback, PlanId, Port, Shard, Signature, Spares, Tensor,
};

fn signature(text: &str) -> Signature {
    let (inputs, outputs) = text.split_once("->").expect("an arrow");
    let port =
        |word: &str| Port { name: word.to_owned(), datatype: Datatype::Uint8, shape: vec![Dim::Free(None)] };
    let ports = |words: &str| words.split_whitespace().map(port).collect();
    Signature { inputs: ports(inputs), outputs: ports(outputs) }
}

fn plan(whole: &str, stages: &[&str]) -> Arc<Plan> {
    let (whole, signatures) =
        (signature(whole), stages.iter().map(|text| signature(text)).collect::<Vec<_>>());
    let (model, place) = (Digest::new([1; 32]), Place::default);
    let shards: Vec<_> =
        signatures.iter().map(|signature| Shard { model, signature, place: place() }).collect();
    Arc::new(Plan::new((model, &whole), &shards, PlanFallback::None, Spares::None).expect("a plan"))
}

/// Values of one byte each, but for those that end in a number of bytes, as `h9`.
fn tensors(names: &str) -> Vec<Tensor> {
    let tensor = |name: &str| {
        let bytes = name.trim_start_matches(char::is_alphabetic).parse().unwrap_or(1);
        Tensor {
            name: name.to_owned(),
            datatype: Datatype::Uint8,
            shape: vec![bytes as u64],
            body: vec![0; bytes].into(),
        }
    };
    names.split_whitespace().map(tensor).collect()
}

fn names(tensors: &[Tensor]) -> String {
    tensors.iter().map(|tensor| tensor.name.as_str()).collect::<Vec<_>>().join(" ")
}

/// Plans with what happens to a request: `+1` starts stage 1, `-1` ends it. Behind each: the stages that are ready then,
/// and the bytes that are kept.
#[test]
fn a_stage_is_ready_once_its_inputs_are_there_and_values_go_with_their_last_reader() {
    let chain: &[&str] = &["x4 -> h2", "h2 -> g8", "g8 -> y"];
    let skip: &[&str] = &["x4 -> h2 k9", "h2 -> g8", "g8 k9 m -> y"];
    let towers: &[&str] = &["a4 -> p2", "b -> q2", "p2 q2 -> y"];
    let cases: [(&str, &[&str], &[(&str, &[usize], usize)]); 4] = [
        (
            "x4 -> y",
            chain,
            // An input stays while its stage runs, since another lane may have to run it again.
            &[
                ("", &[0], 4),
                ("+0", &[], 4),
                ("-0", &[1], 2),
                ("+1", &[], 2),
                ("-1", &[2], 8),
                ("+2-2", &[], 1),
            ],
        ),
        (
            "x4 m u -> y",
            skip,
            // What no stage reads is let go at once.
            &[("", &[0], 5), ("+0-0", &[1], 12), ("+1-1", &[2], 18), ("+2", &[], 18), ("-2", &[], 1)],
        ),
        (
            "a4 b -> y",
            towers,
            &[
                ("", &[0, 1], 5),
                ("+1", &[0], 5),
                ("+0", &[], 5),
                ("-1", &[], 6),
                ("-0", &[2], 4),
                ("+2-2", &[], 1),
            ],
        ),
        // What the caller gets stays, whoever has read it.
        ("x4 -> h2 y", &["x4 -> h2", "h2 -> y"], &[("+0-0", &[1], 2), ("+1-1", &[], 3)]),
    ];
    for (whole, stages, steps) in cases {
        let plan = plan(whole, stages);
        let inputs = whole.split_once("->").expect("an arrow").0;
        let mut progress = Progress::new(plan.clone(), tensors(inputs));
        for (moves, ready, bytes) in steps {
            let mut letters = moves.chars();
            while let Some(letter) = letters.next() {
                let stage = letters.next().and_then(|digit| digit.to_digit(10)).expect("a stage") as usize;
                if letter == '+' {
                    let reads: Vec<_> = plan.stages[stage].inputs.iter().map(|read| &*read.name).collect();
                    assert_eq!(names(&progress.start(stage)), reads.join(" "), "{stages:?} {moves}");
                } else {
                    progress
                        .ended(stage, tensors(&plan.stages[stage].outputs.join(" ")))
                        .expect("all is made");
                }
            }
            assert_eq!((&*progress.ready(), progress.bytes()), (*ready, *bytes), "{stages:?} {moves}");
        }
        assert!(progress.is_done(), "{stages:?}");
        assert_eq!(names(&progress.outputs(&[])), whole.split_once("-> ").expect("an arrow").1);
    }
}

#[test]
fn an_output_that_does_not_come_is_missed_and_one_that_nobody_asked_for_is_let_go() {
    let mut progress = Progress::new(plan("x -> y z", &["x -> h z", "h -> y"]), tensors("x"));
    progress.start(0);
    assert_eq!(progress.ended(0, tensors("h")), Err("it has not made \"z\"".to_owned()));
    let mut progress = Progress::new(plan("x -> y z", &["x -> h z", "h -> y"]), tensors("x"));
    progress.start(0);
    progress.ended(0, tensors("z h other99")).expect("all is made");
    assert_eq!(progress.bytes(), 2);
    progress.start(1);
    assert!(!progress.is_done());
    progress.ended(1, tensors("y")).expect("all is made");
    assert_eq!(names(&progress.outputs(&["z".to_owned()])), "z");
}

#[test]
fn a_slow_stage_holds_back_those_before_it() {
    let mut flow = Flow::new(&plan("x -> y", &["x -> h", "h -> g", "g -> y"]));
    let all: Vec<_> = (0..CREDITS as u64 + 3).map(|at| flow.enter(at)).collect();
    let last = all[CREDITS - 1];
    let may = |flow: &Flow<u64>, stage| all.iter().filter(|number| flow.may_start(**number, stage)).count();
    assert_eq!((may(&flow, 0), may(&flow, 1), may(&flow, 2)), (CREDITS, CREDITS, all.len()));
    // Leaving the first stage makes no room behind it: its value waits there.
    flow.passed(all[0], 0);
    assert!(flow.may_start(last, 0) && !flow.may_start(last + 1, 0));
    // The second makes room for the first, whoever of them ends.
    assert_eq!(flow.passed(all[5], 1), Some(last + 1));
    assert!(flow.may_start(last + 1, 0) && !flow.may_start(last + 2, 0));
    assert_eq!(flow.passed(all[5], 1), None, "it has left already");
    // One that is cancelled makes room wherever it had some; one that had none yet makes none.
    assert_eq!(flow.leave(all[CREDITS + 2]), Vec::<u64>::new());
    assert_eq!(flow.leave(all[0]), [last + 2, last + 1]);
    for number in all {
        flow.leave(number);
    }
    assert!(flow.is_empty());
}

/// Two stages whose readers overlap: requests that hold room for different ones would wait for each other.
#[test]
fn requests_never_wait_for_each_other() {
    let plan = plan("a b -> y z", &["a -> p q", "b -> r s", "p r -> y", "q s -> z"]);
    let mut flow = Flow::new(&plan);
    let mut requests: Vec<_> = (0..4 * CREDITS as u64)
        .map(|at| (flow.enter(at), Progress::new(plan.clone(), tensors("a b"))))
        .collect();
    let mut turns = 0;
    while !requests.is_empty() {
        let mut moved = false;
        // The last to come is looked at first, and so takes what it can.
        for (number, progress) in requests.iter_mut().rev() {
            let ready = progress.ready().into_iter().rfind(|stage| flow.may_start(*number, *stage));
            if let Some(stage) = ready {
                progress.start(stage);
                let made = tensors(&plan.stages[stage].outputs.join(" "));
                progress.ended(stage, made).expect("all is made");
                flow.passed(*number, stage);
                moved = true;
            }
        }
        assert!(moved, "{} requests stand still", requests.len());
        requests.retain(|(number, progress)| {
            let done = progress.is_done();
            if done {
                flow.leave(*number);
            }
            !done
        });
        turns += 1;
    }
    assert!(turns < 100, "{turns}");
}

/// What happens to a stage, at which second: `x a-1 2 3` is lost or was answered there, in its place or elsewhere,
/// by a step that was started and answered then; and whether that is news, with the seconds since a loss.
#[test]
fn a_stage_that_moved_or_whose_lane_was_lost_is_news_once() {
    let cases: [(&str, &[(&str, &str)]); 6] = [
        ("it stays", &[("in a 1 2", "-"), ("in a 2 3", "-")]),
        (
            "it goes and comes back",
            &[("in a 1 2", "-"), ("out b 3 4", "moved"), ("out b 4 5", "-"), ("in a 5 6", "moved")],
        ),
        (
            "it goes since its lane is lost, and on from there",
            &[
                ("in a 1 2", "-"),
                ("lost a 4", ""),
                ("out b 5 7", "3"),
                ("out b 7 8", "-"),
                ("lost b 9", ""),
                ("out c 9 11", "2"),
                ("in a 12 13", "moved"),
            ],
        ),
        (
            "its lane comes back before anybody else answers",
            &[("in a 1 2", "-"), ("lost a 3", ""), ("in a 6 8", "5")],
        ),
        (
            "an answer from before the loss comes late",
            &[("in a 1 2", "-"), ("lost a 4", ""), ("in a 3 5", "-"), ("out b 5 6", "2"), ("in a 3 7", "-")],
        ),
        (
            "the loss of another's lane is none of its",
            &[("in a 1 2", "-"), ("lost b 4", ""), ("in a 5 6", "-")],
        ),
    ];
    let begin = Instant::now();
    let at = |second: &str| begin + Duration::from_secs(second.parse().expect("a second"));
    for (what, steps) in cases {
        let (mut seats, stage) = (Seats::default(), (PlanId::new("p"), 0));
        for (step, wanted) in steps {
            let words: Vec<_> = step.split(' ').collect();
            let lane = LaneId::new(words[1]);
            let news = match words[0] {
                "lost" => {
                    seats.lose(&lane, at(words[2]));
                    continue;
                }
                place => seats.ran(
                    &stage,
                    Ran {
                        lane: &lane,
                        elsewhere: place == "out",
                        started: at(words[2]),
                        answered: at(words[3]),
                    },
                ),
            };
            let told = match news {
                None => "-".to_owned(),
                Some(Moved { took: None }) => "moved".to_owned(),
                Some(Moved { took: Some(took) }) => took.as_secs().to_string(),
            };
            assert_eq!(told, *wanted, "{what}: {step}");
        }
    }
}
