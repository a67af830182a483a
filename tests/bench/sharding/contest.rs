//! Who answers most with eight requests in flight: a pipeline, whole models in the same lanes, one lane; round by round.

use std::{path::Path, time::Duration};

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

/// A pipeline is to answer so much of what whole models in its lanes do at the same time.
const SHARE_LEAST: f64 = 0.9;

const SEED: u64 = 53;

/// Lanes of one thread each: two that are alike, and the daemon's own.
pub(super) const ALIKE: [&str; 2] = ["chromium-1/wasm", "chromium-2/wasm"];
pub(super) const NATIVE: &str = "native/ort-cpu";

/// The same browser without V8's optimising compiler of WASM: the same code runs at a fraction of its speed.
const SLOW: &str = "chromium-slow";
const SLOW_FLAG: &str = "--js-flags=--liftoff-only";
const UNLIKE: [&str; 2] = ["chromium-1/wasm", "chromium-slow-1/wasm"];

/// Answers per second, an entry per round.
#[derive(Serialize)]
pub(super) struct Samples {
    /// Two stages in two lanes that are alike.
    alike: Vec<f64>,
    replicas: Vec<f64>,
    one: Vec<f64>,
    /// Two stages in two browsers' lanes of which one is slower, and in the native lane and a browser's.
    unlike: Unlike,
    natively: Unlike,
    /// Microseconds of requests under the first plan that were alone.
    alike_alone: Vec<u64>,
    forecast: Forecast,
}

/// Two lanes that are not alike.
#[derive(Serialize)]
struct Unlike {
    /// Answers per second of two stages in them, of the whole in both at once, and in either alone.
    plan: Vec<f64>,
    both: Vec<f64>,
    fast: Vec<f64>,
    slow: Vec<f64>,
    alone: Vec<u64>,
    forecast: Forecast,
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

pub(super) async fn measure(program: &Path, pool: &Pool, model: &Model) -> anyhow::Result<(Origin, Samples)> {
    let alike = plans::pipeline(pool, model, &ALIKE).await?;
    let one = plans::alone(pool, model, ALIKE[0]).await?;
    let sides = [plans::under(&alike.id), whole_in(&[BROWSER]), plans::under(&one.id)];
    let (origin, [alike_rates, replicas, one]) = rates(pool, model, sides).await?;
    let samples = Samples {
        alike: alike_rates,
        replicas,
        one,
        unlike: slower(program, model).await?,
        natively: Unlike::measure(pool, model, [NATIVE, ALIKE[0]], whole_in(&["native", BROWSER])).await?,
        alike_alone: totals(pool, model, &alike).await?,
        forecast: alike.forecast,
    };
    Ok((origin, samples))
}

/// The whole model in whichever of these browsers' lanes answers first.
fn whole_in(browsers: &[&str]) -> Value {
    json!({
        "browser": browsers, "backend": [BACKEND, "ort-cpu"], "policy": "fastest", "fallback": "none",
        "binary_data_output": true, "timeout": TIMEOUT_US,
    })
}

/// Two browsers of which one computes more slowly, in a daemon of their own.
async fn slower(program: &Path, model: &Model) -> anyhow::Result<Unlike> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("browsers/chromium.toml");
    let usual = std::fs::read_to_string(path)?;
    let recipe = usual
        .replace(&format!("name = \"{BROWSER}\""), &format!("name = \"{SLOW}\""))
        .replace("flags = [\"--headless=new\"]", &format!("flags = [\"--headless=new\", \"{SLOW_FLAG}\"]"));
    ensure!(recipe.contains(SLOW) && recipe.contains(SLOW_FLAG), "the recipe of {BROWSER} has changed");
    let browsers = [(BROWSER, 1), (SLOW, 1)];
    let pool = Pool::start_all(program, &[(SLOW, recipe)], &browsers, super::CONFIG).await?;
    super::add(&pool, model).await?;
    pool.prove(&Model { browser: SLOW, ..model.clone() }).await?;
    let unlike = Unlike::measure(&pool, model, UNLIKE, whole_in(&[BROWSER, SLOW])).await?;
    pool.daemon.stop().await?;
    Ok(unlike)
}

/// Answers per second of all sides, round by round in turns.
async fn rates<const SIDES: usize>(
    pool: &Pool,
    model: &Model,
    parameters: [Value; SIDES],
) -> anyhow::Result<(Origin, [Vec<f64>; SIDES])> {
    let mut sides = Vec::new();
    for parameters in parameters {
        sides.push(Side::new(pool, model, parameters).await?);
    }
    let mut rates = [const { Vec::new() }; SIDES];
    let mut origin = None;
    for round in 0..=ROUNDS {
        for turn in 0..SIDES {
            let at = (round + turn) % SIDES;
            let (rate, answer) = sides[at].round().await?;
            origin.get_or_insert_with(|| Origin::of(&answer));
            // The first round warms everything up.
            if round > 0 {
                rates[at].push(rate);
            }
        }
    }
    Ok((origin.context("some round was measured")?, rates))
}

/// Microseconds of requests that are alone.
async fn totals(pool: &Pool, model: &Model, plan: &Made) -> anyhow::Result<Vec<u64>> {
    let answers = plans::ask(pool, model, &plans::under(&plan.id), ALONE).await?;
    Ok(answers.iter().map(|answer| answer.timing.total).collect())
}

impl Unlike {
    /// In two lanes, the faster one first.
    async fn measure(pool: &Pool, model: &Model, lanes: [&str; 2], both: Value) -> anyhow::Result<Self> {
        let made = plans::pipeline(pool, model, &lanes).await?;
        let [fast, slow] = lanes;
        let (fast, slow) = (plans::alone(pool, model, fast).await?, plans::alone(pool, model, slow).await?);
        let [plan, fast, slow] = [&made, &fast, &slow].map(|plan| plans::under(&plan.id));
        let (_, [plan, both, fast, slow]) = rates(pool, model, [plan, both, fast, slow]).await?;
        let alone = totals(pool, model, &made).await?;
        Ok(Self { plan, both, fast, slow, alone, forecast: made.forecast })
    }
}

impl Samples {
    pub(super) fn forecasts(&self) -> [&Forecast; 3] {
        [&self.forecast, &self.unlike.forecast, &self.natively.forecast]
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
                (&self.unlike.plan, &self.unlike.both),
                "the whole in each",
                Some(SHARE_LEAST),
            ),
            line(
                "two stages in the native lane and a browser's",
                (&self.natively.plan, &self.natively.both),
                "the whole in each",
                None,
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
        let (unlike, natively) = (&self.unlike, &self.natively);
        let mut notes: Vec<_> = [
            ("alike", &self.forecast, self.alike.as_slice(), self.alike_alone.as_slice()),
            ("unlike", &unlike.forecast, &unlike.plan, &unlike.alone),
            ("of which one is native", &natively.forecast, &natively.plan, &natively.alone),
        ]
        .map(note)
        .into();
        notes.push(format!(
            "the whole in one lane, per second: natively {:.1}, in a browser {:.1}, in one with {SLOW_FLAG} {:.1}",
            median(&natively.fast),
            median(&unlike.fast),
            median(&unlike.slow)
        ));
        notes
    }
}

fn compared(found: &[f64], bound: &[f64]) -> Ratio {
    let pairs: Vec<_> = found.iter().copied().zip(bound.iter().copied()).collect();
    ratio(&pairs, median, 1, SEED)
}
