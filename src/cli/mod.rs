//! The command line: parses, finds or starts a daemon, asks it, prints.
//!
//! With `--json` standard output holds JSON and nothing else; errors go to standard error.
//! Exit codes: 1 for a failure, 2 for misuse, 128 and the signal's number for a call that was interrupted.

mod bench;
mod client;
mod doctor;
mod infer;
mod keys;
mod models;
mod output;
mod plan;
mod runs;
mod serve;
mod top;
mod wire;

use std::{
    ffi::OsString,
    path::{Path, PathBuf},
    process::ExitCode,
    sync::Arc,
};

use anyhow::Context;
use clap::{Args, Parser, Subcommand};
use tokio::{
    runtime::Builder,
    signal::unix::{Signal, SignalKind, signal},
};

use crate::{
    backend::ort::elsewhere,
    config::{Config, FILTER, RawConfig, Source, Surroundings},
    driver::guardian,
    telemetry::{Format, Log, LogOrder},
};

/// What misuse exits with; clap uses the same.
const MISUSE: u8 = 2;

/// What a shell adds to a signal's number.
const SIGNALLED: u8 = 128;

/// ONNX Runtime's telemetry opens files in the temporary directory before a program can disable it;
/// only this variable keeps it from starting.
const NO_TELEMETRY: &str = "ORT_DISABLE_TELEMETRY";

/// With one worker instead of two on two cores, what the daemon adds to a small request fell by 8 %.
const CORES_PER_WORKER: usize = 4;

/// The log filter's variable, in the syntax of tracing's `EnvFilter`.
const LOG_VARIABLE: &str = "WEFT_LOG";

/// What commands log that are not the daemon.
const QUIET: &str = "error,chromiumoxide::handler=off";

const VERBOSE: &str = "info,weft=debug";

const EVERYTHING: &str = "debug,weft=trace";

/// One inference engine made of real web browsers.
#[derive(Parser)]
#[command(name = "weft", version, about, max_term_width = 100)]
struct Cli {
    #[command(flatten)]
    common: Common,
    #[command(subcommand)]
    command: Command,
}

#[derive(Args, Clone)]
struct Common {
    /// Where state lives [default: `$WEFT_HOME`, else the platform's data folder]
    #[arg(long, global = true, value_name = "DIR")]
    home: Option<PathBuf>,
    /// The daemon to talk to [default: the one that the home records, else one started for this call]
    #[arg(long, global = true, value_name = "URL")]
    url: Option<String>,
    /// Whom to trust with the certificate of an https URL, in PEM form [default: the system's authorities]
    #[arg(long, global = true, value_name = "FILE", requires = "url")]
    ca: Option<PathBuf>,
    /// The key or token to show the daemon [default: `$WEFT_KEY`, which other users of the machine do not see]
    #[arg(long, global = true, value_name = "KEY")]
    key: Option<String>,
    /// Print JSON on standard output, and nothing else
    #[arg(long, global = true)]
    json: bool,
    /// Say more on standard error; twice for everything
    #[arg(short, global = true, action = clap::ArgAction::Count)]
    verbose: u8,
}

#[derive(Subcommand)]
enum Command {
    /// Run the daemon until SIGTERM or Ctrl-C
    Serve(serve::Serve),
    /// Launch every browser, try every backend, and say what works here and why the rest does not
    Doctor,
    /// Run a model once and print its outputs with where and how they were computed
    Infer(infer::Infer),
    /// Add, list, show, verify and remove models
    #[command(subcommand)]
    Models(models::Models),
    /// Make, list, show, remove and keep plans: models in stages over several lanes
    Plan(plan::Plan),
    /// Measure suites of models in browsers' lanes, show what came out, and compare
    #[command(subcommand)]
    Bench(bench::Bench),
    /// Make, list and revoke API keys
    #[command(subcommand)]
    Keys(keys::Keys),
    /// Show the latest runs
    Runs(runs::Runs),
    /// Watch browsers and lanes as they come, work and go
    Top(top::Top),
}

pub fn main() -> ExitCode {
    // SAFETY: the program has one thread yet, so nobody reads the environment meanwhile.
    unsafe { std::env::set_var(NO_TELEMETRY, "1") };
    let mut arguments = std::env::args_os().skip(1);
    match arguments.next() {
        Some(first) if first == guardian::ARGUMENT => return guard(arguments.next().map(PathBuf::from)),
        Some(first) if first == elsewhere::ARGUMENT => return compute(&arguments.collect::<Vec<_>>()),
        _ => {}
    }
    let cli = Cli::parse();
    if let Err(error) = start_log(&cli) {
        return fail(&error);
    }
    let runtime = Builder::new_multi_thread().worker_threads(workers()).enable_all().build();
    let runtime = match runtime {
        Ok(runtime) => runtime,
        Err(error) => return fail(&anyhow::Error::new(error).context("could not start the runtime")),
    };
    match runtime.block_on(run(cli)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(&error),
    }
}

/// Threads that forward; browsers and native lanes compute in threads of their own.
/// A frame that is handed from one worker to another waits for a wake-up, and a wake-up costs more than the hand-over.
fn workers() -> usize {
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    (cores / CORES_PER_WORKER).max(1)
}

/// The guardian's process: no runtime, no log but its own standard error.
fn guard(run_dir: Option<PathBuf>) -> ExitCode {
    let Some(run_dir) = run_dir else { return ExitCode::from(MISUSE) };
    match guardian::run(&run_dir) {
        Ok(_) => ExitCode::SUCCESS,
        Err(error) => fail(&error.into()),
    }
}

/// A native lane's process, which has as little.
fn compute(arguments: &[OsString]) -> ExitCode {
    match elsewhere::run(arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(&error.into()),
    }
}

async fn run(cli: Cli) -> anyhow::Result<()> {
    let common = cli.common;
    match cli.command {
        Command::Serve(serve) => serve.run(&common).await,
        Command::Doctor => doctor::run(&common).await,
        Command::Infer(infer) => infer.run(&common).await,
        Command::Models(models) => models.run(&common).await,
        Command::Plan(plan) => plan.run(&common).await,
        Command::Bench(bench) => bench.run(&common).await,
        Command::Keys(keys) => keys.run(&common).await,
        Command::Runs(runs) => runs.run(&common).await,
        Command::Top(top) => top.run(&common).await,
    }
}

/// A daemon's log is as its configuration says, and so begins when that is read.
fn start_log(cli: &Cli) -> anyhow::Result<()> {
    if matches!(cli.command, Command::Serve(_)) {
        return Ok(());
    }
    let filter = match cli.common.verbose {
        0 => QUIET,
        1 => FILTER,
        2 => VERBOSE,
        _ => EVERYTHING,
    };
    let filter = log_variable()?.unwrap_or_else(|| filter.to_owned());
    Log::start(&LogOrder { filter, format: Format::Text, otlp: None })?;
    Ok(())
}

/// What the environment asks to be logged.
fn log_variable() -> anyhow::Result<Option<String>> {
    let Some(filter) = std::env::var(LOG_VARIABLE).ok().filter(|filter| !filter.is_empty()) else {
        return Ok(None);
    };
    Log::check(&filter).map_err(|error| Misuse(format!("{LOG_VARIABLE}: {error}")))?;
    Ok(Some(filter))
}

fn fail(error: &anyhow::Error) -> ExitCode {
    output::error(&format!("error: {error:#}"));
    match error.downcast_ref::<Interrupted>() {
        Some(Interrupted { number, .. }) => ExitCode::from(SIGNALLED + number),
        None if error.is::<Misuse>() => ExitCode::from(MISUSE),
        None => ExitCode::FAILURE,
    }
}

/// An argument that clap accepts and we do not.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Misuse(String);

/// A call that was told to end before it was done.
#[derive(Debug, thiserror::Error)]
#[error("interrupted by {name}")]
struct Interrupted {
    name: &'static str,
    number: u8,
}

/// Catches what asks the program to end, from its creation on.
struct Interrupts {
    terminate: Signal,
    interrupt: Signal,
}

impl Interrupts {
    fn catch() -> anyhow::Result<Self> {
        let terminate = signal(SignalKind::terminate()).context("SIGTERM")?;
        let interrupt = signal(SignalKind::interrupt()).context("SIGINT")?;
        Ok(Self { terminate, interrupt })
    }

    async fn next(&mut self) -> Interrupted {
        let (name, kind) = tokio::select! {
            _ = self.terminate.recv() => ("SIGTERM", SignalKind::terminate()),
            _ = self.interrupt.recv() => ("SIGINT", SignalKind::interrupt()),
        };
        Interrupted { name, number: kind.as_raw_value() as u8 }
    }
}

impl Common {
    fn home(&self, surroundings: &Surroundings) -> PathBuf {
        self.home.clone().unwrap_or_else(|| surroundings.home.clone())
    }

    /// The configuration of a daemon on this home: `file` or, when it is there, the home's `weft.toml`, and over it
    /// what `change` makes of it; `overruled` names the keys that it has the last word on.
    fn config(
        &self,
        file: Option<&Path>,
        change: impl Fn(&mut RawConfig) + Send + Sync + 'static,
        overruled: Vec<&'static str>,
    ) -> anyhow::Result<Config> {
        let surroundings = Surroundings::read()?;
        let source = Source {
            file: file.map(Path::to_owned),
            home: self.home(&surroundings),
            surroundings,
            change: Box::new(change),
            overruled,
        };
        Arc::new(source).read().map_err(|error| Misuse(error.to_string()).into())
    }
}
