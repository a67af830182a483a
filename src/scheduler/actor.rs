//! The scheduler's loop: one inbox, the pool's events, and the next deadline.

mod loading;
mod memory;

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use futures_util::future::BoxFuture;
use tokio::{
    sync::{mpsc, oneshot, watch},
    time::Instant,
};
use tokio_util::sync::CancellationToken;
use tracing::Span;

use super::{
    Limits, PRIORITY_DEFAULT, Reply, Request, Wants,
    admission::Permit,
    choose::{self, Absence, Case, Decision, Outlook},
    lane::{Lane, LaneLoad, SessionState},
    prepare::{self, Prepared, Refusal},
    proofs::{Judged, Proof},
    residence::{Residence, Residences},
    step::{self, Finished, Ledger},
};
use crate::{
    backend::{Backend, BackendError, SessionName},
    domain::{Code, Digest, Failure, Fallback, InstanceId, LaneId, ModelName, Provenance, Retry, RunId},
    models::{Entry, gate::Gate},
    pool::{Hold, PoolEvent},
    tasks::Tasks,
};

/// Runs per request: the first, and one more on each of two other lanes.
const ATTEMPTS_MAX: u32 = 3;

/// Ready sessions kept per lane; a browser's WASM memory grows and never shrinks.
const SESSIONS_MAX: usize = 16;

/// Loads under way per lane. They take turns in it, and each holds memory.
const PREPARING_MAX: usize = 2;

/// Loads under way in all lanes together: each fetches a file and keeps a core and the reference busy, so that more
/// would only take turns, and each holds memory meanwhile.
const LOADING_MAX: usize = 8;

/// A load that failed for a passing reason is not tried again before this.
const REFUSED_FOR: Duration = Duration::from_secs(30);

/// What the timer is set to when no request is queued.
const FAR: Duration = Duration::from_secs(3600);

pub(super) enum Message {
    Submit(Box<Pending>),
    /// Something queued was cancelled.
    Sweep,
    Prepared {
        backend: Arc<dyn Backend>,
        session: SessionName,
        entry: Arc<Entry>,
        /// Whether room was made for it before.
        again: bool,
        result: Result<Prepared, Refusal>,
    },
    Finished {
        backend: Arc<dyn Backend>,
        finished: Finished,
    },
    Prove {
        entry: Arc<Entry>,
        wants: Wants,
        /// Whether the model is kept where it is proven.
        keep: bool,
        done: oneshot::Sender<Vec<Judged>>,
    },
    Unload {
        entry: Arc<Entry>,
        done: oneshot::Sender<()>,
    },
    Residence {
        entry: Arc<Entry>,
        reply: oneshot::Sender<Residence>,
    },
    Lanes(oneshot::Sender<Vec<LaneLoad>>),
    Forget {
        name: ModelName,
        models: Vec<Digest>,
    },
}

/// A request with what has become of it so far.
pub(super) struct Pending {
    pub(super) request: Request,
    /// Taken when the caller is answered.
    pub(super) reply: Option<Reply>,
    pub(super) cancelled: CancellationToken,
    attempts: u32,
    excluded: Vec<LaneId>,
    failed: Option<Failure>,
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

    /// Lower is served first.
    fn rank(&self) -> (u32, Instant) {
        let priority = if self.request.priority == 0 { PRIORITY_DEFAULT } else { self.request.priority };
        (priority, self.request.accepted.at)
    }

    fn case(&self, now: Instant) -> Case<'_> {
        Case {
            model: self.request.entry.model.digest,
            binding: &self.request.binding,
            wants: &self.request.wants,
            excluded: &self.excluded,
            failed: self.failed.as_ref(),
            now,
        }
    }
}

pub(super) struct Actor {
    inbox: mpsc::Sender<Message>,
    limits: watch::Receiver<Limits>,
    gate: Arc<Gate>,
    ledger: Ledger,
    tasks: Tasks,
    lanes: BTreeMap<LaneId, Lane>,
    outlook: Outlook,
    /// In order of [`Pending::rank`].
    queue: VecDeque<Box<Pending>>,
    /// Its length, for the pool.
    backlog: Arc<AtomicUsize>,
    proofs: Vec<Proof>,
    residences: Residences,
    /// Who waits until an instance's lanes do nothing.
    frees: Vec<(InstanceId, oneshot::Sender<()>)>,
    /// Loads that lanes which are gone had no room for; their like has none either.
    outgrown: BTreeMap<LaneId, Vec<(SessionName, SessionState)>>,
}

impl Actor {
    pub(super) fn new(
        inbox: mpsc::Sender<Message>,
        limits: watch::Receiver<Limits>,
        gate: Arc<Gate>,
        ledger: Ledger,
        backlog: Arc<AtomicUsize>,
        tasks: Tasks,
    ) -> Self {
        Self {
            inbox,
            backlog,
            frees: Vec::new(),
            limits,
            gate,
            ledger,
            tasks,
            lanes: BTreeMap::new(),
            outlook: Outlook::default(),
            queue: VecDeque::new(),
            proofs: Vec::new(),
            residences: Residences::default(),
            outgrown: BTreeMap::new(),
        }
    }

    pub(super) async fn run(
        mut self,
        mut messages: mpsc::Receiver<Message>,
        mut pool: mpsc::Receiver<PoolEvent>,
    ) {
        let stopping = self.tasks.stopping();
        loop {
            let deadline = self.next_deadline();
            tokio::select! {
                biased;
                () = stopping.cancelled() => break,
                // What the pool says decides what becomes of the messages; it says little.
                Some(event) = pool.recv() => {
                    self.pool_event(event);
                    self.settle_residences();
                }
                Some(message) = messages.recv() => self.message(message),
                () = tokio::time::sleep_until(deadline) => {}
            }
            self.expire();
            self.dispatch();
            self.settle_proofs();
            self.settle_holds();
            self.backlog.store(self.queue.len(), Ordering::Relaxed);
        }
        for pending in std::mem::take(&mut self.queue) {
            self.refuse(pending, &super::overloaded(super::STOPPING));
        }
    }

    fn message(&mut self, message: Message) {
        match message {
            Message::Submit(pending) => self.enqueue(pending),
            Message::Sweep => {}
            Message::Prepared { backend, session, entry, again, result } => {
                if self.no_room(&backend, &session, &result, again, &entry) {
                    self.load(&backend, session, entry, true);
                } else {
                    self.prepared(&backend, &session, &entry, result);
                }
                self.relieve(&backend);
                self.settle_residences();
            }
            Message::Finished { backend, finished } => {
                self.finished(&backend, finished);
                self.relieve(&backend);
            }
            Message::Prove { entry, wants, keep, done } => {
                self.proofs.push(Proof::new(entry, wants, keep, done));
            }
            Message::Unload { entry, done } => {
                self.unload_model(&entry);
                // Whoever asked may have left.
                let _ = done.send(());
            }
            Message::Residence { entry, reply } => drop(reply.send(self.residence(&entry))),
            Message::Lanes(reply) => {
                // Whoever asked may have left.
                let _ = reply.send(self.lanes.values().map(Lane::load).collect());
            }
            Message::Forget { name, models } => {
                self.residences.forget(&name);
                models.into_iter().for_each(|model| self.forget(model));
            }
        }
    }

    fn pool_event(&mut self, event: PoolEvent) {
        match event {
            PoolEvent::Starting { instance, browser, backends } => {
                self.outlook.absent.remove(&instance);
                self.outlook.starting.insert(instance, (browser, backends));
            }
            PoolEvent::LaneUp(backend) => {
                let environment = backend.environment();
                let (id, kind) = (environment.lane.clone(), environment.backend.clone());
                self.outlook.arrived(&environment.instance, &kind);
                // What ran out of memory here would do so again.
                let curable = |pending: &&mut Box<Pending>| {
                    pending.failed.as_ref().is_none_or(|it| it.code != Code::OutOfMemory)
                };
                for pending in self.queue.iter_mut().filter(curable) {
                    pending.excluded.retain(|excluded| *excluded != id);
                }
                let mut lane = Lane::new(backend);
                lane.sessions.extend(self.outgrown.remove(&id).into_iter().flatten());
                self.lanes.insert(id, lane);
            }
            PoolEvent::LaneDown { lane, reason } => {
                tracing::debug!(%lane, reason, "lane removed");
                self.remove_lane(&lane);
            }
            PoolEvent::Absent { instance, browser, backend, reason } => {
                self.outlook.arrived(&instance, &backend);
                let absence = Absence { browser, backend: Some(backend), reason };
                self.outlook.absent.entry(instance).or_default().push(absence);
            }
            PoolEvent::Failed { instance, browser, reason } => {
                self.outlook.gone(&instance);
                self.outlook.absent.insert(instance, vec![Absence { browser, backend: None, reason }]);
            }
            PoolEvent::Held { instance, hold, free } => {
                self.frees.extend(free.map(|free| (instance.clone(), free)));
                if hold == Hold::Open {
                    self.outlook.holds.remove(&instance);
                } else {
                    self.outlook.holds.insert(instance, hold);
                }
            }
            PoolEvent::Suspect { instance, suspect: true } => {
                self.outlook.suspects.insert(instance);
            }
            PoolEvent::Suspect { instance, suspect: false } => {
                self.outlook.suspects.remove(&instance);
            }
            PoolEvent::Gone { instance } => {
                self.outlook.gone(&instance);
                let gone = |lane: &Lane| lane.environment().instance == instance;
                self.lanes.retain(|_, lane| !gone(lane));
            }
        }
    }

    fn remove_lane(&mut self, id: &LaneId) {
        if let Some(lane) = self.lanes.remove(id)
            && !lane.native()
        {
            // The pool starts it again or says that the instance failed.
            self.outlook.awaits(lane.environment());
            self.outgrown.insert(id.clone(), lane.outgrown());
        }
    }

    /// Keeps the queue in order; a retried request goes back to where its arrival puts it.
    fn enqueue(&mut self, mut pending: Box<Pending>) {
        if let Err(unloaded) = self.residences.check(&pending.request.entry.model.name) {
            return self.refuse(pending, &unloaded);
        }
        pending.request.trace.queued();
        let rank = pending.rank();
        let at = self.queue.partition_point(|queued| queued.rank() <= rank);
        self.queue.insert(at, pending);
    }

    fn next_deadline(&self) -> Instant {
        let first = self.queue.iter().map(|pending| pending.request.deadline).min();
        first.unwrap_or_else(|| Instant::now() + FAR)
    }

    /// Answers what was cancelled or has run out of time.
    fn expire(&mut self) {
        let now = Instant::now();
        let over = |pending: &Pending| pending.cancelled.is_cancelled() || pending.request.deadline <= now;
        if !self.queue.iter().any(|pending| over(pending)) {
            return;
        }
        let (ended, kept): (VecDeque<_>, _) =
            std::mem::take(&mut self.queue).into_iter().partition(|pending| over(pending));
        self.queue = kept;
        for pending in ended {
            let failure = if pending.cancelled.is_cancelled() {
                step::cancelled()
            } else {
                let mut failure = step::deadline_exceeded("in the queue");
                if let Some(earlier) = &pending.failed {
                    failure.message = format!("{}; before that: {earlier}", failure.message);
                }
                failure
            };
            self.refuse(pending, &failure);
        }
    }

    fn refuse(&self, mut pending: Box<Pending>, failure: &Failure) {
        let reply = pending.reply.take();
        if pending.failed.as_ref() == Some(failure) {
            // The row of its last attempt says the same.
            self.ledger.metrics.refused(Some(&pending.request.entry.model.name), failure.code);
            return reply.into_iter().for_each(|reply| reply(Err(failure.clone())));
        }
        step::fail(reply, &pending, None, Instant::now(), failure, &self.ledger);
    }

    /// Gives queued requests to lanes, in order, as far as lanes are free.
    fn dispatch(&mut self) {
        let mut at = 0;
        while at < self.queue.len() {
            let now = Instant::now();
            let choice = choose::choose(&self.queue[at].case(now), &self.lanes, &self.outlook);
            if !choice.prepare.is_empty() {
                let entry = self.queue[at].request.entry.clone();
                for (lane, session) in choice.prepare {
                    self.prepare(&lane, session, entry.clone());
                }
            }
            match choice.decision {
                Decision::Wait => at += 1,
                Decision::Run { lane, session, fallback } => {
                    let pending = self.queue.remove(at).expect("the index is below the queue's length");
                    self.start(pending, &lane, session, fallback);
                }
                Decision::Fail(failure) => {
                    let pending = self.queue.remove(at).expect("the index is below the queue's length");
                    self.refuse(pending, &failure);
                }
            }
        }
    }

    fn start(
        &mut self,
        mut pending: Box<Pending>,
        id: &LaneId,
        session: SessionName,
        fallback: Option<Fallback>,
    ) {
        let lane = self.lanes.get_mut(id).expect("choose names a lane that is there");
        let Some(SessionState::Ready { placement, verdict, used, .. }) = lane.sessions.get_mut(&session)
        else {
            unreachable!("choose runs a request only where its session is ready");
        };
        *used = Instant::now();
        pending.attempts += 1;
        let model = pending.request.entry.model.digest;
        let mut provenance = Provenance::new(lane.backend.environment(), placement.clone(), model, *verdict);
        provenance.attempt = pending.attempts;
        provenance.fallback = fallback;
        lane.running += 1;
        let sent = step::send(&pending, session.clone(), &*lane.backend);
        let run = step::run_id();
        let span = pending.request.trace.step(&run, &provenance);
        let attempt = Attempt { run, session, provenance, span };
        let (inbox, backend, ledger) = (self.inbox.clone(), lane.backend.clone(), self.ledger.clone());
        self.tasks.spawn("step", async move {
            let finished = step::run(pending, attempt, sent, &*backend, ledger).await;
            // The actor outlives every step but those of a stopping daemon.
            let _ = inbox.send(Message::Finished { backend, finished }).await;
        });
    }

    /// The lane of this backend; a lane that came back under the same name is another one.
    fn lane_of(&mut self, backend: &Arc<dyn Backend>) -> Option<&mut Lane> {
        let lane = self.lanes.get_mut(&backend.environment().lane)?;
        Arc::ptr_eq(&lane.backend, backend).then_some(lane)
    }

    /// What a lane's own answer says may come before what the pool says.
    /// A lane that is lost for us must be lost for the pool as well, or it would never bring another.
    fn lost(&mut self, backend: &Arc<dyn Backend>, reason: &str) {
        backend.abandon(reason.to_owned());
        if self.lane_of(backend).is_some_and(|lane| !lane.native()) {
            self.remove_lane(&backend.environment().lane);
        }
    }

    fn finished(&mut self, backend: &Arc<dyn Backend>, finished: Finished) {
        if let Some(lane) = self.lane_of(backend) {
            lane.running = lane.running.saturating_sub(1);
            lane.ran(&finished.session);
            if let Some(took) = finished.took {
                lane.measured(finished.session.model, took);
            }
        }
        let Some((mut pending, error)) = finished.again else { return };
        match error {
            BackendError::Lost { ref reason } => self.lost(backend, reason),
            BackendError::NotLoaded { .. } => {
                if let Some(lane) = self.lane_of(backend) {
                    lane.sessions.remove(&finished.session);
                }
            }
            _ if error.retry() == Retry::Elsewhere => {
                pending.excluded.push(backend.environment().lane.clone());
            }
            _ => {}
        }
        pending.failed = Some(error.into());
        self.enqueue(pending);
    }

    fn prepare(&mut self, id: &LaneId, session: SessionName, entry: Arc<Entry>) {
        let loading: usize = self.lanes.values().map(Lane::preparing).sum();
        let Some(lane) = self.lanes.get_mut(id) else { return };
        if lane.draining.is_some() || lane.preparing() >= PREPARING_MAX || loading >= LOADING_MAX {
            // What wants it waits, and asks again when a load is done, or the lane is back.
            return;
        }
        lane.sessions.insert(session.clone(), SessionState::Preparing);
        let backend = lane.backend.clone();
        self.load(&backend, session, entry, false);
    }

    fn load(&self, backend: &Arc<dyn Backend>, session: SessionName, entry: Arc<Entry>, again: bool) {
        let (inbox, backend, gate) = (self.inbox.clone(), backend.clone(), self.gate.clone());
        let metrics = self.ledger.metrics.clone();
        self.tasks.spawn("prepare", async move {
            let result = prepare::prepare(&*backend, entry.clone(), session.clone(), gate, &metrics).await;
            let _ = inbox.send(Message::Prepared { backend, session, entry, again, result }).await;
        });
    }

    fn prepared(
        &mut self,
        backend: &Arc<dyn Backend>,
        session: &SessionName,
        entry: &Entry,
        result: Result<Prepared, Refusal>,
    ) {
        if let Err(refusal) = &result
            && refusal.failure.code == Code::LaneLost
        {
            if let Some(lane) = self.lane_of(backend) {
                lane.sessions.remove(session);
            }
            return self.lost(backend, &refusal.failure.message);
        }
        let Some(lane) = self.lane_of(backend) else { return };
        if matches!(lane.sessions.get(session), Some(SessionState::Stale)) {
            lane.sessions.remove(session);
            if result.is_ok() {
                let unloaded = lane.backend.unload(session.clone());
                self.unload(unloaded);
            }
            return;
        }
        let now = Instant::now();
        let state = match result {
            Ok(Prepared { placement, verdict, grown }) => {
                lane.look();
                let memory = lane.footprint(grown, entry.model.bytes);
                SessionState::Ready { placement, verdict, used: now, memory }
            }
            Err(Refusal { failure, passing }) => {
                tracing::warn!(lane = %backend.environment().lane, %failure, "session refused");
                SessionState::Refused { failure, until: passing.then(|| now + REFUSED_FOR) }
            }
        };
        lane.sessions.insert(session.clone(), state);
        if let Some(surplus) = lane.surplus(SESSIONS_MAX) {
            let dropped = lane.sessions.remove(&surplus);
            if matches!(dropped, Some(SessionState::Ready { .. })) {
                let unloaded = lane.backend.unload(surplus);
                self.unload(unloaded);
            }
        }
    }

    fn unload(&self, unloaded: BoxFuture<'static, Result<(), BackendError>>) {
        self.tasks.spawn("unload", async move {
            if let Err(error) = unloaded.await {
                tracing::debug!(%error, "a session was not unloaded");
            }
        });
    }

    /// Drops what is known of a model, refusals included.
    fn forget(&mut self, model: Digest) {
        let mut unloaded = Vec::new();
        for lane in self.lanes.values_mut() {
            let backend = &lane.backend;
            lane.kept.remove(&model);
            lane.sessions.retain(|name, state| {
                match state {
                    _ if name.model != model => return true,
                    SessionState::Preparing | SessionState::Stale => {
                        *state = SessionState::Stale;
                        return true;
                    }
                    SessionState::Ready { .. } => unloaded.push(backend.unload(name.clone())),
                    SessionState::Refused { .. } => {}
                }
                false
            });
        }
        for unloaded in unloaded {
            self.unload(unloaded);
        }
    }

    /// Tells those who wait for an instance whose lanes have become free, or are gone.
    fn settle_holds(&mut self) {
        let lanes = &self.lanes;
        let busy = |instance: &InstanceId| {
            let mut own = lanes.values().filter(|lane| lane.environment().instance == *instance);
            own.any(|lane| lane.running > 0 || lane.preparing() > 0)
        };
        let (waiting, free): (Vec<_>, _) =
            std::mem::take(&mut self.frees).into_iter().partition(|(instance, _)| busy(instance));
        self.frees = waiting;
        for (_, free) in free {
            // Whoever asked may have left.
            let _ = free.send(());
        }
    }

    /// Starts what proofs still lack, answers those that lack nothing, and drops those that nobody waits for.
    fn settle_proofs(&mut self) {
        for mut proof in std::mem::take(&mut self.proofs) {
            if proof.done.is_closed() {
                continue;
            }
            let (absent, done) = proof.advance(&self.lanes, &self.outlook, Instant::now());
            for (lane, session) in absent {
                self.prepare(&lane, session, proof.entry.clone());
            }
            if done {
                if let Some((entry, wants)) = proof.kept() {
                    self.keep(entry, wants);
                }
                proof.finish();
            } else {
                self.proofs.push(proof);
            }
        }
    }
}
