//! The daemon's own end, by signals: what it started must not outlive it.
//!
//! A test starts this very binary again to act as the daemon; [`HOME`] in the environment tells it so.
//! The browser is a script, whose children hide in every way that real ones do.

use std::{
    env, fs,
    io::{BufRead, BufReader, Write as _},
    os::{fd::OwnedFd, unix::fs::PermissionsExt as _, unix::process::CommandExt as _},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::Arc,
    time::{Duration, Instant},
};

use nix::{
    sys::signal::{Signal, killpg},
    unistd::Pid,
};
use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    process::{PidfdFlags, pidfd_open, pidfd_send_signal},
};
use weft::{
    driver::{
        Driver as _, LaunchOrder,
        cdp::CdpDriver,
        guardian::{self, Guardian},
        ledger::RunDir,
        recipe::{GpuMode, Places, Recipe},
    },
    tasks::Tasks,
};

const HOME: &str = "WEFT_TEST_HOME";

/// Set when the daemon is to launch a real browser instead of the script.
const BROWSER: &str = "WEFT_TEST_BROWSER";

/// Guardian and kernel need milliseconds; a loaded machine gets this long.
const LIMIT: Duration = Duration::from_secs(30);

/// Sleepers of one tree: plain, in a session of its own, two orphans of a double fork,
/// without environment, stopped, and the leader itself.
const SLEEPERS: usize = 7;
const IN_OTHER_SESSIONS: usize = 3;

fn script(home: &Path, nap: u64) -> String {
    let up = home.join("up");
    format!(
        "#!/bin/sh
sleep {nap} &
setsid sleep {nap} &
(setsid sh -c 'sleep {nap} & exec sleep {nap}' &)
env -i sleep {nap} &
sh -c 'kill -STOP $$; exec sleep {nap}' &
echo up > {}
exec sleep {nap}
",
        up.display()
    )
}

const RECIPE: &str = r#"name = "sleepy"
product = "Sleepy"
driver = "cdp"
find = ["{cache}/sleepy"]
install = "none"
backends = ["wasm"]
[gpu.hardware]
[gpu.software]
[limits]
instances = 1
"#;

fn chromium() -> Recipe {
    Recipe::embedded().into_iter().find(|recipe| recipe.name == "chromium").unwrap()
}

fn everywhere() -> Places {
    Places { cache: PathBuf::from("/nowhere"), path: env::var_os("PATH").unwrap() }
}

fn order(name: &str, deadline: Duration) -> LaunchOrder {
    LaunchOrder { name: name.to_owned(), url: "about:blank".to_owned(), gpu: GpuMode::Software, deadline }
}

#[test]
fn act_as_the_daemon() {
    let Some(home) = env::var_os(HOME).map(PathBuf::from) else { return };
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let tasks = Tasks::new();
        let run = RunDir::create(&home).unwrap();
        let weft = Path::new(env!("CARGO_BIN_EXE_weft"));
        let guardian = Guardian::start(weft, &run).await.unwrap();
        say(&format!("run {}", run.path().display()));
        if env::var_os(BROWSER).is_some() {
            let driver = CdpDriver::new(chromium(), everywhere(), Arc::clone(&run), tasks.clone());
            let order = order("chromium-1", LIMIT);
            let _instance = driver.launch(order).await.unwrap();
            say("up");
            std::io::stdin().read_line(&mut String::new()).unwrap();
            return;
        }
        let places = Places { cache: home.clone(), path: "".into() };
        let recipe = Recipe::parse("sleepy.toml", RECIPE).unwrap();
        let driver = CdpDriver::new(recipe, places, Arc::clone(&run), tasks.clone());
        let launch = driver.launch(order("sleepy-1", Duration::from_hours(1)));
        let up = home.join("up");
        let stop = tokio::task::spawn_blocking(move || {
            // A pipe with a name: opening it waits for the script.
            fs::read(up).unwrap();
            say("up");
            std::io::stdin().read_line(&mut String::new()).unwrap();
        });
        tokio::select! {
            launched = launch => panic!("a script is no browser: {:?}", launched.err()),
            stop = stop => stop.unwrap(),
        }
        tasks.stop().await;
        guardian.finish().await.unwrap();
        say("stopped");
    });
}

fn say(line: &str) {
    let mut stdout = std::io::stdout();
    writeln!(stdout, "\n{line}").unwrap();
    stdout.flush().unwrap();
}

/// A daemon with a home of its own.
struct Stage {
    home: tempfile::TempDir,
    nap: u64,
    daemon: Child,
    told: BufReader<std::process::ChildStdout>,
    run: PathBuf,
    scratch: PathBuf,
    guardian: OwnedFd,
}

impl Stage {
    fn set() -> Self {
        Self::set_with(&[])
    }

    fn set_with(env: &[(&str, &str)]) -> Self {
        let home = tempfile::tempdir().unwrap();
        // No other test, process or run sleeps for exactly as long.
        let nap = 1_000_000_000 + u64::from(rand::random::<u32>());
        let browser = home.path().join("sleepy");
        fs::write(&browser, script(home.path(), nap)).unwrap();
        fs::set_permissions(&browser, fs::Permissions::from_mode(0o755)).unwrap();
        let mode = nix::sys::stat::Mode::from_bits_truncate(0o600);
        nix::unistd::mkfifo(&home.path().join("up"), mode).unwrap();
        let mut daemon = Command::new(env::current_exe().unwrap())
            .args(["--exact", "driver::act_as_the_daemon", "--nocapture"])
            .env(HOME, home.path())
            .envs(env.iter().copied())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .process_group(0)
            .spawn()
            .unwrap();
        let mut told = BufReader::new(daemon.stdout.take().unwrap());
        let run = PathBuf::from(hear(&mut told, "run ").unwrap());
        let guard = format!("guard\0{}\0", run.display());
        let guardian = open(*pids_saying(&guard).first().expect("a guardian runs"));
        let ledger = fs::read_to_string(run.join("ledger")).unwrap();
        let line: serde_json::Value = serde_json::from_str(ledger.lines().next().unwrap()).unwrap();
        let scratch = PathBuf::from(line["scratch"].as_str().unwrap());
        assert!(scratch.is_dir(), "{}", scratch.display());
        Self { home, nap, daemon, told, run, scratch, guardian }
    }

    /// Waits until the whole tree runs.
    fn up(mut self) -> Self {
        hear(&mut self.told, "up").unwrap();
        // The script execs its own sleeper last; its children are all started before it says so.
        let deadline = Instant::now() + LIMIT;
        while self.sleepers().len() < SLEEPERS {
            assert!(Instant::now() < deadline, "{} of {SLEEPERS} sleepers", self.sleepers().len());
            // No event tells that a grandchild has begun its program.
            std::thread::sleep(Duration::from_millis(5));
        }
        self
    }

    fn sleepers(&self) -> Vec<i32> {
        pids_saying(&self.nap.to_string())
    }

    fn kill(&mut self, signal: Signal) {
        killpg(Pid::from_raw(self.daemon.id().cast_signed()), signal).unwrap();
        self.daemon.wait().unwrap();
    }

    /// Nothing of the run is left, in the process table or on disk.
    fn assert_clear(&self) {
        assert_eq!(self.sleepers(), [] as [i32; 0], "sleepers survived");
        let script = self.home.path().join("sleepy");
        assert_eq!(pids_saying(script.to_str().unwrap()), [] as [i32; 0], "the script survived");
        assert!(!self.run.exists(), "{} is left", self.run.display());
        assert!(!self.scratch.exists(), "{} is left", self.scratch.display());
    }
}

fn hear(told: &mut impl BufRead, start: &str) -> Option<String> {
    told.lines().map_while(Result::ok).find_map(|line| line.strip_prefix(start).map(ToOwned::to_owned))
}

/// Live processes whose command line holds these words.
fn pids_saying(words: &str) -> Vec<i32> {
    let pids =
        fs::read_dir("/proc").unwrap().flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    pids.filter(|pid: &i32| {
        let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        words.is_empty() || line.windows(words.len()).any(|window| window == words.as_bytes())
    })
    .collect()
}

fn open(pid: i32) -> OwnedFd {
    pidfd_open(rustix::process::Pid::from_raw(pid).unwrap(), PidfdFlags::empty()).unwrap()
}

fn wait_for_end(handle: &OwnedFd) {
    let limit = Timespec { tv_sec: LIMIT.as_secs().cast_signed(), tv_nsec: 0 };
    let ended = poll(&mut [PollFd::new(handle, PollFlags::IN)], Some(&limit)).unwrap();
    assert_eq!(ended, 1, "still running after {LIMIT:?}");
}

#[test]
fn a_killed_daemon_leaves_nothing_and_takes_no_stranger_along() {
    let mut stage = Stage::set().up();
    let mut stranger =
        Command::new("tail").arg("-f").arg(stage.run.join("ledger")).stdout(Stdio::null()).spawn().unwrap();
    stage.kill(Signal::SIGKILL);
    wait_for_end(&stage.guardian);
    stage.assert_clear();
    assert_eq!(stranger.try_wait().unwrap(), None, "a process that only reads our files was killed");
    stranger.kill().unwrap();
    stranger.wait().unwrap();
}

#[test]
fn a_killed_daemon_leaves_nothing_even_when_its_home_went_first() {
    let mut stage = Stage::set().up();
    fs::remove_dir_all(stage.home.path()).unwrap();
    stage.kill(Signal::SIGKILL);
    wait_for_end(&stage.guardian);
    stage.assert_clear();
}

#[test]
fn what_a_terminal_sends_to_all_spares_the_guardian() {
    for signal in [Signal::SIGINT, Signal::SIGHUP] {
        let mut stage = Stage::set().up();
        stage.kill(signal);
        wait_for_end(&stage.guardian);
        stage.assert_clear();
    }
}

#[test]
fn a_guardian_told_to_end_stays_until_the_daemon_is_gone() {
    let mut stage = Stage::set().up();
    for signal in [rustix::process::Signal::TERM, rustix::process::Signal::INT, rustix::process::Signal::HUP]
    {
        pidfd_send_signal(&stage.guardian, signal).unwrap();
    }
    assert_eq!(stage.sleepers().len(), SLEEPERS);
    stage.kill(Signal::SIGKILL);
    wait_for_end(&stage.guardian);
    stage.assert_clear();
}

#[test]
fn a_normal_stop_leaves_nothing() {
    let mut stage = Stage::set().up();
    stage.daemon.stdin.take().unwrap().write_all(b"stop\n").unwrap();
    hear(&mut stage.told, "stopped").expect("the daemon stops by itself");
    assert!(stage.daemon.wait().unwrap().success());
    wait_for_end(&stage.guardian);
    stage.assert_clear();
}

#[test]
fn the_next_start_sweeps_what_daemon_and_guardian_left() {
    let mut stage = Stage::set().up();
    assert_eq!(guardian::sweep_stale(stage.home.path()).unwrap(), 0, "its daemon lives");
    assert_eq!(stage.sleepers().len(), SLEEPERS, "a living daemon's run was swept");

    pidfd_send_signal(&stage.guardian, rustix::process::Signal::KILL).unwrap();
    wait_for_end(&stage.guardian);
    stage.kill(Signal::SIGKILL);
    // The kernel hangs up a group that lost its parent while one of it is stopped; other sessions stay.
    assert!(stage.sleepers().len() >= IN_OTHER_SESSIONS, "the other tests would prove nothing");
    assert!(guardian::sweep_stale(stage.home.path()).unwrap() >= IN_OTHER_SESSIONS);
    stage.assert_clear();
}

/// The kill falls anywhere between the guardian's start and the tree's completion.
#[test]
fn a_daemon_killed_while_it_launches_leaves_nothing() {
    for microseconds in [0, 300, 1_000, 2_000, 4_000, 8_000, 16_000, 32_000] {
        let mut stage = Stage::set();
        std::thread::sleep(Duration::from_micros(microseconds));
        stage.kill(Signal::SIGKILL);
        wait_for_end(&stage.guardian);
        stage.assert_clear();
    }
}

#[test]
fn a_killed_daemon_takes_its_chromium_along() {
    if let Err(missing) = chromium().locate(&everywhere()) {
        assert_ne!(env::var("CI").as_deref(), Ok("true"), "{missing}");
        std::io::stderr().write_all(format!("skipped: {missing}\n").as_bytes()).unwrap();
        return;
    }
    let mut stage = Stage::set_with(&[(BROWSER, "1")]);
    hear(&mut stage.told, "up").unwrap();
    let ledger = fs::read_to_string(stage.run.join("ledger")).unwrap();
    let entry: serde_json::Value = serde_json::from_str(ledger.lines().nth(1).unwrap()).unwrap();
    let leader = Pid::from_raw(i32::try_from(entry["pid"].as_i64().unwrap()).unwrap());
    let in_group = |pid: &i32| nix::unistd::getpgid(Some(Pid::from_raw(*pid))) == Ok(leader);
    let needle = format!("WEFT_RUN={}/", stage.run.display());
    let marked = |pid: &i32| {
        let environment = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
        environment.windows(needle.len()).any(|window| window == needle.as_bytes())
    };
    let family: Vec<i32> = pids_saying("").into_iter().filter(|pid| in_group(pid) || marked(pid)).collect();
    assert!(family.iter().any(|pid| !in_group(pid)), "the crash handler has left the group: {family:?}");
    let handles: Vec<OwnedFd> = family.into_iter().map(open).collect();
    assert!(handles.len() > 4, "browser, zygotes, services and pages");
    stage.kill(Signal::SIGKILL);
    wait_for_end(&stage.guardian);
    handles.iter().for_each(wait_for_end);
    assert!(!stage.run.exists() && !stage.scratch.exists());
}
