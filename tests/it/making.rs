//! Models of several files, models made of weights, and variants: added by the command, asked, and gone without a trace.

use std::path::{Path, PathBuf};

use nix::sys::signal::Signal;
use serde_json::{Value, json};

use crate::{
    checkpoints::{MINILM, minilm},
    cli::{self, run, text},
    conversion::embeddings_off,
    support::{self, FakeBrowser, TestDaemon, graphs, infer},
};

fn home() -> tempfile::TempDir {
    let home = cli::home();
    std::fs::write(home.path().join("weft.toml"), "[browsers]\nchromium = 0\n").expect("room for a file");
    home
}

fn json_of(home: &Path, arguments: &[&str]) -> Value {
    let done = run(home, &[arguments, &["--json"]].concat());
    assert_eq!(done.status.code(), Some(0), "{arguments:?}: {}", text(&done.stderr));
    serde_json::from_str(text(&done.stdout)).expect("JSON")
}

fn refused(home: &Path, arguments: &[&str], says: &str) {
    let done = run(home, arguments);
    assert_eq!(done.status.code(), Some(1), "{}", text(&done.stdout));
    assert!(text(&done.stderr).contains(says), "{}", text(&done.stderr));
}

fn blobs(home: &Path) -> usize {
    support::blobs(&home.join("models")).len()
}

fn fixture(name: &str) -> String {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("fixtures/checkpoints").join(name);
    path.to_str().expect("UTF-8").to_owned()
}

#[test]
fn weights_beside_a_graph_and_what_belongs_to_it_come_with_it() {
    let home = home();
    let folder = home.path().join("several");
    std::fs::create_dir_all(folder.join("onnx")).expect("room for a folder");
    let write = |name: &str, bytes: &[u8]| std::fs::write(folder.join(name), bytes).expect("room for a file");
    let weights: Vec<u8> = [1.0f32, 2.0, 3.0, 4.0].iter().flat_map(|weight| weight.to_le_bytes()).collect();
    write("onnx/model.onnx", &graphs::external("weights.bin"));
    write("tokenizer.json", b"{}");
    write("readme.md", b"words");
    let given = folder.to_str().expect("UTF-8");
    let served = cli::serve(home.path());

    refused(home.path(), &["models", "add", given], "its weights are in the file \"weights.bin\"");
    assert_eq!(blobs(home.path()), 0, "nothing of what was refused stays");

    write("onnx/weights.bin", &weights);
    let added = json_of(home.path(), &["models", "add", given]);
    let model = &added["items"][0];
    assert_eq!(model["name"], "several");
    assert_eq!(
        model["companions"].as_object().map(|files| files.keys().collect::<Vec<_>>()),
        Some(vec![&"tokenizer.json".to_owned()])
    );
    assert_eq!(
        model["external"].as_object().map(|files| files.values().collect::<Vec<_>>()),
        Some(vec![&json!(16)])
    );
    assert_eq!(blobs(home.path()), 3);
    let answer = json_of(home.path(), &["infer", "several", "--input", "x=[10,20,30,40]"]);
    assert_eq!(answer["outputs"][0]["data"], json!([11.0, 22.0, 33.0, 44.0]), "{answer}");
    assert_eq!(served.end(Signal::SIGTERM).0, Some(0));

    // Another daemon finds them again, and forgets them.
    let served = cli::serve(home.path());
    let answer = json_of(home.path(), &["infer", "several", "--input", "x=[0,0,0,0]"]);
    assert_eq!(answer["outputs"][0]["data"], json!([1.0, 2.0, 3.0, 4.0]), "{answer}");
    json_of(home.path(), &["models", "remove", "several"]);
    assert_eq!(blobs(home.path()), 0);
    assert_eq!(served.end(Signal::SIGTERM).0, Some(0));
}

#[test]
fn weights_become_models_that_say_so_and_variants_too() {
    let home = home();
    let served = cli::serve(home.path());
    let add = |source: &str, name: &str| json_of(home.path(), &["models", "add", source, "--name", name]);

    let bert = add(&fixture("bert"), "tiny");
    let pickled = add(&format!("{}/pytorch_model.bin", fixture("bert")), "pickled");
    assert_eq!(bert["items"][0]["digest"], pickled["items"][0]["digest"], "the same weights, the same model");
    assert_eq!(bert["items"][0]["kind"], "embedding");
    assert_eq!(bert["items"][0]["conversion"]["architecture"], "bert");
    let ids = ["input_ids=[[2,5,7,3]]", "attention_mask=[[1,1,1,1]]", "token_type_ids=[[0,0,0,0]]"];
    let ask = |model: &str| {
        let inputs = ids.iter().flat_map(|input| ["--input", input]);
        json_of(home.path(), &[vec!["infer", model], inputs.collect()].concat())
    };
    let answer = ask("tiny");
    assert_eq!(answer["parameters"]["provenance"]["converted"], "bert from f32 weights", "{answer}");

    let parts = add(&fixture("whisper"), "hear");
    let names: Vec<_> = parts["items"].as_array().expect("a list").iter().map(|part| &part["name"]).collect();
    assert_eq!(names, [&json!("hear-encoder"), &json!("hear-decoder")]);

    let made = json_of(home.path(), &["models", "convert", "tiny", "--precision", "fp16"]);
    assert_eq!(made["model"]["name"], "tiny-fp16");
    assert_eq!(made["model"]["conversion"]["precision"], "fp16");
    assert!(made["report"]["bytes_after"].as_u64() < made["report"]["bytes_before"].as_u64(), "{made}");
    assert_eq!(made["accuracy"]["data"], "seeded", "{made}");
    let shown = run(home.path(), &["models", "show", "tiny-fp16"]);
    let shown = text(&shown.stdout);
    assert!(shown.contains("variant fp16 of ") && shown.contains("3 sets of made-up inputs"), "{shown}");
    let half = ask("tiny-fp16");
    assert_eq!(half["parameters"]["provenance"]["converted"], "bert from f32 weights, fp16", "{half}");
    let values = |answer: &Value| -> Vec<f64> {
        let data = answer["outputs"][0]["data"].as_array().expect("numbers");
        data.iter().map(|value| value.as_f64().expect("a number")).collect()
    };
    let (whole, half) = (values(&answer), values(&half));
    let largest = whole.iter().fold(0.0, |most: f64, value| most.max(value.abs()));
    let off = whole.iter().zip(&half).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
    assert!(off > 0.0 && off < 1e-2 * largest, "{off} of {largest}");

    let recipe = home.path().join("recipe.toml");
    let layers = "default = \"fp32\"\n[[layer]]\nname = \"*attention*\"\nprecision = \"int8,block=16\"\n";
    std::fs::write(&recipe, layers).expect("room for a file");
    let recipe = format!("@{}", recipe.display());
    let mixed =
        json_of(home.path(), &["models", "convert", "tiny", "--precision", &recipe, "--name", "mixed"]);
    let changed = mixed["report"]["changed"].as_array().expect("a list");
    let is_attention =
        |weight: &Value| weight["name"].as_str().is_some_and(|name| name.contains("attention"));
    assert!(!changed.is_empty() && changed.iter().all(is_attention), "{mixed}");

    refused(home.path(), &["models", "convert", "tiny", "--precision", "int5"], "int5");
    refused(home.path(), &["models", "convert", "absent", "--precision", "fp16"], "no model is called");
    assert_eq!(served.end(Signal::SIGTERM).0, Some(0));
}

/// A model of 91 MB from its files to embeddings of texts.
#[tokio::test(flavor = "multi_thread")]
async fn minilms_real_weights_embed_sentences_as_pytorch_does() {
    let Some(folder) = minilm() else { return };
    let home = home();
    let served = cli::serve(home.path());
    json_of(home.path(), &["models", "add", folder.to_str().expect("UTF-8"), "--name", MINILM]);
    let url = served.line.trim().trim_start_matches("listening on ").to_owned();
    let found = embeddings_off(&url, MINILM).await;
    println!("{found:.1e}");
    assert!(found <= 1e-5, "{found:.1e}");
    assert_eq!(served.end(Signal::SIGTERM).0, Some(0));
}

#[test]
fn weights_that_cannot_become_a_model_say_why() {
    let home = home();
    let served = cli::serve(home.path());
    let folder = |name: &str, config: &str| {
        let folder = home.path().join(name);
        std::fs::create_dir_all(&folder).expect("room for a folder");
        std::fs::copy(format!("{}/model.safetensors", fixture("bert")), folder.join("model.safetensors"))
            .expect("room for a file");
        if !config.is_empty() {
            std::fs::write(folder.join("config.json"), config).expect("room for a file");
        }
        folder.to_str().expect("UTF-8").to_owned()
    };
    let config = std::fs::read_to_string(format!("{}/config.json", fixture("bert"))).expect("a file");
    let wide = config.replace("\"intermediate_size\": ", "\"intermediate_size\": 1");
    assert_ne!(wide, config);
    let cases = [
        (folder("bare", ""), "their config.json did not come"),
        (folder("unknown", r#"{"model_type": "detr"}"#), "detr"),
        (folder("contradicting", &wide), "intermediate"),
        (folder("nested", &format!("{{\"a\": {}", "[".repeat(10_000))), "cannot be converted"),
    ];
    for (source, says) in cases {
        refused(home.path(), &["models", "add", &source], says);
    }
    assert_eq!(served.end(Signal::SIGTERM).0, Some(0));
}

#[tokio::test]
async fn a_page_is_given_weights_beside_a_graph() {
    let browser = FakeBrowser::new("fake", &["wasm"]);
    let daemon = TestDaemon::start(&[&browser]).await;
    let values: Vec<u8> = [1.0f32, 2.0, 3.0, 4.0].iter().flat_map(|value| value.to_le_bytes()).collect();
    let (_, weights) = daemon.post("/api/v1/blobs", values).await;
    let (_, graph) = daemon.post("/api/v1/blobs", graphs::external("weights.bin")).await;
    let body = json!({
        "name": "several", "digest": graph["digest"], "source": "a test",
        "files": {"weights.bin": weights["digest"]},
    });
    let (status, said) = daemon.post("/api/v1/models", body.to_string()).await;
    assert_eq!(status, 200, "{said}");
    let inputs = json!([{"name": "x", "datatype": "FP32", "shape": [4], "data": [1, 2, 3, 4]}]);
    let answers = |backend: &str| infer(backend, "several", &inputs, &json!({"backend": [backend]}));
    let mut client = daemon.client().await;
    let wanted = client.ask(&answers("ort-cpu")).await;
    let answer = client.ask(&answers("wasm")).await;
    assert_eq!(answer.header["outputs"], wanted.header["outputs"], "{answer:?}");
    assert_eq!(answer.provenance()["verdict"], "verified", "{answer:?}");
    daemon.stop().await;
}

/// Of a large file a page is given the graph apart, which finds its weights where they are in the file.
#[tokio::test]
async fn a_page_is_given_a_large_file_as_weights_and_the_graph_beside() {
    const LAST: u32 = (33 << 20) / 4 - 1;
    let browser = FakeBrowser::new("fake", &["wasm"]);
    let daemon = TestDaemon::start(&[&browser]).await;
    let (_, file) = daemon.post("/api/v1/blobs", graphs::table(LAST + 1)).await;
    let set = |which: [u32; 2]| json!({"x": {"datatype": "INT64", "shape": [2], "data": which}});
    let gate = [[0, 1], [77, LAST], [LAST, 5]].map(set);
    let body = json!({
        "name": "table", "digest": file["digest"], "source": "a test", "gate": {"inputs": gate},
    });
    let (status, said) = daemon.post("/api/v1/models", body.to_string()).await;
    assert_eq!(status, 200, "{said}");
    let inputs = json!([{"name": "x", "datatype": "INT64", "shape": [3], "data": [LAST, 1_000_001, 0]}]);
    let asked = infer("last", "table", &inputs, &json!({"backend": ["wasm"]}));
    let answer = daemon.client().await.ask(&asked).await;
    assert_eq!(answer.header["outputs"][0]["data"], json!([f64::from(LAST), 1_000_001.0, 0.0]), "{answer:?}");
    daemon.stop().await;
}
