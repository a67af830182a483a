//! Suites that are interrupted, and go on later.

use std::path::Path;

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde_json::{Value, json};
use tokio::sync::mpsc;

use crate::{
    benching::{bench, home, no_leases, output, parsed, two_models},
    cli,
    support::{Conduct, Deed, FakeBrowser, TestDaemon, soon},
};

#[tokio::test(flavor = "multi_thread")]
async fn an_interrupted_suite_keeps_what_it_has_and_gives_the_browsers_back() {
    let firefox = FakeBrowser::new("firefox", &["wasm"]);
    let daemon = TestDaemon::start(&[&firefox]).await;
    let (status, _) = daemon.post("/api/v1/models/neg/load", "{}").await;
    assert_eq!(status, 200);
    let home = home();
    let suite = home.path().join("small.toml");
    stopped(home.path(), &daemon, &firefox, suite.to_str().expect("UTF-8")).await;
    no_leases(&daemon).await;
    let listed = parsed(&output(home.path(), &["list", "--json", "--url", &daemon.url]).await);
    assert_eq!(listed["results"][0]["complete"], false, "{listed}");
}

/// Runs a suite until its first step in the browser, and interrupts it; what it said.
async fn stopped(home: &Path, daemon: &TestDaemon, firefox: &FakeBrowser, suite: &str) -> String {
    let (asked, mut steps) = mpsc::unbounded_channel();
    firefox.behaves(Conduct::Ask(asked));
    let child = bench(home, &["run", suite, "--url", &daemon.url])
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped())
        .spawn()
        .expect("the program starts");
    let step = soon("a step", steps.recv()).await.expect("it is asked");
    kill(Pid::from_raw(child.id().expect("it runs").cast_signed()), Signal::SIGINT).expect("it runs");
    let ended = soon("its end", child.wait_with_output()).await.expect("it ends");
    assert_eq!(ended.status.code(), Some(130), "{ended:?}");
    firefox.behaves(Conduct::Compute);
    step.answer(Deed::Compute);
    cli::text(&ended.stderr).to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_interrupted_suite_goes_on_with_what_is_left() {
    let firefox = FakeBrowser::new("firefox", &["wasm"]);
    let daemon = TestDaemon::start(&[&firefox]).await;
    let (status, _) = daemon.post("/api/v1/models/neg/load", "{}").await;
    assert_eq!(status, 200);
    let home = home();
    let suite = two_models(&daemon, home.path()).await;
    let text = std::fs::read_to_string(&suite).expect("a suite").replace("concurrent", "single_stream");
    let text = format!(
        "{text}\n[[exclude]]\nmodel = [\"neg\"]\nbrowser = [\"firefox\"]\nreason = \"once is enough\"\n"
    );
    std::fs::write(&suite, text).expect("room for a file");
    let said = stopped(home.path(), &daemon, &firefox, &suite).await;
    let (_, rest) = said.split_once("--resume ").expect("it says how to go on");
    let id = rest.split('`').next().expect("an id");
    let earlier = daemon.get(&format!("/api/v1/bench/runs/{id}")).await;
    let outcomes = |results: &Value| -> Vec<_> {
        results["cells"].as_array().expect("cells").iter().map(|cell| cell["outcome"].clone()).collect()
    };
    assert_eq!(outcomes(&earlier), ["ok", "excluded", "timed_out", "timed_out"], "{earlier}");

    let mut elsewhere = earlier.clone();
    elsewhere["environment"]["places"]["firefox/wasm"]["engine"] = json!("another");
    let file = home.path().join("elsewhere.json");
    std::fs::write(&file, elsewhere.to_string()).expect("room for a file");
    let file = file.to_str().expect("UTF-8");
    let refused = output(home.path(), &["run", &suite, "--url", &daemon.url, "--resume", file]).await;
    assert_eq!(refused.status.code(), Some(1), "{refused:?}");
    assert!(cli::text(&refused.stderr).contains("firefox/wasm, engine: another and"), "{refused:?}");
    no_leases(&daemon).await;

    let ran = output(home.path(), &["run", &suite, "--url", &daemon.url, "--json", "--resume", id]).await;
    assert_eq!(ran.status.code(), Some(0), "{ran:?}");
    let told = parsed(&ran);
    let results = daemon.get(&format!("/api/v1/bench/runs/{}", told["id"].as_str().expect("an id"))).await;
    assert_eq!(outcomes(&results), ["ok", "excluded", "ok", "ok"], "{results}");
    assert_eq!(results["complete"], true);
    assert_eq!(results["cells"][0], earlier["cells"][0], "it is not measured again");
    assert_eq!(results["started_at_us"], earlier["started_at_us"]);
    assert!(results["warnings"].to_string().contains("1 of 4 cells were measured by"), "{results}");
    let whole = told["id"].as_str().expect("an id");
    let refused = output(home.path(), &["run", &suite, "--url", &daemon.url, "--resume", whole]).await;
    assert_eq!(refused.status.code(), Some(2), "{refused:?}");
    // What is in the store lies nowhere else.
    let left = std::fs::read_dir(home.path().join("bench")).expect("a folder").count();
    assert_eq!(left, 0);
}
