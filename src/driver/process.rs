//! Starts and ends processes: each in its own group, with its own folders, its stderr kept, its end observed.
//!
//! A process belongs to a task that outlives its handle: dropping the handle ends the process just the same.
//! The task reaps the process last, so that its id and its group's stay ours until everything in it is dead.

use std::{ffi::OsString, path::Path, process::Stdio, sync::Arc, time::Duration};

use nix::{
    sys::signal::{Signal, killpg},
    unistd::Pid,
};
use tokio::{
    process::{Child, Command},
    sync::{oneshot, watch},
    time::timeout,
};
use tokio_util::sync::{CancellationToken, DropGuard};

use super::{
    DriverError,
    ledger::{Folders, RunDir},
    procs,
    spawner::{self, Tie},
    sweep::{self, Claim, Leader},
    tail::{self, Tail},
};
use crate::tasks::Tasks;

/// Chromium obeys SIGTERM within 0.1 s; one that is stopped or stuck never does.
const TERM_GRACE: Duration = Duration::from_secs(2);

/// A killed process is gone within milliseconds, unless the kernel holds it.
const KILL_LIMIT: Duration = Duration::from_secs(5);

/// With every writer dead the pipe is at its end; one that escaped may not hold us up.
const DRAIN_LIMIT: Duration = Duration::from_millis(500);

/// What to start.
pub(super) struct Order<'a> {
    pub(super) program: &'a Path,
    pub(super) args: Vec<OsString>,
    /// Such as keep the product's other files below its own folder too.
    pub(super) variables: Vec<(&'static str, OsString)>,
    pub(super) folders: Folders,
    /// How the line on stderr begins that tells the process is ready to be spoken to.
    pub(super) announcement: &'static str,
    /// Lines with this in them are not worth keeping.
    pub(super) noise: &'static str,
}

/// A running process. Clones of its [`Watch`] may outlive it.
pub(super) struct Process {
    pid: i32,
    watch: Watch,
    end: DropGuard,
}

/// What can be seen of a process.
#[derive(Clone)]
pub(super) struct Watch {
    program: String,
    seen: watch::Receiver<Seen>,
}

#[derive(Default)]
struct Seen {
    tail: Tail,
    /// How it ended.
    status: Option<String>,
    /// Nothing of it is left, on disk either.
    gone: bool,
}

impl Process {
    pub(super) fn spawn(tasks: &Tasks, run: &Arc<RunDir>, order: Order<'_>) -> Result<Self, DriverError> {
        let program = order.program.display().to_string();
        let refused = |source| DriverError::Spawn { program: program.clone(), source };
        let mut command = Command::new(order.program);
        command
            .args(&order.args)
            .env(procs::MARKER, &order.folders.own)
            .env("TMPDIR", &order.folders.scratch)
            .envs(order.variables.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .process_group(0);
        let mut child = spawner::spawn(command, Tie::Bound).map_err(|error| {
            order.folders.abandon();
            refused(error)
        })?;
        let pid = child.id().expect("nobody has waited for the child yet").cast_signed();
        let leader = Leader { pid, start: procs::read(pid).map_or(0, |own| own.start) };
        let entered = run.enter(&order.folders, leader);

        let (told, seen) = watch::channel(Seen::default());
        let told = Arc::new(told);
        let (mut drained, drain) = oneshot::channel();
        let stderr = child.stderr.take().expect("stderr was piped above");
        let hear = Arc::clone(&told);
        tasks.spawn("stderr", async move {
            let keep = |line: String| {
                if !line.contains(order.noise) {
                    hear.send_modify(|seen| seen.tail.push(line, order.announcement));
                }
            };
            tokio::select! {
                () = tail::read_lines(stderr, keep) => {}
                // One that escaped may hold the pipe open for ever, and nobody reads it any more.
                () = drained.closed() => {}
            }
        });

        let end = CancellationToken::new();
        let keeper = Keeper {
            child,
            leader,
            folders: order.folders,
            told,
            drain,
            end: end.clone(),
            tasks: tasks.clone(),
        };
        tasks.spawn("process", keeper.keep());
        let process = Self { pid, watch: Watch { program: program.clone(), seen }, end: end.drop_guard() };
        // Without its entry it must not run: dropping the handle ends it.
        let ledger = entered.map_err(|error| refused(std::io::Error::other(error)))?;
        tasks.spawn("ledger", async move {
            if let Err(error) = tokio::fs::File::from_std(ledger).sync_data().await {
                tracing::warn!(%error, "the ledger may not survive a crash of the machine");
            }
        });
        Ok(process)
    }

    pub(super) fn pid(&self) -> i32 {
        self.pid
    }

    pub(super) fn watch(&self) -> &Watch {
        &self.watch
    }

    /// Ends the process, its group and whatever left the group; returns when all is gone.
    pub(super) async fn end(self) {
        let Self { watch: Watch { mut seen, .. }, end, .. } = self;
        drop(end);
        // An error means that its task is over, as does `gone`.
        let _ = seen.wait_for(|seen| seen.gone).await;
    }
}

impl Watch {
    pub(super) fn program(&self) -> &str {
        &self.program
    }

    /// The announcement, or `None` when the process ended without one.
    pub(super) async fn announced(&self) -> Option<String> {
        let mut seen = self.seen.clone();
        let seen = seen.wait_for(|seen| seen.tail.announced.is_some() || seen.status.is_some()).await.ok()?;
        seen.tail.announced.clone()
    }

    /// Resolves with the way it ended.
    pub(super) async fn ended(&self) -> String {
        let mut seen = self.seen.clone();
        let seen = seen.wait_for(|seen| seen.status.is_some()).await;
        seen.ok().and_then(|seen| seen.status.clone()).unwrap_or_else(|| "unknown".to_owned())
    }

    /// What the first of its last lines says that says anything to `read`; `None` when it ended without one.
    pub(super) async fn said<T>(&self, read: impl Fn(&str) -> Option<T>) -> Option<T> {
        let mut seen = self.seen.clone();
        let find = |seen: &Seen| seen.tail.lines().find_map(&read);
        let seen = seen.wait_for(|seen| find(seen).is_some() || seen.status.is_some()).await.ok()?;
        find(&seen)
    }

    /// How it ended, as far as is known at this moment.
    pub(super) fn status(&self) -> String {
        self.seen.borrow().status.clone().unwrap_or_else(|| "unknown".to_owned())
    }

    pub(super) fn last_lines(&self) -> String {
        self.seen.borrow().tail.quote()
    }
}

/// The task that owns a child.
struct Keeper {
    child: Child,
    leader: Leader,
    folders: Folders,
    told: Arc<watch::Sender<Seen>>,
    drain: oneshot::Receiver<()>,
    end: CancellationToken,
    tasks: Tasks,
}

impl Keeper {
    async fn keep(mut self) {
        let stopping = self.tasks.stopping();
        let asked = tokio::select! {
            () = ended(&mut self.child) => false,
            () = self.end.cancelled() => true,
            () = stopping.cancelled() => true,
        };
        if asked {
            self.request().await;
        }
        self.strike(Signal::SIGKILL);
        self.sweep().await;
        let status = match timeout(KILL_LIMIT, self.child.wait()).await {
            Ok(Ok(status)) => status.to_string(),
            Ok(Err(error)) => format!("unknown: {error}"),
            Err(_) => "still held by the kernel".to_owned(),
        };
        let _ = timeout(DRAIN_LIMIT, &mut self.drain).await;
        self.told.send_modify(|seen| seen.status = Some(status));
        let folders = self.folders;
        let removed = tokio::task::spawn_blocking(move || folders.abandon()).await;
        removed.expect("removing folders does not panic");
        self.told.send_modify(|seen| seen.gone = true);
    }

    /// Asks it to end and gives it time for that, unless there is none.
    async fn request(&mut self) {
        let hurrying = self.tasks.hurrying();
        if hurrying.is_cancelled() {
            return;
        }
        self.strike(Signal::SIGTERM);
        tokio::select! {
            // Whether it obeyed does not matter: what is left is killed.
            _ = timeout(TERM_GRACE, ended(&mut self.child)) => {}
            () = hurrying.cancelled() => {}
        }
    }

    /// Signals the whole group, while the unreaped child keeps the group's number ours.
    fn strike(&self, signal: Signal) {
        if self.child.id().is_some() {
            // The only failure left is that nobody in the group can be signalled any more.
            let _ = killpg(Pid::from_raw(self.leader.pid), signal);
        }
    }

    async fn sweep(&self) {
        let (folder, leader) = (self.folders.own.clone(), self.leader);
        let swept =
            tokio::task::spawn_blocking(move || sweep::sweep(Claim { folder: &folder, leaders: &[leader] }));
        if let Err(pids) = swept.await.expect("a sweep does not panic") {
            tracing::error!(name = self.folders.name, ?pids, "processes would not end");
        }
    }
}

/// Resolves when the child has ended, without reaping it.
async fn ended(child: &mut Child) {
    #[cfg(target_os = "linux")]
    if let Some(handle) = exit_handle(child) {
        // A descriptor of a process becomes readable once, when it ends.
        let _ = handle.readable().await;
        return;
    }
    // Reaped here, it is signalled no more: `strike` looks at the id that is then gone.
    let _ = child.wait().await;
}

#[cfg(target_os = "linux")]
fn exit_handle(child: &Child) -> Option<tokio::io::unix::AsyncFd<std::os::fd::OwnedFd>> {
    use rustix::process::{Pid, PidfdFlags, pidfd_open};
    use tokio::io::unix::AsyncFd;
    let pid = Pid::from_raw(child.id()?.cast_signed())?;
    let handle = pidfd_open(pid, PidfdFlags::empty()).ok()?;
    // SAFETY: the descriptor is open and owned by the `AsyncFd` from here on, which closes it last.
    unsafe { AsyncFd::register_with_interest(handle, tokio::io::Interest::READABLE) }.ok()
}

/// Whether a command ends well; `None` when there is no such command.
pub(super) fn succeeds(program: &str, args: &[&str]) -> Option<bool> {
    let null = Stdio::null;
    let mut command = std::process::Command::new(program);
    command.args(args).stdin(null()).stdout(null()).stderr(null());
    spawner::status(command).ok().map(|status| status.success())
}
