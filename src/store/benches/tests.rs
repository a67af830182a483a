#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

use super::{
    super::{
        CellSamples, TableFormat, export,
        schema::{MIGRATIONS, migrate},
    },
    *,
};

const EVERYTHING: Retention = Retention { runs: 1000, since_us: 0 };

fn bench(id: &str, at_us: i64) -> StoredBench {
    StoredBench {
        id: id.to_owned(),
        suite: "smoke".to_owned(),
        suite_sha256: "5".to_owned(),
        commit: "0123456789abcdef".to_owned(),
        branch: None,
        started_at_us: at_us,
        ended_at_us: at_us + 1,
        kept_at_us: at_us + 2,
        imported: false,
        complete: true,
        cells: 1,
        failures: 0,
        environment_sha256: environment_digest("{}"),
    }
}

fn document(model: &str, samples: Vec<f64>) -> StoredDocument {
    let figures = samples.first().map(|first| StoredFigures {
        samples: samples.len() as u32,
        median_us: *first,
        low_us: 1.0,
        high_us: 2.0,
    });
    let cell = StoredCell {
        document: format!(r#"{{"model":"{model}"}}"#),
        series: [samples, vec![0.5], Vec::new()],
        of: key(model),
        outcome: "ok".to_owned(),
        model_sha256: Some("m".to_owned()),
        figures,
    };
    StoredDocument { head: r#"{"id":"a"}"#.to_owned(), environment: "{}".to_owned(), cells: vec![cell] }
}

fn key(model: &str) -> StoredCellKey {
    StoredCellKey {
        model: model.to_owned(),
        browser: "firefox".to_owned(),
        backend: "wasm".to_owned(),
        scenario: "single_stream".to_owned(),
        precision: Some("int8".to_owned()),
        asked: "single_stream batch 4 int8".to_owned(),
    }
}

async fn ids(store: &Store, filter: BenchFilter) -> Vec<String> {
    let (found, _) = store.benches(filter, BENCHES_MAX, None).await.unwrap();
    found.into_iter().map(|bench| bench.id).collect()
}

#[tokio::test]
async fn a_result_comes_back_as_it_was_and_once() {
    let store = Store::open_in_memory().unwrap();
    let kept = document("one", vec![3.25, 1.0, f64::MAX, 0.1 + 0.2]);
    assert!(!store.put_bench(bench("a", 1), kept.clone(), EVERYTHING).await.unwrap());
    assert!(store.put_bench(bench("a", 9), document("two", vec![]), EVERYTHING).await.unwrap());
    let back = store.bench("a".to_owned()).await.unwrap().unwrap();
    assert_eq!((&back.head, &back.environment), (&kept.head, &kept.environment));
    assert_eq!(back.cells[0].series, kept.cells[0].series);
    assert_eq!(back.cells[0].document, kept.cells[0].document);
    assert_eq!(store.bench("b".to_owned()).await.unwrap(), None);
    let (listed, next) = store.benches(BenchFilter::default(), 10, None).await.unwrap();
    assert_eq!((listed, next), (vec![bench("a", 1)], None));
}

#[tokio::test]
async fn runs_are_found_by_what_they_are_of_and_come_in_pages() {
    let store = Store::open_in_memory().unwrap();
    let changes: [(&str, fn(&mut StoredBench)); 4] = [
        ("a", |_| {}),
        ("b", |bench| bench.branch = Some("main".to_owned())),
        ("c", |bench| (bench.suite, bench.commit) = ("standard".to_owned(), "feed".to_owned())),
        ("d", |bench| bench.complete = false),
    ];
    for (at, (id, change)) in (1..).zip(changes) {
        let mut run = bench(id, at);
        change(&mut run);
        store.put_bench(run, document("one", vec![1.0]), EVERYTHING).await.unwrap();
    }
    let some = |text: &str| Some(text.to_owned());
    let any = BenchFilter::default;
    let cases = [
        ("all", any(), vec!["d", "c", "b", "a"]),
        ("an id", BenchFilter { id: some("c"), ..any() }, vec!["c"]),
        ("a suite", BenchFilter { suite: some("standard"), ..any() }, vec!["c"]),
        ("a commit's beginning", BenchFilter { commit: some("0123456"), ..any() }, vec!["d", "b", "a"]),
        ("not its middle", BenchFilter { commit: some("123456"), ..any() }, vec![]),
        ("a branch", BenchFilter { branch: some("main"), ..any() }, vec!["b"]),
        ("whole ones", BenchFilter { complete: true, ..any() }, vec!["c", "b", "a"]),
    ];
    for (case, filter, wanted) in cases {
        assert_eq!(ids(&store, filter).await, wanted, "{case}");
    }
    let (page, next) = store.benches(any(), 3, None).await.unwrap();
    assert_eq!(page.len(), 3);
    let (page, last) = store.benches(any(), 3, next).await.unwrap();
    assert_eq!((page[0].id.as_str(), page.len(), last), ("a", 1, None));
}

#[tokio::test]
async fn what_is_beyond_the_limits_is_forgotten_with_its_samples() {
    let store = Store::open_in_memory().unwrap();
    let judged = |base: &str| StoredJudgement {
        base: base.to_owned(),
        of: StoredCellKey { scenario: String::new(), precision: None, ..key("one") },
        verdict: "same".to_owned(),
        ratio: Some([1.0, 0.9, 1.1]),
        probability: Some(0.5),
        reason: None,
        noise: 0.05,
        judged_at_us: 7,
    };
    for (id, at) in [("a", 1), ("b", 2), ("c", 3)] {
        store.put_bench(bench(id, at), document("one", vec![1.0]), EVERYTHING).await.unwrap();
    }
    for base in ["a", "b", "b"] {
        store.put_bench_verdicts("c".to_owned(), vec![judged(base)]).await.unwrap();
    }
    // The later one of two stands in place of the earlier.
    assert_eq!(store.bench_verdicts("c".to_owned()).await.unwrap(), [judged("a"), judged("b")]);
    let mut other = bench("d", 4);
    other.environment_sha256 = environment_digest("[]");
    let mut last = document("one", vec![1.0]);
    last.environment = "[]".to_owned();
    store.put_bench(other, last, Retention { runs: 3, since_us: 0 }).await.unwrap();
    assert_eq!(ids(&store, BenchFilter::default()).await, ["d", "c", "b"]);
    assert_eq!(store.bench("a".to_owned()).await.unwrap(), None);
    assert_eq!(store.bench_verdicts("c".to_owned()).await.unwrap(), [judged("b")]);
    let since = Retention { runs: 1000, since_us: 100 };
    store.put_bench(bench("e", 200), document("one", vec![1.0]), since).await.unwrap();
    assert_eq!(ids(&store, BenchFilter::default()).await, ["e"]);
    assert_eq!(store.bench_environments().await.unwrap().len(), 1);
    let left: i64 = store
        .read("test", |connection| {
            connection.query_row("SELECT count(*) FROM bench_samples", [], |row| row.get(0))
        })
        .await
        .unwrap();
    assert_eq!(left, 2);
}

#[tokio::test]
async fn a_history_has_each_cell_from_its_oldest_run_on() {
    let store = Store::open_in_memory().unwrap();
    for (id, at, model, median) in
        [("b", 20, "one", 2.0), ("a", 10, "one", 1.0), ("c", 30, "two", 9.0), ("d", 40, "one", 4.0)]
    {
        store.put_bench(bench(id, at), document(model, vec![median]), EVERYTHING).await.unwrap();
    }
    store.put_bench(bench("empty", 50), document("one", vec![]), EVERYTHING).await.unwrap();
    let wanted = |runs, model: Option<&str>| HistoryFilter {
        suite: "smoke".to_owned(),
        model: model.map(str::to_owned),
        runs,
        ..HistoryFilter::default()
    };
    let cases = [
        (wanted(10, None), vec![("one", "a", 1.0), ("one", "b", 2.0), ("one", "d", 4.0), ("two", "c", 9.0)]),
        (wanted(3, None), vec![("one", "d", 4.0), ("two", "c", 9.0)]),
        (wanted(10, Some("two")), vec![("two", "c", 9.0)]),
        (HistoryFilter { browser: Some("edge".to_owned()), ..wanted(10, None) }, vec![]),
        (HistoryFilter { suite: "other".to_owned(), ..wanted(10, None) }, vec![]),
        (HistoryFilter { precision: Some("int8".to_owned()), ..wanted(1, Some("one")) }, vec![]),
        (HistoryFilter { precision: Some("int8".to_owned()), ..wanted(2, None) }, vec![("one", "d", 4.0)]),
        (HistoryFilter { precision: Some("fp32".to_owned()), ..wanted(10, None) }, vec![]),
        (HistoryFilter { asked: Some("single_stream".to_owned()), ..wanted(10, None) }, vec![]),
        (HistoryFilter { environments: Some(vec![]), ..wanted(10, None) }, vec![]),
        (
            HistoryFilter {
                environments: Some(vec!["other".to_owned(), environment_digest("{}")]),
                ..wanted(10, Some("two"))
            },
            vec![("two", "c", 9.0)],
        ),
    ];
    for (filter, wanted) in cases {
        let found = store.bench_history(filter.clone()).await.unwrap().0;
        let found: Vec<_> = found
            .iter()
            .map(|point| (point.of.model.as_str(), point.run.as_str(), point.figures.median_us))
            .collect();
        assert_eq!(found, wanted, "{filter:?}");
    }
    let (runs, mut cells) = store.bench_suites().await.unwrap();
    let environment = environment_digest("{}");
    let suite = "smoke".to_owned();
    assert_eq!(runs, [StoredRuns { suite, branch: None, environment, runs: 5, latest_us: 50 }]);
    cells.sort();
    assert_eq!(cells, ["one", "two"].map(|model| ("smoke".to_owned(), key(model))));
}

#[test]
fn cells_that_were_kept_before_have_their_precision() {
    let (database, path) = (Connection::open_in_memory().unwrap(), std::path::Path::new("earlier"));
    migrate(&database, path, &MIGRATIONS[..17]).unwrap();
    let sql = "INSERT INTO bench_cells VALUES (1, ?, 'm', 'b', 'wasm', 's', 's', NULL, 'ok', NULL, NULL, NULL, NULL, ?)";
    let documents = [r#"{"precision":"int8","plan":"single"}"#, r#"{"reason":"\"precision\":\"x\""}"#];
    for (at, document) in (0u32..).zip(documents) {
        database.execute(sql, params![at, document]).unwrap();
    }
    migrate(&database, path, MIGRATIONS).unwrap();
    let read = |row: &Row<'_>| row.get::<_, Option<String>>(0);
    let mut statement = database.prepare("SELECT precision FROM bench_cells ORDER BY cell").unwrap();
    let found: Vec<_> = statement.query_map([], read).unwrap().map(Result::unwrap).collect();
    assert_eq!(found, [Some("int8".to_owned()), None]);
}

#[tokio::test]
async fn a_home_that_is_opened_again_has_its_results() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store");
    let store = Store::open(&path).unwrap();
    store.put_bench(bench("a", 1), document("one", vec![1.0, 2.0]), EVERYTHING).await.unwrap();
    store.close().await.unwrap();
    let store = Store::open(&path).unwrap();
    assert_eq!(store.bench("a".to_owned()).await.unwrap().unwrap().cells[0].series[0], [1.0, 2.0]);
    // Its key stays taken.
    assert!(store.put_bench(bench("a", 1), document("one", vec![]), EVERYTHING).await.unwrap());
}

#[test]
fn samples_are_a_table_that_duckdb_reads() {
    let folder = tempfile::tempdir().unwrap();
    let cell = CellSamples {
        run: "a",
        suite: "smoke",
        commit: "unknown",
        branch: None,
        started_at_us: 1,
        model: "one",
        browser: "firefox",
        backend: "wasm",
        scenario: "offline",
        asked: "offline batch 4, \"quoted\"",
        outcome: "ok",
        measured: &[0.1 + 0.2, 2.5],
        warm_up: &[7.0],
        alone: &[8.0],
    };
    for (format, name) in [(TableFormat::Parquet, "it's.parquet"), (TableFormat::Csv, "b.csv")] {
        let path = folder.path().join(name);
        export([cell.clone(), CellSamples { model: "two", ..cell.clone() }].into_iter(), &path, format)
            .unwrap();
        let connection = Connection::open_in_memory().unwrap();
        let sql = format!(
            "SELECT asked, series, place, us FROM '{}' WHERE model = 'two'",
            path.display().to_string().replace('\'', "''")
        );
        let read = |row: &Row<'_>| {
            Ok((
                row.get::<_, String>(0)?,
                row.get::<_, String>(1)?,
                row.get::<_, u32>(2)?,
                row.get::<_, f64>(3)?,
            ))
        };
        let found: Vec<_> =
            connection.prepare(&sql).unwrap().query_map([], read).unwrap().map(Result::unwrap).collect();
        let row = |series: &str, place, us| (cell.asked.to_owned(), series.to_owned(), place, us);
        let wanted =
            [("measured", 0, 0.1 + 0.2), ("measured", 1, 2.5), ("warm_up", 0, 7.0), ("alone", 0, 8.0)];
        assert_eq!(found, wanted.map(|(series, place, us)| row(series, place, us)), "{name}");
    }
    let nowhere = export(std::iter::once(cell), std::path::Path::new("/nowhere/a"), TableFormat::Csv);
    assert!(nowhere.unwrap_err().to_string().contains("/nowhere"));
}
