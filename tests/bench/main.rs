//! `make bench`: what the daemon costs beside the least that could be done instead, measured in one run.
//!
//! `docs/methodology.md` says what is compared with what, and why. A missed target is a finding, not a failure.

mod bare;
mod cold;
mod content;
mod daemon;
mod delivery;
mod embeddings;
#[path = "../it/support/graphs.rs"]
mod graphs;
#[path = "../support/harness.rs"]
mod harness;
mod http;
mod inpage;
mod kernels;
mod lane;
mod latency;
mod launch;
mod load;
mod making;
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
mod sharding;
mod site;
mod throughput;
mod transfer;
mod wire;

use std::{io::Write, path::Path};

use anyhow::Context;
use clap::{Parser, ValueEnum};
use tokio::runtime::Builder;
use weft::bench::statistics;

use crate::{
    load::{batching, fairness, idle, native, open, peer, saturation},
    report::{Found, Report},
    requests::Model,
};

const FIXTURES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/fixtures");

/// Every run writes its sections there.
const RESULT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/fixtures/measurements/bench.json");

#[derive(Parser)]
struct Options {
    /// What to measure; everything when nothing is named
    #[arg(value_enum)]
    sections: Vec<Section>,
    /// Print the summary as JSON instead of a table
    #[arg(long)]
    json: bool,
    /// Measure the pool alone with so many kills and launches, print its raw samples, and keep nothing
    #[arg(long, value_name = "N", conflicts_with = "sections")]
    pool: Option<usize>,
}

/// What can be measured alone; each has daemons of its own.
#[derive(Clone, Copy, PartialEq, ValueEnum)]
pub(crate) enum Section {
    /// One lane in one browser against a relay, a loop in the page, a bare launch
    Lane,
    /// Leases, kills, launches, rest
    Pool,
    /// All lanes at once against the same lanes in loops
    Saturation,
    /// The native lane through HTTP and WebSocket against an echo
    Native,
    /// Shared steps against fixed batches and a loop
    Batching,
    /// Arrivals that wait for nobody, up to ten times what can be served
    Load,
    /// Two callers of different weight
    Fairness,
    /// Ten thousand connections that ask nothing
    Idle,
    /// The same model behind a server in Python
    Peer,
    /// The gateway against nginx
    Content,
    /// A model that a browser has had before against one that it has not
    Delivery,
    /// Weights to a graph, and a large file verified
    Making,
    /// Sentences against onnxruntime in Python
    Embeddings,
    /// One model over several lanes against whole models in the same lanes
    Sharding,
    /// Products with few bits by the page's own kernels against onnxruntime-web
    Kernels,
    /// Computing in a lane against a bare page, and transformers.js beside them
    Page,
}

impl Section {
    pub(crate) fn name(self) -> String {
        self.to_possible_value().map_or_else(String::new, |value| value.get_name().to_owned())
    }
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
    match std::env::args().nth(1).as_deref() {
        Some(relay::ARGUMENT) => {
            return Builder::new_current_thread().enable_all().build()?.block_on(relay::serve());
        }
        Some(making::ARGUMENT) => return making::convert(),
        _ => {}
    }
    let options = Options::parse();
    Builder::new_multi_thread().enable_all().build()?.block_on(bench(options))
}

async fn bench(options: Options) -> anyhow::Result<()> {
    let program = std::env::current_exe()?;
    let program = program.ancestors().nth(2).context("examples lie below the profile's folder")?.join("weft");
    let models = Models::read()?;
    if let Some(times) = options.pool {
        let (_, samples) = pool::found(&program, (&models.silero, &models.magika), times).await?;
        say(&serde_json::to_string(&samples)?);
        samples.targets().iter().for_each(|target| say(&target.row().join("  ")));
        return Ok(());
    }
    let mut report = Report::default();
    for section in Section::value_variants() {
        if !options.sections.is_empty() && !options.sections.contains(section) {
            continue;
        }
        match measure(*section, &program, &models).await? {
            Ok(found) => report.found(*section, found),
            Err(why) => report.skipped(*section, why),
        }
    }
    report.keep(Path::new(RESULT))?;
    if options.json {
        say(&serde_json::to_string_pretty(&report.summary())?);
    } else {
        report.lines().iter().for_each(|line| say(line));
        say("\nraw samples: fixtures/measurements/bench.json");
    }
    Ok(())
}

/// What a section found, or why it cannot be measured here.
pub(crate) type Measured = Result<Found, String>;

async fn measure(section: Section, program: &Path, models: &Models) -> anyhow::Result<Measured> {
    let pair = (&models.silero, &models.magika);
    let found = match section {
        Section::Lane => lane::measure(program, models).await,
        Section::Pool => pool::found(program, pair, pool::TIMES).await.map(|(found, _)| found),
        Section::Saturation => saturation::measure(program, &[pair.0, pair.1]).await,
        Section::Native => native::measure(program, pair.0).await,
        Section::Batching => batching::measure(program).await,
        Section::Load => open::measure(program).await,
        Section::Fairness => fairness::measure(program).await,
        Section::Idle => return idle::measure(program, pair.0).await,
        Section::Peer => return peer::measure(program, &[pair.0, pair.1]).await,
        Section::Content => return content::measure(program, pair.0).await,
        Section::Delivery => delivery::measure(program, pair.0).await,
        Section::Making => return making::measure(program, pair.0).await,
        Section::Embeddings => return embeddings::measure(program, pair.0).await,
        Section::Sharding => sharding::measure(program).await,
        Section::Kernels => return kernels::measure().await,
        Section::Page => return inpage::measure(program, models).await,
    };
    found.map(Ok).with_context(|| format!("measuring {}", section.name()))
}

fn progress(text: &str) {
    // Whoever closed our output has seen enough; so below.
    let _ = writeln!(std::io::stderr().lock(), "bench: {text} …");
}

fn say(text: &str) {
    let _ = writeln!(std::io::stdout().lock(), "{text}");
}
