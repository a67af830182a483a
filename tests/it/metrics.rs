//! `/metrics` after all that can happen to a request, and what the documentation says of it.

#![allow(clippy::float_cmp, reason = "counts are whole")]

use std::{collections::BTreeMap, path::Path};

use serde_json::json;
use tokio::sync::mpsc;
use weft::telemetry::METRICS;

use crate::support::{Conduct, Deed, FakeBrowser, TestDaemon, infer, infer_x, soon};

impl TestDaemon {
    /// What a scraper reads.
    pub(crate) async fn scrape(&self) -> String {
        let response = self.http.get(format!("{}/metrics", self.url)).send().await.expect("it answers");
        assert_eq!(response.status(), 200);
        let kind = response.headers()["content-type"].to_str().expect("ASCII").to_owned();
        assert_eq!(kind, "text/plain; version=0.0.4; charset=utf-8");
        response.text().await.expect("text")
    }
}

/// The value of the line that begins with this name and these labels.
#[track_caller]
fn value(text: &str, series: &str) -> f64 {
    let found = text.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
    found.unwrap_or_else(|| panic!("no {series} in {text}")).parse().expect("a number")
}

/// A daemon to which everything has happened that a metric counts.
async fn eventful() -> TestDaemon {
    let browser = FakeBrowser::new("fake", &["wasm"]);
    browser.settings().memory.heap_per_load = 64 << 20;
    let daemon = TestDaemon::start(&[&browser]).await;
    let wasm = json!({"backend": ["wasm"]});
    daemon.verify("neg", &wasm).await;
    let mut client = daemon.client().await;
    for id in ["a", "b", "c"] {
        client.ask(&infer_x(id, &wasm)).await.negated();
    }
    // Its lane goes under it once, and it is tried again.
    let (ask, mut asked) = mpsc::unbounded_channel();
    browser.behaves(Conduct::Ask(ask));
    client.send(&infer_x("retried", &wasm)).await;
    let step = soon("a step", asked.recv()).await.expect("the browser lives");
    browser.behaves(Conduct::Compute);
    step.answer(Deed::Close);
    client.reply("retried").await.negated();
    // A browser that never had the backend.
    let elsewhere = json!({"backend": ["webnn"], "fallback": "native"});
    client.ask(&infer_x("fallback", &elsewhere)).await.negated();
    client.ask(&infer_x("nowhere", &json!({"backend": ["webnn"]}))).await;
    client.ask(&infer("nobody", "no-such-model", &json!([]), &json!({}))).await;
    client.ask(&infer("wrong", "neg", &json!([]), &json!({}))).await;
    daemon.settled().await;
    daemon
}

#[tokio::test]
async fn what_happened_to_requests_is_counted_and_timed() {
    let daemon = eventful().await;
    let text = daemon.scrape().await;
    let lane = r#"{model="neg",browser="fake",backend="wasm"}"#;
    for name in ["request", "queue", "compute", "transfer", "decode", "encode"] {
        assert_eq!(value(&text, &format!("weft_{name}_seconds_count{lane}")), 4.0, "{name}");
    }
    let whole = value(&text, &format!("weft_request_seconds_sum{lane}"));
    assert!(whole > 0.0 && whole >= value(&text, &format!("weft_compute_seconds_sum{lane}")));
    assert!(value(&text, &format!("weft_load_seconds_count{lane}")) >= 1.0);
    let cases = [
        (r#"weft_requests_total{model="neg",backend="wasm",outcome="ok"}"#, 4.0),
        (r#"weft_requests_total{model="neg",backend="ort-cpu",outcome="ok"}"#, 1.0),
        (r#"weft_requests_total{model="neg",backend="none",outcome="no_backend"}"#, 1.0),
        (r#"weft_requests_total{model="none",backend="none",outcome="unknown_model"}"#, 1.0),
        (r#"weft_requests_total{model="none",backend="none",outcome="invalid_request"}"#, 1.0),
        (r#"weft_failures_total{code="no_backend"}"#, 1.0),
        (r#"weft_failures_total{code="unknown_model"}"#, 1.0),
        (r#"weft_retries_total{model="neg",backend="wasm",code="lane_lost"}"#, 1.0),
        (r#"weft_fallbacks_total{model="neg"}"#, 1.0),
        ("weft_requests_pending", 0.0),
        ("weft_queue_depth", 0.0),
        (r#"weft_lanes{browser="fake",backend="wasm",state="ready"}"#, 1.0),
        (r#"weft_lanes{browser="native",backend="ort-cpu",state="ready"}"#, 1.0),
        (r#"weft_sessions{browser="fake",backend="wasm",state="verified"}"#, 1.0),
        (r#"weft_instances{browser="fake",state="ready"}"#, 1.0),
        (r#"weft_instance_launches_total{browser="fake"}"#, 1.0),
        (r#"weft_instance_restarts_total{browser="fake"}"#, 0.0),
        ("weft_store_rows_lost_total", 0.0),
    ];
    for (series, wanted) in cases {
        assert_eq!(value(&text, series), wanted, "{series}\n{text}");
    }
    assert!(!text.contains("no-such-model"), "a client's word is no label");
    daemon.stop().await;
}

#[tokio::test]
async fn what_is_so_at_the_moment_leaves_no_trace_when_it_is_over() {
    let browser = FakeBrowser::new("fake", &["wasm"]);
    let daemon = TestDaemon::start(&[&browser]).await;
    daemon.verify("neg", &json!({"backend": ["wasm"]})).await;
    let (ask, mut asked) = mpsc::unbounded_channel();
    browser.behaves(Conduct::Ask(ask));
    let mut client = daemon.client().await;
    for id in ["a", "b", "waits"] {
        client.send(&infer_x(id, &json!({"backend": ["wasm"]}))).await;
    }
    client.caught_up().await;
    let first = soon("a step", asked.recv()).await.expect("the browser lives");
    let text = daemon.scrape().await;
    assert_eq!(value(&text, "weft_requests_pending"), 3.0);
    assert_eq!(value(&text, "weft_queue_depth"), 1.0);
    let executing = r#"weft_lanes{browser="fake",backend="wasm",state="executing"}"#;
    assert_eq!(value(&text, executing), 1.0);
    browser.behaves(Conduct::Compute);
    first.answer(Deed::Compute);
    soon("a step", asked.recv()).await.expect("the browser lives").answer(Deed::Compute);
    for id in ["a", "b", "waits"] {
        client.reply(id).await.negated();
    }
    assert_eq!(daemon.lane("fake-1/wasm").await["state"], "ready");
    let text = daemon.scrape().await;
    assert!(!text.contains(executing), "{text}");
    assert_eq!(value(&text, "weft_requests_pending"), 0.0);
    daemon.stop().await;
}

/// Name, kind and labels of each metric in the documentation's table.
fn documented() -> BTreeMap<String, (String, Vec<String>)> {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/operations.md");
    let text = std::fs::read_to_string(page).expect("the page");
    let section =
        text.split("\n## Metrics\n").nth(1).expect("a section").split("\n## ").next().expect("its text");
    let words = |cell: &str| -> Vec<String> {
        cell.split(',')
            .map(|word| word.trim().trim_matches('`').to_owned())
            .filter(|word| !word.is_empty())
            .collect()
    };
    let rows = section.lines().filter(|line| line.starts_with("| `"));
    rows.map(|row| {
        let cells: Vec<&str> = row.split('|').map(str::trim).collect();
        (cells[1].trim_matches('`').to_owned(), (cells[2].to_owned(), words(cells[3])))
    })
    .collect()
}

#[tokio::test]
async fn every_metric_is_documented_and_every_documented_one_is_told() {
    let (documented, daemon) = (documented(), eventful().await);
    let text = daemon.scrape().await;
    let told = text.lines().filter_map(|line| line.strip_prefix("# TYPE "));
    let told: BTreeMap<_, _> = told.map(|line| line.split_once(' ').expect("name and kind")).collect();
    for (name, kind) in &told {
        let (documented, _) = documented.get(*name).unwrap_or_else(|| panic!("{name} is not documented"));
        assert_eq!(documented, kind, "{name}");
        assert!(text.contains(&format!("# HELP {name} ")), "{name}");
    }
    assert_eq!(documented.len(), METRICS.len());
    for metric in METRICS {
        let (kind, labels) =
            documented.get(metric.name).unwrap_or_else(|| panic!("{} is missing", metric.name));
        assert_eq!(
            (kind.as_str(), labels.join(",")),
            (metric.kind.as_str(), metric.labels.join(",")),
            "{}",
            metric.name
        );
        // No browser here has processes of its own to weigh, and hedges, which `hedging` counts, take two lanes.
        if metric.name == "weft_instance_memory_bytes" || metric.name.starts_with("weft_hedges_") {
            continue;
        }
        assert!(told.contains_key(metric.name), "{} is not told", metric.name);
        let line = text
            .lines()
            .find(|line| !line.starts_with('#') && line.starts_with(metric.name))
            .expect("a line");
        for label in labels {
            assert!(line.contains(&format!("{label}=\"")), "{line} has no {label}");
        }
    }
    daemon.stop().await;
}
