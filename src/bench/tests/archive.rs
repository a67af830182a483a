//! Results in the store, and over time.

use std::{sync::Arc, time::Duration};

use super::{around, cell, results};
use crate::{
    bench::{Archive, ArchiveError, Keeping, Memory, Results, Verdict},
    store::{BenchFilter, CellSamples, HistoryFilter, Store, TableFormat, export},
};

fn archive() -> Archive {
    let keeping = Keeping { runs: 100, age: Some(Duration::from_secs(3600)) };
    Archive::new(Arc::new(Store::open_in_memory().unwrap()), keeping)
}

/// A run whose only cell takes about this long.
fn run(id: &str, at_us: i64, middle: f64) -> Results {
    let mut results = results(vec![cell("firefox", around(middle, 12))]);
    (results.id, results.suite) = (id.to_owned(), "smoke".to_owned());
    (results.started_at_us, results.ended_at_us) = (at_us, at_us + 1);
    results
}

fn text(results: &Results) -> String {
    serde_json::to_string(results).unwrap()
}

#[tokio::test]
async fn a_result_is_kept_whole_and_another_of_its_id_is_refused() {
    let archive = archive();
    let mut kept = run("a", 5, 100.0);
    kept.branch = Some("main".to_owned());
    kept.cells[0].alone_us = vec![0.1 + 0.2];
    kept.cells[0].warm_up_us = vec![7.0, 8.0];
    kept.cells[0].memory =
        vec![Memory { at_us: 1.0, wasm_bytes: Some(3), gpu_bytes: None, browser_bytes: None }];
    kept.cells.push(cell("chromium", Vec::new()));
    kept.cells[1].state =
        super::State { outcome: super::Outcome::Failed, reason: Some("it broke".to_owned()) };
    assert!(!archive.keep(kept.clone(), true).await.unwrap());
    assert_eq!(text(&archive.read("a").await.unwrap()), text(&kept));
    assert!(archive.keep(kept.clone(), false).await.unwrap());
    let (listed, next) = archive.list(BenchFilter::default(), 10, None).await.unwrap();
    assert_eq!((listed.len(), next), (1, None));
    let of = &listed[0];
    assert_eq!((of.cells, of.failures, of.imported, of.branch.as_deref()), (2, 1, true, Some("main")));
    kept.cells[0].samples_us[3] += 1.0;
    let changed = archive.keep(kept, true).await;
    assert!(matches!(changed, Err(ArchiveError::Other(id)) if id == "a"));
    assert!(matches!(archive.read("b").await, Err(ArchiveError::Unknown(_))));
}

#[tokio::test]
async fn a_result_of_tomorrow_is_refused() {
    let archive = archive();
    let hours = |hours: i64| crate::tasks::now_us() + hours * 3_600_000_000;
    assert!(!archive.keep(run("soon", hours(1), 100.0), true).await.unwrap(), "clocks are not all the same");
    let late = archive.keep(run("late", hours(25), 100.0), true).await;
    assert!(matches!(late, Err(ArchiveError::Future(id)) if id == "late"));
}

#[tokio::test]
async fn a_comparison_is_what_it_is_of_files_and_is_kept() {
    let archive = archive();
    for (id, middle) in [("a", 100.0), ("b", 150.0)] {
        archive.keep(run(id, 5, middle), false).await.unwrap();
    }
    let compared = archive.compare("a", "b", 0.05).await.unwrap();
    assert_eq!(compared.cells[0].verdict, Verdict::Worse);
    let kept = archive.verdicts("b").await.unwrap();
    assert_eq!((kept.len(), kept[0].base.as_str(), kept[0].verdict.as_str()), (1, "a", "worse"));
    assert_eq!(kept[0].ratio, compared.cells[0].ratio);
    assert!(archive.verdicts("a").await.unwrap().is_empty());
}

#[tokio::test]
async fn a_history_says_where_a_cell_changed_and_what_else_did() {
    let archive = archive();
    for at in 0..12 {
        let mut results = run(&format!("run-{at}"), 1000 + at, if at < 6 { 100.0 } else { 140.0 });
        results.cells[0].samples_us.iter_mut().for_each(|sample| *sample += at as f64 / 10.0);
        let place = results.environment.places.get_mut("firefox/wasm").unwrap();
        if at >= 6 {
            place.browser_version = Some("2".to_owned());
        }
        results.environment.commit = format!("{at:040}");
        if at == 2 {
            results.environment.cores = 64;
        }
        archive.keep(results, false).await.unwrap();
    }
    let filter = HistoryFilter { suite: "smoke".to_owned(), runs: 100, ..HistoryFilter::default() };
    let history = archive.history(filter.clone(), None).await.unwrap();
    assert_eq!((history.series.len(), history.series[0].points.len()), (1, 11), "{history:?}");
    let apart: Vec<_> =
        history.elsewhere.iter().map(|run| (run.run.as_str(), run.differences.len())).collect();
    assert_eq!(apart, [("run-2", 1)]);
    let changes = &history.series[0].changes;
    assert_eq!(changes.len(), 1, "{changes:?}");
    assert_eq!((changes[0].at, changes[0].run.as_str()), (5, "run-6"));
    assert!(changes[0].ratio > 1.3 && changes[0].probability < 1e-3, "{changes:?}");
    let events: Vec<_> =
        history.series[0].points[5].events.iter().map(|of| (of.part.as_ref(), of.head.as_str())).collect();
    let commit = format!("{:040}", 6);
    assert_eq!(events, [("browser", "2"), ("weft's commit", commit.as_str())]);
    let nothing =
        archive.history(HistoryFilter { suite: "other".to_owned(), ..filter.clone() }, None).await.unwrap();
    assert!(nothing.series.is_empty() && nothing.elsewhere.is_empty());

    let suites = archive.suites().await.unwrap();
    let [smoke] = &suites[..] else { panic!("{suites:?}") };
    assert_eq!((smoke.suite.as_str(), smoke.runs, smoke.latest_us), ("smoke", 12, 1011));
    assert_eq!(smoke.asked.iter().collect::<Vec<_>>(), ["single_stream"]);
    let machines: Vec<_> = smoke.machines.iter().map(|machine| machine.runs).collect();
    assert_eq!(machines, [11, 1]);
    let there = archive.history(filter.clone(), Some(&smoke.machines[1].id)).await.unwrap();
    let runs: Vec<_> = there.series[0].points.iter().map(|point| point.run.as_str()).collect();
    assert_eq!((runs, there.elsewhere.len()), (vec!["run-2"], 0));
    let nowhere = archive.history(filter, Some("nowhere")).await.unwrap();
    assert!(nowhere.series.is_empty() && nowhere.elsewhere.is_empty());
}

/// Runs, cells of each and samples of each cell: ten million samples.
const RUNS: usize = 500;
const CELLS: usize = 40;
const SAMPLES: usize = 500;

/// How often each question is asked.
const ASKED: usize = 40;

fn large(at: usize) -> Results {
    let mut cells = Vec::with_capacity(CELLS);
    for place in 0..CELLS {
        let browser = ["native", "firefox", "chromium", "edge"][place % 4];
        let middle = 100.0 + (at * 31 + place * 7) as f64 % 13.0;
        let samples = (0..SAMPLES).map(|sample| middle + (sample * 37 % 101) as f64 / 50.0);
        let mut cell = cell(browser, samples.collect());
        cell.model = format!("model-{}", place / 4).parse().unwrap();
        cells.push(cell);
    }
    let mut results = results(cells);
    (results.id, results.suite) = (format!("run-{at}"), "large".to_owned());
    results.started_at_us = i64::try_from(at).unwrap();
    results
}

/// The most that this process has had in memory, in MiB.
fn peak() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().trim_end_matches(" kB").trim().parse::<u64>().unwrap() >> 10
}

/// Part of `make prove`.
#[test]
#[ignore = "it writes ten million samples"]
fn ten_million_samples_are_exported_in_bounded_memory() {
    let folder = tempfile::tempdir().unwrap();
    let samples: Vec<_> =
        (0..100_003 + SAMPLES).map(|at| 1000.0 + (at * 7919 % 100_003) as f64 / 7.0).collect();
    let samples = &samples[..];
    let ids: Vec<_> = (0..RUNS).map(|at| (at, format!("run-{at}"))).collect();
    let before = peak();
    for (format, name) in [(TableFormat::Parquet, "a.parquet"), (TableFormat::Csv, "a.csv")] {
        let cells = ids.iter().flat_map(|(place, run)| {
            (0..CELLS).map(move |at| CellSamples {
                run,
                suite: "large",
                commit: "0123456789abcdef0123456789abcdef01234567",
                branch: Some("main"),
                started_at_us: 1,
                model: ["silero-vad", "magika"][at % 2],
                browser: ["native", "firefox", "chromium", "edge"][at % 4],
                backend: "wasm",
                scenario: "single_stream",
                asked: "single_stream",
                outcome: "ok",
                measured: &samples[(place * CELLS + at) * 97 % 100_003..][..SAMPLES],
                warm_up: &[],
                alone: &[],
            })
        });
        let (path, started) = (folder.path().join(name), std::time::Instant::now());
        export(cells, &path, format).unwrap();
        let (took, size) = (started.elapsed().as_secs_f64(), std::fs::metadata(&path).unwrap().len() >> 20);
        eprintln!("{name}: {took:.1} s, {size} MiB, {} MiB of memory at most, {before} before", peak());
    }
    let csv = std::io::BufReader::new(std::fs::File::open(folder.path().join("a.csv")).unwrap());
    assert_eq!(std::io::BufRead::split(csv, b'\n').count(), 1 + RUNS * CELLS * SAMPLES);
    assert!(peak() < before + 384, "{} MiB", peak());
}

/// What 95 of 100 answers do not exceed, in milliseconds.
async fn p95(name: &str, mut ask: impl AsyncFnMut(usize)) -> f64 {
    let mut took = Vec::new();
    for at in 0..ASKED {
        let started = std::time::Instant::now();
        ask(at * 97 % RUNS).await;
        took.push(started.elapsed().as_secs_f64() * 1e3);
    }
    let p95 = crate::bench::statistics::quantile(&took, 0.95);
    eprintln!(
        "{name}: 95 % within {p95:.1} ms, half within {:.1} ms",
        crate::bench::statistics::median(&took)
    );
    p95
}

/// Part of `make prove`.
#[tokio::test]
#[ignore = "it writes ten million samples"]
async fn ten_million_samples_are_found_in_less_than_300_ms() {
    let folder = tempfile::tempdir().unwrap();
    let store = Arc::new(Store::open(&folder.path().join("store")).unwrap());
    let archive = Archive::new(store.clone(), Keeping { runs: 1000, age: None });
    let started = std::time::Instant::now();
    for at in 0..RUNS {
        archive.keep(large(at), false).await.unwrap();
    }
    let size = std::fs::metadata(folder.path().join("store")).unwrap().len() >> 20;
    eprintln!("kept in {:.0} s, {size} MiB", started.elapsed().as_secs_f64());
    let all = HistoryFilter { suite: "large".to_owned(), runs: 200, ..HistoryFilter::default() };
    let lane = HistoryFilter { browser: Some("firefox".to_owned()), ..all.clone() };
    let cell = HistoryFilter { model: Some("model-3".to_owned()), ..lane.clone() };
    let found = [
        p95("a page of runs", async |_| {
            let filter = BenchFilter { suite: Some("large".to_owned()), ..BenchFilter::default() };
            assert_eq!(archive.list(filter, 50, None).await.unwrap().0.len(), 50);
        })
        .await,
        p95("a run with its samples", async |at| {
            assert_eq!(archive.read(&format!("run-{at}")).await.unwrap().cells.len(), CELLS);
        })
        .await,
        p95("what suites there are", async |_| {
            assert_eq!(archive.suites().await.unwrap()[0].models.len(), CELLS / 4);
        })
        .await,
        p95("a suite's history", async |_| {
            assert_eq!(archive.history(all.clone(), None).await.unwrap().series.len(), CELLS);
        })
        .await,
        p95("a lane's history", async |_| {
            assert_eq!(archive.history(lane.clone(), None).await.unwrap().series.len(), CELLS / 4);
        })
        .await,
        p95("a cell's history", async |_| {
            assert_eq!(archive.history(cell.clone(), None).await.unwrap().series[0].points.len(), 200);
        })
        .await,
    ];
    assert!(found.iter().all(|p95| *p95 < 300.0), "{found:?}");
}
