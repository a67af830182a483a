//! Who answers most with eight requests in flight: a pipeline, whole models in the same lanes, one lane; round by round.

use std::time::Duration;

use anyhow::{Context, ensure};
use serde::Serialize;
use serde_json::{Value, json};

use super::{
    IN_FLIGHT,
    plans::{self, Forecast, Made},
};
use crate::{
    load::closed::{self, Caller},
    origin::Origin,
    pool::Pool,
    report::Target,
    requests::{BACKEND, BROWSER, Model, TIMEOUT_US},
    statistics::{Ratio, median, ratio},
    wire::{Answer, Wire},
};

const ROUNDS: usize = 10;
const ROUND: Duration = Duration::from_millis(1500);
const LEAD: Duration = Duration::from_millis(300);

/// Requests that are alone, for the latency that was forecast.
const ALONE: usize = 40;

/// A pipeline is to answer so much of what whole models in its lanes do, or of what its unlike lanes do together.
const SHARE_LEAST: f64 = 0.9;

const SEED: u64 = 53;

/// Lanes of one thread each: two that are alike, and the daemon's own.
pub(super) const ALIKE: [&str; 2] = ["chromium-1/wasm", "chromium-2/wasm"];
pub(super) const NATIVE: &str = "native/ort-cpu";

/// Answers per second, an entry per round.
#[derive(Serialize)]
pub(super) struct Samples {
    /// Two stages in two lanes that are alike.
    alike: Vec<f64>,
    replicas: Vec<f64>,
    one: Vec<f64>,
    /// Two stages in the native lane and a browser's.
    unlike: Vec<f64>,
    native: Vec<f64>,
    /// Microseconds of requests under each plan that were alone.
    alike_alone: Vec<u64>,
    unlike_alone: Vec<u64>,
    forecasts: [Forecast; 2],
}

/// One way to have requests answered, with a connection of its own.
struct Side {
    parameters: Value,
    callers: Vec<Caller>,
}

impl Side {
    async fn new(pool: &Pool, model: &Model, parameters: Value) -> anyhow::Result<Self> {
        let wire = Wire::connect(&pool.daemon.socket()).await?;
        let caller = Caller::new(wire, IN_FLIGHT, |number| model.asking(number, &parameters));
        Ok(Self { parameters, callers: vec![caller] })
    }

    /// Answers per second in a round, and one of them.
    async fn round(&mut self) -> anyhow::Result<(f64, Answer)> {
        let ended = closed::round(std::mem::take(&mut self.callers), LEAD, ROUND).await?;
        let answers = ended.read(0)?;
        let away = answers.iter().find(|answer| !answer.provenance["fallback"].is_null());
        ensure!(away.is_none(), "an answer to {} came from elsewhere", self.parameters);
        let rate = ended.per_second();
        self.callers = ended.callers;
        Ok((rate, answers.into_iter().next_back().context("a round has answers")?))
    }
}

pub(super) async fn measure(pool: &Pool, model: &Model) -> anyhow::Result<(Origin, Samples)> {
    let alike = plans::pipeline(pool, model, &ALIKE).await?;
    let unlike = plans::pipeline(pool, model, &[NATIVE, ALIKE[0]]).await?;
    let one = plans::alone(pool, model, ALIKE[0]).await?;
    let natively = plans::alone(pool, model, NATIVE).await?;
    let replicas = json!({
        "browser": BROWSER, "backend": BACKEND, "fallback": "none", "binary_data_output": true,
        "timeout": TIMEOUT_US,
    });
    let under = |plan: &Made| plans::under(&plan.id);
    let mut sides = Vec::new();
    for parameters in [under(&alike), replicas, under(&one), under(&unlike), under(&natively)] {
        sides.push(Side::new(pool, model, parameters).await?);
    }
    let mut rates = vec![Vec::new(); sides.len()];
    let mut origin = None;
    for round in 0..=ROUNDS {
        for turn in 0..sides.len() {
            let at = (round + turn) % sides.len();
            let (rate, answer) = sides[at].round().await?;
            origin.get_or_insert_with(|| Origin::of(&answer));
            // The first round warms everything up.
            if round > 0 {
                rates[at].push(rate);
            }
        }
    }
    let totals = async |plan: &Made| -> anyhow::Result<Vec<u64>> {
        let answers = plans::ask(pool, model, &under(plan), ALONE).await?;
        Ok(answers.iter().map(|answer| answer.timing.total).collect())
    };
    let (alike_alone, unlike_alone) = (totals(&alike).await?, totals(&unlike).await?);
    let mut rates = rates.into_iter();
    let mut next = || rates.next().context("every side has its rates");
    let samples = Samples {
        alike: next()?,
        replicas: next()?,
        one: next()?,
        unlike: next()?,
        native: next()?,
        alike_alone,
        unlike_alone,
        forecasts: [alike.forecast, unlike.forecast],
    };
    Ok((origin.context("some round was measured")?, samples))
}

impl Samples {
    /// Of what both unlike lanes answer when each has the whole model and all requests.
    fn together(&self) -> Vec<f64> {
        self.native.iter().zip(&self.one).map(|(native, browser)| native + browser).collect()
    }

    pub(super) fn forecasts(&self) -> &[Forecast] {
        &self.forecasts
    }

    pub(super) fn targets(&self) -> Vec<Target> {
        let rate = |series: &[f64]| format!("{:.1}/s", median(series));
        let line = |what: &str, (found, bound): (&[f64], &[f64]), by: &str, least: Option<f64>| {
            let ratio = compared(found, bound);
            Target {
                what: what.to_owned(),
                found: rate(found),
                bound: format!("{by} {}", rate(bound)),
                ratio,
                wanted: least.map_or_else(String::new, |least| format!("≥ {least:.2}")),
                met: least.map(|least| ratio.value >= least),
            }
        };
        vec![
            line(
                "two stages in two lanes alike, 8 in flight",
                (&self.alike, &self.replicas),
                "the whole in each",
                Some(SHARE_LEAST),
            ),
            line("the same", (&self.alike, &self.one), "the whole in one", None),
            line(
                "two stages in two lanes unlike, 8 in flight",
                (&self.unlike, &self.together()),
                "both lanes' rates together",
                Some(SHARE_LEAST),
            ),
        ]
    }

    pub(super) fn notes(&self) -> Vec<String> {
        let note = |(what, forecast, rates, alone): (&str, &Forecast, &[f64], &[u64])| {
            let alone: Vec<_> = alone.iter().map(|us| *us as f64 / 1e3).collect();
            format!(
                "two lanes {what}: forecast {:.1}/s, measured {:.1}/s; one request {:.1} ms, measured {:.1} ms{}",
                forecast.per_second,
                median(rates),
                forecast.latency_us / 1e3,
                median(&alone),
                if forecast.measured { "" } else { "; the forecast rests on guesses" }
            )
        };
        let [alike, unlike] = &self.forecasts;
        let mut notes: Vec<_> = [
            ("alike", alike, self.alike.as_slice(), self.alike_alone.as_slice()),
            ("unlike", unlike, &self.unlike, &self.unlike_alone),
        ]
        .map(note)
        .into();
        notes.push(format!(
            "the whole in one lane, per second: natively {:.1}, in a browser {:.1}",
            median(&self.native),
            median(&self.one)
        ));
        notes
    }
}

fn compared(found: &[f64], bound: &[f64]) -> Ratio {
    let pairs: Vec<_> = found.iter().copied().zip(bound.iter().copied()).collect();
    ratio(&pairs, median, 1, SEED)
}
