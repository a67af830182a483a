//! Plans that the daemon makes for the bench, and what it forecasts of them.

use anyhow::{Context, ensure};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::IN_FLIGHT;
use crate::{
    pool::Pool,
    requests::{Model, TIMEOUT_US},
    wire::{Answer, Wire},
};

/// Requests whose steps the forecast of the next plan rests on.
const SEEN: usize = 24;

/// What may run a stage whose lane is gone.
pub(super) const FALLBACK: &str = "native";

/// A plan as it was made, with what was forecast of it before.
pub(super) struct Made {
    pub(super) id: String,
    pub(super) forecast: Forecast,
}

/// What the daemon says before a plan is made, by what lanes took until then.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Forecast {
    pub(super) per_second: f64,
    pub(super) latency_us: f64,
    /// Whether all lanes and links of the plan had been measured.
    pub(super) measured: bool,
}

/// Splits a model by the forecast of many requests. What the lanes take is seen first, by even stages in them.
pub(super) async fn pipeline(pool: &Pool, model: &Model, lanes: &[&str]) -> anyhow::Result<Made> {
    let even = made(pool, &order(model, "even", lanes)).await?;
    ask(pool, model, &under(&even), SEEN).await?;
    forecast_and_made(pool, &order(model, "pipeline", lanes)).await
}

/// The whole model in one lane, as a plan of one stage.
pub(super) async fn alone(pool: &Pool, model: &Model, lane: &str) -> anyhow::Result<Made> {
    seen_and_made(pool, model, &order(model, "pipeline", &[lane])).await
}

/// Makes the plan first, so that what its stages take is known before it is forecast.
pub(super) async fn seen_and_made(pool: &Pool, model: &Model, order: &Value) -> anyhow::Result<Made> {
    let id = made(pool, order).await?;
    ask(pool, model, &under(&id), SEEN).await?;
    Ok(Made { id, forecast: forecast(pool, order).await? })
}

pub(super) async fn forecast_and_made(pool: &Pool, order: &Value) -> anyhow::Result<Made> {
    let forecast = forecast(pool, order).await?;
    Ok(Made { id: made(pool, order).await?, forecast })
}

pub(super) fn order(model: &Model, strategy: &str, lanes: &[&str]) -> Value {
    let objective = json!({"for": "throughput", "in_flight": IN_FLIGHT});
    let split = json!({
        "strategy": strategy, "stages": lanes.len(), "lanes": lanes, "objective": objective,
    });
    json!({"model": model.name, "split": split, "fallback": FALLBACK})
}

async fn made(pool: &Pool, order: &Value) -> anyhow::Result<String> {
    let plan = pool.post("/api/v1/plans", order).await?;
    Ok(plan["id"].as_str().with_context(|| format!("a plan's name in {plan}"))?.to_owned())
}

async fn forecast(pool: &Pool, order: &Value) -> anyhow::Result<Forecast> {
    let order = json!({"model": order["model"], "split": order["split"]});
    let answer = pool.post("/api/v1/plans/forecast", &order).await?;
    let told = &answer["forecast"];
    let value = |key: &str| told[key]["value"].as_f64().with_context(|| format!("{key} in {told}"));
    Ok(Forecast {
        per_second: value("per_second")?,
        latency_us: value("latency_us")?,
        measured: told["measured"] == true,
    })
}

/// What requests under a plan say.
pub(super) fn under(plan: &str) -> Value {
    json!({"plan": plan, "binary_data_output": true, "timeout": TIMEOUT_US})
}

/// One request after another; each answer, all of which came from where they were wanted.
pub(super) async fn ask(
    pool: &Pool,
    model: &Model,
    parameters: &Value,
    times: usize,
) -> anyhow::Result<Vec<Answer>> {
    let mut wire = Wire::connect(&pool.daemon.socket()).await?;
    let mut answers = Vec::with_capacity(times);
    for number in 0..times {
        let (_, answer) = wire.exchange(model.asking(number, parameters)).await?;
        let answer = Answer::read(&answer)?;
        ensure!(answer.provenance["fallback"].is_null(), "an answer from elsewhere: {}", answer.provenance);
        answers.push(answer);
    }
    Ok(answers)
}
