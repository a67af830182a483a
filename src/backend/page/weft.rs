//! A lane on our own kernels in a browser's page: the daemon lowers the model, and the page follows programs.
//!
//! A program goes to the lane ahead of the first step that needs it. The daemon says which go in its place, since nobody
//! else sends any and a lane takes everything in its order.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard},
    time::Instant,
};

use futures_util::{FutureExt as _, future::BoxFuture};
use tokio::sync::watch;

use super::PageLane;
use crate::{
    backend::{
        Activity, Backend, BackendError, Delivery, LoadOrder, Loaded, SessionName, Step, StepOutput,
        lowered::{Compiled, Graph, Lowered, Target},
    },
    domain::{BackendKind, Body, Code, Environment, LaneMemory, Retry},
    kernels::{
        gpu::{self, Limits},
        lower::Sizes,
        wasm,
    },
    protocol::link::Capability,
};

/// Programs that a session of a lane has, each with buffers of its own beside the weights.
const PROGRAMS_MAX: usize = 8;

/// What is known of a lane's programs, before it has any: what they are for, and which kernels they are made of.
pub struct Kernels {
    target: Target,
    /// The engine's name with these kernels in it.
    pub engine: String,
}

impl Kernels {
    /// Of a lane that reported this; none of a lane on another engine.
    pub fn of(capability: &Capability) -> Option<Self> {
        match capability.backend {
            BackendKind::WeftWgsl => {
                let limits = Limits::of_page(capability.adapter.as_ref(), capability.limits.as_ref()?);
                Some(Self { target: Target::Gpu(limits), engine: gpu::engine() })
            }
            BackendKind::WeftWasm => {
                // It says behind its name which build of the module it runs.
                let build = capability.engine.strip_prefix("weft").unwrap_or_default();
                Some(Self { target: Target::Wasm, engine: wasm::engine() + build })
            }
            _ => None,
        }
    }
}

/// The daemon's end of a lane on our own kernels.
pub struct WeftLane {
    lowered: Lowered,
    desk: Arc<Desk>,
}

/// Where steps meet their programs.
struct Desk {
    page: PageLane,
    target: Target,
    sessions: Mutex<HashMap<SessionName, Session>>,
    /// Steps pass one by one in the order in which they came; the number of the program sent last.
    turn: tokio::sync::Mutex<u64>,
}

struct Session {
    graph: Arc<Graph>,
    /// What the lane has been sent, the one used last at the end.
    sent: Vec<(Sizes, u64)>,
    /// What it may have beside these, which goes with the next program.
    stale: Vec<u64>,
}

impl Session {
    fn forget(&mut self) {
        self.stale.extend(self.sent.drain(..).map(|(_, program)| program));
    }
}

impl WeftLane {
    pub fn over(page: PageLane, kernels: Kernels, lowered: Lowered) -> Self {
        let (sessions, turn) = (Mutex::default(), tokio::sync::Mutex::new(0));
        let desk = Desk { page, target: kernels.target, sessions, turn };
        Self { lowered, desk: Arc::new(desk) }
    }
}

impl Desk {
    fn sessions(&self) -> MutexGuard<'_, HashMap<SessionName, Session>> {
        self.sessions.lock().expect("no holder of a lane's sessions panics")
    }

    fn graph(&self, session: &SessionName) -> Result<Arc<Graph>, BackendError> {
        let sessions = self.sessions();
        let found = sessions.get(session).map(|session| session.graph.clone());
        found.ok_or_else(|| BackendError::NotLoaded { session: session.to_string() })
    }

    /// Sends a step, once the lane has the program that it needs; what comes of it resolves with the answer.
    async fn pass(
        &self,
        step: Step,
    ) -> Result<BoxFuture<'static, Result<StepOutput, BackendError>>, BackendError> {
        let cancelled = step.cancelled.clone();
        let mut turn = self.turn.lock().await;
        let program = tokio::select! {
            biased;
            program = self.program(&step, &mut turn) => program?,
            () = cancelled.cancelled() => return Err(BackendError::Cancelled),
        };
        Ok(self.page.step(step, Some(program)))
    }

    /// The program that a step needs; the lane has it when this resolves.
    async fn program(&self, step: &Step, last: &mut u64) -> Result<u64, BackendError> {
        let graph = self.graph(&step.session)?;
        let sizes = graph.sizes(&step.inputs, step.keeping).transpose()?;
        if let Some(program) = sizes.and_then(|sizes| self.sent(&step.session, &sizes)) {
            return Ok(program);
        }
        let (inputs, keeping, target) = (step.inputs.clone(), step.keeping, self.target.clone());
        let compiled = tokio::task::spawn_blocking(move || graph.compile(&target, &inputs, keeping)).await;
        let (sizes, compiled) = compiled.map_err(|_| panicked())??;
        if let Some(program) = self.sent(&step.session, &sizes) {
            return Ok(program);
        }
        *last += 1;
        let program = *last;
        // Noted ahead: should nobody wait for the answer, the lane has it nevertheless.
        let drops = self.note(&step.session, sizes, program)?;
        let made = self.page.program(&step.session, program, drops, compiled.body()).await;
        if made.is_err()
            && let Some(session) = self.sessions().get_mut(&step.session)
        {
            session.sent.retain(|(_, sent)| *sent != program);
        }
        made.map(|()| program)
    }

    /// The program for these sizes, if the lane has it.
    fn sent(&self, session: &SessionName, sizes: &Sizes) -> Option<u64> {
        let mut sessions = self.sessions();
        let sent = &mut sessions.get_mut(session)?.sent;
        let at = sent.iter().position(|(made_for, _)| made_for == sizes)?;
        let used = sent.remove(at);
        let program = used.1;
        sent.push(used);
        Some(program)
    }

    /// Takes note of a program that is about to be sent; answers those that go for it.
    fn note(&self, session: &SessionName, sizes: Sizes, program: u64) -> Result<Vec<u64>, BackendError> {
        let mut sessions = self.sessions();
        let gone = || BackendError::NotLoaded { session: session.to_string() };
        let Session { sent, stale, .. } = sessions.get_mut(session).ok_or_else(gone)?;
        let surplus = (sent.len() + 1).saturating_sub(PROGRAMS_MAX);
        let mut drops = std::mem::take(stale);
        drops.extend(sent.drain(..surplus).map(|(_, program)| program));
        sent.push((sizes, program));
        Ok(drops)
    }
}

fn panicked() -> BackendError {
    let message = "lowering the model panicked".to_owned();
    BackendError::Execute { message, code: Code::Internal, retry: Retry::Elsewhere }
}

impl Compiled {
    /// As a program's message carries it: how many bytes its block has, and the block with the JSON behind it.
    fn body(&self) -> (usize, Body) {
        let (json, block) = match self {
            Self::Gpu(program, block) => (serde_json::to_vec(program), block),
            Self::Wasm(program, block) => (serde_json::to_vec(program), block),
        };
        let json = json.expect("a program is numbers and texts");
        let mut body = Body::from(block.clone());
        body.push(json.into());
        (block.len(), body)
    }
}

impl Backend for WeftLane {
    fn environment(&self) -> &Environment {
        self.desk.page.environment()
    }

    fn load(&self, order: LoadOrder) -> BoxFuture<'static, Result<Loaded, BackendError>> {
        let (desk, lowered) = (self.desk.clone(), self.lowered.clone());
        Box::pin(async move {
            let started = Instant::now();
            let (digest, path, name) = (order.session.model, order.path.clone(), order.session.clone());
            let opened = tokio::task::spawn_blocking(move || lowered.open(digest, &path)).await;
            let graph = opened.map_err(|_| panicked())??;
            let read_us = started.elapsed().as_micros() as u64;
            // The page needs no graph: what it is sent of the model's files are weights.
            let delivery = order.delivery.map(|delivery| Delivery { graph: None, ..delivery });
            let mut loaded = desk.page.load(LoadOrder { delivery, ..order }).await?;
            loaded.load_us += read_us;
            loaded.placement = [(desk.page.environment().backend.to_string(), graph.nodes())].into();
            let mut session = Session { graph, sent: Vec::new(), stale: Vec::new() };
            let mut sessions = desk.sessions();
            if let Some(mut earlier) = sessions.remove(&name) {
                // The lane answers for a session that it has, with whatever it has of it.
                earlier.forget();
                session.stale = earlier.stale;
            }
            sessions.insert(name, session);
            Ok(loaded)
        })
    }

    fn unload(&self, session: SessionName) -> BoxFuture<'static, Result<(), BackendError>> {
        self.desk.sessions().remove(&session);
        self.desk.page.unload(session)
    }

    fn execute(&self, step: Step) -> BoxFuture<'static, Result<StepOutput, BackendError>> {
        let (desk, session) = (self.desk.clone(), step.session.clone());
        let passing = desk.clone();
        let mut passing = async move { passing.pass(step).await }.boxed();
        // A first look takes the step's turn, and sends it where nothing is missing.
        let passed = (&mut passing).now_or_never();
        Box::pin(async move {
            let answer = match passed {
                Some(answer) => answer?,
                None => passing.await?,
            };
            let answer = answer.await;
            if matches!(answer, Err(BackendError::NotLoaded { .. }))
                && let Some(session) = desk.sessions().get_mut(&session)
            {
                session.forget();
            }
            answer
        })
    }

    fn activity(&self) -> Activity {
        self.desk.page.activity()
    }

    fn lost(&self) -> BoxFuture<'static, String> {
        self.desk.page.lost()
    }

    fn abandon(&self, reason: String) {
        self.desk.page.abandon(reason);
    }

    fn memory(&self) -> Option<watch::Receiver<LaneMemory>> {
        self.desk.page.memory()
    }

    fn memory_max(&self) -> Option<u64> {
        self.desk.page.memory_max()
    }

    fn recycle(&self, reason: String) {
        self.desk.page.recycle(reason);
    }

    fn recycled(&self) -> bool {
        self.desk.page.recycled()
    }
}
