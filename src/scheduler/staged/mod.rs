//! Requests under a plan of several stages. Each stage is a request of its own, which queues, shares steps, is tried
//! again and is recorded as any other.
//!
//! A task per request holds what passes between the stages, which it never looks into, and answers once. It starts a
//! stage when its inputs are there and those behind it have room, and the first failure ends them all.

mod flow;
mod progress;
#[cfg(test)]
mod tests;

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard},
};

use futures_util::{StreamExt, future::BoxFuture, stream::FuturesUnordered};
use serde_json::json;
use tokio::sync::{Notify, oneshot};

use self::{flow::Flow, progress::Progress};
use super::{
    Accepted, Answer, Ledger, Permit, Reply, Request, Scheduler, Submitted, Under, Wants, actor::Message,
    pending::Pending, step,
};
use crate::{
    domain::{
        Code, Failure, LaneId, Plan, PlanId, Provenance, Recovery, Retry, RunRecord, StageRun, Tensor, Timing,
    },
    models::Entry,
    protocol::client::Topic,
    tasks,
};

/// A plan with what its stages are, ready to be asked.
pub struct Planned {
    pub id: PlanId,
    pub plan: Arc<Plan>,
    /// In the plan's order.
    pub stages: Vec<Seated>,
}

/// A stage's shard, and the lanes that may run it.
pub struct Seated {
    pub entry: Arc<Entry>,
    pub wants: Wants,
}

/// Stages that are known to run elsewhere; beyond these, what is forgotten is told once more.
const DISPLACED_MAX: usize = 4096;

/// The plans that have requests under way, and their stages that run elsewhere than in their places. Clones share them.
#[derive(Clone, Default)]
pub(super) struct Flows {
    under_way: Arc<Mutex<BTreeMap<PlanId, Flow<Arc<Notify>>>>>,
    displaced: Arc<Mutex<BTreeMap<(PlanId, usize), LaneId>>>,
}

impl Flows {
    fn all(&self) -> MutexGuard<'_, BTreeMap<PlanId, Flow<Arc<Notify>>>> {
        self.under_way.lock().expect("no holder of the plans under way panics")
    }

    /// Takes note of where a stage ran; says whether that is news.
    fn moved(&self, plan: &PlanId, stage: usize, ran: &Provenance) -> bool {
        let mut displaced = self.displaced.lock().expect("no holder of the displaced stages panics");
        let key = (plan.clone(), stage);
        if displaced.len() >= DISPLACED_MAX {
            displaced.clear();
        }
        match &ran.fallback {
            None => displaced.remove(&key).is_some(),
            Some(_) => displaced.insert(key, ran.lane.clone()).is_none_or(|before| before != ran.lane),
        }
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
    let staged = Staged { scheduler, planned, request, permit, submitted, runs: Vec::new() };
    tasks.spawn("plan", staged.run(caller));
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

/// A stage under way, with the bytes that it reads.
type Running = FuturesUnordered<BoxFuture<'static, (usize, u64, Result<Answer, Failure>)>>;

impl Staged {
    async fn run(mut self, mut caller: Waiting) {
        let result = self.stages().await;
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

    /// Runs all stages; answers with what the caller wants.
    async fn stages(&mut self) -> Result<Vec<Tensor>, Failure> {
        let inputs = std::mem::take(&mut self.request.inputs);
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
                Some((stage, bytes_in, answer)) = running.next() => {
                    let outputs = self.ended(stage, bytes_in, answer)?;
                    let internal = |problem| Failure::new(Code::Internal, Retry::Same, problem);
                    progress.ended(stage, outputs).map_err(|problem| of_stage(stage, &internal(problem)))?;
                    turn.passed(stage);
                }
                // A stage under way is told by itself.
                failure = self.over(), if running.is_empty() => return Err(failure),
                () = turn.room.notified() => {}
            }
        }
    }

    /// Resolves when its caller has given up or its time is over.
    async fn over(&self) -> Failure {
        tokio::select! {
            biased;
            () = self.submitted.cancelled.cancelled() => step::cancelled(),
            () = tokio::time::sleep_until(self.request.deadline) => {
                step::deadline_exceeded("while a later stage had no room")
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
            sequence: None,
            under: Under::Stage(self.planned.id.clone()),
        };
        let (reply, replied) = oneshot::channel();
        let reply = Box::new(move |result| drop(reply.send(result)));
        let cancelled = self.submitted.cancelled.child_token();
        let pending = Box::new(Pending::new(request, reply, cancelled, None));
        // Whatever becomes of it, also when the daemon stops, it is told when it is dropped.
        let _ = self.scheduler.inbox.send(Message::Submit(pending)).await;
        running.push(Box::pin(async move {
            (stage, bytes_in, replied.await.unwrap_or_else(|_| Err(super::stopping())))
        }));
        Ok(())
    }

    /// Takes note of where a stage ran; answers with what it made.
    fn ended(
        &mut self,
        stage: usize,
        bytes_in: u64,
        answer: Result<Answer, Failure>,
    ) -> Result<Vec<Tensor>, Failure> {
        let Answer { run, outputs, provenance, timing, .. } =
            answer.map_err(|failure| of_stage(stage, &failure))?;
        if self.scheduler.flows.moved(&self.planned.id, stage, &provenance) {
            self.tell_moved(stage, &provenance);
        }
        let bytes_out = outputs.iter().map(|tensor| tensor.body.len() as u64).sum();
        self.runs.push(StageRun { stage, run, provenance, bytes_in, bytes_out, timing_us: timing });
        Ok(outputs)
    }

    /// Tells subscribers and the store that a stage has gone elsewhere, or has come back.
    fn tell_moved(&self, stage: usize, ran: &Provenance) {
        let Provenance { lane, fallback, .. } = ran.clone();
        let recovery =
            Recovery { plan: self.planned.id.clone(), stage, at_us: tasks::now_us(), lane, fallback };
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
