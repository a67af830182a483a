//! A native lane: an engine on one thread of this process, which has one thing to do at a time.

use std::{io, time::Instant};

use futures_util::future::BoxFuture;
use tokio::sync::watch;

use super::{
    Activity, Backend, BackendError, LoadOrder, Loaded, SessionName, Step, StepOutput,
    worker::{Dropped, Worker},
};
use crate::domain::{Adapter, BackendKind, Environment, InstanceId, LaneId, LaneMemory};

/// What does a lane's work.
pub trait Engine: Send + 'static {
    /// Loading a session that is there already answers as the first time did.
    fn load(&mut self, order: LoadOrder) -> Result<Loaded, BackendError>;

    fn unload(&mut self, session: &SessionName) -> Result<(), BackendError>;

    fn execute(&mut self, step: Step) -> Result<StepOutput, BackendError>;
}

impl<E: Engine + ?Sized> Engine for Box<E> {
    fn load(&mut self, order: LoadOrder) -> Result<Loaded, BackendError> {
        (**self).load(order)
    }

    fn unload(&mut self, session: &SessionName) -> Result<(), BackendError> {
        (**self).unload(session)
    }

    fn execute(&mut self, step: Step) -> Result<StepOutput, BackendError> {
        (**self).execute(step)
    }
}

/// One execution slot of the daemon's own.
pub struct ThreadLane<E> {
    environment: Environment,
    worker: Worker<E>,
    memory: Option<watch::Receiver<LaneMemory>>,
}

/// Where a lane of this process computes.
pub(super) fn environment(
    backend: BackendKind,
    engine: String,
    threads: u32,
    adapter: Option<Adapter>,
) -> Environment {
    Environment {
        instance: InstanceId::new("native"),
        lane: LaneId::new(format!("native/{backend}")),
        browser: "native".to_owned(),
        browser_version: env!("CARGO_PKG_VERSION").to_owned(),
        backend,
        adapter,
        webnn_device: None,
        sandbox: Some(true),
        engine,
        threads,
        flags: Vec::new(),
    }
}

impl<E: Engine> ThreadLane<E> {
    /// Starts the lane's thread. `memory` is what the engine says that it holds, where it says so.
    pub(super) fn begin(
        environment: Environment,
        engine: E,
        memory: Option<watch::Receiver<LaneMemory>>,
    ) -> io::Result<Self> {
        let worker = Worker::start(environment.lane.to_string(), engine)?;
        Ok(Self { environment, worker, memory })
    }
}

impl<E: Engine> Backend for ThreadLane<E> {
    fn environment(&self) -> &Environment {
        &self.environment
    }

    fn load(&self, order: LoadOrder) -> BoxFuture<'static, Result<Loaded, BackendError>> {
        self.worker.submit(Dropped::Skips, move |engine| engine.load(order))
    }

    fn unload(&self, session: SessionName) -> BoxFuture<'static, Result<(), BackendError>> {
        self.worker.submit(Dropped::Runs, move |engine| engine.unload(&session))
    }

    fn execute(&self, step: Step) -> BoxFuture<'static, Result<StepOutput, BackendError>> {
        let submitted = Instant::now();
        self.worker.submit(Dropped::Skips, move |engine| {
            if step.cancelled.is_cancelled() {
                return Err(BackendError::Cancelled);
            }
            let wait = submitted.elapsed().as_micros() as u64;
            let mut output = engine.execute(step)?;
            output.timing.wait = wait;
            Ok(output)
        })
    }

    /// No pool keeps native lanes, so nobody asks.
    fn activity(&self) -> Activity {
        Activity::default()
    }

    /// After the lane was dropped, this resolves once its thread has freed its sessions.
    fn lost(&self) -> BoxFuture<'static, String> {
        self.worker.ended()
    }

    /// A thread cannot be ended from outside, so a hung lane stays as it is, and its requests run out of time.
    fn abandon(&self, reason: String) {
        tracing::error!(lane = %self.environment.lane, reason, "a native lane hangs");
    }

    fn memory(&self) -> Option<watch::Receiver<LaneMemory>> {
        self.memory.clone()
    }
}
