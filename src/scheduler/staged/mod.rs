//! Requests under a plan of several stages. Each stage is a request of its own, which queues, shares steps, is tried
//! again and is recorded as any other.
//!
//! A task per request holds what passes between the stages, which it never looks into, and answers once. It starts a
//! stage when its inputs are there and those behind it have room, and the first failure ends them all.

mod flow;
mod progress;
mod seats;
mod sequenced;
#[cfg(test)]
mod tests;

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use futures_util::{StreamExt, future::BoxFuture, stream::FuturesUnordered};
use serde_json::json;
use tokio::{
    sync::{Notify, oneshot},
    time::Instant,
};

use self::{
    flow::Flow,
    progress::Progress,
    seats::{Moved, Ran, Seats},
    sequenced::{InSequence, Sequenced},
};
use super::{
    Accepted, Answer, Ledger, Permit, Reply, Request, Scheduler, Submitted, Under, Wants, actor::Message,
    pending::Pending, sequence::SequenceKey, step,
};
use crate::{
    domain::{
        Code, Failure, LaneId, Plan, PlanId, Provenance, Recovery, Retry, RunRecord, StageRun, Tensor, Timing,
    },
    models::{Entry, InUse},
    protocol::client::Topic,
    tasks,
};

/// A plan with what its stages are, ready to be asked.
pub struct Planned {
    pub id: PlanId,
    pub plan: Arc<Plan>,
    /// In the plan's order.
    pub stages: Vec<Seated>,
    /// By which whoever forgets the plan knows of the request; absent before it is kept.
    pub in_use: Option<InUse>,
}

/// A stage's shard, and the lanes that may run it.
pub struct Seated {
    pub entry: Arc<Entry>,
    pub wants: Wants,
}

/// How often a sequence is begun anew for one request, as a request is tried.
const BEGUN_MAX: u32 = 3;

/// The plans that have requests under way, and where their stages run. Clones share them.
#[derive(Clone, Default)]
pub(super) struct Flows {
    under_way: Arc<Mutex<BTreeMap<PlanId, Flow<Arc<Notify>>>>>,
    seats: Arc<Mutex<Seats>>,
    sequenced: Arc<Mutex<Sequenced>>,
}

impl Flows {
    fn all(&self) -> MutexGuard<'_, BTreeMap<PlanId, Flow<Arc<Notify>>>> {
        self.under_way.lock().expect("no holder of the plans under way panics")
    }

    fn seats(&self) -> MutexGuard<'_, Seats> {
        self.seats.lock().expect("no holder of the stages' seats panics")
    }

    fn sequenced(&self) -> MutexGuard<'_, Sequenced> {
        self.sequenced.lock().expect("no holder of the plans' sequences panics")
    }

    /// A lane is gone, and did not go by itself.
    pub(super) fn lose(&self, lane: &LaneId) {
        self.seats().lose(lane, Instant::now());
    }
}

/// A request's turn among those of its plan, which it gives up when this is dropped.
struct Turn {
    flows: Flows,
    plan: PlanId,
    number: flow::Number,
    /// Told when there may be room for it.
    room: Arc<Notify>,
}

impl Turn {
    /// Also says whether no other request of the plan is under way.
    fn enter(flows: &Flows, planned: &Planned) -> (Self, bool) {
        let room = Arc::new(Notify::new());
        let mut all = flows.all();
        let flow = all.entry(planned.id.clone()).or_insert_with(|| Flow::new(&planned.plan));
        let alone = flow.is_empty();
        let number = flow.enter(room.clone());
        (Self { flows: flows.clone(), plan: planned.id.clone(), number, room }, alone)
    }

    fn may_start(&self, stage: usize) -> bool {
        self.flows.all().get(&self.plan).is_some_and(|flow| flow.may_start(self.number, stage))
    }

    fn passed(&self, stage: usize) {
        let mut all = self.flows.all();
        let next = all.get_mut(&self.plan).and_then(|flow| flow.passed(self.number, stage));
        if let Some(room) = next {
            room.notify_one();
        }
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        let mut all = self.flows.all();
        if let Some(flow) = all.get_mut(&self.plan) {
            for room in flow.leave(self.number) {
                room.notify_one();
            }
            if flow.is_empty() {
                all.remove(&self.plan);
            }
        }
    }
}

/// Takes a request in that has been admitted; it is answered through `reply`, once.
pub(super) fn start(
    scheduler: Scheduler,
    planned: Arc<Planned>,
    request: Request,
    permit: Permit,
    reply: Reply,
    submitted: Submitted,
) {
    let tasks = scheduler.tasks.clone();
    let caller = Waiting { entry: request.entry.clone(), accepted: request.accepted, reply: Some(reply) };
    // In the order in which they come.
    let key = SequenceKey::of(&request).zip(request.sequence.clone());
    let sequence = key.map(|(key, sequence)| InSequence::enter(&scheduler.flows, key, sequence));
    let staged = Staged { scheduler, planned, request, permit, submitted, runs: Vec::new() };
    tasks.spawn("plan", staged.run(caller, sequence));
}

/// Who waits for an answer. A stopping daemon drops it, and tells so.
struct Waiting {
    entry: Arc<Entry>,
    accepted: Accepted,
    reply: Option<Reply>,
}

impl Waiting {
    fn answer(&mut self, result: Result<Answer, Failure>) {
        let Some(reply) = self.reply.take() else { return };
        match &result {
            Ok(answer) => self.entry.served.succeeded(answer.timing, tasks::now_us()),
            Err(_) => self.entry.served.failed(self.accepted.at.elapsed(), tasks::now_us()),
        }
        reply(result);
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.answer(Err(super::stopping()));
    }
}

struct Staged {
    scheduler: Scheduler,
    planned: Arc<Planned>,
    request: Request,
    /// Holds as many bytes as the values that are kept.
    permit: Permit,
    submitted: Submitted,
    /// The stages that have ended.
    runs: Vec<StageRun>,
}

/// A stage under way.
type Running = FuturesUnordered<BoxFuture<'static, Ended>>;

/// A stage that has ended: since when it had its inputs, and of how many bytes.
struct Ended {
    stage: usize,
    since: Accepted,
    bytes_in: u64,
    answer: Result<Answer, Failure>,
}

impl Staged {
    async fn run(mut self, mut caller: Waiting, sequence: Option<InSequence>) {
        let inputs = std::mem::take(&mut self.request.inputs);
        let result = match sequence {
            None => self.stages(inputs).await,
            Some(sequence) => self.in_sequence(sequence, inputs).await,
        };
        if result.is_err() {
            // What still runs for it is of no use.
            self.submitted.cancel();
        }
        self.runs.sort_by_key(|run| run.stage);
        let total = self.request.accepted.at.elapsed().as_micros() as u64;
        let timing = Timing::of_stages(&self.runs, total);
        let run = step::run_id();
        let provenance = self.provenance();
        let record = RunRecord {
            run: run.clone(),
            request: Some(self.request.trace.id.clone()),
            accepted_at_us: self.request.accepted.at_us,
            caller: self.request.caller.id.to_string(),
            model: self.request.entry.model.name.clone(),
            provenance: provenance.clone(),
            timing,
            error: result.as_ref().err().cloned(),
        };
        self.request.trace.ran(None, &run, &timing, record.error.as_ref());
        let request = self.request.trace.id.clone();
        let answer = result.map(|outputs| {
            let provenance = provenance.expect("a plan that is done has stages that ended");
            Answer { run, request, outputs, provenance, timing }
        });
        caller.answer(answer);
        // A daemon that drains waits for what holds a permit.
        let Self { scheduler, permit, .. } = self;
        drop(permit);
        scheduler.ledger.keep(record, true);
    }

    fn provenance(&self) -> Option<Provenance> {
        let (model, plan) = (self.request.entry.model.digest, &self.planned.id);
        let mut provenance = Provenance::of_stages(self.runs.clone(), model, plan)?;
        provenance.converted.clone_from(&self.request.entry.converted);
        Some(provenance)
    }

    /// Runs all stages when it is its turn in its sequence. One that has lost a lane is begun anew, and asked again what
    /// it was asked before.
    async fn in_sequence(
        &mut self,
        mut sequence: InSequence,
        inputs: Vec<Tensor>,
    ) -> Result<Vec<Tensor>, Failure> {
        tokio::select! {
            biased;
            failure = self.over("behind others of its sequence") => return Err(failure),
            turn = sequence.turn() => turn?,
        }
        let mut before = sequence.before()?;
        for _ in 0..BEGUN_MAX {
            match self.after(&sequence, before.take(), inputs.clone()).await {
                Ok(outputs) => {
                    sequence.answered(inputs);
                    return Ok(outputs);
                }
                Err(failure) => {
                    sequence.tear();
                    if failure.code != Code::LaneLost {
                        return Err(failure);
                    }
                    before = Some(sequence.all()?);
                }
            }
        }
        Err(Failure::new(
            Code::LaneLost,
            Retry::Same,
            "each time that its sequence was begun anew, a lane was lost",
        ))
    }

    /// Runs all stages on what is asked again, and then on the request's own inputs.
    async fn after(
        &mut self,
        sequence: &InSequence,
        before: Option<Vec<Vec<Tensor>>>,
        inputs: Vec<Tensor>,
    ) -> Result<Vec<Tensor>, Failure> {
        let anew = before.is_some() || sequence.starts();
        let before = before.unwrap_or_default();
        for (at, inputs) in before.iter().enumerate() {
            self.request.sequence = Some(sequence.place(at == 0, false));
            self.stages(inputs.clone()).await?;
        }
        self.request.sequence = Some(sequence.place(anew && before.is_empty(), true));
        self.stages(inputs).await
    }

    /// Runs all stages; answers with what the caller wants.
    async fn stages(&mut self, inputs: Vec<Tensor>) -> Result<Vec<Tensor>, Failure> {
        self.runs.clear();
        let mut progress = Progress::new(self.planned.plan.clone(), inputs);
        let (turn, alone) = Turn::enter(&self.scheduler.flows, &self.planned);
        if alone {
            self.warm().await;
        }
        let mut running = Running::new();
        // Since when stages have had their inputs.
        let mut since = BTreeMap::new();
        loop {
            self.permit.hold(progress.bytes())?;
            for stage in progress.ready() {
                let since = *since.entry(stage).or_insert_with(Accepted::now);
                if turn.may_start(stage) {
                    self.start(stage, since, progress.start(stage), &mut running).await?;
                }
            }
            if progress.is_done() {
                return Ok(progress.outputs(&self.request.outputs));
            }
            tokio::select! {
                biased;
                Some(ended) = running.next() => {
                    let stage = ended.stage;
                    let outputs = self.ended(ended)?;
                    let internal = |problem| Failure::new(Code::Internal, Retry::Same, problem);
                    progress.ended(stage, outputs).map_err(|problem| of_stage(stage, &internal(problem)))?;
                    turn.passed(stage);
                }
                // A stage under way is told by itself.
                failure = self.over("while a later stage had no room"), if running.is_empty() => return Err(failure),
                () = turn.room.notified() => {}
            }
        }
    }

    /// Resolves when its caller has given up or its time is over.
    async fn over(&self, doing: &str) -> Failure {
        tokio::select! {
            biased;
            () = self.submitted.cancelled.cancelled() => step::cancelled(),
            () = tokio::time::sleep_until(self.request.deadline) => {
                step::deadline_exceeded(doing)
            }
        }
    }

    /// Has every stage loaded where it is wanted, at once and ahead of its turn.
    async fn warm(&self) {
        let shard = |Seated { entry, wants }: &Seated| {
            // Nothing but the stage's own place.
            let wants = Wants { stand_in: false, native_fallback: false, ..wants.clone() };
            let mut binding = entry.proof_binding();
            for (symbol, size) in &mut binding {
                *size = self.request.binding.get(symbol).copied().unwrap_or(*size);
            }
            (entry.clone(), wants, binding)
        };
        let shards = self.planned.stages.iter().map(shard).collect();
        // A stopping daemon loads nothing.
        let _ = self.scheduler.inbox.send(Message::Warm(shards)).await;
        self.scheduler.spare(self.planned.clone()).await;
    }

    async fn start(
        &self,
        stage: usize,
        accepted: Accepted,
        inputs: Vec<Tensor>,
        running: &mut Running,
    ) -> Result<(), Failure> {
        let Seated { entry, wants } = &self.planned.stages[stage];
        let fits = entry.check_usable().and_then(|()| entry.model.signature.bind(&inputs));
        let binding = fits.map_err(|failure| of_stage(stage, &failure))?;
        let bytes_in = inputs.iter().map(|tensor| tensor.body.len() as u64).sum();
        let request = Request {
            entry: entry.clone(),
            inputs,
            outputs: self.planned.plan.stages[stage].outputs.clone(),
            binding,
            wants: wants.clone(),
            priority: self.request.priority,
            caller: self.request.caller.clone(),
            accepted,
            deadline: self.request.deadline,
            trace: self.request.trace.stage(stage, entry.model.name.as_str()),
            sequence: self.request.sequence.clone(),
            under: Under::Stage(self.planned.id.clone()),
        };
        let (reply, replied) = oneshot::channel();
        let reply = Box::new(move |result| drop(reply.send(result)));
        let cancelled = self.submitted.cancelled.child_token();
        let pending = Box::new(Pending::new(request, reply, cancelled, None));
        // Whatever becomes of it, also when the daemon stops, it is told when it is dropped.
        let _ = self.scheduler.inbox.send(Message::Submit(pending)).await;
        running.push(Box::pin(async move {
            let answer = replied.await.unwrap_or_else(|_| Err(super::stopping()));
            Ended { stage, since: accepted, bytes_in, answer }
        }));
        Ok(())
    }

    /// Takes note of where a stage ran; answers with what it made.
    fn ended(&mut self, Ended { stage, since, bytes_in, answer }: Ended) -> Result<Vec<Tensor>, Failure> {
        let Answer { run, outputs, provenance, timing, .. } =
            answer.map_err(|failure| of_stage(stage, &failure))?;
        let ran = Ran {
            lane: &provenance.lane,
            elsewhere: provenance.fallback.is_some(),
            started: since.at + Duration::from_micros(timing.queue),
            answered: Instant::now(),
        };
        let moved = self.scheduler.flows.seats().ran(&(self.planned.id.clone(), stage), ran);
        if let Some(moved) = moved {
            self.tell_moved(stage, &provenance, &moved);
        }
        let bytes_out = outputs.iter().map(|tensor| tensor.body.len() as u64).sum();
        self.runs.push(StageRun { stage, run, provenance, bytes_in, bytes_out, timing_us: timing });
        Ok(outputs)
    }

    /// Tells subscribers and the store that a stage has gone elsewhere, or is back.
    fn tell_moved(&self, stage: usize, ran: &Provenance, moved: &Moved) {
        let Provenance { lane, fallback, .. } = ran.clone();
        let (plan, took_us) = (self.planned.id.clone(), moved.took.map(|took| took.as_micros() as u64));
        let recovery = Recovery { plan, stage, at_us: tasks::now_us(), lane, fallback, took_us };
        let Ledger { store, events, .. } = self.scheduler.ledger.clone();
        events.publish(Topic::Plans, || json!({"recovery": &recovery}));
        self.scheduler.tasks.spawn("recovery", async move {
            tracing::info!(?recovery, "a stage has moved");
            if let Err(error) = store.put_recovery(recovery).await {
                tracing::warn!(%error, "where a stage went was not kept");
            }
        });
    }
}

/// A stage's failure as its request's.
fn of_stage(stage: usize, failure: &Failure) -> Failure {
    Failure { message: format!("stage {stage}: {}", failure.message), ..failure.clone() }
}
