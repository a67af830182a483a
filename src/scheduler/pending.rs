//! A request on its way: what has become of it so far, and what it is taken together with.

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::Span;

use super::{Reply, Request, Wants, admission::Permit, choose::Case, latency::KindMeans, queue::Place, step};
use crate::{
    backend::{BackendError, SessionName},
    domain::{Caller, Digest, DimBinding, Failure, LaneId, Provenance, Retry, RunId},
};

/// Runs per request: the first, and one more on each of two other lanes.
const ATTEMPTS_MAX: u32 = 3;

pub(super) struct Pending {
    pub(super) request: Request,
    /// Taken when the caller is answered.
    pub(super) reply: Option<Reply>,
    pub(super) cancelled: CancellationToken,
    pub(super) attempts: u32,
    /// Lanes that an attempt failed on.
    pub(super) excluded: Vec<LaneId>,
    pub(super) failed: Option<Failure>,
    _permit: Permit,
}

/// A stopping daemon drops what it holds; the caller is told all the same.
impl Drop for Pending {
    fn drop(&mut self) {
        if let Some(reply) = self.reply.take() {
            reply(Err(super::overloaded(super::STOPPING)));
        }
    }
}

/// One attempt's identity.
pub(super) struct Attempt {
    pub(super) run: RunId,
    pub(super) session: SessionName,
    pub(super) provenance: Provenance,
    pub(super) span: Span,
}

/// What an attempt was charged to its caller ahead, in microseconds of lane time.
pub(super) struct Charge {
    pub(super) caller: Caller,
    pub(super) micros: f64,
}

/// What every lane looks at: requests of one lot may run in the same lanes.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Lot {
    model: Digest,
    binding: DimBinding,
    wants: Wants,
    excluded: Vec<LaneId>,
}

impl Pending {
    pub(super) fn new(request: Request, reply: Reply, cancelled: CancellationToken, permit: Permit) -> Self {
        let (attempts, excluded, failed) = (0, Vec::new(), None);
        Self { request, reply: Some(reply), cancelled, attempts, excluded, failed, _permit: permit }
    }

    pub(super) fn may_retry(&self, error: &BackendError) -> bool {
        error.retry() != Retry::Never
            && self.attempts < ATTEMPTS_MAX
            && !self.cancelled.is_cancelled()
            && Instant::now() < self.request.deadline
    }

    /// Why it is not to be started any more.
    pub(super) fn over(&self, now: Instant) -> Option<Failure> {
        if self.cancelled.is_cancelled() {
            return Some(step::cancelled());
        }
        (self.request.deadline <= now).then(|| {
            let mut failure = step::deadline_exceeded("in the queue");
            if let Some(earlier) = &self.failed {
                failure.message = format!("{}; before that: {earlier}", failure.message);
            }
            failure
        })
    }

    pub(super) fn place(&self) -> Place {
        Place {
            caller: self.request.caller.clone(),
            priority: self.request.priority,
            again: self.attempts > 0,
            arrived: self.request.accepted.at,
            deadline: self.request.deadline,
        }
    }

    pub(super) fn lot(&self) -> Lot {
        Lot {
            model: self.request.entry.model.digest,
            binding: self.request.binding.clone(),
            wants: self.request.wants.clone(),
            excluded: self.excluded.clone(),
        }
    }

    pub(super) fn case<'a>(&'a self, kinds: &'a KindMeans, now: Instant) -> Case<'a> {
        Case {
            model: self.request.entry.model.digest,
            binding: &self.request.binding,
            wants: &self.request.wants,
            excluded: &self.excluded,
            failed: self.failed.as_ref(),
            kinds,
            now,
        }
    }
}
