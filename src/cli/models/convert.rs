//! Variants of models in other precisions.

use anyhow::Context;
use serde_json::{Value, json};

use super::told;
use crate::{
    cli::{Common, Misuse, client::with_daemon, output},
    domain::ModelName,
};

/// Makes a variant of a model and names it.
pub(super) async fn variant(
    common: &Common,
    model: &str,
    precision: &str,
    name: Option<&str>,
    tolerance: Option<f64>,
) -> anyhow::Result<()> {
    let order = match precision.strip_prefix('@') {
        Some(file) => {
            let recipe = std::fs::read_to_string(file).with_context(|| format!("the recipe {file}"))?;
            json!({"model": model, "recipe": recipe})
        }
        None => json!({"model": model, "precision": precision}),
    };
    let word = |c: char| if c.is_ascii_alphanumeric() || "-_.".contains(c) { c } else { '-' };
    let called = match name {
        Some(name) => name.to_owned(),
        None => format!("{model}-{}", precision.chars().map(word).collect::<String>().trim_matches('-')),
    };
    called.parse::<ModelName>().map_err(|error| Misuse(format!("{error}; say --name")))?;
    let (made, added) = with_daemon(common, async |client| {
        let made = client.post("/api/v1/conversions", &order).await?;
        let of = client.get(&format!("/api/v1/models/{model}")).await?;
        let item = &made["items"][0];
        let body = json!({
            "name": called, "digest": item["digest"], "files": item["files"], "kind": item["kind"],
            "source": made["source"], "revision": made["revision"], "licence": of["licence"],
            "tolerance": tolerance,
        });
        let added = client.post("/api/v1/models", &body).await.with_context(|| format!("adding {called}"))?;
        Ok((made, added))
    })
    .await?;
    let report = &made["items"][0]["report"];
    if common.json {
        return output::json(&json!({"model": added, "report": report}));
    }
    output::line(&told(&added));
    variant_told(report);
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
