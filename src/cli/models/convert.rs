//! Variants of models in other precisions.

use std::{fmt::Write as _, path::PathBuf};

use anyhow::Context;
use serde_json::{Value, json};

use super::{VERSION_SHOWN, gate, told};
use crate::{
    cli::{
        Common, Misuse,
        client::{Client, with_daemon},
        output,
    },
    domain::{Accuracy, Digest, FirstClass, MeasuredOn, ModelName, OutputAccuracy, Perplexity},
};

/// A variant that is wanted.
pub(super) struct Order {
    pub(super) model: String,
    pub(super) precision: String,
    pub(super) name: Option<String>,
    pub(super) tolerance: Option<f64>,
    pub(super) inputs: Option<PathBuf>,
}

impl Order {
    /// What requests are to call it.
    pub(super) fn called(&self) -> anyhow::Result<String> {
        let word = |c: char| if c.is_ascii_alphanumeric() || "-_.".contains(c) { c } else { '-' };
        let called = self.name.clone().unwrap_or_else(|| {
            let precision = self.precision.chars().map(word).collect::<String>();
            format!("{}-{}", self.model, precision.trim_matches('-'))
        });
        called.parse::<ModelName>().map_err(|error| Misuse(format!("{error}; say --name")))?;
        Ok(called)
    }

    /// Makes the variant and names it; answers with what was made and what was added.
    pub(super) async fn make(&self, client: &Client) -> anyhow::Result<(Value, Value)> {
        let (called, gate) = (self.called()?, gate(self.inputs.as_deref())?);
        let Self { model, precision, tolerance, .. } = self;
        let mut order = json!({"model": model, "gate": gate});
        match precision.strip_prefix('@') {
            Some(file) => {
                let recipe = std::fs::read_to_string(file).with_context(|| format!("the recipe {file}"))?;
                order["recipe"] = json!(recipe);
            }
            None => order["precision"] = json!(precision),
        }
        let made = client.post("/api/v1/conversions", &order).await?;
        let of = client.get(&format!("/api/v1/models/{model}")).await?;
        let item = &made["items"][0];
        let body = json!({
            "name": called, "digest": item["digest"], "files": item["files"], "kind": item["kind"],
            "source": made["source"], "revision": made["revision"], "licence": of["licence"],
            "tolerance": tolerance, "gate": gate,
        });
        let added = client.post("/api/v1/models", &body).await.with_context(|| format!("adding {called}"))?;
        Ok((made, added))
    }

    pub(super) async fn run(self, common: &Common) -> anyhow::Result<()> {
        self.called()?;
        let (made, added) = with_daemon(common, async |client| self.make(client).await).await?;
        let (report, accuracy) = (&made["items"][0]["report"], &made["items"][0]["accuracy"]);
        if common.json {
            return output::json(&json!({"model": added, "report": report, "accuracy": accuracy}));
        }
        output::line(&told(&added));
        variant_told(report);
        accuracy_told(accuracy)
    }
}

/// What a variant was made of, how small it is and how far off.
pub(super) fn shown(variant: &Value) -> anyhow::Result<()> {
    if variant.is_null() {
        return Ok(());
    }
    let bits = |key: &str| variant[key].as_f64().unwrap_or_default();
    output::line(&format!(
        "variant {} of {}: {} of {} bytes, {:.2} bits for each weight that was changed, {:.2} over all",
        variant["recipe"].as_str().unwrap_or("-"),
        variant["original"].as_str().unwrap_or("-").chars().take(VERSION_SHOWN).collect::<String>(),
        variant["bytes"],
        variant["original_bytes"],
        bits("bits_per_changed_weight"),
        bits("bits_per_weight"),
    ));
    accuracy_told(&variant["accuracy"])
}

/// How far a variant is off, on what.
fn accuracy_told(accuracy: &Value) -> anyhow::Result<()> {
    let Accuracy { reference, reference_precision, data, inputs, sets, outputs } =
        serde_json::from_value(accuracy.clone()).context("the daemon's accuracy cannot be read")?;
    let short = |digest: Digest| digest.to_string().chars().take(VERSION_SHOWN).collect::<String>();
    let as_it_is = reference_precision.unwrap_or_else(|| "no variant itself".to_owned());
    let data = match data {
        MeasuredOn::Own => "sets of inputs given for it",
        MeasuredOn::Given => "sets of inputs that came with the model",
        MeasuredOn::Seeded => "sets of made-up inputs, which tell little of what the model is for",
    };
    output::line(&format!(
        "measured natively against {} ({as_it_is}) on {sets} {data} ({})",
        short(reference),
        short(inputs)
    ));
    let figure = |value: Option<f64>| value.map_or("-".to_owned(), |value| format!("{value:.1e}"));
    let row = |output: OutputAccuracy| {
        let mut same = match (output.equal, output.first_class) {
            (Some(equal), _) => format!("{equal} of {} values", output.elements),
            (None, Some(FirstClass { rows, same })) => format!("{same} of {rows} first classes"),
            (None, None) => "-".to_owned(),
        };
        if let Some(Perplexity { tokens, reference, variant }) = output.perplexity {
            let _ = write!(same, ", perplexity {variant:.3} for {reference:.3} over {tokens} tokens");
        }
        let cosine = output.cosine.map_or("-".to_owned(), |cosine| format!("{cosine:.6}"));
        vec![output.name, figure(output.error), figure(output.rms_error), cosine, same]
    };
    let rows: Vec<_> = outputs.into_iter().map(row).collect();
    output::table(&["output", "error", "RMS error", "cosine", "the same"], &rows);
    Ok(())
}

fn variant_told(report: &Value) {
    let weights = |key: &str| report[key].as_array().map_or(&[][..], Vec::as_slice);
    let (changed, left) = (weights("changed"), weights("left"));
    let bits = |key: &str| report[key].as_f64().unwrap_or_default();
    let worst = changed.iter().filter_map(|changed| changed["error"].as_f64()).fold(0.0, f64::max);
    output::line(&format!(
        "{} of {} weights changed, {:.2} bits each with their scales, {:.2} over all, error at most {worst:.1e}; the \
         file went from {} to {} bytes",
        changed.len(),
        changed.len() + left.len(),
        bits("bits_per_changed_weight"),
        bits("bits_per_weight"),
        report["bytes_before"],
        report["bytes_after"],
    ));
}
