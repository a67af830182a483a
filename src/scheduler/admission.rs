//! How much may be pending at once: requests, those of one caller, and bytes. Asked before anything is parsed.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, MutexGuard,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use tokio::sync::watch;

use crate::{
    domain::{Caller, Code, Failure, Retry},
    tasks::{Tasks, UnderWay},
};

#[derive(Clone, Copy, Debug)]
pub struct Limits {
    pub requests: usize,
    /// Of one caller.
    pub caller_requests: usize,
    pub bytes: usize,
    /// What a lane's WASM heap, and what its GPU objects, may come to before its sessions make room.
    pub lane_memory: u64,
    /// A lane's Worker is recycled for its memory no sooner than this after it came up.
    pub recycle_after: Duration,
    /// How long a queued request stays in a class before it moves up.
    pub age_step: Duration,
}

#[derive(Clone)]
pub(super) struct Admission {
    limits: watch::Receiver<Limits>,
    pending: Arc<Pending>,
    tasks: Tasks,
}

#[derive(Default)]
struct Pending {
    requests: AtomicUsize,
    bytes: AtomicUsize,
    /// Only who has some.
    callers: Mutex<BTreeMap<Arc<str>, usize>>,
}

impl Pending {
    fn callers(&self) -> MutexGuard<'_, BTreeMap<Arc<str>, usize>> {
        self.callers.lock().expect("no holder of the callers' counts panics")
    }

    /// Counts one more of this caller's; answers how many that makes.
    fn count(&self, caller: &Arc<str>) -> usize {
        let mut callers = self.callers();
        match callers.get_mut(caller) {
            Some(count) => {
                *count += 1;
                *count
            }
            None => {
                callers.insert(caller.clone(), 1);
                1
            }
        }
    }

    fn discount(&self, caller: &Arc<str>) {
        let mut callers = self.callers();
        if let Some(count) = callers.get_mut(caller) {
            *count -= 1;
            if *count == 0 {
                callers.remove(caller);
            }
        }
    }
}

/// A request's share of what may be pending; given back on drop.
pub struct Permit {
    pending: Arc<Pending>,
    caller: Arc<str>,
    bytes: usize,
    most_bytes: usize,
    _under_way: UnderWay,
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.pending.requests.fetch_sub(1, Ordering::Relaxed);
        self.pending.bytes.fetch_sub(self.bytes, Ordering::Relaxed);
        self.pending.discount(&self.caller);
    }
}

impl Permit {
    /// Holds as many bytes as the parsed inputs have, in place of what their message had.
    pub(super) fn hold(&mut self, bytes: usize) -> Result<(), Failure> {
        let more = bytes.saturating_sub(self.bytes);
        let held = self.pending.bytes.fetch_add(more, Ordering::Relaxed) + more;
        self.pending.bytes.fetch_sub(self.bytes.saturating_sub(bytes), Ordering::Relaxed);
        self.bytes = bytes;
        if more > 0 && held > self.most_bytes {
            return Err(too_many_bytes(held - more, self.most_bytes));
        }
        Ok(())
    }
}

impl Admission {
    pub(super) fn new(limits: watch::Receiver<Limits>, tasks: Tasks) -> Self {
        Self { limits, pending: Arc::default(), tasks }
    }

    pub(super) fn admit(&self, caller: &Caller, bytes: usize) -> Result<Permit, Failure> {
        let under_way = self.tasks.accept().ok_or_else(|| super::overloaded(super::STOPPING))?;
        let Limits { requests: most, caller_requests, bytes: most_bytes, .. } = *self.limits.borrow();
        let requests = self.pending.requests.fetch_add(1, Ordering::Relaxed) + 1;
        let held = self.pending.bytes.fetch_add(bytes, Ordering::Relaxed) + bytes;
        let own = self.pending.count(&caller.id);
        // From here on a refusal gives the share back.
        let (pending, caller) = (self.pending.clone(), caller.id.clone());
        let permit = Permit { pending, caller, bytes, most_bytes, _under_way: under_way };
        // Nobody's own limit is to blame where the daemon is full.
        if requests > most {
            return Err(super::overloaded(&format!("{most} requests are pending, which is the limit")));
        }
        if own > caller_requests {
            let message =
                format!("{caller_requests} requests of this caller are pending, which is its limit");
            return Err(Failure::new(Code::RateLimited, Retry::Same, message));
        }
        if held > most_bytes {
            return Err(too_many_bytes(held - bytes, most_bytes));
        }
        Ok(permit)
    }

    pub(super) fn pending(&self) -> usize {
        self.pending.requests.load(Ordering::Relaxed)
    }
}

fn too_many_bytes(held: usize, most: usize) -> Failure {
    super::overloaded(&format!("pending requests hold {held} bytes of inputs, the limit is {most}"))
}
