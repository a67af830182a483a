//! What the daemon adds to a small request to the native lane, over HTTP and over the WebSocket, against an echo.

use std::path::Path;

use anyhow::{Context, ensure};
use bytes::Bytes;
use rand::{RngExt, SeedableRng, rngs::StdRng};
use serde::Serialize;
use serde_json::json;

use super::{
    floats,
    serving::{Serving, natively},
};
use crate::{
    http::Http,
    origin::Origin,
    progress,
    relay::{self, Relay},
    report::{Found, Target},
    requests::Model,
    statistics::{Ratio, median, quantile, ratio},
    wire::{Answer, Wire},
};

/// The model is too small to be shared among threads.
const CONFIG: &str = "[native]\nthreads = 1\n";

const PAIRS: usize = 3000;
const WARM_UP: usize = 500;

/// As for the browser's small requests.
const BLOCK: usize = 60;

const MOST: f64 = 4.0;
const SEED: u64 = 13;

/// Microseconds, one entry per pair.
#[derive(Serialize)]
struct Samples {
    protocol: &'static str,
    /// The client's total less the lane's `compute`.
    added: Vec<u64>,
    echo: Vec<u64>,
    compute: Vec<u64>,
    /// What the daemon itself saw from acceptance to answer.
    daemon: Vec<u64>,
}

#[derive(Serialize)]
struct Summary {
    protocol: &'static str,
    median: Ratio,
    added_median_us: f64,
    added_p99_us: f64,
    echo_median_us: f64,
    echo_p99_us: f64,
    compute_us: f64,
    daemon_us: f64,
}

pub(crate) async fn measure(program: &Path, model: &Model) -> anyhow::Result<Found> {
    let serving = Serving::native(program, CONFIG).await?;
    serving.add(model, &json!({})).await?;
    let relay = Relay::start().await?;
    progress("small requests to the native lane over HTTP against an echo");
    let mut over_http = OverHttp {
        daemon: Http::connect(&serving.daemon.url).await?,
        echo: Http::connect(&relay.url()).await?,
    };
    let (mut samples, mut origin) = (vec![Samples::of("HTTP")], None);
    pairs(model, &mut samples[0], async |frame, first| {
        let (took, answer, echo) = over_http.pair(&model.name, frame, first).await?;
        origin.get_or_insert_with(|| Origin::of(&answer));
        Ok((took, answer, echo))
    })
    .await?;
    progress("the same over the WebSocket");
    let mut daemon = Wire::connect(&serving.daemon.socket()).await?;
    let mut echo = Wire::connect(&relay.echo()).await?;
    samples.push(Samples::of("WebSocket"));
    pairs(model, &mut samples[1], async |frame, first| {
        let mut echoed = None;
        if !first {
            echoed = Some(echo.exchange(frame.clone()).await?);
        }
        let (took, answer) = daemon.exchange(frame.clone()).await?;
        let (echoed, back) = match echoed {
            Some(echoed) => echoed,
            None => echo.exchange(frame.clone()).await?,
        };
        ensure!(back == *frame, "the echo changed a frame");
        Ok((took.as_micros() as u64, Answer::read(&answer)?, echoed.as_micros() as u64))
    })
    .await?;
    serving.daemon.stop().await?;
    let summaries: Vec<_> = samples.iter().map(Samples::summary).collect();
    let targets = summaries.iter().map(|summary| summary.target(model)).collect();
    let notes = summaries.iter().map(Summary::note).collect();
    Found::new(origin.context("some request was answered")?, targets, notes, &summaries, &samples)
}

/// Both sides get the same request, in an order that chance decides.
async fn pairs(
    model: &Model,
    samples: &mut Samples,
    mut pair: impl AsyncFnMut(&Bytes, bool) -> anyhow::Result<(u64, Answer, u64)>,
) -> anyhow::Result<()> {
    let (mut random, parameters) = (StdRng::seed_from_u64(SEED), natively());
    for number in 0..WARM_UP + PAIRS {
        let frame = model.asking(number, &parameters);
        let (took, answer, echo) = pair(&frame, random.random()).await?;
        ensure!(answer.id == number.to_string(), "request {number} was answered as {}", answer.id);
        if number >= WARM_UP {
            samples.added.push(took.saturating_sub(answer.timing.compute));
            samples.echo.push(echo);
            samples.compute.push(answer.timing.compute);
            samples.daemon.push(answer.timing.total);
        }
    }
    Ok(())
}

struct OverHttp {
    daemon: Http,
    echo: Http,
}

impl OverHttp {
    async fn pair(&mut self, model: &str, frame: &Bytes, first: bool) -> anyhow::Result<(u64, Answer, u64)> {
        // The protocol's body is the WebSocket's frame without its first four bytes, which a header holds here.
        let (length, body) = frame.split_first_chunk().context("a frame begins with a length")?;
        let json = u32::from_le_bytes(*length) as usize;
        let request = self.daemon.post(&format!("/v2/models/{model}/infer"), body, Some(json));
        let same = self.echo.post(relay::ECHO_PATH, body, Some(json));
        let mut echoed = None;
        if !first {
            echoed = Some(self.echo.exchange(&same).await?);
        }
        let (took, answered) = self.daemon.exchange(&request).await?;
        let (echoed, back) = match echoed {
            Some(echoed) => echoed,
            None => self.echo.exchange(&same).await?,
        };
        ensure!(back.body == body, "the echo changed a body");
        let length = u32::try_from(answered.json)?.to_le_bytes();
        let answer = Answer::read(&[&length, &*answered.body].concat().into())?;
        Ok((took.as_micros() as u64, answer, echoed.as_micros() as u64))
    }
}

impl Samples {
    fn of(protocol: &'static str) -> Self {
        let empty = Vec::new;
        Self { protocol, added: empty(), echo: empty(), compute: empty(), daemon: empty() }
    }

    fn summary(&self) -> Summary {
        let [added, echo, compute, daemon] =
            [&self.added, &self.echo, &self.compute, &self.daemon].map(|series| floats(series));
        let pairs: Vec<_> = added.iter().copied().zip(echo.iter().copied()).collect();
        Summary {
            protocol: self.protocol,
            median: ratio(&pairs, median, BLOCK, SEED),
            added_median_us: median(&added),
            added_p99_us: quantile(&added, 0.99),
            echo_median_us: median(&echo),
            echo_p99_us: quantile(&echo, 0.99),
            compute_us: median(&compute),
            daemon_us: median(&daemon),
        }
    }
}

impl Summary {
    fn target(&self, model: &Model) -> Target {
        Target {
            what: format!("added to {} natively over {}, median", model.name, self.protocol),
            found: format!("{:.0} µs", self.added_median_us),
            bound: format!("echo {:.0} µs", self.echo_median_us),
            ratio: self.median,
            wanted: format!("interval ≤ {MOST:.2}"),
            met: Some(self.median.high <= MOST),
        }
    }

    fn note(&self) -> String {
        format!(
            "natively over {}, in µs: added p99 {:.0}, echo p99 {:.0}; medians within the daemon {:.0}, \
             of which compute {:.0}",
            self.protocol, self.added_p99_us, self.echo_p99_us, self.daemon_us, self.compute_us
        )
    }
}
