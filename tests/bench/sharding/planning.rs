//! What the planner takes for a large graph on unlike lanes, in the bench's own process: it is pure.

use std::time::Instant;

use anyhow::Context;
use rand::{RngExt, SeedableRng, rngs::StdRng};
use serde::Serialize;
use weft::{
    domain::{BackendKind, Chain, LaneId, OperatorClass, Part, Passing, Unit},
    planner::{self, Ask, Candidate, Objective, Strategy},
    predict::{self, LaneKind},
};

use super::IN_FLIGHT;
use crate::{
    pool::limit,
    report::Target,
    statistics::{median, quantile},
};

const UNITS: u32 = 1000;
const TIMES: usize = 25;
const MOST_US: f64 = 50_000.0;
const SEED: u64 = 52;

/// Microseconds of each planning, by what it is for.
#[derive(Serialize)]
pub(super) struct Samples {
    latency: Vec<f64>,
    throughput: Vec<f64>,
}

pub(super) fn measure() -> anyhow::Result<Samples> {
    let (chain, lanes) = (chain(), lanes());
    let mut samples = Samples { latency: Vec::new(), throughput: Vec::new() };
    for _ in 0..TIMES {
        for (objective, series) in [
            (Objective::Latency, &mut samples.latency),
            (Objective::Throughput { in_flight: IN_FLIGHT as u32 }, &mut samples.throughput),
        ] {
            let ask = Ask {
                chain: &chain,
                lanes: &lanes,
                host: None,
                objective,
                strategy: Strategy::Pipeline,
                stages: None,
            };
            let started = Instant::now();
            planner::plan(&ask).context("planning for the bench")?;
            series.push(started.elapsed().as_micros() as f64);
        }
    }
    Ok(samples)
}

impl Samples {
    pub(super) fn targets(&self) -> Vec<Target> {
        let line = |(goal, series): (&str, &Vec<f64>)| {
            limit(
                &format!("planning a pipeline of {UNITS} units on 4 unlike lanes for {goal}, median"),
                (format!("{:.1} ms", median(series) / 1e3), "50 ms"),
                (series, MOST_US),
                median,
            )
        };
        [("latency", &self.latency), ("throughput", &self.throughput)].map(line).into()
    }

    pub(super) fn note(&self) -> String {
        let p95 = |series: &[f64]| quantile(series, 0.95) / 1e3;
        let (latency, throughput) = (p95(&self.latency), p95(&self.throughput));
        format!("planning, p95: {latency:.1} ms for latency, {throughput:.1} ms for throughput")
    }
}

/// Units that each read the one before, and every tenth also one further back.
fn chain() -> Chain {
    let mut random = StdRng::seed_from_u64(SEED);
    let unit = |number: u32| Unit {
        name: format!("unit{number}"),
        class: OperatorClass::ALL[random.random_range(0..OperatorClass::ALL.len())],
        part: Part::Other,
        block: None,
        tower: None,
        share: None,
        flops: 10f64.powf(random.random_range(4.0..8.0)),
        moved: 10f64.powf(random.random_range(3.0..6.0)),
        weights: vec![number],
    };
    let units: Vec<_> = (0..UNITS).map(unit).collect();
    let value = |from: u32| {
        let further = (from.is_multiple_of(10) && from + 7 < UNITS).then_some(from + 7);
        Passing {
            name: format!("value{from}"),
            from: Some(from),
            to: (from + 1 < UNITS).then_some(from + 1).into_iter().chain(further).collect(),
            output: from + 1 == UNITS,
            bytes: 10f64.powf(random.random_range(3.0..6.0)),
        }
    };
    Chain { values: (0..UNITS).map(value).collect(), weights: vec![100_000; UNITS as usize], units }
}

fn lanes() -> Vec<Candidate> {
    let ort = BackendKind::Ort("cpu".to_owned());
    let kinds = [
        ("chromium", BackendKind::Wasm, 1),
        ("firefox", BackendKind::Wasm, 2),
        ("chromium", BackendKind::Webnn, 1),
        ("native", ort, 2),
    ];
    let lane = |(browser, backend, threads): (&str, BackendKind, u32)| {
        let kind = LaneKind { browser: browser.to_owned(), backend, threads, software: false };
        Candidate {
            id: LaneId::new(format!("{browser}-1/{}", kind.backend)),
            speed: predict::speed(&kind),
            link: predict::link(&kind),
            memory: u64::MAX,
            kind,
        }
    };
    kinds.map(lane).into()
}
