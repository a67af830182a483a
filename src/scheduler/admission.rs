//! How much may be pending at once: requests and their bytes.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use tokio::sync::watch;

use super::Request;
use crate::{
    domain::{Code, Failure, Retry},
    tasks::{Tasks, UnderWay},
};

#[derive(Clone, Copy, Debug)]
pub struct Limits {
    pub requests: usize,
    pub bytes: usize,
    /// What a lane's WASM heap, and what its GPU objects, may come to before its sessions make room.
    pub lane_memory: u64,
    /// A lane's Worker is recycled for its memory no sooner than this after it came up.
    pub recycle_after: Duration,
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
}

/// A request's share; given back on drop.
pub(super) struct Permit {
    pending: Arc<Pending>,
    bytes: usize,
    _under_way: UnderWay,
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.pending.requests.fetch_sub(1, Ordering::Relaxed);
        self.pending.bytes.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

impl Admission {
    pub(super) fn new(limits: watch::Receiver<Limits>, tasks: Tasks) -> Self {
        Self { limits, pending: Arc::default(), tasks }
    }

    pub(super) fn admit(&self, request: &Request) -> Result<Permit, Failure> {
        let under_way = self.tasks.accept().ok_or_else(|| super::overloaded(super::STOPPING))?;
        let bytes = request.inputs.iter().map(|tensor| tensor.body.len()).sum();
        let requests = self.pending.requests.fetch_add(1, Ordering::Relaxed) + 1;
        let held = self.pending.bytes.fetch_add(bytes, Ordering::Relaxed) + bytes;
        // From here on a refusal gives the share back.
        let permit = Permit { pending: self.pending.clone(), bytes, _under_way: under_way };
        let Limits { requests: most, bytes: most_bytes, .. } = *self.limits.borrow();
        if requests > most {
            let message = format!("{most} requests are pending, which is the limit");
            return Err(Failure::new(Code::Overloaded, Retry::Same, message));
        }
        if held > most_bytes {
            let message =
                format!("pending requests hold {} bytes of inputs, the limit is {most_bytes}", held - bytes);
            return Err(Failure::new(Code::Overloaded, Retry::Same, message));
        }
        Ok(permit)
    }

    pub(super) fn pending(&self) -> usize {
        self.pending.requests.load(Ordering::Relaxed)
    }
}
