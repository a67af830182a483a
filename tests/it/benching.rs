//! `weft bench` as a process, against a daemon with fake browsers.

use std::{path::Path, process::Output};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::sync::mpsc;

use crate::{
    cli,
    support::{Conduct, Deed, FakeBrowser, TestDaemon, soon},
};

const SUITE: &str = r#"name = "small"
about = "a model in a few lanes"
budget = "60s"

[[model]]
name = "neg"
inputs = "inputs.json"

[limits]
warm_up = 1
samples_min = 9
samples_max = 20
time = "1s"

[matrix]
browser = ["native", "firefox", "chromium", "edge"]
backend = ["ort-cpu", "wasm"]
scenario = ["single_stream", "multi_stream"]

[[exclude]]
browser = ["edge"]
scenario = ["multi_stream"]
reason = "once is enough"
"#;

/// A home that holds a suite and its inputs.
fn home() -> TempDir {
    let home = tempfile::tempdir().expect("a temporary folder");
    std::fs::write(home.path().join("small.toml"), SUITE).expect("room for a file");
    let x = |first: f32| json!({"x": {"datatype": "FP32", "shape": [1, 4], "data": [first, 2.0, -3.0, 4.0]}});
    let inputs = json!({"inputs": [x(1.0), x(-20.0), x(300.0)]});
    std::fs::write(home.path().join("inputs.json"), inputs.to_string()).expect("room for a file");
    home
}

fn bench(home: &Path, arguments: &[&str]) -> tokio::process::Command {
    tokio::process::Command::from(cli::weft(home, &[&["bench"], arguments].concat()))
}

async fn output(home: &Path, arguments: &[&str]) -> Output {
    bench(home, arguments).output().await.expect("the program starts")
}

fn parsed(output: &Output) -> Value {
    serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {output:?}"))
}

async fn no_leases(daemon: &TestDaemon) {
    assert_eq!(daemon.get("/api/v1/leases").await["items"], json!([]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_suite_is_measured_kept_shown_and_compared() {
    let (firefox, chromium) =
        (FakeBrowser::new("firefox", &["wasm"]), FakeBrowser::new("chromium", &["wasm"]));
    let daemon = TestDaemon::start(&[&firefox, &chromium]).await;
    let (status, _) =
        daemon.post("/api/v1/models/neg/load", json!({"browser": ["chromium"]}).to_string()).await;
    assert_eq!(status, 200);
    // It was right when it was proven.
    chromium.behaves(Conduct::Always(Deed::Wrong));
    let home = home();
    let at = |file: &str| home.path().join(file).to_str().expect("UTF-8").to_owned();
    let (suite, summary, junit, out) = (at("small.toml"), at("summary.md"), at("junit.xml"), at("out.json"));
    let html = at("report.html");
    let arguments = [
        "run",
        &suite,
        "--url",
        &daemon.url,
        "--json",
        "--summary",
        &summary,
        "--junit",
        &junit,
        "--out",
        &out,
        "--html",
        &html,
    ];
    let ran = output(home.path(), &arguments).await;
    assert_eq!(ran.status.code(), Some(1), "{ran:?}");
    assert!(cli::text(&ran.stderr).contains("2 of 8 cells failed"), "{ran:?}");
    let told = parsed(&ran);
    let cells: Vec<_> = told["cells"]
        .as_array()
        .expect("cells")
        .iter()
        .map(|cell| (cell["browser"].as_str().expect("a name"), cell["outcome"].as_str().expect("a word")))
        .collect();
    let wanted = [
        ("native", "ok"),
        ("native", "ok"),
        ("firefox", "ok"),
        ("firefox", "ok"),
        ("chromium", "wrong"),
        ("chromium", "wrong"),
        ("edge", "skipped"),
        ("edge", "excluded"),
    ];
    assert_eq!(cells, wanted, "{told}");
    assert_eq!(told["complete"], true);
    assert_eq!(told["engines"], json!(["chromium/wasm", "firefox/wasm", "native/ort-cpu"]));
    assert_eq!(told["failures"].as_array().expect("a list").len(), 2);
    let of_firefox = &told["cells"][2];
    assert!(of_firefox["figures"]["samples"].as_u64() >= Some(9), "{of_firefox}");
    assert_eq!(of_firefox["provenance"]["lane"], "firefox-1/wasm");
    let edge = told["cells"][6]["reason"].as_str().expect("a reason");
    assert_eq!(edge, "the daemon runs no edge: `weft serve --browsers edge=1`");
    let summary = std::fs::read_to_string(&summary).expect("a summary");
    assert!(summary.contains("| neg | chromium/wasm | single_stream | - |"), "{summary}");
    let junit = std::fs::read_to_string(&junit).expect("a file");
    assert!(junit.contains(r#"<testsuite name="small" tests="8" failures="2" skipped="2">"#), "{junit}");
    no_leases(&daemon).await;

    let id = told["id"].as_str().expect("an id");
    shown_as_a_page(home.path(), id, &html).await;
    let same = output(home.path(), &["compare", id, &out, "--json"]).await;
    assert_eq!(same.status.code(), Some(0), "{same:?}");
    let verdicts: Vec<_> = parsed(&same)["cells"]
        .as_array()
        .expect("cells")
        .iter()
        .map(|cell| cell["verdict"].as_str().expect("a word").to_owned())
        .collect();
    assert_eq!(verdicts, ["same", "same", "same", "same", "unknown", "unknown", "unknown"]);
    slower(home.path(), id, &out).await;
    let listed = parsed(&output(home.path(), &["list", "--json"]).await);
    assert_eq!(listed["results"][0]["id"], id);
    assert_eq!(listed["results"][0]["failures"], 2);
    let shown = output(home.path(), &["report", id]).await;
    assert!(cli::text(&shown.stdout).contains("firefox/wasm    single_stream"), "{shown:?}");
}

/// The run's page is the one that the kept result gives, and holds what was measured.
async fn shown_as_a_page(home: &Path, id: &str, html: &str) {
    let ran = std::fs::read_to_string(html).expect("a page");
    let again = home.join("again.html");
    let shown = output(home, &["report", id, "--html", again.to_str().expect("UTF-8")]).await;
    assert_eq!(shown.status.code(), Some(0), "{shown:?}");
    assert_eq!(std::fs::read_to_string(&again).expect("a page"), ran);
    let (_, rest) = ran.split_once("type=\"application/json\">").expect("a report");
    let report: Value = serde_json::from_str(rest.split_once("</script>").expect("its end").0).expect("JSON");
    assert_eq!(report["results"]["id"], id);
    let shown: Vec<_> =
        report["cells"].as_array().expect("cells").iter().map(|shown| !shown.is_null()).collect();
    assert_eq!(shown, [true, true, true, true, false, false, false, false]);
    assert_eq!(report["groups"].as_array().expect("groups").len(), 2);
    let nowhere = output(home, &["report", id, "--html", "/nowhere/report.html"]).await;
    assert_eq!(nowhere.status.code(), Some(1), "{nowhere:?}");
    assert!(cli::text(&nowhere.stderr).contains("writing the report to /nowhere/report.html"), "{nowhere:?}");
}

/// A result whose samples took twice as long is worse, and the call fails.
async fn slower(home: &Path, id: &str, out: &str) {
    let mut slow: Value = serde_json::from_slice(&std::fs::read(out).expect("a file")).expect("JSON");
    for sample in slow["cells"][2]["samples_us"].as_array_mut().expect("samples") {
        *sample = json!(sample.as_f64().expect("a number") * 2.0 + 1.0);
    }
    std::fs::write(out, slow.to_string()).expect("room for a file");
    let worse = output(home, &["compare", id, out]).await;
    assert_eq!(worse.status.code(), Some(1), "{worse:?}");
    assert!(cli::text(&worse.stderr).contains("1 of the cells is slower"), "{worse:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_interrupted_suite_keeps_what_it_has_and_gives_the_browsers_back() {
    let firefox = FakeBrowser::new("firefox", &["wasm"]);
    let daemon = TestDaemon::start(&[&firefox]).await;
    let (status, _) = daemon.post("/api/v1/models/neg/load", "{}").await;
    assert_eq!(status, 200);
    let (asked, mut steps) = mpsc::unbounded_channel();
    firefox.behaves(Conduct::Ask(asked));
    let home = home();
    let suite = home.path().join("small.toml");
    let arguments = ["run", suite.to_str().expect("UTF-8"), "--url", &daemon.url];
    let child = bench(home.path(), &arguments)
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped())
        .spawn()
        .expect("the program starts");
    let _step = soon("a step", steps.recv()).await.expect("it is asked");
    kill(Pid::from_raw(child.id().expect("it runs").cast_signed()), Signal::SIGINT).expect("it runs");
    let ended = soon("its end", child.wait_with_output()).await.expect("it ends");
    assert_eq!(ended.status.code(), Some(130), "{ended:?}");
    no_leases(&daemon).await;
    let listed = parsed(&output(home.path(), &["list", "--json"]).await);
    assert_eq!(listed["results"][0]["complete"], false, "{listed}");
}

#[tokio::test]
async fn what_is_wrong_is_misuse_and_says_what_to_do() {
    let home = home();
    let suite = home.path().join("typo.toml");
    std::fs::write(&suite, SUITE.replacen("budget", "bugdet", 1)).expect("room for a file");
    let suite = suite.to_str().expect("UTF-8");
    let newer = home.path().join("newer.json");
    std::fs::write(&newer, r#"{"version": 7, "speed": 1}"#).expect("room for a file");
    let newer = newer.to_str().expect("UTF-8");
    let cases: [(&[&str], i32, &str); 5] = [
        (
            &["report", newer, "--html", "never.html"],
            1,
            "newer.json is not a result of this weft: it has version 7",
        ),
        (&["run", suite], 2, "typo.toml:3: unknown field `bugdet`"),
        (&["run", "nothing"], 2, "no suite is called \"nothing\" and no file either; there are smoke"),
        (&["report", "../nothing"], 1, "`weft bench list` shows what there is"),
        (&["compare", "a", "b", "--noise", "7"], 2, "--noise is between 0 and 1"),
    ];
    for (arguments, code, said) in cases {
        let refused = output(home.path(), arguments).await;
        assert_eq!(refused.status.code(), Some(code), "{refused:?}");
        assert!(cli::text(&refused.stderr).contains(said), "{refused:?}");
    }
}
