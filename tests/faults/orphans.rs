//! Orphans of a browser come to the daemon: they are reaped when they end, and ended with the run when they live,
//! whatever they did to be unknown. The browser is a script.

use std::{
    fs,
    io::{BufRead as _, BufReader},
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use crate::table;

const LIMIT: Duration = Duration::from_secs(30);

/// Of the daemon while its script runs: guardian, script, and the orphan that lives.
const CHILDREN: usize = 3;

/// One orphan that has left its group and cleared its environment, so that only its parent tells whose it was;
/// three that end at once; and the script itself.
fn script(home: &Path, nap: u64) -> String {
    format!(
        "#!/bin/sh
(setsid env -i sleep {nap} &)
for turn in 1 2 3; do (setsid true &); done
echo up > {}
exec sleep {nap}
",
        home.join("up").display()
    )
}

fn recipe(program: &Path) -> String {
    format!(
        r#"name = "sleepy"
product = "Sleepy"
driver = "cdp"
find = ["{}"]
install = "none"
backends = ["wasm"]
[gpu.hardware]
[gpu.software]
[limits]
instances = 1
"#,
        program.display()
    )
}

struct Stage {
    home: tempfile::TempDir,
    daemon: Child,
    nap: String,
}

/// A test that fails leaves nobody either: what the guardian ends by itself, it ends.
impl Drop for Stage {
    fn drop(&mut self) {
        // It has ended where the test came to its end.
        let _ = self.daemon.kill();
        let _ = self.daemon.wait();
    }
}

impl Stage {
    /// A daemon whose script has said that all is started.
    fn set() -> Self {
        let home = tempfile::tempdir().unwrap();
        // No other test, process or run sleeps for exactly as long.
        let nap = 1_000_000_000 + u64::from(rand::random::<u32>());
        let program = home.path().join("sleepy");
        fs::write(&program, script(home.path(), nap)).unwrap();
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
        fs::create_dir(home.path().join("browsers")).unwrap();
        fs::write(home.path().join("browsers/sleepy.toml"), recipe(&program)).unwrap();
        let mode = nix::sys::stat::Mode::from_bits_truncate(0o600);
        nix::unistd::mkfifo(&home.path().join("up"), mode).unwrap();
        let mut daemon = Command::new(env!("CARGO_BIN_EXE_weft"))
            .args(["serve", "--listen", "127.0.0.1:0", "--browsers", "sleepy=1", "--home"])
            .arg(home.path())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(daemon.stdout.take().unwrap()).read_line(&mut line).unwrap();
        assert!(line.starts_with("listening on "), "{line}");
        // A pipe with a name: opening it waits for the script.
        fs::read(home.path().join("up")).unwrap();
        Self { home, daemon, nap: nap.to_string() }
    }

    fn pid(&self) -> i32 {
        self.daemon.id().cast_signed()
    }

    fn ledger(&self) -> String {
        fs::read_to_string(self.runs()[0].join("ledger")).unwrap()
    }

    /// The orphan, once it is the daemon's child and its program runs.
    fn orphan(&self) -> i32 {
        let mut found = None;
        table::until("the orphan", LIMIT, || {
            let children = table::children(self.pid());
            let sleeps = table::saying(&self.nap);
            found = sleeps.into_iter().find(|pid| {
                let environment = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
                children.iter().any(|child| child.pid == *pid) && environment.is_empty()
            });
            found.is_some()
        });
        found.unwrap()
    }

    /// Until the ledger has the orphan, a SIGKILL of the daemon would set it free.
    fn noted(&self, orphan: i32) {
        let line = format!(r#"{{"line":"adopted","pid":{orphan},"#);
        table::until("the orphan's line in the ledger", LIMIT, || self.ledger().contains(&line));
    }

    fn only_living_children(&self) {
        table::until("an end of all zombies", LIMIT, || {
            let children = table::children(self.pid());
            children.len() == CHILDREN && children.iter().all(|child| !child.zombie)
        });
    }

    fn runs(&self) -> Vec<PathBuf> {
        let entries = fs::read_dir(self.home.path().join("run")).into_iter().flatten();
        entries.map(|entry| entry.unwrap().path()).collect()
    }
}

#[test]
fn orphans_are_reaped_and_end_with_the_daemon() {
    let mut stage = Stage::set();
    stage.orphan();
    stage.only_living_children();
    kill(Pid::from_raw(stage.pid()), Signal::SIGTERM).unwrap();
    assert!(stage.daemon.wait().unwrap().success());
    assert_eq!(table::saying(&stage.nap), [] as [i32; 0]);
    assert_eq!(stage.runs(), [] as [PathBuf; 0]);
}

#[test]
fn orphans_end_after_the_daemon_was_killed() {
    for home_goes_first in [false, true] {
        let mut stage = Stage::set();
        stage.noted(stage.orphan());
        let guardian = table::saying("guard\0").into_iter().find(is_child_of(stage.pid())).unwrap();
        let guardian = table::open(guardian).unwrap();
        if home_goes_first {
            fs::remove_dir_all(stage.home.path()).unwrap();
        }
        stage.daemon.kill().unwrap();
        stage.daemon.wait().unwrap();
        assert!(table::ends(&guardian, LIMIT));
        assert_eq!(table::saying(&stage.nap), [] as [i32; 0], "home first: {home_goes_first}");
        assert_eq!(stage.runs(), [] as [PathBuf; 0]);
    }
}

/// The kernel's own line of defence: with the guardian gone as well, what we started ends with us.
#[test]
fn what_was_started_ends_without_a_guardian_too() {
    let mut stage = Stage::set();
    let orphan = stage.orphan();
    let script = || table::saying(&stage.nap).into_iter().find(|pid| *pid != orphan);
    table::until("the script's own sleeper", LIMIT, || script().is_some());
    let script = script().unwrap();
    let guardian = table::saying("guard\0").into_iter().find(is_child_of(stage.pid())).unwrap();
    let script = table::open(script).unwrap();
    // Stopped, so that the daemon does not replace its guardian first.
    kill(Pid::from_raw(stage.pid()), Signal::SIGSTOP).unwrap();
    kill(Pid::from_raw(guardian), Signal::SIGKILL).unwrap();
    stage.daemon.kill().unwrap();
    stage.daemon.wait().unwrap();
    assert!(table::ends(&script, LIMIT), "the kernel was not asked to end it");
    kill(Pid::from_raw(orphan), Signal::SIGKILL).unwrap();
}

fn is_child_of(parent: i32) -> impl Fn(&i32) -> bool {
    let children: Vec<i32> = table::children(parent).into_iter().map(|child| child.pid).collect();
    move |pid| children.contains(pid)
}
