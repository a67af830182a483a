//! Suites in lanes that are as they are wanted, or are not there.

use std::{collections::BTreeSet, num::NonZero};

use serde_json::json;

use crate::{
    benching::{home, measured},
    support::{FakeBrowser, TestDaemon},
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
