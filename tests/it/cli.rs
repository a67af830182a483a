//! The `weft` command as a process: what it prints, what it exits with, what it leaves behind.

use std::{
    io::{BufRead, BufReader, Read},
    net::TcpListener,
    path::Path,
    process::{Child, Command, Output, Stdio},
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde_json::Value;
use tempfile::TempDir;

use crate::support::{self, TestDaemon, graphs};

/// A home whose daemons start no browser.
pub(crate) fn home() -> TempDir {
    let home = tempfile::tempdir().expect("a temporary folder");
    std::fs::write(home.path().join("weft.toml"), "[browsers]\nchromium = 0\n").expect("room for a file");
    home
}

pub(crate) fn weft(home: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_weft"));
    command.args(arguments).arg("--home").arg(home).env_remove("WEFT_HOME").env_remove("WEFT_LOG");
    command
}

pub(crate) fn run(home: &Path, arguments: &[&str]) -> Output {
    weft(home, arguments).output().expect("the program starts")
}

pub(crate) fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).expect("UTF-8")
}

/// A daemon in a process of its own.
pub(crate) struct Served {
    pub(crate) child: Child,
    stdout: BufReader<std::process::ChildStdout>,
    pub(crate) line: String,
}

pub(crate) fn serve(home: &Path) -> Served {
    start(&mut weft(home, &["serve", "--listen", "127.0.0.1:0"]))
}

pub(crate) fn start(serve: &mut Command) -> Served {
    let mut child = serve.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("the program starts");
    let mut stdout = BufReader::new(child.stdout.take().expect("piped"));
    let mut line = String::new();
    stdout.read_line(&mut line).expect("a line");
    assert!(line.starts_with("listening on http://127.0.0.1:"), "{line:?}");
    Served { child, stdout, line }
}

/// A failed test leaves no daemon.
impl Drop for Served {
    fn drop(&mut self) {
        // It has ended where the test came to its end.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Served {
    /// Ends it, and gives what it still had to say on standard output.
    pub(crate) fn end(mut self, signal: Signal) -> (Option<i32>, String) {
        self.signal(signal);
        self.wait()
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.child.id().cast_signed()), signal).expect("it runs");
    }

    /// The code that it ends with, and what it still had to say on standard output.
    pub(crate) fn wait(&mut self) -> (Option<i32>, String) {
        let mut rest = String::new();
        self.stdout.read_to_string(&mut rest).expect("UTF-8");
        (self.child.wait().expect("it ends").code(), rest)
    }
}

/// Nothing of a daemon is left: no run directory, no record, no process that mentions the home.
#[track_caller]
pub(crate) fn nothing_left(home: &Path) {
    let runs = std::fs::read_dir(home.join("run")).into_iter().flatten().count();
    assert_eq!(runs, 0, "run directories in {}", home.display());
    assert!(!home.join("daemon.json").exists());
    let mention = home.to_str().expect("UTF-8").as_bytes();
    let mentions = |file: std::path::PathBuf| {
        std::fs::read(file).is_ok_and(|bytes| bytes.windows(mention.len()).any(|window| window == mention))
    };
    for process in std::fs::read_dir("/proc").expect("processes").flatten() {
        let path = process.path();
        assert!(
            !mentions(path.join("cmdline")) && !mentions(path.join("environ")),
            "{} lives",
            path.display()
        );
    }
}

#[test]
fn serve_prints_one_line_and_leaves_nothing_when_told_to_end() {
    for signal in [Signal::SIGTERM, Signal::SIGINT] {
        let home = home();
        let served = serve(home.path());
        assert!(home.path().join("daemon.json").exists());
        assert_eq!(served.end(signal), (Some(0), String::new()), "{signal}");
        nothing_left(home.path());
    }
}

/// What a call leaves in the temporary directory, ONNX Runtime's telemetry included.
fn entries(folder: &Path) -> Vec<std::ffi::OsString> {
    std::fs::read_dir(folder).expect("a folder").flatten().map(|entry| entry.file_name()).collect()
}

#[test]
fn an_interrupted_call_says_so_and_leaves_nothing() {
    let cases: [(&[&str], Signal, i32); 4] = [
        (&["models", "list"], Signal::SIGINT, 130),
        (&["runs"], Signal::SIGTERM, 143),
        (&["doctor"], Signal::SIGINT, 130),
        (&["doctor"], Signal::SIGTERM, 143),
    ];
    for (arguments, signal, code) in cases {
        let (home, temporary) = (home(), tempfile::tempdir().expect("a temporary folder"));
        let mut child = weft(home.path(), arguments)
            .env("TMPDIR", temporary.path())
            .env("WEFT_CACHE", "/nowhere")
            .env("PATH", "/nowhere")
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the program starts");
        let mut stderr = BufReader::new(child.stderr.take().expect("piped"));
        // It catches signals from before it says that it begins.
        stderr.read_line(&mut String::new()).expect("a line");
        kill(Pid::from_raw(child.id().cast_signed()), signal).expect("it runs");
        let mut said = String::new();
        stderr.read_to_string(&mut said).expect("UTF-8");
        let done = child.wait_with_output().expect("it ends");
        assert_eq!((done.status.code(), text(&done.stdout)), (Some(code), ""), "{arguments:?}: {said}");
        assert!(said.contains(&format!("interrupted by {signal}")), "{arguments:?}: {said}");
        nothing_left(home.path());
        assert_eq!(entries(temporary.path()), [""; 0], "{arguments:?}");
    }
}

#[test]
fn a_guardian_takes_nothing_but_a_run() {
    let ground = tempfile::tempdir().expect("a temporary folder");
    let daemon =
        |pid: i32| format!(r#"{{"line":"daemon","pid":{pid},"start":2,"boot":"","scratch":"/nowhere"}}"#);
    let cases = [
        ("letters", "letter", String::new()),
        ("letters", "ledger", daemon(1)),
        ("1-2", "letter", String::new()),
        ("1-2", "ledger", "{}".to_owned()),
        ("1-2", "ledger", daemon(3)),
    ];
    for (case, (folder, file, written)) in cases.into_iter().enumerate() {
        let folder = ground.path().join(case.to_string()).join(folder);
        let file = folder.join(file);
        std::fs::create_dir_all(&folder).expect("room for a folder");
        std::fs::write(&file, written).expect("room for a file");
        let refused = Command::new(env!("CARGO_BIN_EXE_weft"))
            .arg("guard")
            .arg(&folder)
            .stdin(Stdio::null())
            .output()
            .expect("the program starts");
        let said = text(&refused.stderr);
        assert_eq!((refused.status.code(), text(&refused.stdout)), (Some(1), ""), "case {case}: {said}");
        assert!(said.contains("is not the directory of a run"), "case {case}: {said}");
        assert!(file.exists(), "case {case}");
    }
}

#[tokio::test]
async fn a_daemon_that_gets_no_guardian_leaves_nothing() {
    let home = support::home();
    let refused =
        TestDaemon::start_in(home.clone(), &[], |config| config.program = "/bin/false".into()).await.err();
    let said = refused.expect("no guardian").to_string();
    assert!(said.contains("the guardian ended at once (exit status: 1)"), "{said}");
    assert_eq!(entries(&home.path().join("run")), [""; 0]);
}

#[test]
fn a_daemon_that_gets_no_other_guardian_ends_and_leaves_nothing() {
    let (home, temporary) = (home(), tempfile::tempdir().expect("a temporary folder"));
    let mut serve = weft(home.path(), &["serve", "--listen", "127.0.0.1:0"]);
    serve.env("TMPDIR", temporary.path());
    let mut served = start(&mut serve);
    let run = home.path().join("run").join(&entries(&home.path().join("run"))[0]);
    let log = run.join("guardian.log");
    std::fs::remove_file(&log).expect("the guardian has a log");
    std::fs::create_dir(&log).expect("a folder where the next guardian's log belongs");
    let guard = format!("guard\0{}\0", run.display());
    let guardian = std::fs::read_dir("/proc").expect("processes").flatten().find_map(|process| {
        let line = std::fs::read(process.path().join("cmdline")).ok()?;
        let pid = process.file_name().to_str()?.parse().ok()?;
        line.ends_with(guard.as_bytes()).then_some(pid)
    });
    kill(Pid::from_raw(guardian.expect("a guardian runs")), Signal::SIGKILL).expect("it runs");
    let mut said = String::new();
    served.child.stderr.take().expect("piped").read_to_string(&mut said).expect("UTF-8");
    assert_eq!(served.wait().0, Some(1), "{said}");
    assert!(said.contains("the daemon does not go on without a guardian"), "{said}");
    nothing_left(home.path());
    assert_eq!(entries(temporary.path()), [""; 0]);
}

#[test]
fn a_record_leads_to_its_own_daemon_only() {
    let (first, second) = (home(), home());
    let served = serve(first.path());
    let record = std::fs::read(first.path().join("daemon.json")).expect("a record");
    let mut record: Value = serde_json::from_slice(&record).expect("JSON");
    // A crash left it, and the port went to the first home's daemon.
    record["id"] = "0".into();
    std::fs::write(second.path().join("daemon.json"), record.to_string()).expect("room for a file");
    for (home, starts) in [(&first, false), (&second, true)] {
        let listed = run(home.path(), &["models", "list", "--json"]);
        let said = text(&listed.stderr);
        assert_eq!(listed.status.code(), Some(0), "{said}");
        assert_eq!(said.contains("no daemon is running on this home"), starts, "{said}");
    }
    nothing_left(second.path());
    assert_eq!(served.end(Signal::SIGTERM).0, Some(0));
}

#[test]
fn a_start_that_fails_says_why_and_leaves_nothing() {
    let taken = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = taken.local_addr().expect("an address").to_string();
    let home = home();
    let failed = run(home.path(), &["serve", "--listen", &address]);
    assert_eq!((failed.status.code(), text(&failed.stdout)), (Some(1), ""));
    assert!(
        text(&failed.stderr).contains(&format!("cannot listen on {address}")),
        "{}",
        text(&failed.stderr)
    );
    nothing_left(home.path());

    // After the guardian has started, too.
    std::fs::create_dir(home.path().join("weft.duckdb")).expect("a folder where the database belongs");
    let failed = run(home.path(), &["serve", "--listen", "127.0.0.1:0"]);
    assert_eq!((failed.status.code(), text(&failed.stdout)), (Some(1), ""), "{}", text(&failed.stderr));
    nothing_left(home.path());
}

#[test]
fn a_second_daemon_on_a_home_names_the_first() {
    let home = home();
    let served = serve(home.path());
    let url = served.line.trim().trim_start_matches("listening on ").to_owned();
    let failed = run(home.path(), &["serve", "--listen", "127.0.0.1:0"]);
    let said = text(&failed.stderr);
    assert_eq!((failed.status.code(), text(&failed.stdout)), (Some(1), ""));
    assert!(said.contains("another daemon runs on the home") && said.contains(&url), "{said}");
    let listed = run(home.path(), &["models", "list", "--json"]);
    assert_eq!(listed.status.code(), Some(0), "the first goes on: {}", text(&listed.stderr));
    assert_eq!(served.end(Signal::SIGTERM).0, Some(0));
    nothing_left(home.path());
}

#[test]
fn misuse_exits_with_2_before_anything_starts() {
    let home = home();
    let cases: [(&[&str], &str); 8] = [
        (&["serve", "--bogus"], "--bogus"),
        (&["dance"], "dance"),
        (&["serve", "--browsers", "netscape=1"], "no recipe is called \"netscape\""),
        (&["serve", "--browsers", "chromium=many"], "is no number"),
        (&["serve", "--listen", "0.0.0.0:0"], "without authentication weft serves nobody else"),
        (&["serve", "--listen", "here"], "is no address"),
        (&["serve", "--url", "http://127.0.0.1:1"], "--url names a running daemon"),
        (&["infer", "m", "--backend", "cuda"], "is no backend"),
    ];
    for (arguments, says) in cases {
        let refused = run(home.path(), arguments);
        assert_eq!((refused.status.code(), text(&refused.stdout)), (Some(2), ""), "{arguments:?}");
        assert!(text(&refused.stderr).contains(says), "{arguments:?}: {}", text(&refused.stderr));
    }
    nothing_left(home.path());
}

#[test]
fn json_is_all_that_standard_output_holds() {
    let home = home();
    let file = home.path().join("neg.onnx");
    std::fs::write(&file, graphs::neg()).expect("room for a file");
    let file = file.to_str().expect("UTF-8");
    let folder = home.path().join("empty");
    std::fs::create_dir(&folder).expect("room for a folder");
    let folder = folder.to_str().expect("UTF-8");
    let served = serve(home.path());
    let x = "x=[[1, 2, 3, 4]]";
    // Arguments, exit code, and where in the answer to find what.
    let cases: [(&[&str], i32, &str, &str); 16] = [
        (&["models", "add", file], 0, "/items/0/name", "neg"),
        (&["models", "list"], 0, "/items/0/name", "neg"),
        (&["models", "verify", "neg"], 0, "/name", "neg"),
        (&["models", "unload", "neg"], 0, "/residence/stay", "unloaded"),
        (&["models", "load", "neg"], 0, "/residence/stay", "loaded"),
        (&["models", "load", "neg", "--backend", "webgpu"], 1, "", ""),
        (&["models", "show", "neg"], 0, "/signature/inputs/0/name", "x"),
        (&["infer", "neg", "--input", x], 0, "/parameters/provenance/browser", "native"),
        (&["infer", "neg", "--input", x, "--backend", "wasm"], 1, "/error/code", "no_backend"),
        (&["infer", "neg", "--input", "x=[[1, 2]]"], 1, "/error/code", "invalid_request"),
        (&["infer", "neg", "--input", "z=1"], 2, "", ""),
        (&["infer", "nope"], 1, "", ""),
        (&["models", "add", folder], 1, "", ""),
        (&["models", "remove", "neg"], 0, "/name", "neg"),
        (&["runs"], 0, "/items/0/model", "neg"),
        (&["top"], 0, "/lanes/0/lane", "native/ort-cpu"),
    ];
    for (arguments, code, pointer, wanted) in cases {
        let done = run(home.path(), &[arguments, &["--json"]].concat());
        let (stdout, stderr) = (text(&done.stdout), text(&done.stderr));
        assert_eq!(done.status.code(), Some(code), "{arguments:?}: {stdout}{stderr}");
        if pointer.is_empty() {
            assert_eq!(stdout, "", "{arguments:?}");
        } else {
            let said: Value =
                serde_json::from_str(stdout).unwrap_or_else(|_| panic!("{arguments:?}: {stdout}"));
            assert_eq!(said.pointer(pointer).and_then(Value::as_str), Some(wanted), "{arguments:?}: {said}");
        }
    }
    let refused = run(home.path(), &["models", "add", folder]);
    assert!(text(&refused.stderr).contains("has no .onnx file"), "{}", text(&refused.stderr));
    assert_eq!(served.end(Signal::SIGTERM), (Some(0), String::new()));
    nothing_left(home.path());
}

#[test]
fn a_daemon_started_for_one_call_ends_with_it() {
    let home = home();
    let file = home.path().join("neg.onnx");
    std::fs::write(&file, graphs::neg()).expect("room for a file");
    let added = run(home.path(), &["models", "add", file.to_str().expect("UTF-8"), "--name", "negative"]);
    assert_eq!(added.status.code(), Some(0), "{}", text(&added.stderr));
    assert!(text(&added.stdout).starts_with("added negative ("), "{}", text(&added.stdout));
    nothing_left(home.path());
    let shown = run(home.path(), &["models", "show", "negative"]);
    assert!(text(&shown.stdout).contains("input x FP32 [\"n\",4]"), "{}", text(&shown.stdout));
    nothing_left(home.path());
    let unknown = run(home.path(), &["models", "show", "positive", "--url", "http://127.0.0.1:1"]);
    assert_eq!((unknown.status.code(), text(&unknown.stdout)), (Some(1), ""));
    assert!(
        text(&unknown.stderr).contains("no daemon answers at http://127.0.0.1:1"),
        "{}",
        text(&unknown.stderr)
    );
}
