//! `make prove`: a shipped suite run twice from nothing, each time by a daemon of its own, and how far its cells are apart.
//! Each run is a slice with a file of its own.

use std::{
    path::PathBuf,
    process::{Command, Stdio},
};

use serde::{Deserialize, Serialize};
use weft::bench::{Judged, Results, compare, statistics::median};

use crate::{
    daemon::{FIXTURES, installed},
    proof,
    serve::processes_of,
    shares::Share,
    webkit,
};

const SUITES: [&str; 2] = ["smoke", "standard"];

/// What `weft bench compare` takes for noise unless it is told otherwise.
const NOISE: f64 = 0.05;

/// By how much a cell may be off the first time and count as repeated.
const NEAR: f64 = 0.1;

/// A run as it is kept.
#[derive(Serialize, Deserialize)]
struct Run {
    commit: String,
    machine: String,
    command: String,
    build: String,
    results: Results,
}

fn file(suite: &str, number: usize) -> PathBuf {
    PathBuf::from(FIXTURES).join(format!("measurements/repeated/{suite}-{number}.json"))
}

fn read(suite: &str, number: usize) -> Option<Run> {
    serde_json::from_slice(&std::fs::read(file(suite, number)).ok()?).ok()
}

/// Runs the suite as a user would, unless it has been.
fn run(suite: &str, number: usize) {
    if let Some(known) = read(suite, number) {
        eprintln!("{} was run at {}", file(suite, number).display(), known.commit);
        return;
    }
    if !installed("chromium=1,chromium-webnn=1,firefox=1") || !webkit::here() {
        return;
    }
    let commit = proof::commit();
    let home = tempfile::tempdir().unwrap();
    let out = home.path().join("result.json");
    let mut weft = Command::new(env!("CARGO_BIN_EXE_weft"));
    weft.args(["bench", "run", suite, "--out", out.to_str().unwrap(), "--home"]).arg(home.path());
    let status = weft.stdout(Stdio::null()).status().unwrap();
    assert!(status.success(), "weft bench run {suite}: {status}");
    let results = Results::read(&std::fs::read(out).unwrap()).unwrap();
    assert!(results.complete, "{suite} had not enough time");
    let run = Run {
        commit,
        machine: proof::machine(),
        command: proof::COMMAND.to_owned(),
        build: proof::build().to_owned(),
        results,
    };
    let file = file(suite, number);
    std::fs::create_dir_all(file.parent().unwrap()).unwrap();
    std::fs::write(&file, format!("{}\n", serde_json::to_string(&run).unwrap())).unwrap();
    assert_eq!(processes_of(home.path()), Vec::<String>::new());
}

#[test]
#[ignore = "minutes of measuring: run by `make prove`"]
fn smoke_1() {
    run("smoke", 1);
}

#[test]
#[ignore = "minutes of measuring: run by `make prove`"]
fn smoke_2() {
    run("smoke", 2);
}

#[test]
#[ignore = "a quarter of an hour of measuring: run by `make prove`"]
fn standard_1() {
    run("standard", 1);
}

#[test]
#[ignore = "a quarter of an hour of measuring: run by `make prove`"]
fn standard_2() {
    run("standard", 2);
}

/// Two runs of a suite against each other.
struct Twice {
    suite: &'static str,
    runs: [Run; 2],
}

impl Twice {
    fn read(suite: &'static str) -> Option<Self> {
        Some(Self { suite, runs: [read(suite, 1)?, read(suite, 2)?] })
    }

    /// The cells that were measured in both.
    fn cells(&self) -> Vec<Judged> {
        let [first, second] = &self.runs;
        let mut cells = compare(&first.results, &second.results, NOISE).cells;
        cells.retain(|cell| cell.ratio.is_some());
        cells
    }

    /// A row of what all of them come to.
    fn row(&self) -> String {
        let cells = self.cells();
        let ratios: Vec<_> = cells.iter().filter_map(|cell| cell.ratio).collect();
        let near = Share::of(ratios.iter().map(|ratio| {
            let off = ratio.value.max(ratio.value.recip());
            off <= 1.0 + NEAR
        }));
        let off: Vec<_> = ratios.iter().map(|ratio| (ratio.value - 1.0).abs() * 100.0).collect();
        let verdicts = |name: &str| cells.iter().filter(|cell| cell.verdict.name() == name).count();
        let commits = self.runs.each_ref().map(|run| proof::short(&run.commit));
        format!(
            "| `{}` | {} | {:.1} % | {}, {}, {}, {} | {} | {} |",
            self.suite,
            near.told(),
            median(&off),
            verdicts("same"),
            verdicts("better"),
            verdicts("worse"),
            verdicts("unknown"),
            self.runs.each_ref().map(|run| run.results.warnings.len().to_string()).join(" and "),
            commits.join(" and ")
        )
    }

    /// A row of each cell.
    fn rows(&self) -> Vec<String> {
        let ms = |run: &Run, judged: &Judged| {
            let cells = run.results.cells.iter();
            let mut of_cell = cells.filter(|cell| {
                cell.model == judged.model
                    && cell.browser == judged.browser
                    && cell.backend == judged.backend
                    && cell.scenario == judged.scenario
                    && cell.varied == judged.varied
            });
            of_cell.next().map_or_else(String::new, |cell| format!("{:.2}", median(&cell.samples_us) / 1e3))
        };
        let row = |cell: &Judged| {
            let ratio = cell.ratio?;
            Some(format!(
                "| `{}` | {} | {}/{} | {} | {} | {} | {:.3} | {:.3}–{:.3} |",
                self.suite,
                cell.model,
                cell.browser,
                cell.backend,
                cell.varied.of(cell.scenario),
                ms(&self.runs[0], cell),
                ms(&self.runs[1], cell),
                ratio.value,
                ratio.low,
                ratio.high
            ))
        };
        self.cells().iter().filter_map(row).collect()
    }
}

/// Prints both tables of the suites that were run twice.
#[test]
#[ignore = "prints what the slices have kept: run by `make prove`"]
fn table() {
    let twice: Vec<_> = SUITES.into_iter().filter_map(Twice::read).collect();
    eprintln!(
        "| suite | cells within a tenth | off by, median | same, better, worse, unknown | warnings | measured at |"
    );
    eprintln!("|---|---|---|---|---|---|");
    for twice in &twice {
        eprintln!("{}", twice.row());
    }
    eprintln!("\n| suite | model | lane | requests | first, ms | second, ms | ratio | 95 % interval |");
    eprintln!("|---|---|---|---|---|---|---|---|");
    for row in twice.iter().flat_map(Twice::rows) {
        eprintln!("{row}");
    }
}

#[test]
fn the_page_has_the_tables_of_what_was_repeated() {
    let page = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/methodology.md")).unwrap();
    for twice in SUITES.into_iter().filter_map(Twice::read) {
        for row in twice.rows().into_iter().chain([twice.row()]) {
            assert!(page.contains(&row), "docs/methodology.md lacks: {row}");
        }
    }
}
