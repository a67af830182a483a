//! The configuration read again while requests run; and readiness, which follows the pool.

use std::{collections::BTreeMap, path::Path, sync::Arc};

use nix::sys::signal::Signal;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::sync::mpsc;
use weft::{
    config::{Source, Surroundings},
    pool::Bounds,
};

use crate::{
    cli,
    support::{Asked, Conduct, Deed, FakeBrowser, LIBRARY, TestDaemon, fleet, graphs, home, infer_x, soon},
};

const RECIPE: &str = r#"
name = "fake"
product = "Fake Browser"
driver = "cdp"
find = ["no-such-browser"]
install = "it cannot be"
backends = ["wasm"]

[gpu.hardware]
[gpu.software]
[limits]
instances = 4
"#;

fn here() -> Value {
    json!({"backend": ["wasm"]})
}

fn write(home: &Path, text: &str) {
    let all = format!("[native]\nlibrary = \"{LIBRARY}\"\nthreads = 1\n{text}");
    std::fs::write(home.join("weft.toml"), all).expect("room for a file");
}

/// A daemon with as many fake browsers as the home's file says.
async fn start(browser: &FakeBrowser, text: &str) -> TestDaemon {
    let home = home();
    write(home.path(), text);
    std::fs::create_dir_all(home.path().join("browsers")).expect("room for a folder");
    std::fs::write(home.path().join("browsers/fake.toml"), RECIPE).expect("room for a file");
    let (driver, place) = (browser.clone(), home.path().to_owned());
    let daemon = TestDaemon::start_with(
        home,
        move |config, _, _| {
            let wanted = config.browsers.get("fake").copied().filter(|bounds| bounds.most > 0);
            let planned = |instances: Bounds| {
                let mut fleet = fleet("fake", driver.backends(), Arc::new(driver.clone()));
                fleet.instances = instances;
                fleet
            };
            wanted.map(planned).into_iter().collect()
        },
        move |config| {
            let surroundings =
                Surroundings { home: place.clone(), cache: place.clone(), path: std::ffi::OsString::new() };
            let source = Source {
                file: None,
                home: place,
                surroundings,
                change: Box::new(|raw| raw.listen = Some("127.0.0.1:0".to_owned())),
                overruled: vec!["listen"],
            };
            let read = Arc::new(source).read().expect("a good file");
            *config = weft::config::Config { program: config.program.clone(), alone: config.alone, ..read };
        },
    )
    .await
    .expect("a good start");
    daemon.settled().await;
    daemon.add("neg", graphs::neg()).await;
    daemon
}

impl TestDaemon {
    async fn reload(&self, text: &str) -> (u16, Value) {
        write(self.home.path(), text);
        self.post("/api/v1/reload", "").await
    }

    /// State of each instance, as soon as there are so many and all are ready.
    async fn instances(&self, wanted: usize) {
        let ready = async || {
            let shown = self.get("/api/v1/instances").await;
            let states: BTreeMap<_, _> = shown["items"]
                .as_array()
                .expect("a list")
                .iter()
                .map(|item| (item["instance"].to_string(), item["state"].clone()))
                .collect();
            states.len() == wanted && states.values().all(|state| state == "ready" || state == "busy")
        };
        soon("so many instances", async { while !ready().await {} }).await;
    }
}

#[tokio::test]
async fn instances_come_and_go_while_requests_run() {
    let browser = FakeBrowser::new("fake", &["wasm"]);
    let daemon = start(&browser, "[browsers]\nfake = 1\n").await;
    daemon.verify("neg", &here()).await;
    let mut client = daemon.client().await;
    let (mut sent, mut under_way) = (0u64, Vec::new());
    for count in [3, 1, 2, 4, 1] {
        for _ in 0..20 {
            sent += 1;
            client.send(&infer_x(&sent.to_string(), &here())).await;
            under_way.push(sent.to_string());
        }
        let (status, said) = daemon.reload(&format!("[browsers]\nfake = {count}\n")).await;
        assert_eq!((status, &said["applied"]), (200, &json!(["browsers.fake"])), "{said}");
        assert_eq!((&said["restart"], &said["overruled"]), (&json!([]), &json!([])));
        daemon.instances(count).await;
        for id in under_way.drain(..) {
            client.reply(&id).await.negated();
        }
    }
    daemon.stop().await;
}

#[tokio::test]
async fn the_last_instance_goes_when_its_step_is_done_and_a_new_recipe_comes() {
    let browser = FakeBrowser::new("fake", &["wasm"]);
    let daemon = start(&browser, "[browsers]\nfake = 1\n").await;
    daemon.verify("neg", &here()).await;
    let (ask, mut asked) = mpsc::unbounded_channel();
    browser.behaves(Conduct::Ask(ask));
    let mut client = daemon.client().await;
    client.send(&infer_x("running", &here())).await;
    let step = soon("a step", asked.recv()).await.expect("the browser lives");
    assert_eq!(daemon.reload("[browsers]\nfake = 0\n").await.0, 200);
    let shown = daemon.get("/api/v1/instances").await;
    let instance = &shown["items"][0];
    assert_eq!(
        (&instance["state"], &instance["reason"]),
        (&json!("draining"), &json!("fewer of it are wanted"))
    );
    step.answer(Deed::Compute);
    client.reply("running").await.negated();
    daemon.instances(0).await;
    client.ask(&infer_x("late", &here())).await.refused("no_backend", "never", "no lane offers wasm");
    browser.behaves(Conduct::Compute);
    assert_eq!(daemon.reload("[browsers]\nfake = 2\n").await.0, 200);
    client.ask(&infer_x("again", &here())).await.negated();
    daemon.instances(2).await;
    daemon.stop().await;
}

#[tokio::test]
async fn a_leased_instance_goes_when_its_lease_ends() {
    let browser = FakeBrowser::new("fake", &["wasm"]);
    let daemon = start(&browser, "[browsers]\nfake = 1\n").await;
    let (status, lease) = daemon.post("/api/v1/leases", r#"{"browser": "fake"}"#).await;
    assert_eq!(status, 200, "{lease}");
    assert_eq!(daemon.reload("[browsers]\nfake = 0\n").await.0, 200);
    let mut client = daemon.client().await;
    client.ask(&infer_x("mine", &json!({"backend": ["wasm"], "lease": lease["lease"]}))).await.negated();
    let path = format!("{}/api/v1/leases/{}", daemon.url, lease["lease"].as_str().expect("a name"));
    assert_eq!(daemon.http.delete(path).send().await.expect("it answers").status(), 200);
    daemon.instances(0).await;
    daemon.stop().await;
}

#[tokio::test]
async fn limits_change_at_once_and_the_rest_waits_for_a_restart() {
    let browser = FakeBrowser::new("fake", &["wasm"]);
    let daemon = start(&browser, "[browsers]\nfake = 1\n").await;
    daemon.verify("neg", &here()).await;
    browser.behaves(Conduct::Always(Deed::Never));
    let mut client = daemon.client().await;
    client.send(&infer_x("a", &here())).await;
    client.caught_up().await;
    let text =
        "listen = \"127.0.0.1:1\"\ndisplay = \":7\"\n[browsers]\nfake = 1\n[limits]\npending_requests = 1\n";
    // A table that is open already would take the first keys.
    std::fs::write(
        daemon.home.path().join("weft.toml"),
        format!("{text}[native]\nlibrary = \"{LIBRARY}\"\nthreads = 1\n"),
    )
    .expect("room for a file");
    let (status, said) = daemon.post("/api/v1/reload", "").await;
    let wanted =
        json!({"applied": ["limits.pending_requests"], "restart": ["display"], "overruled": ["listen"]});
    assert_eq!((status, said), (200, wanted));
    client.ask(&infer_x("b", &here())).await.refused("overloaded", "same", "1 requests are pending");
    // What waits for a restart is told again, what was applied is not.
    let (_, said) = daemon.post("/api/v1/reload", "").await;
    assert_eq!(said, json!({"applied": [], "restart": ["display"], "overruled": []}));
    let short = "[browsers]\nfake = 1\n[limits]\ntimeout = \"50ms\"\ndrain = \"50ms\"\n";
    let (_, said) = daemon.reload(short).await;
    assert_eq!(said["applied"], json!(["limits.drain", "limits.pending_requests", "limits.timeout"]));
    client.ask(&infer_x("c", &here())).await.refused("deadline_exceeded", "same", "");
    daemon.drain().await;
    daemon.stop().await;
}

/// Whether a request that hangs in one lane is given to another; whoever has it is let go.
async fn hedged(daemon: &TestDaemon, asked: &mut mpsc::UnboundedReceiver<Asked>) -> bool {
    let mut client = daemon.client().await;
    client.send(&infer_x("r", &json!({"backend": ["wasm"], "timeout": 1_000_000}))).await;
    let first = soon("a step", asked.recv()).await.expect("the browser lives");
    tokio::select! {
        second = asked.recv() => {
            let second = second.expect("the browser lives");
            assert_ne!(first.lane, second.lane);
            second.answer(Deed::Compute);
            assert_eq!(client.reply("r").await.negated()["attempt"], 2);
            first.answer(Deed::Compute);
            true
        }
        reply = client.reply("r") => {
            reply.refused("deadline_exceeded", "same", "while computing");
            first.answer(Deed::Compute);
            false
        }
    }
}

#[tokio::test]
async fn hedging_begins_changes_and_ends_with_the_file() {
    let browser = FakeBrowser::new("fake", &["wasm"]);
    let daemon = start(&browser, "[browsers]\nfake = 2\n").await;
    daemon.verify("neg", &here()).await;
    let mut client = daemon.client().await;
    // Until the model's slowest steps are known.
    for _ in 0..19 {
        client.serves(&here()).await;
    }
    let (ask, mut asked) = mpsc::unbounded_channel();
    browser.behaves(Conduct::Ask(ask));
    assert!(!hedged(&daemon, &mut asked).await);
    // With 100 each request earns its own hedge, with 1 the hundredth does.
    let cases = [
        ("hedge = true\nhedge_percent = 100", json!(["scheduler.hedge", "scheduler.hedge_percent"]), true),
        ("hedge = true\nhedge_percent = 1", json!(["scheduler.hedge_percent"]), false),
        ("hedge = true\nhedge_percent = 100", json!(["scheduler.hedge_percent"]), true),
        ("hedge = false\nhedge_percent = 100", json!(["scheduler.hedge"]), false),
    ];
    for (text, applied, is) in cases {
        let (status, said) = daemon.reload(&format!("[browsers]\nfake = 2\n[scheduler]\n{text}\n")).await;
        let wanted = json!({"applied": applied, "restart": [], "overruled": []});
        assert_eq!((status, said), (200, wanted), "{text}");
        assert_eq!(hedged(&daemon, &mut asked).await, is, "{text}");
    }
    daemon.stop().await;
}

#[tokio::test]
async fn a_file_with_a_mistake_changes_nothing_and_says_why() {
    let browser = FakeBrowser::new("fake", &["wasm"]);
    let daemon = start(&browser, "[browsers]\nfake = 1\n").await;
    let cases = [
        (
            "[browsers]\nfake = 2\n[limits]\npending_requests = 0\n",
            "limits.pending_requests must be at least 1",
        ),
        ("[browsers]\nfake = 9\n", "9 instances of fake: the limit is 4"),
        ("[browsers]\nfake = 2\nnobody = 1\n", "no recipe is called"),
        ("[browsers]\nfake = 2\n[telemetry]\nfilter = \"weft=loud\"\n", "is no log filter"),
        ("[browser]\nfake = 2\n", "unknown field"),
        ("[browsers\n", "weft.toml"),
    ];
    for (text, says) in cases {
        let (status, said) = daemon.reload(text).await;
        assert_eq!((status, &said["code"]), (422, &json!("invalid_request")), "{text}: {said}");
        let detail = said["detail"].as_str().expect("a text");
        assert!(detail.starts_with("nothing was changed: ") && detail.contains(says), "{text}: {detail}");
    }
    daemon.instances(1).await;
    let (status, said) = daemon.reload("[browsers]\nfake = 2\n").await;
    assert_eq!((status, &said["applied"]), (200, &json!(["browsers.fake"])));
    daemon.instances(2).await;
    daemon.stop().await;
}

#[tokio::test]
async fn a_hangup_reads_the_file_again_and_ends_nothing() {
    let home: TempDir = cli::home();
    let served = cli::serve(home.path());
    let url = served.line.trim().trim_start_matches("listening on ").to_owned();
    let http = reqwest::Client::builder().no_proxy().build().expect("an HTTP client");
    std::fs::write(
        home.path().join("weft.toml"),
        "[browsers]\nchromium = 0\n[telemetry]\nfilter = \"error\"\n[limits]\npending_requests = 7\n",
    )
    .expect("room for a file");
    served.signal(Signal::SIGHUP);
    // Once it is read there is nothing left to apply.
    let left = async || -> Value {
        let answer = http.post(format!("{url}/api/v1/reload")).send().await.expect("it answers");
        answer.json().await.expect("JSON")
    };
    soon("reading again", async { while left().await["applied"] != json!([]) {} }).await;
    assert_eq!(served.end(Signal::SIGTERM), (Some(0), String::new()));
    cli::nothing_left(home.path());
}

/// Without a native lane, a daemon whose browser is lost can serve nobody.
#[tokio::test]
async fn readiness_follows_the_pool() {
    let browser = FakeBrowser::new("fake", &["wasm"]);
    let daemon = TestDaemon::start_in(home(), &[&browser], |config| config.native.providers.clear())
        .await
        .expect("a good start");
    daemon.settled().await;
    let ready = async || daemon.get("/v2/health/ready").await;
    assert_eq!(ready().await["ready"], true);
    browser.crash();
    let lost = soon("its loss", async {
        loop {
            let shown = ready().await;
            if shown["ready"] == false {
                return shown;
            }
        }
    })
    .await;
    assert_eq!((&lost["lanes"], &lost["stopping"]), (&json!(0), &json!(false)), "{lost}");
    soon("its return", async { while ready().await["ready"] != true {} }).await;
    assert_eq!(daemon.get("/api/v1/instances").await["items"][0]["launches"], 2);
    daemon.stop().await;
}
