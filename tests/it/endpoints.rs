//! Suites in lanes that are as they are wanted, or are not there.

use std::{collections::BTreeSet, num::NonZero};

use serde_json::{Value, json};

use crate::{
    benching::{home, measured},
    cli,
    support::{FakeBrowser, LIBRARY, TestDaemon, graphs},
};

#[tokio::test(flavor = "multi_thread")]
async fn cells_are_measured_in_lanes_that_have_as_many_threads_as_they_name() {
    let firefox = FakeBrowser::new("firefox", &["wasm"]);
    let daemon = TestDaemon::start(&[&firefox]).await;
    let (status, _) = daemon.post("/api/v1/models/neg/load", "{}").await;
    assert_eq!(status, 200);
    let cores = std::thread::available_parallelism().map_or(1, NonZero::get);
    let counts: BTreeSet<_> = [1, cores.min(2), cores + 1].into();
    let counts: Vec<_> = counts.into_iter().collect();
    let rest = format!(
        "[matrix]\nbrowser = [\"native\", \"firefox\"]\nbackend = [\"ort-cpu\", \"wasm\"]\n\
         scenario = [\"single_stream\"]\nthreads = {counts:?}\n"
    );
    let told = measured(home().path(), &daemon, &rest).await;
    let cells = told["cells"].as_array().expect("cells");
    assert_eq!(cells.len(), 2 * counts.len(), "{told}");
    for cell in cells {
        let threads = cell["threads"].as_u64().expect("a number") as usize;
        let skipped = match cell["browser"].as_str() {
            Some("native") if threads != 1 => Some("those of `native.threads` or its share: 1"),
            Some("firefox") if threads > cores => Some("as many as there are cores"),
            _ => None,
        };
        match skipped {
            Some(reason) => {
                assert_eq!(cell["outcome"], "skipped", "{cell}");
                assert!(cell["reason"].as_str().is_some_and(|said| said.contains(reason)), "{cell}");
            }
            None => {
                assert_eq!(cell["outcome"], "ok", "{cell}");
                assert_eq!(cell["provenance"]["threads"], threads, "{cell}");
            }
        }
    }
    // Whoever comes next has lanes with their share again.
    let (status, lease) = daemon.post("/api/v1/leases", json!({"browser": "firefox"}).to_string()).await;
    assert_eq!(status, 200, "{lease}");
    let lanes = daemon.get("/api/v1/lanes").await;
    let mut of_firefox = lanes["items"].as_array().expect("lanes").iter();
    let lane = of_firefox.find(|lane| lane["browser"] == "firefox").expect("a lane");
    assert_eq!(lane["capability"]["threads"], 1, "{lane}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_endpoint_that_is_not_here_is_a_row_that_says_what_was_looked_for() {
    let daemon = TestDaemon::start(&[]).await;
    let rest = "[matrix]\nbrowser = [\"native\"]\nbackend = [\"ort-cpu\", \"ort-openvino\", \"ort-qnn\"]\n\
                scenario = [\"single_stream\"]\n\n[library.openvino]\npath = \"/nowhere/libonnxruntime.so\"\n\
                providers = [\"openvino\"]\ninstall = \"`make it` brings it\"\n";
    let told = measured(home().path(), &daemon, rest).await;
    let outcomes: Vec<_> = (0..3).map(|at| told["cells"][at]["outcome"].as_str().expect("a word")).collect();
    assert_eq!(outcomes, ["ok", "skipped", "skipped"], "{told}");
    let said = [
        (
            1,
            "no ONNX Runtime library gives ort-openvino; there is no /nowhere/libonnxruntime.so: `make it` brings it",
        ),
        (
            2,
            "no ONNX Runtime library gives ort-qnn; [native.libraries] of the daemon's configuration names none",
        ),
    ];
    for (at, said) in said {
        let reason = told["cells"][at]["reason"].as_str().expect("a reason");
        assert!(reason.starts_with(&format!("not available here: {said}")), "{reason}");
        assert!(reason.contains("native lanes: ort-cpu of onnxruntime@"), "{reason}");
    }
    daemon.stop().await;
}

#[test]
fn a_library_that_is_lent_and_cannot_be_loaded_is_a_row_that_says_why() {
    let home = cli::home();
    let write = |name: &str, bytes: &[u8]| {
        std::fs::write(home.path().join(name), bytes).expect("room for a file");
        home.path().join(name).display().to_string()
    };
    let broken = write("libonnxruntime.so", b"no library");
    write("neg.onnx", &graphs::neg());
    let x = json!({"x": {"datatype": "FP32", "shape": [1, 4], "data": [1.0, 2.0, -3.0, 4.0]}});
    write("inputs.json", json!({"inputs": [x]}).to_string().as_bytes());
    let library = |name: &str, path: &str| {
        format!("[library.{name}]\npath = \"{path}\"\nproviders = [\"{name}\"]\ninstall = \"make it\"\n")
    };
    let suite = format!(
        "name = \"lent\"\nabout = \"libraries\"\nbudget = \"60s\"\n[limits]\nsamples_min = 3\nsamples_max = 3\n\
         [matrix]\nbrowser = [\"native\"]\nbackend = [\"ort-cpu\", \"ort-openvino\", \"ort-cuda\"]\n\
         scenario = [\"single_stream\"]\n[[model]]\nname = \"neg\"\nsource = \"neg.onnx\"\ninputs = \"inputs.json\"\n{}{}",
        library("openvino", &broken),
        // It is one, and has no such provider.
        library("cuda", LIBRARY),
    );
    let suite = write("lent.toml", suite.as_bytes());
    let ran = cli::run(home.path(), &["bench", "run", &suite, "--json"]);
    assert_eq!(ran.status.code(), Some(0), "{ran:?}");
    let told: Value = serde_json::from_slice(&ran.stdout).expect("JSON");
    assert_eq!(told["cells"][0]["outcome"], "ok", "{told}");
    let said = [
        (1, "openvino", broken.as_str(), "could not load ONNX Runtime's library"),
        (2, "cuda", LIBRARY, "execution provider \"cuda\" cannot be used here"),
    ];
    for (at, provider, path, why) in said {
        let cell = &told["cells"][at];
        assert_eq!(cell["outcome"], "skipped", "{cell}");
        let reason = cell["reason"].as_str().expect("a reason");
        let begins = format!("not available here: no ONNX Runtime library gives ort-{provider}; ");
        assert!(reason.starts_with(&begins) && reason.contains(path) && reason.contains(why), "{reason}");
    }
    cli::nothing_left(home.path());
    // What the daemon's owner names is another matter.
    let config = format!(
        "[browsers]\nchromium = 0\n[native.libraries.own]\npath = \"{broken}\"\nproviders = [\"openvino\"]\n"
    );
    write("weft.toml", config.as_bytes());
    let refused = cli::run(home.path(), &["bench", "run", &suite]);
    assert_eq!(refused.status.code(), Some(1), "{refused:?}");
    assert!(cli::text(&refused.stderr).contains("could not load ONNX Runtime's library"), "{refused:?}");
    cli::nothing_left(home.path());
}
