//! One step: waits for the lane, answers each of its callers as soon as anything decides, and frees the lane last.

use std::{sync::Arc, time::Duration};

use futures_util::{
    FutureExt,
    future::{BoxFuture, select_all},
};
use serde_json::json;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::{
    Answer,
    pending::{Attempt, Pending},
};
use crate::{
    backend::{Backend, BackendError, SessionName, Step, StepOutput, StepTiming},
    domain::{self, Code, Failure, Model, Retry, RunId, RunRecord, Tensor, Timing},
    events::Events,
    protocol::client::Topic,
    store::Store,
    telemetry::Metrics,
};

/// How long a lane may go on with a step whose caller has gone before it is taken for hung.
/// A reload costs a browser page and its engine a few seconds, and every session of the lane its proof.
const HANG_GRACE: Duration = Duration::from_secs(30);

/// Where finished runs are told.
#[derive(Clone)]
pub struct Ledger {
    pub store: Arc<Store>,
    pub events: Events,
    pub metrics: Metrics,
}

/// A request's part in a step.
pub(super) struct Member {
    pub(super) pending: Box<Pending>,
    pub(super) attempt: Attempt,
}

/// What the actor learns once the lane is free.
#[derive(Default)]
pub(super) struct Finished {
    /// How long the step had the lane to itself, when it was computed.
    pub(super) took: Option<Duration>,
    /// Why it failed, when the lane said so.
    pub(super) error: Option<BackendError>,
    /// Requests to be tried again for that.
    #[allow(clippy::vec_box, reason = "they come out of the queue boxed, and go on so")]
    pub(super) again: Vec<Box<Pending>>,
    /// Whether its requests pay nothing for it, although they are not tried again.
    pub(super) free: bool,
}

/// A step on its way to its lane.
pub(super) struct Sent {
    pub(super) at: Instant,
    /// Rows of each request.
    pub(super) rows: Vec<u64>,
    pub(super) cancelled: CancellationToken,
    pub(super) result: BoxFuture<'static, Result<StepOutput, BackendError>>,
}

/// Sends the step of one request, or of several that are alike; what sends in order is computed in order.
pub(super) fn send(members: &[Member], session: SessionName, backend: &dyn Backend) -> Sent {
    let [first, ..] = members else { unreachable!("a step has a request") };
    if members.len() == 1 {
        return send_one(&first.pending, session, backend);
    }
    let requests: Vec<_> = members.iter().map(|member| member.pending.request.inputs.as_slice()).collect();
    let rows = requests.iter().map(|inputs| domain::rows(inputs)).collect();
    // One that is cancelled does not take the others along.
    sent((domain::join(&requests), rows, CancellationToken::new()), &first.pending, session, backend)
}

/// Sends the step of one request.
pub(super) fn send_one(pending: &Pending, session: SessionName, backend: &dyn Backend) -> Sent {
    let inputs = pending.request.inputs.clone();
    let rows = vec![domain::rows(&inputs)];
    // A second lane may have the request as well, and is told for itself.
    sent((inputs, rows, pending.cancelled.child_token()), pending, session, backend)
}

fn sent(
    (inputs, rows, cancelled): (Vec<Tensor>, Vec<u64>, CancellationToken),
    first: &Pending,
    session: SessionName,
    backend: &dyn Backend,
) -> Sent {
    let step = Step {
        session,
        inputs,
        outputs: first.request.outputs.clone(),
        keeping: None,
        cancelled: cancelled.clone(),
    };
    Sent { at: Instant::now(), rows, cancelled, result: backend.execute(step) }
}

/// Runs a sent step to its end: each of its requests is answered as soon as anything decides.
pub(super) async fn run(members: Vec<Member>, step: Sent, backend: &dyn Backend, ledger: Ledger) -> Finished {
    let Sent { at: sent, rows, cancelled, mut result } = step;
    let mut members: Vec<_> = members.into_iter().enumerate().collect();
    let result = loop {
        let (over, failure) = tokio::select! {
            biased;
            result = &mut result => break result,
            over = first_over(&members) => over,
        };
        let (_, Member { mut pending, attempt }) = members.swap_remove(over);
        fail(&mut pending, Some(&attempt), sent, &failure, &ledger);
        drop(pending);
        if members.is_empty() {
            cancelled.cancel();
            wind_up(result, backend).await;
            return Finished::default();
        }
    };
    conclude(members, sent, &rows, result, &ledger)
}

/// Answers those who have waited for a step to its end, each by its place among those of so many rows.
pub(super) fn conclude(
    members: Vec<(usize, Member)>,
    sent: Instant,
    rows: &[u64],
    result: Result<StepOutput, BackendError>,
    ledger: &Ledger,
) -> Finished {
    let shared = rows.len() > 1;
    let answered = result.and_then(|StepOutput { outputs, timing }| {
        let outputs = if shared { domain::split(&outputs, rows).map_err(unfit)? } else { vec![outputs] };
        Ok((outputs, timing))
    });
    match answered {
        Ok((mut outputs, timing)) => {
            let took = took(sent, timing);
            let entry = &members[0].1.pending.request.entry;
            entry.served.executed(inferences(&entry.model, rows));
            for (place, Member { pending, attempt }) in members {
                let outputs = std::mem::take(&mut outputs[place]);
                succeed(*pending, attempt, sent, StepOutput { outputs, timing }, ledger);
            }
            Finished { took: Some(took), ..Finished::default() }
        }
        Err(error) => {
            let failed = members.into_iter().map(|(_, member)| member);
            let again = failed.filter_map(|member| failed_member(member, shared, sent, &error, ledger));
            Finished { again: again.collect(), error: Some(error), ..Finished::default() }
        }
    }
}

/// Behind the lane's other step it waited like in the queue.
pub(super) fn took(sent: Instant, timing: StepTiming) -> Duration {
    sent.elapsed().saturating_sub(Duration::from_micros(timing.wait))
}

/// Waits for the end of a step that nobody waits for any more; a lane that does not come to it is given up.
pub(super) async fn wind_up(
    result: BoxFuture<'static, Result<StepOutput, BackendError>>,
    backend: &dyn Backend,
) -> Option<Result<StepOutput, BackendError>> {
    let ended = tokio::time::timeout(HANG_GRACE, result).await.ok();
    if ended.is_none() {
        backend.abandon(format!("a step went on for {} s after its caller had gone", HANG_GRACE.as_secs()));
    }
    ended
}

/// How many inferences a step of requests with so many rows is.
fn inferences(model: &Model, rows: &[u64]) -> u64 {
    let batched = model.signature.batch_symbol().is_some();
    rows.iter().map(|rows| if batched { *rows } else { 1 }).sum()
}

/// Answers a request whose step has failed, unless it may be tried again.
/// What fails together is tried again alone, whatever the failure: one of them may be at fault for all.
fn failed_member(
    Member { mut pending, attempt }: Member,
    shared: bool,
    sent: Instant,
    error: &BackendError,
    ledger: &Ledger,
) -> Option<Box<Pending>> {
    let again = if shared { pending.may_go_on() } else { pending.may_retry(error) };
    let failure = error.clone().into();
    if !again {
        fail(&mut pending, Some(&attempt), sent, &failure, ledger);
        return None;
    }
    ledger.keep(failed(&pending, Some(&attempt), sent, &failure), false);
    pending.alone |= shared;
    Some(pending)
}

/// The first of them whose caller has given up or whose time is over.
fn first_over(members: &[(usize, Member)]) -> impl Future<Output = (usize, Failure)> {
    let over = members
        .iter()
        .enumerate()
        .map(|(at, (_, Member { pending, .. }))| Box::pin(over(pending).map(move |failure| (at, failure))));
    select_all(over).map(|(first, ..)| first)
}

/// Resolves when its caller has given up or its time is over.
pub(super) fn over(pending: &Pending) -> impl Future<Output = Failure> + use<> {
    let (given_up, deadline) = (pending.cancelled.clone(), pending.request.deadline);
    async move {
        tokio::select! {
            biased;
            () = given_up.cancelled() => cancelled(),
            () = tokio::time::sleep_until(deadline) => deadline_exceeded("while computing"),
        }
    }
}

fn unfit(problem: String) -> BackendError {
    BackendError::Execute { message: problem, code: Code::Internal, retry: Retry::Same }
}

fn succeed(mut pending: Pending, attempt: Attempt, sent: Instant, output: StepOutput, ledger: &Ledger) {
    let timing = timing(&pending, sent, output.timing);
    let record = record(&pending, Some(&attempt), &attempt.run, timing, None);
    let Attempt { run, provenance, .. } = attempt;
    let request = pending.request.trace.id.clone();
    let answered = pending.answer(Ok(Answer { run, request, outputs: output.outputs, provenance, timing }));
    drop(pending);
    ledger.keep(record, answered);
}

/// Answers with a failure, when there is somebody to answer, and keeps the run.
pub(super) fn fail(
    pending: &mut Pending,
    attempt: Option<&Attempt>,
    sent: Instant,
    failure: &Failure,
    ledger: &Ledger,
) {
    let record = failed(pending, attempt, sent, failure);
    let answered = pending.answer(Err(failure.clone()));
    ledger.keep(record, answered);
}

pub(super) fn failed(
    pending: &Pending,
    attempt: Option<&Attempt>,
    sent: Instant,
    failure: &Failure,
) -> RunRecord {
    let timing = timing(pending, sent, StepTiming::default());
    let run = attempt.map_or_else(run_id, |attempt| attempt.run.clone());
    record(pending, attempt, &run, timing, Some(failure.clone()))
}

impl Ledger {
    pub(super) fn keep(&self, record: RunRecord, answered: bool) {
        self.metrics.ran(&record, answered);
        self.keep_beside(record);
    }

    /// Keeps an attempt that neither answered its request nor had to be followed by another.
    pub(super) fn keep_beside(&self, record: RunRecord) {
        self.events.publish(Topic::Runs, || json!(&record));
        self.store.record_run(record);
    }
}

fn timing(pending: &Pending, sent: Instant, step: StepTiming) -> Timing {
    let accepted = pending.request.accepted.at;
    Timing {
        queue: (sent - accepted).as_micros() as u64 + step.wait,
        transfer: step.transfer,
        decode: step.decode,
        compute: step.compute,
        encode: step.encode,
        total: accepted.elapsed().as_micros() as u64,
    }
}

/// The row of an attempt, which ends its span as well.
fn record(
    pending: &Pending,
    attempt: Option<&Attempt>,
    run: &RunId,
    timing: Timing,
    error: Option<Failure>,
) -> RunRecord {
    let trace = &pending.request.trace;
    trace.ran(attempt.map(|attempt| &attempt.span), run, &timing, error.as_ref());
    RunRecord {
        run: run.clone(),
        request: Some(trace.id.clone()),
        accepted_at_us: pending.request.accepted.at_us,
        caller: pending.request.caller.id.to_string(),
        model: pending.request.entry.model.name.clone(),
        provenance: attempt.map(|attempt| attempt.provenance.clone()),
        timing,
        error,
    }
}

pub(super) fn run_id() -> RunId {
    RunId::new(format!("{:024x}", rand::random::<u128>() >> 32))
}

pub(super) fn cancelled() -> Failure {
    Failure::new(Code::Cancelled, Retry::Never, "cancelled by its caller")
}

pub(super) fn deadline_exceeded(when: &str) -> Failure {
    Failure::new(Code::DeadlineExceeded, Retry::Same, format!("the request's time ran out {when}"))
}
