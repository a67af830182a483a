//! Recipes by layer within a budget of error.

use std::path::PathBuf;

use anyhow::Context;
use serde_json::{Value, json};

use super::gate;
use crate::cli::{Common, client::with_daemon, output};

/// What is wanted of a recipe.
pub(super) struct Order {
    pub(super) model: String,
    pub(super) error: f64,
    pub(super) precisions: Vec<String>,
    pub(super) inputs: Option<PathBuf>,
    pub(super) out: Option<PathBuf>,
}

impl Order {
    pub(super) async fn run(self, common: &Common) -> anyhow::Result<()> {
        let Self { model, error, precisions, inputs, out } = self;
        let order = json!({"model": model, "error": error, "precisions": precisions,
            "gate": gate(inputs.as_deref())?});
        output::progress(&format!("measuring each layer of {model} by itself; that takes a run for each …"));
        let tuned = with_daemon(common, async |client| client.post("/api/v1/tunings", &order).await).await?;
        if let (Some(path), Some(recipe)) = (&out, tuned["recipe"].as_str()) {
            std::fs::write(path, recipe).with_context(|| path.display().to_string())?;
        }
        if common.json {
            return output::json(&tuned);
        }
        told(&tuned);
        match (tuned["recipe"].as_str(), out) {
            (None, _) => output::line(&format!("no layer bears fewer bits within {error:.1e}")),
            (Some(_), Some(path)) => output::line(&format!(
                "`weft models convert {model} --precision @{} --name NAME` makes the variant",
                path.display()
            )),
            (Some(recipe), None) => output::line(&format!("\n{}", recipe.trim_end())),
        }
        Ok(())
    }
}

fn told(tuned: &Value) {
    let list = |key: &str| tuned[key].as_array().cloned().unwrap_or_default();
    let text = |of: &Value| of.as_str().unwrap_or("as it is").to_owned();
    let share = |of: &Value| of.as_f64().map_or_else(|| "-".to_owned(), |error| format!("{error:.1e}"));
    let layer = |layer: &Value| {
        let alone = layer["alone"].as_array().into_iter().flatten();
        let alone: Vec<_> =
            alone.map(|of| format!("{} {}", text(&of["precision"]), share(&of["error"]))).collect();
        let (name, elements) = (text(&layer["name"]), layer["elements"].to_string());
        vec![name, elements, alone.join(", "), text(&layer["chosen"])]
    };
    output::table(
        &["layer", "weights", "error alone", "chosen"],
        &list("layers").iter().map(layer).collect::<Vec<_>>(),
    );
    output::line("");
    let tried = |tried: &Value| {
        let bits = tried["bits_per_weight"].as_f64().unwrap_or_default();
        vec![text(&tried["what"]), tried["bytes"].to_string(), format!("{bits:.2}"), share(&tried["error"])]
    };
    let rows: Vec<_> = list("tried").iter().map(tried).collect();
    output::table(&["tried", "bytes", "bits per weight", "error"], &rows);
    let on = match tuned["data"].as_str() {
        Some("own") => "sets of inputs given for it",
        Some("given") => "sets of inputs that came with the model",
        _ => "sets of made-up inputs, which tell little of what the model is for",
    };
    output::line(&format!(
        "measured natively on {} {on}; by the recipe answers are off by {}",
        tuned["sets"],
        share(&tuned["error"])
    ));
}
