//! The only place that spawns tasks: every task has a name, and all of them end before the daemon does.

use std::{
    future::Future,
    io, thread,
    time::{SystemTime, UNIX_EPOCH},
};

use tokio::sync::oneshot;
use tokio_util::{
    sync::CancellationToken,
    task::{TaskTracker, task_tracker::TaskTrackerToken},
};

/// The wall clock, in microseconds since the Unix epoch.
pub fn now_us() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| i64::try_from(since.as_micros()).unwrap_or(i64::MAX))
}

/// Computes on a thread of its own that every other thread of the machine goes before, where the system has such a kind.
///
/// What computes for milliseconds would keep a request waiting for that long, even with a lower priority: Linux lets a
/// running thread finish its slice unless it is of this kind.
pub async fn aside<T: Send + 'static>(
    name: &str,
    work: impl FnOnce() -> T + Send + 'static,
) -> io::Result<T> {
    let (done, result) = oneshot::channel();
    thread::Builder::new().name(name.to_owned()).spawn(move || {
        go_last();
        // Whoever asked may have ended.
        let _ = done.send(work());
    })?;
    result.await.map_err(|_| io::Error::other(format!("the thread {name} panicked")))
}

#[cfg(target_os = "linux")]
fn go_last() {
    let unused = nix::libc::sched_param { sched_priority: 0 };
    // SAFETY: reads the parameter it is given, and 0 is the calling thread.
    // A sandbox may forbid it, and nothing but time is lost then.
    let _ = unsafe { nix::libc::sched_setscheduler(0, nix::libc::SCHED_IDLE, &raw const unused) };
}

#[cfg(not(target_os = "linux"))]
fn go_last() {}

/// Tracks the daemon's tasks. Clones share the tracker.
#[derive(Clone, Debug, Default)]
pub struct Tasks {
    tracker: TaskTracker,
    stop: CancellationToken,
    hurry: CancellationToken,
    /// What was accepted and has not been answered.
    accepted: TaskTracker,
}

/// Something accepted: a stopping daemon waits for its drop.
#[derive(Debug)]
pub struct UnderWay {
    _token: TaskTrackerToken,
}

impl Tasks {
    pub fn new() -> Self {
        Self::default()
    }

    /// Starts a task that ends by itself or when [`Tasks::stop`] says so.
    pub fn spawn<F>(&self, name: &'static str, future: F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        self.tracker.spawn(async move {
            future.await;
            tracing::trace!(task = name, "ended");
        });
    }

    /// Cancelled when the daemon stops.
    pub fn stopping(&self) -> CancellationToken {
        self.stop.child_token()
    }

    /// Accepts one thing more; `None` once the daemon is draining.
    pub fn accept(&self) -> Option<UnderWay> {
        // Counted before the look, so that whoever closes waits for it or it sees the closing.
        let under_way = UnderWay { _token: self.accepted.token() };
        (!self.draining()).then_some(under_way)
    }

    /// Whether nothing more is accepted.
    pub fn draining(&self) -> bool {
        self.accepted.is_closed()
    }

    /// Accepts nothing more; resolves when all that was accepted has been answered.
    pub async fn drain(&self) {
        self.accepted.close();
        self.accepted.wait().await;
    }

    /// How much is accepted and not answered.
    pub fn under_way(&self) -> usize {
        self.accepted.len()
    }

    /// Cancelled when the end may wait for nobody's manners.
    pub fn hurrying(&self) -> CancellationToken {
        self.hurry.clone()
    }

    /// Tells every task to end and waits until all have.
    pub async fn stop(&self) {
        self.stop.cancel();
        self.tracker.close();
        self.tracker.wait().await;
    }
}
