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

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

pub use self::library::OrtLibrary;
use self::{
    elsewhere::Elsewhere,
    sessions::{Graphs, Sessions},
};
use super::thread::{self, Engine, ThreadLane};
use crate::{
    domain::{BackendKind, Retry},
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

/// One execution slot on one of ONNX Runtime's execution providers.
pub type OrtLane = ThreadLane<Box<dyn Engine>>;

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
        let environment = thread::environment(BackendKind::Ort(provider.to_owned()), engine, threads, None);
        Self::begin(environment, does, None).map_err(|source| OrtError::Thread { source })
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

#[cfg(test)]
mod tests;
