//! Texts, images, sound and files, asked over HTTP and by the command, of real models on the native lane.

use std::path::Path;

use base64::{Engine as _, prelude::BASE64_STANDARD};
use serde_json::{Value, json};

use crate::{
    cli,
    native::cached,
    support::{TestDaemon, graphs},
};

const INPUTS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/fixtures/inputs");

fn input(name: &str) -> Vec<u8> {
    std::fs::read(Path::new(INPUTS).join(name)).expect("an input")
}

fn json_of(name: &str) -> Value {
    serde_json::from_slice(&input(name)).expect("JSON")
}

/// Uploads a model with what belongs to it, and names it.
async fn add(daemon: &TestDaemon, name: &str, kind: &str, model: Vec<u8>, files: &[(&str, Vec<u8>)]) {
    let mut digests = serde_json::Map::new();
    for (name, file) in files {
        let (status, upload) = daemon.post("/api/v1/blobs", file.clone()).await;
        assert_eq!(status, 200, "{upload}");
        digests.insert((*name).to_owned(), upload["digest"].clone());
    }
    let (_, upload) = daemon.post("/api/v1/blobs", model).await;
    let body =
        json!({"name": name, "digest": upload["digest"], "files": digests, "kind": kind, "source": "a test"});
    let (status, said) = daemon.post("/api/v1/models", body.to_string()).await;
    assert_eq!(status, 200, "{said}");
}

/// A daemon with a model whose vectors follow from the tokens, and `neg`.
async fn embedding() -> TestDaemon {
    let daemon = TestDaemon::start(&[]).await;
    let files = [
        ("tokenizer.json", input("modality/wordpiece.json")),
        ("sentence_bert_config.json", json!({"max_seq_length": 30}).to_string().into_bytes()),
    ];
    add(&daemon, "lookup", "embedding", graphs::lookup(700), &files).await;
    daemon
}

async fn embed(daemon: &TestDaemon, body: Value) -> (u16, Value) {
    daemon.post("/v1/embeddings", body.to_string()).await
}

async fn ask(daemon: &TestDaemon, query: &str, kind: &str, body: Vec<u8>) -> (u16, Value) {
    let request = daemon.http.post(format!("{}/api/v1/ask?{query}", daemon.url));
    let response = request.header("content-type", kind).body(body).send().await.expect("an answer");
    let status = response.status().as_u16();
    (status, serde_json::from_str(&response.text().await.expect("a whole answer")).expect("JSON"))
}

/// The mean of tokens' vectors `(token, 1)`, of length 1.
fn mean(tokens: &[f64]) -> [f64; 2] {
    let mean = tokens.iter().sum::<f64>() / tokens.len() as f64;
    [mean / mean.hypot(1.0), 1.0 / mean.hypot(1.0)]
}

fn is_near(vector: &Value, wanted: [f64; 2]) -> bool {
    let vector: Vec<_> =
        vector.as_array().expect("numbers").iter().map(|v| v.as_f64().expect("one")).collect();
    vector.len() == 2 && vector.iter().zip(wanted).all(|(a, b)| (a - b).abs() < 1e-6)
}

#[tokio::test]
async fn texts_become_vectors_in_openais_form() {
    let daemon = embedding().await;
    let expected = json_of("modality/expected.json");
    let sentences = &expected["sentences"];
    let (status, answer) = embed(&daemon, json!({"model": "lookup", "input": sentences, "user": "u"})).await;
    assert_eq!(status, 200, "{answer}");
    assert_eq!((&answer["object"], &answer["model"]), (&json!("list"), &json!("lookup")));
    let tokens = expected["tokens"]["wordpiece"].as_array().expect("lists");
    let data = answer["data"].as_array().expect("a list");
    assert_eq!(data.len(), tokens.len());
    let (mut count, mut cut) = (0, Vec::new());
    for (at, (item, ids)) in data.iter().zip(tokens).enumerate() {
        let mut ids: Vec<_> =
            ids.as_array().expect("ids").iter().map(|id| id.as_f64().expect("one")).collect();
        if ids.len() > 30 {
            // The last one ends every text.
            let end = *ids.last().expect("an end");
            ids.truncate(29);
            ids.push(end);
            cut.push(at);
        }
        count += ids.len();
        assert_eq!((&item["object"], &item["index"]), (&json!("embedding"), &json!(at)));
        assert!(is_near(&item["embedding"], mean(&ids)), "{at}: {item}");
    }
    assert!(cut.len() > 1, "some texts are too long");
    assert_eq!(answer["usage"], json!({"prompt_tokens": count, "total_tokens": count}));
    assert_eq!(answer["weft"]["truncated"], json!(cut));

    // Each batch is a request with a row of its own.
    let computed = &answer["weft"]["computed"];
    assert_eq!((&computed[0]["model"], &computed[1]), (&json!("lookup"), &Value::Null), "{computed}");
    assert_eq!(computed[0]["provenance"]["backend"], "ort-cpu");
    let rows = daemon.runs().await;
    assert_eq!(computed[0]["requests"], rows.len());
    assert!(rows.iter().any(|row| row["run"] == computed[0]["run"]), "{computed}");

    let (_, coded) =
        embed(&daemon, json!({"model": "lookup", "input": "a", "encoding_format": "base64"})).await;
    let bytes =
        BASE64_STANDARD.decode(coded["data"][0]["embedding"].as_str().expect("a text")).expect("base64");
    let (_, plain) = embed(&daemon, json!({"model": "lookup", "input": ["a"]})).await;
    let values: Vec<_> = bytes.as_chunks().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect();
    let plain = plain["data"][0]["embedding"].as_array().expect("numbers");
    let plain: Vec<_> = plain.iter().map(|value| value.as_f64().expect("one") as f32).collect();
    assert_eq!(values, plain);

    let cases = [
        (json!([7, 8]), vec![mean(&[7.0, 8.0])]),
        (json!([[7, 8], [9]]), vec![mean(&[7.0, 8.0]), mean(&[9.0])]),
    ];
    for (given, wanted) in cases {
        let (_, answer) = embed(&daemon, json!({"model": "lookup", "input": given, "dimensions": 2})).await;
        let data = answer["data"].as_array().unwrap_or_else(|| panic!("{answer}"));
        assert_eq!(data.len(), wanted.len());
        assert!(
            data.iter().zip(wanted).all(|(item, wanted)| is_near(&item["embedding"], wanted)),
            "{answer}"
        );
    }
    daemon.stop().await;
}

#[tokio::test]
async fn what_cannot_become_vectors_is_refused_in_openais_form() {
    let daemon = embedding().await;
    daemon.add("neg", graphs::neg()).await;
    add(&daemon, "bare", "embedding", graphs::lookup(9), &[]).await;
    add(&daemon, "odd", "embedding", graphs::lookup(9), &[("tokenizer.json", b"{}".to_vec())]).await;
    let of = |input: Value| json!({"model": "lookup", "input": input});
    let with = |name: &str, value: Value| {
        let mut body = of(json!("a"));
        body[name] = value;
        body
    };
    let cases = [
        (json!({"model": "lookup"}), 400, "missing field `input`"),
        (of(json!({"text": "a"})), 400, "did not match any variant"),
        (of(json!([])), 400, "there is no text"),
        (of(json!([[]])), 400, "text 0 has no tokens"),
        (of(json!([70_000])), 400, "token 70000 of text 0 is none of the model's"),
        (of(json!([vec![1; 31]])), 413, "31 tokens is over the limit of 30 tokens"),
        (of(json!(vec!["a"; 2049])), 413, "2049 texts is over the limit of 2048"),
        (of(json!("a".repeat((1 << 20) + 1))), 413, "text 0 is over the limit of 1048576 bytes"),
        (with("dimensions", json!(1)), 400, "have 2 dimensions, not 1"),
        (with("encoding_format", json!("hex")), 400, "unknown variant `hex`"),
        (with("weft", json!({"bakend": "wasm"})), 400, "unknown field `bakend`"),
        (with("weft", json!({"request": "r"})), 400, "the header X-Request-Id"),
        (with("weft", json!({"sequence_id": 4})), 400, "texts are no sequence"),
        (with("weft", json!({"browser": "none-such"})), 503, "no lane offers none-such"),
        (json!({"model": "nobody", "input": "a"}), 404, "no model is called"),
        (json!({"model": "neg", "input": "a"}), 400, "give tensors instead"),
        (json!({"model": "bare", "input": "a"}), 400, "the model has no tokenizer.json, which text needs"),
        (json!({"model": "odd", "input": "a"}), 400, "the model's tokenizer.json cannot be used"),
    ];
    for (body, wanted, says) in cases {
        let (status, answer) = embed(&daemon, body).await;
        let said = answer["error"]["message"].as_str().unwrap_or_else(|| panic!("no error in {answer}"));
        assert!(status == wanted && said.contains(says), "{says:?}: {status} {said}");
        assert!(answer["error"]["type"].is_string() && answer["error"]["code"].is_string(), "{answer}");
    }
    let shown = daemon.get("/api/v1/models/lookup").await;
    assert_eq!((&shown["task"], &shown["no_task"]), (&json!("embedding"), &Value::Null));
    let shown = daemon.get("/api/v1/models/neg").await;
    assert!(
        shown["task"].is_null() && shown["no_task"].as_str().expect("why").contains("tensors"),
        "{shown}"
    );
    daemon.stop().await;
}

#[tokio::test]
async fn texts_are_asked_about_as_plain_text_and_as_json() {
    let daemon = embedding().await;
    let (status, plain) = ask(&daemon, "model=lookup", "text/plain; charset=utf-8", b"a".to_vec()).await;
    assert_eq!(
        (status, &plain["task"], &plain["models"]),
        (200, &json!("embedding"), &json!(["lookup"])),
        "{plain}"
    );
    let (_, many) = ask(
        &daemon,
        "model=lookup&backend=ort-cpu",
        "application/json",
        br#"{"texts": ["b", "a"]}"#.to_vec(),
    )
    .await;
    assert_eq!(many["results"][1], plain["results"][0]);
    assert_eq!(plain["results"][0]["type"], "embedding");
    assert_eq!(
        (&plain["results"][0]["tokens"], &plain["results"][0]["truncated"]),
        (&json!(3), &json!(false))
    );
    let refused = [
        ("model=lookup", "text/plain", vec![0xff], 422, "not UTF-8"),
        ("model=lookup", "application/json", b"[]".to_vec(), 422, "expected struct Texts"),
        ("model=lookup", "image/png", Vec::new(), 422, "which takes text, not an image"),
        (
            "model=lookup&task=file-type",
            "text/plain",
            b"a".to_vec(),
            422,
            "the model's task is embedding, not file-type",
        ),
        ("model=lookup&task=sing", "text/plain", b"a".to_vec(), 422, "is no task"),
        ("model=lookup&backend=%20", "text/plain", b"a".to_vec(), 422, "backend"),
        ("model=lookup&colour=red", "text/plain", b"a".to_vec(), 422, "unknown field"),
        ("model=a,b,c,d,e,f,g,h,i", "text/plain", b"a".to_vec(), 422, "at most 8 models"),
        ("model=nobody", "text/plain", b"a".to_vec(), 404, "no model is called"),
        ("model=lookup&browser=none-such", "text/plain", b"a".to_vec(), 503, "no lane offers"),
        ("model=lookup&timeout=1", "text/plain", b"a".to_vec(), 504, ""),
    ];
    for (query, kind, body, wanted, says) in refused {
        let (status, answer) = ask(&daemon, query, kind, body).await;
        let said = answer["detail"].as_str().unwrap_or_else(|| panic!("no detail in {answer}"));
        assert!(status == wanted && said.contains(says), "{query}: {status} {said}");
    }
    daemon.stop().await;
}

fn model(path: &str) -> Vec<u8> {
    std::fs::read(cached(path)).expect("a model")
}

/// The probabilities and timestamps are those of the package's own Python.
#[tokio::test]
async fn silero_hears_where_the_speech_is() {
    let daemon = TestDaemon::start(&[]).await;
    add(&daemon, "vad", "audio", model("silero-vad-6.2.3/silero_vad_16k_op15.onnx"), &[]).await;
    let (status, answer) = ask(&daemon, "model=vad", "audio/wav", input("speech.wav")).await;
    assert_eq!((status, &answer["task"]), (200, &json!("speech-detection")), "{answer}");
    let (found, expected) = (&answer["results"][0], &json_of("expected.json")["silero-vad"]);
    let probabilities = found["probabilities"].as_array().expect("numbers");
    let wanted = expected["probabilities"].as_array().expect("numbers");
    assert_eq!(probabilities.len(), wanted.len());
    for (at, (value, wanted)) in probabilities.iter().zip(wanted).enumerate() {
        let difference = value.as_f64().expect("one") - wanted.as_f64().expect("one");
        assert!(difference.abs() < 1e-4, "step {at}: {value}, not {wanted}");
    }
    let samples = |seconds: &Value| (seconds.as_f64().expect("seconds") * 16_000.0).round() as u64;
    let segments: Vec<_> = found["segments"]
        .as_array()
        .expect("a list")
        .iter()
        .map(|segment| json!([samples(&segment["start_seconds"]), samples(&segment["end_seconds"])]))
        .collect();
    assert_eq!(json!(segments), expected["segments"]);
    assert_eq!(answer["computed"][0]["requests"], 157, "one request for each step");
    daemon.stop().await;
}

/// The labels are those of the package's own Python.
#[tokio::test]
async fn magika_names_files_of_every_type() {
    let daemon = TestDaemon::start(&[]).await;
    let files = ["config.min.json", "content_types_kb.min.json"];
    let files = files.map(|name| (name, model(&format!("magika-1.0.3/{name}"))));
    add(&daemon, "magika", "other", model("magika-1.0.3/model.onnx"), &files).await;
    let expected = json_of("expected.json")["magika"]["files"].clone();
    for (name, wanted) in expected.as_object().expect("files") {
        let body = input(&format!("files/{name}"));
        let (status, answer) = ask(&daemon, "model=magika", "application/octet-stream", body).await;
        assert_eq!(status, 200, "{answer}");
        let found = &answer["results"][0];
        assert_eq!(found["label"], wanted["label"], "{name}");
        let score = found["network"]["score"].as_f64().expect("a score");
        let probability = wanted["probability"].as_f64().expect("one");
        assert!((score - probability).abs() < 1e-3, "{name}: {score}, not {probability}");
    }
    let (_, answer) = ask(&daemon, "model=magika", "application/octet-stream", b"tiny".to_vec()).await;
    assert_eq!(
        (&answer["results"][0]["label"], &answer["computed"]),
        (&json!("txt"), &json!([])),
        "by the package's rule, without the network"
    );
    daemon.stop().await;
}

/// The lines are those that rapidocr's own Python reads on the same picture: the texts to the letter, the corners to
/// two pixels, the scores to two hundredths.
#[tokio::test]
async fn a_picture_is_read_as_by_the_models_own_python() {
    let daemon = TestDaemon::start(&[]).await;
    let parts = [
        ("find", "ch_PP-OCRv4_det_infer.onnx"),
        ("turn", "ch_ppocr_mobile_v2.0_cls_infer.onnx"),
        ("read", "ch_PP-OCRv4_rec_infer.onnx"),
    ];
    for (name, file) in parts {
        add(&daemon, name, "vision", model(&format!("rapidocr-1.4.4/{file}")), &[]).await;
    }
    let query = "model=find,turn,read&task=ocr";
    let (status, answer) = ask(&daemon, query, "image/png", input("modality/page.png")).await;
    assert_eq!(status, 200, "{answer}");
    let lines = answer["results"][0]["lines"].as_array().expect("lines");
    let wanted = json_of("modality/expected.json")["lines"].clone();
    let wanted = wanted.as_array().expect("lines");
    let texts = |lines: &[Value]| lines.iter().map(|line| line["text"].clone()).collect::<Vec<_>>();
    assert_eq!(texts(lines), texts(wanted));
    let near = |a: &Value, b: &Value, most: f64| {
        let difference = a.as_f64().expect("a number") - b.as_f64().expect("a number");
        assert!(difference.abs() <= most, "{a}, not {b}");
    };
    for (line, wanted) in lines.iter().zip(wanted) {
        near(&line["score"], &wanted["score"], 0.02);
        for at in 0..8 {
            near(&line["corners"][at / 2][at % 2], &wanted["corners"][at / 2][at % 2], 2.0);
        }
        assert_eq!(line["upside_down"], line["text"] == "thisonestandsonitshead");
    }
    let computed = answer["computed"].as_array().expect("steps");
    let models: Vec<_> = computed.iter().map(|step| step["model"].clone()).collect();
    assert_eq!(json!(models), json!(["find", "turn", "read"]), "each step says where it was computed");
    let (status, answer) = ask(&daemon, "model=find,turn", "image/png", input("modality/page.png")).await;
    assert!(
        status == 422 && answer["detail"].as_str().expect("why").contains("no model that reads lines"),
        "{answer}"
    );
    daemon.stop().await;
}

#[test]
fn the_command_sends_what_it_is_given_and_prints_what_was_found() {
    let home = cli::home();
    let served = cli::serve(home.path());
    let catalogue = concat!(env!("CARGO_MANIFEST_DIR"), "/fixtures/models.toml");
    let added = cli::run(home.path(), &["models", "add", catalogue]);
    assert!(added.status.success(), "{}", cli::text(&added.stderr));
    let (speech, file) = (format!("{INPUTS}/speech.wav"), format!("{INPUTS}/files/moon.py"));
    let run = |arguments: &[&str]| cli::run(home.path(), arguments);
    let said = run(&["infer", "silero-vad", "--audio", &speech]);
    assert!(
        cli::text(&said.stdout).starts_with("speech at 0.32–2.27 s, 3.27–4.45 s, of 5.00 s\n"),
        "{said:?}"
    );
    assert!(cli::text(&said.stdout).contains("silero-vad: 157 × computed by native"), "{said:?}");
    let said = run(&["infer", "magika", "--file", &file]);
    assert!(
        cli::text(&said.stdout).starts_with("python, text/x-python (the network: python, 99.96 %)\n"),
        "{said:?}"
    );
    let said = run(&["infer", "magika", "--file", &file, "--json"]);
    let answer: Value = serde_json::from_slice(&said.stdout).expect("JSON and nothing else");
    assert_eq!(answer["results"][0]["label"], "python");
    let refused: [(&[&str], i32, &str); 5] = [
        (&["infer", "silero-vad", "--text", "hello"], 1, "which takes sound, not text"),
        (&["infer", "magika", "--file", "/nowhere"], 1, "/nowhere"),
        (&["infer", "magika", "--file", &file, "--text", "a"], 2, "cannot be used with"),
        (&["infer", "magika", "--task", "sing", "--file", &file], 2, "is no task"),
        (&["infer", "magika", "silero-vad"], 2, "tensors are for one model"),
    ];
    for (arguments, code, says) in refused {
        let output = run(arguments);
        let error = cli::text(&output.stderr);
        assert!(output.status.code() == Some(code) && error.contains(says), "{arguments:?}: {error}");
    }
    drop(served);
}

#[test]
fn the_command_takes_texts_and_pictures() {
    let home = cli::home();
    let served = cli::serve(home.path());
    let run = |arguments: &[&str]| {
        let said = cli::run(home.path(), arguments);
        assert!(said.status.success(), "{arguments:?}: {}", cli::text(&said.stderr));
        cli::text(&said.stdout).to_owned()
    };
    let folder = home.path().join("lookup");
    std::fs::create_dir(&folder).expect("a folder");
    std::fs::write(folder.join("model.onnx"), graphs::lookup(700)).expect("a model");
    std::fs::write(folder.join("tokenizer.json"), input("modality/wordpiece.json")).expect("a tokenizer");
    run(&["models", "add", &folder.to_string_lossy(), "--kind", "embedding"]);
    run(&["models", "add", concat!(env!("CARGO_MANIFEST_DIR"), "/fixtures/ocr.toml")]);

    let expected = json_of("modality/expected.json");
    let sentence = expected["sentences"][0].as_str().expect("a text");
    let tokens = expected["tokens"]["wordpiece"][0].as_array().expect("ids").len();
    let said: Value =
        serde_json::from_str(&run(&["infer", "lookup", "--text", sentence, "--json"])).expect("JSON alone");
    assert_eq!(said["results"][0]["tokens"], tokens, "{said}");
    assert_eq!(said["results"][0]["type"], "embedding");

    let page = format!("{INPUTS}/modality/page.png");
    let read = run(&["infer", "ocr-detection", "ocr-direction", "ocr-recognition", "--image", &page]);
    for line in expected["lines"].as_array().expect("lines") {
        let text = line["text"].as_str().expect("a text");
        assert!(read.contains(text), "{text:?} is not in {read}");
    }
    drop(served);
}
