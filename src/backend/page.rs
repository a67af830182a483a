//! A lane in a browser's page: a dedicated Worker at the other end of a link.
//!
//! One task reads the link and resolves what is pending; whoever calls `execute` writes to it directly.

pub mod weft;

use std::{
    collections::HashMap,
    future::ready,
    sync::{
        Arc, Mutex, MutexGuard,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use bytes::Bytes;
use futures_util::future::BoxFuture;
use tokio::sync::{oneshot, watch};

use super::{
    Activity, Backend, BackendError, DeliveredFile, Delivery, LoadOrder, Loaded, SessionName, Step,
    StepOutput, StepTiming, tensors,
};
use crate::{
    bridge::{Bridge, LinkReceiver, LinkSender, Message, Received, Session},
    domain::{Body, Code, Environment, LaneMemory, Retry},
    protocol::link::{DaemonToLane, FileFetch, LaneTiming, LaneToDaemon, ModelFetch, Payload},
    tasks::Tasks,
};

impl Message for LaneToDaemon {
    fn payload(&self) -> Option<Payload> {
        match self {
            Self::Result { payload, .. } => *payload,
            _ => None,
        }
    }
}

/// The daemon's end of a page lane.
pub struct PageLane {
    environment: Environment,
    memory_max: Option<u64>,
    link: Arc<Link>,
}

struct Link {
    sender: LinkSender,
    state: Mutex<LinkState>,
    /// The reason once the lane is gone.
    lost: watch::Sender<Option<String>>,
    memory: watch::Sender<LaneMemory>,
    recycled: AtomicBool,
}

struct LinkState {
    last_id: u64,
    pending: HashMap<u64, oneshot::Sender<Reply>>,
    /// When the lane last answered: until then a later step waited behind an earlier one.
    answered_at: Instant,
    activity: Activity,
}

struct Reply {
    received: Result<Received<LaneToDaemon>, BackendError>,
    at: Instant,
    /// When the answer before this one came.
    previous: Instant,
}

impl PageLane {
    /// Takes over the link of a lane that has reported ready, and how much its heap can grow to.
    pub fn start(environment: Environment, memory_max: Option<u64>, session: Session, tasks: &Tasks) -> Self {
        let (pending, activity) = (HashMap::new(), Activity::default());
        let state = LinkState { last_id: 0, pending, answered_at: Instant::now(), activity };
        let link = Arc::new(Link {
            sender: session.sender,
            state: Mutex::new(state),
            lost: watch::Sender::new(None),
            memory: watch::Sender::default(),
            recycled: AtomicBool::new(false),
        });
        tasks.spawn("page lane reader", read(link.clone(), session.receiver));
        Self { environment, memory_max, link }
    }
}

async fn read(link: Arc<Link>, mut receiver: LinkReceiver) {
    let mut lost = link.lost.subscribe();
    let reason = loop {
        let received = tokio::select! {
            received = receiver.receive::<LaneToDaemon>() => received,
            _ = lost.wait_for(Option::is_some) => return,
        };
        let received = match received {
            Ok(received) => received,
            Err(closed) => break closed.reason,
        };
        if let LaneToDaemon::Memory(memory) = received.message {
            link.memory.send_replace(memory);
            continue;
        }
        let (LaneToDaemon::Result { id, .. }
        | LaneToDaemon::Loaded { id, .. }
        | LaneToDaemon::Unloaded { id }
        | LaneToDaemon::Programmed { id }
        | LaneToDaemon::Failed { id, .. }) = received.message
        else {
            break "the lane reported ready twice".to_owned();
        };
        link.resolve(id, received);
    };
    link.lose(&reason);
}

impl Link {
    fn state(&self) -> MutexGuard<'_, LinkState> {
        self.state.lock().expect("no holder of a lane's state panics")
    }

    fn resolve(&self, id: u64, received: Received<LaneToDaemon>) {
        let mut state = self.state();
        let at = Instant::now();
        let previous = std::mem::replace(&mut state.answered_at, at);
        let Some(pending) = state.pending.remove(&id) else {
            tracing::warn!(id, "a lane answered what nobody asked");
            return;
        };
        drop(state);
        let _ = pending.send(Reply { received: Ok(received), at, previous });
    }

    fn began(&self, now: Instant) {
        let activity = &mut self.state().activity;
        activity.in_flight += 1;
        activity.last = Some(now);
    }

    /// Notes the end of a step: when it was answered, and how long it had its turn.
    fn ended(&self, answered: Option<(Instant, Duration)>) {
        let activity = &mut self.state().activity;
        activity.in_flight -= 1;
        if let Some((at, took)) = answered {
            activity.executed += 1;
            activity.busy_us += took.as_micros() as u64;
            activity.last = Some(at);
        }
    }

    fn lose(&self, reason: &str) {
        tracing::debug!(reason, "lane lost");
        self.lost.send_if_modified(|lost| {
            let first = lost.is_none();
            if first {
                *lost = Some(reason.to_owned());
            }
            first
        });
        // After the flag is up, so that no later call can slip in between.
        let pending = std::mem::take(&mut self.state().pending);
        let now = Instant::now();
        for (_, pending) in pending {
            let received = Err(BackendError::Lost { reason: reason.to_owned() });
            let _ = pending.send(Reply { received, at: now, previous: now });
        }
    }

    /// Sends a message under a fresh id; the receiver resolves with the answer.
    fn ask(
        &self,
        message: impl FnOnce(u64, Option<Payload>) -> DaemonToLane,
        body: Body,
    ) -> (u64, oneshot::Receiver<Reply>) {
        let (pending, reply) = oneshot::channel();
        let mut state = self.state();
        state.last_id += 1;
        let id = state.last_id;
        let lost = self.lost.borrow().clone();
        // Sent under the lock, so that steps leave in the order of their ids.
        let sent = match lost {
            Some(reason) => Err(reason),
            None => self.sender.frame(|payload| message(id, payload), body).map_err(|closed| closed.reason),
        };
        match sent {
            Ok(()) => {
                state.pending.insert(id, pending);
            }
            Err(reason) => {
                let now = Instant::now();
                let _ = pending.send(Reply {
                    received: Err(BackendError::Lost { reason }),
                    at: now,
                    previous: now,
                });
            }
        }
        (id, reply)
    }
}

async fn answer(
    reply: oneshot::Receiver<Reply>,
) -> Result<(Received<LaneToDaemon>, Instant, Instant), BackendError> {
    let gone = BackendError::Lost { reason: "the lane's reader ended".to_owned() };
    let Reply { received, at, previous } = reply.await.map_err(|_| gone)?;
    Ok((received?, at, previous))
}

fn unexpected(message: &LaneToDaemon) -> BackendError {
    BackendError::Lost { reason: format!("the lane answered with {message:?}") }
}

impl Backend for PageLane {
    fn environment(&self) -> &Environment {
        &self.environment
    }

    fn load(&self, order: LoadOrder) -> BoxFuture<'static, Result<Loaded, BackendError>> {
        let started = Instant::now();
        let Some(Delivery { graph, files }) = order.delivery else {
            return Box::pin(ready(Err(BackendError::Load {
                message: "nothing was said of its files".to_owned(),
                code: Code::Internal,
                retry: Retry::Never,
            })));
        };
        let graph_bytes = graph.as_ref().map_or(0, Bytes::len);
        let mut body = Body::default();
        files.iter().map(|file| file.leaves.clone()).chain(graph).for_each(|part| body.push(part));
        let fetch = |DeliveredFile { digest, bytes, .. }: &DeliveredFile| FileFetch {
            url: Bridge::model_url(*digest),
            digest: *digest,
            bytes: *bytes,
        };
        let files = files.iter().map(fetch).collect();
        let model = ModelFetch { digest: order.session.model, graph_bytes, files };
        let (session, free_dimensions) = (order.session.to_string(), order.session.shapes);
        let (_, reply) = self
            .link
            .ask(|id, payload| DaemonToLane::Load { id, session, model, free_dimensions, payload }, body);
        Box::pin(async move {
            let (received, at, _) = answer(reply).await?;
            match received.message {
                LaneToDaemon::Loaded { placement, grown, fetched_bytes, timing_us, .. } => {
                    let load_us = (at - started).as_micros() as u64;
                    Ok(Loaded { placement, load_us, lane_us: timing_us, fetched: fetched_bytes, grown })
                }
                LaneToDaemon::Failed { code, message, retry, .. } => {
                    Err(BackendError::Load { message, code, retry })
                }
                other => Err(unexpected(&other)),
            }
        })
    }

    fn unload(&self, session: SessionName) -> BoxFuture<'static, Result<(), BackendError>> {
        let session = session.to_string();
        let (_, reply) = self.link.ask(|id, _| DaemonToLane::Unload { id, session }, Body::default());
        Box::pin(async move {
            match answer(reply).await?.0.message {
                LaneToDaemon::Unloaded { .. } => Ok(()),
                LaneToDaemon::Failed { code, message, retry, .. } => {
                    Err(BackendError::Execute { message, code, retry })
                }
                other => Err(unexpected(&other)),
            }
        })
    }

    fn execute(&self, step: Step) -> BoxFuture<'static, Result<StepOutput, BackendError>> {
        if let Err(error) = step.forgets() {
            return Box::pin(async { Err(error) });
        }
        self.step(step, None)
    }

    fn activity(&self) -> Activity {
        self.link.state().activity
    }

    fn lost(&self) -> BoxFuture<'static, String> {
        let mut lost = self.link.lost.subscribe();
        Box::pin(async move {
            match lost.wait_for(Option::is_some).await {
                Ok(reason) => reason.clone().unwrap_or_default(),
                Err(_) => "the lane was dropped".to_owned(),
            }
        })
    }

    fn abandon(&self, reason: String) {
        self.link.lose(&reason);
    }

    fn memory_max(&self) -> Option<u64> {
        self.memory_max
    }

    fn memory(&self) -> Option<watch::Receiver<LaneMemory>> {
        Some(self.link.memory.subscribe())
    }

    fn recycle(&self, reason: String) {
        // Ahead of the loss, which whoever hears of it may ask about at once.
        self.link.recycled.store(true, Ordering::Release);
        self.link.lose(&reason);
    }

    fn recycled(&self) -> bool {
        self.link.recycled.load(Ordering::Acquire)
    }
}

impl PageLane {
    /// Sends a program ahead of the steps of a session that need it.
    fn program(
        &self,
        session: &SessionName,
        program: u64,
        drops: Vec<u64>,
        (block_bytes, body): (usize, Body),
    ) -> impl Future<Output = Result<(), BackendError>> + use<> {
        let session = session.to_string();
        let (_, reply) = self.link.ask(
            |id, payload| DaemonToLane::Program { id, session, program, drops, block_bytes, payload },
            body,
        );
        async move {
            match answer(reply).await?.0.message {
                LaneToDaemon::Programmed { .. } => Ok(()),
                LaneToDaemon::Failed { code, message, retry, .. } => {
                    Err(BackendError::Execute { message, code, retry })
                }
                other => Err(unexpected(&other)),
            }
        }
    }

    /// Sends a step; of a session on our own kernels, with the program that it follows.
    fn step(&self, step: Step, program: Option<u64>) -> BoxFuture<'static, Result<StepOutput, BackendError>> {
        let sent_at = Instant::now();
        let (inputs, body) = tensors::joined(step.inputs);
        let session = step.session.to_string();
        let (id, reply) = self.link.ask(
            |id, payload| DaemonToLane::Step { id, session, program, inputs, outputs: step.outputs, payload },
            body,
        );
        self.link.began(sent_at);
        let link = self.link.clone();
        Box::pin(async move {
            let mut reply = Box::pin(answer(reply));
            let answered = tokio::select! {
                biased;
                answered = &mut reply => answered,
                () = step.cancelled.cancelled() => {
                    // A closed link resolves the reply by itself.
                    let _ = link.sender.control(&DaemonToLane::Cancel { id });
                    reply.await
                }
            };
            link.ended(answered.as_ref().ok().map(|(_, at, previous)| (*at, *at - sent_at.max(*previous))));
            let (received, at, previous) = answered?;
            match received.message {
                LaneToDaemon::Result { outputs, timing_us, .. } => Ok(StepOutput {
                    outputs: tensors::apart(outputs, &received.body)?,
                    timing: timing(timing_us, sent_at, previous, at),
                }),
                LaneToDaemon::Failed { code: Code::Cancelled, .. } => Err(BackendError::Cancelled),
                LaneToDaemon::Failed { code: Code::ModelNotReady, message, .. } => {
                    Err(BackendError::NotLoaded { session: message })
                }
                LaneToDaemon::Failed { code, message, retry, .. } => {
                    Err(BackendError::Execute { message, code, retry })
                }
                other => Err(unexpected(&other)),
            }
        })
    }
}

/// Splits the daemon's clock around the lane's own: until the answer before, the step stood behind another.
fn timing(lane: LaneTiming, sent_at: Instant, previous: Instant, at: Instant) -> StepTiming {
    let began = sent_at.max(previous);
    let own = lane.total.saturating_sub(lane.wait);
    StepTiming {
        transfer: ((at - began).as_micros() as u64).saturating_sub(own),
        wait: (began - sent_at).as_micros() as u64,
        decode: lane.decode,
        compute: lane.compute,
        encode: lane.encode,
    }
}
