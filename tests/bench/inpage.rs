//! What the harness adds to computing in a page: a lane's own time beside a bare page with the same engine, block by
//! block in one browser; and beside them what transformers.js takes with the engine that it brings.
//!
//! All are asked for one run at a time over a WebSocket, as often as the lane answers: a processor that has rested
//! computes slower, by more than half for a model of a millisecond.

use std::{
    path::Path,
    time::{Duration, Instant},
};

use anyhow::{Context, ensure};
use serde::Serialize;

use crate::{
    FIXTURES, Measured, Models,
    daemon::{Daemon, Launched},
    origin::Origin,
    progress,
    report::{Found, Target},
    requests::Model,
    site::{LoopWorker, Peer, Site},
    statistics::{Ratio, median, ratio},
    wire::{Answer, Wire},
};

/// One lane: another in the same browser would take its cores.
const CONFIG: &str = "[lanes]\nbackends = [\"wasm\"]\n";

/// Blocks of each side.
const ROUNDS: usize = 80;

/// A block's time, long against what a clock is sure of and short against the machine's moods.
const BLOCK_US: f64 = 100_000.0;

/// The runs that tell how long one takes.
const TRIAL: usize = 20;

/// By how much the harness may slow computing down.
const ADDED_MAX: f64 = 1.03;

const SEED: u64 = 77;

/// Microseconds of a run, by blocks.
#[derive(Serialize)]
struct Samples {
    model: String,
    runs_per_block: usize,
    lane: Vec<f64>,
    bare: Vec<f64>,
    transformers: Vec<f64>,
}

#[derive(Serialize)]
struct Summary {
    model: String,
    lane_us: f64,
    bare_us: f64,
    transformers_us: f64,
    /// The lane's time by the bare page's, and transformers.js's by the same.
    added: Ratio,
    transformers: Ratio,
}

pub(crate) async fn measure(program: &Path, models: &Models) -> anyhow::Result<Measured> {
    let peer = match Peer::read()? {
        Ok(peer) => peer,
        Err(missing) => return Ok(Err(missing)),
    };
    let home = tempfile::tempdir().context("a throw-away home")?;
    std::fs::write(home.path().join("weft.toml"), CONFIG)?;
    let models = [&models.silero, &models.magika];
    let served: Vec<(String, &Path)> =
        models.map(|model| (model.name.clone(), model.file.as_path())).to_vec();
    let mut site = Site::start_beside(&served, &peer).await?;
    progress("starting weft; the models are proven in its browser first");
    let daemon = Daemon::start(program, home.path()).await?;
    daemon.add(&format!("{FIXTURES}/models.toml")).await?;
    let mut wire = Wire::connect(&daemon.socket()).await?;
    let mut samples = Vec::new();
    let mut first = None;
    for model in models {
        let (_, answer) = wire.exchange(model.frame(0)).await?;
        let answer = first.insert(Answer::read(&answer)?);
        let launched = daemon.browser()?;
        progress(&format!("{} in a lane, in a bare page and by transformers.js", model.name));
        samples.push(contest(&mut wire, &launched, &mut site, model, answer.threads()).await?);
    }
    daemon.stop().await?;
    let origin = Origin::of(&first.context("two models were asked")?);
    let summaries: Vec<Summary> = samples.iter().map(Samples::summary).collect();
    let targets = summaries.iter().flat_map(Summary::targets).collect();
    let notes = vec![format!("transformers.js {} with its own {}", peer.version, peer.engine)];
    Found::new(origin, targets, notes, &summaries, &samples).map(Ok)
}

async fn contest(
    wire: &mut Wire,
    launched: &Launched,
    site: &mut Site,
    model: &Model,
    threads: u64,
) -> anyhow::Result<Samples> {
    launched.open(&site.loop_page(&model.name, threads)).await?;
    let mut bare = LoopWorker::start(site.linked().await?, &model.frames()).await?;
    launched.open(&site.transformers_page(&model.name, threads)).await?;
    let mut transformers = LoopWorker::start(site.linked().await?, &model.frames()).await?;
    let (_, mut every) = lane(wire, model, TRIAL).await?;
    let [ours, theirs] = [bare.run(TRIAL).await?, transformers.run(TRIAL).await?];
    let alike =
        |a: &[f64], b: &[f64]| a.len() == b.len() && a.iter().zip(b).all(|(a, b)| (a - b).abs() < 1e-4);
    ensure!(alike(&ours.output, &theirs.output), "{} differs between the two pages", model.name);
    let run_us = bare.run(TRIAL).await?.took_us as f64 / TRIAL as f64;
    // Whole turns through the inputs.
    let runs_per_block = ((BLOCK_US / run_us) as usize).max(1).next_multiple_of(model.sets.len());
    let (lanes, bares, others) = (Vec::new(), Vec::new(), Vec::new());
    let mut samples =
        Samples { model: model.name.clone(), runs_per_block, lane: lanes, bare: bares, transformers: others };
    for round in 0..ROUNDS {
        // Each side is first, second and last equally often.
        for turn in 0..3 {
            match (round + turn) % 3 {
                0 => {
                    let computed;
                    (computed, every) = lane(wire, model, runs_per_block).await?;
                    samples.lane.push(computed);
                }
                1 => samples.bare.push(looped(&mut bare, runs_per_block, every).await?),
                _ => samples.transformers.push(looped(&mut transformers, runs_per_block, every).await?),
            }
        }
    }
    Ok(samples)
}

/// The mean of what a page says that a run took, one run `every` so often.
async fn looped(page: &mut LoopWorker, runs: usize, every: Duration) -> anyhow::Result<f64> {
    let mut took = 0;
    for _ in 0..runs {
        let asked = Instant::now();
        took += page.run(1).await?.took_us;
        // The runtime's own timer goes by whole milliseconds.
        tokio::task::block_in_place(|| std::thread::sleep(every.saturating_sub(asked.elapsed())));
    }
    Ok(took as f64 / runs as f64)
}

/// The mean of what the lane says that it computed, its engine's run with its outputs read, and how often it answered.
async fn lane(wire: &mut Wire, model: &Model, runs: usize) -> anyhow::Result<(f64, Duration)> {
    let begun = Instant::now();
    let mut compute = 0;
    for number in 0..runs {
        let (_, answer) = wire.exchange(model.frame(number)).await?;
        compute += Answer::read(&answer)?.timing.compute;
    }
    Ok((compute as f64 / runs as f64, begun.elapsed() / u32::try_from(runs)?))
}

impl Samples {
    fn summary(&self) -> Summary {
        let to_bare = |side: &[f64]| {
            let pairs: Vec<(f64, f64)> = side.iter().copied().zip(self.bare.iter().copied()).collect();
            ratio(&pairs, median, 1, SEED)
        };
        Summary {
            model: self.model.clone(),
            lane_us: median(&self.lane),
            bare_us: median(&self.bare),
            transformers_us: median(&self.transformers),
            added: to_bare(&self.lane),
            transformers: to_bare(&self.transformers),
        }
    }
}

impl Summary {
    fn targets(&self) -> [Target; 2] {
        let ms = |us: f64| format!("{:.2} ms", us / 1e3);
        let target = |what: &str, us: f64, ratio: Ratio, most: Option<f64>| Target {
            what: format!("{}, {what}", self.model),
            found: ms(us),
            bound: format!("bare page {}", ms(self.bare_us)),
            ratio,
            wanted: most.map_or_else(String::new, |most| format!("≤ {most:.2}")),
            met: most.map(|most| ratio.value <= most),
        };
        [
            target("computed in a lane", self.lane_us, self.added, Some(ADDED_MAX)),
            target("by transformers.js", self.transformers_us, self.transformers, None),
        ]
    }
}
