//! A split in words.

use serde_json::Value;

use super::{super::output, text};

/// Of a stage: what it is, where, and what it takes.
const STAGE: [&str; 8] = ["stage", "lanes", "units", "weights", "in", "out", "compute", "transfer"];

pub(super) fn show(split: &Value, explain: bool) {
    let stages: Vec<_> = split["stages"].as_array().into_iter().flatten().collect();
    let (name, shape) = (text(&split["name"]), text(&split["shape"]));
    output::line(&format!("{name}, {} units: {shape}, {} stages", split["units"], stages.len()));
    let rows: Vec<_> = stages.iter().enumerate().map(|(at, stage)| row(at, stage)).collect();
    output::table(&STAGE, &rows);
    let forecast = &split["forecast"];
    let by = if forecast["measured"] == true { "measured speeds" } else { "guessed speeds" };
    output::line(&format!(
        "forecast by {by}: one request {}, {:.1} requests/s",
        time(&forecast["latency_us"]["value"]),
        forecast["per_second"]["value"].as_f64().unwrap_or_default()
    ));
    output::line(&text(&split["why"]["sentence"]));
    if explain {
        explained(split);
    }
}

fn row(at: usize, stage: &Value) -> Vec<String> {
    let lanes: Vec<_> = stage["lanes"].as_array().into_iter().flatten().map(text).collect();
    vec![
        at.to_string(),
        lanes.join(", "),
        units(stage),
        bytes(&stage["weight_bytes"]),
        bytes(&stage["bytes_in"]),
        bytes(&stage["bytes_out"]),
        time(&stage["compute_us"]["value"]),
        time(&stage["transfer_us"]["value"]),
    ]
}

/// What it was compared with, and what no split can beat.
fn explained(split: &Value) {
    let of = |other: &Value| {
        let cost = match other["refused"].as_str() {
            Some(reason) => reason.to_owned(),
            None => time(&other["cost_us"]),
        };
        vec![text(&other["shape"]), cost]
    };
    let rows: Vec<_> = split["alternatives"].as_array().into_iter().flatten().map(of).collect();
    output::table(&["considered", "cost by the objective"], &rows);
    let bound = &split["bound"];
    output::line(&format!(
        "no split costs less than {}; this one costs {}, {:.0} % more",
        time(&bound["cost_us"]),
        time(&split["forecast"]["cost_us"]["value"]),
        100.0 * bound["gap"].as_f64().unwrap_or_default()
    ));
}

/// As `0-40, 52`, ends included.
pub(super) fn units(stage: &Value) -> String {
    let run = |run: &Value| match (run["from"].as_u64(), run["to"].as_u64()) {
        (Some(from), Some(to)) if to > from + 1 => format!("{from}-{}", to - 1),
        (Some(from), _) => from.to_string(),
        _ => "-".to_owned(),
    };
    stage["units"].as_array().into_iter().flatten().map(run).collect::<Vec<_>>().join(", ")
}

/// Microseconds, for people.
pub(super) fn time(us: &Value) -> String {
    match us.as_f64() {
        None => "-".to_owned(),
        Some(us) if us >= 1e6 => format!("{:.2} s", us / 1e6),
        Some(us) if us >= 1e3 => format!("{:.1} ms", us / 1e3),
        Some(us) => format!("{us:.0} µs"),
    }
}

/// Bytes, for people.
pub(super) fn bytes(bytes: &Value) -> String {
    match bytes.as_f64() {
        None => "-".to_owned(),
        Some(bytes) if bytes >= 1e6 => format!("{:.1} MB", bytes / 1e6),
        Some(bytes) if bytes >= 1e3 => format!("{:.1} kB", bytes / 1e3),
        Some(bytes) => format!("{bytes:.0} B"),
    }
}
