//! Results and comparisons as tables: for a terminal, as Markdown, as `JUnit`'s XML.

use std::fmt::Write as _;

use serde_json::{Value, json};

use super::{super::output, aside::Lying};
use crate::{
    bench::{
        Cell, Change, Choice, Comparison, Growth, History, Judged, Measured, Outcome, Results, Series,
        Served, Statement, Validation,
        statistics::{Interval, median},
    },
    store::StoredBench,
};

const HEADER: [&str; 8] = ["model", "lane", "scenario", "median", "95 % interval", "p90", "samples", ""];

/// A cell that has ended, in a line.
pub(super) fn told(cell: &Cell) -> String {
    let row = row(cell);
    let what = format!("{} in {}, {}", row[0], row[1], row[2]);
    match cell.state.outcome {
        Outcome::Ok if row[7].is_empty() => format!("{what}: {} ({}, {} samples)", row[3], row[4], row[6]),
        Outcome::Ok => format!("{what}: {} ({}, {} samples), {}", row[3], row[4], row[6], row[7]),
        _ => format!("{what}: {}", row[7]),
    }
}

/// A cell with what its samples say in place of them.
pub(super) fn cell(cell: &Cell) -> Value {
    let mut told = json!(cell);
    if let Some(told) = told.as_object_mut() {
        told.remove("samples_us");
        told.remove("warm_up_us");
        told.remove("alone_us");
        told.insert("figures".to_owned(), json!(cell.figures()));
        told.insert("contention".to_owned(), json!(cell.contention()));
        told.insert("growth_per_hour".to_owned(), json!(cell.growth()));
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
    let seeded = if cell.seeded { " (seeded)" } else { "" };
    let mut row = vec![format!("{}{seeded}", cell.model), lane, cell.varied.of(cell.scenario)];
    match cell.figures().filter(|_| cell.state.outcome == Outcome::Ok) {
        Some(figures) => row.extend([
            milliseconds(figures.median.value),
            interval(&figures.median),
            figures.p90.map_or_else(|| "-".to_owned(), milliseconds),
            figures.samples.to_string(),
        ]),
        None => row.extend(["-", "-", "-", "0"].map(str::to_owned)),
    }
    let told =
        [cell.served.as_ref().map(served), cold(cell), contention(cell), cell.growth().map(|of| growth(&of))];
    let told = told.into_iter().flatten();
    let word = match cell.state.outcome {
        // What starts cold is not warmed up.
        Outcome::Ok if cell.warm || cell.warm_up_us.is_empty() => "",
        Outcome::Ok => "was still warming up",
        Outcome::Wrong => "wrong",
        Outcome::Failed => "failed",
        Outcome::TimedOut => "timed out",
        Outcome::Skipped => "skipped",
        Outcome::Excluded => "excluded",
    };
    let reason =
        cell.state.reason.as_deref().map_or_else(|| word.to_owned(), |reason| format!("{word}: {reason}"));
    let notes: Vec<_> = std::iter::once(reason).filter(|reason| !reason.is_empty()).chain(told).collect();
    row.push(notes.join("; "));
    row
}

/// What a median cold start is made of.
fn cold(cell: &Cell) -> Option<String> {
    let parts = cell.cold_parts().into_iter().map(|(name, took)| format!("{name} {}", milliseconds(took)));
    Some(parts.collect::<Vec<_>>().join(", ")).filter(|parts| !parts.is_empty())
}

/// What it takes beside others and alone.
fn contention(cell: &Cell) -> Option<String> {
    let of = cell.contention()?;
    let beside: Vec<_> = cell.beside.iter().map(ToString::to_string).collect();
    let alone = milliseconds(median(&cell.alone_us));
    let beside = beside.join(" and ");
    Some(format!("alone {alone}; {:.2} times that ({:.2}–{:.2}) beside {beside}", of.value, of.low, of.high))
}

/// By how much memory grew.
fn growth(growth: &Growth) -> String {
    let parts =
        [("heap", growth.wasm_bytes), ("GPU objects", growth.gpu_bytes), ("browser", growth.browser_bytes)];
    let mib = |bytes: f64| bytes / f64::from(1 << 20);
    let told = parts.into_iter().filter_map(|(name, of)| of.map(|of| (name, of))).map(|(name, of)| {
        format!("{name} {:+.1} MiB/h ({:.1}–{:.1})", mib(of.value), mib(of.low), mib(of.high))
    });
    let told: Vec<_> = told.collect();
    if told.is_empty() { "nothing tells its memory".to_owned() } else { told.join(", ") }
}

/// What became of requests that arrived at a rate.
fn served(served: &Served) -> String {
    let within = served.within.zip(served.within_us).map(|(share, limit)| {
        let limit = std::time::Duration::from_micros(limit);
        format!("{:.1} % of {} within {limit:?}", share * 100.0, served.arrived)
    });
    let refused = served.refused.iter().map(|(code, count)| format!("{count} {code}"));
    let achieved = format!("{:.1}/s answered", served.achieved);
    std::iter::once(achieved).chain(within).chain(refused).collect::<Vec<_>>().join(", ")
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
pub(super) fn listed(run: &StoredBench) -> Vec<String> {
    vec![
        run.id.clone(),
        run.suite.clone(),
        run.cells.to_string(),
        run.failures.to_string(),
        commit(&run.commit).to_owned(),
        run.branch.clone().unwrap_or_else(|| "-".to_owned()),
        format!(
            "{}{}{}",
            date(run.started_at_us),
            if run.complete { "" } else { ", not complete" },
            if run.imported { ", imported" } else { "" }
        ),
    ]
}

/// A result that lies beside the store as a row of the list.
pub(super) fn lying(of: &Lying) -> Vec<String> {
    let measured = format!("{} of {}", of.measured, of.cells);
    vec![of.id.clone(), of.suite.clone(), measured, date(of.started_at_us), of.path.display().to_string()]
}

/// As short as one says it.
fn commit(commit: &str) -> &str {
    commit.get(..10).unwrap_or(commit)
}

fn date(at_us: i64) -> String {
    let seconds = at_us.max(0) as u64 / 1_000_000;
    let at = std::time::UNIX_EPOCH + std::time::Duration::from_secs(seconds);
    humantime::format_rfc3339_seconds(at).to_string()
}

pub(super) fn history(history: &History) {
    if history.series.is_empty() {
        output::line(&format!(
            "nothing is kept of the suite {}: `weft bench list` shows what is",
            history.suite
        ));
    }
    let rows: Vec<_> = history.series.iter().map(of_series).collect();
    if !rows.is_empty() {
        output::table(&["model", "lane", "scenario", "runs", "first", "last", "changes"], &rows);
    }
    for series in &history.series {
        for change in &series.changes {
            output::line(&changed(series, change));
        }
    }
    for run in &history.elsewhere {
        let parts = run.differences.iter().map(|of| format!("{}: {} and {}", of.part, of.base, of.head));
        output::line(&format!("left out {}: {}", run.run, parts.collect::<Vec<_>>().join("; ")));
    }
}

fn of_series(series: &Series) -> Vec<String> {
    let median = |point: Option<&Measured>| {
        point.map_or_else(|| "-".to_owned(), |point| milliseconds(point.median_us.value))
    };
    vec![
        series.model.clone(),
        format!("{}/{}", series.browser, series.backend),
        series.asked.clone(),
        series.points.len().to_string(),
        median(series.points.first()),
        median(series.points.last()),
        series.changes.len().to_string(),
    ]
}

fn changed(series: &Series, change: &Change) -> String {
    let point = &series.points[change.at];
    let events = point.events.iter().map(|of| format!("{}: {} → {}", of.part, of.base, of.head));
    let events: Vec<_> = events.collect();
    let with =
        if events.is_empty() { "nothing else is known to differ".to_owned() } else { events.join("; ") };
    format!(
        "{} in {}/{}, {}: {} → {} ({:+.1} %, p {:.1e}) from {} on, of {}; {with}",
        series.model,
        series.browser,
        series.backend,
        series.asked,
        milliseconds(change.before_us),
        milliseconds(change.after_us),
        (change.ratio - 1.0) * 100.0,
        change.probability,
        change.run,
        date(point.started_at_us),
    )
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

const CHOSEN: [&str; 8] =
    ["model", "lane", "scenario", "precision", "median", "95 % interval", "bytes", "error"];

fn candidates(choice: &Choice) -> impl Iterator<Item = Vec<String>> {
    choice.candidates.iter().enumerate().map(|(at, candidate)| {
        let mark = match (choice.chosen == Some(at), candidate.front) {
            (true, _) => " (chosen)",
            (false, true) => "",
            (false, false) => " (beaten)",
        };
        vec![
            choice.model.to_string(),
            format!("{}/{}", choice.browser, choice.backend),
            choice.varied.of(choice.scenario),
            format!("{}{mark}", candidate.precision),
            format!("{:.3} ms", candidate.median.value / 1e3),
            format!("{:.3}–{:.3}", candidate.median.low / 1e3, candidate.median.high / 1e3),
            candidate.bytes.map_or_else(|| "-".to_owned(), |bytes| bytes.to_string()),
            format!("{:.1e}", candidate.error),
        ]
    })
}

pub(super) fn choices(choices: &[Choice]) {
    output::table(&CHOSEN, &choices.iter().flat_map(candidates).collect::<Vec<_>>());
}

pub(super) fn choices_markdown(choices: &[Choice]) -> String {
    table(&CHOSEN, &choices.iter().flat_map(candidates).collect::<Vec<_>>())
}

const COMPARED: [&str; 7] = ["model", "lane", "scenario", "verdict", "head / base", "95 % interval", ""];

fn judged(cell: &Judged) -> Vec<String> {
    let differing = cell.differences.iter().map(|of| format!("{}: {} → {}", of.part, of.base, of.head));
    let notes: Vec<_> = cell.reason.clone().into_iter().chain(differing).collect();
    let ratio = |show: fn(&Interval) -> String| cell.ratio.as_ref().map_or_else(|| "-".to_owned(), show);
    vec![
        cell.model.to_string(),
        format!("{}/{}", cell.browser, cell.backend),
        cell.varied.of(cell.scenario),
        cell.verdict.name().to_owned(),
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

pub(super) fn validation(id: &str, validation: &Validation) {
    let word = if validation.valid { "valid" } else { "not valid" };
    output::line(&format!("{id}: {word} at the level {}", validation.level.name()));
    let checks: Vec<_> = validation
        .checks
        .iter()
        .map(|check| {
            let outcome = if check.passed { "passed" } else { "failed" };
            vec![check.name.clone(), check.level.name().to_owned(), outcome.to_owned(), check.says.clone()]
        })
        .collect();
    output::table(&["check", "from", "outcome", ""], &checks);
    output::line(&format!("quality {:.2}", validation.quality.score));
    let parts: Vec<_> = validation
        .quality
        .parts
        .iter()
        .map(|part| {
            let figure = |figure: f64| format!("{figure:.2}");
            vec![part.name.clone(), figure(part.value), figure(part.weight), part.says.clone()]
        })
        .collect();
    output::table(&["part", "value", "weight", ""], &parts);
}

pub(super) fn statement(statement: &Statement) {
    validation(&statement.id, &statement.validation);
    let environment = &statement.environment;
    output::line(&format!(
        "suite {}, result {}, on {}, {} cores, weft {} ({}), issued {}",
        statement.suite,
        statement.result_sha256,
        environment.processor,
        environment.cores,
        environment.weft,
        commit(&environment.commit),
        date(statement.issued_at_us),
    ));
}
