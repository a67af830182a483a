//! `weft models add` from everywhere, against servers of this process.

use std::path::Path;

use nix::sys::signal::Signal;
use serde_json::{Value, json};

use crate::{
    access::guarded,
    cli::{self, run, text, weft},
    packages::{COMMIT, hub, index, integrity, registry, tarball, zip},
    support::{Origin, Said, TestDaemon, blobs, graphs},
};

/// Where models come from: each has `neg`, and the other weft a model of several files as well.
struct Sources {
    hub: Origin,
    _storage: Origin,
    index: Origin,
    registry: Origin,
    far: TestDaemon,
    key: String,
    gateway: TestDaemon,
}

impl Sources {
    async fn start() -> Self {
        let neg = graphs::neg();
        let packed = tarball(&[("package/dist/neg.onnx", &neg)]);
        let (hub, storage) = hub(crate::downloads::digest(&neg)).await;
        let far = guarded(&[]).await;
        let gateway = TestDaemon::start(&[]).await;
        gateway.add("neg", neg.clone()).await;
        Self {
            hub,
            _storage: storage,
            index: index(zip(&[("pkg/neg.onnx", &neg)]), |_| {}).await,
            registry: registry(packed.clone(), Some(integrity(&packed))).await,
            key: far.key("peer", json!({"scopes": "read"})).await,
            far,
            gateway,
        }
    }

    /// A home whose daemon finds all of them.
    fn home(&self) -> tempfile::TempDir {
        let Self { hub, index, registry, far, gateway, .. } = self;
        let home = home(&hub.url, &index.url, &registry.url, &gateway.url);
        let key = home.path().join("peer.key");
        std::fs::write(&key, format!("{}\n", self.key)).expect("room for a file");
        let toml = home.path().join("weft.toml");
        let written = std::fs::read_to_string(&toml).expect("a file");
        let tokens = format!("[models.tokens]\n{:?} = {:?}\n", far.url, key.to_str().expect("UTF-8"));
        std::fs::write(&toml, written + &tokens).expect("room for a file");
        home
    }

    /// A model with its weights and its tokenizer in files of their own.
    async fn several(&self) -> String {
        let upload = async |file: Vec<u8>| self.far.post("/api/v1/blobs", file).await.1["digest"].clone();
        let weights = [1.0f32, 2.0, 3.0, 4.0].iter().flat_map(|weight| weight.to_le_bytes()).collect();
        let body = json!({
            "name": "several", "digest": upload(graphs::external("weights.bin")).await, "source": "a test",
            "files": {"weights.bin": upload(weights).await, "tokenizer.json": upload(b"{}".to_vec()).await},
        });
        let (status, said) = self.far.post("/api/v1/models", body.to_string()).await;
        assert_eq!(status, 200, "{said}");
        format!("weft:{}/several", self.far.url)
    }
}

fn home(hub: &str, index: &str, registry: &str, gateway: &str) -> tempfile::TempDir {
    let home = cli::home();
    let toml = format!(
        "[browsers]\nchromium = 0\n[models]\nhub = {hub:?}\npypi = {index:?}\nnpm = {registry:?}\n\
         gateways = [{gateway:?}]\nbackoff = \"1ms\"\n"
    );
    std::fs::write(home.path().join("weft.toml"), toml).expect("room for a file");
    home
}

fn serve(home: &Path) -> cli::Served {
    cli::start(weft(home, &["serve", "--listen", "127.0.0.1:0"]).env("HF_TOKEN", "hf_secret"))
}

fn add(home: &Path, arguments: &[&str]) -> (Option<i32>, String, String) {
    let done = run(home, &[&["models", "add"], arguments].concat());
    (done.status.code(), text(&done.stdout).to_owned(), text(&done.stderr).to_owned())
}

#[tokio::test(flavor = "multi_thread")]
async fn models_are_added_from_everywhere() {
    let neg = graphs::neg();
    let sources = Sources::start().await;
    let Sources { hub, index, registry, far, key, .. } = &sources;
    let body = neg.clone();
    let plain = Origin::start(move |heard, before| match before {
        0 => Said::file(&body, Some("\"v1\"")).short(9),
        _ => Said::good(heard, &body, "\"v1\""),
    });
    let plain = plain.await;
    let home = sources.home();
    let folder = home.path().join("folder");
    std::fs::create_dir_all(folder.join("onnx")).expect("room for a folder");
    std::fs::write(folder.join("onnx/model.onnx"), &neg).expect("room for a file");
    std::fs::write(folder.join("onnx/model_q4.onnx"), b"another").expect("room for a file");

    let address = format!("{}/models/neg.onnx?signature=abc", plain.url);
    let peer = format!("weft:{}/neg", far.url);
    let from_folder = folder.to_str().expect("UTF-8").to_owned();
    let digest = crate::downloads::digest(&neg);
    // What is added, under which name; the source and the revision that are kept.
    let cases = [
        (address.as_str(), "neg", format!("{}/models/neg.onnx", plain.url), json!("\"v1\"")),
        ("hf:owner/neg", "from-hub", "hf:owner/neg/onnx/model.onnx".into(), json!(COMMIT)),
        ("pypi:pkg==1.0/pkg/neg.onnx", "pkg", "pypi:pkg==1.0/pkg/neg.onnx".into(), json!("1.0")),
        ("npm:@scope/pkg@1.0.0", "from-npm", "npm:@scope/pkg@1.0.0/dist/neg.onnx".into(), json!("1.0.0")),
        (&peer, "far", peer.clone(), json!(digest)),
        (&from_folder, "here", format!("{from_folder}/onnx/model.onnx"), Value::Null),
    ];
    tokio::task::block_in_place(|| {
        let served = serve(home.path());
        for (source, name, kept, revision) in &cases {
            let named: &[&str] = if matches!(*name, "neg" | "pkg") { &[] } else { &["--name", name] };
            let (code, stdout, said) = add(home.path(), &[&[*source], named].concat());
            assert_eq!(code, Some(0), "{source}: {said}");
            assert!(stdout.starts_with(&format!("added {name} (")), "{stdout}");
            let secret = [said.as_str(), &stdout].iter().any(|said| {
                ["hf_secret", "signature=abc", key.as_str()].iter().any(|secret| said.contains(secret))
            });
            assert!(!secret, "{said}");
            let progress = said.contains(" MB");
            assert_eq!(progress, *name != "here", "{source}: {said}");
            let shown = run(home.path(), &["models", "show", name, "--json"]);
            let shown: Value = serde_json::from_str(text(&shown.stdout)).expect("JSON");
            assert_eq!((&shown["source"], &shown["revision"]), (&json!(kept), revision), "{shown}");
            let shown = run(home.path(), &["models", "show", name]);
            let line = format!("revision {}", revision.as_str().unwrap_or("?"));
            assert_eq!(text(&shown.stdout).contains(&line), !revision.is_null(), "{}", text(&shown.stdout));
        }
        let listed = run(home.path(), &["models", "list", "--json"]);
        let listed: Value = serde_json::from_str(text(&listed.stdout)).expect("JSON");
        let revisions: Vec<_> =
            listed["items"].as_array().expect("a list").iter().map(|model| &model["revision"]).collect();
        assert_eq!(revisions.len(), 6);
        assert!(revisions.contains(&&json!(COMMIT)), "{listed}");
        assert_eq!(served.end(Signal::SIGTERM).0, Some(0));
    });
    let asked = [plain.count(), hub.count(), index.count(), registry.count()];

    // Without the network, by the flag and by a daemon that is told so.
    let (code, _, said) = tokio::task::block_in_place(|| {
        let (code, stdout, said) = add(home.path(), &["hf:owner/neg", "--offline", "--name", "again"]);
        assert_eq!(code, Some(0), "{said}");
        assert!(stdout.starts_with("added again ("), "{stdout}");
        let served = cli::start(&mut weft(home.path(), &["serve", "--offline", "--listen", "127.0.0.1:0"]));
        assert_eq!(add(home.path(), &[&address, "--name", "again"]).0, Some(0));
        let refused = add(home.path(), &["pypi:pkg==2.0"]);
        assert_eq!(served.end(Signal::SIGTERM).0, Some(0));
        refused
    });
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("offline: pypi:pkg==2.0 is not here already"), "{said}");
    assert_eq!([plain.count(), hub.count(), index.count(), registry.count()], asked);
}

#[tokio::test(flavor = "multi_thread")]
async fn every_source_gives_back_what_made_room() {
    let sources = Sources::start().await;
    let cid = sources.gateway.get("/api/v1/models/neg").await["cid"].as_str().expect("a CID").to_owned();
    let several = sources.several().await;
    let neg = json!([-1.0, -2.0, -3.0, -4.0]);
    let cases = [
        ("hf:owner/neg".to_owned(), "x=[[1,2,3,4]]", &neg, 1),
        ("pypi:pkg==1.0/pkg/neg.onnx".to_owned(), "x=[[1,2,3,4]]", &neg, 1),
        ("npm:@scope/pkg@1.0.0".to_owned(), "x=[[1,2,3,4]]", &neg, 1),
        (format!("weft:{}/neg", sources.far.url), "x=[[1,2,3,4]]", &neg, 1),
        (format!("ipfs:{cid}"), "x=[[1,2,3,4]]", &neg, 1),
        (several, "x=[0,0,0,0]", &json!([1.0, 2.0, 3.0, 4.0]), 3),
    ];
    for (source, input, wanted, files) in cases {
        let home = sources.home();
        let models = home.path().join("models");
        tokio::task::block_in_place(|| {
            let served = serve(home.path());
            let (code, _, said) = add(home.path(), &[&source, "--name", "m"]);
            assert_eq!(code, Some(0), "{source}: {said}");
            assert_eq!(served.end(Signal::SIGTERM).0, Some(0));
            let here = blobs(&models);
            assert_eq!(here.len(), files, "{source}");
            for file in &here {
                std::fs::remove_file(file).expect("it was there");
            }
            let served = serve(home.path());
            let answer = run(home.path(), &["infer", "m", "--input", input, "--json"]);
            assert_eq!(answer.status.code(), Some(0), "{source}: {}", text(&answer.stderr));
            let answer: Value = serde_json::from_str(text(&answer.stdout)).expect("JSON");
            assert_eq!(&answer["outputs"][0]["data"], wanted, "{source}: {answer}");
            // What answers need no tokenizer comes when something does.
            assert!(blobs(&models).iter().all(|file| here.contains(file)), "{source}");
            assert_eq!(served.end(Signal::SIGTERM).0, Some(0));
        });
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_added_says_why() {
    let origin = Origin::start(|heard, _| match heard.path.as_str() {
        "/none.onnx" => Said::status("404 Not Found"),
        "/text.onnx" => Said::file(b"no model at all", None),
        _ => Said::status("503 Service Unavailable"),
    });
    let origin = origin.await;
    let home = home(&origin.url, &origin.url, &origin.url, &origin.url);
    let at = |path: &str| format!("{}/{path}", origin.url);
    let cases = [
        (at("none.onnx"), 1, "is not there (404)"),
        (at("text.onnx"), 1, "adding text"),
        (at("busy.onnx"), 1, "answered 503"),
        (at(""), 2, "say --name"),
        ("hf:owner/neg".to_owned(), 1, "source_unavailable"),
        ("pypi:magika".to_owned(), 2, "pypi:NAME==VERSION"),
        ("https://user:word@example.org/m.onnx".to_owned(), 2, "passwords do not belong in an address"),
        ("nowhere.onnx".to_owned(), 1, "nowhere.onnx"),
    ];
    tokio::task::block_in_place(|| {
        let served = cli::serve(home.path());
        for (source, wanted, says) in cases {
            let (code, stdout, said) = add(home.path(), &[&source, "--json"]);
            assert_eq!((code, stdout.as_str()), (Some(wanted), ""), "{source}: {said}");
            assert!(said.contains(says), "{source}: {said}");
            assert!(!said.contains("word@"), "{said}");
        }
        assert_eq!(served.end(Signal::SIGTERM).0, Some(0));
    });
}

/// Every example of the page is one that the program takes.
#[test]
fn the_page_s_examples_are_sources() {
    let page = include_str!("../../docs/models.md");
    let mut examples = 0;
    for line in page.lines().filter_map(|line| line.trim().strip_prefix("weft models add ")) {
        let source = line.split_whitespace().next().expect("a source");
        let parsed = source.parse::<weft::models::source::Locator>();
        assert!(parsed.is_ok(), "{line}: {parsed:?}");
        examples += 1;
    }
    assert!(examples >= 8, "{examples}");
}
