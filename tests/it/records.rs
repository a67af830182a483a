//! What goes in comes out: tensors of every kind and size, rows of runs, events.

use serde_json::{Value, json};

use crate::support::{FakeBrowser, Reply, TestDaemon, graphs, infer, infer_x, wire};

fn wasm() -> Value {
    json!({"backend": ["wasm"], "timeout": 20_000_000})
}

async fn start(browsers: &[&FakeBrowser]) -> TestDaemon {
    let daemon = TestDaemon::start(browsers).await;
    daemon.add("floats", graphs::identity(graphs::FLOAT)).await;
    daemon.add("texts", graphs::identity(graphs::STRING)).await;
    daemon
}

fn data(reply: &Reply) -> &Value {
    assert_eq!(reply.header["type"], "result", "{reply:?}");
    &reply.header["outputs"][0]["data"]
}

#[tokio::test]
async fn elements_survive_the_way_through_a_lane() {
    let browser = FakeBrowser::new("fake", &["wasm"]);
    let daemon = start(&[&browser]).await;
    let mut client = daemon.client().await;
    let cases = [
        ("floats", "FP32", json!([1.5, -0.0, 3.402_823_5e38, 1e-45])),
        ("floats", "FP32", json!(["NaN", "Infinity", "-Infinity"])),
        ("floats", "FP32", json!([])),
        ("texts", "BYTES", json!(["a", "", "ünï", "many words"])),
        ("texts", "BYTES", json!([])),
    ];
    for backend in ["wasm", "ort-cpu"] {
        for (model, datatype, elements) in &cases {
            let shape = [elements.as_array().expect("a list").len()];
            let inputs = json!([{"name": "x", "datatype": datatype, "shape": shape, "data": elements}]);
            let reply = client.ask(&infer("r", model, &inputs, &json!({"backend": backend}))).await;
            let told = data(&reply);
            let as_f32 =
                |value: &Value| value.as_f64().map_or_else(|| value.clone(), |number| json!(number as f32));
            let list =
                |value: &Value| value.as_array().expect("a list").iter().map(as_f32).collect::<Vec<_>>();
            assert_eq!(list(told), list(elements), "{backend} {model}");
            assert_eq!(reply.header["outputs"][0]["shape"], json!(shape));
        }
        // The engines' own strings end at a zero byte.
        let inputs = json!([{"name": "x", "datatype": "BYTES", "shape": [1], "data": ["\u{0}"]}]);
        let reply = client.ask(&infer("r", "texts", &inputs, &json!({"backend": backend}))).await;
        assert_eq!(reply.header["error"]["code"], "invalid_request", "{reply:?}");
    }
    daemon.stop().await;
}

/// Over 1 MiB a body travels in messages of its own, both ways.
#[tokio::test]
async fn bodies_of_every_size_come_back_as_they_went() {
    let browser = FakeBrowser::new("fake", &["wasm"]);
    let daemon = start(&[&browser]).await;
    let mut client = daemon.client().await;
    for elements in [0, 1, 262_144, 262_145, 1_000_003] {
        let bytes: Vec<u8> = (0..elements).flat_map(|at| (at as f32).to_le_bytes()).collect();
        let input = json!([{"name": "x", "datatype": "FP32", "shape": [elements], "parameters": {"binary_data_size": bytes.len()}}]);
        let mut request = infer("r", "floats", &input, &wasm());
        request["parameters"]["binary_data_output"] = json!(true);
        client.send_frame(&request, &bytes).await;
        let reply = client.reply("r").await;
        assert_eq!(
            reply.header["outputs"][0]["parameters"]["binary_data_size"],
            bytes.len(),
            "{:?}",
            reply.header
        );
        assert!(reply.body == bytes, "{elements} elements came back changed");
    }
    daemon.stop().await;
}

#[tokio::test]
async fn each_output_travels_as_its_caller_wants() {
    let daemon = start(&[]).await;
    let mut client = daemon.client().await;
    let mut request = infer_x("r", &json!({"binary_data_output": true}));
    let reply = client.ask(&request).await;
    assert_eq!(wire::floats(&reply.body), [-1.0, -2.0, -3.0, -4.0]);
    assert!(reply.header["outputs"][0].get("data").is_none());
    request["outputs"] = json!([{"name": "y", "parameters": {"binary_data": false}}]);
    client.ask(&request).await.negated();
    daemon.stop().await;
}

#[tokio::test]
async fn a_run_is_told_as_it_ends_and_kept_as_it_was_told() {
    let browser = FakeBrowser::new("fake", &["wasm"]);
    let daemon = start(&[&browser]).await;
    daemon.verify("neg", &json!({"backend": ["wasm"]})).await;
    let mut client = daemon.client().await;
    client.send(&json!({"type": "subscribe", "topics": ["pool", "runs"]})).await;
    client.caught_up().await;
    let reply = client.ask(&infer_x("r", &wasm())).await;
    let (run, timing) = (&reply.header["parameters"]["run"], &reply.header["parameters"]["timing_us"]);
    let event = next_event(&mut client, "runs").await;
    assert_eq!((&event["event"]["run"], &event["lagged"]), (run, &json!(0)));
    let kept = daemon.runs().await;
    let row = kept.last().expect("a row");
    assert_eq!(row, &event["event"]);
    assert_eq!((&row["provenance"], &row["timing"]), (reply.provenance(), timing));
    assert_eq!(
        (timing["compute"].as_u64(), timing["decode"].as_u64()),
        (Some(5), Some(1)),
        "the lane's own figures"
    );
    let parts: u64 = ["queue", "transfer"].iter().map(|part| timing[part].as_u64().expect("a figure")).sum();
    assert!(parts <= timing["total"].as_u64().expect("a figure"), "{timing}");

    browser.kill_lane("wasm");
    let lost = next_event(&mut client, "pool").await;
    assert!(lost["seq"].as_u64() > event["seq"].as_u64(), "{lost}");
    assert_eq!(lost["event"]["lanes"]["fake-1/wasm"]["state"], "recovering");
    assert_eq!(lost["event"]["state"], "degraded");
    let back = next_event(&mut client, "pool").await;
    assert_eq!(back["event"]["lanes"]["fake-1/wasm"]["state"], "ready");
    assert_eq!((&back["event"]["state"], &back["event"]["reason"]), (&json!("ready"), &Value::Null));

    // What never reached a lane is a row as well.
    client.ask(&infer_x("r", &json!({"browser": "netscape"}))).await.refused(
        "no_backend",
        "never",
        "netscape",
    );
    let kept = daemon.runs().await;
    let row = kept.last().expect("a row");
    assert_eq!((&row["provenance"], &row["error"]["code"]), (&Value::Null, &json!("no_backend")));
    daemon.stop().await;
}

async fn next_event(client: &mut crate::support::Client, topic: &str) -> Value {
    loop {
        let reply = client.event().await;
        if reply.header["topic"] == topic {
            return reply.header;
        }
    }
}

/// A connection has one subscription: the latest.
#[tokio::test]
async fn a_subscription_replaces_the_one_before() {
    let browser = FakeBrowser::new("fake", &["wasm"]);
    let daemon = start(&[&browser]).await;
    daemon.verify("neg", &json!({"backend": ["wasm"]})).await;
    let (mut client, mut watcher) = (daemon.client().await, daemon.client().await);
    let topics = |topics: Value| json!({"type": "subscribe", "topics": topics});
    client.send(&topics(json!(["runs"]))).await;
    client.send(&topics(json!(["runs"]))).await;
    watcher.send(&topics(json!(["runs"]))).await;
    watcher.caught_up().await;
    for _ in 0..3 {
        let reply = client.ask(&infer_x("r", &wasm())).await;
        let run = &reply.header["parameters"]["run"];
        assert_eq!(&client.event().await.header["event"]["run"], run, "an event comes once");
        assert_eq!(&watcher.event().await.header["event"]["run"], run);
    }
    for others in [json!([]), json!(["pool"])] {
        client.send(&topics(others)).await;
        client.ask(&infer_x("r", &wasm())).await.negated();
        watcher.event().await;
    }
    browser.kill_lane("wasm");
    assert_eq!(client.event().await.header["topic"], "pool", "runs were no longer wanted");
    daemon.stop().await;
}
