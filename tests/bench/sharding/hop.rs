//! What the daemon does between a stage's result and the next stage's request, by its own clock, and the same as it is
//! seen from between the lanes and the daemon.
//!
//! Of a request's time within the daemon, what its lanes did not have is the daemon's own: a plan of two stages adds a
//! hop to that of the whole model, which takes and makes as many bytes.

use anyhow::{Context, ensure};
use rand::{RngExt, SeedableRng, rngs::StdRng};
use serde::Serialize;
use serde_json::json;
use weft::domain::Timing;

use super::{contest::ALIKE, plans};
use crate::{
    pool::{Pool, limit},
    proxy::Proxy,
    report::Target,
    requests::{BACKEND, BROWSER, Model, TIMEOUT_US},
    statistics::{median, quantile},
    wire::{Answer, Wire},
};

const PAIRS: usize = 1500;
const WARM_UP: usize = 200;
const MOST_US: f64 = 100.0;
const SEED: u64 = 54;

/// Microseconds, an entry per pair.
#[derive(Default, Serialize)]
pub(super) struct Samples {
    /// The daemon's own part of a request of the whole model, and of one under a plan of two stages.
    whole: Vec<u64>,
    staged: Vec<u64>,
    /// From the whole frame of the first stage's result to that of the second's request, where a proxy saw them.
    wire: Vec<u64>,
}

pub(super) async fn measure(pool: &Pool, proxy: &Proxy, model: &Model) -> anyhow::Result<Samples> {
    let order = plans::order(model, "pipeline", &ALIKE);
    let plan = plans::forecast_and_made(pool, &order).await?;
    let whole = json!({
        "browser": BROWSER, "backend": BACKEND, "fallback": "none", "binary_data_output": true,
        "timeout": TIMEOUT_US,
    });
    let staged = plans::under(&plan.id);
    let mut wire = Wire::connect(&pool.daemon.socket()).await?;
    let (mut samples, mut random) = (Samples::default(), StdRng::seed_from_u64(SEED));
    for number in 0..WARM_UP + PAIRS {
        let first: bool = random.random();
        let mut own = [0, 0];
        for at in [usize::from(first), usize::from(!first)] {
            let parameters = if at == 0 { &whole } else { &staged };
            // What passes from here on belongs to this request.
            proxy.turns();
            let (_, answer) = wire.exchange(model.asking(number, parameters)).await?;
            let answer = Answer::read(&answer)?;
            own[at] = outside(answer.timing);
            if at == 1 && number >= WARM_UP {
                let turns = proxy.turns();
                let hop = turns.last().context("a second stage follows the first")?;
                ensure!(turns.len() <= 2, "{} turns in a request of two stages", turns.len());
                samples.wire.push(hop.as_micros() as u64);
            }
        }
        if number >= WARM_UP {
            samples.whole.push(own[0]);
            samples.staged.push(own[1]);
        }
    }
    Ok(samples)
}

/// What no lane had of a request's time.
fn outside(timing: Timing) -> u64 {
    let Timing { transfer, decode, compute, encode, total, .. } = timing;
    total.saturating_sub(transfer + decode + compute + encode)
}

impl Samples {
    fn hops(&self) -> Vec<f64> {
        self.staged.iter().zip(&self.whole).map(|(staged, whole)| *staged as f64 - *whole as f64).collect()
    }

    pub(super) fn targets(&self) -> Vec<Target> {
        let hops = self.hops();
        let line = limit(
            "the daemon's part of a hop of 64 KiB, median",
            (format!("{:.0} µs", median(&hops)), "100 µs"),
            (&hops, MOST_US),
            median,
        );
        vec![line]
    }

    pub(super) fn note(&self) -> String {
        let floats = |series: &[u64]| series.iter().map(|us| *us as f64).collect::<Vec<_>>();
        let (whole, staged, wire) = (floats(&self.whole), floats(&self.staged), floats(&self.wire));
        format!(
            "a hop in µs: p99 {:.0}; all that the daemon does for a request: {:.0} of the whole, {:.0} of two stages; \
             on the wire, with a proxy's part, {:.0}",
            quantile(&self.hops(), 0.99),
            median(&whole),
            median(&staged),
            median(&wire)
        )
    }
}
