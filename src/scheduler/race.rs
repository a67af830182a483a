//! One request in two lanes: the first answer is told, and the other lane is told to leave it.
//!
//! The request stays in one hand, so that it is answered once, whatever the lanes do.

use std::{sync::Arc, time::Duration};

use futures_util::future::{self, join_all, select_all};
use tokio::sync::{mpsc, oneshot};

use super::{
    Wants,
    actor::Message,
    pending::{Attempt, Charge, Pending},
    sequence::SequenceKey,
    step::{self, Finished, Ledger, Member, Sent},
};
use crate::{
    backend::{Backend, BackendError, SessionName, StepOutput},
    domain::{Caller, Code, DimBinding, Failure, InstanceId, Provenance, Retry, RunRecord},
    models::Entry,
};

/// A step's place in a lane, which the actor counts as taken until it hears that it was left.
pub(super) struct Slot {
    pub(super) inbox: mpsc::Sender<Message>,
    pub(super) backend: Arc<dyn Backend>,
    pub(super) session: SessionName,
    /// What the step's requests were charged ahead.
    pub(super) charges: Vec<Charge>,
    /// The sequence of its only request, and whether that was the last.
    pub(super) sequence: Option<(SequenceKey, bool)>,
}

impl Slot {
    pub(super) async fn leave(self, finished: Finished) {
        let Self { inbox, backend, session, charges, sequence } = self;
        // The actor outlives every step but those of a stopping daemon.
        let _ = inbox.send(Message::Finished { backend, session, charges, sequence, finished }).await;
    }
}

/// When a request asks for a second lane.
pub(super) struct Hedge {
    pub(super) after: Duration,
    /// Whether its lane has nothing else to do.
    pub(super) alone: bool,
}

/// A request asks for a second lane; dropped, it gets none.
pub(super) struct Ask {
    pub(super) entry: Arc<Entry>,
    pub(super) binding: DimBinding,
    pub(super) wants: Wants,
    pub(super) caller: Caller,
    /// Where it runs already.
    pub(super) instance: InstanceId,
    pub(super) reply: oneshot::Sender<Grant>,
}

/// The second lane.
pub(super) struct Grant {
    pub(super) slot: Slot,
    pub(super) provenance: Provenance,
}

/// The request in one lane.
struct Runner {
    attempt: Attempt,
    sent: Sent,
    slot: Slot,
    /// Whether the lane had nothing else to do.
    alone: bool,
}

type Outcome = Result<StepOutput, BackendError>;

/// Runs a step of one request to its end, with a second lane if the first takes too long.
pub(super) async fn run(member: Member, sent: Sent, slot: Slot, hedge: Hedge, ledger: Ledger) {
    let Member { mut pending, attempt } = member;
    let (late, inbox) = (sent.at + hedge.after, slot.inbox.clone());
    let mut runners = vec![Runner { attempt, sent, slot, alone: hedge.alone }];
    let (mut may_ask, mut asked) = (true, None);
    let mut over = Box::pin(step::over(&pending));
    let left = loop {
        tokio::select! {
            biased;
            (outcome, runner) = first(&mut runners) => match outcome {
                Err(error) if !runners.is_empty() && error.retry() != Retry::Never => {
                    go_on(&mut pending, runner, error, &ledger).await;
                }
                outcome => break decided(pending, runner, outcome, runners, &ledger).await,
            },
            failure = &mut over => break given_up(pending, runners, &failure, &ledger),
            () = tokio::time::sleep_until(late), if may_ask => {
                may_ask = false;
                asked = ask(&pending, &runners[0].slot, &inbox);
            }
            grant = granted(&mut asked) => {
                asked = None;
                runners.extend(grant.map(|grant| second(&mut pending, grant, &ledger)));
            }
        }
    };
    future::join(join_all(left.into_iter().map(Runner::wind_up)), give_back(asked)).await;
}

/// Takes out the runner whose lane is the first to be free of the request.
async fn first(runners: &mut Vec<Runner>) -> (Outcome, Runner) {
    let (outcome, at, _) = select_all(runners.iter_mut().map(|runner| &mut runner.sent.result)).await;
    (outcome, runners.swap_remove(at))
}

fn ask(pending: &Pending, slot: &Slot, inbox: &mpsc::Sender<Message>) -> Option<oneshot::Receiver<Grant>> {
    let (reply, granted) = oneshot::channel();
    let request = &pending.request;
    let ask = Ask {
        entry: request.entry.clone(),
        binding: request.binding.clone(),
        wants: request.wants.clone(),
        caller: request.caller.clone(),
        instance: slot.backend.environment().instance.clone(),
        reply,
    };
    // An actor whose inbox is full has other requests to think of.
    inbox.try_send(Message::Hedge(Box::new(ask))).ok().map(|()| granted)
}

async fn granted(asked: &mut Option<oneshot::Receiver<Grant>>) -> Option<Grant> {
    match asked {
        Some(asked) => asked.await.ok(),
        None => future::pending().await,
    }
}

/// A second lane that comes too late is left as it was.
async fn give_back(mut asked: Option<oneshot::Receiver<Grant>>) {
    if asked.is_some()
        && let Some(Grant { slot, .. }) = granted(&mut asked).await
    {
        slot.leave(Finished { free: true, ..Finished::default() }).await;
    }
}

fn second(pending: &mut Pending, Grant { slot, provenance }: Grant, ledger: &Ledger) -> Runner {
    ledger.metrics.hedged(&pending.request.entry.model.name);
    let attempt = Attempt::begin(pending, provenance);
    let sent = step::send_one(pending, slot.session.clone(), &*slot.backend);
    Runner { attempt, sent, slot, alone: true }
}

/// One of two has failed: the other is the request's next attempt.
async fn go_on(pending: &mut Pending, runner: Runner, error: BackendError, ledger: &Ledger) {
    let Runner { attempt, sent, slot, .. } = runner;
    let failure = error.clone().into();
    ledger.keep(step::failed(pending, Some(&attempt), sent.at, &failure), false);
    pending.shun(&slot.backend.environment().lane, &error);
    slot.leave(Finished { error: Some(error), free: true, ..Finished::default() }).await;
}

/// Ends the request with this outcome, unless it may be tried again; answers with who still runs.
async fn decided(
    mut pending: Box<Pending>,
    runner: Runner,
    outcome: Outcome,
    others: Vec<Runner>,
    ledger: &Ledger,
) -> Vec<Runner> {
    let Runner { attempt, sent: Sent { at, rows, .. }, slot, .. } = runner;
    let beaten = format!("attempt {}, run {}, answered first", attempt.provenance.attempt, attempt.run);
    let beaten = Failure::new(Code::Cancelled, Retry::Never, beaten);
    // The request's own span ends with what is told.
    let beaten: Vec<RunRecord> = others.iter().map(|other| other.failed(&pending, &beaten)).collect();
    if outcome.is_ok() && attempt.provenance.attempt > 1 {
        ledger.metrics.hedge_won(&pending.request.entry.model.name);
    }
    // Tried again, it gets back what it was charged for this lane.
    pending.charged = slot.charges.iter().map(|charge| charge.micros).sum();
    let finished = step::conclude(vec![(0, Member { pending, attempt })], at, &rows, outcome, ledger);
    for record in beaten {
        ledger.keep_beside(record);
    }
    slot.leave(finished).await;
    others
}

/// Nobody waits for the request any more.
fn given_up(
    mut pending: Box<Pending>,
    runners: Vec<Runner>,
    failure: &Failure,
    ledger: &Ledger,
) -> Vec<Runner> {
    let beside: Vec<_> = runners[1..].iter().map(|runner| runner.failed(&pending, failure)).collect();
    let Runner { attempt, sent, .. } = &runners[0];
    step::fail(&mut pending, Some(attempt), sent.at, failure, ledger);
    for record in beside {
        ledger.keep_beside(record);
    }
    runners
}

impl Runner {
    fn failed(&self, pending: &Pending, failure: &Failure) -> RunRecord {
        step::failed(pending, Some(&self.attempt), self.sent.at, failure)
    }

    /// Has the lane leave the request, whose answer nobody waits for, and waits until it has.
    async fn wind_up(self) {
        let Self { sent: Sent { at, cancelled, result, .. }, slot, alone, .. } = self;
        cancelled.cancel();
        let finished = match step::wind_up(result, &*slot.backend).await {
            Some(Ok(output)) => Finished { took: Some(step::took(at, output.timing)), ..Finished::default() },
            // It has computed to the end: what it took is its caller's, and what is to be expected of the lane.
            Some(Err(BackendError::Cancelled)) => {
                Finished { took: alone.then(|| at.elapsed()), ..Finished::default() }
            }
            Some(Err(error)) => Finished { error: Some(error), ..Finished::default() },
            None => Finished::default(),
        };
        slot.leave(finished).await;
    }
}
