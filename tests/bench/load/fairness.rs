//! Two callers of different weight that both ask for more than there is: what lane time each gets.

use std::{path::Path, time::Duration};

use anyhow::Context;
use serde::Serialize;
use serde_json::json;

use super::{
    closed::{self, Caller, Round},
    dense,
    serving::{Serving, natively},
};
use crate::{
    origin::Origin,
    progress,
    report::{Found, Target},
    statistics::{Ratio, median, ratio},
    wire::{Answer, Wire},
};

/// The weights of the two callers' keys, and the rows of each one's requests: those of the first take longer, so that
/// turns that are shared by the number of requests would give it too much.
const CALLERS: [(u32, usize); 2] = [(1, 16), (3, 1)];

/// Of each caller: more than a lane takes, so that both always wait, and so few that none waits for a second, after
/// which it would go before others for its age.
const DEPTH: usize = 6;

const CONFIG: &str = "[native]\nthreads = 1\n";

const ROUNDS: usize = 12;
const ROUND: Duration = Duration::from_millis(1500);
const LEAD: Duration = Duration::from_millis(200);

/// How far from its due a share of lane time may be.
const OFF_MOST: f64 = 0.05;

const SEED: u64 = 15;

#[derive(Serialize)]
struct Samples {
    /// Microseconds of lane time per round, in the order of `CALLERS`.
    lane_us: Vec<[u64; 2]>,
    answers: Vec<[usize; 2]>,
}

#[derive(Serialize)]
struct Summary {
    /// The second caller's share of the lane's time, by its due.
    share: Ratio,
    found: f64,
    due: f64,
}

pub(crate) async fn measure(program: &Path) -> anyhow::Result<Found> {
    progress("two callers of different weight");
    let folder = tempfile::tempdir()?;
    let serving = Serving::native(program, CONFIG).await?;
    let mut callers = Vec::new();
    for (weight, rows) in CALLERS {
        let model = dense::model(folder.path(), "dense", rows)?;
        if callers.is_empty() {
            serving.add(&model, &json!({"max": 1})).await?;
        }
        let order = json!({"name": format!("weight {weight}"), "scopes": "infer", "weight": weight});
        let made = serving.post("/api/v1/keys", order.to_string()).await?;
        let key = made["key"].as_str().context("a key is shown once")?;
        let wire = Wire::connect_as(&serving.daemon.socket(), key).await?;
        callers.push(Caller::new(wire, DEPTH, |number| model.asking(number, &natively())));
    }
    let mut samples = Samples { lane_us: Vec::new(), answers: Vec::new() };
    let mut origin = None;
    for round in 0..=ROUNDS {
        let mut ended = closed::round(callers, LEAD, ROUND).await?;
        callers = std::mem::take(&mut ended.callers);
        // In the first one the daemon learns what each takes.
        if round > 0 {
            origin = Some(samples.keep(&ended)?);
        }
    }
    serving.daemon.stop().await?;
    let summary = samples.summary();
    let (target, note) = (summary.target(), samples.note());
    Found::new(origin.context("some round was measured")?, vec![target], vec![note], &summary, &samples)
}

impl Samples {
    fn keep(&mut self, round: &Round) -> anyhow::Result<Origin> {
        let answers = [round.read(0)?, round.read(1)?];
        let lane_us = |answer: &Answer| answer.timing.decode + answer.timing.compute + answer.timing.encode;
        self.lane_us.push([0, 1].map(|at| answers[at].iter().map(lane_us).sum()));
        self.answers.push([0, 1].map(|at| answers[at].len()));
        Ok(Origin::of(answers.iter().flatten().next().context("somebody is answered")?))
    }

    fn summary(&self) -> Summary {
        let weights: u32 = CALLERS.iter().map(|(weight, _)| weight).sum();
        let due = f64::from(CALLERS[1].0) / f64::from(weights);
        let share = |[first, second]: &[u64; 2]| *second as f64 / (first + second).max(1) as f64;
        let shares: Vec<_> = self.lane_us.iter().map(share).collect();
        let pairs: Vec<_> = shares.iter().map(|share| (*share, due)).collect();
        Summary { share: ratio(&pairs, median, 1, SEED), found: median(&shares), due }
    }

    fn note(&self) -> String {
        let sum = |at: usize| self.answers.iter().map(|answers| answers[at]).sum::<usize>();
        let [(first, long), (second, short)] = CALLERS;
        format!(
            "{} requests of {long} rows answered to the caller of weight {first}, {} of {short} to that of {second}",
            sum(0),
            sum(1)
        )
    }
}

impl Summary {
    fn target(&self) -> Target {
        let off = (self.share.value - 1.0).abs();
        Target {
            what: format!("lane time at weights {}:{}", CALLERS[0].0, CALLERS[1].0),
            found: format!("{:.1} %", self.found * 100.0),
            bound: format!("due {:.1} %", self.due * 100.0),
            ratio: self.share,
            wanted: "0.95 to 1.05".to_owned(),
            met: Some(off <= OFF_MOST),
        }
    }
}
