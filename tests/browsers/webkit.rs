//! `WebKitGTK` through its driver: launched, lost in every way, closed, and nothing left, its display included.

use std::{
    fs,
    io::Write as _,
    os::unix::fs::{PermissionsExt as _, symlink},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde_json::{Value, json};
use tokio::{net::TcpListener, time::timeout};
use weft::driver::{
    Driver as _, DriverError, Drivers, Instance, LaunchOrder,
    recipe::{Places, Recipe},
    webdriver::WebDriverDriver,
};

use crate::{
    daemon::{FIXTURES, PROBABILITY_TOLERANCE, expected_probabilities, frame},
    magika,
    serve::{Lane, Served, cache, numbers, processes_of},
    silero,
    stage::{LIMIT, Stage, asked_for, lost, order, places, processes, serve},
};

const PAGE: &str = r#"<!doctype html><script type="module">
const isolated = `${crossOriginIsolated} ${typeof SharedArrayBuffer} ${typeof navigator.gpu}`;
await fetch(`/page?${encodeURIComponent(isolated)}`);
</script>"#;

const WASM: Lane = Lane { browser: "webkitgtk", backend: "wasm" };

pub(crate) fn recipe() -> Recipe {
    Recipe::embedded().into_iter().find(|recipe| recipe.name == "webkitgtk").unwrap()
}

/// Whether driver and display are installed; CI must have both.
pub(crate) fn here() -> bool {
    let display = std::env::split_paths(&places().path).any(|folder| folder.join("Xvfb").is_file());
    let missing = match recipe().locate(&places()) {
        Err(missing) => missing.to_string(),
        Ok(_) if !display => "Xvfb is not installed".to_owned(),
        Ok(_) => return true,
    };
    assert_ne!(std::env::var("CI").as_deref(), Ok("true"), "{missing}");
    std::io::stderr().write_all(format!("skipped on webkitgtk: {missing}\n").as_bytes()).unwrap();
    false
}

fn drivers(stage: &Stage) -> Drivers {
    Drivers {
        places: places(),
        run: Arc::clone(&stage.run),
        tasks: stage.tasks.clone(),
        display: None,
        certificate_pin: None,
    }
}

async fn open(stage: &Stage, url: &str) -> Box<dyn Instance> {
    WebDriverDriver::new(recipe(), drivers(stage)).launch(order("webkitgtk-1", url)).await.unwrap()
}

/// Processes of this run by the name that the kernel keeps, which is 15 bytes at most.
fn named(run: &Path, name: &str) -> Vec<Pid> {
    let is =
        |pid: &i32| fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|comm| comm.trim() == name);
    processes(&[run]).into_iter().filter(is).map(Pid::from_raw).collect()
}

/// What a display has outside of its run: its socket.
fn display_socket(run: &Path, instance: &str) -> PathBuf {
    let number = fs::read_to_string(run.join(format!("{instance}-display/display"))).unwrap();
    let socket = PathBuf::from(format!("/tmp/.X11-unix/X{number}"));
    assert!(socket.exists(), "{}", socket.display());
    socket
}

/// Gone, or another server's by now.
fn assert_gone(socket: &Path) {
    let taken = std::os::unix::net::UnixStream::connect(socket).is_ok();
    assert!(taken || !socket.exists(), "{} is left", socket.display());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_opens_in_webkitgtk_and_nothing_is_left() {
    if !here() {
        return;
    }
    let (stage, (url, mut arrived)) = (Stage::set(), serve(PAGE).await);
    let instance = open(&stage, &url).await;
    // Not isolated: this server sends no such headers.
    assert_eq!(asked_for(&mut arrived, "/page?").await, "false%20undefined%20undefined");
    assert!(instance.version().starts_with(|c: char| c.is_ascii_digit()), "{}", instance.version());
    let confined = !named(stage.run.path(), "bwrap").is_empty();
    assert_eq!(instance.sandbox(), Some(confined));
    let possible = std::process::Command::new("bwrap")
        .args(["--ro-bind", "/", "/", "--proc", "/proc", "--dev", "/dev", "--unshare-pid", "true"])
        .status();
    assert_eq!(confined, possible.is_ok_and(|status| status.success()), "bubblewrap is what confines pages");
    assert_eq!(instance.process(), Some(named(stage.run.path(), "WebKitWebDriver")[0].as_raw()));
    let socket = display_socket(stage.run.path(), "webkitgtk-1");

    let elsewhere = format!("{url}elsewhere");
    timeout(LIMIT, instance.navigate(elsewhere, LIMIT)).await.unwrap().unwrap();
    asked_for(&mut arrived, "/elsewhere").await;
    let told = instance.lost();
    instance.close().await;
    assert_eq!(timeout(LIMIT, told).await.unwrap(), "the browser was closed");
    assert_gone(&socket);
    stage.assert_clear().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_is_killed_of_webkitgtk_is_noticed() {
    if !here() {
        return;
    }
    let cases = [
        ("WebKitWebProces", "no sign of life"),
        ("MiniBrowser", "no sign of life"),
        ("WebKitWebDriver", "signal: 9"),
        ("Xvfb", "its display is gone"),
    ];
    for (name, says) in cases {
        let (stage, (url, _arrived)) = (Stage::set(), serve(PAGE).await);
        let instance = open(&stage, &url).await;
        let socket = display_socket(stage.run.path(), "webkitgtk-1");
        let struck = named(stage.run.path(), name);
        assert!(!struck.is_empty(), "no {name} runs");
        for pid in struck {
            kill(pid, Signal::SIGKILL).unwrap();
        }
        let reason = lost(&*instance).await;
        assert!(reason.contains(says), "{name}: {reason}");
        instance.close().await;
        assert_gone(&socket);
        stage.assert_clear().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_of_webkitgtk_stops_is_noticed_and_still_closes() {
    if !here() {
        return;
    }
    let stopped = async |name: &str| {
        let (stage, (url, _arrived)) = (Stage::set(), serve(PAGE).await);
        let instance = open(&stage, &url).await;
        let socket = display_socket(stage.run.path(), "webkitgtk-1");
        let struck = named(stage.run.path(), name);
        assert!(!struck.is_empty(), "no {name} runs");
        for pid in struck {
            kill(pid, Signal::SIGSTOP).unwrap();
        }
        let reason = lost(&*instance).await;
        assert!(reason.contains("no sign of life"), "{name}: {reason}");
        instance.close().await;
        assert_gone(&socket);
        stage.assert_clear().await;
    };
    tokio::join!(stopped("WebKitWebProces"), stopped("MiniBrowser"), stopped("WebKitWebDriver"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_that_webkitgtk_cannot_open_is_an_error() {
    if !here() {
        return;
    }
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let unanswered = format!("http://{}/", silent.local_addr().unwrap());
    let stage = Stage::set();
    // A port that browsers refuse to speak to. One that refuses them WebKit takes for a page: its own, under that
    // address, which a driver cannot tell from ours; then the harness's report is what is missed.
    let forbidden = "http://127.0.0.1:9/".to_owned();
    let cases = [(forbidden, LIMIT, "it shows"), (unanswered, Duration::from_secs(8), "no answer within")];
    for (url, deadline, says) in cases {
        let driver = WebDriverDriver::new(recipe(), drivers(&stage));
        let launched = driver.launch(LaunchOrder { deadline, ..order("webkitgtk-1", &url) }).await;
        match launched.err() {
            Some(DriverError::Navigate { message }) => assert!(message.contains(says), "{message}"),
            other => panic!("{url}: {other:?}"),
        }
    }
    stage.assert_clear().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn webkitgtk_without_a_display_says_what_is_missing() {
    if !here() {
        return;
    }
    let (stage, alone) = (Stage::set(), tempfile::tempdir().unwrap());
    symlink(recipe().locate(&places()).unwrap(), alone.path().join("WebKitWebDriver")).unwrap();
    let without = Places { cache: alone.path().to_owned(), path: alone.path().into() };
    let driver = WebDriverDriver::new(recipe(), Drivers { places: without, ..drivers(&stage) });
    match driver.launch(order("webkitgtk-1", "about:blank")).await.err() {
        Some(error @ DriverError::NoDisplay { .. }) => {
            assert!(error.to_string().contains("apt-get install xvfb"), "{error}");
        }
        other => panic!("{other:?}"),
    }
    // A display of the user's that is not there.
    let nowhere = Drivers { display: Some(":4242".to_owned()), ..drivers(&stage) };
    let order = LaunchOrder { deadline: Duration::from_secs(8), ..order("webkitgtk-1", "about:blank") };
    let launched = WebDriverDriver::new(recipe(), nowhere).launch(order).await;
    assert!(matches!(launched.err(), Some(DriverError::Session { .. })));
    stage.assert_clear().await;
}

/// A program that tells the test its port, so that the test can take it first, and then either ends, as a driver does
/// that lost its port, or stays.
#[tokio::test(flavor = "multi_thread")]
async fn a_port_that_another_took_first_is_left_to_it() {
    if !here() {
        return;
    }
    for ending in ["exit 1", "exec sleep 1000"] {
        let (stage, (url, _arrived)) = (Stage::set(), serve(PAGE).await);
        let folder = tempfile::tempdir().unwrap();
        let (told, answered) = (folder.path().join("told"), folder.path().join("answered"));
        for pipe in [&told, &answered] {
            nix::unistd::mkfifo(pipe, nix::sys::stat::Mode::S_IRWXU).unwrap();
        }
        let real = recipe().locate(&places()).unwrap();
        let program = folder.path().join("WebKitWebDriver");
        let script = format!(
            "#!/bin/sh\nif mkdir {0}/first 2>/dev/null; then\necho $1 > {0}/told\nread _ < {0}/answered\n{ending}\nfi\n\
             exec {1} \"$@\"\n",
            folder.path().display(),
            real.display()
        );
        fs::write(&program, script).unwrap();
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
        let taking = tokio::task::spawn_blocking(move || {
            let port = fs::read_to_string(told).unwrap();
            let port: u16 = port.trim().strip_prefix("--port=").unwrap().parse().unwrap();
            let taken = std::net::TcpListener::bind(("127.0.0.1", port)).unwrap();
            fs::write(answered, "taken\n").unwrap();
            taken
        });
        let path = std::env::join_paths([folder.path(), Path::new("/usr/bin"), Path::new("/bin")]).unwrap();
        let clashing = Drivers { places: Places { cache: "/nowhere".into(), path }, ..drivers(&stage) };
        let instance = WebDriverDriver::new(recipe(), clashing).launch(order("webkitgtk-1", &url)).await;
        let taken = taking.await.unwrap();
        assert!(taken.local_addr().is_ok());
        instance.unwrap_or_else(|error| panic!("{ending}: {error}")).close().await;
        stage.assert_clear().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn webkitgtk_answers_for_verified_models_and_leaves_nothing() {
    if !here() {
        return;
    }
    let weft = Path::new(env!("CARGO_BIN_EXE_weft"));
    let served = Served::start(weft, "webkitgtk=1").await.unwrap();
    served.weft(&["models", "add", &format!("{FIXTURES}/models.toml")]).await.unwrap();
    let mut client = served.connect().await.unwrap();
    let samples =
        silero::samples(&fs::read(format!("{FIXTURES}/inputs/speech.wav")).unwrap().into()).unwrap();
    let elements: usize = silero::STATE_SHAPE.iter().product();
    let mut state = json!(vec![0.0f32; elements]);
    for (samples, expected) in silero::frames(&samples).into_iter().zip(expected_probabilities()).take(10) {
        let answer = client.ask("silero-vad", frame(&samples, &state), WASM).await.unwrap();
        assert_eq!(answer["type"], "result", "{answer}");
        state = answer["outputs"][1]["data"].clone();
        let probability = numbers(&answer, "output").unwrap()[0];
        assert!(
            (probability - expected as f32).abs() < PROBABILITY_TOLERANCE,
            "{probability} for {expected}"
        );
        let provenance = &answer["parameters"]["provenance"];
        assert_eq!(provenance["browser"], "webkitgtk");
        assert_eq!(provenance["verdict"], "verified");
        assert_eq!(provenance["fallback"], Value::Null);
        assert_eq!(provenance["threads"], 1, "it has no shared memory: {provenance}");
    }
    let bytes = fs::read(cache().unwrap().join("models/magika-1.0.3/config.min.json")).unwrap();
    let config = magika::Config::parse(&bytes).unwrap();
    let features = config.features(&fs::read(format!("{FIXTURES}/inputs/files/moon.py")).unwrap()).unwrap();
    let inputs =
        json!([{"name": "bytes", "datatype": "INT32", "shape": [1, features.len()], "data": features}]);
    let named = client.ask("magika", inputs, WASM).await.unwrap();
    assert_eq!(config.top(&numbers(&named, "target_label").unwrap()).unwrap().0, "python");
    assert_eq!(named["parameters"]["provenance"]["verdict"], "verified", "{named}");

    // The daemon's own end by SIGKILL: what a killed display leaves outside of its run goes too.
    let run = fs::read_dir(served.home().join("run")).unwrap().next().unwrap().unwrap().path();
    let socket = display_socket(&run, "webkitgtk-1");
    let guardian = crate::daemon::guardian_of(served.home());
    let home = served.kill().await.unwrap();
    tokio::task::spawn_blocking(move || crate::daemon::wait_for_end(guardian)).await.unwrap();
    assert_eq!(processes_of(home.path()), Vec::<String>::new());
    assert!(!run.exists());
    assert_gone(&socket);
}
