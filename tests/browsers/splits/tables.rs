//! The tables of `docs/sharding.md`, made of what `make prove` has measured.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::{SLICES, slice, timing};

const ENGINES: [&str; 4] = ["chromium", "firefox", "webkitgtk", "native"];

/// Of a forecast's throughput, what still counts as near.
const NEAR: f64 = 0.15;

#[test]
fn the_document_has_what_was_measured() {
    let text = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/sharding.md")).unwrap();
    let slices: Vec<Value> =
        SLICES.iter().filter_map(|(subject, lanes)| read(&slice::file(subject, lanes))).collect();
    let wanted = [answers(&slices), refusals(&slices), weights(&slices)];
    let missing: Vec<_> =
        wanted.into_iter().chain(forecasts()).filter(|table| !text.contains(table.as_str())).collect();
    assert!(missing.is_empty(), "docs/sharding.md lacks\n\n{}", missing.join("\n"));
}

fn read(file: &std::path::Path) -> Option<Value> {
    serde_json::from_slice(&std::fs::read(file).ok()?).ok()
}

fn table(heads: &[&str], rows: impl Iterator<Item = Vec<String>>) -> String {
    let line = |cells: &[String]| format!("| {} |\n", cells.join(" | "));
    let heads: Vec<_> = heads.iter().map(|head| (*head).to_owned()).collect();
    let rule = vec!["---".to_owned(); heads.len()];
    [heads, rule].into_iter().chain(rows).map(|cells| line(&cells)).collect()
}

fn rows(slice: &Value) -> &[Value] {
    slice["rows"].as_array().unwrap()
}

fn stages(row: &Value) -> impl Iterator<Item = &Value> {
    row["stages"].as_array().into_iter().flatten()
}

fn backends(slice: &Value) -> String {
    let lanes = slice["lanes"].as_array().unwrap().iter().filter_map(Value::as_str);
    let backends: BTreeSet<_> =
        lanes.filter(|lane| !lane.starts_with("native")).filter_map(|lane| lane.split('/').nth(1)).collect();
    backends.into_iter().collect::<Vec<_>>().join(", ")
}

fn megabytes(bytes: f64) -> String {
    if bytes < 1e6 { format!("{:.0} kB", bytes / 1e3) } else { format!("{:.1} MB", bytes / 1e6) }
}

/// The largest difference by engine: of all splits of which a stage ran there.
fn answers(slices: &[Value]) -> String {
    let row = |slice: &Value| {
        let worst = |engine: &str| {
            let ran = |row: &&Value| {
                row["ran"]
                    .as_array()
                    .into_iter()
                    .flatten()
                    .any(|lane| lane.as_str().unwrap().starts_with(engine))
            };
            let errors: Vec<_> =
                rows(slice).iter().filter(ran).filter_map(|row| row["error"].as_f64()).collect();
            if errors.is_empty() {
                "-".to_owned()
            } else {
                format!("{:.1e}", errors.into_iter().fold(0.0, f64::max))
            }
        };
        let answered = rows(slice).iter().filter(|row| row["error"].is_number()).count();
        let figures = [
            slice["model"].as_str().unwrap().to_owned(),
            slice["nodes"].to_string(),
            megabytes(slice["parameter_bytes"].as_f64().unwrap()),
            backends(slice),
            slice["sizes"].as_array().unwrap().len().to_string(),
            answered.to_string(),
            (rows(slice).len() - answered).to_string(),
        ];
        figures.into_iter().chain(ENGINES.map(worst)).collect()
    };
    let heads = ["model", "nodes", "weights", "backend", "inputs", "splits", "refused"];
    let heads = [heads.as_slice(), &["Chromium", "Firefox", "WebKitGTK", "native"]].concat();
    table(&heads, slices.iter().map(row))
}

/// What was refused: why, and of which models.
fn refusals(slices: &[Value]) -> String {
    let mut refused: BTreeMap<(String, String), BTreeMap<String, usize>> = BTreeMap::new();
    for slice in slices {
        let model = format!("{} ({})", slice["model"].as_str().unwrap(), backends(slice));
        for row in rows(slice).iter().filter(|row| row["refused"].is_object()) {
            let reason = (row["split"]["strategy"].as_str().unwrap().to_owned(), why(row, slice));
            *refused.entry(reason).or_default().entry(model.clone()).or_default() += 1;
        }
    }
    let told = |((strategy, why), models): (&(String, String), &BTreeMap<String, usize>)| {
        let models = models.iter().map(|(model, times)| match times {
            1 => model.clone(),
            times => format!("{model} {times} times"),
        });
        vec![format!("`{strategy}`"), why.clone(), models.collect::<Vec<_>>().join(", ")]
    };
    table(&["strategy", "refused because", "models"], refused.iter().map(told))
}

/// A refusal without what differs between two of the same kind.
fn why(row: &Value, slice: &Value) -> String {
    let refused = &row["refused"];
    let detail = refused["detail"].as_str().or(refused["message"].as_str()).unwrap_or_default();
    let detail = detail.rsplit_once("these lanes: ").map_or(detail, |(_, reason)| reason);
    let model = slice["model"].as_str().unwrap();
    // Lanes, shards and values have names of their own, and sentences begin with them.
    let named = |word: &&str| !word.contains(['/', '.']);
    let short = detail.split([';', ',']).next().unwrap_or_default().replace(model, "the model");
    let short =
        short.split(": ").next().unwrap_or_default().split(' ').filter(named).collect::<Vec<_>>().join(" ");
    format!("`{}`: {short}", refused["code"].as_str().unwrap_or_default())
}

/// What browsers held of shards, and what came to them.
fn weights(slices: &[Value]) -> String {
    let row = |slice: &Value| {
        let all = slice["weights"].as_array().unwrap();
        let sum = |of: &str| all.iter().map(|shard| shard[of].as_f64().unwrap()).sum::<f64>();
        let other = all.iter().filter(|shard| shard["shard"].is_null()).count();
        let split = rows(slice).iter().filter(|row| row["error"].is_number());
        let largest = split.flat_map(stages).filter_map(|stage| stage["bytes"].as_f64()).fold(0.0, f64::max);
        vec![
            slice["model"].as_str().unwrap().to_owned(),
            backends(slice),
            megabytes(slice["bytes"].as_f64().unwrap()),
            megabytes(largest),
            (all.len() - other).to_string(),
            format!("{:.0}", sum("bytes")),
            format!("{:.0}", sum("served")),
            other.to_string(),
        ]
    };
    let heads = [
        "model",
        "backend",
        "whole",
        "largest shard",
        "shards in browsers",
        "their bytes",
        "served",
        "other files",
    ];
    table(&heads, slices.iter().map(row))
}

/// How near forecasts were, of machines that did nothing else.
fn forecasts() -> Option<String> {
    let slices: Vec<_> = timing::known().collect();
    let row = |slice: &Value| {
        let figures: Vec<_> = rows(slice).iter().map(Held::of).collect();
        let near = figures.iter().filter(|held| held.off.abs() <= NEAR).count();
        let mut off: Vec<_> = figures.iter().map(|held| held.off.abs()).collect();
        let mut spread: Vec<_> = figures.iter().map(|held| held.spread).collect();
        vec![
            slice["model"].as_str().unwrap().to_owned(),
            format!("{near} of {}", figures.len()),
            format!("{:.0} %", 100.0 * median(&mut off)),
            format!("{:.0} %", 100.0 * median(&mut spread)),
        ]
    };
    let heads = ["model", "plans within 15 %", "median error", "median spread over rounds"];
    (!slices.is_empty()).then(|| table(&heads, slices.iter().map(row)))
}

/// A plan's throughput against its forecast.
struct Held {
    /// By how much the median of the rounds is over the forecast.
    off: f64,
    /// Between the slowest and the fastest round, as a share of the median.
    spread: f64,
}

impl Held {
    fn of(row: &Value) -> Self {
        let per_second =
            |round: &Value| round["answers"].as_f64().unwrap() * 1e6 / round["together_us"].as_f64().unwrap();
        let mut rounds: Vec<_> = row["rounds"].as_array().unwrap().iter().map(per_second).collect();
        let middle = median(&mut rounds);
        let forecast = row["forecast"]["per_second"]["value"].as_f64().unwrap();
        Self { off: middle / forecast - 1.0, spread: (rounds[rounds.len() - 1] - rounds[0]) / middle }
    }
}

/// Sorts them.
fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}
