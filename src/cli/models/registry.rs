//! What the registry knows of a model, for people: what it is made of, what it costs, how it was verified and used.

use std::time::Duration;

use serde_json::Value;

use crate::cli::output;

/// Operators that are named; a model has some twenty kinds, of which a few do the work.
const OPERATORS_SHOWN: usize = 8;

pub(super) fn show(model: &Value) {
    if model["latest"] == false {
        output::line("an older version: its name stands for another file");
    }
    anatomy(&model["anatomy"]);
    output::line(&match model["last_used_ms"].as_i64() {
        None | Some(0) => "never used".to_owned(),
        Some(ms) => {
            format!("uses: {}, the last at {}", model["uses"], date(ms.saturating_mul(1000)))
        }
    });
    if let Some(task) = model["task"].as_str() {
        output::line(&format!("task {task}"));
    }
    if model["evicted"] == true {
        output::line("evicted: its files have made room for others, and are brought again when it is wanted");
    }
    if model["pinned"] == true {
        output::line("pinned: its files stay");
    }
    if let Some(plan) = model["plan"].as_str() {
        output::line(&format!("plan {plan} for requests with the plan auto"));
    }
    if let Some(reason) = model["unusable"].as_str() {
        output::line(&format!("unusable: {reason}"));
    }
    let stages: Vec<_> =
        model["verification"]["stages"].as_array().into_iter().flatten().map(stage).collect();
    if !stages.is_empty() {
        output::line(&format!("verified {}", date(model["verification"]["at_us"].as_i64().unwrap_or(0))));
        output::table(&["stage", "passed", "took", "what was seen"], &stages);
    }
}

fn anatomy(anatomy: &Value) {
    let Some(operators) = anatomy["operators"].as_object() else { return };
    let mut counts: Vec<_> =
        operators.iter().map(|(name, count)| (count.as_u64().unwrap_or(0), name)).collect();
    counts.sort_by(|a, b| b.0.cmp(&a.0).then(a.1.cmp(b.1)));
    let shown: Vec<_> =
        counts.iter().take(OPERATORS_SHOWN).map(|(count, name)| format!("{count} {name}")).collect();
    let more = counts.len().saturating_sub(OPERATORS_SHOWN);
    let more = if more > 0 { format!(" and {more} other operators") } else { String::new() };
    output::line(&format!(
        "{} parameters in {} bytes; {}{more}",
        anatomy["parameters"],
        anatomy["parameter_bytes"],
        shown.join(", ")
    ));
    let cost = &anatomy["cost"];
    let text = |value: &Value| value.as_str().unwrap_or("-").to_owned();
    output::line(&format!(
        "{} floating-point operations in {} of {} nodes, {} bytes of activations",
        text(&cost["flops"]),
        cost["known"],
        cost["nodes"],
        text(&cost["activation_bytes"])
    ));
    if let Some(proof) = cost["proof"].as_object() {
        output::line(&format!(
            "as verified: {} operations, {} bytes of activations",
            proof["flops"], proof["activation_bytes"]
        ));
    }
}

fn stage(stage: &Value) -> Vec<String> {
    let text = |value: &Value| value.as_str().unwrap_or("-").to_owned();
    let took = stage["took_us"].as_u64().unwrap_or(0) as f64 / 1000.0;
    let passed = if stage["ok"] == true { "yes" } else { "no" };
    vec![text(&stage["stage"]), passed.to_owned(), format!("{took:.1} ms"), text(&stage["detail"])]
}

/// Of microseconds since the Unix epoch.
pub(in crate::cli) fn date(us: i64) -> String {
    let at = std::time::UNIX_EPOCH + Duration::from_micros(u64::try_from(us).unwrap_or(0));
    humantime::format_rfc3339_seconds(at).to_string()
}
