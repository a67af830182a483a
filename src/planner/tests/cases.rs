//! Answers of every strategy to chosen questions.

use std::ops::RangeInclusive;

use super::{
    Ask, Candidate, OBJECTIVES, Objective, PlanError, Strategy, chains,
    chains::{lane, random_chain, seeded, towers, transformer},
    check, plan, planned,
};
use crate::{
    domain::{BackendKind, Chain, OperatorClass, Part},
    planner::{Reason, Shape, StagePlan},
    predict::{Host, LaneKind, Within, link, speed},
};

const MANY: Objective = Objective::Throughput { in_flight: 8 };

#[test]
fn not_split_without_a_reason() {
    let chain = transformer(6, 384.0, 128.0);
    let whole: u64 = chain.weights.iter().sum();
    let same = [lane("chromium-1", 27_000.0), lane("firefox-1", 27_000.0)];
    let small = |lanes: &[Candidate], memory| {
        lanes.iter().cloned().map(|lane| Candidate { memory, ..lane }).collect::<Vec<_>>()
    };
    let roomy = [same[0].clone(), Candidate { memory: whole / 2, ..lane("firefox-1", 27_000.0) }];
    // (lanes, objective, shape, reason)
    let cases = [
        (same.to_vec(), Objective::Latency, Shape::Single, Reason::OneLane),
        (same.to_vec(), MANY, Shape::Replicas, Reason::Replicas),
        (same.to_vec(), Objective::Memory, Shape::Single, Reason::Fits),
        (same[..1].to_vec(), MANY, Shape::Single, Reason::NoSplit),
        (small(&same, whole * 3 / 5), Objective::Latency, Shape::Pipeline, Reason::OnlySplitFits),
        (small(&same, whole * 3 / 5), Objective::Memory, Shape::Pipeline, Reason::OnlySplitFits),
        // One holds it and one does not, so the second helps only with a part.
        (roomy.to_vec(), MANY, Shape::Pipeline, Reason::Faster),
        (roomy.to_vec(), Objective::Memory, Shape::Single, Reason::Fits),
        (roomy.to_vec(), Objective::Latency, Shape::Single, Reason::OneLane),
    ];
    for (lanes, objective, shape, reason) in cases {
        let split = planned(&chain, &lanes, objective, Strategy::Auto).unwrap();
        assert_eq!((split.shape, split.why.reason), (shape, reason), "{objective:?}: {}", split.why.sentence);
        assert_eq!(split.why.worth, split.stages.len() > 1);
    }
}

#[test]
fn guesses_are_no_gain() {
    let chain = transformer(6, 384.0, 128.0);
    let whole: u64 = chain.weights.iter().sum();
    let guessed = |browser: &str, memory| {
        let kind = LaneKind { browser: browser.to_owned(), ..lane("x", 1.0).kind };
        let (speed, link) = (speed(&kind), link(&kind));
        Candidate { kind, speed, link, memory, ..lane(browser, 1.0) }
    };
    let lanes = [guessed("chromium", whole), guessed("firefox", whole / 2)];
    let split = planned(&chain, &lanes, MANY, Strategy::Auto).unwrap();
    assert_eq!((split.shape, split.why.reason), (Shape::Single, Reason::NotMeasured));
    assert!(!split.forecast.measured && split.forecast.latency_us.within.is_none());
    // For memory nothing needs to be measured.
    let lanes = lanes.map(|lane| Candidate { memory: whole * 3 / 5, ..lane });
    let split = planned(&chain, &lanes, MANY, Strategy::Auto).unwrap();
    assert_eq!((split.shape, split.why.reason), (Shape::Pipeline, Reason::OnlySplitFits));
}

/// What is faster in one lane goes there: the two halves of this chain suit different lanes.
#[test]
fn stages_go_where_they_are_fast() {
    let mut chain = Chain::default();
    for at in 0..20u32 {
        let class = if at < 10 { OperatorClass::Conv } else { OperatorClass::MatMul };
        chain.units.push(chains::unit(class, 1e7, vec![]));
        chain.values.push(chains::value(at.checked_sub(1), &[at], false, 1_000.0));
    }
    chain.values.push(chains::value(Some(19), &[], true, 1_000.0));
    let mut lanes = [lane("firefox-1", 1_000.0), lane("chromium-1", 1_000.0)];
    lanes[0].speed.rates[OperatorClass::Conv as usize].us_per_flop *= 10.0;
    lanes[1].speed.rates[OperatorClass::MatMul as usize].us_per_flop *= 10.0;
    for objective in [Objective::Latency, MANY, Objective::Stream { requests: 50 }] {
        let split = planned(&chain, &lanes, objective, Strategy::Auto).unwrap();
        assert_eq!((split.shape, split.why.reason), (Shape::Pipeline, Reason::Faster));
        let at = |stage: usize| (split.stages[stage].lanes[0].as_str(), split.stages[stage].units[0].to);
        assert_eq!((at(0), at(1)), (("chromium-1", 10), ("firefox-1", 20)));
        assert!(split.bound.gap < 0.1, "{:?}", split.bound);
    }
}

#[test]
fn unequal_lanes_get_unequal_stages() {
    let chain = transformer(12, 384.0, 128.0);
    let lanes = [lane("chromium-1", 54_000.0), lane("firefox-1", 27_000.0)];
    let split = planned(&chain, &lanes, MANY, Strategy::Pipeline).unwrap();
    let compute: Vec<_> = split.stages.iter().map(|stage| stage.compute_us.value).collect();
    assert!((compute[0] / compute[1] - 1.0).abs() < 0.15, "{compute:?}");
    assert!(split.bound.gap < 0.1, "{:?}", split.bound);
    let even = planned(&chain, &lanes, MANY, Strategy::Even).unwrap();
    assert!(even.forecast.cost_us.value > split.forecast.cost_us.value * 1.2);
    let units: Vec<_> = even.stages.iter().map(|stage| stage.units[0].to - stage.units[0].from).collect();
    assert!(units[0].abs_diff(units[1]) <= 4, "{units:?}");
}

/// A unit that takes as long as all others together is a stage that several lanes share.
#[test]
fn a_long_unit_gets_several_lanes() {
    let mut random = seeded(1);
    let mut chain = random_chain(12, &mut random);
    for (at, unit) in chain.units.iter_mut().enumerate() {
        unit.flops = if at == 6 { 4e8 } else { 1e7 };
    }
    let whole: u64 = chain.weights.iter().sum();
    let lanes =
        [1, 2, 3].map(|at| Candidate { memory: whole * 2 / 3, ..lane(&format!("chromium-{at}"), 10_000.0) });
    let objective = Objective::Throughput { in_flight: 16 };
    let hybrid = planned(&chain, &lanes, objective, Strategy::Auto).unwrap();
    assert_eq!(hybrid.shape, Shape::Hybrid);
    assert!(hybrid.stages.iter().any(|stage| stage.lanes.len() == 2));
    let pipeline = planned(&chain, &lanes, objective, Strategy::Pipeline).unwrap();
    assert!(hybrid.forecast.cost_us.value < pipeline.forecast.cost_us.value * 0.7);
    assert!(hybrid.forecast.per_second.value > pipeline.forecast.per_second.value);
}

#[test]
fn towers_run_beside_each_other() {
    let lanes = [lane("chromium-1", 1_000.0), lane("firefox-1", 1_000.0)];
    // (sizes, joining units, gain for one request that is to be had at least)
    for (sizes, joining, gain) in [(&[10, 10][..], 2, 1.7), (&[10, 10], 0, 1.8), (&[5, 5, 5, 5], 2, 1.7)] {
        let chain = towers(sizes, joining, 1e7);
        let split = planned(&chain, &lanes, Objective::Latency, Strategy::Component).unwrap();
        assert_eq!((split.shape, split.why.reason), (Shape::Component, Reason::Faster), "{sizes:?}");
        assert!(split.why.gain.unwrap() > gain, "{:?}", split.why);
        let auto = planned(&chain, &lanes, Objective::Latency, Strategy::Auto).unwrap();
        assert!(auto.forecast.cost_us.value <= split.forecast.cost_us.value && auto.why.worth);
        assert_eq!(split.stages.len(), sizes.len() + usize::from(joining > 0));
    }
    let many: Vec<_> = (0..12).map(|_| 3).collect();
    let lanes: Vec<_> = (0..6).map(|at| lane(&format!("b-{at}"), 1_000.0)).collect();
    let split = planned(&towers(&many, 1, 1e7), &lanes, Objective::Latency, Strategy::Component).unwrap();
    assert!(split.why.gain.unwrap() > 4.0, "{:?}", split.why);
}

#[test]
fn attention_and_feed_forward_alternate() {
    let chain = transformer(4, 384.0, 128.0);
    let lanes = [lane("chromium-1", 27_000.0), lane("chromium-2", 27_000.0), lane("firefox-1", 27_000.0)];
    for objective in OBJECTIVES {
        let split = planned(&chain, &lanes, objective, Strategy::AttentionFeedforward).unwrap();
        assert_eq!(split.stages.len(), 8);
        let kind = |stage: usize| split.stages[stage].lanes[0].as_str().split('-').next().unwrap().to_owned();
        for stage in 0..6 {
            assert_ne!(kind(stage), kind(stage + 1));
            assert_eq!(kind(stage), kind(stage + 2));
        }
        // Every block passes the daemon twice, so one request takes longer than in one lane.
        assert!(
            split.forecast.latency_us.value > split.alternatives[0].cost_us.unwrap()
                || objective != Objective::Latency
        );
        assert!(!split.why.worth);
    }
}

#[test]
fn what_cannot_be_is_said() {
    let chain = transformer(2, 64.0, 16.0);
    let plain = random_chain(5, &mut seeded(1));
    let whole: u64 = chain.weights.iter().sum();
    let two = [lane("chromium-1", 1e3), lane("firefox-1", 1e3)];
    let alike = [lane("chromium-1", 1e3), lane("chromium-2", 1e3)];
    let tiny = [1, 2].map(|at| Candidate { memory: whole / 10, ..lane(&format!("chromium-{at}"), 1e3) });
    let crossed = {
        let mut chain = towers(&[2, 2], 1, 1e6);
        chain.values[1].to = vec![1, 3];
        chain
    };
    let backwards = {
        let mut chain = plain.clone();
        chain.values[2].from = Some(4);
        chain
    };
    let unknown = {
        let mut chain = plain.clone();
        chain.units[0].weights = vec![999];
        chain
    };
    // (chain, lanes, strategy, stages, what the error says)
    let cases: [(&Chain, &[Candidate], Strategy, Option<RangeInclusive<usize>>, &str); 17] = [
        (&chain, &[], Strategy::Auto, None, "there is no lane to plan for"),
        (&chain, &two, Strategy::Pipeline, Some(0..=2), "0 to 2 stages is no number"),
        (&chain, &two, Strategy::Pipeline, Some(RangeInclusive::new(3, 2)), "3 to 2 stages is no number"),
        (
            &plain,
            &two,
            Strategy::Auto,
            Some(6..=6),
            "6 stages were asked for, and the graph can be cut into 5",
        ),
        (&chain, &two, Strategy::Pipeline, Some(3..=3), "3 stages need as many lanes, and there are 2"),
        (&plain, &two, Strategy::Auto, Some(3..=4), "3 stages need as many lanes"),
        (&chain, &two[..1], Strategy::Hybrid, None, "2 stages need as many lanes"),
        (&chain, &two[..1], Strategy::Component, None, "2 stages need as many lanes"),
        (&chain, &two, Strategy::Component, None, "it has 0 independent towers"),
        (&crossed, &two, Strategy::Component, None, "its towers depend on others"),
        (
            &towers(&[2, 2], 1, 1e6),
            &two,
            Strategy::Component,
            Some(2..=2),
            "are 3 stages, and no other number",
        ),
        (&chain, &alike, Strategy::AttentionFeedforward, None, "all are chromium on wasm"),
        (&plain, &two, Strategy::AttentionFeedforward, None, "no attention was found"),
        (&chain, &two, Strategy::AttentionFeedforward, Some(2..=2), "are 4 stages, and no other number"),
        (&chain, &tiny, Strategy::Even, None, "the weights fit nowhere"),
        (&backwards, &two, Strategy::Auto, None, "comes before what makes it"),
        (&unknown, &two, Strategy::Auto, None, "names weight 999"),
    ];
    for (chain, lanes, strategy, stages, says) in cases {
        let ask = Ask { chain, lanes, host: None, objective: MANY, strategy, stages };
        let error = plan(&ask).expect_err(says).to_string();
        assert!(error.contains(says), "{error}");
    }
}

#[test]
fn lacking_memory_is_told_in_bytes() {
    let mut chain = Chain::default();
    for at in 0..4u32 {
        chain.units.push(chains::unit(OperatorClass::MatMul, 1e6, vec![at]));
        chain.values.push(chains::value(at.checked_sub(1), &[at], at == 3, 100.0));
    }
    chain.weights = vec![100, 300, 100, 100];
    // (memory of each lane, objective, bytes that are missing)
    for (memory, missing) in [([300, 200], 100), ([250, 250], 150), ([299, 1], 199), ([0, 0], 400)] {
        let lanes = [0, 1].map(|at| Candidate { memory: memory[at], ..lane(&format!("b-{at}"), 1e3) });
        for strategy in [Strategy::Auto, Strategy::Pipeline] {
            for objective in [Objective::Latency, MANY, Objective::Memory] {
                let error = plan(&super::ask(&chain, &lanes, objective, strategy)).unwrap_err();
                let wanted = PlanError::Memory {
                    needed_bytes: 600,
                    held_bytes: memory.iter().sum(),
                    missing_bytes: missing,
                };
                assert_eq!(error, wanted, "{memory:?} {strategy:?} {objective:?}");
            }
        }
    }
}

/// What the whole lacks in the largest lane may be less than what any split lacks.
#[test]
fn what_is_missing_is_the_least() {
    let mut chain = towers(&[2], 0, 1e6);
    chain.weights = vec![500, 100];
    let lanes = [599, 0].map(|memory| Candidate { memory, ..lane(&format!("b-{memory}"), 1e3) });
    let missing = |strategy| match plan(&super::ask(&chain, &lanes, MANY, strategy)) {
        Err(PlanError::Memory { missing_bytes, .. }) => missing_bytes,
        other => panic!("{other:?}"),
    };
    assert_eq!((missing(Strategy::Auto), missing(Strategy::Pipeline)), (1, 100));
}

#[test]
fn as_many_stages_as_were_asked_for() {
    let chain = transformer(6, 128.0, 64.0);
    let lanes: Vec<_> = (0..4).map(|at| lane(&format!("b-{at}"), 1e3 * f64::from(at + 1))).collect();
    for strategy in [Strategy::Pipeline, Strategy::Even, Strategy::Hybrid, Strategy::Auto] {
        for objective in OBJECTIVES {
            for (least, most) in [(1, 1), (2, 2), (3, 3), (4, 4), (2, 3), (1, 4)] {
                let ask = Ask {
                    chain: &chain,
                    lanes: &lanes,
                    host: None,
                    objective,
                    strategy,
                    stages: Some(least..=most),
                };
                let split = plan(&ask).unwrap();
                check(&chain, &lanes, &split);
                assert!(
                    (least..=most).contains(&split.stages.len()),
                    "{strategy:?} {objective:?} {least}..={most}"
                );
            }
        }
    }
}

/// A weight that two stages need is held, and counted, by both.
#[test]
fn shared_weights_count_once_per_stage() {
    let mut chain = Chain::default();
    for at in 0..4u32 {
        chain.units.push(chains::unit(OperatorClass::MatMul, 1e6, vec![0, 1 + at]));
        chain.values.push(chains::value(at.checked_sub(1), &[at], at == 3, 100.0));
    }
    chain.weights = vec![1_000, 10, 10, 10, 10];
    let lanes = [lane("a-1", 1e3), lane("b-1", 1e3)];
    let split = planned(&chain, &lanes, MANY, Strategy::Pipeline).unwrap();
    let held: Vec<_> = split.stages.iter().map(|stage| stage.weight_bytes).collect();
    assert_eq!(held, [1_020, 1_020]);
}

/// Everything goes through the daemon: a value that skips a stage is sent by its maker once and to each reader once.
#[test]
fn values_are_counted_for_every_hop() {
    let mut chain = Chain::default();
    for at in 0..3u32 {
        chain.units.push(chains::unit(OperatorClass::MatMul, 1e7, vec![at]));
    }
    chain.weights = vec![1; 3];
    chain.values = vec![
        chains::value(None, &[0, 2], false, 7.0),
        chains::value(Some(0), &[1, 2], false, 100.0),
        chains::value(Some(1), &[2], true, 20.0),
        chains::value(Some(2), &[], true, 3.0),
    ];
    let lanes = [lane("a-1", 1e3), lane("b-1", 1e3), lane("c-1", 1e3)];
    let ask = Ask {
        chain: &chain,
        lanes: &lanes,
        host: None,
        objective: MANY,
        strategy: Strategy::Pipeline,
        stages: Some(3..=3),
    };
    let split = plan(&ask).unwrap();
    check(&chain, &lanes, &split);
    let bytes: Vec<_> = split.stages.iter().map(|stage| (stage.bytes_in, stage.bytes_out)).collect();
    assert_eq!(bytes, [(7.0, 100.0), (100.0, 20.0), (127.0, 3.0)]);
    assert_eq!(split.stages[2].after, [0, 1]);
}

/// Of many lanes on one machine, each is idle for most of the time: what a request costs the machine decides.
#[test]
fn lanes_that_share_a_machine_answer_no_more_than_it_can() {
    let chain = transformer(4, 64.0, 16.0);
    let lanes = [lane("a-1", 1e3), lane("b-1", 1e3)];
    let host = Host {
        request_us: 1e6,
        page_us: 5e5,
        native_us: 0.0,
        us_per_byte: 0.0,
        share: 0.5,
        within: Some(Within { low: 0.5, high: 2.0 }),
    };
    let ask = |host| Ask {
        chain: &chain,
        lanes: &lanes,
        host,
        objective: MANY,
        strategy: Strategy::Even,
        stages: Some(2..=2),
    };
    let (free, shared) = (plan(&ask(None)).unwrap(), plan(&ask(Some(&host))).unwrap());
    assert!(free.forecast.period_us.value < 1e6);
    let computed: f64 = shared.stages.iter().map(|stage| stage.compute_us.value).sum();
    let period = shared.forecast.period_us.value;
    assert!((period - (2e6 + 0.5 * computed)).abs() < 1.0, "{period} for {computed}");
    assert_eq!(free.forecast.latency_us, shared.forecast.latency_us);
    // Whole models in both lanes send each request through one page.
    let replicas = shared.alternatives.iter().find(|other| other.shape == Shape::Replicas).unwrap();
    assert!(replicas.cost_us.is_some_and(|us| us < period - 4e5), "{replicas:?}");
}

/// One unit has nearly all the work, and there are nearly as many lanes as cuts that are looked at.
#[test]
fn many_stages_find_their_cuts() {
    let mut chain = random_chain(500, &mut seeded(2));
    chain.units[100].flops = 1e12;
    let lanes: Vec<_> = (0..60).map(|at| lane(&format!("b-{at}"), 1e3)).collect();
    let ask = Ask {
        chain: &chain,
        lanes: &lanes,
        host: None,
        objective: MANY,
        strategy: Strategy::Pipeline,
        stages: Some(60..=60),
    };
    let split = plan(&ask).unwrap();
    check(&chain, &lanes, &split);
    assert_eq!(split.stages.len(), 60);
}

/// A graph that only moves what lanes move for nothing has no rate, and no forecast that is not a number.
#[test]
fn what_takes_no_time_is_planned() {
    let mut chain = random_chain(6, &mut seeded(3));
    for unit in &mut chain.units {
        (unit.flops, unit.moved) = (0.0, 0.0);
    }
    let mut lanes = [lane("a-1", 1e3), lane("b-1", 2e3), lane("c-1", 3e3)];
    for lane in &mut lanes {
        (lane.speed.unit_us, lane.speed.step_us, lane.link.round_trip_us) = (0.0, 0.0, 0.0);
        (lane.link.down_us_per_byte, lane.link.up_us_per_byte) = (0.0, 0.0);
    }
    for strategy in [Strategy::Auto, Strategy::Pipeline, Strategy::Hybrid] {
        for objective in OBJECTIVES {
            let split = plan(&super::ask(&chain, &lanes, objective, strategy)).unwrap();
            let forecast = &split.forecast;
            let figures = [forecast.latency_us, forecast.period_us, forecast.cost_us];
            assert!(figures.iter().all(|figure| figure.value.is_finite()), "{forecast:?}");
            assert!(split.bound.gap.is_finite());
        }
    }
}

#[test]
fn long_chains_are_planned() {
    let chain = transformer(300, 64.0, 16.0);
    assert!(chain.units.len() > 3_000);
    let lanes: Vec<_> = (0..3).map(|at| lane(&format!("b-{at}"), 1e3 * f64::from(at + 1))).collect();
    let split = planned(&chain, &lanes, Objective::Throughput { in_flight: 12 }, Strategy::Pipeline).unwrap();
    assert!(split.bound.gap < 0.05, "{:?}", split.bound);
    assert!(chain.units.iter().any(|unit| unit.part == Part::Attention));
}

/// A native lane that is as fast as others.
fn native() -> Candidate {
    let kind = LaneKind { backend: BackendKind::ort_cpu(), ..lane("native", 1.0).kind };
    Candidate { kind, ..lane("native", 1e4) }
}

#[test]
fn ways_run_beside_each_other() {
    let chain = chains::dealt(3, 2, 1e9);
    let lanes = [lane("chromium-1", 1e4), native(), lane("firefox-1", 1e4)];
    let split = planned(&chain, &lanes, Objective::Latency, Strategy::Tensor).unwrap();
    assert_eq!((split.shape, split.why.reason), (Shape::Tensor, Reason::Faster), "{}", split.why.sentence);
    let at: Vec<_> = split.stages.iter().map(|stage| stage.lanes[0].as_str()).collect();
    let layer = ["chromium-1", "chromium-1", "firefox-1", "native"];
    assert_eq!(at, [layer; 3].concat());
    assert_eq!((&split.stages[1].after, &split.stages[2].after), (&vec![0], &vec![0]));
    assert_eq!(split.stages[3].after, [1, 2]);
    // Each lane holds half of the weights.
    assert!(split.stages.iter().all(|stage| stage.weight_bytes <= 1_000_000));
    // Where a product takes less than passing its values, it does not pay.
    let chain = chains::dealt(3, 2, 1e5);
    let split = planned(&chain, &lanes, Objective::Latency, Strategy::Tensor).unwrap();
    assert!(!split.why.worth, "{}", split.why.sentence);
}

#[test]
fn ways_that_cannot_be_dealt_out_say_why() {
    let two = [lane("chromium-1", 1e4), lane("firefox-1", 1e4), native()];
    let cases = [
        (chains::dealt(1, 2, 1e9), &two[..2], None, "a native lane adds up what the ways give"),
        (
            chains::dealt(1, 2, 1e9),
            &two[1..],
            None,
            "2 ways need a lane each beside the native one, and there are 1",
        ),
        (
            chains::dealt(1, 3, 1e9),
            &two[..],
            None,
            "3 ways need a lane each beside the native one, and there are 2",
        ),
        (transformer(1, 64.0, 16.0), &two[..], None, "0 ways need a lane each"),
        (
            chains::dealt(1, 2, 1e9),
            &two[..],
            Some(3..=3),
            "what lies between are 4 stages, and no other number",
        ),
        (
            chains::dealt(17, 2, 1e9),
            &two[..],
            None,
            "what lies between are 68 stages, and a plan has 64 at most",
        ),
    ];
    for (chain, lanes, stages, says) in cases {
        let ask =
            Ask { chain: &chain, lanes, host: None, objective: MANY, strategy: Strategy::Tensor, stages };
        let error = plan(&ask).unwrap_err().to_string();
        assert!(error.starts_with("the strategy tensor does not suit") && error.contains(says), "{error}");
    }
}

/// As long as nothing is measured, a number of stages that was asked for is no pretext for scraps.
#[test]
fn guessed_stages_are_no_scraps() {
    let chain = transformer(6, 384.0, 128.0);
    let guessed = |browser: &str, backend: BackendKind| {
        let kind = LaneKind { browser: browser.to_owned(), backend, ..lane("x", 1.0).kind };
        let (speed, link) = (speed(&kind), link(&kind));
        Candidate { kind, speed, link, ..lane(browser, 1.0) }
    };
    let lanes = [
        guessed("native", BackendKind::ort_cpu()),
        guessed("chromium", BackendKind::Wasm),
        guessed("firefox", BackendKind::Wasm),
    ];
    let work = |at: usize| chain.units[at].flops + chain.units[at].moved;
    let total: f64 = (0..chain.units.len()).map(work).sum();
    let smallest = |lanes: &[Candidate], count: usize, objective| {
        let stages = Some(count..=count);
        let split =
            plan(&Ask { chain: &chain, lanes, host: None, objective, strategy: Strategy::Pipeline, stages })
                .unwrap();
        assert!(!split.why.worth, "{}", split.why.sentence);
        let share = |stage: &StagePlan| {
            let units = || stage.units.iter().flat_map(|run| run.from as usize..run.to as usize);
            units().map(work).sum::<f64>() / total / 2.0
                + units().count() as f64 / chain.units.len() as f64 / 2.0
        };
        split.stages.iter().map(share).fold(1.0, f64::min)
    };
    for (count, objective) in [(2, Objective::Latency), (3, Objective::Latency), (3, MANY)] {
        let share = smallest(&lanes, count, objective);
        assert!(share >= 0.499 / count as f64, "{share} of {count} stages for {objective:?}");
    }
    // What is measured is believed.
    let measured = lanes.map(|mut lane| {
        (lane.speed.samples, lane.link.samples) = (9, 9);
        lane
    });
    let share = smallest(&measured, 3, Objective::Latency);
    assert!(share < 0.1, "{share}");
}
