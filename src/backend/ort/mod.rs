//! The native lane: ONNX Runtime in the daemon's own process, on one thread of its own per lane, or another library of it
//! in a process of its own.
//!
//! It owns the engine's library and its sessions.
//! It never chooses a model, checks a request against a signature, or judges numbers.

pub mod elsewhere;
mod library;
mod placement;
mod sessions;
mod tensors;
mod worker;

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::Instant,
};

use futures_util::future::BoxFuture;

pub use self::library::OrtLibrary;
use self::{
    elsewhere::Elsewhere,
    sessions::{Graphs, Sessions},
    worker::{Dropped, Worker},
};
use super::{Activity, Backend, BackendError, LoadOrder, Loaded, SessionName, Step, StepOutput};
use crate::{
    domain::{BackendKind, Environment, InstanceId, LaneId, Retry},
    driver::ledger::RunDir,
};

#[derive(Debug, thiserror::Error)]
pub enum OrtError {
    #[error("ONNX Runtime's library {} is missing: `make setup` brings it", path.display())]
    LibraryMissing { path: PathBuf },
    #[error("could not load ONNX Runtime's library {}: {message}", path.display())]
    Library { path: PathBuf, message: String },
    #[error("ONNX Runtime is loaded from {} already, and a process can hold only one; {} was asked for", loaded.display(), wanted.display())]
    AnotherLibrary { loaded: PathBuf, wanted: PathBuf },
    #[error("this ONNX Runtime has no execution provider {provider:?}; it has {}", available.join(", "))]
    Provider { provider: String, available: Vec<String> },
    #[error("execution provider {provider:?} cannot be used here: {message}")]
    ProviderUnusable { provider: String, message: String },
    #[error("ONNX Runtime's library {} gives no lane on {provider:?}: {reason}", library.display())]
    Elsewhere { library: PathBuf, provider: String, reason: String },
    #[error("could not start the lane's thread: {source}")]
    Thread { source: std::io::Error },
}

impl OrtError {
    pub fn retry(&self) -> Retry {
        match self {
            Self::Thread { .. } => Retry::Same,
            Self::LibraryMissing { .. }
            | Self::Library { .. }
            | Self::AnotherLibrary { .. }
            | Self::Provider { .. }
            | Self::ProviderUnusable { .. }
            | Self::Elsewhere { .. } => Retry::Never,
        }
    }
}

/// What does a lane's work, one thing at a time.
trait Engine: Send {
    /// Loading a session that is there already answers as the first time did.
    fn load(&mut self, order: LoadOrder) -> Result<Loaded, BackendError>;

    fn unload(&mut self, session: &SessionName) -> Result<(), BackendError>;

    fn execute(&mut self, step: Step) -> Result<StepOutput, BackendError>;
}

/// One execution slot on one of ONNX Runtime's execution providers.
pub struct OrtLane {
    environment: Environment,
    worker: Worker<Box<dyn Engine>>,
}

impl OrtLane {
    /// Starts the lane's thread. `provider` is ONNX Runtime's name in short, as `cpu` or `cuda`.
    pub fn start(library: &OrtLibrary, provider: &str, threads: u32) -> Result<Self, OrtError> {
        Self::start_with(library, provider, threads, Graphs::Optimised)
    }

    /// The same on the CPU, where every node runs as the graph has it: parts of a graph then compute what the whole does,
    /// to the bit.
    pub fn start_plain(library: &OrtLibrary, threads: u32) -> Result<Self, OrtError> {
        Self::start_with(library, "cpu", threads, Graphs::AsTheyAre)
    }

    /// The same on another library, in a process of the run's that `program`, which is this one, becomes.
    pub fn start_elsewhere(
        program: &Path,
        run: &Arc<RunDir>,
        library: &Path,
        provider: &str,
        threads: u32,
    ) -> Result<Self, OrtError> {
        let (elsewhere, engine) = Elsewhere::start(program, run, library, provider, threads)?;
        Self::of(Box::new(elsewhere), engine, provider, threads)
    }

    fn start_with(
        library: &OrtLibrary,
        provider: &str,
        threads: u32,
        graphs: Graphs,
    ) -> Result<Self, OrtError> {
        let sessions = sessions(library, provider, threads, graphs)?;
        Self::of(Box::new(sessions), library.engine(), provider, threads)
    }

    fn of(does: Box<dyn Engine>, engine: String, provider: &str, threads: u32) -> Result<Self, OrtError> {
        let backend = BackendKind::Ort(provider.to_owned());
        let lane = format!("native/{backend}");
        let worker = Worker::start(lane.clone(), does).map_err(|source| OrtError::Thread { source })?;
        let environment = Environment {
            instance: InstanceId::new("native"),
            lane: LaneId::new(lane),
            browser: "native".to_owned(),
            browser_version: env!("CARGO_PKG_VERSION").to_owned(),
            backend,
            adapter: None,
            webnn_device: None,
            sandbox: Some(true),
            engine,
            threads,
            flags: Vec::new(),
        };
        Ok(Self { environment, worker })
    }
}

/// Sessions on a provider that the library has and that can be used here.
fn sessions(
    library: &OrtLibrary,
    provider: &str,
    threads: u32,
    graphs: Graphs,
) -> Result<Sessions, OrtError> {
    let available = library.providers();
    if !available.iter().any(|name| name == provider) {
        return Err(OrtError::Provider { provider: provider.to_owned(), available: available.to_vec() });
    }
    let sessions = Sessions::new(library.clone(), provider, threads, graphs);
    let unusable = |error: ort::Error| OrtError::ProviderUnusable {
        provider: provider.to_owned(),
        message: error.message().to_owned(),
    };
    sessions.probe().map_err(unusable)?;
    Ok(sessions)
}

impl Backend for OrtLane {
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

    /// After the lane was dropped, this resolves once its thread has freed its sessions.
    /// No pool keeps native lanes, so nobody asks.
    fn activity(&self) -> Activity {
        Activity::default()
    }

    fn lost(&self) -> BoxFuture<'static, String> {
        self.worker.ended()
    }

    /// A thread cannot be ended from outside, so a hung lane stays as it is, and its requests run out of time.
    fn abandon(&self, reason: String) {
        tracing::error!(lane = %self.environment.lane, reason, "a native lane hangs");
    }
}

#[cfg(test)]
mod tests;
