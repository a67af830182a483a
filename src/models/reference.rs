//! Native ONNX Runtime on the CPU: what everything else is compared with.
//!
//! It has a lane of its own, so that no request waits behind a proof.

use std::{sync::Arc, time::Duration};

use tokio::sync::Mutex;
use tokio_util::sync::CancellationToken;

use super::Entry;
use crate::{
    backend::{Backend, BackendError, LoadOrder, SessionName, Step},
    domain::{BackendKind, Code, DimBinding, Retry, Tensor, join},
};

/// A model that takes longer for a few runs natively is of no use in a browser.
const WITHIN: Duration = Duration::from_secs(300);

/// Starts a lane.
type Start = Box<dyn Fn() -> Result<Arc<dyn Backend>, String> + Send + Sync>;

pub struct Reference {
    start: Start,
    /// Held while a model is loaded: two users of one session would unload it under each other.
    lane: Mutex<Arc<dyn Backend>>,
}

impl Reference {
    /// `start` brings another lane when a model has hung this one.
    pub fn new(
        lane: Arc<dyn Backend>,
        start: impl Fn() -> Result<Arc<dyn Backend>, String> + Send + Sync + 'static,
    ) -> Self {
        Self { start: Box::new(start), lane: Mutex::new(lane) }
    }

    /// Whether lanes of this kind are compared with anything.
    pub(super) fn is(backend: &BackendKind) -> bool {
        *backend == BackendKind::ort_cpu()
    }

    /// Loads the model, lets `work` run it, and unloads it. `work` is told how many microseconds the load took.
    pub(super) async fn with<T>(
        &self,
        entry: &Entry,
        work: impl AsyncFnOnce(&Loaded<'_>, u64) -> T,
    ) -> Result<T, BackendError> {
        let mut lane = self.lane.lock().await;
        let session = SessionName { model: entry.model.digest, shapes: DimBinding::new() };
        let order = LoadOrder { session: session.clone(), path: entry.path.clone(), delivery: None };
        let done = tokio::time::timeout(WITHIN, async {
            let load_us = lane.load(order).await?.load_us;
            let result = work(&Loaded { backend: &**lane, session: &session }, load_us).await;
            if let Err(error) = lane.unload(session.clone()).await {
                tracing::debug!(%error, "the reference kept a session");
            }
            Ok(result)
        })
        .await;
        match done {
            Ok(done) => done.map_err(failed),
            Err(_) => {
                // The old thread ends by itself, whenever the model lets it.
                *lane = (self.start)().map_err(|message| internal(&message, Retry::Same))?;
                Err(internal(&format!("it took over {} s", WITHIN.as_secs()), Retry::Never))
            }
        }
    }
}

/// A failure of the reference is nobody else's loss.
pub(super) fn failed(error: BackendError) -> BackendError {
    match error {
        BackendError::Lost { reason } => internal(&reason, Retry::Same),
        other => other,
    }
}

fn internal(message: &str, retry: Retry) -> BackendError {
    let message = format!("native ONNX Runtime: {message}");
    BackendError::Execute { message, code: Code::Internal, retry }
}

/// A session that stays loaded as long as this lives.
pub(super) struct Loaded<'a> {
    pub(super) backend: &'a dyn Backend,
    pub(super) session: &'a SessionName,
}

impl Loaded<'_> {
    pub(super) async fn run(&self, inputs: Vec<Tensor>) -> Result<Vec<Tensor>, BackendError> {
        let step = Step {
            session: self.session.clone(),
            inputs,
            outputs: Vec::new(),
            keeping: None,
            cancelled: CancellationToken::new(),
        };
        Ok(self.backend.execute(step).await?.outputs)
    }

    /// All of these as one step.
    pub(super) async fn run_joined(&self, inputs: &[Vec<Tensor>]) -> Result<Vec<Tensor>, BackendError> {
        let requests: Vec<_> = inputs.iter().map(Vec::as_slice).collect();
        self.run(join(&requests)).await
    }

    pub(super) async fn run_all(&self, inputs: &[Vec<Tensor>]) -> Result<Vec<Vec<Tensor>>, BackendError> {
        let mut outputs = Vec::with_capacity(inputs.len());
        for inputs in inputs {
            outputs.push(self.run(inputs.clone()).await?);
        }
        Ok(outputs)
    }
}
