//! What the daemon adds to a small request, against the relay, pair by pair.

use anyhow::ensure;
use rand::{RngExt, SeedableRng, rngs::StdRng};
use serde::Serialize;

use crate::{
    report::Target,
    requests::Model,
    statistics::{Ratio, median, quantile, ratio},
    wire::{Answer, Wire},
};

const PAIRS: usize = 6000;

/// The first answers pay for code that browser and lane still compile; its traces are gone after some 500.
const WARM_UP: usize = 1000;

/// About a tenth of a second: shorter than the moods of a shared machine, long enough to hold a whole one of its slices.
const BLOCK: usize = 60;

/// Fixed, so that a second run differs by the machine alone.
const SEED: u64 = 1;

/// Microseconds, one entry per pair.
#[derive(Default, Serialize)]
pub(crate) struct Samples {
    /// The client's total less the lane's `compute`.
    added: Vec<u64>,
    echo: Vec<u64>,
    compute: Vec<u64>,
    queue: Vec<u64>,
    transfer: Vec<u64>,
    /// Decoding and encoding in the lane.
    codec: Vec<u64>,
    /// What the daemon itself saw from acceptance to answer.
    daemon: Vec<u64>,
}

#[derive(Serialize)]
pub(crate) struct Summary {
    pub(crate) median: Ratio,
    pub(crate) p99: Ratio,
    pub(crate) added_median_us: f64,
    pub(crate) added_p99_us: f64,
    pub(crate) echo_median_us: f64,
    pub(crate) echo_p99_us: f64,
    /// Medians of where a request's time went; the client's part is its total less the daemon's.
    pub(crate) queue_us: f64,
    pub(crate) transfer_us: f64,
    pub(crate) codec_us: f64,
    pub(crate) compute_us: f64,
    pub(crate) client_us: f64,
}

pub(crate) async fn measure(daemon: &mut Wire, relay: &mut Wire, model: &Model) -> anyhow::Result<Samples> {
    let mut random = StdRng::seed_from_u64(SEED);
    let mut samples = Samples::default();
    for pair in 0..WARM_UP + PAIRS {
        let frame = model.frame(pair);
        let daemon_first = random.random::<bool>();
        let mut echo = 0;
        if !daemon_first {
            echo = echoed(relay, &frame).await?;
        }
        let (total, answer) = daemon.exchange(frame.clone()).await?;
        if daemon_first {
            echo = echoed(relay, &frame).await?;
        }
        let answer = Answer::read(&answer)?;
        ensure!(answer.id == pair.to_string(), "request {pair} was answered as {}", answer.id);
        if pair >= WARM_UP {
            samples.keep(total.as_micros() as u64, echo, &answer);
        }
    }
    Ok(samples)
}

async fn echoed(relay: &mut Wire, frame: &bytes::Bytes) -> anyhow::Result<u64> {
    let (took, answer) = relay.exchange(frame.clone()).await?;
    ensure!(answer == *frame, "the relay changed a frame");
    Ok(took.as_micros() as u64)
}

impl Samples {
    fn keep(&mut self, total: u64, echo: u64, answer: &Answer) {
        let timing = answer.timing;
        self.added.push(total.saturating_sub(timing.compute));
        self.echo.push(echo);
        self.compute.push(timing.compute);
        self.queue.push(timing.queue);
        self.transfer.push(timing.transfer);
        self.codec.push(timing.decode + timing.encode);
        self.daemon.push(timing.total);
    }

    pub(crate) fn summary(&self) -> Summary {
        let [added, echo, compute, queue, transfer, codec, daemon] =
            [&self.added, &self.echo, &self.compute, &self.queue, &self.transfer, &self.codec, &self.daemon]
                .map(|series| series.iter().map(|micros| *micros as f64).collect::<Vec<_>>());
        let pairs: Vec<_> = added.iter().copied().zip(echo.iter().copied()).collect();
        let p99 = |series: &[f64]| quantile(series, 0.99);
        let client: Vec<_> = added
            .iter()
            .zip(&compute)
            .zip(&daemon)
            .map(|((added, compute), daemon)| added + compute - daemon)
            .collect();
        Summary {
            median: ratio(&pairs, median, BLOCK, SEED),
            p99: ratio(&pairs, p99, BLOCK, SEED),
            added_median_us: median(&added),
            added_p99_us: p99(&added),
            echo_median_us: median(&echo),
            echo_p99_us: p99(&echo),
            queue_us: median(&queue),
            transfer_us: median(&transfer),
            codec_us: median(&codec),
            compute_us: median(&compute),
            client_us: median(&client),
        }
    }
}

impl Summary {
    pub(crate) fn targets(&self) -> Vec<Target> {
        vec![
            Target {
                what: "added to silero-vad, median".to_owned(),
                found: format!("{:.0} µs", self.added_median_us),
                bound: format!("echo {:.0} µs", self.echo_median_us),
                ratio: self.median,
                wanted: "interval ≤ 1.30".to_owned(),
                met: Some(self.median.high <= 1.3),
            },
            Target {
                what: "added to silero-vad, p99".to_owned(),
                found: format!("{:.0} µs", self.added_p99_us),
                bound: format!("echo {:.0} µs", self.echo_p99_us),
                ratio: self.p99,
                wanted: "≤ 1.50".to_owned(),
                met: Some(self.p99.value <= 1.5),
            },
        ]
    }
}
