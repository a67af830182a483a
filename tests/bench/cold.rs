//! From nothing to a first answer: the daemon against the same browser launched bare.

use std::{
    path::Path,
    process::Stdio,
    time::{Duration, Instant},
};

use anyhow::{Context, ensure};
use chromiumoxide::{
    Browser,
    cdp::browser_protocol::{
        network,
        page::NavigateParams,
        target::{EventAttachedToTarget, SetAutoAttachParams},
    },
};
use futures_util::StreamExt;
use nix::{
    sys::signal::{Signal, killpg},
    unistd::Pid,
};
use serde::Serialize;
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    process::Command,
    task::JoinSet,
};

use crate::{
    daemon::{Daemon, Launched},
    requests::Model,
    site::{LoopWorker, Site},
    statistics::{Ratio, median, ratio},
    wire::{Answer, Wire},
};

const REPETITIONS: usize = 9;

const SEED: u64 = 4;

/// Twenty times what it takes on two cores.
const LAUNCH_WITHIN: Duration = Duration::from_secs(60);

const ANNOUNCEMENT: &str = "DevTools listening on ";

/// Microseconds, one entry per repetition.
#[derive(Default, Serialize)]
pub(crate) struct Samples {
    daemon: Vec<u64>,
    /// The daemon's part until it listens.
    listening: Vec<u64>,
    bare: Vec<u64>,
    /// The bare browser's part until its page is asked for.
    navigated: Vec<u64>,
}

#[derive(Serialize)]
pub(crate) struct Summary {
    pub(crate) ratio: Ratio,
    pub(crate) daemon_ms: f64,
    pub(crate) listening_ms: f64,
    pub(crate) bare_ms: f64,
    pub(crate) navigated_ms: f64,
}

/// `home` already holds the model and its verdict.
pub(crate) async fn measure(
    program: &Path,
    home: &Path,
    launched: &Launched,
    site: &mut Site,
    model: &Model,
    threads: u64,
) -> anyhow::Result<Samples> {
    let mut samples = Samples::default();
    for repetition in 0..REPETITIONS {
        if repetition % 2 == 0 {
            samples.serve(program, home, model).await?;
        }
        let launch = samples.launch(launched, site, model, threads);
        tokio::time::timeout(LAUNCH_WITHIN, launch).await.context("the bare browser did not answer")??;
        if repetition % 2 == 1 {
            samples.serve(program, home, model).await?;
        }
    }
    Ok(samples)
}

impl Samples {
    async fn serve(&mut self, program: &Path, home: &Path, model: &Model) -> anyhow::Result<()> {
        let frame = model.frame(0);
        let started = Instant::now();
        let daemon = Daemon::start(program, home).await?;
        let listening = started.elapsed();
        let (_, answer) = Wire::connect(&daemon.socket()).await?.exchange(frame).await?;
        let took = started.elapsed();
        let answer = Answer::read(&answer)?;
        ensure!(answer.told("verdict") == "verified", "the home holds no verdict");
        daemon.stop().await?;
        self.daemon.push(took.as_micros() as u64);
        self.listening.push(listening.as_micros() as u64);
        Ok(())
    }

    async fn launch(
        &mut self,
        launched: &Launched,
        site: &mut Site,
        model: &Model,
        threads: u64,
    ) -> anyhow::Result<()> {
        let profile = tempfile::tempdir()?;
        let frames = [model.frame(0)];
        let started = Instant::now();
        let mut child = Command::new(&launched.program)
            .args(launched.arguments(profile.path()))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .process_group(0)
            .kill_on_drop(true)
            .spawn()
            .context("launching the browser bare")?;
        let group = Pid::from_raw(i32::try_from(child.id().context("the browser has just been started")?)?);
        let mut lines = BufReader::new(child.stderr.take().context("stderr was piped")?).lines();
        let address = loop {
            let line = lines.next_line().await?.context("the browser ended before it could be steered")?;
            if let Some(address) = line.strip_prefix(ANNOUNCEMENT) {
                break address.to_owned();
            }
        };
        let _session = navigate(address, &site.loop_page(&model.name, threads)).await?;
        let navigated = started.elapsed();
        let mut worker = LoopWorker::start(site.linked().await?, &frames).await?;
        worker.run(1).await?;
        let took = started.elapsed();
        killpg(group, Signal::SIGTERM)?;
        child.wait().await?;
        self.bare.push(took.as_micros() as u64);
        self.navigated.push(navigated.as_micros() as u64);
        Ok(())
    }

    pub(crate) fn summary(&self) -> Summary {
        let float = |series: &[u64]| series.iter().map(|micros| *micros as f64).collect::<Vec<_>>();
        let (daemon, bare) = (float(&self.daemon), float(&self.bare));
        let pairs: Vec<_> = daemon.iter().copied().zip(bare.iter().copied()).collect();
        let ms = |series: &[f64]| median(series) / 1000.0;
        Summary {
            ratio: ratio(&pairs, median, 1, SEED),
            daemon_ms: ms(&daemon),
            listening_ms: ms(&float(&self.listening)),
            bare_ms: ms(&bare),
            navigated_ms: ms(&float(&self.navigated)),
        }
    }
}

/// Sends the page that the browser has started with to `url`; the session lasts as long as what is answered.
async fn navigate(address: String, url: &str) -> anyhow::Result<JoinSet<()>> {
    let (browser, mut handler) = Browser::connect(address).await?;
    // Before anything is read, so that the page is not missed.
    let mut attached = browser.event_listener::<EventAttachedToTarget>().await?;
    let mut driving = JoinSet::new();
    driving.spawn(async move { while handler.next().await.is_some() {} });
    let page = loop {
        let event = attached.next().await.context("the browser has no page")?;
        if event.target_info.r#type == "page" {
            break browser.get_page(event.target_info.target_id.clone()).await?;
        }
    };
    // The library would halt each new Worker and be told of every request.
    let apart =
        SetAutoAttachParams::builder().auto_attach(false).wait_for_debugger_on_start(false).flatten(true);
    let apart = apart.build().map_err(anyhow::Error::msg)?;
    tokio::try_join!(page.execute(apart), page.execute(network::DisableParams::default()))?;
    page.execute(NavigateParams::new(url)).await?;
    Ok(driving)
}
