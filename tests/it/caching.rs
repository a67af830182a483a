//! Which models' files stay on the disk, which make room, how they come back, and who shares the folder.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use futures_util::future::join_all;
use serde_json::{Value, json};
use tempfile::TempDir;
use weft::{config::Config, models::source::Backoff};

use crate::{
    downloads::{digest, download},
    support::{Origin, Said, TestDaemon, blobs, graphs, home},
};

/// Models of one size that differ in their weights.
const WIDTH: usize = 32;

/// A model's file with what is kept beside it is less than this.
const ROOM: u64 = 5000;

fn model(fill: u8) -> Vec<u8> {
    graphs::dense(WIDTH as u64, &[vec![fill; 4 * WIDTH * WIDTH]])
}

/// The model that a path ends in: `/60` is that of weights filled with 60.
fn served(path: &str) -> Option<Vec<u8>> {
    Some(model(path.trim_start_matches('/').parse().ok()?))
}

async fn origin() -> Origin {
    Origin::start(|heard, _| match served(&heard.path) {
        Some(file) => Said::good(heard, &file, "\"v\""),
        None => Said::status("404 Not Found"),
    })
    .await
}

fn asked(origin: &Origin, fill: u8) -> usize {
    origin.heard().iter().filter(|heard| heard.path == format!("/{fill}")).count()
}

async fn start(home: &Arc<TempDir>, change: impl FnOnce(&mut Config)) -> TestDaemon {
    let daemon = TestDaemon::start_in(home.clone(), &[], |config| {
        config.sources.backoff = Backoff { retries: 0, first: Duration::from_millis(1) };
        change(config);
    });
    let daemon = daemon.await.expect("a good start");
    daemon.settled().await;
    daemon
}

fn room_for(models: u64) -> impl FnOnce(&mut Config) {
    move |config| config.cache.max = Some(models * ROOM)
}

/// Downloads and names a model; answers as the last step did.
async fn bring(daemon: &TestDaemon, origin: &Origin, fill: u8) -> (u16, Value) {
    let done = download(daemon, &format!("{}/{fill}", origin.url)).await;
    if done["state"] != "done" {
        return (0, done["error"].clone());
    }
    let body = json!({"name": format!("m{fill}"), "download": done["id"], "batch": {"max": 1}});
    daemon.post("/api/v1/models", body.to_string()).await
}

async fn brought(daemon: &TestDaemon, origin: &Origin, fill: u8) {
    let (status, said) = bring(daemon, origin, fill).await;
    assert_eq!(status, 200, "{said}");
    // What follows from a file is written beside it in its own time, and counts.
    daemon.get(&format!("/api/v1/models/m{fill}")).await;
}

async fn ask(daemon: &TestDaemon, fill: u8) -> (u16, Value) {
    let x = json!([{"name": "x", "datatype": "FP32", "shape": [1, WIDTH], "data": vec![1.0; WIDTH]}]);
    daemon.post(&format!("/v2/models/m{fill}/infer"), json!({"inputs": x}).to_string()).await
}

async fn answers(daemon: &TestDaemon, fill: u8) {
    let (status, said) = ask(daemon, fill).await;
    assert_eq!(status, 200, "{said}");
    let wanted = f64::from(f32::from_le_bytes([fill; 4])) * WIDTH as f64;
    let got = said["outputs"][0]["data"][0].as_f64().expect("a number");
    assert!((got - wanted).abs() <= wanted.abs() * 1e-5, "{got} is not {wanted}");
}

/// How the list shows the models' files.
async fn files(daemon: &TestDaemon) -> BTreeMap<String, &'static str> {
    let listed = daemon.get("/api/v1/models").await;
    let shown = |model: &Value| {
        let state = match (model["unusable"].is_null(), model["evicted"] == true, model["pinned"] == true) {
            (false, ..) => "unusable",
            (_, true, _) => "evicted",
            (_, _, true) => "pinned",
            _ => "here",
        };
        (model["name"].as_str().expect("a name").to_owned(), state)
    };
    listed["items"].as_array().expect("a list").iter().map(shown).collect()
}

fn are<const N: usize>(files: [(&str, &'static str); N]) -> BTreeMap<String, &'static str> {
    files.into_iter().map(|(name, state)| (name.to_owned(), state)).collect()
}

fn flip(path: &Path) {
    let mut bytes = std::fs::read(path).expect("the file");
    let last = bytes.len() - 100;
    bytes[last] ^= 1;
    std::fs::write(path, bytes).expect("room for a file");
}

fn at(folder: &Path, fill: u8) -> PathBuf {
    folder.join(digest(&model(fill)))
}

#[tokio::test]
async fn what_was_used_longest_ago_makes_room_and_comes_back_when_it_is_wanted() {
    let (origin, home) = (origin().await, home());
    let daemon = start(&home, room_for(3)).await;
    for fill in [57, 58, 59] {
        brought(&daemon, &origin, fill).await;
    }
    answers(&daemon, 57).await;
    daemon.stop().await;
    // Nothing is loaded any more, and when it was used is remembered.
    let daemon = start(&home, room_for(3)).await;
    brought(&daemon, &origin, 60).await;
    let state = are([("m57", "here"), ("m58", "evicted"), ("m59", "here"), ("m60", "here")]);
    assert_eq!(files(&daemon).await, state);
    assert_eq!(blobs(&home.path().join("models")).len(), 3);
    // All who want it wait for one download.
    join_all((0..8).map(|_| answers(&daemon, 58))).await;
    assert_eq!(asked(&origin, 58), 2);
    let state = are([("m57", "here"), ("m58", "here"), ("m59", "evicted"), ("m60", "here")]);
    assert_eq!(files(&daemon).await, state);
    let home = daemon.stop().await;
    // What a restart finds away is evicted, and not lost.
    let daemon = start(&home, room_for(3)).await;
    assert_eq!(files(&daemon).await, state);
    let verified = daemon.post("/api/v1/models/m59/verify", "").await;
    assert_eq!(verified.0, 200, "{}", verified.1);
    assert_eq!(files(&daemon).await["m59"], "here");
    daemon.stop().await;
}

#[tokio::test]
async fn what_is_loaded_or_pinned_or_uploaded_stays_and_the_error_says_so() {
    let (origin, home) = (origin().await, home());
    let daemon = start(&home, room_for(3)).await;
    let (status, said) = daemon.try_add("up", model(61)).await;
    assert_eq!(status, 200, "{said}");
    brought(&daemon, &origin, 57).await;
    brought(&daemon, &origin, 58).await;
    let (status, said) = daemon.post("/api/v1/models/m57/pin", "").await;
    assert_eq!((status, &said["pinned"]), (200, &json!(true)), "{said}");
    answers(&daemon, 58).await;
    let kept = blobs(&home.path().join("models"));
    let (_, error) = bring(&daemon, &origin, 59).await;
    assert_eq!((&error["code"], &error["retry"]), (&json!("overloaded"), &json!("same")), "{error}");
    let message = error["message"].as_str().expect("a message");
    for part in
        ["the cache is full", "pinned (`weft models unpin NAME`)", "cannot be downloaded again", "loaded"]
    {
        assert!(message.contains(part), "{message}");
    }
    // An upload is refused as well, and nothing of either is left.
    let (status, said) = daemon.post("/api/v1/blobs", model(62)).await;
    assert_eq!((status, &said["code"]), (503, &json!("overloaded")), "{said}");
    assert_eq!(blobs(&home.path().join("models")), kept);
    let (status, said) = daemon.post("/api/v1/blobs", vec![0; 4 * ROOM as usize]).await;
    assert_eq!((status, &said["code"]), (413, &json!("too_large")), "{said}");
    let partial = |path: std::fs::DirEntry| path.path().extension().is_some_and(|end| end == "partial");
    let mut left = std::fs::read_dir(home.path().join("models")).expect("a folder").flatten();
    assert!(!left.any(partial));
    // Pins outlive the daemon; what is not loaded goes.
    let home = daemon.stop().await;
    let daemon = start(&home, room_for(3)).await;
    brought(&daemon, &origin, 59).await;
    let state = are([("up", "here"), ("m57", "pinned"), ("m58", "evicted"), ("m59", "here")]);
    assert_eq!(files(&daemon).await, state);
    daemon.post("/api/v1/models/m57/unpin", "").await;
    brought(&daemon, &origin, 58).await;
    assert_eq!(files(&daemon).await["m57"], "evicted");
    daemon.stop().await;
}

#[tokio::test]
async fn what_cannot_come_back_is_told_with_what_to_do() {
    let home = home();
    let changed = Arc::new(AtomicBool::new(false));
    let is_changed = changed.clone();
    let origin = Origin::start(move |heard, _| {
        let file = model(if is_changed.load(Ordering::Relaxed) { 77 } else { 57 });
        Said::good(heard, &file, "\"v\"")
    });
    let origin = origin.await;
    let daemon = start(&home, |_| {}).await;
    brought(&daemon, &origin, 57).await;
    let home = daemon.stop().await;
    std::fs::remove_file(at(&home.path().join("models"), 57)).expect("it was there");

    let daemon = start(&home, |config| config.sources.offline = true).await;
    assert_eq!(files(&daemon).await, are([("m57", "evicted")]));
    let (status, said) = ask(&daemon, 57).await;
    let error = said["error"].as_str().unwrap_or_else(|| panic!("{said}"));
    assert!(status == 502 && error.contains("the daemon is offline"), "{status} {said}");
    let order = json!({"source": format!("{}/57", origin.url)}).to_string();
    let (status, said) = daemon.post("/api/v1/downloads", order).await;
    assert_eq!(
        (status, &said["code"]),
        (502, &json!("source_unavailable")),
        "what is away is not here: {said}"
    );
    daemon.stop().await;

    changed.store(true, Ordering::Relaxed);
    let daemon = start(&home, |_| {}).await;
    let (status, said) = ask(&daemon, 57).await;
    let error = said["error"].as_str().unwrap_or_else(|| panic!("{said}"));
    assert!(status == 502 && error.contains("it has other files there now"), "{status} {said}");
    assert!(error.contains("weft models remove m57"), "{said}");
    assert_eq!(blobs(&home.path().join("models")).len(), 0, "what came instead is not kept");
    // It is the same source's file, under the same name.
    let (status, said) = daemon.try_add("m57", model(57)).await;
    assert_eq!(status, 200, "{said}");
    answers(&daemon, 57).await;
    daemon.stop().await;
}

#[tokio::test]
async fn a_damaged_file_is_found_before_it_is_used_or_given_out_and_brought_again() {
    let (origin, home) = (origin().await, home());
    let daemon = start(&home, |_| {}).await;
    brought(&daemon, &origin, 57).await;
    let models = home.path().join("models");
    // While it runs, and over a restart.
    flip(&at(&models, 57));
    let blob = |daemon: &TestDaemon, fill: u8| {
        let url = format!("{}/api/v1/blobs/{}", daemon.url, digest(&model(fill)));
        daemon.http.get(url).send()
    };
    let given = blob(&daemon, 57).await.expect("an answer").bytes().await.expect("a body");
    assert_eq!(given, model(57), "nobody is given the damaged file");
    assert_eq!(asked(&origin, 57), 2);
    let home = daemon.stop().await;
    flip(&at(&models, 57));
    let daemon = start(&home, |_| {}).await;
    answers(&daemon, 57).await;
    assert_eq!(asked(&origin, 57), 3);
    assert_eq!(std::fs::read(at(&models, 57)).expect("the file"), model(57));
    // What has no source serves no more.
    let (status, said) = daemon.try_add("m61", model(61)).await;
    assert_eq!(status, 200, "{said}");
    flip(&at(&models, 61));
    let (status, said) = ask(&daemon, 61).await;
    let error = said["error"].as_str().unwrap_or_else(|| panic!("{said}"));
    assert!(status == 409 && error.contains("it was changed on the disk"), "{status} {said}");
    assert_eq!(blob(&daemon, 61).await.expect("an answer").status(), 404);
    assert_eq!(files(&daemon).await, are([("m57", "here"), ("m61", "unusable")]));
    let (status, said) = daemon.try_add("m61", model(61)).await;
    assert_eq!(status, 200, "{said}");
    answers(&daemon, 61).await;
    daemon.stop().await;
}

#[tokio::test]
async fn files_that_wait_for_a_name_outlast_the_failure_of_another_model_with_them() {
    let daemon = TestDaemon::start(&[]).await;
    let bad = graphs::of(&[("Neg", &["v"], &["y"])]);
    let mut uploads = Vec::new();
    for file in [bad, b"{}".to_vec(), model(57), b"{}".to_vec()] {
        uploads.push(daemon.post("/api/v1/blobs", file).await.1["digest"].clone());
    }
    let add = async |name: &str, at: usize| {
        let files = json!({"tokenizer.json": uploads[at + 1]});
        let body = json!({"name": name, "digest": uploads[at], "files": files, "source": "a test"});
        daemon.post("/api/v1/models", body.to_string()).await
    };
    let (status, said) = add("bad", 0).await;
    assert_eq!(status, 422, "{said}");
    let (status, said) = add("good", 2).await;
    assert_eq!(status, 200, "{said}");
    daemon.stop().await;
}

#[tokio::test]
async fn daemons_that_share_a_folder_spare_what_the_others_need() {
    let (origin, ours, theirs, shared) = (origin().await, home(), home(), home());
    let folder = shared.path().to_owned();
    let sharing = |max: Option<u64>| {
        let folder = folder.clone();
        move |config: &mut Config| {
            config.cache.folder = folder;
            config.cache.max = max;
        }
    };
    let one = start(&ours, sharing(None)).await;
    let other = start(&theirs, sharing(None)).await;
    // The same file by both at once, and one each.
    let (a, b) = tokio::join!(one.try_add("m61", model(61)), other.try_add("m61", model(61)));
    assert_eq!((a.0, b.0), (200, 200), "{} {}", a.1, b.1);
    one.add("m62", model(62)).await;
    brought(&one, &origin, 57).await;
    answers(&one, 57).await;
    // A removal, a start and an upload that nobody named yet: what the first one needs stays.
    let (_, uploaded) = one.post("/api/v1/blobs", model(63)).await;
    let removed = other.http.delete(format!("{}/api/v1/models/m61", other.url)).send().await;
    assert_eq!(removed.expect("an answer").status(), 200);
    other.stop().await;
    let other = start(&theirs, sharing(Some(4 * ROOM))).await;
    assert_eq!(blobs(&folder).len(), 4, "m61, m62, m57 and the upload");
    let body = json!({"name": "m63", "digest": uploaded["digest"], "source": "a test", "batch": {"max": 1}});
    let (status, said) = one.post("/api/v1/models", body.to_string()).await;
    assert_eq!(status, 200, "{said}");
    // There is no room for more as long as the first one has its model loaded, though its source has it.
    let (_, error) = bring(&other, &origin, 58).await;
    assert!(error["message"].as_str().is_some_and(|said| said.contains("the cache is full")), "{error}");
    for fill in [57, 61, 62, 63] {
        answers(&one, fill).await;
    }
    one.stop().await;
    brought(&other, &origin, 58).await;
    let one = start(&ours, sharing(Some(4 * ROOM))).await;
    let state = are([("m57", "evicted"), ("m61", "here"), ("m62", "here"), ("m63", "here")]);
    assert_eq!(files(&one).await, state);
    // A home whose daemon does not run keeps what it named.
    answers(&other, 58).await;
    other.stop().await;
    for fill in [61, 62, 63] {
        let removed = one.http.delete(format!("{}/api/v1/models/m{fill}", one.url)).send().await;
        assert_eq!(removed.expect("an answer").status(), 200);
    }
    assert_eq!(blobs(&folder), [at(&folder, 58)]);
    one.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_killed_daemon_needed_is_free_again() {
    let (origin, ours, shared) = (origin().await, home(), home());
    let theirs = crate::cli::home();
    let toml = format!("[browsers]\nchromium = 0\n[models]\ncache = {:?}\n", shared.path());
    std::fs::write(theirs.path().join("weft.toml"), toml).expect("room for a file");
    let folder = shared.path().to_owned();
    let one = start(&ours, |config| {
        config.cache.folder = folder;
        config.cache.max = Some(ROOM);
    });
    let one = one.await;
    let mut served = crate::cli::serve(theirs.path());
    let source = format!("{}/57", origin.url);
    let x = format!("x=[{:?}]", vec![1.0; WIDTH]);
    for arguments in [vec!["models", "add", &source, "--name", "m57"], vec!["infer", "m57", "--input", &x]] {
        let done = tokio::task::block_in_place(|| crate::cli::run(theirs.path(), &arguments));
        assert_eq!(done.status.code(), Some(0), "{}", crate::cli::text(&done.stderr));
    }
    let (_, error) = bring(&one, &origin, 58).await;
    assert!(error["message"].as_str().is_some_and(|said| said.contains("the cache is full")), "{error}");
    served.child.kill().expect("it runs");
    served.child.wait().expect("it ends");
    brought(&one, &origin, 58).await;
    assert_eq!(blobs(shared.path()), [at(shared.path(), 58)]);
    one.stop().await;
}

/// What writes a file: an upload, a download, or a conversion.
#[derive(Clone, Copy, Debug)]
enum Writing {
    Upload,
    Download,
    Conversion,
}

#[tokio::test]
async fn a_kill_at_any_moment_leaves_whole_files_alone() {
    const KILLS: u32 = 12;
    let (home, file) = (crate::cli::home(), vec![57; 8 << 20]);
    let models = home.path().join("models");
    let client = reqwest::Client::builder().no_proxy().build().expect("an HTTP client");
    let far = file.clone();
    let origin = Origin::start(move |heard, _| Said::good(heard, &far, "\"v\"")).await;
    let added = {
        let _served = crate::cli::serve(home.path());
        let silero = concat!(env!("CARGO_MANIFEST_DIR"), "/fixtures/models.toml#silero-vad");
        crate::cli::run(home.path(), &["models", "add", silero])
    };
    assert!(added.status.success(), "{}", crate::cli::text(&added.stderr));
    for writing in [Writing::Upload, Writing::Download, Writing::Conversion] {
        let (path, body) = match writing {
            Writing::Upload => ("blobs", file.clone()),
            Writing::Download => {
                let order = json!({"source": format!("{}/model.onnx", origin.url)});
                ("downloads", order.to_string().into_bytes())
            }
            Writing::Conversion => {
                ("conversions", json!({"model": "silero-vad", "precision": "fp16"}).to_string().into_bytes())
            }
        };
        let mut whole = Duration::ZERO;
        for kill in 0..=KILLS {
            let mut served = crate::cli::serve(home.path());
            let url = served.line.trim().trim_start_matches("listening on ").to_owned();
            let partials = std::fs::read_dir(&models).expect("a folder").flatten();
            let partials =
                partials.filter(|file| file.path().extension().is_some_and(|end| end == "partial"));
            assert_eq!(partials.count(), 0, "the start removes what a kill left");
            let begun = Instant::now();
            let (client, body) = (client.clone(), body.clone());
            let mut order = tokio::spawn(async move {
                let answer = client.post(format!("{url}/api/v1/{path}")).body(body).send().await?;
                let status = answer.status();
                let said: Value = serde_json::from_str(&answer.text().await?).unwrap_or_default();
                if let Some(id) = said["id"].as_str() {
                    client.get(format!("{url}/api/v1/{path}/{id}?wait=30s")).send().await?.text().await?;
                }
                Ok::<_, reqwest::Error>(status)
            });
            if kill == 0 {
                let status = order.await.expect("no panic").expect("an answer");
                assert!(status.is_success(), "{writing:?}: {status}");
                whole = begun.elapsed();
            } else {
                // Beyond the end, too.
                let _ = tokio::time::timeout(whole * kill * 5 / (KILLS * 4), &mut order).await;
            }
            served.child.kill().expect("it runs");
            served.child.wait().expect("it ends");
            for path in blobs(&models) {
                let found = digest(&std::fs::read(&path).expect("a file"));
                assert!(path.ends_with(&found), "{writing:?}, kill {kill}: {}", path.display());
            }
        }
    }
}
