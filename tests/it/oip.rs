//! The Open Inference Protocol over HTTP, as `docs/api.md` has it.

use bytes::Bytes;
use half::{bf16, f16};
use serde_json::{Value, json};
use tokio::{io::AsyncWriteExt, net::TcpStream, sync::mpsc};

use crate::support::{Conduct, Deed, FakeBrowser, TestDaemon, graphs, home, soon, wire};

const LENGTH: &str = "inference-header-content-length";

/// An answer over HTTP, split as the binary tensor extension has it.
pub(crate) struct Told {
    pub(crate) status: u16,
    pub(crate) headers: reqwest::header::HeaderMap,
    pub(crate) json: Value,
    pub(crate) tensors: Bytes,
}

pub(crate) async fn told(request: reqwest::RequestBuilder) -> Told {
    let response = soon("an answer", request.send()).await.expect("the daemon answers");
    let (status, headers) = (response.status().as_u16(), response.headers().clone());
    let body = response.bytes().await.expect("a whole answer");
    let length =
        headers.get(LENGTH).map(|length| length.to_str().expect("digits").parse().expect("a number"));
    let header = length.unwrap_or(body.len());
    let json =
        serde_json::from_slice(&body[..header]).unwrap_or_else(|_| panic!("{status} {body:?} is no JSON"));
    Told { status, headers, json, tensors: body.slice(header..) }
}

/// A body of JSON and tensors, and how long the JSON is.
fn binary(json: &Value, tensors: &[u8]) -> (usize, Vec<u8>) {
    let text = json.to_string().into_bytes();
    (text.len(), [&text, tensors].concat())
}

impl TestDaemon {
    pub(crate) fn infer(&self, model: &str) -> reqwest::RequestBuilder {
        self.http.post(format!("{}/v2/models/{model}/infer", self.url))
    }

    async fn stats(&self, model: &str) -> Value {
        self.get(&format!("/v2/models/{model}/stats")).await["model_stats"][0].clone()
    }
}

pub(crate) fn x() -> Value {
    json!({"name": "x", "datatype": "FP32", "shape": [1, 4], "data": [1, 2, 3, 4]})
}

fn floats(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|value| value.to_le_bytes()).collect()
}

#[tokio::test]
async fn the_server_and_its_models_say_what_they_are() {
    let daemon = TestDaemon::start(&[]).await;
    let server = daemon.get("/v2").await;
    assert_eq!(server["name"], "weft");
    for extension in ["binary_tensor_data", "model_repository", "schedule_policy", "statistics"] {
        assert!(server["commit"].is_string(), "{server}");
        assert!(server["extensions"].as_array().expect("a list").contains(&json!(extension)), "{server}");
    }
    let model = daemon.get("/v2/models/neg").await;
    let digest = daemon.get("/api/v1/models/neg").await["digest"].as_str().expect("a digest").to_owned();
    assert_eq!(
        model,
        json!({
            "name": "neg", "versions": [digest], "platform": "onnxruntime_onnx",
            "inputs": [{"name": "x", "datatype": "FP32", "shape": [-1, 4]}],
            "outputs": [{"name": "y", "datatype": "FP32", "shape": [-1, 4]}],
        })
    );
    assert_eq!(daemon.get(&format!("/v2/models/neg/versions/{digest}")).await, model);
    daemon.stop().await;
}

#[tokio::test]
async fn tensors_come_and_go_as_json_and_as_bytes() {
    let daemon = TestDaemon::start(&[]).await;
    let body = json!({"id": "mine", "inputs": [x()], "model_name": "ignored"});
    let answer = told(daemon.infer("neg").body(body.to_string())).await;
    assert_eq!(answer.status, 200, "{}", answer.json);
    assert_eq!(answer.headers["content-type"], "application/json");
    assert_eq!((&answer.json["id"], &answer.json["model_name"]), (&json!("mine"), &json!("neg")));
    assert_eq!(answer.json["type"], Value::Null);
    assert_eq!(answer.json["outputs"][0]["data"], json!([-1.0, -2.0, -3.0, -4.0]));
    let parameters = &answer.json["parameters"];
    assert_eq!(parameters["provenance"]["backend"], "ort-cpu");
    assert!(parameters["run"].is_string() && parameters["timing_us"]["total"].is_u64(), "{parameters}");

    let version = daemon.get("/v2/models/neg").await["versions"][0].clone();
    assert_eq!(answer.json["model_version"], version);
    let versioned = format!("neg/versions/{}", version.as_str().expect("a digest"));
    let answer = told(daemon.infer(&versioned).body(json!({"inputs": [x()]}).to_string())).await;
    assert_eq!((answer.status, answer.json.get("id")), (200, None), "no id came");

    // Bytes in, and out where either parameter asks for it.
    let input =
        json!({"name": "x", "datatype": "FP32", "shape": [1, 4], "parameters": {"binary_data_size": 16}});
    let cases = [
        (json!({}), json!([]), false),
        (json!({"binary_data_output": true}), json!([]), true),
        (json!({}), json!([{"name": "y", "parameters": {"binary_data": true}}]), true),
        (
            json!({"binary_data_output": true}),
            json!([{"name": "y", "parameters": {"binary_data": false}}]),
            false,
        ),
        (json!({"binary_data_output": true}), json!([{"name": "y"}]), true),
    ];
    for (parameters, outputs, bytes) in cases {
        let header = json!({"inputs": [input], "outputs": outputs, "parameters": parameters});
        let (length, body) = binary(&header, &floats(&[1.0, 2.0, 3.0, 4.0]));
        let answer = told(daemon.infer("neg").header(LENGTH, length).body(body)).await;
        assert_eq!(answer.status, 200, "{header}: {}", answer.json);
        let output = &answer.json["outputs"][0];
        if bytes {
            assert_eq!(answer.headers["content-type"], "application/octet-stream");
            assert_eq!(output["parameters"]["binary_data_size"], 16);
            assert_eq!(
                answer.headers[LENGTH].to_str().expect("digits").parse::<usize>().expect("one") % 8,
                0
            );
            assert_eq!(wire::floats(&answer.tensors), [-1.0, -2.0, -3.0, -4.0]);
        } else {
            assert_eq!(answer.headers["content-type"], "application/json");
            assert_eq!(output["data"], json!([-1.0, -2.0, -3.0, -4.0]));
        }
    }
    daemon.stop().await;
}

/// A header length of 0: the body is the only input, its shape is what the signature leaves open.
#[tokio::test]
async fn a_body_may_be_nothing_but_the_input() {
    let daemon = TestDaemon::start(&[]).await;
    daemon.add("strings", graphs::identity(graphs::STRING)).await;
    daemon.add("sum", graphs::sum()).await;
    let raw = |model: &str, body: Vec<u8>| told(daemon.infer(model).header(LENGTH, 0).body(body));
    let answer = raw("neg", floats(&[1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0])).await;
    assert_eq!(
        (answer.status, &answer.json["outputs"][0]["shape"]),
        (200, &json!([2, 4])),
        "{}",
        answer.json
    );
    assert_eq!(wire::floats(&answer.tensors), [-1.0, -2.0, -3.0, -4.0, -5.0, -6.0, -7.0, -8.0]);
    let answer = raw("strings", "a thread".into()).await;
    assert_eq!((answer.status, &answer.json["outputs"][0]["shape"]), (200, &json!([1])), "{}", answer.json);
    assert_eq!(&answer.tensors[..], b"\x08\0\0\0a thread");
    let cases = [
        ("neg", vec![0; 15], "15 bytes are no FP32 elements of 4 each"),
        ("neg", vec![0; 20], "5 elements came, the model wants [n, 4]"),
        ("sum", vec![0; 16], "for models with one input, sum has 2"),
    ];
    for (model, body, says) in cases {
        let answer = raw(model, body).await;
        let said = answer.json["error"].as_str().expect("an error");
        assert!(answer.status == 400 && said.contains(says), "{model}: {} {said}", answer.status);
    }
    daemon.stop().await;
}

/// `y = x` for every datatype, in both forms, through the lane that really computes.
#[tokio::test]
async fn every_datatype_comes_and_goes_in_both_forms() {
    let daemon = TestDaemon::start(&[]).await;
    let le = |parts: &[&[u8]]| parts.concat();
    let cases: [(&str, u64, Value, Vec<u8>); 14] = [
        ("BOOL", 9, json!([true, false]), vec![1, 0]),
        ("UINT8", 2, json!([0, 255]), vec![0, 255]),
        ("UINT16", 4, json!([1, 65535]), le(&[&1u16.to_le_bytes(), &[255, 255]])),
        ("UINT32", 12, json!([1, u32::MAX]), le(&[&1u32.to_le_bytes(), &[255; 4]])),
        ("UINT64", 13, json!([1, u64::MAX]), le(&[&1u64.to_le_bytes(), &[255; 8]])),
        ("INT8", 3, json!([-128, 127]), vec![128, 127]),
        ("INT16", 5, json!([-2, 300]), le(&[&(-2i16).to_le_bytes(), &300i16.to_le_bytes()])),
        ("INT32", 6, json!([-2, i32::MAX]), le(&[&(-2i32).to_le_bytes(), &i32::MAX.to_le_bytes()])),
        ("INT64", 7, json!([i64::MIN, 1]), le(&[&i64::MIN.to_le_bytes(), &1i64.to_le_bytes()])),
        (
            "FP16",
            10,
            json!([0.5, "-Infinity"]),
            le(&[&f16::from_f32(0.5).to_le_bytes(), &f16::NEG_INFINITY.to_le_bytes()]),
        ),
        ("FP32", 1, json!([0.1, "NaN"]), le(&[&0.1f32.to_le_bytes(), &f32::NAN.to_le_bytes()])),
        ("FP64", 11, json!([0.1, "Infinity"]), le(&[&0.1f64.to_le_bytes(), &f64::INFINITY.to_le_bytes()])),
        (
            "BF16",
            16,
            json!([-1.5, 256.0]),
            le(&[&bf16::from_f32(-1.5).to_le_bytes(), &bf16::from_f32(256.0).to_le_bytes()]),
        ),
        ("BYTES", 8, json!(["ß", ""]), le(&[&[2, 0, 0, 0], "ß".as_bytes(), &[0; 4]])),
    ];
    for (datatype, element, data, bytes) in cases {
        let model = datatype.to_lowercase();
        daemon.add(&model, graphs::identity(element)).await;
        let shown = daemon.get(&format!("/v2/models/{model}")).await;
        assert_eq!(shown["inputs"][0], json!({"name": "x", "datatype": datatype, "shape": [-1]}));
        let as_json = json!({"name": "x", "datatype": datatype, "shape": [2], "data": data});
        let size = json!({"binary_data_size": bytes.len()});
        let as_bytes = json!({"name": "x", "datatype": datatype, "shape": [2], "parameters": size});
        for (input, tensors) in [(&as_json, &[][..]), (&as_bytes, &bytes[..])] {
            for out in [false, true] {
                let header = json!({"inputs": [input], "parameters": {"binary_data_output": out}});
                let (length, body) = binary(&header, tensors);
                let answer = told(daemon.infer(&model).header(LENGTH, length).body(body)).await;
                assert_eq!(answer.status, 200, "{datatype}: {}", answer.json);
                let output = &answer.json["outputs"][0];
                assert_eq!((&output["datatype"], &output["shape"]), (&json!(datatype), &json!([2])));
                if out {
                    assert_eq!(&answer.tensors[..], bytes, "{datatype}");
                } else {
                    assert_eq!(output["data"], data, "{datatype}");
                }
            }
        }
    }
    daemon.stop().await;
}

const OTHER_VERSION: &str = "neg/versions/0000000000000000000000000000000000000000000000000000000000000000";

/// 400 for what is no request of the protocol, 422 for one that fits no signature: model, header length, body, and
/// what comes of it.
fn refusals() -> Vec<(&'static str, Option<String>, Vec<u8>, u16, &'static str)> {
    let x4 =
        json!({"name": "x", "datatype": "FP32", "shape": [1, 4], "parameters": {"binary_data_size": 16}});
    let with =
        |parameters: Value| json!({"inputs": [x()], "parameters": parameters}).to_string().into_bytes();
    let input = |input: Value| json!({"inputs": [input]}).to_string().into_bytes();
    let (whole, body) = binary(&json!({"inputs": [x4]}), &[0; 16]);
    let deep = [vec![b'['; 100_000], vec![b']'; 100_000]].concat();
    vec![
        ("neg", None, b"{".to_vec(), 400, "not JSON"),
        ("neg", None, Vec::new(), 400, "not JSON"),
        ("neg", None, deep, 400, ""),
        ("neg", None, b"\xff\xfe".to_vec(), 400, "not JSON"),
        ("neg", None, b"[]".to_vec(), 400, "does not fit"),
        ("neg", None, b"{}".to_vec(), 400, "missing field `inputs`"),
        ("neg", None, with(json!({"bakend": "wasm"})), 400, "unknown field `bakend`"),
        ("neg", None, with(json!({"timeout": -1})), 400, "does not fit"),
        ("neg", None, with(json!({"request": "r"})), 400, "the header X-Request-Id"),
        ("neg", None, with(json!({"traceparent": "t"})), 400, "the header traceparent"),
        ("neg", None, with(json!({"priority": 1.5})), 400, "does not fit"),
        ("neg", None, input(json!({"name": "x", "datatype": "FP31", "shape": [4], "data": []})), 400, "FP31"),
        (
            "neg",
            None,
            input(json!({"name": "x", "datatype": "FP32", "shape": [-1], "data": []})),
            400,
            "does not fit",
        ),
        (
            "neg",
            None,
            input(json!({"name": "x", "datatype": "FP32", "shape": [1, 4], "data": [1]})),
            400,
            "takes 16 bytes, 4 came",
        ),
        ("neg", None, body.clone(), 400, "not JSON"),
        ("neg", Some((whole + 1).to_string()), body.clone(), 400, "not JSON"),
        (
            "neg",
            Some(9_999_999.to_string()),
            body.clone(),
            400,
            "the header takes 9999999 bytes, the body has",
        ),
        ("neg", Some("-1".to_owned()), body.clone(), 400, "must be one number of bytes"),
        ("neg", Some("1e2".to_owned()), body.clone(), 400, "must be one number of bytes"),
        ("neg", Some("99999999999999999999".to_owned()), body.clone(), 400, "must be one number of bytes"),
        ("neg", Some(whole.to_string()), body[..whole + 8].to_vec(), 400, "takes 16 bytes, 8 are left"),
        (
            "neg",
            Some(whole.to_string()),
            [&body[..], &[0]].concat(),
            400,
            "take 16 bytes after the header, 17 came",
        ),
        (
            "neg",
            None,
            input(json!({"name": "z", "datatype": "FP32", "shape": [1], "data": [1]})),
            422,
            "no input \"z\"",
        ),
        (
            "neg",
            None,
            input(json!({"name": "x", "datatype": "INT8", "shape": [4], "data": [1, 2, 3, 4]})),
            422,
            "the model wants FP32",
        ),
        (
            "neg",
            None,
            input(json!({"name": "x", "datatype": "FP32", "shape": [4], "data": [1, 2, 3, 4]})),
            422,
            "the model wants [n, 4]",
        ),
        (
            "neg",
            None,
            json!({"inputs": [x()], "outputs": [{"name": "q"}]}).to_string().into_bytes(),
            422,
            "no output \"q\"",
        ),
        ("nobody", None, input(x()), 404, "no model is called \"nobody\""),
        ("..%2f..%2fetc%2fpasswd", None, input(x()), 404, "no model is called"),
        ("%ff", None, input(x()), 422, "UTF-8"),
        (OTHER_VERSION, None, input(x()), 404, "has no version"),
        ("neg/versions/1", None, input(x()), 404, "has no version"),
        ("neg", None, with(json!({"browser": "none-such"})), 503, "no lane offers none-such"),
        ("neg", None, vec![b' '; (64 << 20) + 1], 413, "over the limit of 67108864 bytes"),
    ]
}

#[tokio::test]
async fn refusals_have_their_statuses_and_the_protocols_form() {
    let daemon = TestDaemon::start(&[]).await;
    for (model, length, body, status, says) in refusals() {
        let request = daemon.infer(model);
        let request = length.iter().fold(request, |request, length| request.header(LENGTH, length));
        let answer = told(request.body(body)).await;
        let said = answer.json["error"].as_str().unwrap_or_else(|| panic!("no error in {}", answer.json));
        assert!(answer.status == status && said.contains(says), "{says:?}: {} {said}", answer.status);
        assert_eq!(answer.json.as_object().expect("an object").len(), 1, "{}", answer.json);
        assert_eq!(answer.headers["content-type"], "application/json");
        assert_eq!(answer.headers.contains_key("retry-after"), status == 503, "{said}");
    }
    for (method, path, status) in
        [("GET", "/v2/nothing", 404), ("GET", "/v2/models/neg/infer", 405), ("POST", "/v2/models/neg", 405)]
    {
        let request = daemon.http.request(method.parse().expect("a method"), format!("{}{path}", daemon.url));
        let answer = told(request).await;
        assert!(
            answer.status == status && answer.json["error"].is_string(),
            "{method} {path}: {}",
            answer.json
        );
    }
    let answer =
        told(daemon.http.get(format!("{}/v2", daemon.url)).header("origin", "https://evil.test")).await;
    assert!(answer.status == 403 && answer.json["error"].is_string(), "{}", answer.json);
    let answer = told(daemon.infer("neg").body(json!({"inputs": [x()]}).to_string())).await;
    assert_eq!(answer.status, 200, "it serves on: {}", answer.json);
    // Whatever is no request is counted as on the WebSocket; a path that is no text names no model.
    let counted = |case: &&(&str, _, _, u16, _)| matches!(case.3, 400 | 422) && case.0 != "%ff";
    let invalid = refusals().iter().filter(counted).count();
    let series = r#"weft_requests_total{model="none",backend="none",outcome="invalid_request"}"#;
    let scraped = daemon.scrape().await;
    assert!(scraped.contains(&format!("{series} {invalid}\n")), "{invalid} in {scraped}");
    daemon.stop().await;
}

#[tokio::test]
async fn a_client_that_leaves_cancels_what_it_asked() {
    let browser = FakeBrowser::new("fake", &["wasm"]);
    let daemon = TestDaemon::start(&[&browser]).await;
    daemon.verify("neg", &json!({"backend": ["wasm"]})).await;
    let (ask, mut asked) = mpsc::unbounded_channel();
    browser.behaves(Conduct::Ask(ask));
    let body = json!({"inputs": [x()], "parameters": {"backend": "wasm"}}).to_string();
    let mut socket =
        TcpStream::connect(daemon.url.trim_start_matches("http://")).await.expect("a connection");
    let head = format!(
        "POST /v2/models/neg/infer HTTP/1.1\r\nhost: {}\r\ncontent-length: {}\r\n\r\n",
        daemon.url.trim_start_matches("http://"),
        body.len()
    );
    socket.write_all((head + &body).as_bytes()).await.expect("the daemon reads");
    let step = soon("a step", asked.recv()).await.expect("the browser lives");
    drop(socket);
    browser.cancels(1).await;
    step.answer(Deed::Compute);
    // One that is answered cancels nothing.
    browser.behaves(Conduct::Compute);
    let answer = told(daemon.infer("neg").body(body)).await;
    assert_eq!(answer.status, 200, "{}", answer.json);
    let runs = daemon.runs().await;
    let codes: Vec<_> = runs.iter().map(|run| run["error"]["code"].clone()).collect();
    assert_eq!(codes[codes.len() - 2..], [json!("cancelled"), Value::Null], "{runs:?}");
    let stats = daemon.stats("neg").await;
    assert_eq!(
        (&stats["inference_stats"]["fail"]["count"], &stats["inference_count"]),
        (&json!(1), &json!(1))
    );
    daemon.stop().await;
}

#[tokio::test]
async fn statistics_count_what_was_answered() {
    let daemon = TestDaemon::start(&[]).await;
    daemon.add("other", graphs::identity(graphs::FLOAT)).await;
    let before = daemon.stats("neg").await;
    assert_eq!((&before["last_inference"], &before["inference_count"]), (&json!(0), &json!(0)), "{before}");
    let good = json!({"inputs": [x()]}).to_string();
    for _ in 0..3 {
        assert_eq!(told(daemon.infer("neg").body(good.clone())).await.status, 200);
    }
    daemon.client().await.serves(&json!({})).await;
    // Two rows are two inferences in one step.
    let rows = told(daemon.infer("neg").header(LENGTH, 0).body(floats(&[0.0; 8]))).await;
    assert_eq!(rows.status, 200, "{}", rows.json);
    let nowhere = json!({"inputs": [x()], "parameters": {"browser": "none-such"}}).to_string();
    assert_eq!(told(daemon.infer("neg").body(nowhere)).await.status, 503);
    let stats = daemon.stats("neg").await;
    assert_eq!(stats["version"], daemon.get("/v2/models/neg").await["versions"][0]);
    assert_eq!((&stats["inference_count"], &stats["execution_count"]), (&json!(6), &json!(5)), "{stats}");
    assert!(stats["last_inference"].as_u64().is_some_and(|ms| ms > 1_600_000_000_000), "{stats}");
    for (part, count, some_time) in [
        ("success", 5, true),
        ("fail", 1, true),
        ("queue", 5, false),
        ("compute_input", 5, false),
        ("compute_infer", 5, true),
        ("compute_output", 5, false),
        ("cache_hit", 0, false),
    ] {
        let told = &stats["inference_stats"][part];
        assert_eq!(told["count"], count, "{part}: {stats}");
        assert!(told["ns"].as_u64().is_some_and(|ns| ns > 0 || !some_time), "{part}: {stats}");
    }
    let all = daemon.get("/v2/models/stats").await["model_stats"].clone();
    let names: Vec<_> = all.as_array().expect("a list").iter().map(|stats| stats["name"].clone()).collect();
    assert_eq!(names, ["neg", "other"]);
    assert_eq!(daemon.stats("other").await["inference_count"], 0);
    assert_eq!(told(daemon.http.get(format!("{}/v2/models/nobody/stats", daemon.url))).await.status, 404);
    daemon.stop().await;
}

#[tokio::test]
async fn the_repository_loads_and_unloads() {
    let browser = FakeBrowser::new("fake", &["wasm"]);
    let daemon = TestDaemon::start(&[&browser]).await;
    let version = daemon.get("/v2/models/neg").await["versions"][0].clone();
    let entry = |state: &str, reason: &str| json!({"name": "neg", "version": version, "state": state, "reason": reason});
    let ready = async || {
        let answer = told(daemon.http.get(format!("{}/v2/models/neg/ready", daemon.url))).await;
        assert_eq!(answer.json["ready"], answer.status == 200, "{}", answer.json);
        answer.status
    };
    let index = async |body: &'static str| daemon.post("/v2/repository/index", body).await;
    assert_eq!(index("").await, (200, json!([entry("READY", "loaded on demand")])));
    assert_eq!(ready().await, 200);
    let loaded =
        daemon.post("/v2/repository/models/neg/load", r#"{"parameters": {"backend": ["wasm"]}}"#).await;
    assert_eq!(loaded, (200, entry("READY", "")));
    assert_eq!(daemon.lane("fake-1/wasm").await["load"]["sessions"][0]["state"], "verified");
    let unload = r#"{"parameters": {"unload_dependents": false}}"#;
    let unloaded = daemon.post("/v2/repository/models/neg/unload", unload).await;
    assert_eq!(unloaded, (200, entry("UNAVAILABLE", "unloaded")));
    assert_eq!((ready().await, index(r#"{"ready": true}"#).await.1), (503, json!([])));
    let (status, refused) = daemon.post("/v2/models/neg/infer", json!({"inputs": [x()]}).to_string()).await;
    assert!(
        status == 409 && refused["error"].as_str().is_some_and(|it| it.contains("was unloaded")),
        "{refused}"
    );
    assert_eq!(daemon.post("/v2/repository/models/neg/load", "").await, (200, entry("READY", "")));
    assert_eq!(daemon.post("/v2/models/neg/infer", json!({"inputs": [x()]}).to_string()).await.0, 200);
    for (path, body, status, says) in [
        ("models/nobody/load", "", 404, "no model is called"),
        ("models/nobody/unload", "", 404, "no model is called"),
        ("models/neg/load", r#"{"parameters": {"config": "{}"}}"#, 400, "unknown field `config`"),
        ("models/neg/load", r#"{"parameters": {"backend": ["webgpu"]}}"#, 503, "no lane"),
        ("models/neg/unload", "[", 400, "EOF"),
        ("index", r#"{"ready": "yes"}"#, 400, "invalid type"),
    ] {
        let (code, said) = daemon.post(&format!("/v2/repository/{path}"), body).await;
        assert!(
            code == status && said["error"].as_str().is_some_and(|it| it.contains(says)),
            "{path}: {code} {said}"
        );
    }
    daemon.stop().await;
}

#[tokio::test]
async fn a_full_daemon_says_when_to_come_again() {
    let full = |config: &mut weft::config::Config| config.limits.bytes = 8;
    let daemon = TestDaemon::start_in(home(), &[], full).await.expect("a good start");
    daemon.settled().await;
    daemon.add("neg", graphs::neg()).await;
    let answer = told(daemon.infer("neg").body(json!({"inputs": [x()]}).to_string())).await;
    assert_eq!(
        (answer.status, answer.headers["retry-after"].as_bytes()),
        (503, &b"1"[..]),
        "{}",
        answer.json
    );
    daemon.stop().await;
}
