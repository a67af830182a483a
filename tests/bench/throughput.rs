//! How many requests one lane answers, against the same engine in a loop of its own, round by round.

use anyhow::ensure;
use serde::Serialize;
use std::time::Instant;

use crate::{
    report::Target,
    requests::Model,
    site::LoopWorker,
    statistics::{Ratio, median, ratio},
    wire::{Answer, Wire},
};

/// Requests in flight: enough that the lane never waits for the client.
const IN_FLIGHT: usize = 4;

const ROUNDS: usize = 24;

/// Long enough that the ends of a round do not count, short enough that both sides meet the same machine.
const ROUND_US: f64 = 400_000.0;

/// The runs that tell how long one takes.
const TRIAL: usize = 20;

const SEED: u64 = 2;

/// One model's rounds, in requests per second.
#[derive(Serialize)]
pub(crate) struct Samples {
    model: String,
    runs_per_round: usize,
    lane: Vec<f64>,
    page: Vec<f64>,
}

#[derive(Serialize)]
pub(crate) struct Summary {
    pub(crate) model: String,
    pub(crate) ratio: Ratio,
    pub(crate) lane_per_s: f64,
    pub(crate) page_per_s: f64,
}

pub(crate) async fn measure(
    wire: &mut Wire,
    page: &mut LoopWorker,
    model: &Model,
) -> anyhow::Result<Samples> {
    flood(wire, model, TRIAL).await?;
    page.run(TRIAL).await?;
    let runs = page.run(TRIAL).await?;
    agree(wire, model, &runs.output).await?;
    let run_us = runs.took_us as f64 / TRIAL as f64;
    // Whole turns through the inputs.
    let runs_per_round = ((ROUND_US / run_us) as usize).next_multiple_of(model.sets.len());
    let mut samples =
        Samples { model: model.name.clone(), runs_per_round, lane: Vec::new(), page: Vec::new() };
    for round in 0..ROUNDS {
        // Alternated rather than drawn, so that each side comes first equally often in so few rounds.
        if round % 2 == 0 {
            samples.lane.push(flood(wire, model, runs_per_round).await?);
        }
        let took_us = page.run(runs_per_round).await?.took_us;
        samples.page.push(per_second(runs_per_round, took_us as f64));
        if round % 2 == 1 {
            samples.lane.push(flood(wire, model, runs_per_round).await?);
        }
    }
    Ok(samples)
}

fn per_second(runs: usize, micros: f64) -> f64 {
    // One decimal is more than the noise leaves.
    (runs as f64 * 1e7 / micros).round() / 10.0
}

/// Requests per second with `IN_FLIGHT` of them under way.
async fn flood(wire: &mut Wire, model: &Model, requests: usize) -> anyhow::Result<f64> {
    let frames: Vec<_> = (0..requests).map(|number| model.frame(number)).collect();
    let started = Instant::now();
    let mut frames = frames.into_iter();
    for frame in frames.by_ref().take(IN_FLIGHT) {
        wire.send(frame).await?;
    }
    for _ in 0..requests {
        wire.receive().await?;
        if let Some(frame) = frames.next() {
            wire.send(frame).await?;
        }
    }
    Ok(per_second(requests, started.elapsed().as_micros() as f64))
}

/// Both sides must have computed the same before their speeds may be compared.
async fn agree(wire: &mut Wire, model: &Model, looped: &[f64]) -> anyhow::Result<()> {
    let (_, answer) = wire.exchange(model.frame(TRIAL - 1)).await?;
    let output = Answer::read(&answer)?.output;
    let lane: Vec<f64> =
        output.as_chunks::<4>().0.iter().map(|bytes| f64::from(f32::from_le_bytes(*bytes))).collect();
    let same = lane.len() == looped.len() && lane.iter().zip(looped).all(|(a, b)| (a - b).abs() < 1e-6);
    ensure!(same, "{} differs between lane and loop", model.name);
    Ok(())
}

impl Samples {
    pub(crate) fn summary(&self) -> Summary {
        let pairs: Vec<_> = self.lane.iter().copied().zip(self.page.iter().copied()).collect();
        Summary {
            model: self.model.clone(),
            ratio: ratio(&pairs, median, 1, SEED),
            lane_per_s: median(&self.lane),
            page_per_s: median(&self.page),
        }
    }
}

impl Summary {
    pub(crate) fn target(&self) -> Target {
        Target {
            what: format!("{}, {IN_FLIGHT} in flight", self.model),
            found: format!("{:.1}/s", self.lane_per_s),
            bound: format!("in the page {:.1}/s", self.page_per_s),
            ratio: self.ratio,
            wanted: "≥ 0.95".to_owned(),
            met: Some(self.ratio.value >= 0.95),
        }
    }
}
