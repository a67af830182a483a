//! `make bench`: what the daemon costs beside the least that could be done instead, measured in one run.
//!
//! `docs/methodology.md` says what is compared with what, and why. A missed target is a finding, not a failure.

mod bare;
mod cold;
mod daemon;
mod latency;
mod launch;
mod origin;
mod playwright;
mod pool;
#[path = "../faults/processes.rs"]
mod processes;
#[path = "../faults/proxy.rs"]
mod proxy;
mod relay;
mod report;
mod requests;
mod site;
mod statistics;
mod throughput;
mod transfer;
mod wire;

use std::{io::Write, path::Path};

use anyhow::Context;
use clap::Parser;
use tokio::runtime::Builder;

use crate::{
    daemon::{Daemon, Launched},
    origin::Origin,
    relay::Relay,
    report::{Report, Samples},
    requests::Model,
    site::{LoopWorker, Site},
    wire::{Answer, Wire},
};

const FIXTURES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/fixtures");

/// Written by every run.
const RESULT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/fixtures/measurements/bench.json");

/// One lane: another in the same browser would take its cores.
const CONFIG: &str = "[lanes]\nbackends = [\"wasm\"]\n";

#[derive(Parser)]
struct Options {
    /// Print the summary as JSON instead of a table
    #[arg(long)]
    json: bool,
    /// Measure the pool alone with so many kills and launches, print its raw samples, and keep nothing
    #[arg(long, value_name = "N")]
    pool: Option<usize>,
}

struct Models {
    silero: Model,
    magika: Model,
}

impl Models {
    fn read() -> anyhow::Result<Self> {
        let (fixtures, cache) = (Path::new(FIXTURES), weft::config::Surroundings::read()?.cache);
        Ok(Self {
            silero: Model::listed("silero-vad", fixtures, &cache)?,
            magika: Model::listed("magika", fixtures, &cache)?,
        })
    }
}

fn main() -> anyhow::Result<()> {
    if std::env::args().nth(1).is_some_and(|first| first == relay::ARGUMENT) {
        return Builder::new_current_thread().enable_all().build()?.block_on(relay::serve());
    }
    let options = Options::parse();
    Builder::new_multi_thread().enable_all().build()?.block_on(bench(options))
}

async fn bench(options: Options) -> anyhow::Result<()> {
    let program = std::env::current_exe()?;
    let program = program.ancestors().nth(2).context("examples lie below the profile's folder")?.join("weft");
    if let Some(times) = options.pool {
        let models = Models::read()?;
        let mut site = Site::start(&[(models.silero.name.clone(), models.silero.file.as_path())]).await?;
        let samples = pool::measure(&program, &mut site, (&models.silero, &models.magika), times).await?;
        say(&serde_json::to_string(&samples)?);
        samples.targets().iter().for_each(|target| say(&target.row().join("  ")));
        return Ok(());
    }
    let home = tempfile::tempdir().context("a throw-away home")?;
    std::fs::write(home.path().join("weft.toml"), CONFIG)?;
    let (origin, samples) = run(&program, home.path()).await?;
    let report = Report { origin, summary: samples.summary(), samples };
    std::fs::create_dir_all(Path::new(RESULT).parent().context("the result's folder")?)?;
    std::fs::write(RESULT, serde_json::to_vec(&report)?)?;
    if options.json {
        say(&serde_json::to_string_pretty(&report.summary)?);
    } else {
        say(&format!("\n{}\n", report.origin.line()));
        report.summary.lines().iter().for_each(|line| say(line));
        say("\nraw samples: fixtures/measurements/bench.json");
    }
    Ok(())
}

async fn run(program: &Path, home: &Path) -> anyhow::Result<(Origin, Samples)> {
    let models = Models::read()?;
    let identity = transfer::identity(home)?;
    let served: Vec<(String, &Path)> =
        [&models.silero, &models.magika].map(|model| (model.name.clone(), model.file.as_path())).to_vec();
    let mut site = Site::start(&served).await?;

    progress("starting weft; the models are proven in its browser first");
    let daemon = Daemon::start(program, home).await?;
    daemon.add(&format!("{FIXTURES}/models.toml")).await?;
    let mut wire = Wire::connect(&daemon.socket()).await?;
    let mut first = None;
    for model in [&models.magika, &models.silero] {
        let (_, answer) = wire.exchange(model.frame(0)).await?;
        first = Some(Answer::read(&answer)?);
    }
    let first = first.context("two models were asked")?;
    let (origin, threads) = (Origin::of(&first), first.threads());
    let launched = daemon.browser()?;

    let relay = Relay::start().await?;
    let mut bench = Running { daemon: &daemon, site: &mut site, relay, launched: &launched, threads, wire };
    let latency = bench.latency(&models.silero).await?;
    let throughput = bench.throughput(&[&models.silero, &models.magika]).await?;
    let transfer = bench.transfer(&identity).await?;
    drop(bench);
    daemon.stop().await?;

    progress("silero-vad through Playwright");
    let playwright = playwright::measure(&launched, &site, &models.silero, threads).await?;
    progress("cold starts");
    let cold = cold::measure(program, home, &launched, &mut site, &models.silero, threads).await?;
    progress("the pool: leases, kills, rest");
    let pool = pool::measure(program, &mut site, (&models.silero, &models.magika), pool::TIMES).await?;
    Ok((origin, Samples { latency, playwright, throughput, transfer, cold, pool }))
}

/// What is measured while one daemon runs.
struct Running<'a> {
    daemon: &'a Daemon,
    site: &'a mut Site,
    relay: Relay,
    launched: &'a Launched,
    threads: u64,
    wire: Wire,
}

impl Running<'_> {
    async fn latency(&mut self, model: &Model) -> anyhow::Result<latency::Samples> {
        progress("small requests against the relay");
        let mut relay = self.relay.connect(self.launched).await?;
        latency::measure(&mut self.wire, &mut relay, model).await
    }

    async fn throughput(&mut self, models: &[&Model]) -> anyhow::Result<Vec<throughput::Samples>> {
        let mut measured = Vec::new();
        for model in models {
            progress(&format!("{} against the loop in the page", model.name));
            self.launched.open(&self.site.loop_page(&model.name, self.threads)).await?;
            let mut page = LoopWorker::start(self.site.linked().await?, &model.frames()).await?;
            measured.push(throughput::measure(&mut self.wire, &mut page, model).await?);
        }
        Ok(measured)
    }

    async fn transfer(&mut self, model: &Model) -> anyhow::Result<transfer::Samples> {
        progress("16 MiB tensors against the relay");
        // Only now: what is left of its proof would be collected while small requests are timed.
        self.daemon.add(&model.file.display().to_string()).await?;
        let mut relay = self.relay.connect(self.launched).await?;
        transfer::measure(&mut self.wire, &mut relay, model).await
    }
}

fn progress(text: &str) {
    // Whoever closed our output has seen enough; so below.
    let _ = writeln!(std::io::stderr().lock(), "bench: {text} …");
}

fn say(text: &str) {
    let _ = writeln!(std::io::stdout().lock(), "{text}");
}
