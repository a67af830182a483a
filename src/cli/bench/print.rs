//! Results and comparisons as tables: for a terminal, as Markdown, as `JUnit`'s XML.

use std::fmt::Write as _;

use serde_json::{Value, json};

use super::super::output;
use crate::bench::{Cell, Comparison, Judged, Outcome, Results, Verdict, statistics::Interval};

const HEADER: [&str; 8] = ["model", "lane", "scenario", "median", "95 % interval", "p90", "samples", ""];

/// A cell that has ended, in a line.
pub(super) fn told(cell: &Cell) -> String {
    let row = row(cell);
    let what = format!("{} in {}, {}", row[0], row[1], row[2]);
    match cell.state.outcome {
        Outcome::Ok => format!("{what}: {} ({}, {} samples)", row[3], row[4], row[6]),
        _ => format!("{what}: {}", row[7]),
    }
}

/// A cell with what its samples say in place of them.
pub(super) fn cell(cell: &Cell) -> Value {
    let mut told = json!(cell);
    if let Some(told) = told.as_object_mut() {
        told.remove("samples_us");
        told.remove("warm_up_us");
        told.insert("figures".to_owned(), json!(cell.figures()));
    }
    told
}

fn milliseconds(micros: f64) -> String {
    format!("{:.3} ms", micros / 1e3)
}

fn interval(interval: &Interval) -> String {
    format!("{:.3}–{:.3}", interval.low / 1e3, interval.high / 1e3)
}

fn row(cell: &Cell) -> Vec<String> {
    let lane = format!("{}/{}", cell.browser, cell.backend);
    let mut row = vec![cell.model.to_string(), lane, cell.scenario.name().to_owned()];
    match cell.figures().filter(|_| cell.state.outcome == Outcome::Ok) {
        Some(figures) => row.extend([
            milliseconds(figures.median.value),
            interval(&figures.median),
            figures.p90.map_or_else(|| "-".to_owned(), milliseconds),
            figures.samples.to_string(),
        ]),
        None => row.extend(["-", "-", "-", "0"].map(str::to_owned)),
    }
    let word = match cell.state.outcome {
        Outcome::Ok if cell.warm => "",
        Outcome::Ok => "was still warming up",
        Outcome::Wrong => "wrong",
        Outcome::Failed => "failed",
        Outcome::TimedOut => "timed out",
        Outcome::Skipped => "skipped",
        Outcome::Excluded => "excluded",
    };
    let reason =
        cell.state.reason.as_deref().map_or_else(|| word.to_owned(), |reason| format!("{word}: {reason}"));
    row.push(reason);
    row
}

fn rows(results: &Results) -> Vec<Vec<String>> {
    results.cells.iter().map(row).collect()
}

pub(super) fn results(results: &Results) {
    output::line(&head(results));
    output::table(&HEADER, &rows(results));
    for warning in &results.warnings {
        output::line(&format!("warning: {warning}"));
    }
}

fn head(results: &Results) -> String {
    let environment = &results.environment;
    let partly = if results.complete { "" } else { ", not complete" };
    format!(
        "{} ({}{partly}): {}, {} cores, weft {}",
        results.id, results.suite, environment.processor, environment.cores, environment.weft
    )
}

/// A result as a row of the list.
pub(super) fn listed(results: &Results) -> Vec<String> {
    let seconds = results.started_at_us.max(0) as u64 / 1_000_000;
    let at = std::time::UNIX_EPOCH + std::time::Duration::from_secs(seconds);
    vec![
        results.id.clone(),
        results.suite.clone(),
        results.cells.len().to_string(),
        results.failures().count().to_string(),
        format!(
            "{}{}",
            humantime::format_rfc3339_seconds(at),
            if results.complete { "" } else { ", not complete" }
        ),
    ]
}

pub(super) fn markdown(results: &Results) -> String {
    let mut text = format!("### {}\n\n{}", head(results), table(&HEADER, &rows(results)));
    for warning in &results.warnings {
        let _ = writeln!(text, "\n- {warning}");
    }
    text
}

fn table(header: &[&str], rows: &[Vec<String>]) -> String {
    let mut text = format!("| {} |\n|{}\n", header.join(" | "), "---|".repeat(header.len()));
    for row in rows {
        let cells: Vec<_> = row.iter().map(|cell| cell.replace('|', "\\|").replace('\n', " ")).collect();
        let _ = writeln!(text, "| {} |", cells.join(" | "));
    }
    text
}

const COMPARED: [&str; 7] = ["model", "lane", "scenario", "verdict", "head / base", "95 % interval", ""];

fn judged(cell: &Judged) -> Vec<String> {
    let verdict = match cell.verdict {
        Verdict::Better => "better",
        Verdict::Worse => "worse",
        Verdict::Same => "same",
        Verdict::Unknown => "unknown",
    };
    let differing = cell.differences.iter().map(|of| format!("{}: {} → {}", of.part, of.base, of.head));
    let notes: Vec<_> = cell.reason.clone().into_iter().chain(differing).collect();
    let ratio = |show: fn(&Interval) -> String| cell.ratio.as_ref().map_or_else(|| "-".to_owned(), show);
    vec![
        cell.model.to_string(),
        format!("{}/{}", cell.browser, cell.backend),
        cell.scenario.name().to_owned(),
        verdict.to_owned(),
        ratio(|ratio| format!("{:.3}", ratio.value)),
        ratio(|ratio| format!("{:.3}–{:.3}", ratio.low, ratio.high)),
        notes.join("; "),
    ]
}

pub(super) fn comparison(comparison: &Comparison) {
    output::line(&format!("{} against {}", comparison.head, comparison.base));
    for of in &comparison.differences {
        output::line(&format!("the machines differ in {}: {} and {}", of.part, of.base, of.head));
    }
    output::table(&COMPARED, &comparison.cells.iter().map(judged).collect::<Vec<_>>());
}

pub(super) fn comparison_markdown(comparison: &Comparison) -> String {
    let rows: Vec<_> = comparison.cells.iter().map(judged).collect();
    let mut text = format!("### {} against {}\n\n", comparison.head, comparison.base);
    for of in &comparison.differences {
        let _ = writeln!(text, "The machines differ in {}: {} and {}.\n", of.part, of.base, of.head);
    }
    text + &table(&COMPARED, &rows)
}

/// A cell is a test: what is wrong or broke has failed, and what could not be measured was skipped.
pub(super) fn junit(results: &Results) -> String {
    let mut text = String::from("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n");
    let skipped =
        |cell: &&Cell| !matches!(cell.state.outcome, Outcome::Ok | Outcome::Wrong | Outcome::Failed);
    let (tests, failures) = (results.cells.len(), results.failures().count());
    let left_out = results.cells.iter().filter(skipped).count();
    let _ = writeln!(
        text,
        "<testsuite name=\"{}\" tests=\"{tests}\" failures=\"{failures}\" skipped=\"{left_out}\">",
        escaped(&results.suite)
    );
    for cell in &results.cells {
        let row = row(cell);
        let seconds = cell.samples_us.iter().sum::<f64>() / 1e6;
        let name = escaped(&format!("{} {}", row[0], row[2]));
        let _ = write!(
            text,
            "  <testcase classname=\"{}\" name=\"{name}\" time=\"{seconds:.6}\"",
            escaped(&row[1])
        );
        let element = match cell.state.outcome {
            Outcome::Ok => None,
            Outcome::Wrong | Outcome::Failed => Some("failure"),
            _ => Some("skipped"),
        };
        match element {
            Some(element) => {
                let _ = writeln!(text, "><{element} message=\"{}\"/></testcase>", escaped(&row[7]));
            }
            None => text.push_str("/>\n"),
        }
    }
    text + "</testsuite>\n"
}

fn escaped(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => safe.push_str("&amp;"),
            '<' => safe.push_str("&lt;"),
            '>' => safe.push_str("&gt;"),
            '"' => safe.push_str("&quot;"),
            c if c.is_control() => safe.push(' '),
            c => safe.push(c),
        }
    }
    safe
}
