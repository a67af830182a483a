//! One attempt: waits for the lane, answers the caller as soon as anything decides, and frees the lane last.

use std::{sync::Arc, time::Duration};

use futures_util::future::BoxFuture;
use serde_json::json;
use tokio::time::Instant;

use super::{
    Answer,
    actor::{Attempt, Pending},
};
use crate::{
    backend::{Backend, BackendError, SessionName, Step, StepOutput, StepTiming},
    domain::{Code, Failure, Retry, RunId, RunRecord, Timing},
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

/// What the actor learns once the lane is free.
pub(super) struct Finished {
    pub(super) session: SessionName,
    /// Send to reply, when the lane answered with a result.
    pub(super) took: Option<Duration>,
    /// A request to be tried again, with the reason.
    pub(super) again: Option<(Box<Pending>, BackendError)>,
}

/// A step on its way to its lane.
pub(super) struct Sent {
    at: Instant,
    result: BoxFuture<'static, Result<StepOutput, BackendError>>,
}

/// Sends a request's step; what sends in order is computed in order.
pub(super) fn send(pending: &Pending, session: SessionName, backend: &dyn Backend) -> Sent {
    let step = Step {
        session,
        inputs: pending.request.inputs.clone(),
        outputs: pending.request.outputs.clone(),
        cancelled: pending.cancelled.clone(),
    };
    Sent { at: Instant::now(), result: backend.execute(step) }
}

/// Runs a sent attempt to its end.
pub(super) async fn run(
    mut pending: Box<Pending>,
    attempt: Attempt,
    step: Sent,
    backend: &dyn Backend,
    ledger: Ledger,
) -> Finished {
    let Sent { at: sent, mut result } = step;
    let session = attempt.session.clone();
    let early = tokio::select! {
        biased;
        result = &mut result => Ok(result),
        () = pending.cancelled.cancelled() => Err(cancelled()),
        () = tokio::time::sleep_until(pending.request.deadline) => Err(deadline_exceeded("while computing")),
    };
    match early {
        Ok(Ok(output)) => {
            let took = sent.elapsed();
            succeed(*pending, attempt, sent, output, &ledger);
            Finished { session, took: Some(took), again: None }
        }
        Ok(Err(error)) if pending.may_retry(&error) => {
            fail(None, &pending, Some(&attempt), sent, &error.clone().into(), &ledger);
            Finished { session, took: None, again: Some((pending, error)) }
        }
        Ok(Err(error)) => {
            let reply = pending.reply.take();
            fail(reply, &pending, Some(&attempt), sent, &error.into(), &ledger);
            Finished { session, took: None, again: None }
        }
        Err(failure) => {
            pending.cancelled.cancel();
            let reply = pending.reply.take();
            fail(reply, &pending, Some(&attempt), sent, &failure, &ledger);
            drop(pending);
            if tokio::time::timeout(HANG_GRACE, result).await.is_err() {
                backend.abandon(format!(
                    "a step went on for {} s after its caller had gone",
                    HANG_GRACE.as_secs()
                ));
            }
            Finished { session, took: None, again: None }
        }
    }
}

fn succeed(mut pending: Pending, attempt: Attempt, sent: Instant, output: StepOutput, ledger: &Ledger) {
    let timing = timing(&pending, sent, output.timing);
    let record = record(&pending, Some(&attempt), &attempt.run, timing, None);
    let answered = pending.reply.is_some();
    if let Some(reply) = pending.reply.take() {
        let Attempt { run, provenance, .. } = attempt;
        let request = pending.request.trace.id.clone();
        reply(Ok(Answer { run, request, outputs: output.outputs, provenance, timing }));
    }
    drop(pending);
    ledger.keep(record, answered);
}

/// Answers with a failure, when there is somebody to answer, and keeps the run.
pub(super) fn fail(
    reply: Option<super::Reply>,
    pending: &Pending,
    attempt: Option<&Attempt>,
    sent: Instant,
    failure: &Failure,
    ledger: &Ledger,
) {
    let timing = timing(pending, sent, StepTiming::default());
    let run = attempt.map_or_else(run_id, |attempt| attempt.run.clone());
    let record = record(pending, attempt, &run, timing, Some(failure.clone()));
    let answered = reply.is_some();
    if let Some(reply) = reply {
        reply(Err(failure.clone()));
    }
    ledger.keep(record, answered);
}

impl Ledger {
    fn keep(&self, record: RunRecord, answered: bool) {
        self.metrics.ran(&record, answered);
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
