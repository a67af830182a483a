//! A request on its way: what has become of it so far, and what it is taken together with.

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::Span;

use super::{
    Answer, Reply, Request, Under, Wants, admission::Permit, choose::Case, latency::Expected, queue::Place,
    sequence::SequenceKey, step,
};
use crate::{
    backend::BackendError,
    domain::{Caller, Digest, DimBinding, Failure, LaneId, ModelName, Provenance, Retry, RunId},
    tasks,
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
    /// Whether it shares no step any more, since a shared one has failed.
    pub(super) alone: bool,
    /// Microseconds of lane time that its caller was charged ahead.
    pub(super) charged: f64,
    /// The sequence that waits for its end.
    pub(super) sequence: Option<SequenceKey>,
    /// Absent for a stage, which the request that it is part of was admitted for.
    _permit: Option<Permit>,
}

/// A stopping daemon drops what it holds; the caller is told all the same.
impl Drop for Pending {
    fn drop(&mut self) {
        self.answer(Err(super::stopping()));
    }
}

/// One attempt's identity.
pub(super) struct Attempt {
    pub(super) run: RunId,
    pub(super) provenance: Provenance,
    pub(super) span: Span,
}

impl Attempt {
    /// One attempt more, in the lane that this is about.
    pub(super) fn begin(pending: &mut Pending, lane: Provenance) -> Self {
        pending.attempts += 1;
        let mut provenance = Provenance { attempt: pending.attempts, ..lane };
        if let Under::Stage(plan) = &pending.request.under {
            plan.as_str().clone_into(&mut provenance.plan);
        }
        let run = step::run_id();
        let span = pending.request.trace.step(&run, &provenance);
        Self { run, provenance, span }
    }
}

/// What an attempt was charged to its caller ahead, in microseconds of lane time.
pub(super) struct Charge {
    pub(super) caller: Caller,
    pub(super) micros: f64,
}

/// What every lane looks at: requests of one lot may run in the same lanes, and in one step if their inputs allow.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Lot {
    model: Digest,
    /// Two names of one file may have limits of their own.
    name: ModelName,
    outputs: Vec<String>,
    alone: bool,
    sequence: Option<SequenceKey>,
    binding: DimBinding,
    wants: Wants,
    excluded: Vec<LaneId>,
}

impl SequenceKey {
    /// The sequence that a request belongs to, if any.
    pub(super) fn of(request: &Request) -> Option<Self> {
        let plan = match &request.under {
            Under::Single => None,
            Under::Plan(planned) => Some(planned.id.clone()),
            Under::Stage(plan) => Some(plan.clone()),
        };
        let model = &request.entry.model;
        request.sequence.as_ref().map(|sequence| Self {
            caller: request.caller.id.clone(),
            model: model.name.clone(),
            version: model.digest,
            plan,
            id: sequence.id.clone(),
        })
    }
}

impl Pending {
    pub(super) fn new(
        request: Request,
        reply: Reply,
        cancelled: CancellationToken,
        permit: Option<Permit>,
    ) -> Self {
        let sequence = SequenceKey::of(&request);
        Self {
            request,
            reply: Some(reply),
            cancelled,
            attempts: 0,
            excluded: Vec::new(),
            failed: None,
            alone: false,
            charged: 0.0,
            sequence,
            _permit: permit,
        }
    }

    /// Tells its caller and counts that, once; says whether there was still somebody to tell.
    pub(super) fn answer(&mut self, result: Result<Answer, Failure>) -> bool {
        let Some(reply) = self.reply.take() else { return false };
        let Request { entry, accepted, .. } = &self.request;
        match &result {
            Ok(answer) => entry.served.succeeded(answer.timing, tasks::now_us()),
            Err(_) => entry.served.failed(accepted.at.elapsed(), tasks::now_us()),
        }
        reply(result);
        true
    }

    /// Keeps away from a lane that it failed in alone; one that is gone, or has lost a session, is no worse for it.
    pub(super) fn shun(&mut self, lane: &LaneId, error: &BackendError) {
        let its_own = !matches!(error, BackendError::Lost { .. } | BackendError::NotLoaded { .. });
        if its_own && error.retry() == Retry::Elsewhere {
            self.excluded.push(lane.clone());
        }
    }

    pub(super) fn may_retry(&self, error: &BackendError) -> bool {
        error.retry() != Retry::Never && self.may_go_on()
    }

    /// Whether there is still an attempt left, and somebody who waits for it.
    pub(super) fn may_go_on(&self) -> bool {
        self.attempts < ATTEMPTS_MAX
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
            name: self.request.entry.model.name.clone(),
            outputs: self.request.outputs.clone(),
            alone: self.alone,
            sequence: self.sequence.clone(),
            binding: self.request.binding.clone(),
            wants: self.request.wants.clone(),
            excluded: self.excluded.clone(),
        }
    }

    pub(super) fn case<'a>(
        &'a self,
        tied: Option<&'a LaneId>,
        expected: Expected<'a>,
        now: Instant,
    ) -> Case<'a> {
        Case {
            model: self.request.entry.model.digest,
            binding: &self.request.binding,
            wants: &self.request.wants,
            tied,
            excluded: &self.excluded,
            failed: self.failed.as_ref(),
            expected,
            now,
        }
    }
}
