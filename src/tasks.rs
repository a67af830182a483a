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

/// Computes on a thread of its own, in [short turns](take_short_turns).
pub async fn aside<T: Send + 'static>(
    name: &str,
    work: impl FnOnce() -> T + Send + 'static,
) -> io::Result<T> {
    let (done, result) = oneshot::channel();
    thread::Builder::new().name(name.to_owned()).spawn(move || {
        take_short_turns(0);
        // Whoever asked may have ended.
        let _ = done.send(work());
    })?;
    result.await.map_err(|_| io::Error::other(format!("the thread {name} panicked")))
}

/// Has the calling thread run for a tenth of a millisecond at a time, with this claim to a core.
///
/// What computes for milliseconds would keep a request waiting for that long, even with a lower priority: Linux lets a
/// running thread finish its slice. A thread that only idle cores run would keep whomever it holds a lock of waiting
/// without end: a walk through a browser's page tables holds the lock of the browser's memory.
#[cfg(target_os = "linux")]
pub fn take_short_turns(niceness: i32) {
    // SAFETY: all of it are numbers.
    let mut order: nix::libc::sched_attr = unsafe { std::mem::zeroed() };
    order.size = u32::try_from(size_of_val(&order)).expect("a few words");
    order.sched_policy = nix::libc::SCHED_OTHER.cast_unsigned();
    order.sched_nice = niceness;
    // The least that Linux takes; before 6.12 it takes none and has one length for all.
    order.sched_runtime = 100_000;
    // SAFETY: reads what it is given; 0 is the calling thread.
    // A sandbox may forbid it, and nothing but time is lost then.
    let _ = unsafe { nix::libc::syscall(nix::libc::SYS_sched_setattr, 0, &raw const order, 0) };
}

#[cfg(not(target_os = "linux"))]
pub fn take_short_turns(_niceness: i32) {}

/// Tracks the daemon's tasks. Clones share the tracker.
#[derive(Clone, Debug, Default)]
pub struct Tasks {
    tracker: TaskTracker,
    stop: CancellationToken,
    hurry: CancellationToken,
    /// What was accepted and has not been answered.
    accepted: TaskTracker,
    end: CancellationToken,
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

    /// Cancelled when nothing more is accepted, for what the daemon does by itself.
    pub fn ending(&self) -> CancellationToken {
        self.end.child_token()
    }

    /// Accepts nothing more; resolves when all that was accepted has been answered.
    pub async fn drain(&self) {
        self.accepted.close();
        self.end.cancel();
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
        self.end.cancel();
        self.stop.cancel();
        self.tracker.close();
        self.tracker.wait().await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A thread that only idle cores run may hold the lock of a browser's memory for as long as others compute.
    #[cfg(target_os = "linux")]
    #[tokio::test]
    async fn what_computes_aside_waits_for_no_idle_core() {
        let policy = aside("sample", || {
            // SAFETY: 0 is the calling thread.
            unsafe { nix::libc::sched_getscheduler(0) }
        });
        assert_eq!(policy.await.unwrap(), nix::libc::SCHED_OTHER);
    }
}
