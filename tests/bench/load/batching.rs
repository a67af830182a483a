//! Requests that share steps: how many rows a second that makes beside batches of a fixed size and beside a loop, and
//! what waiting for others costs.

use std::{path::Path, time::Duration};

use anyhow::Context;
use serde::Serialize;
use serde_json::{Value, json};
use tokio::task;

use super::{
    closed::{self, Caller},
    dense, floats,
    looped::{Engine, Loop},
    pace::Offer,
    serving::{Serving, natively},
};
use crate::{
    origin::Origin,
    progress,
    report::{Found, Target},
    requests::Model,
    statistics::{Ratio, median, quantile, ratio},
    wire::{Answer, Wire},
};

/// Rows of a step at most, and how long one waits for others.
const MAX: usize = 16;
const DELAY: Duration = Duration::from_millis(5);

/// Rows of requests that share no steps.
const SIZES: [usize; 5] = [1, 2, 4, 8, MAX];

/// One thread, so that what the daemon and its callers do has another core.
const CONFIG: &str = "[native]\nthreads = 1\n";

/// Who asks for one row each: two steps under way and two that wait.
const CALLERS: usize = 16;
const DEPTH: usize = 4 * MAX / CALLERS;

/// The same for requests that are a step each.
const FIXED_DEPTH: usize = 4;

const ROUNDS: usize = 10;
const ROUND: Duration = Duration::from_millis(500);
const LEAD: Duration = Duration::from_millis(100);

/// Turns of arrivals by chance, at a half of what steps of one row can do.
const TURNS: usize = 6;
const TURN: Duration = Duration::from_secs(3);
const SHARE: f64 = 0.5;

const SEED: u64 = 14;

#[derive(Serialize)]
struct Samples {
    /// Rows per second, one entry per round.
    looped: Vec<f64>,
    /// By size.
    fixed: Vec<Vec<f64>>,
    batcher: Vec<f64>,
    /// Requests that shared a step, one entry per answer.
    shared: Vec<u64>,
    /// Microseconds from the intended sending to the answer, per turn: sharing steps, and not.
    waiting: Vec<Vec<u64>>,
    alone: Vec<Vec<u64>>,
    per_second: f64,
}

#[derive(Serialize)]
struct Summary {
    against_loop: Ratio,
    against_fixed: Ratio,
    /// What waiting for others adds to the p99, as a part of the delay that the model allows.
    added: Ratio,
    best_fixed: usize,
    batcher_per_s: f64,
    looped_per_s: f64,
    /// In the order of `SIZES`.
    fixed_per_s: Vec<f64>,
    shared_mean: f64,
    waiting_p99_us: f64,
    alone_p99_us: f64,
}

pub(crate) async fn measure(program: &Path) -> anyhow::Result<Found> {
    progress("shared steps against fixed batches and a loop");
    let folder = tempfile::tempdir()?;
    let batched = dense::model(folder.path(), "dense", 1)?;
    let whole = dense::model(folder.path(), "dense-alone", MAX)?;
    let serving = Serving::native(program, CONFIG).await?;
    serving.add(&batched, &json!({"max": MAX, "delay": format!("{}ms", DELAY.as_millis())})).await?;
    serving.add(&whole, &json!({"max": 1})).await?;
    let socket = serving.daemon.socket();
    let looped = Engine::load()?.looped(&whole, 1)?;
    let mut contest =
        Contest { looped: Some(looped), sides: Vec::new(), folder: folder.path(), socket: &socket };
    let mut samples = Samples {
        looped: Vec::new(),
        fixed: vec![Vec::new(); SIZES.len()],
        batcher: Vec::new(),
        shared: Vec::new(),
        waiting: Vec::new(),
        alone: Vec::new(),
        per_second: 0.0,
    };
    let origin = contest.run(&mut samples).await?;
    progress("what waiting for others costs");
    samples.per_second = SHARE * median(&samples.fixed[0]);
    let single = Model { name: whole.name.clone(), ..batched.clone() };
    samples.turns(&socket, &batched, &single).await?;
    serving.daemon.stop().await?;
    let summary = samples.summary();
    Found::new(origin, summary.targets(), summary.notes(samples.per_second), &summary, &samples)
}

/// Everybody who makes rows: the loop, each fixed size, and last the batcher.
struct Contest<'a> {
    /// Absent while it runs.
    looped: Option<Loop>,
    sides: Vec<Vec<Caller>>,
    folder: &'a Path,
    socket: &'a str,
}

impl Contest<'_> {
    async fn run(&mut self, samples: &mut Samples) -> anyhow::Result<Origin> {
        let parameters = natively();
        for rows in SIZES {
            let model = dense::model(self.folder, "dense-alone", rows)?;
            self.sides.push(vec![self.caller(&model, FIXED_DEPTH, &parameters).await?]);
        }
        let batched = dense::model(self.folder, "dense", 1)?;
        let mut callers = Vec::new();
        for _ in 0..CALLERS {
            callers.push(self.caller(&batched, DEPTH, &parameters).await?);
        }
        self.sides.push(callers);
        let mut origin = None;
        for round in 0..=ROUNDS {
            // Turned, so that nobody always follows the same side.
            for turn in 0..=self.sides.len() {
                let side = (round + turn) % (self.sides.len() + 1);
                let rate = match side.checked_sub(1) {
                    None => self.looped().await?,
                    Some(at) => {
                        let callers = std::mem::take(&mut self.sides[at]);
                        let ended = closed::round(callers, LEAD, ROUND).await?;
                        let answer = ended.answers.iter().flatten().last().context("somebody is answered")?;
                        origin.get_or_insert(Origin::of(&Answer::read(answer)?));
                        if at == SIZES.len() && round > 0 {
                            samples.note_shared(&ended)?;
                        }
                        let rate = ended.per_second();
                        self.sides[at] = ended.callers;
                        rate * SIZES.get(at).map_or(1.0, |rows| *rows as f64)
                    }
                };
                // The first round warms everything up.
                if round > 0 {
                    samples.series(side).push(rate);
                }
            }
        }
        origin.context("some round was measured")
    }

    async fn caller(&self, model: &Model, depth: usize, parameters: &Value) -> anyhow::Result<Caller> {
        let wire = Wire::connect(self.socket).await?;
        Ok(Caller::new(wire, depth, |number| model.asking(number, parameters)))
    }

    /// Rows per second of the loop.
    async fn looped(&mut self) -> anyhow::Result<f64> {
        let mut looped = self.looped.take().context("the loop is back after each round")?;
        let ended = task::spawn_blocking(move || {
            let runs = looped.run_for(ROUND);
            (looped, runs)
        });
        let (looped, runs) = ended.await?;
        self.looped = Some(looped);
        let runs = runs?;
        Ok((runs.count * MAX) as f64 * 1e6 / runs.took_us as f64)
    }
}

impl Samples {
    fn series(&mut self, side: usize) -> &mut Vec<f64> {
        match side.checked_sub(1) {
            None => &mut self.looped,
            Some(at) => self.fixed.get_mut(at).unwrap_or(&mut self.batcher),
        }
    }

    fn note_shared(&mut self, round: &closed::Round) -> anyhow::Result<()> {
        for caller in 0..round.answers.len() {
            for answer in round.read(caller)? {
                self.shared.push(answer.provenance["batch"].as_u64().context("an answer tells its batch")?);
            }
        }
        Ok(())
    }

    /// The same arrivals to the model that waits for others and to the one that does not, in turn.
    async fn turns(&mut self, socket: &str, batched: &Model, single: &Model) -> anyhow::Result<()> {
        let parameters = natively();
        for turn in 0..TURNS {
            let mut sides = [(batched, true), (single, false)];
            if turn % 2 == 1 {
                sides.reverse();
            }
            for (model, waits) in sides {
                let (per_second, seed) = (self.per_second, SEED + turn as u64);
                let offer = Offer { model, parameters: &parameters, per_second, time: TURN, seed };
                let arrivals = offer.make(socket).await?;
                let took = arrivals.into_iter().map(|arrival| match arrival.heard {
                    Ok(_) => Ok(arrival.took_us),
                    Err(code) => Err(anyhow::anyhow!("a request at half the load was refused as {code}")),
                });
                let took = took.collect::<anyhow::Result<Vec<_>>>()?;
                if waits { self.waiting.push(took) } else { self.alone.push(took) }
            }
        }
        Ok(())
    }

    fn summary(&self) -> Summary {
        let paired = |bound: &[f64]| {
            let pairs: Vec<_> = self.batcher.iter().copied().zip(bound.iter().copied()).collect();
            ratio(&pairs, median, 1, SEED)
        };
        let fixed_per_s: Vec<_> = self.fixed.iter().map(|rates| median(rates)).collect();
        let best = (0..SIZES.len()).max_by(|a, b| fixed_per_s[*a].total_cmp(&fixed_per_s[*b])).unwrap_or(0);
        let p99 =
            |turns: &[Vec<u64>]| turns.iter().map(|took| quantile(&floats(took), 0.99)).collect::<Vec<_>>();
        let (waiting, alone) = (p99(&self.waiting), p99(&self.alone));
        let delay = DELAY.as_micros() as f64;
        let added: Vec<_> = waiting.iter().zip(&alone).map(|(w, a)| (w - a, delay)).collect();
        Summary {
            against_loop: paired(&self.looped),
            against_fixed: paired(&self.fixed[best]),
            added: ratio(&added, median, 1, SEED),
            best_fixed: SIZES[best],
            batcher_per_s: median(&self.batcher),
            looped_per_s: median(&self.looped),
            fixed_per_s,
            shared_mean: self.shared.iter().sum::<u64>() as f64 / self.shared.len().max(1) as f64,
            waiting_p99_us: quantile(
                &self.waiting.iter().flat_map(|took| floats(took)).collect::<Vec<_>>(),
                0.99,
            ),
            alone_p99_us: quantile(
                &self.alone.iter().flat_map(|took| floats(took)).collect::<Vec<_>>(),
                0.99,
            ),
        }
    }
}

impl Summary {
    fn targets(&self) -> Vec<Target> {
        let best = self.fixed_per_s.iter().copied().fold(0.0, f64::max);
        let rows = |per_s: f64| format!("{per_s:.0} rows/s");
        vec![
            Target {
                what: format!("{CALLERS} callers sharing steps of {MAX}"),
                found: rows(self.batcher_per_s),
                bound: format!("loop of {MAX}: {}", rows(self.looped_per_s)),
                ratio: self.against_loop,
                wanted: "≥ 0.95".to_owned(),
                met: Some(self.against_loop.value >= 0.95),
            },
            Target {
                what: "the same against the best fixed batch".to_owned(),
                found: rows(self.batcher_per_s),
                bound: format!("batches of {}: {}", self.best_fixed, rows(best)),
                ratio: self.against_fixed,
                wanted: "≥ 0.95".to_owned(),
                met: Some(self.against_fixed.value >= 0.95),
            },
            Target {
                what: "waiting for others, added to the p99".to_owned(),
                found: format!("{:.1} ms", self.added.value * DELAY.as_secs_f64() * 1e3),
                bound: format!("delay {} ms", DELAY.as_millis()),
                ratio: self.added,
                wanted: "≤ 1.00".to_owned(),
                met: Some(self.added.value <= 1.0),
            },
        ]
    }

    fn notes(&self, per_second: f64) -> Vec<String> {
        let fixed = SIZES.iter().zip(&self.fixed_per_s);
        let fixed: Vec<_> = fixed.map(|(rows, per_s)| format!("{rows}: {per_s:.0}")).collect();
        vec![
            format!(
                "{}, one thread, rows per second in batches of {}; shared steps held {:.1} rows",
                dense::DESCRIBED,
                fixed.join(", "),
                self.shared_mean
            ),
            format!(
                "at {per_second:.0}/s by chance: p99 {:.1} ms waiting for others, {:.1} ms not",
                self.waiting_p99_us / 1e3,
                self.alone_p99_us / 1e3
            ),
        ]
    }
}
