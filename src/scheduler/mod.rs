//! Admits requests, queues them, gives each to a lane that is proven for its model, retries, and answers once.
//!
//! - `http` submits requests and may cancel them; each is answered exactly once, through its [`Reply`].
//! - `pool` tells which lanes come and go.
//! - A preparation task per lane and session loads the model and asks the gate, off the request path.
//! - A step task per attempt waits for the lane, answers the caller, and writes the run's row.
//!
//! One actor holds the queue and the lanes. It never computes, touches a tensor, or waits for anything but its inbox
//! and the next deadline.

mod actor;
mod admission;
mod batch;
mod choose;
mod hedge;
mod lane;
mod latency;
mod pending;
mod prepare;
mod proofs;
mod queue;
mod race;
mod relief;
mod residence;
mod sequence;
mod shares;
mod spares;
mod staged;
mod step;

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use tokio::{
    sync::{mpsc, oneshot, watch},
    time::Instant,
};
use tokio_util::sync::CancellationToken;

use crate::{
    domain::{
        BackendKind, Caller, Code, Digest, DimBinding, Failure, InstanceId, LaneId, LeaseId, ModelName,
        PlanId, Policy, Provenance, RequestId, Retry, RunId, Sequence, Spares, Tensor, Timing,
    },
    models::{Entry, Loader},
    pool::PoolEvent,
    tasks::{self, Tasks},
    telemetry::Trace,
};
use actor::{Actor, Message};
use admission::Admission;
use pending::Pending;
use staged::Flows;

pub use admission::{Limits, Permit};
pub use lane::{LaneLoad, Pace};
pub use latency::RecipePriors;
pub use proofs::Judged;
pub use queue::{PRIORITY_DEFAULT, PRIORITY_LAST};
pub use residence::{Residence, Seat, Stay};
pub use staged::{Planned, Seated};
pub use step::Ledger;

/// Messages that wait for the actor; admission bounds the requests among them.
const INBOX: usize = 4096;

/// Why a daemon that drains or stops takes nothing more.
pub const STOPPING: &str = "the daemon is stopping";

/// What a caller asks.
pub struct Request {
    pub entry: Arc<Entry>,
    pub inputs: Vec<Tensor>,
    /// Names of the wanted outputs; empty for all.
    pub outputs: Vec<String>,
    /// What the inputs made of the signature's symbolic dimensions.
    pub binding: DimBinding,
    pub wants: Wants,
    /// 1 is served first; 0 stands for [`PRIORITY_DEFAULT`], and what is over [`PRIORITY_LAST`] for that.
    pub priority: u32,
    pub caller: Caller,
    pub accepted: Accepted,
    pub deadline: Instant,
    pub trace: Trace,
    pub sequence: Option<Sequence>,
    pub under: Under,
}

/// Under which plan a request runs.
#[derive(Default)]
pub enum Under {
    /// None: the whole model in one lane.
    #[default]
    Single,
    Plan(Arc<Planned>),
    /// It is a stage of another request, which has this plan.
    Stage(PlanId),
}

#[derive(Clone, Copy, Debug)]
pub struct Accepted {
    pub at: Instant,
    /// Microseconds since the Unix epoch.
    pub at_us: i64,
}

impl Accepted {
    pub fn now() -> Self {
        Self { at: Instant::now(), at_us: tasks::now_us() }
    }
}

/// Which lanes a caller accepts.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Wants {
    /// Which of the lanes is preferred.
    pub policy: Policy,
    /// Empty for any.
    pub backends: Vec<BackendKind>,
    /// Recipe names; empty for any.
    pub browsers: Vec<String>,
    /// The only lanes that are wanted; empty for any.
    pub lanes: Vec<LaneId>,
    /// Whether another lane of a browser may answer when no wanted one can.
    pub stand_in: bool,
    /// Whether a native lane may answer when no other can.
    pub native_fallback: bool,
    /// Refuse sessions whose nodes are spread over several execution providers.
    pub strict: bool,
    /// Only the instance that the caller has to itself.
    pub lease: Option<LeaseId>,
}

impl Wants {
    /// Whether the caller left the choice to us.
    pub fn any(&self) -> bool {
        self.backends.is_empty() && self.browsers.is_empty() && self.lanes.is_empty() && self.lease.is_none()
    }

    /// Whether these restrictions leave in a lane of this instance, browser and backend.
    fn leaves_in(&self, instance: &InstanceId, browser: &String, backend: &BackendKind) -> bool {
        (self.backends.is_empty() || self.backends.contains(backend))
            && (self.browsers.is_empty() || self.browsers.contains(browser))
            && (self.lanes.is_empty() || self.lanes.contains(&LaneId::of(instance, backend)))
    }

    fn describe(&self) -> String {
        if !self.lanes.is_empty() {
            return self.lanes.iter().map(LaneId::as_str).collect::<Vec<_>>().join(" or ");
        }
        let backends: Vec<_> = self.backends.iter().map(ToString::to_string).collect();
        match (backends.is_empty(), self.browsers.is_empty()) {
            (true, true) if self.policy == Policy::BrowserFirst => "a browser".to_owned(),
            (true, true) => "any backend".to_owned(),
            (false, true) => backends.join(" or "),
            (true, false) => self.browsers.join(" or "),
            (false, false) => format!("{} in {}", backends.join(" or "), self.browsers.join(" or ")),
        }
    }
}

pub struct Answer {
    pub run: RunId,
    pub request: RequestId,
    pub outputs: Vec<Tensor>,
    pub provenance: Provenance,
    pub timing: Timing,
}

/// Called exactly once.
pub type Reply = Box<dyn FnOnce(Result<Answer, Failure>) + Send>;

/// The scheduler's handle. Clones share the actor.
#[derive(Clone)]
pub struct Scheduler {
    inbox: mpsc::Sender<Message>,
    sweep: Arc<AtomicBool>,
    admission: Admission,
    backlog: Arc<AtomicUsize>,
    ledger: Ledger,
    tasks: Tasks,
    flows: Flows,
}

/// A submitted request, for cancelling it.
#[derive(Clone)]
pub struct Submitted {
    cancelled: CancellationToken,
    inbox: mpsc::Sender<Message>,
    sweep: Arc<AtomicBool>,
}

impl Submitted {
    /// Answers the caller with `cancelled`, unless it has been answered.
    pub fn cancel(&self) {
        self.cancelled.cancel();
        self.sweep.store(true, Ordering::Release);
        // The message only wakes the actor, which a full inbox does as well.
        let _ = self.inbox.try_send(Message::Sweep);
    }
}

impl Scheduler {
    pub fn start(
        limits: watch::Receiver<Limits>,
        loader: Arc<Loader>,
        ledger: Ledger,
        priors: RecipePriors,
        lanes: mpsc::Receiver<PoolEvent>,
        backlog: Arc<AtomicUsize>,
        tasks: &Tasks,
    ) -> Self {
        let (inbox, messages) = mpsc::channel(INBOX);
        let sweep = Arc::new(AtomicBool::new(false));
        let mailbox = (inbox.clone(), sweep.clone());
        let priors = Arc::new(priors);
        let (own, backlog_told) = (ledger.clone(), backlog.clone());
        let actor = Actor::new(mailbox, limits.clone(), loader, own, priors, backlog_told, tasks.clone());
        let flows = actor.flows.clone();
        tasks.spawn("scheduler", actor.run(messages, lanes));
        let admission = Admission::new(limits, tasks.clone());
        Self { inbox, sweep, admission, backlog, ledger, tasks: tasks.clone(), flows }
    }

    /// Admits a message of so many bytes before it is parsed, or refuses it at once.
    /// What comes of the message, if anything, is submitted with the permit.
    pub fn admit(&self, caller: &Caller, bytes: usize) -> Result<Permit, Failure> {
        self.admission
            .admit(caller, bytes)
            .inspect_err(|failure| self.ledger.metrics.refused(None, failure.code))
    }

    /// Takes a request, or refuses it at once; then `reply` is not called.
    pub fn submit(&self, request: Request, permit: Permit, reply: Reply) -> Result<Submitted, Failure> {
        let (entry, at) = (request.entry.clone(), request.accepted.at);
        self.offer(request, permit, reply).inspect_err(|failure| {
            entry.served.failed(at.elapsed(), tasks::now_us());
            self.ledger.metrics.refused(Some(&entry.model.name), failure.code);
        })
    }

    fn offer(&self, request: Request, mut permit: Permit, reply: Reply) -> Result<Submitted, Failure> {
        permit.hold(request.inputs.iter().map(|tensor| tensor.body.len()).sum())?;
        let cancelled = CancellationToken::new();
        let submitted =
            Submitted { cancelled: cancelled.clone(), inbox: self.inbox.clone(), sweep: self.sweep.clone() };
        if let Under::Plan(planned) = &request.under {
            let planned = planned.clone();
            staged::start(self.clone(), planned, request, permit, reply, submitted.clone());
            return Ok(submitted);
        }
        let pending = Pending::new(request, reply, cancelled, Some(permit));
        if let Err(error) = self.inbox.try_send(Message::Submit(Box::new(pending))) {
            let refused = overloaded(match &error {
                mpsc::error::TrySendError::Full(_) => "the scheduler's inbox is full",
                mpsc::error::TrySendError::Closed(_) => STOPPING,
            });
            if let Message::Submit(mut pending) = error.into_inner() {
                // Its caller is told by what this returns, and so not when it is dropped.
                pending.reply = None;
            }
            return Err(refused);
        }
        Ok(submitted)
    }

    /// Loads and proves `entry` in every lane that `wants` admits; answers when each has a verdict or a reason.
    pub async fn prove(
        &self,
        entry: Arc<Entry>,
        wants: Wants,
        within: Duration,
    ) -> Result<Vec<Judged>, Failure> {
        self.judge(entry, wants, false, within).await
    }

    /// Loads `entry` as [`Scheduler::prove`] does, and keeps it there, and in lanes that come, until it is unloaded.
    /// Fails when no lane may serve it; then all is as before.
    pub async fn load(
        &self,
        entry: Arc<Entry>,
        wants: Wants,
        within: Duration,
    ) -> Result<Vec<Judged>, Failure> {
        let judged = self.judge(entry, wants, true, within).await?;
        if judged.iter().any(|judged| judged.refused.is_none()) {
            return Ok(judged);
        }
        let why = judged.into_iter().find_map(|judged| judged.refused);
        Err(why.unwrap_or_else(|| {
            Failure::new(Code::NoBackend, Retry::Never, "no lane is of the backends and browsers named")
        }))
    }

    /// Drops `entry`'s sessions once their steps are done; requests for it are refused until it is loaded.
    pub async fn unload(&self, entry: Arc<Entry>) -> Result<(), Failure> {
        let (done, unloaded) = oneshot::channel();
        let stopped = || overloaded(STOPPING);
        self.inbox.send(Message::Unload { entry, done }).await.map_err(|_| stopped())?;
        unloaded.await.map_err(|_| stopped())
    }

    /// Where a model sits, and whether it is to stay there.
    pub async fn residence(&self, entry: Arc<Entry>) -> Result<Residence, Failure> {
        let (reply, residence) = oneshot::channel();
        let stopped = || overloaded(STOPPING);
        self.inbox.send(Message::Residence { entry, reply }).await.map_err(|_| stopped())?;
        residence.await.map_err(|_| stopped())
    }

    async fn judge(
        &self,
        entry: Arc<Entry>,
        wants: Wants,
        keep: bool,
        within: Duration,
    ) -> Result<Vec<Judged>, Failure> {
        let (done, proved) = oneshot::channel();
        let stopped = || overloaded(STOPPING);
        self.inbox.send(Message::Prove { entry, wants, keep, done }).await.map_err(|_| stopped())?;
        match tokio::time::timeout(within, proved).await {
            Ok(answer) => answer.map_err(|_| stopped()),
            Err(_) => {
                Err(Failure::new(Code::DeadlineExceeded, Retry::Same, "the proof takes longer than allowed"))
            }
        }
    }

    /// What each lane holds and does.
    pub async fn lanes(&self) -> Vec<LaneLoad> {
        let (reply, lanes) = oneshot::channel();
        if self.inbox.send(Message::Lanes(reply)).await.is_err() {
            return Vec::new();
        }
        lanes.await.unwrap_or_default()
    }

    /// The lanes that anybody may use, with what a step of the model takes in each.
    pub async fn paces(&self, model: Digest) -> Vec<Pace> {
        let (reply, paces) = oneshot::channel();
        if self.inbox.send(Message::Paces { model, reply }).await.is_err() {
            return Vec::new();
        }
        paces.await.unwrap_or_default()
    }

    /// Drops what is known of a name's versions that were removed or added anew, and the sessions of these files.
    pub async fn forget(&self, name: ModelName, versions: Vec<Digest>, files: Vec<Digest>) {
        // A stopping daemon forgets everything anyway.
        let _ = self.inbox.send(Message::Forget { name, versions, files }).await;
    }

    /// Holds a plan's shards where its spares want them, until it is forgotten.
    pub async fn spare(&self, planned: Arc<Planned>) {
        if planned.plan.spares != Spares::None {
            // A stopping daemon loads nothing.
            let _ = self.inbox.send(Message::Spare(planned)).await;
        }
    }

    /// Holds no spares for a plan any more; what is loaded stays until the room is wanted.
    pub async fn forget_plan(&self, plan: PlanId) {
        // A stopping daemon forgets everything anyway.
        let _ = self.inbox.send(Message::ForgetPlan(plan)).await;
    }

    /// Requests that no lane has room for.
    pub fn backlog(&self) -> usize {
        self.backlog.load(Ordering::Relaxed)
    }

    /// Requests admitted and not yet answered.
    pub fn pending(&self) -> usize {
        self.admission.pending()
    }
}

/// What a stopping daemon answers.
pub fn stopping() -> Failure {
    overloaded(STOPPING)
}

fn overloaded(message: &str) -> Failure {
    Failure::new(Code::Overloaded, Retry::Same, message)
}

#[cfg(test)]
mod tests;
