//! `weft serve`.

use std::{collections::BTreeMap, path::PathBuf, pin::pin};

use anyhow::Context;
use clap::Args;
use tokio::signal::unix::{Signal, SignalKind, signal};

use super::{Common, EVERYTHING, Interrupts, Misuse, VERBOSE, log_variable, output};
use crate::{
    config::{Between, Config, RawConfig, RawInstances},
    daemon::Daemon,
    telemetry::{Format, Log, LogOrder},
};

#[derive(Args)]
pub(super) struct Serve {
    /// Configuration file [default: weft.toml in the home, when there is one]
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Address to listen on; port 0 takes a free one [default: 127.0.0.1:9338]
    #[arg(long, value_name = "IP:PORT")]
    listen: Option<String>,
    /// Browsers to keep running, as chromium=2,firefox=1..4 [default: chromium=1]
    #[arg(long, value_name = "NAME=N,…", value_parser = parse_browsers)]
    browsers: Option<BTreeMap<String, RawInstances>>,
    /// Download no models: take only what is here already
    #[arg(long)]
    offline: bool,
    /// How log lines look [default: text]
    #[arg(long, value_name = "FORMAT", value_parser = parse_format)]
    log: Option<Format>,
}

fn parse_format(text: &str) -> Result<Format, String> {
    match text {
        "text" => Ok(Format::Text),
        "json" => Ok(Format::Json),
        _ => Err("say text or json".to_owned()),
    }
}

fn parse_browsers(text: &str) -> Result<BTreeMap<String, RawInstances>, String> {
    text.split(',')
        .filter(|part| !part.is_empty())
        .map(|part| {
            let (name, number) = part.split_once('=').unwrap_or((part, "1"));
            let count = |text: &str| text.parse().map_err(|_| format!("{text:?} in {part:?} is no number"));
            let instances = match number.split_once("..") {
                Some((min, max)) => RawInstances::Between(Between { min: count(min)?, max: count(max)? }),
                None => RawInstances::Count(count(number)?),
            };
            Ok((name.to_owned(), instances))
        })
        .collect()
}

impl Serve {
    pub(super) async fn run(self, common: &Common) -> anyhow::Result<()> {
        if common.url.is_some() {
            return Err(Misuse("--url names a running daemon; serve starts one".to_owned()).into());
        }
        // Caught from before the first process is started.
        let mut interrupts = Interrupts::catch()?;
        let mut hangup = signal(SignalKind::hangup()).context("SIGHUP")?;
        let mut config = self.configure(common)?;
        let order = LogOrder {
            filter: config.telemetry.filter.clone(),
            format: config.telemetry.log,
            otlp: config.telemetry.otlp.clone(),
        };
        let log = Log::start(&order)?;
        config.log = Some(log.clone());
        let served = serve(config, &mut interrupts, &mut hangup).await;
        // The exporter's threads are waited for where nobody else waits.
        tokio::task::spawn_blocking(move || log.finish()).await.context("the log's end")?;
        served
    }

    fn configure(self, common: &Common) -> anyhow::Result<Config> {
        let verbose = match common.verbose {
            0 => None,
            1 => Some(VERBOSE.to_owned()),
            _ => Some(EVERYTHING.to_owned()),
        };
        let (listen, browsers, offline) = (self.listen, self.browsers, self.offline);
        let (log, filter) = (self.log, log_variable()?.or(verbose));
        let said = [
            ("listen", listen.is_some()),
            ("browsers", browsers.is_some()),
            ("models.offline", offline),
            ("telemetry.log", log.is_some()),
            ("telemetry.filter", filter.is_some()),
        ];
        let overruled = said.into_iter().filter(|(_, said)| *said).map(|(key, _)| key).collect();
        let change = move |raw: &mut RawConfig| {
            raw.listen = listen.clone().or(raw.listen.take());
            raw.browsers = browsers.clone().or(raw.browsers.take());
            raw.models.offline = offline.then_some(true).or(raw.models.offline);
            raw.telemetry.log = log.or(raw.telemetry.log);
            raw.telemetry.filter = filter.clone().or(raw.telemetry.filter.take());
        };
        common.config(self.config.as_deref(), change, overruled)
    }
}

async fn serve(config: Config, interrupts: &mut Interrupts, hangup: &mut Signal) -> anyhow::Result<()> {
    let mut daemon = Daemon::start(config).await?;
    output::line(&format!("listening on {}", daemon.url()));
    let ended = attend(&mut daemon, interrupts, hangup).await;
    tracing::info!(?ended, "stopping");
    if let Err(error) = ended {
        daemon.stop().await;
        return Err(error);
    }
    let hurry = daemon.hurry();
    let mut stop = pin!(async {
        daemon.drain().await;
        daemon.stop().await;
    });
    tokio::select! {
        () = &mut stop => Ok(()),
        again = interrupts.next() => {
            tracing::warn!(signal = again.name, "told to end a second time: what is under way is dropped");
            hurry.cancel();
            stop.await;
            Err(again.into())
        }
    }
}

/// Reads the configuration again as often as it is told to, until the daemon is to end; answers who said so.
async fn attend(
    daemon: &mut Daemon,
    interrupts: &mut Interrupts,
    hangup: &mut Signal,
) -> anyhow::Result<&'static str> {
    let reloader = daemon.reloader();
    let mut guardian = pin!(daemon.attend());
    loop {
        tokio::select! {
            interrupted = interrupts.next() => return Ok(interrupted.name),
            error = &mut guardian => {
                return Err(error).context("the daemon does not go on without a guardian");
            }
            // What becomes of it is logged.
            _ = hangup.recv() => drop(reloader.reload().await),
        }
    }
}
