//! The WebDriver driver against a FAKE server that answers, hangs, or talks nonsense.

use std::{
    ffi::OsString,
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant},
};

use serde_json::json;
use tokio::net::TcpListener;
use weft::{
    driver::{
        Driver as _, DriverError, Drivers, Instance, LaunchOrder,
        ledger::RunDir,
        recipe::{GpuMode, Places, Recipe},
        webdriver::WebDriverDriver,
    },
    tasks::Tasks,
};

use crate::support::{FakeBrowser, FakeWebdriver, Manner, TestDaemon, fleet, graphs, home, infer_x, soon};

const URL: &str = "http://127.0.0.1:9/harness/page";

fn recipe(endpoint: &str) -> Recipe {
    let text = format!(
        "name = 'far'\nproduct = 'Far'\ndriver = 'webdriver'\nendpoint = '{endpoint}'\ninstall = 'none'\n\
         backends = ['wasm']\ncapabilities = {{ browserName = 'fake', 'x:y' = {{ z = [1] }} }}\n\
         gpu.hardware = {{}}\ngpu.software = {{}}\nlimits = {{ instances = 1 }}"
    );
    Recipe::parse("far.toml", &text).expect("a good recipe")
}

struct Stage {
    _home: tempfile::TempDir,
    drivers: Drivers,
}

impl Stage {
    fn set() -> Self {
        let home = tempfile::tempdir().expect("a temporary folder");
        let drivers = Drivers {
            places: Places { cache: PathBuf::from("/nowhere"), path: OsString::new() },
            run: RunDir::create(home.path()).expect("a run"),
            tasks: Tasks::new(),
            display: None,
            certificate_pin: None,
        };
        Self { _home: home, drivers }
    }

    fn driver(&self, endpoint: &str) -> WebDriverDriver {
        WebDriverDriver::new(recipe(endpoint), self.drivers.clone())
    }

    async fn launch(
        &self,
        fake: &FakeWebdriver,
        deadline: Duration,
    ) -> Result<Box<dyn Instance>, DriverError> {
        let driver = self.driver(&format!("http://{}", fake.address));
        soon("the launch's end", driver.launch(order(deadline))).await
    }

    async fn end(self) {
        soon("every task's end", self.drivers.tasks.stop()).await;
    }
}

fn order(deadline: Duration) -> LaunchOrder {
    LaunchOrder { name: "far-1".to_owned(), url: URL.to_owned(), gpu: GpuMode::Software, deadline }
}

fn commands(fake: &FakeWebdriver) -> Vec<&'static str> {
    fake.requests().iter().map(|request| request.command).collect()
}

#[tokio::test]
async fn a_session_is_asked_for_steered_and_ended() {
    let (stage, fake) = (Stage::set(), FakeWebdriver::start().await);
    let instance = stage.launch(&fake, Duration::from_secs(20)).await.expect("a good launch");
    assert_eq!((instance.version(), instance.sandbox(), instance.process()), ("1.2.3", None, None));
    assert_eq!(instance.flags(), [r#"browserName="fake""#, r#"x:y={"z":[1]}"#, r#"platformName="linux""#]);
    let elsewhere = "http://127.0.0.1:9/other".to_owned();
    instance.navigate(elsewhere.clone(), Duration::from_secs(20)).await.expect("a good navigation");
    fake.asked("title").await;
    assert_eq!(fake.sessions(), 1);
    let lost = instance.lost();
    soon("closing", instance.close()).await;
    assert_eq!(soon("the loss", lost).await, "the browser was closed");
    assert_eq!(fake.sessions(), 0);
    let mut seen = commands(&fake);
    seen.retain(|command| *command != "title");
    assert_eq!(seen, ["new", "navigate", "url", "navigate", "url", "delete"]);
    let requests = fake.requests();
    let wanted = &requests[0].body["capabilities"]["alwaysMatch"];
    // Chrome's options are not Safari's, and those that refuse what they do not know would give no session.
    let expected = json!({
        "browserName": "fake", "x:y": {"z": [1]}, "pageLoadStrategy": "normal", "timeouts": {"pageLoad": 20_000},
    });
    assert_eq!(*wanted, expected);
    stage.end().await;
}

#[tokio::test]
async fn a_server_that_misbehaves_is_named_and_left_without_a_session() {
    let cases = [
        ("new", Manner::Hang, "no session at http://", "no answer within", 0),
        ("new", Manner::Drop, "no session at http://", "no connection", 0),
        ("new", Manner::Page, "no session at http://", "<title>proxy</title>", 0),
        ("new", Manner::NotText, "no session at http://", "cannot be read", 0),
        ("new", Manner::NotW3c, "no session at http://", "no WebDriver server answers there", 0),
        ("new", Manner::Refuse, "no session at http://", "unknown error: a fake refusal", 0),
        ("new", Manner::Flood, "no session at http://", "is over 1048576 bytes", 0),
        ("navigate", Manner::Hang, "could not open the page", "no answer within", 1),
        ("navigate", Manner::Drop, "could not open the page", "no connection", 1),
        ("navigate", Manner::Refuse, "could not open the page", "a fake refusal", 1),
        ("navigate", Manner::Page, "could not open the page", "proxy", 1),
        ("url", Manner::Hang, "could not open the page", "no answer within", 1),
        ("url", Manner::NotW3c, "could not open the page", "no WebDriver server", 1),
    ];
    for (command, manner, starts, says, deletions) in cases {
        let (stage, fake) = (Stage::set(), FakeWebdriver::start().await);
        fake.meets(command, manner);
        let launched = stage.launch(&fake, Duration::from_millis(700)).await;
        let error = launched.err().unwrap_or_else(|| panic!("{command} {manner:?}: launched")).to_string();
        assert!(error.starts_with(starts) && error.contains(says), "{command} {manner:?}: {error}");
        let deleted = commands(&fake).iter().filter(|command| **command == "delete").count();
        assert_eq!((deleted, fake.sessions()), (deletions, 0), "{command} {manner:?}");
        stage.end().await;
    }
}

#[tokio::test]
async fn a_server_that_is_not_there_or_hangs_up_is_named() {
    let refusing = {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        listener.local_addr().expect("an address").to_string()
    };
    let deaf = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let cases = [
        (format!("http://{refusing}"), "refused"),
        (format!("http://{}", deaf.local_addr().expect("an address")), "no answer within"),
        (format!("https://{}", deaf.local_addr().expect("an address")), "no answer within"),
        ("http://no-such-host.invalid:4444".to_owned(), "no connection"),
    ];
    for (endpoint, says) in cases {
        let stage = Stage::set();
        let launched =
            soon("the launch", stage.driver(&endpoint).launch(order(Duration::from_millis(700)))).await;
        let error = launched.err().expect("no launch").to_string();
        assert!(error.starts_with(&format!("no session at {endpoint}")) && error.contains(says), "{error}");
        stage.end().await;
    }
}

#[tokio::test]
async fn a_loss_is_noticed_in_every_manner() {
    let watch = async |command: Option<(&'static str, Manner)>, says: &str| {
        let (stage, fake) = (Stage::set(), FakeWebdriver::start().await);
        let instance = stage.launch(&fake, Duration::from_secs(20)).await.expect("a good launch");
        fake.asked("title").await;
        match command {
            Some((command, manner)) => fake.meets(command, manner),
            None => fake.crash(),
        }
        let reason = soon("the loss", instance.lost()).await;
        assert!(reason.starts_with("the browser gave no sign of life") && reason.contains(says), "{reason}");
        soon("closing", instance.close()).await;
        stage.end().await;
    };
    tokio::join!(
        watch(None, "invalid session id"),
        watch(Some(("title", Manner::Hang)), "no answer within 10000 ms"),
        watch(Some(("title", Manner::Drop)), "no connection"),
        watch(Some(("title", Manner::NotText)), "cannot be read"),
    );
}

#[tokio::test]
async fn the_end_waits_behind_no_command_and_for_no_dead_server() {
    let (stage, fake) = (Stage::set(), FakeWebdriver::start().await);
    let instance = stage.launch(&fake, Duration::from_secs(20)).await.expect("a good launch");
    fake.meets("navigate", Manner::Hang);
    let navigation = tokio::spawn(instance.navigate(format!("{URL}/2"), Duration::from_secs(30)));
    soon("the second navigation", async {
        while commands(&fake).iter().filter(|command| **command == "navigate").count() < 2 {
            tokio::task::yield_now().await;
        }
    })
    .await;
    let started = Instant::now();
    soon("closing", instance.close()).await;
    assert!(started.elapsed() < Duration::from_secs(5), "the end stood behind the navigation");
    assert_eq!(fake.sessions(), 0);
    let told = navigation.await.expect("no panic").expect_err("the browser is closed");
    assert_eq!(told.to_string(), "could not open the page: the browser was closed");

    let instance = {
        fake.meets("navigate", Manner::Answer);
        fake.meets("delete", Manner::Hang);
        stage.launch(&fake, Duration::from_secs(20)).await.expect("a good launch")
    };
    let started = Instant::now();
    soon("closing", instance.close()).await;
    assert!(started.elapsed() >= Duration::from_secs(5), "the server had its time");
    stage.end().await;
}

#[tokio::test]
async fn a_session_never_becomes_nobody_s() {
    let (stage, fake) = (Stage::set(), FakeWebdriver::start().await);
    // Whose handle is dropped.
    drop(stage.launch(&fake, Duration::from_secs(20)).await.expect("a good launch"));
    fake.asked("delete").await;
    assert_eq!(fake.sessions(), 0);
    // Whose caller went while the server was still making it.
    let (stage_two, slow) = (Stage::set(), FakeWebdriver::start().await);
    slow.meets("new", Manner::Hang);
    let driver = stage_two.driver(&format!("http://{}", slow.address));
    let launch = tokio::spawn(driver.launch(order(Duration::from_secs(20))));
    slow.asked("new").await;
    launch.abort();
    slow.release();
    slow.asked("delete").await;
    assert_eq!(slow.sessions(), 0);
    // Whose daemon stops.
    let (stage_three, last) = (Stage::set(), FakeWebdriver::start().await);
    let held = stage_three.launch(&last, Duration::from_secs(20)).await.expect("a good launch");
    stage_three.end().await;
    assert_eq!(last.sessions(), 0, "the stop ends what is still held");
    drop(held);
    stage.end().await;
    stage_two.end().await;
}

#[tokio::test]
async fn a_password_goes_with_every_command_and_into_no_message() {
    let (stage, fake) = (Stage::set(), FakeWebdriver::start().await);
    let endpoint = format!("http://user:s3cret@{}/wd/hub", fake.address);
    let driver = stage.driver(&endpoint);
    let launch = || soon("the launch", driver.launch(order(Duration::from_secs(20))));
    soon("closing", launch().await.expect("a good launch").close()).await;
    assert_eq!(fake.sessions(), 0);
    for request in fake.requests() {
        assert_eq!(request.authorization.as_deref(), Some("Basic dXNlcjpzM2NyZXQ="), "{request:?}");
    }
    fake.meets("new", Manner::Refuse);
    let error = launch().await.err().expect("no launch").to_string();
    assert!(error.contains(&format!("http://{}/wd/hub", fake.address)), "{error}");
    assert!(!error.contains("s3cret") && !error.contains("user"), "{error}");
    stage.end().await;
}

#[tokio::test]
async fn a_remote_browser_that_cannot_be_had_says_why_and_the_rest_serves() {
    let (fake, server) = (FakeBrowser::new("fake", &["wasm"]), FakeWebdriver::start().await);
    server.meets("new", Manner::Refuse);
    let (driver, address) = (fake.clone(), server.address);
    let daemon = TestDaemon::start_with(
        home(),
        move |_, run, tasks| {
            let recipe = recipe(&format!("http://{address}"));
            let drivers = Drivers {
                places: Places { cache: PathBuf::from("/nowhere"), path: OsString::new() },
                run: run.clone(),
                tasks: tasks.clone(),
                display: None,
                certificate_pin: None,
            };
            vec![
                fleet("far", recipe.backends.clone(), drivers.of(recipe)),
                fleet("fake", driver.backends(), Arc::new(driver.clone())),
            ]
        },
        |_| {},
    )
    .await
    .expect("a good start");
    daemon.add("neg", graphs::neg()).await;
    let mut client = daemon.client().await;
    client.serves(&json!({"browser": ["fake"]})).await;
    let reason = format!("no session at http://{address}: unknown error: a fake refusal");
    let told = soon("a reason", async {
        loop {
            let instances = daemon.get("/api/v1/instances").await;
            let far =
                instances["items"].as_array().expect("a list").iter().find(|item| item["browser"] == "far");
            if let Some(told) =
                far.and_then(|far| far["reason"].as_str()).filter(|told| told.contains(&reason))
            {
                return told.to_owned();
            }
            tokio::task::yield_now().await;
        }
    });
    told.await;
    client.serves(&json!({"browser": ["fake"]})).await;
    let refused = client.ask(&infer_x("r", &json!({"browser": "far", "timeout": 1_000_000}))).await;
    assert_eq!(refused.header["type"], "error", "a browser that nobody has answered");
    daemon.stop().await;
}

/// Nobody runs Docker here; what `docker-compose.yml` gives the daemon is read all the same.
#[test]
fn the_composed_recipes_are_good() {
    let text = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docker-compose.yml"))
        .expect("the file");
    let (_, configs) = text.split_once("\nconfigs:\n").expect("its configs");
    let mut names = Vec::new();
    for block in configs.split("    content: |\n").skip(1) {
        let lines = block.lines().map_while(|line| line.strip_prefix("      "));
        let content: String = lines.flat_map(|line| [line, "\n"]).collect();
        let table: toml::Table =
            toml::from_str(&content).unwrap_or_else(|error| panic!("{content}: {error}"));
        match table.get("name").and_then(toml::Value::as_str) {
            Some(name) => {
                Recipe::parse(&format!("{name}.toml"), &content).unwrap_or_else(|error| panic!("{error}"));
                assert!(
                    text.contains(&format!("target: /var/lib/weft/browsers/{name}.toml")),
                    "{name} is not mounted"
                );
                names.push(name.to_owned());
            }
            None => {
                let raw: weft::config::RawConfig = toml::from_str(&content).expect("a good configuration");
                let wanted: Vec<_> = raw.browsers.expect("browsers").into_keys().collect();
                assert_eq!(wanted, ["grid-chromium", "grid-edge", "grid-firefox"]);
            }
        }
    }
    names.sort();
    assert_eq!(names, ["grid-chromium", "grid-edge", "grid-firefox"]);
}
