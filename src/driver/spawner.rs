//! The one thread that starts processes, and the list of those it started.
//!
//! A child asks the kernel to be killed when its parent goes, as a second line of defence beside the guardian.
//! The kernel takes the thread that forked for the parent, not the process: started from a worker of the runtime, or
//! from a thread of its pool for blocking calls, a browser would die whenever that thread retires.
//! So every process of ours is started here, from a thread that ends with the program and not before.
//!
//! The guardian alone is not tied to us: it is there to outlive us.

use std::{
    io,
    process::ExitStatus,
    sync::{LazyLock, Mutex, MutexGuard, PoisonError, mpsc},
    thread,
};

use nix::{errno::Errno, sys::signal::kill, unistd::Pid};
use tokio::{
    process::{Child, Command},
    runtime::Handle,
};

use super::{descriptors, procs, sweep::Leader};

/// Whether a child outlives us.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Tie {
    /// Killed by the kernel when we are gone.
    Bound,
    Free,
}

/// The start time of a child that could not be looked at.
pub(super) const UNKNOWN: u64 = 0;

type Job = Box<dyn FnOnce() + Send>;

/// `None` when the system gave no thread; then every start fails and says so.
static THREAD: LazyLock<Option<mpsc::SyncSender<Job>>> = LazyLock::new(|| {
    // Whoever sends waits for the answer, so nothing queues beyond the callers themselves.
    let (jobs, inbox) = mpsc::sync_channel::<Job>(0);
    let work = move || inbox.into_iter().for_each(|job| job());
    thread::Builder::new().name("spawner".to_owned()).spawn(work).ok().map(|_| jobs)
});

/// Children that somebody here waits for. The lock is held over a whole start: between its fork and its entry a child
/// that ends at once would be taken for an adopted one, and reaped under its waiter's nose.
static STARTED: Mutex<Vec<Leader>> = Mutex::new(Vec::new());

/// Starts a process that its caller waits for through what comes back. It blocks for as long as the start takes.
pub(super) fn spawn(mut command: Command, tie: Tie) -> io::Result<Child> {
    prepare(command.as_std_mut(), tie);
    // The child's end is told to the runtime of the caller, which this thread knows nothing of.
    let runtime = Handle::current();
    started(move || {
        let _entered = runtime.enter();
        let child = command.spawn()?;
        Ok((child.id(), child))
    })
}

/// Runs a short command to its end.
pub(super) fn status(command: std::process::Command) -> io::Result<ExitStatus> {
    bound(command)?.wait()
}

/// Starts a process that ends with us, and that a thread of its caller's waits for.
pub(super) fn bound(mut command: std::process::Command) -> io::Result<std::process::Child> {
    prepare(&mut command, Tie::Bound);
    started(move || {
        let child = command.spawn()?;
        Ok((Some(child.id()), child))
    })
}

/// The children that have a waiter. While the guard is held, none is started.
pub(super) fn own() -> MutexGuard<'static, Vec<Leader>> {
    STARTED.lock().unwrap_or_else(PoisonError::into_inner)
}

fn started<T: Send + 'static>(
    start: impl FnOnce() -> io::Result<(Option<u32>, T)> + Send + 'static,
) -> io::Result<T> {
    let (reply, answer) = mpsc::sync_channel(1);
    let job = move || {
        let mut own = own();
        // Reaped ones go here: nobody else has to remember to take them out.
        // The question needs no descriptor, of which there may be none left.
        own.retain(|child| kill(Pid::from_raw(child.pid), None) != Err(Errno::ESRCH));
        let result = start().map(|(pid, child)| {
            let pid = pid.map_or(0, u32::cast_signed);
            own.push(Leader { pid, start: procs::read(pid).map_or(UNKNOWN, |now| now.start) });
            child
        });
        // The caller waits for it below.
        let _ = reply.send(result);
    };
    let gone = || io::Error::other("the thread that starts processes is gone");
    THREAD.as_ref().ok_or_else(gone)?.send(Box::new(job)).map_err(|_| gone())?;
    answer.recv().map_err(|_| gone())?
}

/// Settles what a child inherits, between its fork and its own program.
fn prepare(command: &mut std::process::Command, tie: Tie) {
    use std::os::unix::process::CommandExt as _;
    let parent = std::process::id().cast_signed();
    let files = descriptors::inherited();
    let settle = move || {
        if tie == Tie::Bound {
            bind(parent)?;
        }
        descriptors::restore(files);
        Ok(())
    };
    // SAFETY: between fork and exec only system calls are made; nothing allocates or takes a lock.
    unsafe { command.pre_exec(settle) };
}

#[cfg(target_os = "linux")]
fn bind(parent: i32) -> io::Result<()> {
    use rustix::process::{Signal, getppid, set_parent_process_death_signal};
    set_parent_process_death_signal(Some(Signal::KILL))?;
    // We may have gone before the kernel was asked; then nothing would ever kill it.
    match getppid().map(rustix::process::Pid::as_raw_pid) {
        Some(now) if now == parent => Ok(()),
        _ => Err(io::Error::from_raw_os_error(Errno::ESRCH as i32)),
    }
}

#[cfg(not(target_os = "linux"))]
fn bind(_parent: i32) -> io::Result<()> {
    Ok(())
}
