//! The whole daemon with real browsers and real models.

use std::path::Path;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};

use crate::{
    serve::{Client, Lane, Served, cache, numbers, processes_of},
    silero,
};

pub(crate) const FIXTURES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/fixtures");
const WASM: Lane = Lane { browser: "chromium", backend: "wasm" };
const WEBGPU: Lane = Lane { browser: "chromium", backend: "webgpu" };
const WEBNN: Lane = Lane { browser: "chromium-webnn", backend: "webnn" };
const FIREFOX_WASM: Lane = Lane { browser: "firefox", backend: "wasm" };
const FIREFOX_WEBGPU: Lane = Lane { browser: "firefox", backend: "webgpu" };
const NATIVE: Lane = Lane { browser: "native", backend: "ort-cpu" };

/// Probabilities of neighbouring frames, each with the state before it, drift apart by rounding alone.
pub(crate) const PROBABILITY_TOLERANCE: f32 = 1e-3;

/// Whether these browsers are; one that is not is a skip.
pub(crate) fn installed(browsers: &str) -> bool {
    let programs = [
        ("chromium", "/usr/bin/chromium".into()),
        ("chromium-webnn", webnn_program()),
        ("firefox", "/usr/lib/firefox-esr/firefox-esr".into()),
    ];
    for (name, program) in programs {
        if browsers.contains(&format!("{name}=")) && !program.exists() {
            crate::skip(name, &program);
            return false;
        }
    }
    true
}

pub(crate) async fn served(browsers: &str) -> Option<Served> {
    if !installed(browsers) {
        return None;
    }
    let served = Served::start(Path::new(env!("CARGO_BIN_EXE_weft")), browsers).await.unwrap();
    served.weft(&["models", "add", &format!("{FIXTURES}/models.toml")]).await.unwrap();
    Some(served)
}

fn webnn_program() -> std::path::PathBuf {
    cache().unwrap().join("browsers/chromium-webnn-147.0.0/chromium")
}

/// The answers to the recording's first frames, the state carried from one to the next.
pub(crate) async fn listen(client: &mut Client, lane: Lane, frames: usize) -> Vec<Value> {
    let samples =
        silero::samples(&std::fs::read(format!("{FIXTURES}/inputs/speech.wav")).unwrap().into()).unwrap();
    let elements: usize = silero::STATE_SHAPE.iter().product();
    let mut state = json!(vec![0.0f32; elements]);
    let mut answers = Vec::new();
    for frame in silero::frames(&samples).into_iter().take(frames) {
        let answer = client.ask("silero-vad", self::frame(&frame, &state), lane).await.unwrap();
        assert_eq!(answer["type"], "result", "{answer}");
        state = answer["outputs"][1]["data"].clone();
        answers.push(answer);
    }
    answers
}

/// One frame and the state before it as silero-VAD's inputs.
pub(crate) fn frame(samples: &[f32], state: &Value) -> Value {
    json!([
        {"name": "input", "datatype": "FP32", "shape": [1, silero::FRAME], "data": samples},
        {"name": "state", "datatype": "FP32", "shape": silero::STATE_SHAPE, "data": state},
        {"name": "sr", "datatype": "INT64", "shape": [], "data": [silero::SAMPLE_RATE]},
    ])
}

pub(crate) fn expected_probabilities() -> Vec<f64> {
    let text = std::fs::read_to_string(format!("{FIXTURES}/inputs/expected.json")).unwrap();
    let expected: Value = serde_json::from_str(&text).unwrap();
    serde_json::from_value(expected["silero-vad"]["probabilities"].clone()).unwrap()
}

#[tokio::test]
async fn every_lane_answers_what_the_package_answers_and_says_where() {
    let Some(served) = served("chromium=1,chromium-webnn=1").await else { return };
    let mut client = served.connect().await.unwrap();
    let expected = expected_probabilities();
    for (lane, verdict, nodes) in
        [(NATIVE, "reference", "cpu"), (WASM, "verified", "wasm"), (WEBNN, "verified", "webnn")]
    {
        let answers = listen(&mut client, lane, 30).await;
        for (answer, expected) in answers.iter().zip(&expected) {
            let probability = numbers(answer, "output").unwrap()[0];
            assert!(
                (probability - *expected as f32).abs() < PROBABILITY_TOLERANCE,
                "{probability} for {expected}"
            );
        }
        let provenance = &answers[0]["parameters"]["provenance"];
        assert_eq!(provenance["browser"], lane.browser);
        assert_eq!(provenance["backend"], lane.backend);
        assert_eq!(provenance["verdict"], verdict);
        assert_eq!(provenance["fallback"], Value::Null);
        assert!(provenance["placement"][nodes].as_u64().unwrap() > 0, "{provenance}");
        assert!(provenance["engine"].as_str().unwrap().starts_with("onnxruntime"), "{provenance}");
    }
    served.stop().await.unwrap();
}

#[tokio::test]
async fn firefox_serves_what_it_proved_and_nothing_else() {
    let Some(served) = served("firefox=1").await else { return };
    let mut client = served.connect().await.unwrap();
    let answers = listen(&mut client, FIREFOX_WASM, 30).await;
    for (answer, expected) in answers.iter().zip(&expected_probabilities()) {
        let probability = numbers(answer, "output").unwrap()[0];
        assert!(
            (probability - *expected as f32).abs() < PROBABILITY_TOLERANCE,
            "{probability} for {expected}"
        );
    }
    // The engine's wrong convolution is wrong on this adapter as well.
    let state = json!(vec![0.0f32; silero::STATE_SHAPE.iter().product()]);
    let inputs = frame(&vec![0.01; silero::FRAME], &state);
    let refused = client.ask("silero-vad", inputs, FIREFOX_WEBGPU).await.unwrap();
    assert_eq!(refused["error"]["code"], "quarantined", "{refused}");
    for (lane, software) in [(FIREFOX_WASM, false), (FIREFOX_WEBGPU, true)] {
        let named = client.ask("magika", moon(), lane).await.unwrap();
        assert_eq!(top(&named), "python", "{lane:?}");
        let provenance = &named["parameters"]["provenance"];
        let said = [&provenance["browser"], &provenance["verdict"], &provenance["sandbox"]];
        assert_eq!(said, [&json!("firefox"), &json!("verified"), &json!(true)], "{provenance}");
        assert_eq!(provenance["software_adapter"], software, "{provenance}");
    }
    // Unasked, a software adapter serves nobody.
    let unasked = json!({"browser": "firefox"});
    let answer = client.ask_with("magika", moon(), &unasked).await.unwrap();
    assert_eq!(answer["parameters"]["provenance"]["backend"], "wasm", "{answer}");
    served.stop().await.unwrap();
}

/// A Python file as magika's input.
pub(crate) fn moon() -> Value {
    let file = std::fs::read(format!("{FIXTURES}/inputs/files/moon.py")).unwrap();
    let features = magika_config().features(&file).unwrap();
    json!([{"name": "bytes", "datatype": "INT32", "shape": [1, features.len()], "data": features}])
}

pub(crate) fn magika_config() -> crate::magika::Config {
    let bytes = std::fs::read(cache().unwrap().join("models/magika-1.0.3/config.min.json")).unwrap();
    crate::magika::Config::parse(&bytes).unwrap()
}

/// The label that magika's answer gives the first place.
pub(crate) fn top(answer: &Value) -> String {
    magika_config().top(&numbers(answer, "target_label").unwrap()).unwrap().0.to_owned()
}

#[tokio::test]
async fn the_gate_catches_the_wrong_convolution_by_itself() {
    let Some(served) = served("chromium=1").await else { return };
    let mut client = served.connect().await.unwrap();
    let state = json!(vec![0.0f32; silero::STATE_SHAPE.iter().product()]);
    let inputs = frame(&vec![0.01; silero::FRAME], &state);
    let refused = client.ask("silero-vad", inputs.clone(), WEBGPU).await.unwrap();
    assert_eq!(refused["error"]["code"], "quarantined", "{refused}");
    // The same browser's other lane is not affected.
    let answered = client.ask("silero-vad", inputs, WASM).await.unwrap();
    assert_eq!(answered["parameters"]["provenance"]["verdict"], "verified", "{answered}");
    let named = client.ask("magika", moon(), WEBGPU).await.unwrap();
    assert_eq!(top(&named), "python");
    assert_eq!(
        named["parameters"]["provenance"]["software_adapter"], true,
        "no GPU is expected here: {named}"
    );
    served.stop().await.unwrap();
}

#[tokio::test]
async fn a_killed_browser_costs_a_retry_and_no_request() {
    let Some(served) = served("chromium=1").await else { return };
    let mut client = served.connect().await.unwrap();
    for _ in 0..2 {
        // An answer shows that the browser is there, the second time the one that came after the killed one.
        listen(&mut client, WASM, 1).await;
        let browser = browser_of(served.home());
        let mut other = served.connect().await.unwrap();
        let (answers, ()) = tokio::join!(listen(&mut client, WASM, 40), async {
            // In the middle of the other connection's requests.
            listen(&mut other, WASM, 3).await;
            kill(browser, Signal::SIGKILL).unwrap();
        });
        assert_eq!(answers.len(), 40);
    }
    served.stop().await.unwrap();
}

#[tokio::test]
async fn a_killed_daemon_leaves_nothing() {
    let Some(served) = served("chromium=1").await else { return };
    let mut client = served.connect().await.unwrap();
    listen(&mut client, WASM, 1).await;
    let guardian = guardian_of(served.home());
    let home = served.kill().await.unwrap();
    // The guardian ends when its sweep is done.
    tokio::task::spawn_blocking(move || wait_for_end(guardian)).await.unwrap();
    assert_eq!(processes_of(home.path()), Vec::<String>::new());
    assert_eq!(std::fs::read_dir(home.path().join("run")).unwrap().count(), 0);
}

/// The browser's first process: the one whose parent is the daemon's.
fn browser_of(home: &Path) -> Pid {
    let profile = format!("--user-data-dir={}", home.display());
    process(|line| line.contains(&profile) && !line.contains("--type="))
}

pub(crate) fn guardian_of(home: &Path) -> Pid {
    let run = home.join("run").display().to_string();
    process(|line| line.contains("\0guard\0") && line.contains(&run))
}

fn process(is: impl Fn(&str) -> bool) -> Pid {
    let entries = std::fs::read_dir("/proc").unwrap().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    let found = pids.into_iter().find(|pid| {
        std::fs::read(format!("/proc/{pid}/cmdline")).is_ok_and(|line| is(&String::from_utf8_lossy(&line)))
    });
    Pid::from_raw(found.expect("the process runs"))
}

/// Waits on the process's own file descriptor; it is not our child.
pub(crate) fn wait_for_end(pid: Pid) {
    let Ok(handle) = rustix::process::pidfd_open(
        rustix::process::Pid::from_raw(pid.as_raw()).unwrap(),
        rustix::process::PidfdFlags::empty(),
    ) else {
        return;
    };
    let mut fds = [rustix::event::PollFd::new(&handle, rustix::event::PollFlags::IN)];
    rustix::event::poll(&mut fds, None).unwrap();
}

#[tokio::test]
async fn a_killed_guardian_is_replaced() {
    let Some(served) = served("chromium=1").await else { return };
    let mut client = served.connect().await.unwrap();
    let first = guardian_of(served.home());
    kill(first, Signal::SIGKILL).unwrap();
    listen(&mut client, WASM, 3).await;
    let second = guardian_of(served.home());
    assert_ne!(first, second);
    let home = served.kill().await.unwrap();
    tokio::task::spawn_blocking(move || wait_for_end(second)).await.unwrap();
    assert_eq!(processes_of(home.path()), Vec::<String>::new());
}
