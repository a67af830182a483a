//! What a model's file goes through before it serves, what becomes of one that fails later, and the versions of a name.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use nix::sys::signal::Signal;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::{
    cli::{self, run, text},
    downloads::digest,
    support::{Client, TestDaemon, graphs, infer},
};

/// A good request of `model`.
fn asking(model: &str) -> Value {
    infer(
        "r",
        model,
        &json!([{"name": "x", "datatype": "FP32", "shape": [1, 4], "data": [1, 2, 3, 4]}]),
        &json!({}),
    )
}

async fn first(client: &mut Client, model: &str) -> f64 {
    let reply = client.ask(&asking(model)).await;
    reply.header["outputs"][0]["data"][0].as_f64().unwrap_or_else(|| panic!("{}", reply.header))
}

/// Where the daemon keeps a file.
fn kept(home: &Arc<TempDir>, file: &[u8]) -> PathBuf {
    home.path().join(format!("models/{}", digest(file)))
}

async fn again(home: Arc<TempDir>) -> TestDaemon {
    let daemon = TestDaemon::start_in(home, &[], |_| {}).await.expect("a good start");
    daemon.settled().await;
    daemon
}

#[tokio::test]
async fn every_bad_file_is_refused_by_the_name_of_what_is_wrong() {
    let daemon = TestDaemon::start(&[]).await;
    let of = graphs::of;
    let cases: Vec<(&str, Vec<u8>, &str)> = vec![
        (
            "dangling",
            of(&[("Neg", &["v"], &["y"])]),
            "node 0 (Neg) uses the value \"v\", which nothing gives",
        ),
        (
            "unordered",
            of(&[("Neg", &["a"], &["y"]), ("Abs", &["x"], &["a"])]),
            "before node 1 (Abs) gives it; the nodes have to be in topological order",
        ),
        (
            "cyclic",
            of(&[("Add", &["x", "y"], &["a"]), ("Neg", &["a"], &["y"])]),
            "circle: node 0 (Add) -> node 1 (Neg) -> node 0 (Add)",
        ),
        (
            "twice",
            of(&[("Neg", &["x"], &["y"]), ("Abs", &["x"], &["y"])]),
            "the value \"y\" has two origins: node 0 (Neg) and node 1 (Abs)",
        ),
        ("no output", of(&[("Neg", &["x"], &["a"])]), "the output \"y\" of the graph is given by nothing"),
        ("operator", of(&[("Gelu", &["x"], &["y"])]), "version 17 of the standard operators has no \"Gelu\""),
        ("arity", of(&[("Add", &["x"], &["y"])]), "node 0 (Add) has 1 inputs, \"Add\" takes 2"),
        (
            "weights cut",
            graphs::weighing(4, 15),
            "initialiser \"w\" of the graph has 15 bytes, its shape takes 16",
        ),
        ("negative size", graphs::weighing(-1i64 as u64, 16), "has the negative dimension -1"),
        ("outside", graphs::external("/etc/passwd"), "only a relative path without \"..\" may be named"),
        ("above", graphs::external("../weft.toml"), "only a relative path without \"..\" may be named"),
        (
            "absent",
            graphs::external("weights.bin"),
            "its weights are in the file \"weights.bin\", which did not come with it",
        ),
        // Native ONNX Runtime knows what the rules leave to it: here, that the sum's shapes do not fit.
        ("unloadable", graphs::weighing(3, 12), "ONNX Runtime cannot"),
        (
            "infinite",
            of(&[("Sub", &["x", "x"], &["a"]), ("Reciprocal", &["a"], &["y"])]),
            "\"y\" is inf at [0, 0]",
        ),
        ("not a number", of(&[("Log", &["x"], &["y"])]), "\"y\" is NaN at [0, "),
    ];
    for (case, file, says) in cases {
        let (status, said) = daemon.try_add("bad", file).await;
        assert_eq!((status, said["code"].as_str()), (422, Some("invalid_request")), "{case}: {said}");
        let detail = said["detail"].as_str().expect("a detail");
        assert!(detail.contains(says) && !detail.contains('\n'), "{case}: {detail}");
    }
    let models = daemon.get("/api/v1/models").await;
    assert_eq!(models["items"].as_array().map(Vec::len), Some(1), "{models}");
    daemon.client().await.serves(&json!({})).await;
    daemon.stop().await;
}

/// What a model is judged by lies in a file of the home for as long as some model is.
#[tokio::test]
async fn what_models_are_judged_by_comes_and_goes_with_them() {
    let daemon = TestDaemon::start(&[]).await;
    let (_, upload) = daemon.post("/api/v1/blobs", graphs::neg()).await;
    let files = || {
        let folder = std::fs::read_dir(daemon.home.path().join("inputs")).expect("a folder");
        folder.map(|file| file.expect("a file").path()).collect::<Vec<_>>()
    };
    let before = files().len();
    let tensor = json!({"datatype": "FP32", "shape": [1, 4], "data": [8.0, 7.0, 6.0, 5.0]});
    for name in ["first", "second"] {
        let gate = json!({"inputs": [{"x": tensor}]});
        let body = json!({"name": name, "digest": upload["digest"], "source": "a test", "gate": gate});
        let (status, said) = daemon.post("/api/v1/models", body.to_string()).await;
        assert_eq!(status, 200, "{said}");
        assert_eq!(files().len(), before + 1, "{name}");
    }
    let holds = |file: &Path| std::fs::read_to_string(file).expect("a text").contains("8.0,7.0,6.0,5.0");
    assert_eq!(files().iter().filter(|file| holds(file)).count(), 1);
    for (name, left) in [("first", 1), ("second", 0)] {
        let removed = daemon.http.delete(format!("{}/api/v1/models/{name}", daemon.url)).send().await;
        assert_eq!(removed.expect("an answer").status(), 200);
        assert_eq!(files().len(), before + left, "{name}");
    }
    daemon.stop().await;
}

#[tokio::test]
async fn outputs_that_are_no_numbers_are_excused_by_no_inputs_but_good_ones() {
    let daemon = TestDaemon::start(&[]).await;
    let (_, upload) = daemon.post("/api/v1/blobs", graphs::of(&[("Log", &["x"], &["y"])])).await;
    let set = |values: [f32; 4]| json!({"x": {"datatype": "FP32", "shape": [1, 4], "data": values}});
    let (one, bad) = (set([1.0, 2.0, 3.0, 4.0]), set([1.0, -2.0, 3.0, 4.0]));
    let add = async |sets: Value| {
        let body =
            json!({"name": "log", "digest": upload["digest"], "source": "a test", "gate": {"inputs": sets}});
        daemon.post("/api/v1/models", body.to_string()).await
    };
    let (status, said) = add(json!([one, bad, one])).await;
    let detail = said["detail"].as_str().expect("a detail");
    assert!(
        status == 422 && detail.contains("\"y\" is NaN at [0, 1] for input 2, which was given with it"),
        "{said}"
    );
    // A refused file goes; two sets leave one to be made up.
    daemon.post("/api/v1/blobs", graphs::of(&[("Log", &["x"], &["y"])])).await;
    let (_, said) = add(json!([one, one])).await;
    let detail = said["detail"].as_str().expect("a detail");
    assert!(
        detail.contains("for input 3, which was made up; add it with inputs that it is meant for"),
        "{detail}"
    );
    daemon.post("/api/v1/blobs", graphs::of(&[("Log", &["x"], &["y"])])).await;
    let (status, said) = add(json!([one, set([2.0, 3.0, 4.0, 5.0]), set([0.5, 1.0, 1.5, 9.0])])).await;
    assert_eq!(status, 200, "{said}");
    daemon.stop().await;
}

#[tokio::test]
async fn a_verification_tells_its_stages_and_the_registry_what_a_model_is_made_of() {
    let daemon = TestDaemon::start(&[]).await;
    let weights = |layers: usize| vec![vec![0x3c; 4 * 8 * 8]; layers];
    daemon.try_add_batching("dense", graphs::dense(8, &weights(2)), &json!({})).await;
    let shown = daemon.get("/api/v1/models/dense").await;
    let stages = shown["verification"]["stages"].as_array().expect("stages");
    let names: Vec<_> = stages.iter().map(|stage| stage["stage"].as_str().expect("a name")).collect();
    assert_eq!(names, ["digest", "structure", "load", "run", "finite", "repeatable", "batching"]);
    assert!(stages.iter().all(|stage| stage["ok"] == true && stage["took_us"].is_u64()), "{shown}");
    assert_eq!(stages[1]["detail"], "4 nodes of 2 operators, version 17");
    assert_eq!(stages[6]["detail"], "requests in one step are answered as each alone");
    let anatomy = &shown["anatomy"];
    assert_eq!(anatomy["operators"], json!({"MatMul": 2, "Relu": 2}));
    assert_eq!((&anatomy["parameters"], &anatomy["parameter_bytes"]), (&json!(128), &json!(512)));
    // Per row, of which the proof has one: two products of 8 by 8, and as often the larger of 8 numbers and zero; 64 bytes in and out of each node.
    let cost = json!({
        "flops": "272·n", "activation_bytes": "256·n", "nodes": 4, "known": 4,
        "proof": {"flops": 272, "activation_bytes": 256},
    });
    assert_eq!(anatomy["cost"], cost);
    assert_eq!((&shown["unusable"], &shown["conversion"]), (&Value::Null, &Value::Null));
    let first = shown["verified_at_us"].as_i64().expect("a time");
    daemon.verify("dense", &json!({})).await;
    let shown = daemon.get("/api/v1/models/dense").await;
    assert!(shown["verified_at_us"].as_i64().expect("a time") >= first);
    let home = daemon.stop().await;
    let daemon = again(home).await;
    let after = daemon.get("/api/v1/models/dense").await;
    for part in ["anatomy", "verification", "added_at_us"] {
        assert_eq!(after[part], shown[part], "{part} is kept");
    }
    daemon.stop().await;
}

#[tokio::test]
async fn a_file_that_was_changed_on_the_disk_serves_no_more() {
    let daemon = TestDaemon::start(&[]).await;
    daemon.add("minus", graphs::neg()).await;
    let mut client = daemon.client().await;
    client.serves(&json!({})).await;
    let path = kept(&daemon.home, &graphs::neg());
    let good = std::fs::read(&path).expect("the file");
    let mut bad = good.clone();
    let at = bad.windows(3).position(|bytes| bytes == b"Neg").expect("its operator");
    bad[at..at + 3].copy_from_slice(b"Abs");
    std::fs::write(&path, &bad).expect("room for a file");

    let (status, said) = daemon.post("/api/v1/models/neg/verify", "").await;
    assert_eq!((status, said["code"].as_str()), (409, Some("model_not_ready")), "{said}");
    let reason = format!("digest: the file {} has the digest {}", digest(&good), digest(&bad));
    assert!(said["detail"].as_str().is_some_and(|detail| detail.contains(&reason)), "{said}");
    // Under none of its names.
    let refused = async |daemon: &TestDaemon, name: &str| {
        let says = format!("{name} is unusable: {reason}");
        daemon.client().await.ask(&asking(name)).await.refused("model_not_ready", "never", &says);
        let body = json!({"inputs": asking(name)["inputs"]}).to_string();
        let (status, said) = daemon.post(&format!("/v2/models/{name}/infer"), body).await;
        assert!(status == 409 && said["error"].as_str().is_some_and(|said| said.contains(&says)), "{said}");
        let ready = daemon.get(&format!("/v2/models/{name}/ready")).await;
        assert_eq!((&ready["ready"], &ready["state"]), (&json!(false), &json!("UNAVAILABLE")));
        assert!(ready["reason"].as_str().is_some_and(|said| said.starts_with(&reason)), "{ready}");
        let shown = daemon.get(&format!("/api/v1/models/{name}")).await;
        assert!(shown["unusable"].as_str().is_some_and(|said| said.starts_with(&reason)), "{shown}");
        assert_eq!(shown["verification"]["stages"][0]["ok"], false);
        assert_eq!(shown["verification"]["stages"].as_array().map(Vec::len), Some(1));
        // No other weft gets it either.
        let url = format!("{}/api/v1/blobs/{}", daemon.url, digest(&good));
        assert_eq!(daemon.http.get(url).send().await.expect("an answer").status(), 404);
    };
    refused(&daemon, "neg").await;
    refused(&daemon, "minus").await;
    let daemon = again(daemon.stop().await).await;
    refused(&daemon, "neg").await;

    // With the file as it was, or added again, it serves.
    std::fs::write(&path, &good).expect("room for a file");
    let verified = daemon.verify("minus", &json!({})).await;
    assert!(verified.is_empty(), "natively there is no verdict: {verified:?}");
    let mut client = daemon.client().await;
    assert!((first(&mut client, "minus").await + 1.0).abs() < 1e-6);
    daemon.add("neg", good).await;
    client.serves(&json!({})).await;
    daemon.stop().await;
}

#[tokio::test]
async fn a_model_whose_file_is_gone_is_shown_with_the_reason() {
    let daemon = TestDaemon::start(&[]).await;
    daemon.add("abs", graphs::of(&[("Abs", &["x"], &["y"])])).await;
    let home = daemon.stop().await;
    let (neg, abs) = (kept(&home, &graphs::neg()), kept(&home, &graphs::of(&[("Abs", &["x"], &["y"])])));
    let good = std::fs::read(&neg).expect("the file");
    std::fs::remove_file(&neg).expect("it was there");
    std::fs::write(&abs, b"short").expect("room for a file");
    let daemon = again(home).await;
    let listed = daemon.get("/api/v1/models").await;
    let reasons: Vec<_> =
        listed["items"].as_array().expect("a list").iter().map(|item| &item["unusable"]).collect();
    assert!(reasons[0].as_str().is_some_and(|said| said.starts_with("not an ONNX file")), "{listed}");
    assert!(reasons[1].as_str().is_some_and(|said| said.starts_with("its file ")), "{listed}");
    let index = daemon.post("/v2/repository/index", "").await.1;
    let unavailable = |model: &Value| model["state"] == "UNAVAILABLE";
    assert!(
        index.as_array().is_some_and(|models| models.len() == 2 && models.iter().all(unavailable)),
        "{index}"
    );
    let mut client = daemon.client().await;
    client.ask(&asking("neg")).await.refused("model_not_ready", "never", "neg is unusable: its file ");
    let (status, _) = daemon.post("/api/v1/models/neg/verify", "").await;
    assert_eq!(status, 409);
    std::fs::write(&neg, good).expect("room for a file");
    daemon.verify("neg", &json!({})).await;
    client.serves(&json!({})).await;
    daemon.stop().await;
}

#[tokio::test]
async fn files_under_one_name_are_versions_of_it() {
    let daemon = TestDaemon::start(&[]).await;
    let (old, new) = (graphs::neg(), graphs::of(&[("Abs", &["x"], &["y"])]));
    let (old_digest, new_digest) = (digest(&old), digest(&new));
    let mut client = daemon.client().await;
    assert!((first(&mut client, "neg").await + 1.0).abs() < 1e-6);
    daemon.add("neg", new.clone()).await;
    let short = &old_digest[..8];
    let meaning = [
        ("neg".to_owned(), 1.0),
        (format!("neg@{old_digest}"), -1.0),
        (format!("neg@{short}"), -1.0),
        (format!("neg@{new_digest}"), 1.0),
        (old_digest.clone(), -1.0),
    ];
    for (model, wanted) in &meaning {
        assert!((first(&mut client, model).await - wanted).abs() < 1e-6, "{model}");
        let body = json!({"inputs": asking(model)["inputs"]}).to_string();
        let (status, said) = daemon.post(&format!("/v2/models/{model}/infer"), body).await;
        assert_eq!((status, said["outputs"][0]["data"][0].as_f64()), (200, Some(*wanted)), "{said}");
        assert_eq!(daemon.get(&format!("/api/v1/models/{model}")).await["latest"], json!(*wanted > 0.0));
    }
    let versioned = |model: &str, version: &str| {
        let mut asking = asking(model);
        asking["model_version"] = json!(version);
        asking
    };
    let reply = client.ask(&versioned("neg", &old_digest)).await;
    assert_eq!(reply.header["model_version"], json!(old_digest));
    client.ask(&versioned("neg", "2")).await.refused("unknown_model", "never", "has no version \"2\"");
    let both = client.ask(&versioned(&format!("neg@{new_digest}"), &old_digest)).await;
    both.refused("invalid_request", "never", "the model's name says version");
    let body = json!({"inputs": asking("neg")["inputs"]}).to_string();
    let (_, said) = daemon.post(&format!("/v2/models/neg/versions/{short}/infer"), body).await;
    assert_eq!(said["model_version"], json!(old_digest), "{said}");
    let versions = daemon.get("/v2/models/neg").await["versions"].clone();
    assert_eq!(versions, json!([new_digest, old_digest]), "the latest first");
    let index = daemon.post("/v2/repository/index", "").await.1;
    let index: Vec<_> = index.as_array().expect("a list").iter().map(|model| &model["version"]).collect();
    assert_eq!(index, [&json!(new_digest), &json!(old_digest)]);

    // Each is loaded and unloaded apart.
    let (status, _) = daemon.post(&format!("/v2/repository/models/neg@{short}/unload"), "").await;
    assert_eq!(status, 200);
    client.ask(&asking(&old_digest)).await.refused("model_not_ready", "never", "was unloaded");
    assert!((first(&mut client, "neg").await - 1.0).abs() < 1e-6);

    let daemon = again(daemon.stop().await).await;
    let mut client = daemon.client().await;
    assert!((first(&mut client, "neg").await - 1.0).abs() < 1e-6, "the order is kept");
    assert!((first(&mut client, &format!("neg@{short}")).await + 1.0).abs() < 1e-6);
    // Added again, the older file is the latest.
    daemon.add("neg", old.clone()).await;
    assert!((first(&mut client, "neg").await + 1.0).abs() < 1e-6);
    let url = |model: &str| format!("{}/api/v1/models/{model}", daemon.url);
    let remove = async |model: &str| daemon.http.delete(url(model)).send().await.expect("an answer").status();
    assert_eq!(remove(&format!("neg@{short}")).await, 200);
    assert!((first(&mut client, "neg").await - 1.0).abs() < 1e-6, "what is left");
    assert!(!kept(&daemon.home, &old).exists() && kept(&daemon.home, &new).exists());
    daemon.add("neg", old.clone()).await;
    assert_eq!(remove("neg").await, 200);
    client.ask(&asking("neg")).await.refused("unknown_model", "never", "none has been added");
    client.ask(&asking(&old_digest)).await.refused("unknown_model", "never", "none has been added");
    assert!(!kept(&daemon.home, &old).exists() && !kept(&daemon.home, &new).exists());
    daemon.stop().await;
}

#[tokio::test]
async fn uses_are_counted_over_restarts() {
    let daemon = TestDaemon::start(&[]).await;
    let mut client = daemon.client().await;
    for _ in 0..3 {
        client.serves(&json!({})).await;
    }
    let uses = async |daemon: &TestDaemon| {
        let shown = daemon.get("/api/v1/models/neg").await;
        (shown["uses"].as_u64().expect("a count"), shown["last_used_ms"].as_u64().expect("a time"))
    };
    let before = uses(&daemon).await;
    assert!(before.0 == 3 && before.1 > 1_600_000_000_000, "{before:?}");
    let daemon = again(daemon.stop().await).await;
    assert_eq!(uses(&daemon).await, before);
    daemon.client().await.serves(&json!({})).await;
    // Added again it is the same version.
    daemon.add("neg", graphs::neg()).await;
    daemon.client().await.serves(&json!({})).await;
    assert_eq!(uses(&daemon).await.0, 5);
    let daemon = again(daemon.stop().await).await;
    assert_eq!(uses(&daemon).await.0, 5);
    daemon.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_command_line_tells_versions_verifications_and_uses() {
    let home = cli::home();
    let file = |name: &str, bytes: &[u8]| {
        let path = home.path().join(name);
        std::fs::write(&path, bytes).expect("room for a file");
        path.to_str().expect("UTF-8").to_owned()
    };
    let (old, new) = (graphs::neg(), graphs::of(&[("Abs", &["x"], &["y"])]));
    let (old_file, new_file) = (file("old.onnx", &old), file("new.onnx", &new));
    tokio::task::block_in_place(|| {
        let served = cli::serve(home.path());
        let say = |arguments: &[&str]| {
            let done = run(home.path(), arguments);
            (done.status.code(), text(&done.stdout).to_owned() + text(&done.stderr))
        };
        for file in [&old_file, &new_file] {
            assert_eq!(say(&["models", "add", file, "--name", "m", "--kind", "audio"]).0, Some(0));
        }
        let short = &digest(&old)[..8];
        let version = format!("m@{short}");
        let (code, said) = say(&["infer", &version, "--input", "x=[[1,2,3,4]]", "--json"]);
        assert!(code == Some(0) && said.contains("-1.0"), "{said}");
        let (_, listed) = say(&["models", "list"]);
        let lines: Vec<_> = listed.lines().collect();
        let words = |line: &str| line.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
        assert_eq!(words(lines[0])[..5], ["name", "version", "kind", "verified", "uses"], "{listed}");
        assert!(lines[1].starts_with("m ") && lines[2].starts_with("m (older)"), "{listed}");
        assert!(words(lines[2]).contains(&"audio".to_owned()) && words(lines[2]).contains(&"1".to_owned()));
        let (code, shown) = say(&["models", "show", &version]);
        assert_eq!(code, Some(0), "{shown}");
        for wanted in
            ["an older version", "uses: 1, the last at", "structure   yes", "batching    yes", "1 Neg"]
        {
            assert!(shown.contains(wanted), "{wanted}: {shown}");
        }
        let (code, verified) = say(&["models", "verify", &version]);
        assert!(code == Some(0) && verified.contains("repeatable  yes"), "{verified}");

        let path = home.path().join(format!("models/{}", digest(&old)));
        std::fs::write(&path, b"changed").expect("room for a file");
        let (code, said) = say(&["models", "verify", &version]);
        assert!(code == Some(1) && said.contains("m is unusable: digest: the file "), "{said}");
        let (_, listed) = say(&["models", "list"]);
        assert!(listed.lines().nth(2).is_some_and(|line| line.contains("unusable")), "{listed}");
        let (_, shown) = say(&["models", "show", &version]);
        assert!(shown.contains("unusable: digest:") && shown.contains("digest  no"), "{shown}");
        assert_eq!(say(&["models", "remove", &version]).0, Some(0));
        let (_, listed) = say(&["models", "list", "--json"]);
        let listed: Value = serde_json::from_str(&listed).expect("JSON");
        assert_eq!(listed["items"].as_array().map(Vec::len), Some(1), "{listed}");
        assert_eq!(listed["items"][0]["digest"], json!(digest(&new)));
        assert_eq!(served.end(Signal::SIGTERM).0, Some(0));
    });
}
