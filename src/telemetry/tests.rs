//! Names, ids and series as tables.

#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

use std::collections::BTreeSet;

use http::{HeaderMap, HeaderValue};

use super::{Kind, METRICS, Metrics, Origin, Sample};
use crate::domain::{
    BackendKind, Code, Digest, Environment, Failure, InstanceId, LaneId, Provenance, Retry, RunId, RunRecord,
    Timing, VerdictStatus,
};

#[test]
fn metrics_are_named_as_prometheus_wants_it() {
    let mut names = BTreeSet::new();
    for metric in METRICS {
        let name = metric.name;
        assert!(names.insert(name), "{name} twice");
        assert!(name.starts_with("weft_") || name.starts_with("process_"), "{name}");
        assert!(name.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_'), "{name}");
        assert!(!metric.help.is_empty() && metric.help.ends_with('.'), "{name}: {}", metric.help);
        assert_eq!(metric.kind == Kind::Counter, name.ends_with("_total"), "{name}");
        assert_eq!(metric.kind == Kind::Histogram, name.ends_with("_seconds"), "{name}");
    }
}

fn provenance() -> Provenance {
    let lane = Environment {
        instance: InstanceId::new("fake-1"),
        lane: LaneId::new("fake-1/wasm"),
        browser: "fake".to_owned(),
        browser_version: "1".to_owned(),
        backend: BackendKind::Wasm,
        adapter: None,
        webnn_device: None,
        sandbox: None,
        engine: "none".to_owned(),
        threads: 1,
        flags: Vec::new(),
    };
    Provenance::new(&lane, [].into(), Digest::new([1; 32]), VerdictStatus::Verified)
}

fn record(model: &str, error: Option<Code>) -> RunRecord {
    RunRecord {
        run: RunId::new("r"),
        request: None,
        accepted_at_us: 0,
        caller: "local".to_owned(),
        model: model.parse().unwrap(),
        provenance: Some(provenance()),
        timing: Timing {
            queue: 40,
            transfer: 190,
            decode: 5,
            compute: 2_500_000,
            encode: 4,
            total: 3_000_000,
        },
        error: error.map(|code| Failure::new(code, Retry::Elsewhere, "so")),
    }
}

/// The value of a line that begins so.
fn value(text: &str, line: &str) -> Option<f64> {
    text.lines().find_map(|found| found.strip_prefix(line)?.trim().parse().ok())
}

#[test]
fn what_happened_is_told_by_lane_and_outcome() {
    let metrics = Metrics::default();
    metrics.ran(&record("m", None), true);
    metrics.ran(&record("m", None), true);
    metrics.ran(&record("m", Some(Code::LaneLost)), false);
    metrics.ran(&record("m", Some(Code::OutOfMemory)), true);
    metrics.ran(&RunRecord { provenance: None, ..record("m", Some(Code::Overloaded)) }, true);
    metrics.refused(None, Code::InvalidRequest);
    let text = metrics.render(vec![
        Sample::new("weft_lanes", 1.0).of("state", "a \"b\"\n"),
        Sample::new("weft_lanes", 2.0).of("state", "a \"b\"\n"),
    ]);
    let lane = r#"model="m",browser="fake",backend="wasm""#;
    let cases = [
        (format!("weft_request_seconds_count{{{lane}}}"), 2.0),
        (format!("weft_request_seconds_sum{{{lane}}}"), 6.0),
        (format!("weft_compute_seconds_bucket{{{lane},le=\"1\"}}"), 0.0),
        (format!("weft_compute_seconds_bucket{{{lane},le=\"2.5\"}}"), 2.0),
        (format!("weft_queue_seconds_bucket{{{lane},le=\"0.00005\"}}"), 2.0),
        (r#"weft_requests_total{model="m",backend="wasm",outcome="ok"}"#.to_owned(), 2.0),
        (r#"weft_requests_total{model="m",backend="wasm",outcome="out_of_memory"}"#.to_owned(), 1.0),
        (r#"weft_requests_total{model="m",backend="none",outcome="overloaded"}"#.to_owned(), 1.0),
        (r#"weft_requests_total{model="none",backend="none",outcome="invalid_request"}"#.to_owned(), 1.0),
        (r#"weft_failures_total{code="out_of_memory"}"#.to_owned(), 1.0),
        (r#"weft_retries_total{model="m",backend="wasm",code="lane_lost"}"#.to_owned(), 1.0),
        (r#"weft_lanes{state="a \"b\"\n"}"#.to_owned(), 3.0),
    ];
    for (line, wanted) in cases {
        assert_eq!(value(&text, &line), Some(wanted), "{line}\n{text}");
    }
    assert!(!text.contains(r#"weft_failures_total{code="lane_lost"}"#), "it was tried again");
    assert!(value(&text, "process_cpu_seconds_total ").is_some_and(|seconds| seconds > 0.0), "{text}");
}

#[test]
fn however_many_models_come_the_series_are_bounded() {
    let metrics = Metrics::default();
    for number in 0..300 {
        metrics.ran(&record(&format!("m{number}"), None), true);
    }
    let text = metrics.render(Vec::new());
    let models = text.lines().filter(|line| line.starts_with("weft_request_seconds_count")).count();
    assert_eq!(models, 257, "256 with names, and all others together");
    assert_eq!(value(&text, r#"weft_requests_total{model="other",backend="wasm",outcome="ok"}"#), Some(44.0));
}

#[test]
fn a_request_keeps_a_good_id_and_gets_one_for_a_bad_one() {
    let long = "x".repeat(129);
    let cases = [
        ("7b0c-1", true),
        ("a/b:c+d=@_~", true),
        ("", false),
        ("two words", false),
        ("quo\"te", false),
        ("tab\t", false),
        (long.as_str(), false),
        (&long[1..], true),
    ];
    for (given, kept) in cases {
        let headers = HeaderMap::from_iter([(
            http::HeaderName::from_static("x-request-id"),
            HeaderValue::from_str(given).unwrap(),
        )]);
        let request = Origin::of(&headers).request;
        assert_eq!(request.as_str() == given, kept, "{given:?} -> {request}");
        assert!(!request.as_str().is_empty());
    }
    let (one, other) = (Origin::of(&HeaderMap::new()), Origin::of(&HeaderMap::new()));
    assert_ne!(one.request, other.request);
}

#[test]
fn requests_of_a_connection_are_numbered_unless_they_have_ids() {
    let headers = |id: &str| {
        HeaderMap::from_iter([(
            http::HeaderName::from_static("x-request-id"),
            HeaderValue::from_str(id).unwrap(),
        )])
    };
    let connection = Origin::of(&headers("c"));
    let own = connection.part(Some("mine".parse().unwrap()), None).request;
    let numbered = [connection.part(None, None), connection.part(None, Some("nonsense"))];
    assert_eq!(own.as_str(), "mine");
    assert_eq!(numbered.map(|part| part.request.to_string()), ["c-1", "c-2"]);
    let full = Origin::of(&headers(&"x".repeat(128)));
    assert_eq!(full.part(None, None).request.as_str().len(), 32, "there is no room for a number");
}
