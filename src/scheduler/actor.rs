//! The scheduler's loop: one inbox, the pool's events, and the next deadline.

mod batching;
mod dispatch;
mod fetching;
mod hedging;
mod lanes;
mod loading;
mod memory;
mod sequences;

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use futures_util::future::BoxFuture;
use tokio::{
    sync::{mpsc, oneshot, watch},
    time::Instant,
};

use super::{
    Limits, Wants,
    choose::Outlook,
    hedge::Budget,
    lane::{Lane, LaneLoad, Pace, SessionState},
    latency::{Means, Recent, RecipePriors},
    pending::{Charge, Lot, Pending},
    prepare::{self, Prepared, Refusal},
    proofs::{Judged, Proof},
    queue::Queue,
    race::Ask,
    residence::{Residence, Residences},
    sequence::{SequenceKey, Sequences},
    spares::SparedPlans,
    staged::{Flows, Planned},
    step::{Finished, Ledger},
};
use crate::{
    backend::{Backend, BackendError, SessionName},
    domain::{Code, Digest, DimBinding, Failure, InstanceId, LaneId, LaneMemory, ModelName, PlanId},
    models::{Entry, Held, Loader},
    pool::PoolEvent,
    tasks::Tasks,
};

/// Ready sessions kept per lane; a browser's WASM memory grows and never shrinks.
const SESSIONS_MAX: usize = 16;

/// Loads under way per lane. They take turns in it, and each holds memory.
const PREPARING_MAX: usize = 2;

/// Loads under way in all lanes together: each fetches a file and keeps a core and the reference busy, so that more
/// would only take turns, and each holds memory meanwhile.
const LOADING_MAX: usize = 8;

/// Bytes of models' files that load at once in all lanes together: a load holds its file several times over for a
/// moment, in the browser and in the engine's heap, and so few large models at once take all of a machine's memory.
const LOADING_BYTES_MAX: u64 = 1 << 30;

/// A load that failed for a passing reason, or for want of the model's files, is not tried again before this.
const REFUSED_FOR: Duration = Duration::from_secs(30);

/// What the timer is set to when no request is queued.
const FAR: Duration = Duration::from_secs(3600);

pub(super) enum Message {
    Submit(Box<Pending>),
    /// Something queued was cancelled, as the flag says that goes with it.
    Sweep,
    /// A model's files are here, or cannot be had.
    Fetched {
        model: Digest,
        result: Result<Held, Failure>,
    },
    Prepared {
        backend: Arc<dyn Backend>,
        session: SessionName,
        entry: Arc<Entry>,
        held: Held,
        /// Whether room was made for it before.
        again: bool,
        result: Result<Prepared, Refusal>,
    },
    Finished {
        backend: Arc<dyn Backend>,
        session: SessionName,
        /// What the step's requests were charged ahead.
        charges: Vec<Charge>,
        /// The sequence of its only request, and whether that was the last.
        sequence: Option<(SequenceKey, bool)>,
        finished: Finished,
    },
    Hedge(Box<Ask>),
    Prove {
        entry: Arc<Entry>,
        wants: Wants,
        /// Whether the model is kept where it is proven.
        keep: bool,
        done: oneshot::Sender<Vec<Judged>>,
    },
    /// Shards whose plan is about to be asked, and where.
    Warm(Vec<(Arc<Entry>, Wants, DimBinding)>),
    Spare(Arc<Planned>),
    ForgetPlan(PlanId),
    Unload {
        entry: Arc<Entry>,
        done: oneshot::Sender<()>,
    },
    Residence {
        entry: Arc<Entry>,
        reply: oneshot::Sender<Residence>,
    },
    Lanes(oneshot::Sender<Vec<LaneLoad>>),
    Paces {
        model: Digest,
        reply: oneshot::Sender<Vec<Pace>>,
    },
    Forget {
        name: ModelName,
        versions: Vec<Digest>,
        files: Vec<Digest>,
    },
}

pub(super) struct Actor {
    inbox: mpsc::Sender<Message>,
    limits: watch::Receiver<Limits>,
    loader: Arc<Loader>,
    ledger: Ledger,
    tasks: Tasks,
    lanes: BTreeMap<LaneId, Lane>,
    outlook: Outlook,
    queue: Queue<Lot, Box<Pending>>,
    /// What each model's steps take.
    models: BTreeMap<Digest, Paces>,
    priors: Arc<RecipePriors>,
    /// Steps started so far.
    starts: u64,
    /// Second copies that slow requests may still have.
    hedges: Budget,
    /// Whether something has changed that what is queued may have waited for.
    changed: bool,
    /// Set when something queued was cancelled.
    sweep: Arc<AtomicBool>,
    /// The queue's length, for the pool.
    backlog: Arc<AtomicUsize>,
    proofs: Vec<Proof>,
    residences: Residences,
    /// Plans whose shards are held ahead of need.
    spared: SparedPlans,
    pub(super) flows: Flows,
    sequences: Sequences<Box<Pending>>,
    /// When the first request that waits for others to share its step waits no more.
    release: Option<Instant>,
    /// Who waits until an instance's lanes do nothing.
    frees: Vec<(InstanceId, oneshot::Sender<()>)>,
    /// Models whose files are on their way, or being checked, with the sessions that wait for them.
    fetching: BTreeMap<Digest, Vec<(LaneId, SessionName, Arc<Entry>)>>,
    /// Bytes of the models that are being loaded, once per lane.
    loading_bytes: u64,
    /// Loads that lanes which are gone had no room for; their like has none either.
    outgrown: BTreeMap<LaneId, Vec<(SessionName, SessionState)>>,
}

/// What a model's steps take: in lanes of each product and backend, and of late anywhere.
#[derive(Default)]
struct Paces {
    means: Means,
    recent: Recent,
}

impl Actor {
    pub(super) fn new(
        (inbox, sweep): (mpsc::Sender<Message>, Arc<AtomicBool>),
        limits: watch::Receiver<Limits>,
        loader: Arc<Loader>,
        ledger: Ledger,
        priors: Arc<RecipePriors>,
        backlog: Arc<AtomicUsize>,
        tasks: Tasks,
    ) -> Self {
        let age_step = limits.borrow().age_step;
        Self {
            inbox,
            backlog,
            frees: Vec::new(),
            limits,
            loader,
            ledger,
            tasks,
            lanes: BTreeMap::new(),
            outlook: Outlook::default(),
            queue: Queue::new(age_step),
            models: BTreeMap::new(),
            priors,
            starts: 0,
            hedges: Budget::default(),
            changed: false,
            sweep,
            proofs: Vec::new(),
            residences: Residences::default(),
            spared: SparedPlans::default(),
            flows: Flows::default(),
            sequences: Sequences::default(),
            release: None,
            fetching: BTreeMap::new(),
            loading_bytes: 0,
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
                    self.changed = true;
                }
                Some(message) = messages.recv() => self.message(message),
                () = tokio::time::sleep_until(deadline) => self.changed = true,
            }
            self.expire();
            self.dispatch();
            self.settle_proofs();
            self.settle_holds();
            self.backlog.store(self.queue.len(), Ordering::Relaxed);
        }
        for pending in self.queue.remove_where(|_| true) {
            self.refuse(pending, &super::overloaded(super::STOPPING));
        }
    }

    fn message(&mut self, message: Message) {
        // What has just come changes nothing for those who wait.
        let idle =
            matches!(message, Message::Submit(_) | Message::Sweep | Message::Hedge(_) | Message::Lanes(_));
        self.changed |= !idle;
        match message {
            Message::Submit(pending) => self.arrive(pending),
            Message::Sweep => {}
            Message::Fetched { model, result } => {
                self.fetched(model, &result);
                self.settle_residences();
            }
            Message::Prepared { backend, session, entry, held, again, result } => {
                self.loading_bytes -= entry.model.whole_bytes();
                if self.no_room(&backend, &session, &result, again, &entry) {
                    self.load(&backend, session, entry, held, true);
                } else {
                    self.prepared(&backend, &session, &entry, held, result);
                }
                self.relieve(&backend);
                self.settle_residences();
            }
            Message::Finished { backend, session, charges, sequence, finished } => {
                let answered = finished.took.is_some();
                let goes_on = !finished.again.is_empty();
                self.finished(&backend, &session, &charges, finished);
                if let Some((key, end)) = sequence.filter(|_| !goes_on) {
                    self.sequence_step_ended(&key, end, answered.then_some(&backend));
                }
                self.relieve(&backend);
            }
            Message::Hedge(ask) => self.grant(*ask),
            Message::Prove { entry, wants, keep, done } => {
                self.proofs.push(Proof::new(entry, wants, keep, done));
            }
            Message::Warm(shards) => self.warm(shards),
            Message::Spare(planned) => self.spare(&planned),
            Message::ForgetPlan(plan) => self.spared.remove(&plan),
            Message::Unload { entry, done } => {
                self.unload_model(&entry);
                // Whoever asked may have left.
                let _ = done.send(());
            }
            Message::Paces { model, reply } => drop(reply.send(self.paces(model))),
            Message::Residence { entry, reply } => drop(reply.send(self.residence(&entry))),
            Message::Lanes(reply) => {
                // Whoever asked may have left.
                let _ = reply.send(self.lanes.values().map(Lane::load).collect());
            }
            Message::Forget { name, versions, files } => {
                for version in versions {
                    self.residences.forget(&name, version);
                    self.forget_sequences(&name, version);
                }
                for file in files {
                    self.forget(file);
                }
            }
        }
    }

    /// The lane of this backend; a lane that came back under the same name is another one.
    fn lane_of(&mut self, backend: &Arc<dyn Backend>) -> Option<&mut Lane> {
        let lane = self.lanes.get_mut(&backend.environment().lane)?;
        Arc::ptr_eq(&lane.backend, backend).then_some(lane)
    }

    fn finished(
        &mut self,
        backend: &Arc<dyn Backend>,
        session: &SessionName,
        charges: &[Charge],
        finished: Finished,
    ) {
        let (model, requests) = (session.model, charges.len());
        // Each request has its part of the time.
        let part = finished.took.map(|took| took / u32::try_from(requests).unwrap_or(u32::MAX));
        if let Some(lane) = self.lane_of(backend) {
            lane.running = lane.running.saturating_sub(1);
            lane.requests = lane.requests.saturating_sub(requests);
            lane.ran(session);
            if let Some(part) = part {
                lane.measured(model, part, Instant::now());
            }
        }
        if let (Some(took), Some(part)) = (finished.took, part) {
            let micros = part.as_micros() as f64;
            let paces = self.models.entry(model).or_default();
            paces.means.measured(backend.environment(), micros);
            paces.recent.measured(took.as_micros() as f64);
            for charge in charges {
                self.queue.shares().charge(&charge.caller, micros - charge.micros);
            }
        }
        if finished.free {
            for charge in charges {
                self.queue.shares().charge(&charge.caller, -charge.micros);
            }
        }
        let Some(error) = finished.error else { return };
        match &error {
            BackendError::Lost { reason } => self.lost(backend, reason),
            BackendError::NotLoaded { .. } => {
                if let Some(lane) = self.lane_of(backend) {
                    lane.sessions.remove(session);
                }
            }
            _ => {}
        }
        for mut pending in finished.again {
            // The caller pays for one attempt.
            self.queue.shares().charge(&pending.request.caller, -pending.charged);
            if requests == 1 {
                pending.shun(&backend.environment().lane, &error);
            }
            pending.failed = Some(error.clone().into());
            self.come_back(pending);
        }
    }

    /// Queues a request anew, unless its model or its sequence is gone meanwhile.
    fn come_back(&mut self, mut pending: Box<Pending>) {
        let unloaded = self.residences.check_model(&pending.request.entry.model).err();
        let lost = || pending.sequence.as_ref().and_then(|key| self.sequences.lost(key));
        match unloaded.or_else(lost) {
            Some(failure) => self.refuse(pending, &failure),
            None => {
                pending.request.trace.queued();
                self.enqueue(pending, Instant::now());
            }
        }
    }

    fn load(
        &mut self,
        backend: &Arc<dyn Backend>,
        session: SessionName,
        entry: Arc<Entry>,
        held: Held,
        again: bool,
    ) {
        self.loading_bytes += entry.model.whole_bytes();
        let (inbox, backend, loader) = (self.inbox.clone(), backend.clone(), self.loader.clone());
        let metrics = self.ledger.metrics.clone();
        self.tasks.spawn("prepare", async move {
            let result = prepare::prepare(&*backend, entry.clone(), session.clone(), &loader, &metrics).await;
            let _ = inbox.send(Message::Prepared { backend, session, entry, held, again, result }).await;
        });
    }

    fn prepared(
        &mut self,
        backend: &Arc<dyn Backend>,
        session: &SessionName,
        entry: &Entry,
        held: Held,
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
            Ok(Prepared { placement, verdict, grown, load }) => {
                // Some lanes bring weights with the first step, which was the proof's.
                let since = lane.look();
                let grown = if grown == LaneMemory::default() { since } else { grown };
                let memory = lane.footprint(grown, entry.model.whole_bytes());
                SessionState::Ready { placement, verdict, used: now, memory, load, _held: held }
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

    /// Lanes that are open to all and stay, with what a step of the model takes there.
    fn paces(&self, model: Digest) -> Vec<Pace> {
        let open = |lane: &&Lane| lane.draining.is_none() && self.outlook.open(&lane.environment().instance);
        self.lanes.values().filter(open).map(|lane| lane.pace(model)).collect()
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
        self.models.remove(&model);
        self.fetching.remove(&model);
        let mut unloaded = Vec::new();
        for lane in self.lanes.values_mut() {
            let backend = &lane.backend;
            lane.kept.remove(&model);
            lane.awaited.retain(|name| name.model != model);
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

#[cfg(test)]
mod tests;
