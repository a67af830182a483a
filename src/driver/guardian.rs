//! The guardian: a second process of ours that ends what the daemon started, once the daemon is gone.
//!
//! It holds one end of a pipe that only the daemon writes to. However the daemon ends, the pipe closes,
//! and not before every child that it was just starting has begun its own program: until then that child
//! holds a copy of the pipe too. So nothing can appear after the sweep.

use std::{
    fs,
    io::{self, Read as _},
    path::{Path, PathBuf},
    process::Stdio,
    thread,
    time::Duration,
};

use nix::sys::signal::{SigSet, Signal};
use tokio::{
    io::AsyncReadExt as _,
    process::{Child, ChildStdin, Command},
    time::timeout,
};

use super::{
    ledger::{self, Account, LedgerError, RunDir},
    procs,
    spawner::{self, Tie},
    sweep::Leader,
};

/// The hidden argument under which the program becomes the guardian.
pub const ARGUMENT: &str = "guard";

/// What the guardian says once it has left the daemon's session.
const READY: u8 = b'1';

/// Starting our own program again takes milliseconds.
const READY_LIMIT: Duration = Duration::from_secs(10);

/// Longer than the guardian's own limit for ending processes.
const FINISH_LIMIT: Duration = Duration::from_secs(30);

/// What a terminal, a shell or a supervisor sends to a whole group or session.
const DEAF_TO: [Signal; 5] =
    [Signal::SIGHUP, Signal::SIGINT, Signal::SIGQUIT, Signal::SIGTERM, Signal::SIGPIPE];

/// A process that the daemon had just forked carries no mark before its exec, and nothing tells when that comes.
const BIRTH: Duration = Duration::from_millis(100);

#[derive(Debug, thiserror::Error)]
pub enum GuardianError {
    #[error("could not start the guardian: {source}")]
    Start { source: io::Error },
    #[error("{} is not the directory of a run", path.display())]
    NoRun { path: PathBuf },
    #[error("the guardian ended at once ({status}); its last words: {last_words}")]
    Lost { status: String, last_words: String },
    #[error("the guardian could not clean up ({status}); its last words: {last_words}")]
    Finish { status: String, last_words: String },
    #[error(transparent)]
    Sweep(#[from] LedgerError),
}

/// The daemon's hold on its guardian.
#[derive(Debug)]
pub struct Guardian {
    child: Child,
    /// Closing it is the signal.
    pipe: ChildStdin,
    log: PathBuf,
}

impl Guardian {
    /// Starts `program` again as the guardian of `run`; `program` is the daemon's own executable.
    pub async fn start(program: &Path, run: &RunDir) -> Result<Self, GuardianError> {
        let failed = |source| GuardianError::Start { source };
        let log = run.path().join("guardian.log");
        let mut command = Command::new(program);
        command
            .arg(ARGUMENT)
            .arg(run.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(fs::File::create(&log).map_err(failed)?);
        let mut child = spawner::spawn(command, Tie::Free).map_err(failed)?;
        let pipe = child.stdin.take().expect("stdin was piped above");
        let mut stdout = child.stdout.take().expect("stdout was piped above");
        if let Ok(Ok(READY)) = timeout(READY_LIMIT, stdout.read_u8()).await {
            return Ok(Self { child, pipe, log });
        }
        drop(pipe);
        // Its pipe is closed, so a guardian ends; a program that is none need not.
        let status = timeout(READY_LIMIT, child.wait()).await;
        let status = status.map_or_else(|_| "still running".to_owned(), |status| describe(&status));
        Err(GuardianError::Lost { status, last_words: last_words(&log) })
    }

    /// Resolves when the guardian has ended although the daemon lives: another is wanted then.
    pub async fn ended(&mut self) -> String {
        describe(&self.child.wait().await)
    }

    /// Lets the guardian sweep and remove the run directory; returns when it has.
    pub async fn finish(mut self) -> Result<(), GuardianError> {
        drop(self.pipe);
        let status = match timeout(FINISH_LIMIT, self.child.wait()).await {
            Ok(Ok(status)) if status.success() => return Ok(()),
            Ok(status) => describe(&status),
            Err(_) => "still running".to_owned(),
        };
        Err(GuardianError::Finish { status, last_words: last_words(&self.log) })
    }
}

fn describe(status: &io::Result<std::process::ExitStatus>) -> String {
    status.as_ref().map_or_else(ToString::to_string, ToString::to_string)
}

/// Whoever reports them removes the log's directory next.
fn last_words(log: &Path) -> String {
    let words = fs::read_to_string(log).unwrap_or_default();
    if words.trim().is_empty() { "none".to_owned() } else { words.trim().to_owned() }
}

/// Is the guardian: waits for the daemon's end and clears the run directory; answers how many were killed.
pub fn run(run_dir: &Path) -> Result<usize, GuardianError> {
    let failed = |source| GuardianError::Start { source };
    let begun = Account::read(run_dir);
    // We remove what we are given with all in it, so it must be a run beyond doubt.
    let named = run_dir.file_name().and_then(|name| parse_run_name(name.to_str()?));
    if named.is_none() || named != begun.daemon {
        return Err(GuardianError::NoRun { path: run_dir.to_owned() });
    }
    // Blocked for good, they reach nobody: there is one thread, and it never asks for them.
    let deaf: SigSet = DEAF_TO.into_iter().collect();
    deaf.thread_block().map_err(|error| failed(error.into()))?;
    nix::unistd::setsid().map_err(|error| failed(error.into()))?;
    close_inherited();
    // Held open, it can be read to its last line even if somebody removes it first.
    let ledger = fs::File::open(run_dir.join("ledger"));
    io::Write::write_all(&mut io::stdout(), &[READY]).map_err(failed)?;
    io::Write::flush(&mut io::stdout()).map_err(failed)?;
    // The daemon writes nothing; an error would mean the same as the end.
    let _ = io::stdin().read_to_end(&mut Vec::new());
    thread::sleep(BIRTH);
    let mut text = Vec::new();
    let read = ledger.and_then(|mut ledger| ledger.read_to_end(&mut text));
    let account = if read.is_ok() { Account::parse(&text, run_dir) } else { begun };
    Ok(ledger::clear(run_dir, account)?)
}

/// Lets go of what the daemon's own parent left open in it, so that nobody waits for us in vain.
fn close_inherited() {
    let Ok(entries) = fs::read_dir("/proc/self/fd") else { return };
    let numbers: Vec<i32> =
        entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect();
    for number in numbers.into_iter().filter(|number| *number > 2) {
        // The directory's own descriptor is in the list and closed already.
        let _ = nix::unistd::close(number);
    }
}

/// Clears the runs of this home whose daemon is gone, for a start after a crash of guardian or machine.
/// Answers how many processes were killed. It blocks.
pub fn sweep_stale(home: &Path) -> Result<usize, GuardianError> {
    let Ok(runs) = home.join("run").canonicalize() else { return Ok(0) };
    let mut killed = 0;
    for entry in fs::read_dir(&runs).into_iter().flatten().flatten() {
        let path = entry.path();
        let Some(daemon) = entry.file_name().to_str().and_then(parse_run_name) else {
            tracing::warn!(path = %path.display(), "no run of ours; left alone");
            continue;
        };
        let account = Account::read(&path);
        let lives = match account.daemon {
            Some(_) => account.daemon_lives(),
            // Its first line was never written: only the name tells.
            None => procs::read(daemon.pid).is_some_and(|now| now.start == daemon.start),
        };
        if !lives {
            killed += ledger::clear(&path, account)?;
            tracing::info!(path = %path.display(), killed, "cleared a run that had not ended well");
        }
    }
    Ok(killed)
}

fn parse_run_name(name: &str) -> Option<Leader> {
    let (pid, start) = name.split_once('-')?;
    Some(Leader { pid: pid.parse().ok()?, start: start.parse().ok()? })
}
