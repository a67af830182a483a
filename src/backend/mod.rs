//! Everything that can execute a model: a lane in a browser's page, or a native thread.
//!
//! A backend executes what it is given and reports what happened.
//! It never chooses, queues for fairness, retries, or judges numbers.

pub mod decode;
pub mod lowered;
pub mod ort;
pub mod page;
mod tensors;
pub mod thread;
pub mod wgpu;
mod worker;

use std::{
    collections::BTreeMap,
    path::PathBuf,
    time::{Duration, Instant},
};

use bytes::Bytes;
use futures_util::future::BoxFuture;
use serde::{Deserialize, Serialize};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::{
    domain::{
        Code, Digest, DimBinding, Environment, Failure, FetchedBytes, LaneMemory, Placement, Retry, Tensor,
    },
    kernels::lower::Keeping,
};

/// One lane's executor.
///
/// Steps run one at a time in the order in which `execute` was called; calling it sends the step.
/// Its future resolves when the lane is free of the step, also when the step was cancelled.
pub trait Backend: Send + Sync + 'static {
    fn environment(&self) -> &Environment;

    /// Creates an engine's session; replaces none.
    fn load(&self, order: LoadOrder) -> BoxFuture<'static, Result<Loaded, BackendError>>;

    fn unload(&self, session: SessionName) -> BoxFuture<'static, Result<(), BackendError>>;

    fn execute(&self, step: Step) -> BoxFuture<'static, Result<StepOutput, BackendError>>;

    /// What it has done since it started.
    fn activity(&self) -> Activity;

    /// Resolves with the reason once the lane can never answer again.
    fn lost(&self) -> BoxFuture<'static, String>;

    /// Gives the lane up: everything pending fails with this reason, and so does everything later.
    fn abandon(&self, reason: String);

    /// What the lane says it holds, always the latest; `None` where nothing tells.
    fn memory(&self) -> Option<watch::Receiver<LaneMemory>> {
        None
    }

    /// The bytes that the lane's heap can grow to; `None` where nothing but the machine bounds it.
    fn memory_max(&self) -> Option<u64> {
        None
    }

    /// Gives an idle lane up so that a fresh one takes its place, which is no fault of it.
    fn recycle(&self, reason: String) {
        self.abandon(reason);
    }

    /// Whether it ended by [`Backend::recycle`].
    fn recycled(&self) -> bool {
        false
    }
}

/// What a lane, or several together, have done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Activity {
    /// Steps that were answered.
    pub executed: u64,
    /// Time between a step's turn and its answer.
    pub busy_us: u64,
    pub in_flight: u64,
    /// When the last step was sent or answered.
    pub last: Option<Instant>,
}

impl Activity {
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        Self {
            executed: self.executed + other.executed,
            busy_us: self.busy_us + other.busy_us,
            in_flight: self.in_flight + other.in_flight,
            last: self.last.max(other.last),
        }
    }

    /// How long nothing has been asked; nothing while something still is.
    pub fn idle(&self, now: Instant, since: Instant) -> Duration {
        if self.in_flight > 0 { Duration::ZERO } else { now - self.last.unwrap_or(since).max(since) }
    }
}

/// A session's name on its lane: the model's digest and the dimensions that were fixed.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct SessionName {
    pub model: Digest,
    pub shapes: DimBinding,
}

impl std::fmt::Display for SessionName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.model)?;
        self.shapes.iter().try_for_each(|(symbol, size)| write!(f, ",{symbol}={size}"))
    }
}

#[derive(Clone, Debug)]
pub struct LoadOrder {
    pub session: SessionName,
    /// The verified file, for backends that read it themselves.
    pub path: PathBuf,
    /// For backends that cannot.
    pub delivery: Option<Delivery>,
}

/// What a backend elsewhere is given of a model.
#[derive(Clone, Debug)]
pub struct Delivery {
    /// The graph, where the model's own file is only what weights lie in.
    pub graph: Option<Bytes>,
    /// The model's own file, then those of its weights.
    pub files: Vec<DeliveredFile>,
}

#[derive(Clone, Debug)]
pub struct DeliveredFile {
    pub digest: Digest,
    pub bytes: u64,
    /// The SHA-256 of each MiB, one behind the other.
    pub leaves: Bytes,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Loaded {
    pub placement: Placement,
    pub load_us: u64,
    /// Parts of it by the lane's own clock; none where nothing tells.
    pub lane_us: BTreeMap<String, u64>,
    /// What was brought for it; zeros where nothing is.
    pub fetched: FetchedBytes,
    /// By how much the lane's memory grew meanwhile; zeros where nothing tells.
    pub grown: LaneMemory,
}

#[derive(Clone, Debug)]
pub struct Step {
    pub session: SessionName,
    pub inputs: Vec<Tensor>,
    /// Names of the wanted outputs; empty for all.
    pub outputs: Vec<String>,
    /// Has the lane keep the model's caches from step to step, which only those on our own kernels do. They are no inputs
    /// then, and the outputs are none.
    pub keeping: Option<Keeping>,
    /// Once cancelled, a step that has not started is skipped and the result of one that has is discarded.
    pub cancelled: CancellationToken,
}

#[derive(Clone, Debug)]
pub struct StepOutput {
    pub outputs: Vec<Tensor>,
    pub timing: StepTiming,
}

/// Microseconds; see `domain::Timing`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct StepTiming {
    pub transfer: u64,
    /// Spent behind the lane's other step.
    pub wait: u64,
    pub decode: u64,
    pub compute: u64,
    pub encode: u64,
}

#[derive(Clone, Debug, thiserror::Error, Serialize, Deserialize)]
pub enum BackendError {
    #[error("lane lost: {reason}")]
    Lost { reason: String },
    #[error("session {session} is not loaded")]
    NotLoaded { session: String },
    #[error("could not load the model: {message}")]
    Load { message: String, code: Code, retry: Retry },
    /// Another backend may run it, this one never will.
    #[error("{message}")]
    Uncovered { message: String },
    #[error("the step was cancelled")]
    Cancelled,
    #[error("{message}")]
    Execute { message: String, code: Code, retry: Retry },
}

impl Step {
    /// What a lane that computes each step by itself says of one that has it keep caches.
    fn forgets(&self) -> Result<(), BackendError> {
        if self.keeping.is_none() {
            return Ok(());
        }
        let message = "the lane keeps no caches from step to step".to_owned();
        Err(BackendError::Uncovered { message })
    }
}

impl BackendError {
    pub fn retry(&self) -> Retry {
        match self {
            Self::Lost { .. } | Self::Uncovered { .. } => Retry::Elsewhere,
            Self::NotLoaded { .. } => Retry::Same,
            Self::Cancelled => Retry::Never,
            Self::Load { retry, .. } | Self::Execute { retry, .. } => *retry,
        }
    }

    pub fn code(&self) -> Code {
        match self {
            Self::Lost { .. } => Code::LaneLost,
            Self::NotLoaded { .. } => Code::ModelNotReady,
            Self::Uncovered { .. } => Code::NoBackend,
            Self::Cancelled => Code::Cancelled,
            Self::Load { code, .. } | Self::Execute { code, .. } => *code,
        }
    }
}

impl From<BackendError> for Failure {
    fn from(error: BackendError) -> Self {
        Failure::new(error.code(), error.retry(), error.to_string())
    }
}
