//! Native ONNX Runtime on the CPU: what everything else is compared with.
//!
//! It has a lane of its own, so that no request waits behind a proof.

use std::sync::Arc;

use tokio::sync::Mutex;
use tokio_util::sync::CancellationToken;

use super::Entry;
use crate::{
    backend::{Backend, BackendError, LoadOrder, SessionName, Step},
    domain::{BackendKind, DimBinding, Tensor},
};

pub struct Reference {
    lane: Arc<dyn Backend>,
    /// Held while a model is loaded: two users of one session would unload it under each other.
    exclusive: Mutex<()>,
}

impl Reference {
    pub fn new(lane: Arc<dyn Backend>) -> Self {
        Self { lane, exclusive: Mutex::default() }
    }

    /// Whether lanes of this kind are compared with anything.
    pub(super) fn is(backend: &BackendKind) -> bool {
        *backend == BackendKind::ort_cpu()
    }

    /// Loads the model, lets `work` run it, and unloads it.
    pub(super) async fn with<T>(
        &self,
        entry: &Entry,
        work: impl AsyncFnOnce(&Loaded<'_>) -> T,
    ) -> Result<T, BackendError> {
        let _exclusive = self.exclusive.lock().await;
        let session = SessionName { model: entry.model.digest, shapes: DimBinding::new() };
        let order =
            LoadOrder { session: session.clone(), path: entry.path.clone(), bytes: entry.model.bytes };
        self.lane.load(order).await?;
        let result = work(&Loaded { backend: &*self.lane, session: &session }).await;
        if let Err(error) = self.lane.unload(session).await {
            tracing::debug!(%error, "the reference kept a session");
        }
        Ok(result)
    }
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
            cancelled: CancellationToken::new(),
        };
        Ok(self.backend.execute(step).await?.outputs)
    }

    pub(super) async fn run_all(&self, inputs: &[Vec<Tensor>]) -> Result<Vec<Vec<Tensor>>, BackendError> {
        let mut outputs = Vec::with_capacity(inputs.len());
        for inputs in inputs {
            outputs.push(self.run(inputs.clone()).await?);
        }
        Ok(outputs)
    }
}
