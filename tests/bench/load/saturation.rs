//! All lanes at once through the daemon, against the same lanes driven at once by loops in the page and in this process.

use std::{path::Path, time::Duration};

use anyhow::{Context, ensure};
use serde::Serialize;
use serde_json::json;
use tokio::task;

use super::{
    closed::{self, Caller, Round},
    looped::{Engine, Loop},
    serving::Serving,
};
use crate::{
    origin::Origin,
    progress,
    report::{Found, Target},
    requests::{BACKEND, Model, TIMEOUT_US},
    site::{LoopWorker, Runs, Site},
    statistics::{Ratio, median, ratio},
    wire::{Answer, Wire},
};

/// A lane in a page and one in the daemon's process.
const CONFIG: &str = "[lanes]\nbackends = [\"wasm\"]\n";
const NATIVE: &str = "ort-cpu";

/// Two for each lane, and as many that wait.
const IN_FLIGHT: usize = 8;

const ROUNDS: usize = 24;

/// Long enough for some fifty runs of the larger model, short enough that both sides meet the same machine.
const ROUND: Duration = Duration::from_millis(600);

/// Until all lanes have steps under way.
const LEAD: Duration = Duration::from_millis(100);

/// The models answer with probabilities, and the two engines round differently.
const OFF_MOST: f64 = 1e-3;

const SEED: u64 = 12;

/// One model's rounds, in requests per second.
#[derive(Serialize)]
struct Samples {
    model: String,
    daemon: Vec<f64>,
    /// What of the daemon's were answered in the page.
    daemon_in_page: Vec<f64>,
    page: Vec<f64>,
    process: Vec<f64>,
}

#[derive(Serialize)]
struct Summary {
    model: String,
    ratio: Ratio,
    daemon_per_s: f64,
    loops_per_s: f64,
}

pub(crate) async fn measure(program: &Path, models: &[&Model]) -> anyhow::Result<Found> {
    progress("all lanes at once against loops in the page and the process");
    let served: Vec<_> = models.iter().map(|model| (model.name.clone(), model.file.as_path())).collect();
    let mut site = Site::start(&served).await?;
    let serving = Serving::start(program, 1, CONFIG).await?;
    let engine = Engine::load()?;
    let (mut samples, mut origin) = (Vec::new(), None);
    for model in models {
        // One run per step on both sides.
        serving.add(model, &json!({"max": 1})).await?;
        let mut lanes = Vec::new();
        for backend in [BACKEND, NATIVE] {
            let asked = json!({"backend": backend, "binary_data_output": true, "timeout": TIMEOUT_US});
            let mut wire = Wire::connect(&serving.daemon.socket()).await?;
            let (_, answer) = wire.exchange(model.asking(0, &asked)).await?;
            lanes.push(Answer::read(&answer)?);
        }
        let (page, process) = (&lanes[0], &lanes[1]);
        serving.daemon.browser()?.open(&site.loop_page(&model.name, page.threads())).await?;
        let mut worker = LoopWorker::start(site.linked().await?, &model.frames()).await?;
        let mut looped = engine.looped(model, process.threads())?;
        agree(model, &worker.run(1).await?, &looped.run_for(Duration::ZERO)?)?;
        let mut sides = Sides { model, worker, looped: Some(looped), caller: None };
        origin.get_or_insert_with(|| Origin::of(page));
        samples.push(sides.alternate(&serving.daemon.socket()).await?);
    }
    serving.daemon.stop().await?;
    let summaries: Vec<_> = samples.iter().map(Samples::summary).collect();
    let targets = summaries.iter().map(Summary::target).collect();
    let notes = samples.iter().map(Samples::note).collect();
    Found::new(origin.context("some model is measured")?, targets, notes, &summaries, &samples)
}

struct Sides<'a> {
    model: &'a Model,
    worker: LoopWorker,
    /// Absent while it runs.
    looped: Option<Loop>,
    caller: Option<Caller>,
}

impl Sides<'_> {
    async fn alternate(&mut self, socket: &str) -> anyhow::Result<Samples> {
        let parameters = json!({
            "backend": [BACKEND, NATIVE], "policy": "fastest", "binary_data_output": true, "timeout": TIMEOUT_US,
        });
        let wire = Wire::connect(socket).await?;
        self.caller = Some(Caller::new(wire, IN_FLIGHT, |number| self.model.asking(number, &parameters)));
        let mut samples = Samples {
            model: self.model.name.clone(),
            daemon: Vec::new(),
            daemon_in_page: Vec::new(),
            page: Vec::new(),
            process: Vec::new(),
        };
        // What is compiled or scheduled for the first time is left out.
        self.daemon().await?;
        self.loops().await?;
        for round in 0..ROUNDS {
            if round % 2 == 0 {
                samples.keep(&self.daemon().await?)?;
            }
            let (page, process) = self.loops().await?;
            samples.page.push(page);
            samples.process.push(process);
            if round % 2 == 1 {
                samples.keep(&self.daemon().await?)?;
            }
        }
        Ok(samples)
    }

    async fn daemon(&mut self) -> anyhow::Result<Round> {
        let caller = self.caller.take().context("the caller is back after each round")?;
        let mut round = closed::round(vec![caller], LEAD, ROUND).await?;
        self.caller = round.callers.pop();
        Ok(round)
    }

    /// Both loops over the same time; answers with the runs per second of each.
    async fn loops(&mut self) -> anyhow::Result<(f64, f64)> {
        let mut looped = self.looped.take().context("the loop is back after each round")?;
        let process = task::spawn_blocking(move || {
            let runs = looped.run_for(ROUND);
            (looped, runs)
        });
        let page = self.worker.run_for(ROUND).await?;
        let (looped, process) = process.await?;
        self.looped = Some(looped);
        let process = process?;
        let per_second = |runs: usize, took_us: u64| runs as f64 * 1e6 / took_us as f64;
        Ok((per_second(page.count, page.took_us), per_second(process.count, process.took_us)))
    }
}

/// Both must have computed the same before their speeds may be compared.
fn agree(model: &Model, page: &Runs, process: &Runs) -> anyhow::Result<()> {
    let (page, process) = (&page.output, &process.output);
    let same = page.len() == process.len() && page.iter().zip(process).all(|(a, b)| (a - b).abs() < OFF_MOST);
    ensure!(same, "{} differs between the loops in the page and in the process", model.name);
    Ok(())
}

impl Samples {
    fn keep(&mut self, round: &Round) -> anyhow::Result<()> {
        let answers = round.read(0)?;
        let in_page = answers.iter().filter(|answer| answer.told("backend") == BACKEND).count();
        self.daemon.push(round.per_second());
        self.daemon_in_page.push(in_page as f64 / round.took.as_secs_f64());
        Ok(())
    }

    fn summary(&self) -> Summary {
        let loops: Vec<_> =
            self.page.iter().zip(&self.process).map(|(page, process)| page + process).collect();
        let pairs: Vec<_> = self.daemon.iter().copied().zip(loops.iter().copied()).collect();
        Summary {
            model: self.model.clone(),
            ratio: ratio(&pairs, median, 1, SEED),
            daemon_per_s: median(&self.daemon),
            loops_per_s: median(&loops),
        }
    }

    fn note(&self) -> String {
        format!(
            "{} in all lanes, per second: {:.1} in the page of {:.1} through the daemon; \
             by loops {:.1} in the page and {:.1} in the process",
            self.model,
            median(&self.daemon_in_page),
            median(&self.daemon),
            median(&self.page),
            median(&self.process)
        )
    }
}

impl Summary {
    fn target(&self) -> Target {
        Target {
            what: format!("{} in all lanes, {IN_FLIGHT} in flight", self.model),
            found: format!("{:.1}/s", self.daemon_per_s),
            bound: format!("loops {:.1}/s", self.loops_per_s),
            ratio: self.ratio,
            wanted: "≥ 0.95".to_owned(),
            met: Some(self.ratio.value >= 0.95),
        }
    }
}
