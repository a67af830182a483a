//! `weft serve`.

use std::{collections::BTreeMap, path::PathBuf, pin::pin};

use anyhow::Context;
use clap::Args;

use super::{Common, Interrupts, Misuse, output};
use crate::{
    config::{Between, RawInstances},
    daemon::Daemon,
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
        let config = common.config(self.config.as_deref(), |raw| {
            raw.listen = self.listen.or(raw.listen.take());
            raw.browsers = self.browsers.or(raw.browsers.take());
        })?;
        // Caught from before the first process is started.
        let mut interrupts = Interrupts::catch()?;
        let mut daemon = Daemon::start(config).await?;
        output::line(&format!("listening on {}", daemon.url()));
        let ended = tokio::select! {
            interrupted = interrupts.next() => Ok(interrupted.name),
            error = daemon.attend() => Err(error).context("the daemon does not go on without a guardian"),
        };
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
}
