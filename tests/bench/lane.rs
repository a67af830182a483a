//! One lane in one browser beside the least that could be done instead: latency, throughput, a large tensor, a start.

use std::path::Path;

use anyhow::Context;
use serde::Serialize;

use crate::{
    FIXTURES, Models, cold,
    daemon::{Daemon, Launched},
    latency,
    origin::Origin,
    playwright, progress,
    relay::Relay,
    report::{Found, Target},
    requests::Model,
    site::{LoopWorker, Site},
    throughput, transfer,
    wire::{Answer, Wire},
};

/// One lane: another in the same browser would take its cores.
const CONFIG: &str = "[lanes]\nbackends = [\"wasm\"]\n";

#[derive(Serialize)]
struct Samples {
    latency: latency::Samples,
    playwright: playwright::Samples,
    throughput: Vec<throughput::Samples>,
    transfer: transfer::Samples,
    cold: cold::Samples,
}

#[derive(Serialize)]
struct Summary {
    latency: latency::Summary,
    playwright: playwright::Summary,
    throughput: Vec<throughput::Summary>,
    transfer: transfer::Summary,
    cold: cold::Summary,
}

pub(crate) async fn measure(program: &Path, models: &Models) -> anyhow::Result<Found> {
    let home = tempfile::tempdir().context("a throw-away home")?;
    let home = home.path();
    std::fs::write(home.join("weft.toml"), CONFIG)?;
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
    Samples { latency, playwright, throughput, transfer, cold }.found(origin)
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

impl Samples {
    fn found(&self, origin: Origin) -> anyhow::Result<Found> {
        let summary = Summary {
            latency: self.latency.summary(),
            playwright: self.playwright.summary(),
            throughput: self.throughput.iter().map(throughput::Samples::summary).collect(),
            transfer: self.transfer.summary(),
            cold: self.cold.summary(),
        };
        Found::new(origin, summary.targets(), summary.notes(), &summary, self)
    }
}

impl Summary {
    fn targets(&self) -> Vec<Target> {
        let Self { transfer, cold, .. } = self;
        let mut targets = self.latency.targets();
        targets.extend(self.throughput.iter().map(throughput::Summary::target));
        targets.push(Target {
            what: "16 MiB tensor there and back".to_owned(),
            found: format!("{:.0} MiB/s", transfer.moved_mib_per_s),
            bound: format!("echo {:.0} MiB/s", transfer.echo_mib_per_s),
            ratio: transfer.ratio,
            wanted: "≥ 0.80".to_owned(),
            met: Some(transfer.ratio.value >= 0.8),
        });
        targets.push(Target {
            what: "start to first answer".to_owned(),
            found: format!("{:.0} ms", cold.daemon_ms),
            bound: format!("bare {:.0} ms", cold.bare_ms),
            ratio: cold.ratio,
            wanted: "≤ 1.20".to_owned(),
            met: Some(cold.ratio.value <= 1.2),
        });
        targets
    }

    fn notes(&self) -> Vec<String> {
        let Self { latency, playwright, transfer, cold, .. } = self;
        vec![
            format!(
                "Playwright adds {:.0} µs to a request (median; p99 {:.0}), {:.1} times as much as weft",
                playwright.added_median,
                playwright.added_p99,
                playwright.added_median / latency.added_median_us
            ),
            format!(
                "a request's medians in µs: queue {:.0}, transfer {:.0}, decode and encode {:.0}, compute {:.0}; \
                 between client and daemon {:.0}",
                latency.queue_us,
                latency.transfer_us,
                latency.codec_us,
                latency.compute_us,
                latency.client_us
            ),
            format!(
                "the 16 MiB request's in ms: transfer {:.1}, decode and encode {:.1}, compute {:.1}; \
                 between client and daemon {:.1}",
                transfer.transfer_us / 1000.0,
                transfer.codec_us / 1000.0,
                transfer.compute_us / 1000.0,
                transfer.client_us / 1000.0
            ),
            format!(
                "starting: the daemon listens after {:.0} ms; the bare browser is navigated after {:.0} ms",
                cold.listening_ms, cold.navigated_ms
            ),
        ]
    }
}
