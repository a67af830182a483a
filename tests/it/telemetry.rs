//! A request's id and its trace: in the answer, the header, the row, the log, and at a collector.

use std::{
    collections::BTreeMap,
    io::Read as _,
    process::{Command, Stdio},
    sync::{Arc, Mutex},
};

use axum::{Router, body::Bytes, extract::State, routing::post};
use nix::sys::signal::Signal;
use opentelemetry_proto::tonic::{
    collector::{logs::v1::ExportLogsServiceRequest, trace::v1::ExportTraceServiceRequest},
    common::v1::{KeyValue, any_value::Value as Any},
    trace::v1::Span,
};
use prost::Message as _;
use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;

use crate::{
    cli,
    support::{Client, FakeBrowser, TestDaemon, graphs, infer_x, soon},
};

#[tokio::test]
async fn a_requests_id_joins_answer_header_and_row() {
    let browser = FakeBrowser::new("fake", &["wasm"]);
    let daemon = TestDaemon::start(&[&browser]).await;
    let answer = daemon.http.get(format!("{}/v2", daemon.url)).header("X-Request-Id", "mine-1").send().await;
    assert_eq!(answer.expect("it answers").headers()["x-request-id"], "mine-1");
    for bad in ["two words", "\u{fc}", &"x".repeat(129)] {
        let answer =
            daemon.http.get(format!("{}/no-route", daemon.url)).header("X-Request-Id", bad).send().await;
        let answer = answer.expect("it answers");
        let made = answer.headers()["x-request-id"].to_str().expect("ASCII").to_owned();
        assert!(made.len() == 32 && made.bytes().all(|byte| byte.is_ascii_hexdigit()), "{bad:?}: {made}");
    }
    let mut upgrade =
        format!("{}/v2/ws", daemon.url.replacen("http", "ws", 1)).into_client_request().expect("a request");
    upgrade.headers_mut().insert("x-request-id", "conn".parse().expect("ASCII"));
    let (socket, response) = tokio_tungstenite::connect_async(upgrade).await.expect("a connection");
    assert_eq!(response.headers()["x-request-id"], "conn");
    let mut client = Client::over(socket);
    let own = client.ask(&infer_x("a", &json!({"request": "own-1", "fallback": "native"}))).await;
    let numbered = client.ask(&infer_x("b", &json!({}))).await;
    let ids = [&own, &numbered].map(|reply| reply.header["parameters"]["request"].clone());
    assert_eq!(ids, [json!("own-1"), json!("conn-1")]);
    client.ask(&infer_x("c", &json!({"request": "two words"}))).await.refused(
        "invalid_request",
        "never",
        "a request's id is",
    );
    let body = json!({"inputs": [crate::oip::x()]}).to_string();
    let posted = crate::oip::told(daemon.infer("neg").header("X-Request-Id", "posted-1").body(body)).await;
    let told = &posted.json["parameters"];
    assert_eq!(
        (&told["request"], &posted.headers["x-request-id"]),
        (&json!("posted-1"), &"posted-1".parse().expect("ASCII"))
    );
    let runs = daemon.runs().await;
    let row = runs.iter().find(|run| run["run"] == told["run"]).expect("a row");
    assert_eq!(row["request"], "posted-1");
    for reply in [own, numbered] {
        let parameters = &reply.header["parameters"];
        let row = runs.iter().find(|run| run["run"] == parameters["run"]).expect("a row");
        assert_eq!(row["request"], parameters["request"]);
    }
    daemon.stop().await;
}

/// What a collector got.
#[derive(Clone, Default)]
struct Collector {
    spans: Arc<Mutex<Vec<Span>>>,
    /// Trace id and attributes of each log record.
    logs: Arc<Mutex<Vec<(Vec<u8>, BTreeMap<String, String>)>>>,
}

impl Collector {
    async fn start() -> (Self, String) {
        let collector = Self::default();
        let traces = async |State(collector): State<Self>, body: Bytes| {
            let request = ExportTraceServiceRequest::decode(body).expect("protobuf");
            let spans = request.resource_spans.into_iter().flat_map(|resource| resource.scope_spans);
            collector.spans.lock().expect("no panic").extend(spans.flat_map(|scope| scope.spans));
        };
        let logs = async |State(collector): State<Self>, body: Bytes| {
            let request = ExportLogsServiceRequest::decode(body).expect("protobuf");
            let records = request.resource_logs.into_iter().flat_map(|resource| resource.scope_logs);
            let records = records.flat_map(|scope| scope.log_records);
            let kept = records.map(|record| (record.trace_id, words(&record.attributes)));
            collector.logs.lock().expect("no panic").extend(kept);
        };
        let router = Router::new()
            .route("/v1/traces", post(traces))
            .route("/v1/logs", post(logs))
            .with_state(collector.clone());
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("a port");
        tokio::spawn(async move { axum::serve(listener, router).await });
        (collector, format!("http://{address}"))
    }

    fn spans(&self) -> Vec<Span> {
        self.spans.lock().expect("no panic").clone()
    }
}

fn words(attributes: &[KeyValue]) -> BTreeMap<String, String> {
    let word = |value: Any| match value {
        Any::StringValue(text) => text,
        Any::IntValue(number) => number.to_string(),
        other => format!("{other:?}"),
    };
    let pair = |pair: &KeyValue| Some((pair.key.clone(), word(pair.value.clone()?.value?)));
    attributes.iter().filter_map(pair).collect()
}

#[tokio::test]
async fn one_trace_joins_request_queue_and_step_and_a_log_in_json() {
    let (collector, endpoint) = Collector::start().await;
    let home = cli::home();
    let text =
        format!("[browsers]\nchromium = 0\n[telemetry]\notlp = \"{endpoint}\"\nfilter = \"weft=debug\"\n");
    std::fs::write(home.path().join("weft.toml"), text).expect("room for a file");
    let mut command = Command::new(env!("CARGO_BIN_EXE_weft"));
    command.args(["serve", "--listen", "127.0.0.1:0", "--log", "json", "--home"]).arg(home.path());
    let mut served = cli::start(command.env_remove("WEFT_HOME").env_remove("WEFT_LOG").stdin(Stdio::null()));
    let mut stderr = served.child.stderr.take().expect("piped");
    let log = std::thread::spawn(move || {
        let mut text = String::new();
        stderr.read_to_string(&mut text).map(|_| text)
    });
    let url = served.line.trim().trim_start_matches("listening on ").to_owned();
    let http = reqwest::Client::builder().no_proxy().build().expect("an HTTP client");
    let upload =
        http.post(format!("{url}/api/v1/blobs")).body(graphs::neg()).send().await.expect("it answers");
    let upload: Value = upload.json().await.expect("JSON");
    let body = json!({"name": "neg", "digest": upload["digest"], "source": "a test"});
    let added =
        http.post(format!("{url}/api/v1/models")).body(body.to_string()).send().await.expect("it answers");
    assert_eq!(added.status(), 200);
    let mut client = Client::connect(&url).await;
    let (trace, parent) = ("4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7");
    let parameters = json!({"request": "joined", "traceparent": format!("00-{trace}-{parent}-01")});
    let reply = client.ask(&infer_x("r", &parameters)).await;
    reply.negated();
    let run = reply.header["parameters"]["run"].as_str().expect("a run").to_owned();
    client
        .ask(&infer_x("unsampled", &json!({"traceparent": format!("00-{}-{parent}-00", "1".repeat(32))})))
        .await
        .negated();
    client.ask(&infer_x("rootless", &json!({"traceparent": "nonsense"}))).await.negated();
    drop(client);
    // The collector answers on this thread.
    let ended = tokio::task::spawn_blocking(move || served.end(Signal::SIGTERM));
    assert_eq!(soon("its end", ended).await.expect("no panic"), (Some(0), String::new()));
    let digit = |half: u8| char::from_digit(u32::from(half), 16).expect("a half of a byte");
    let hex = |bytes: &[u8]| -> String {
        bytes.iter().flat_map(|byte| [byte >> 4, byte & 0xf]).map(digit).collect()
    };
    let spans = collector.spans();
    let own: BTreeMap<_, _> = spans
        .iter()
        .filter(|span| hex(&span.trace_id) == trace)
        .map(|span| (span.name.as_str(), span))
        .collect();
    assert_eq!(own.keys().copied().collect::<Vec<_>>(), ["queue", "request", "step"], "{spans:?}");
    assert_eq!(hex(&own["request"].parent_span_id), parent);
    for below in ["queue", "step"] {
        assert_eq!(own[below].parent_span_id, own["request"].span_id, "{below}");
    }
    assert!(own["queue"].end_time_unix_nano <= own["step"].end_time_unix_nano);
    let (request, step) = (words(&own["request"].attributes), words(&own["step"].attributes));
    assert_eq!((&*request["request"], &*request["model"], &*request["outcome"]), ("joined", "neg", "ok"));
    assert_eq!((&request["run"], &step["run"]), (&run, &run));
    assert_eq!((&*step["backend"], &*step["attempt"], &*step["outcome"]), ("ort-cpu", "1", "ok"));
    assert!(!spans.iter().any(|span| hex(&span.trace_id) == "1".repeat(32)), "its caller did not sample it");
    let roots = spans.iter().filter(|span| span.name == "request" && span.parent_span_id.is_empty());
    assert_eq!(roots.count(), 1, "what is not well-formed is no parent");
    let logs = collector.logs.lock().expect("no panic").clone();
    let told =
        logs.iter().find(|(_, words)| words.get("run") == Some(&run)).expect("the run's line is exported");
    assert_eq!((hex(&told.0).as_str(), &*told.1["request"]), (trace, "joined"));
    let log = log.join().expect("no panic").expect("UTF-8");
    let lines: Vec<Value> =
        log.lines().map(|line| serde_json::from_str(line).expect("a JSON object a line")).collect();
    let line =
        lines.iter().find(|line| line["run"] == json!(run)).unwrap_or_else(|| panic!("no run in {log}"));
    assert_eq!((&line["request"], &line["level"]), (&json!("joined"), &json!("DEBUG")));
}

/// A collector that is not there costs its log lines, and no request.
#[tokio::test]
async fn without_its_collector_the_daemon_serves_and_ends() {
    let home = cli::home();
    let text = "[browsers]\nchromium = 0\n[telemetry]\notlp = \"http://127.0.0.1:9\"\n";
    std::fs::write(home.path().join("weft.toml"), text).expect("room for a file");
    let served = cli::serve(home.path());
    let url = served.line.trim().trim_start_matches("listening on ").to_owned();
    let mut client = Client::connect(&url).await;
    client.caught_up().await;
    let ended = tokio::task::spawn_blocking(move || served.end(Signal::SIGTERM));
    assert_eq!(soon("its end", ended).await.expect("no panic"), (Some(0), String::new()));
    cli::nothing_left(home.path());
}
