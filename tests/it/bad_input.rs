//! Input that is wrong: each gets an error with a name, and the daemon serves the next request.

use std::net::SocketAddr;

use bytes::Bytes;
use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio_tungstenite::tungstenite::{Message, protocol::frame::coding::CloseCode};
use weft::{daemon::DaemonError, http::ListenError};

use crate::support::{
    Conduct, Deed, FakeBrowser, TestDaemon, blobs, graphs, home, infer, infer_x, soon,
    wire::{self, frame},
};

fn pinned() -> Value {
    json!({"backend": ["wasm"]})
}

fn x(change: impl FnOnce(&mut Value)) -> Value {
    let mut input = json!({"name": "x", "datatype": "FP32", "shape": [1, 4], "data": [1, 2, 3, 4]});
    change(&mut input);
    json!([input])
}

/// Good but for one thing, with what the daemon must say about it.
fn requests() -> Vec<(Value, &'static str, &'static str)> {
    let inputs = |inputs| infer("r", "neg", &inputs, &pinned());
    let good = x(|_| {});
    let with = |key: &str, value: Value| infer_x("r", &json!({key: value}));
    let wanting = |outputs: Value| {
        let mut request = infer_x("r", &pinned());
        request["outputs"] = outputs;
        request
    };
    let mut other_version = infer_x("r", &pinned());
    other_version["model_version"] = json!("2");
    vec![
        (infer("r", "nope", &good, &pinned()), "unknown_model", "no model is called \"nope\"; there are neg"),
        (infer("r", "../neg", &good, &pinned()), "invalid_request", "is no model name"),
        (other_version, "unknown_model", "has no version \"2\""),
        (inputs(json!([])), "invalid_request", "input \"x\" is missing"),
        (
            inputs(json!([good[0], {"name": "z", "datatype": "FP32", "shape": [0], "data": []}])),
            "invalid_request",
            "no input \"z\"",
        ),
        (inputs(json!([good[0], good[0]])), "invalid_request", "given twice"),
        (inputs(x(|x| x["datatype"] = json!("INT32"))), "invalid_request", "is INT32, the model wants FP32"),
        (inputs(x(|x| x["datatype"] = json!("FP8"))), "invalid_request", "is no datatype"),
        (
            inputs(x(|x| {
                x["shape"] = json!([1, 3]);
                x["data"] = json!([1, 2, 3]);
            })),
            "invalid_request",
            "[1, 3], the model wants [n, 4]",
        ),
        (inputs(x(|x| x["shape"] = json!([4]))), "invalid_request", "the model wants [n, 4]"),
        (inputs(x(|x| x["data"] = json!([1, 2, 3]))), "invalid_request", "takes 16 bytes, 12 came"),
        (inputs(x(|x| x["data"] = json!(["one", 2, 3, 4]))), "invalid_request", "\"one\" is no FP32"),
        (inputs(x(|x| x["shape"] = json!([u64::MAX, 4]))), "invalid_request", "more elements"),
        (inputs(x(|x| x["shape"] = json!([-1, 4]))), "invalid_request", "does not fit"),
        (
            inputs(x(|x| x["parameters"] = json!({"binary_data_size": 16}))),
            "invalid_request",
            "both data and binary",
        ),
        (
            inputs(x(|x| drop(x.as_object_mut().expect("an object").remove("data")))),
            "invalid_request",
            "neither data nor",
        ),
        (inputs(x(|x| x["data"] = json!([1e300, 2, 3, 4]))), "invalid_request", "1e300 does not fit FP32"),
        (
            inputs(x(|x| x["parameters"] = json!({"binary": true}))),
            "invalid_request",
            "unknown field `binary`",
        ),
        (
            wanting(json!([{"name": "y", "parameters": {"binary": true}}])),
            "invalid_request",
            "unknown field `binary`",
        ),
        (with("bakend", json!("wasm")), "invalid_request", "bakend"),
        (with("backend", json!("cuda")), "invalid_request", "did not match"),
        (with("plan", json!("sharded")), "invalid_request", "no plan is called"),
        (with("fallback", json!("maybe")), "invalid_request", "maybe"),
        (wanting(json!([{"name": "z"}])), "invalid_request", "no output \"z\""),
        (wanting(json!([{"name": "y"}, {"name": "y"}])), "invalid_request", "asked for twice"),
        (json!({"type": "infer", "id": "r", "inputs": []}), "invalid_request", "model_name"),
        (json!({"type": "cancel", "id": "r"}), "invalid_request", "no request with id \"r\""),
        (json!({"type": "cancel"}), "invalid_request", "needs the id"),
        (json!({"type": "subscribe", "topics": ["weather"]}), "invalid_request", "weather"),
        (json!({"type": "chat", "id": "r"}), "invalid_request", "unknown type \"chat\""),
        (json!({"id": "r"}), "invalid_request", "has no type"),
        (json!({"type": "cancel", "id": "r".repeat(129)}), "invalid_request", "longer than 128"),
    ]
}

/// Frames that hold no message, or none that fits its bytes.
fn frames() -> Vec<(Vec<u8>, &'static str)> {
    let binary = |size: u64| {
        infer(
            "r",
            "neg",
            &json!([{"name": "x", "datatype": "FP32", "shape": [1, 4], "parameters": {"binary_data_size": size}}]),
            &json!({}),
        )
    };
    vec![
        (Vec::new(), "starts with a 4-byte header length"),
        (vec![1, 0], "this one has 2 bytes"),
        (vec![9, 0, 0, 0, b'{', b'}'], "says 9, but only 2 bytes follow"),
        (u32::MAX.to_le_bytes().to_vec(), "only 0 bytes follow"),
        (wire::raw(b"{\"type\":\"\xff\"}", &[]), "not UTF-8"),
        (wire::raw(b"{\"type\":", &[]), "not JSON"),
        (wire::raw(b"[1]", &[]), "does not fit"),
        (frame(&binary(16), &[0; 12]), "takes 16 bytes, 12 are left"),
        (frame(&binary(16), &[0; 20]), "take 16 bytes after the header, 20 came"),
        (frame(&binary(12), &[0; 12]), "takes 16 bytes, 12 came"),
        (frame(&binary(u64::MAX), &[]), "are left"),
    ]
}

#[tokio::test]
async fn bad_messages_are_named_and_the_next_is_served() {
    let browser = FakeBrowser::new("fake", &["wasm"]);
    let daemon = TestDaemon::start(&[&browser]).await;
    let mut client = daemon.client().await;
    for (request, code, says) in requests() {
        client.send(&request).await;
        let reply = client.next().await;
        reply.refused(code, "never", says);
        let id = request["id"].as_str().filter(|id| id.len() <= 128);
        assert_eq!(reply.header["id"].as_str(), id, "{request}");
        client.serves(&pinned()).await;
    }
    for (frame, says) in frames() {
        client.send_raw(Message::binary(frame)).await;
        client.next().await.refused("invalid_request", "never", says);
        client.serves(&pinned()).await;
    }
    client.send_raw(Message::text("{\"type\":")).await;
    client.next().await.refused("invalid_request", "never", "not JSON");
    client.serves(&pinned()).await;
    daemon.stop().await;
}

/// The framing is lost with it, so the connection closes: after an error that says why, with code 1009.
#[tokio::test]
async fn a_frame_over_the_limit_is_told_and_closes_its_connection() {
    let daemon = TestDaemon::start(&[]).await;
    let (mut sink, mut stream) = daemon.client().await.socket.split();
    let too_large = Message::binary(Bytes::from(vec![0; (64 << 20) + 1]));
    // The daemon stops reading at the frame's head, so that sending it all may never end well.
    let send = async { drop(sink.send(too_large).await) };
    let read = async {
        let told = stream.next().await.expect("an answer").expect("a good message");
        let told: Value = serde_json::from_str(told.to_text().expect("a text")).expect("JSON");
        assert_eq!((told["error"]["code"].as_str(), &told["id"]), (Some("too_large"), &Value::Null));
        match stream.next().await.expect("an end").expect("a good message") {
            Message::Close(Some(close)) => assert_eq!(close.code, CloseCode::Size),
            other => panic!("{other:?} closes nothing"),
        }
    };
    soon("the end of the connection", futures_util::future::join(send, read)).await;
    daemon.client().await.serves(&json!({})).await;
    daemon.stop().await;
}

/// What the routes refuse before they look at it, told in the form of every other failure.
#[tokio::test]
async fn what_no_route_takes_is_a_problem_too() {
    let daemon = TestDaemon::start(&[]).await;
    let not_utf8 = || b"{\"name\": \"\xff\"}".to_vec();
    let too_large = || vec![b' '; (64 << 20) + 1];
    let cases = [
        ("GET", "/no/such/route", vec![], 404, "invalid_request", "no route /no/such/route"),
        ("GET", "/api/v1/nothing", vec![], 404, "invalid_request", "no route /api/v1/nothing"),
        ("PUT", "/api/v1/models", vec![], 405, "invalid_request", "/api/v1/models does not take PUT"),
        ("POST", "/api/v1/runs", vec![], 405, "invalid_request", "/api/v1/runs does not take POST"),
        ("GET", "/api/v1/runs?last=many", vec![], 422, "invalid_request", "last: invalid digit"),
        ("GET", "/api/v1/runs?first=1", vec![], 422, "invalid_request", "unknown field `first`"),
        ("GET", "/api/v1/models/%ff", vec![], 422, "invalid_request", "UTF-8"),
        ("POST", "/api/v1/models", not_utf8(), 422, "invalid_request", "UTF-8"),
        ("POST", "/api/v1/models", too_large(), 413, "too_large", "over the limit of 67108864 bytes"),
        ("POST", "/api/v1/models/neg/verify", not_utf8(), 422, "invalid_request", "UTF-8"),
        ("POST", "/api/v1/models/neg/verify", too_large(), 413, "too_large", "over the limit"),
    ];
    for (method, path, body, status, code, says) in cases {
        let request = daemon.http.request(method.parse().expect("a method"), format!("{}{path}", daemon.url));
        let answer = soon("an answer", request.body(body).send()).await.expect("the daemon answers");
        assert_eq!(answer.status().as_u16(), status, "{method} {path}");
        assert_eq!(answer.headers()["content-type"], "application/problem+json", "{method} {path}");
        assert_eq!(answer.headers().contains_key("allow"), status == 405, "{method} {path}");
        let said: Value = serde_json::from_str(&answer.text().await.expect("a text")).expect("JSON");
        assert_eq!(
            (&said["status"], &said["code"]),
            (&json!(status), &json!(code)),
            "{method} {path}: {said}"
        );
        assert_eq!(said["retry"], "never", "{method} {path}: {said}");
        let detail = said["detail"].as_str().expect("a detail");
        assert!(detail.contains(says), "{method} {path}: {detail}");
    }
    daemon.client().await.serves(&json!({})).await;
    daemon.stop().await;
}

#[tokio::test]
async fn an_id_in_flight_is_refused_and_free_again_afterwards() {
    let browser = FakeBrowser::new("fake", &["wasm"]);
    let daemon = TestDaemon::start(&[&browser]).await;
    daemon.verify("neg", &pinned()).await;
    let (ask, mut asked) = mpsc::unbounded_channel();
    browser.behaves(Conduct::Ask(ask));
    let mut client = daemon.client().await;
    client.send(&infer_x("r", &pinned())).await;
    let step = soon("a step", asked.recv()).await.expect("the browser lives");
    client.send(&infer_x("r", &pinned())).await;
    client.reply("r").await.refused("invalid_request", "never", "is in flight");
    step.answer(Deed::Compute);
    client.reply("r").await.negated();
    browser.behaves(Conduct::Compute);
    client.ask(&infer_x("r", &pinned())).await.negated();
    daemon.stop().await;
}

#[tokio::test]
async fn files_that_are_no_models_are_refused_by_name() {
    let daemon = TestDaemon::start(&[]).await;
    let neg = graphs::neg();
    let mut unknown_operator = neg.clone();
    let at = unknown_operator.windows(3).position(|bytes| bytes == b"Neg").expect("its operator");
    unknown_operator[at] = b'Z';
    let cases: [(&str, Vec<u8>, &str); 6] = [
        ("empty", Vec::new(), "the file is empty"),
        ("text", b"# Not a model\n".to_vec(), "not an ONNX file"),
        ("cut", neg[..neg.len() / 2].to_vec(), "not an ONNX file"),
        ("unknown-operator", unknown_operator, "has no \"Zeg\""),
        ("external", graphs::external("weights.bin"), "in the file \"weights.bin\", which did not come"),
        ("bad name!", neg.clone(), "is no model name"),
    ];
    for (name, file, says) in cases {
        let (status, said) = daemon.try_add(name, file).await;
        assert_eq!((status, said["code"].as_str()), (422, Some("invalid_request")), "{name}: {said}");
        assert!(said["detail"].as_str().is_some_and(|detail| detail.contains(says)), "{name}: {said}");
        daemon.client().await.serves(&json!({})).await;
    }
    let missing = json!({"name": "m", "digest": "00".repeat(32), "source": "a test"});
    let (status, said) = daemon.post("/api/v1/models", missing.to_string()).await;
    assert_eq!(status, 422, "{said}");
    assert!(
        said["detail"].as_str().is_some_and(|detail| detail.starts_with("no file with digest")),
        "{said}"
    );
    let kept = blobs(&daemon.home.path().join("models"));
    assert_eq!(kept.len(), 1, "only the good model's file is kept: {kept:?}");
    daemon.stop().await;
}

#[tokio::test]
async fn a_port_or_home_in_use_is_named_and_its_holder_goes_on() {
    let daemon = TestDaemon::start(&[]).await;
    let address: SocketAddr = daemon.url.trim_start_matches("http://").parse().expect("an address");
    let other = home();
    let refused = TestDaemon::start_in(other.clone(), &[], |config| config.listen = address).await.err();
    assert!(
        matches!(&refused, Some(DaemonError::Listen(ListenError::Bind { address: at, .. })) if *at == address),
        "{refused:?}"
    );
    assert!(!other.path().join("run").exists(), "nothing was started there");
    let refused = TestDaemon::start_in(daemon.home.clone(), &[], |_| {}).await.err();
    assert!(
        matches!(&refused, Some(DaemonError::HomeInUse { url: Some(url), .. }) if *url == daemon.url),
        "{refused:?}"
    );
    daemon.client().await.serves(&json!({})).await;
    let home = daemon.stop().await;
    TestDaemon::start_in(home, &[], |_| {}).await.expect("a home is free after a stop").stop().await;
}
