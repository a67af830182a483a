//! Which shards are a plan, and what passes between their stages.

use super::*;
use crate::domain::{Dim, Port};

/// `x i -> y`: two inputs and one output, floats unless they end in `#`.
fn signature(text: &str) -> Signature {
    let (inputs, outputs) = text.split_once("->").expect("an arrow");
    let port = |word: &str| Port {
        name: word.trim_end_matches('#').to_owned(),
        datatype: if word.ends_with('#') { Datatype::Int64 } else { Datatype::Fp32 },
        shape: vec![Dim::Symbol("n".to_owned())],
    };
    let ports = |words: &str| words.split_whitespace().map(port).collect();
    Signature { inputs: ports(inputs), outputs: ports(outputs) }
}

fn plan(whole: &str, stages: &[&str]) -> Result<Plan, PlanError> {
    let (whole, signatures) =
        (signature(whole), stages.iter().map(|text| signature(text)).collect::<Vec<_>>());
    let shard = |(at, signature)| Shard {
        model: Digest::new([u8::try_from(at).expect("a few"); 32]),
        signature,
        place: Place::default(),
    };
    let shards: Vec<_> = signatures.iter().enumerate().map(shard).collect();
    Plan::new((Digest::new([99; 32]), &whole), &shards, PlanFallback::Native, Spares::None)
}

/// `x h0 -> h1 | …` with the maker's number behind what a stage made, and what the caller gets behind `=`.
fn told(plan: &Plan) -> String {
    let read = |read: &Read| match read.from {
        Some(from) => format!("{}<{from}", read.name),
        None => read.name.clone(),
    };
    let stage = |stage: &PlanStage| {
        let reads: Vec<_> = stage.inputs.iter().map(read).collect();
        format!("{} -> {}", reads.join(" "), stage.outputs.join(" "))
    };
    let stages: Vec<_> = plan.stages.iter().map(stage).collect();
    let outputs: Vec<_> = plan.outputs.iter().map(|made| format!("{}<{}", made.name, made.by)).collect();
    format!("{} = {}", stages.join(" | "), outputs.join(" "))
}

#[test]
fn shards_find_what_they_read() {
    let cases: [(&str, &[&str], &str); 6] = [
        ("x -> y", &["x -> y"], "x -> y = y<0"),
        ("x -> y", &["x -> h", "h -> y"], "x -> h | h<0 -> y = y<1"),
        // A value skips a stage, and the caller's input is read late.
        ("x m -> y", &["x -> h k", "h -> g", "g k m -> y"], "x -> h k | h<0 -> g | g<1 k<0 m -> y = y<2"),
        // Two towers meet.
        ("a b -> y", &["a -> p", "b -> q", "p q -> y"], "a -> p | b -> q | p<0 q<1 -> y = y<2"),
        // An output of the whole goes on as well, and one that nobody reads is not asked for.
        ("x -> h y", &["x -> h z", "h -> y"], "x -> h | h<0 -> y = h<0 y<1"),
        ("x i# -> y", &["x i# -> h# y", "h# i# -> z", "z -> w"], "fails"),
    ];
    for (whole, stages, wanted) in cases {
        match plan(whole, stages) {
            Ok(plan) => assert_eq!(told(&plan), wanted, "{stages:?}"),
            Err(error) => assert_eq!(("fails", error), (wanted, PlanError::Idle { stage: 2 }), "{stages:?}"),
        }
    }
}

#[test]
fn what_is_no_plan_says_why() {
    let many = vec!["x -> y"; STAGES_MAX + 1];
    let cases: [(&str, &[&str], &str); 11] = [
        ("x -> y", &[], "a plan has at least one stage"),
        ("x -> y", &many, "a plan has at most 64 stages, not 65"),
        ("x -> y", &["x -> h", "h -> x y"], "stage 1 makes \"x\", which the caller gives"),
        ("x -> y", &["x -> y", "x -> y"], "stages 0 and 1 both make \"y\""),
        (
            "x -> y",
            &["x -> h", "g -> y"],
            "stage 1 reads \"g\", which neither the caller gives nor a stage makes",
        ),
        ("x -> y", &["h -> y", "x -> h"], "stage 0 reads \"h\", which stage 1 makes: list that one first"),
        ("x -> y", &["x g -> h", "h -> g y"], "stage 0 reads \"g\" of stage 1, which waits for stage 0"),
        ("x -> y", &["x h -> h y"], "stage 0 reads \"h\" of stage 0, which waits for stage 0"),
        ("x -> y", &["x -> h#", "h -> y"], "stage 1 reads \"h\" as FP32, and it is made as INT64"),
        ("x -> y z", &["x -> y"], "no stage makes the output \"z\""),
        ("x -> y#", &["x -> y"], "stage 0 makes the output \"y\" as FP32, and the whole model as INT64"),
    ];
    for (whole, stages, wanted) in cases {
        let error = plan(whole, stages).expect_err(wanted);
        assert_eq!(error.to_string(), wanted);
    }
}

#[test]
fn a_place_is_a_lane_or_a_kind_of_lane() {
    let lane = Some(LaneId::new("a-1/wasm"));
    let lanes = vec![LaneId::new("a-1/wasm"), LaneId::new("b-1/wasm")];
    let (browser, backend) = (Some("a".to_owned()), Some(BackendKind::Wasm));
    let none = Place::default();
    let cases = [
        (none.clone(), "any", true),
        (Place { lane: lane.clone(), ..none.clone() }, "a-1/wasm", true),
        (Place { browser: browser.clone(), ..none.clone() }, "a", true),
        (Place { backend: backend.clone(), ..none.clone() }, "wasm", true),
        (Place { browser: browser.clone(), backend, ..none.clone() }, "wasm in a", true),
        (Place { lanes: lanes.clone(), ..none.clone() }, "a-1/wasm or b-1/wasm", true),
        (Place { lane: lane.clone(), browser: browser.clone(), ..none.clone() }, "a-1/wasm", false),
        (Place { lane, lanes: lanes.clone(), ..none.clone() }, "a-1/wasm", false),
        (Place { lanes, browser, ..none }, "a-1/wasm or b-1/wasm", false),
    ];
    let whole = signature("x -> y");
    for (place, text, good) in cases {
        assert_eq!(place.to_string(), text);
        let shard = Shard { model: Digest::new([1; 32]), signature: &whole, place };
        let plan = Plan::new((Digest::new([2; 32]), &whole), &[shard], PlanFallback::None, Spares::None);
        assert_eq!(plan.err(), (!good).then_some(PlanError::TwoPlaces { stage: 0 }));
    }
}

#[test]
fn spares_are_for_stages_that_may_run_elsewhere() {
    let whole = signature("x -> y");
    for fallback in [PlanFallback::None, PlanFallback::Lanes, PlanFallback::Native] {
        for spares in [Spares::None, Spares::Shared, Spares::PerStage] {
            let shard = Shard { model: Digest::new([1; 32]), signature: &whole, place: Place::default() };
            let plan = Plan::new((Digest::new([2; 32]), &whole), &[shard], fallback, spares);
            let useless = fallback == PlanFallback::None && spares != Spares::None;
            assert_eq!(plan.err(), useless.then_some(PlanError::Spares), "{fallback:?} {spares:?}");
        }
    }
}

#[test]
fn a_plan_is_written_and_read() {
    let mut plan = plan("x m -> y", &["x -> h k", "h -> g", "g k m -> y"]).expect("a plan");
    plan.stages[1].place.lane = Some(LaneId::new("a-1/wasm"));
    let text = serde_json::to_string(&plan).expect("JSON");
    assert_eq!(serde_json::from_str::<Plan>(&text).expect("the same"), plan);
    // Plans are called after this text: those of before there were spares keep their names.
    assert!(!text.contains("spares"), "{text}");
    assert_eq!((plan.readers(0), plan.readers(1), plan.readers(2)), (vec![1, 2], vec![2], vec![]));
}
