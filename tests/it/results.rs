//! Results in the home's store: imported, found, compared, shown over time, exported, validated and certified.

use std::{
    path::{Path, PathBuf},
    process::Output,
};

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::{
    cli,
    support::{FakeBrowser, TestDaemon},
};

/// A whole result of one cell that takes about `middle` microseconds.
fn result(id: &str, at: i64, middle: f64) -> Value {
    let samples: Vec<_> = (0..40).map(|sample| middle + f64::from(sample % 5) / 10.0).collect();
    json!({"version": 2, "id": id, "suite": "small", "suite_sha256": "5", "branch": "main",
        "started_at_us": 1_700_000_000_000_000 + at, "ended_at_us": 1_700_000_000_000_001 + at, "complete": true,
        "warnings": [], "calibration_us": [1.0, 1.0],
        "environment": {"weft": "0.1.0", "commit": format!("{at:040x}"), "processor": "a processor",
            "processor_flags": "", "cores": 2, "memory_bytes": 1, "kernel": "6", "cpu_limit": null,
            "memory_limit": null,
            "places": {"firefox/wasm": {"browser_version": "1", "engine": "e", "threads": 1, "adapter": null,
                "software_adapter": false, "sandbox": true, "gpu": null}}},
        "cells": [{"model": "neg", "model_digest": null, "browser": "firefox", "backend": "wasm",
            "scenario": "single_stream", "outcome": "ok", "reason": null, "error": 0.0, "tolerance": 1e-3,
            "samples_us": samples, "warm_up_us": [200.0, 101.0, 100.0, 100.0, 100.0], "warm": true,
            "provenance": null}]})
}

struct Home(TempDir);

impl Home {
    /// Twelve runs, the second half of which is slower in another version of the browser.
    fn with_runs() -> (Self, Vec<PathBuf>) {
        let home = Self(cli::home());
        let files = (0..12).map(|at| {
            let mut result = result(&format!("small-{at}"), at, if at < 6 { 100.0 } else { 150.0 });
            if at >= 6 {
                result["environment"]["places"]["firefox/wasm"]["browser_version"] = json!("2");
            }
            home.write(&format!("{at}.json"), &result)
        });
        let files = files.collect();
        (home, files)
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    fn at(&self, file: &str) -> String {
        self.path().join(file).to_str().expect("UTF-8").to_owned()
    }

    fn write(&self, file: &str, value: &Value) -> PathBuf {
        let path = self.path().join(file);
        std::fs::write(&path, value.to_string()).expect("room for a file");
        path
    }

    fn bench(&self, arguments: &[&str]) -> Output {
        cli::run(self.path(), &[&["bench"], arguments].concat())
    }

    /// What it prints as JSON where it ends so.
    fn told(&self, arguments: &[&str], code: i32) -> Value {
        let ran = self.bench(&[arguments, &["--json"]].concat());
        assert_eq!(ran.status.code(), Some(code), "{ran:?}");
        serde_json::from_slice(&ran.stdout).unwrap_or_else(|error| panic!("{error}: {ran:?}"))
    }

    fn refused(&self, arguments: &[&str], code: i32, says: &str) {
        let ran = self.bench(arguments);
        assert_eq!(ran.status.code(), Some(code), "{ran:?}");
        assert!(cli::text(&ran.stderr).contains(says), "{says}: {ran:?}");
    }
}

fn import(files: &[PathBuf]) -> Vec<&str> {
    std::iter::once("import").chain(files.iter().map(|file| file.to_str().expect("UTF-8"))).collect()
}

#[test]
fn results_are_imported_found_and_shown_over_time_without_a_daemon() {
    let (home, files) = Home::with_runs();
    assert_eq!(home.told(&import(&files), 0)["items"][3], json!({"id": "small-3", "already": false}));
    assert_eq!(home.told(&import(&files[3..4]), 0)["items"][0]["already"], true);
    let listed = home.told(&["list"], 0);
    assert_eq!(listed["results"].as_array().expect("a list").len(), 12);
    let newest = &listed["results"][0];
    assert_eq!(
        (&newest["id"], &newest["imported"], &newest["branch"]),
        (&json!("small-11"), &json!(true), &json!("main"))
    );

    let history = home.told(&["history", "--suite", "small", "--lane", "firefox/wasm"], 0);
    let series = &history["series"][0];
    assert_eq!(series["points"].as_array().expect("points").len(), 12, "{history}");
    assert_eq!(series["changes"].as_array().expect("changes").len(), 1, "{history}");
    let change = &series["changes"][0];
    assert_eq!((&change["at"], &change["run"]), (&json!(6), &json!("small-6")), "{change}");
    let events = &series["points"][6]["events"];
    assert_eq!(events[0], json!({"part": "browser", "base": "1", "head": "2"}), "{series}");
    let shown = home.bench(&["history", "--suite", "small"]);
    assert!(cli::text(&shown.stdout).contains("from small-6 on"), "{shown:?}");
    let nothing = home.told(&["history", "--suite", "small", "--lane", "edge"], 0);
    assert_eq!(nothing["series"], json!([]));

    // By ids, commits, a branch and a file.
    let commit = format!("{:040x}", 1);
    let file = home.at("0.json");
    for (base, head, code, verdict) in [
        ("small-0", "small-1", 0, "same"),
        (commit.as_str(), "main", 1, "worse"),
        ("main", commit.as_str(), 0, "better"),
        (file.as_str(), "main", 1, "worse"),
        ("main", file.as_str(), 0, "better"),
    ] {
        let compared = home.told(&["compare", base, head], code);
        assert_eq!(compared["cells"][0]["verdict"], verdict, "{base} {head}: {compared}");
    }
    home.refused(&["compare", "0123456789", "main"], 1, "nothing is called \"0123456789\"");
}

#[test]
fn what_was_changed_is_not_imported() {
    let home = Home(cli::home());
    let file = home.write("a.json", &result("a", 1, 100.0));
    home.told(&import(&[file]), 0);
    let with = |at: &str, value: Value| {
        let mut changed = result("a", 1, 100.0);
        *changed.pointer_mut(at).expect("it is there") = value;
        changed
    };
    let cases = [
        (with("/cells/0/samples_us/7", json!(1.0)), "another result of the id \"a\" is kept"),
        (with("/version", json!(9)), "it has version 9 of the document"),
        (with("/cells/0/samples_us/7", json!(-1.0)), "no run writes this"),
        (json!({"id": "b"}), "is not a result of this weft"),
    ];
    for (changed, says) in cases {
        let file = home.write("changed.json", &changed);
        home.refused(&import(&[file]), 1, says);
    }
    assert_eq!(home.told(&["list"], 0)["results"].as_array().expect("a list").len(), 1);
}

#[test]
fn a_result_is_exported_as_it_came() {
    let home = Home(cli::home());
    let file = home.write("a.json", &result("a", 1, 100.0));
    home.told(&import(&[file]), 0);
    let [json, csv, parquet] = ["out.json", "out.csv", "out.parquet"].map(|file| home.at(file));
    for (format, path) in [("json", &json), ("csv", &csv), ("parquet", &parquet)] {
        let told = home.told(&["export", "main", "--format", format, "-o", path], 0);
        assert_eq!(told, json!({"id": "a", "path": path}));
    }
    let document: Value = serde_json::from_slice(&std::fs::read(&json).expect("a file")).expect("JSON");
    assert_eq!(document, result("a", 1, 100.0));
    let csv = std::fs::read_to_string(&csv).expect("a file");
    assert_eq!(csv.lines().count(), 1 + 40 + 5, "{csv}");
    assert!(csv.lines().next().expect("a head").starts_with("run,suite,weft_commit,branch,"), "{csv}");
    assert_eq!(std::fs::read(&parquet).expect("a file")[..4], *b"PAR1");
    home.refused(&["export", "a", "--format", "csv", "-o", "/nowhere/a"], 1, "/nowhere");
    home.refused(&["export", "a", "--format", "xml", "-o", &json], 2, "possible values: parquet, csv, json");
}

#[test]
fn a_result_is_validated_and_certified() {
    let home = Home(cli::home());
    let file = |id: &str| {
        let mut result = result(id, id.as_bytes()[0].into(), 100.0);
        result["environment"]["commit"] = json!("0123456789");
        home.write(&format!("{id}.json"), &result).to_str().expect("UTF-8").to_owned()
    };
    let [a, b, c] = ["a", "b", "c"].map(file);
    let alone = home.told(&["validate", &a], 1);
    assert_eq!(alone["validation"]["valid"], false, "{alone}");
    let valid = home.told(&["validate", &a, "--level", "standard", "--with", &b, &c], 0);
    assert_eq!(valid["validation"]["repeats"], json!(["b", "c"]), "{valid}");
    assert_eq!(valid["validation"]["checks"].as_array().expect("checks").len(), 11, "{valid}");
    let strict = home.bench(&["validate", &a, "--level", "strict"]);
    assert_eq!(strict.status.code(), Some(1), "{strict:?}");
    assert!(cli::text(&strict.stdout).contains("provenance    strict    failed"), "{strict:?}");
    home.refused(
        &["validate", &a, "--level", "golden"],
        2,
        "there are minimal, standard, strict, certification",
    );

    let [key, public, cert] = ["key.pem", "key.pem.pub", "a.cert"].map(|file| home.at(file));
    home.told(&["key", "-o", &key], 0);
    home.refused(&["key", "-o", &key], 1, "key.pem");
    let certify = ["certify", &a, "--signing-key", &key, "-o", &cert];
    home.refused(&certify, 1, "it is not valid");
    assert!(!Path::new(&cert).exists());
    let standard = [&certify[..], &["--level", "standard", "--with", &b, &c]].concat();
    home.told(&standard, 0);
    let verified = home.told(&["verify", &cert, "--public-key", &public, "--result", &a], 0);
    assert_eq!((&verified["trusted"], &verified["statement"]["id"]), (&json!(true), &json!("a")));
    home.refused(&["verify", &cert, "--result", &b], 1, "the result was changed, or is another");
    let text = std::fs::read_to_string(&cert).expect("a certificate");
    std::fs::write(&cert, text.replacen("standard", "strict", 1)).expect("room for a file");
    home.refused(&["verify", &cert], 1, "its signature does not fit");
    home.refused(&["verify", &a], 1, "it is no certificate");
    home.refused(&["verify", &cert, "--public-key", &key], 2, "no key of Ed25519");
}

/// Runs from the newest on, each page before the one that came first.
async fn history_in_pages(daemon: &TestDaemon, machine: &Value) {
    let mut before = String::new();
    for (limit, oldest, count) in [(5, "small-7", 5), (6, "small-1", 6), (1, "small-0", 1)] {
        let path = format!("/api/v1/bench/history?suite=small&limit={limit}{before}");
        let page = daemon.get(&path).await;
        let points = page["series"][0]["points"].as_array().expect("points");
        assert_eq!((points.len(), &points[0]["run"]), (count, &json!(oldest)), "{page}");
        assert_eq!(&page["machine"], machine, "{page}");
        let earlier = Some(&page["earlier_us"]).filter(|earlier| !earlier.is_null());
        let wanted = Some(&points[0]["started_at_us"]).filter(|_| oldest != "small-0");
        assert_eq!(earlier, wanted, "{page}");
        before = format!("&before={}", page["earlier_us"]);
    }
    let nothing = daemon.get("/api/v1/bench/history?suite=small&before=1").await;
    assert_eq!((&nothing["series"], &nothing["machine"]), (&json!([]), &Value::Null));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_daemon_keeps_results_and_tells_of_them() {
    let firefox = FakeBrowser::new("firefox", &["wasm"]);
    let daemon = TestDaemon::start(&[&firefox]).await;
    let (home, files) = Home::with_runs();
    let at = |arguments: &[&str]| -> Vec<String> {
        arguments.iter().chain(&["--url", daemon.url.as_str()]).map(ToString::to_string).collect()
    };
    let told = |arguments: &[&str], code| {
        let arguments = at(arguments);
        home.told(&arguments.iter().map(String::as_str).collect::<Vec<_>>(), code)
    };
    let mut watcher = daemon.client().await;
    watcher.send(&json!({"type": "subscribe", "topics": ["suites"]})).await;
    watcher.caught_up().await;
    told(&import(&files), 0);
    let kept = watcher.event().await.header["event"].clone();
    assert_eq!(kept, json!({"kept": {"id": "small-0", "suite": "small"}}));
    assert_eq!(told(&["list"], 0)["results"].as_array().expect("a list").len(), 12);
    assert_eq!(told(&["compare", "small-0", "main"], 1)["cells"][0]["verdict"], "worse");
    let history = told(&["history", "--suite", "small"], 0);
    assert_eq!(history, daemon.get("/api/v1/bench/history?suite=small").await);
    assert_eq!(history["series"][0]["changes"][0]["run"], "small-6");
    history_in_pages(&daemon, &history["machine"]).await;

    let page = daemon.get("/api/v1/bench/runs?limit=5&branch=main").await;
    assert_eq!(page["items"].as_array().expect("a list").len(), 5);
    let cursor = page["cursor"].as_str().expect("there are more");
    let next = daemon.get(&format!("/api/v1/bench/runs?limit=10&cursor={cursor}")).await;
    assert_eq!((&next["items"][0]["id"], &next["cursor"]), (&json!("small-6"), &Value::Null));
    let mut document = daemon.get("/api/v1/bench/runs/small-2").await;
    assert_eq!(document, result("small-2", 2, 100.0));
    let verdicts = daemon.get("/api/v1/bench/runs/small-11/verdicts").await;
    assert_eq!(
        (&verdicts["items"][0]["base"], &verdicts["items"][0]["verdict"]),
        (&json!("small-0"), &json!("worse"))
    );

    let (status, _) = daemon.post("/api/v1/bench/runs", document.to_string()).await;
    assert_eq!(status, 200, "the same again");
    document["cells"][0]["samples_us"][0] = json!(1.0);
    let large = format!("\"{}\"", "a".repeat(33 << 20));
    let order = |noise: f64| json!({"base": "small-0", "head": "small-1", "noise": noise}).to_string();
    let unknown = json!({"base": "small-0", "head": "nothing", "noise": 0.1}).to_string();
    for (path, body, wanted) in [
        ("runs", document.to_string(), 409),
        ("runs", "{}".to_owned(), 422),
        ("runs", large, 413),
        ("comparisons", order(0.1), 200),
        ("comparisons", order(1.0), 422),
        ("comparisons", unknown, 404),
    ] {
        let (status, said) = daemon.post(&format!("/api/v1/bench/{path}"), body).await;
        assert_eq!(status, wanted, "{path}: {said}");
    }
    for (path, code) in [
        ("runs/nothing", "invalid_request"),
        ("history", "invalid_request"),
        ("runs?limit=0", "invalid_request"),
    ] {
        assert_eq!(daemon.get(&format!("/api/v1/bench/{path}")).await["code"], code, "{path}");
    }
}
