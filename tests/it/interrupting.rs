//! Suites that are interrupted or killed, and go on later.

use std::{
    path::Path,
    process::{Output, Stdio},
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncBufReadExt as _, BufReader},
    sync::mpsc,
};

use crate::{
    benching::{bench, home, no_leases, output, parsed, two_models},
    cli,
    support::{Conduct, Deed, FakeBrowser, TestDaemon, graphs, soon},
};

/// A daemon with a browser that holds `neg`.
async fn with_firefox() -> (TestDaemon, FakeBrowser) {
    let firefox = FakeBrowser::new("firefox", &["wasm"]);
    let daemon = TestDaemon::start(&[&firefox]).await;
    let (status, _) = daemon.post("/api/v1/models/neg/load", "{}").await;
    assert_eq!(status, 200);
    (daemon, firefox)
}

#[tokio::test(flavor = "multi_thread")]
async fn an_interrupted_suite_keeps_what_it_has_and_gives_the_browsers_back() {
    let (daemon, firefox) = with_firefox().await;
    let home = home();
    let suite = home.path().join("small.toml");
    let suite = suite.to_str().expect("UTF-8");
    let ended = ended(home.path(), &daemon, &firefox, suite, Signal::SIGINT).await;
    assert_eq!(ended.status.code(), Some(130), "{ended:?}");
    no_leases(&daemon).await;
    let listed = parsed(&output(home.path(), &["list", "--json", "--url", &daemon.url]).await);
    assert_eq!(listed["results"][0]["complete"], false, "{listed}");
}

/// Runs a suite until its first step in the browser, and ends it there.
async fn ended(
    home: &Path,
    daemon: &TestDaemon,
    firefox: &FakeBrowser,
    suite: &str,
    signal: Signal,
) -> Output {
    let (asked, mut steps) = mpsc::unbounded_channel();
    firefox.behaves(Conduct::Ask(asked));
    let child = bench(home, &["run", suite, "--url", &daemon.url])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the program starts");
    let step = soon("a step", steps.recv()).await.expect("it is asked");
    kill(Pid::from_raw(child.id().expect("it runs").cast_signed()), signal).expect("it runs");
    let ended = soon("its end", child.wait_with_output()).await.expect("it ends");
    firefox.behaves(Conduct::Compute);
    step.answer(Deed::Compute);
    ended
}

/// A suite of two models, of which the first is measured natively alone.
async fn halved(daemon: &TestDaemon, home: &Path) -> String {
    let suite = two_models(daemon, home).await;
    let text = std::fs::read_to_string(&suite).expect("a suite").replace("concurrent", "single_stream");
    let text = format!(
        "{text}\n[[exclude]]\nmodel = [\"neg\"]\nbrowser = [\"firefox\"]\nreason = \"once is enough\"\n"
    );
    std::fs::write(&suite, text).expect("room for a file");
    suite
}

fn outcomes(results: &Value) -> Vec<&str> {
    let cells = results["cells"].as_array().expect("cells");
    cells.iter().map(|cell| cell["outcome"].as_str().expect("a word")).collect()
}

/// The files beside the store.
fn beside(home: &Path) -> Vec<String> {
    let files = std::fs::read_dir(home.join("bench")).expect("a folder");
    files.map(|file| file.expect("a file").file_name().into_string().expect("UTF-8")).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_interrupted_suite_goes_on_with_what_is_left() {
    let (daemon, firefox) = with_firefox().await;
    let home = home();
    let suite = halved(&daemon, home.path()).await;
    let stopped = ended(home.path(), &daemon, &firefox, &suite, Signal::SIGINT).await;
    let (_, rest) = cli::text(&stopped.stderr).split_once("--resume ").expect("it says how to go on");
    let id = rest.split('`').next().expect("an id");
    let earlier = daemon.get(&format!("/api/v1/bench/runs/{id}")).await;
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
    goes_on_from(&results, &earlier, 1);
    assert_eq!(outcomes(&results), ["ok", "excluded", "ok", "ok"], "{results}");
    let whole = told["id"].as_str().expect("an id");
    let refused = output(home.path(), &["run", &suite, "--url", &daemon.url, "--resume", whole]).await;
    assert_eq!(refused.status.code(), Some(2), "{refused:?}");
    // What is in the store lies nowhere else.
    assert_eq!(beside(home.path()), Vec::<String>::new());
}

/// A whole result that says what of it was measured before, and has that as it was.
#[track_caller]
fn goes_on_from(results: &Value, earlier: &Value, measured: usize) {
    assert_eq!(results["complete"], true, "{results}");
    let whole = results["cells"].as_array().expect("cells");
    let before = earlier["cells"].as_array().expect("cells");
    assert_eq!(whole[..measured], before[..measured], "they are not measured again");
    assert_eq!(results["started_at_us"], earlier["started_at_us"]);
    let id = earlier["id"].as_str().expect("an id");
    let said = format!("{measured} of {} cells were measured by {id} before", whole.len());
    assert!(results["warnings"].to_string().contains(&said), "{said}: {results}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_suite_gives_the_browsers_back_and_goes_on_from_its_draft() {
    let (daemon, firefox) = with_firefox().await;
    let home = home();
    let suite = halved(&daemon, home.path()).await;
    let killed = ended(home.path(), &daemon, &firefox, &suite, Signal::SIGKILL).await;
    assert_eq!(killed.status.code(), None, "{killed:?}");
    let listed = parsed(&output(home.path(), &["list", "--json", "--url", &daemon.url]).await);
    let draft = &listed["aside"][0];
    assert_eq!(
        (&draft["measured"], &draft["cells"], &draft["complete"]),
        (&json!(1), &json!(4), &json!(false))
    );
    assert_eq!(listed["results"], json!([]), "{listed}");
    let file = std::fs::read(draft["path"].as_str().expect("a path")).expect("a draft");
    let earlier: Value = serde_json::from_slice(&file).expect("JSON");
    assert_eq!(outcomes(&earlier), ["ok", "excluded", "timed_out", "timed_out"], "{earlier}");

    // The lease that it held would have lasted for minutes. As after a cold start, a model is loaded nowhere.
    let (status, _) = daemon.post("/api/v1/models/twin/unload", "{}").await;
    assert_eq!(status, 200);
    let id = draft["id"].as_str().expect("an id");
    let ran = output(home.path(), &["run", &suite, "--url", &daemon.url, "--json", "--resume", id]).await;
    assert_eq!(ran.status.code(), Some(0), "{ran:?}");
    let told = parsed(&ran);
    let results = daemon.get(&format!("/api/v1/bench/runs/{}", told["id"].as_str().expect("an id"))).await;
    goes_on_from(&results, &earlier, 1);
    assert_eq!(outcomes(&results), ["ok", "excluded", "ok", "ok"], "{results}");
    assert_eq!(beside(home.path()), Vec::<String>::new());
    no_leases(&daemon).await;
}

/// Three models natively, for some seconds.
const ALONE: &str = r#"name = "alone"
about = "natively, by a daemon of its own"
budget = "60s"

[limits]
warm_up = 1
samples_min = 3000
samples_max = 3000
time = "1s"

[matrix]
browser = ["native"]
backend = ["ort-cpu"]
scenario = ["single_stream"]
"#;

const ALONE_MODEL: &str = r#"
[[model]]
name = "NAME"
source = "NAME.onnx"
inputs = "inputs.json"
"#;

/// Runs that suite until it says so, and kills it with the daemon in it; the draft that is left.
async fn killed_at(home: &Path, arguments: &[&str], says: &str) -> Value {
    let run = [&["run", "alone.toml", "--json"], arguments].concat();
    let mut child = bench(home, &run)
        .current_dir(home)
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the program starts");
    let mut lines = BufReader::new(child.stderr.take().expect("piped")).lines();
    loop {
        let line = soon(says, lines.next_line()).await.expect("UTF-8");
        if line.unwrap_or_else(|| panic!("it ended before {says}")).contains(says) {
            break;
        }
    }
    soon("its end", child.kill()).await.expect("it runs");
    let files = beside(home);
    let [draft] = &files[..] else { panic!("one draft: {files:?}") };
    let draft = std::fs::read(home.join("bench").join(draft)).expect("a draft");
    serde_json::from_slice(&draft).expect("JSON")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_suite_that_was_killed_twice_with_its_daemon_is_whole_in_the_end() {
    let home = home();
    let mut suite = ALONE.to_owned();
    for model in ["one", "two", "three"] {
        std::fs::write(home.path().join(format!("{model}.onnx")), graphs::neg()).expect("room for a file");
        suite += &ALONE_MODEL.replace("NAME", model);
    }
    std::fs::write(home.path().join("alone.toml"), suite).expect("room for a file");

    let first = killed_at(home.path(), &[], "adding two").await;
    assert_eq!(outcomes(&first), ["ok", "timed_out", "timed_out"], "{first}");
    let id = |results: &Value| results["id"].as_str().expect("an id").to_owned();
    let second = killed_at(home.path(), &["--resume", &id(&first)], "adding three").await;
    assert_eq!(outcomes(&second), ["ok", "ok", "timed_out"], "{second}");
    assert_ne!(id(&first), id(&second), "what it went on from is in it");

    let listed = output(home.path(), &["list"]).await;
    let row = cli::text(&listed.stdout).lines().find(|line| line.contains(&id(&second)));
    assert!(row.is_some_and(|row| row.contains("2 of 3")), "{listed:?}");
    let shown = output(home.path(), &["report", &id(&second)]).await;
    assert!(cli::text(&shown.stdout).contains("(alone, not complete)"), "{shown:?}");

    let arguments = ["run", "alone.toml", "--json", "--complete", "--resume", &id(&second)];
    let ran =
        bench(home.path(), &arguments).current_dir(home.path()).output().await.expect("the program starts");
    assert_eq!(ran.status.code(), Some(0), "{ran:?}");
    let shown = output(home.path(), &["report", &id(&parsed(&ran)), "--json"]).await;
    let whole = parsed(&shown);
    goes_on_from(&whole, &second, 2);
    assert_eq!(whole["cells"][0], first["cells"][0]);
    let warnings = whole["warnings"].to_string();
    assert!(warnings.contains(&format!("1 of 3 cells were measured by {}", id(&first))), "{warnings}");
    assert_eq!(beside(home.path()), Vec::<String>::new());
    let listed = parsed(&output(home.path(), &["list", "--json"]).await);
    assert_eq!((&listed["aside"], &listed["results"][0]["id"]), (&json!([]), &whole["id"]));
    cli::nothing_left(home.path());
}
