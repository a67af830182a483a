//! `weft bench` as a process, against a daemon with fake browsers.

use std::{path::Path, process::Output};

use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::sync::mpsc;

use crate::{
    cli,
    support::{Conduct, Deed, FakeBrowser, TestDaemon, graphs},
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
pub(crate) fn home() -> TempDir {
    let home = tempfile::tempdir().expect("a temporary folder");
    std::fs::write(home.path().join("small.toml"), SUITE).expect("room for a file");
    let x = |first: f32| json!({"x": {"datatype": "FP32", "shape": [1, 4], "data": [first, 2.0, -3.0, 4.0]}});
    let inputs = json!({"inputs": [x(1.0), x(-20.0), x(300.0)]});
    std::fs::write(home.path().join("inputs.json"), inputs.to_string()).expect("room for a file");
    home
}

pub(crate) fn bench(home: &Path, arguments: &[&str]) -> tokio::process::Command {
    tokio::process::Command::from(cli::weft(home, &[&["bench"], arguments].concat()))
}

pub(crate) async fn output(home: &Path, arguments: &[&str]) -> Output {
    bench(home, arguments).output().await.expect("the program starts")
}

pub(crate) fn parsed(output: &Output) -> Value {
    serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {output:?}"))
}

pub(crate) async fn no_leases(daemon: &TestDaemon) {
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
    shown_as_a_page(home.path(), &daemon, id, &html).await;
    let same = output(home.path(), &["compare", id, &out, "--json", "--url", &daemon.url]).await;
    assert_eq!(same.status.code(), Some(0), "{same:?}");
    let verdicts: Vec<_> = parsed(&same)["cells"]
        .as_array()
        .expect("cells")
        .iter()
        .map(|cell| cell["verdict"].as_str().expect("a word").to_owned())
        .collect();
    assert_eq!(verdicts, ["same", "same", "same", "same", "unknown", "unknown", "unknown"]);
    slower(home.path(), &daemon, id, &out).await;
    let listed = parsed(&output(home.path(), &["list", "--json", "--url", &daemon.url]).await);
    assert_eq!(listed["results"][0]["id"], id);
    assert_eq!(listed["results"][0]["failures"], 2);
    let shown = output(home.path(), &["report", id, "--url", &daemon.url]).await;
    assert!(cli::text(&shown.stdout).contains("firefox/wasm    single_stream"), "{shown:?}");
}

/// The run's page is the one that the kept result gives, and holds what was measured.
async fn shown_as_a_page(home: &Path, daemon: &TestDaemon, id: &str, html: &str) {
    let ran = std::fs::read_to_string(html).expect("a page");
    let again = home.join("again.html");
    let shown =
        output(home, &["report", id, "--url", &daemon.url, "--html", again.to_str().expect("UTF-8")]).await;
    assert_eq!(shown.status.code(), Some(0), "{shown:?}");
    assert_eq!(std::fs::read_to_string(&again).expect("a page"), ran);
    let (_, rest) = ran.split_once("type=\"application/json\">").expect("a report");
    let report: Value = serde_json::from_str(rest.split_once("</script>").expect("its end").0).expect("JSON");
    assert_eq!(report["results"]["id"], id);
    let shown: Vec<_> =
        report["cells"].as_array().expect("cells").iter().map(|shown| !shown.is_null()).collect();
    assert_eq!(shown, [true, true, true, true, false, false, false, false]);
    assert_eq!(report["groups"].as_array().expect("groups").len(), 2);
    let nowhere = output(home, &["report", id, "--url", &daemon.url, "--html", "/nowhere/report.html"]).await;
    assert_eq!(nowhere.status.code(), Some(1), "{nowhere:?}");
    assert!(cli::text(&nowhere.stderr).contains("writing the report to /nowhere/report.html"), "{nowhere:?}");
}

/// A result whose samples took twice as long is worse, and the call fails.
async fn slower(home: &Path, daemon: &TestDaemon, id: &str, out: &str) {
    let mut slow: Value = serde_json::from_slice(&std::fs::read(out).expect("a file")).expect("JSON");
    for sample in slow["cells"][2]["samples_us"].as_array_mut().expect("samples") {
        *sample = json!(sample.as_f64().expect("a number") * 2.0 + 1.0);
    }
    std::fs::write(out, slow.to_string()).expect("room for a file");
    let worse = output(home, &["compare", id, out, "--url", &daemon.url]).await;
    assert_eq!(worse.status.code(), Some(1), "{worse:?}");
    assert!(cli::text(&worse.stderr).contains("1 of the cells is slower"), "{worse:?}");
}

/// A suite of the small one's model with another matrix and what follows it.
pub(crate) async fn measured(home: &Path, daemon: &TestDaemon, rest: &str) -> Value {
    let (head, _) = SUITE.split_once("[matrix]").expect("a matrix");
    let file = home.join("other.toml");
    std::fs::write(&file, format!("{head}{rest}")).expect("room for a file");
    let arguments = ["run", file.to_str().expect("UTF-8"), "--url", &daemon.url, "--json"];
    let ran = output(home, &arguments).await;
    assert!(!ran.stdout.is_empty(), "{ran:?}");
    no_leases(daemon).await;
    parsed(&ran)
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_that_arrive_at_a_rate_are_all_told() {
    let firefox = FakeBrowser::new("firefox", &["wasm"]);
    let daemon = TestDaemon::start(&[&firefox]).await;
    let (status, _) = daemon.post("/api/v1/models/neg/load", "{}").await;
    assert_eq!(status, 200);
    let told = measured(
        home().path(),
        &daemon,
        r#"[matrix]
browser = ["native", "firefox"]
backend = ["ort-cpu", "wasm"]
scenario = ["server"]

[scenario.server]
rate = [20, 200]
within = "10s"
"#,
    )
    .await;
    let cells = told["cells"].as_array().expect("cells");
    assert_eq!(cells.len(), 4, "{told}");
    // Each comes in its second, or as many as are wanted at most.
    for (cell, (rate, arrived)) in cells.iter().zip([(20.0, 9..=20), (200.0, 20..=20)].into_iter().cycle()) {
        assert_eq!((&cell["outcome"], cell["rate"].as_f64()), (&json!("ok"), Some(rate)), "{cell}");
        let served = &cell["served"];
        let count = served["arrived"].as_u64().expect("a number");
        assert!(arrived.contains(&count), "{cell}");
        assert_eq!(cell["figures"]["samples"].as_u64(), Some(count), "{cell}");
        assert_eq!((&served["refused"], &served["within"]), (&json!({}), &json!(1.0)), "{cell}");
        assert!(served["achieved"].as_f64() > Some(0.0), "{cell}");
        assert_eq!(cell["error"], 0.0, "{cell}");
    }
    firefox.behaves(Conduct::Always(Deed::Wrong));
    let told = measured(
        home().path(),
        &daemon,
        "[matrix]\nbrowser = [\"firefox\"]\nbackend = [\"wasm\"]\nscenario = [\"server\"]\n\
         [scenario.server]\nrate = [50]\n",
    )
    .await;
    assert_eq!(told["cells"][0]["outcome"], "wrong", "{told}");
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_that_find_no_room_are_counted_beside_those_that_do() {
    let firefox = FakeBrowser::new("firefox", &["wasm"]);
    let daemon = TestDaemon::start(&[&firefox]).await;
    let (status, _) = daemon.post("/api/v1/models/neg/load", "{}").await;
    assert_eq!(status, 200);
    let (asked, mut steps) = mpsc::unbounded_channel();
    firefox.behaves(Conduct::Ask(asked));
    // Three windows of samples that are alike are a warm-up.
    let answering = tokio::spawn(async move {
        let mut count = 0;
        while let Some(step) = steps.recv().await {
            count += 1;
            let full = count > 15 && count % 2 == 0;
            step.answer(if full { Deed::Fail("overloaded", "never") } else { Deed::Compute });
        }
    });
    let rest = "[matrix]\nbrowser = [\"firefox\"]\nbackend = [\"wasm\"]\nscenario = [\"server\"]\n\
                [scenario.server]\nrate = [200]\nwithin = \"10s\"\n";
    let told = measured(home().path(), &daemon, rest).await;
    let cell = &told["cells"][0];
    assert_eq!(cell["outcome"], "ok", "{cell}");
    let refused = cell["served"]["refused"]["overloaded"].as_u64().expect("some");
    let answered = cell["figures"]["samples"].as_u64().expect("some");
    assert!(refused > 0 && refused + answered == 20, "{cell}");
    assert_eq!(cell["served"]["within"], answered as f64 / 20.0, "who is refused is not in time: {cell}");
    answering.abort();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cold_start_is_a_browsers_or_a_sessions() {
    let firefox = FakeBrowser::new("firefox", &["wasm"]);
    let daemon = TestDaemon::start(&[&firefox]).await;
    let (status, _) = daemon.post("/api/v1/models/neg/load", "{}").await;
    assert_eq!(status, 200);
    let loads = firefox.loads();
    let rest = r#"[matrix]
browser = ["native", "firefox"]
backend = ["ort-cpu", "wasm"]
scenario = ["cold_start"]

[scenario.cold_start]
samples = 3
"#;
    let told = measured(home().path(), &daemon, rest).await;
    let cells = told["cells"].as_array().expect("cells");
    let starts: Vec<_> = cells
        .iter()
        .map(|cell| {
            assert_eq!(cell["outcome"], "ok", "{cell}");
            assert_eq!((&cell["figures"]["samples"], &cell["error"]), (&json!(3), &json!(0.0)), "{cell}");
            (cell["browser"].as_str().expect("a name"), cell["start"].as_str().expect("a word"))
        })
        .collect();
    assert_eq!(starts, [("native", "session"), ("firefox", "browser"), ("firefox", "session")]);
    assert_eq!(firefox.state.launches.load(std::sync::atomic::Ordering::SeqCst), 4);
    assert_eq!(firefox.loads(), loads + 6);
    let parts = ["launch_us", "page_us", "lane_us", "import_us", "load_us", "create_us", "first_us"];
    let known = |cell: &Value| -> Vec<&str> {
        let cold = &cell["cold"][2];
        parts.into_iter().filter(|part| cold[part].is_f64()).collect()
    };
    assert_eq!(known(&cells[0]), ["load_us", "first_us"]);
    assert_eq!(known(&cells[1]), parts);
    assert_eq!(known(&cells[2]), ["load_us", "create_us", "first_us"]);
    assert!(cells[1]["cold"][0]["network_bytes"].as_u64() > Some(0), "{}", cells[1]);
    // It is not left unloaded.
    assert_ne!(daemon.get("/api/v1/models/neg").await["residence"]["stay"], "unloaded");
}

/// A suite of two models that are the same file, asked in the fake browser.
pub(crate) async fn two_models(daemon: &TestDaemon, home: &Path) -> String {
    let shown = daemon.get("/api/v1/models/neg").await;
    let twin = json!({"name": "twin", "digest": shown["digest"], "source": "a test"});
    let (status, _) = daemon.post("/api/v1/models", twin.to_string()).await;
    assert_eq!(status, 200);
    let (head, _) = SUITE.split_once("[limits]").expect("limits");
    let text = format!(
        "{head}[[model]]\nname = \"twin\"\ninputs = \"inputs.json\"\n\n[limits]\nwarm_up = 1\nsamples_min = 9\n\
         samples_max = 20\ntime = \"1s\"\n\n[matrix]\nbrowser = [\"native\", \"firefox\"]\n\
         backend = [\"ort-cpu\", \"wasm\"]\nscenario = [\"concurrent\"]\n"
    );
    let file = home.join("two.toml");
    std::fs::write(&file, text).expect("room for a file");
    file.to_str().expect("UTF-8").to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn models_are_asked_beside_each_other_and_alone() {
    let firefox = FakeBrowser::new("firefox", &["wasm"]);
    let daemon = TestDaemon::start(&[&firefox]).await;
    let home = home();
    let suite = two_models(&daemon, home.path()).await;
    let ran = output(home.path(), &["run", &suite, "--url", &daemon.url, "--json"]).await;
    assert_eq!(ran.status.code(), Some(0), "{ran:?}");
    let told = parsed(&ran);
    let cells = told["cells"].as_array().expect("cells");
    assert_eq!(cells.len(), 4, "{told}");
    for cell in cells {
        assert_eq!(cell["outcome"], "ok", "{cell}");
        let other = if cell["model"] == "neg" { "twin" } else { "neg" };
        assert_eq!(cell["beside"], json!([other]), "{cell}");
        assert!(cell["figures"]["samples"].as_u64() >= Some(9), "{cell}");
        assert!(cell["contention"]["value"].as_f64() > Some(0.0), "{cell}");
    }
    firefox.behaves(Conduct::Always(Deed::Fail("internal", "never")));
    let ran = output(home.path(), &["run", &suite, "--url", &daemon.url, "--json"]).await;
    assert_eq!(ran.status.code(), Some(1), "{ran:?}");
    let told = parsed(&ran);
    let mut outcomes: Vec<_> =
        told["cells"].as_array().expect("cells").iter().map(|cell| cell["outcome"].to_string()).collect();
    outcomes.sort();
    assert_eq!(outcomes, [r#""failed""#, r#""ok""#, r#""ok""#, r#""skipped""#], "{told}");
}

/// A daemon with a model of layers, and a suite of it with this matrix and what follows.
async fn layered(browsers: &[&FakeBrowser], home: &Path, rest: &str) -> (TestDaemon, Value) {
    let daemon = TestDaemon::start(browsers).await;
    let weight = |layer: usize, at: usize| ((at * 37 + layer * 11) % 101) as f32 / 404.0 - 0.1;
    let weights = |layer| (0..WIDTH * WIDTH).flat_map(|at| weight(layer, at).to_le_bytes()).collect();
    daemon.add("whole", graphs::dense(WIDTH as u64, &(0..4).map(weights).collect::<Vec<_>>())).await;
    let x = |set: usize| {
        let data: Vec<_> = (0..WIDTH).map(|at| ((at * 29 + set * 7) % 83) as f32 / 83.0).collect();
        json!({"x": {"datatype": "FP32", "shape": [1, WIDTH], "data": data}})
    };
    let inputs = json!({"inputs": [x(0), x(1), x(2)]});
    std::fs::write(home.join("whole.json"), inputs.to_string()).expect("room for a file");
    let (head, _) = SUITE.split_once("[matrix]").expect("a matrix");
    let head = head.replace("\"neg\"", "\"whole\"").replace("inputs.json", "whole.json");
    let file = home.join("layers.toml");
    std::fs::write(&file, format!("{head}{rest}")).expect("room for a file");
    let arguments = ["run", file.to_str().expect("UTF-8"), "--url", &daemon.url, "--json"];
    let ran = output(home, &arguments).await;
    assert!(!ran.stdout.is_empty(), "{ran:?}");
    no_leases(&daemon).await;
    let told = parsed(&ran);
    (daemon, told)
}

const WIDTH: usize = 32;

#[tokio::test(flavor = "multi_thread")]
async fn batches_and_variants_are_compared_with_the_model_as_it_is() {
    let firefox = FakeBrowser::new("firefox", &["wasm"]);
    let rest = r#"[matrix]
browser = ["native", "firefox"]
backend = ["ort-cpu", "wasm"]
scenario = ["single_stream"]
batch = [1, 4]
precision = ["fp32", "small", "exact"]

[precision.small]
tolerance = 0.5
convert = "int8,block=32"

[precision.exact]
tolerance = 1e-9
convert = "int4,block=32"
"#;
    let home = home();
    let (daemon, told) = layered(&[&firefox], home.path(), rest).await;
    let cells = told["cells"].as_array().expect("cells");
    let of = |browser: &str, batch: u64, precision: &str| {
        let found = cells.iter().find(|cell| {
            cell["browser"] == browser && cell["batch"] == batch && cell["precision"] == precision
        });
        found.unwrap_or_else(|| panic!("{told}"))
    };
    for browser in ["native", "firefox"] {
        for batch in [1, 4] {
            assert_eq!(of(browser, batch, "fp32")["outcome"], "ok", "{told}");
            let small = of(browser, batch, "small");
            assert_eq!(small["outcome"], "ok", "{small}");
            assert!(small["error"].as_f64() > Some(0.0), "it is compared with the whole weights: {small}");
            assert_ne!(small["model_digest"], of(browser, batch, "fp32")["model_digest"]);
            assert_eq!(of(browser, batch, "exact")["outcome"], "wrong", "{told}");
        }
    }
    let variant = daemon.get("/api/v1/models/whole-int8-block-32").await;
    assert_eq!(variant["variant"]["original"], of("native", 1, "fp32")["model_digest"], "{variant}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plan_is_made_once_measured_and_forgotten() {
    let browsers = ["alpha", "beta"].map(|name| FakeBrowser::new(name, &["wasm"]));
    let rest = r#"[matrix]
browser = ["native"]
backend = ["ort-cpu"]
scenario = ["single_stream", "offline"]
plan = ["single", "halves", "thousandths"]

[plan.halves.split]
strategy = "even"
stages = 2
lanes = ["alpha-1/wasm", "beta-1/wasm"]

[plan.thousandths.split]
strategy = "sideways"
lanes = ["alpha-1/wasm"]
"#;
    let home = home();
    let (daemon, told) = layered(&browsers.each_ref(), home.path(), rest).await;
    let cells = told["cells"].as_array().expect("cells");
    let outcomes: Vec<_> = cells
        .iter()
        .map(|cell| {
            let text = |key: &str| cell[key].as_str().expect("a word").to_owned();
            [text("browser"), text("scenario"), text("plan"), text("outcome")].join(" ")
        })
        .collect();
    let wanted = [
        "native single_stream single ok",
        "native offline single ok",
        "beta single_stream halves ok",
        "beta offline halves ok",
        "alpha single_stream thousandths skipped",
        "alpha offline thousandths skipped",
    ];
    assert_eq!(outcomes, wanted, "{told}");
    let stages: Vec<_> = cells[2]["provenance"]["stages"]
        .as_array()
        .expect("stages")
        .iter()
        .map(|stage| stage["lane"].as_str().expect("a name"))
        .collect();
    assert_eq!(stages, ["alpha-1/wasm", "beta-1/wasm"]);
    let reason = cells[4]["reason"].as_str().expect("a reason");
    assert!(reason.starts_with("[plan.thousandths] in line 26: invalid_request"), "{reason}");
    assert!(told["warnings"].to_string().contains("a plan runs in no browser that is leased"), "{told}");
    assert_eq!(daemon.get("/api/v1/plans").await["items"], json!([]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_soak_looks_at_memory() {
    let firefox = FakeBrowser::new("firefox", &["wasm"]);
    let daemon = TestDaemon::start(&[&firefox]).await;
    let rest = r#"[matrix]
browser = ["native", "firefox"]
backend = ["ort-cpu", "wasm"]
scenario = ["soak"]

[scenario.soak]
time = "1s"
every = "100ms"
"#;
    let told = measured(home().path(), &daemon, rest).await;
    for (cell, tells) in told["cells"].as_array().expect("cells").iter().zip([false, true]) {
        assert_eq!(cell["outcome"], "ok", "{cell}");
        let memory = cell["memory"].as_array().expect("a list");
        assert_eq!(cell["figures"]["samples"].as_u64(), Some(memory.len() as u64 - 1), "{cell}");
        assert!(memory.iter().all(|point| point["wasm_bytes"].is_u64() == tells), "{cell}");
        assert!(
            memory.iter().all(|point| point["browser_bytes"].is_null()),
            "a fake one has no process: {cell}"
        );
        // A machine that is busy looks less often than it is told to.
        let enough = memory.len() >= 8 && tells;
        assert_eq!(cell["growth_per_hour"]["wasm_bytes"]["value"].is_f64(), enough, "{cell}");
    }
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
    let cases: [(&[&str], i32, &str); 6] = [
        (
            &["report", newer, "--html", "never.html"],
            1,
            "newer.json is not a result of this weft: it has version 7",
        ),
        (&["run", suite], 2, "typo.toml:3: unknown field `bugdet`"),
        (&["run", "nothing"], 2, "no suite is called \"nothing\" and no file either; there are smoke"),
        (&["report", "../nothing"], 1, "`weft bench list` shows what there is"),
        (&["compare", "a", "b", "--noise", "7"], 2, "--noise is between 0 and 1"),
        (&["choose", "a", "--error=-1"], 2, "--error is a share, 0 or more"),
    ];
    for (arguments, code, said) in cases {
        let refused = output(home.path(), arguments).await;
        assert_eq!(refused.status.code(), Some(code), "{refused:?}");
        assert!(cli::text(&refused.stderr).contains(said), "{refused:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_daemon_is_told_how_far_a_suite_has_come() {
    let firefox = FakeBrowser::new("firefox", &["wasm"]);
    let daemon = TestDaemon::start(&[&firefox]).await;
    let mut watcher = daemon.client().await;
    watcher.send(&json!({"type": "subscribe", "topics": ["suites"]})).await;
    watcher.caught_up().await;
    let home = home();
    let suite = home.path().join("small.toml").to_str().expect("UTF-8").to_owned();
    let ran = output(home.path(), &["run", &suite, "--url", &daemon.url, "--json"]).await;
    let id = parsed(&ran)["id"].clone();
    let mut told = Vec::new();
    loop {
        let event = watcher.event().await.header["event"].clone();
        if event["ended"].is_object() {
            assert_eq!(event["ended"]["id"], id);
            break;
        }
        told.push(event["progress"].clone());
    }
    // Four of its cells are in lanes that are there.
    let first = &told[0];
    assert_eq!((&first["id"], &first["suite"], &first["cells"]), (&id, &json!("small"), &json!(4)));
    assert_eq!((&first["ended"], &first["remaining_us"]), (&json!(0), &json!(null)));
    assert!(first["at_most_us"].as_u64().is_some_and(|us| us <= 60_000_000), "{first}");
    let ended: Vec<_> = told.iter().filter_map(|told| told["ended"].as_u64()).collect();
    assert!(ended.is_sorted() && ended.last() >= Some(&1), "{ended:?}");
    assert!(told.iter().any(|told| told["now"] == "loading neg into firefox/wasm"), "{told:?}");
    assert!(told.last().is_some_and(|told| told["remaining_us"].is_u64()), "{told:?}");
    daemon.stop().await;
}
