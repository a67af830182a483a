//! The correctness gate: a model serves in an environment only after its outputs there agreed with the reference.
//!
//! Verdicts are kept by everything that can change them; a known one is not proven again.

mod compare;
mod seeded;

pub use compare::{INPUTS_MIN, compare};
pub use seeded::{seeded, shape_candidates};

use std::sync::Arc;

use tokio_util::sync::CancellationToken;

use super::{Entry, registry::is_reference};
use crate::{
    backend::{Backend, BackendError, LoadOrder, SessionName, Step},
    domain::{Code, DimBinding, Retry, Tensor, Verdict, VerdictKey, VerdictStatus},
    store::{Store, StoreError, StoredVerdict},
};

pub struct Gate {
    /// Native ONNX Runtime on the CPU, not shared with requests.
    reference: Arc<dyn Backend>,
    store: Arc<Store>,
}

impl Gate {
    pub fn new(reference: Arc<dyn Backend>, store: Arc<Store>) -> Self {
        Self { reference, store }
    }

    /// The verdict on a loaded session of `candidate`: a kept one, or a fresh comparison.
    pub async fn judge(
        &self,
        entry: &Entry,
        candidate: &dyn Backend,
        session: &SessionName,
    ) -> Result<Verdict, BackendError> {
        let environment = candidate.environment();
        if is_reference(&environment.backend) {
            return Ok(Verdict {
                status: VerdictStatus::Reference,
                error: None,
                tolerance: entry.model.tolerance,
                inputs: 0,
                detail: "this is what the others are compared with".to_owned(),
            });
        }
        let key = VerdictKey::new(entry.model.digest, environment, session.shapes.clone());
        if let Some(kept) = self.store.verdict(&key).await.map_err(stored)?
            && kept.verdict.tolerance == entry.model.tolerance
        {
            return Ok(kept.verdict);
        }
        let inputs = entry.gate_inputs(&session.shapes);
        let expected = self.expected(entry, &inputs).await?;
        let actual = run_all(candidate, session, &inputs).await?;
        let verdict = compare(&expected, &actual, entry.model.tolerance);
        let proven_at_us = crate::tasks::now_us();
        self.store
            .put_verdict(StoredVerdict { key, verdict: verdict.clone(), proven_at_us })
            .await
            .map_err(stored)?;
        Ok(verdict)
    }

    async fn expected(
        &self,
        entry: &Entry,
        inputs: &[Vec<Tensor>],
    ) -> Result<Vec<Vec<Tensor>>, BackendError> {
        let session = SessionName { model: entry.model.digest, shapes: DimBinding::new() };
        let order =
            LoadOrder { session: session.clone(), path: entry.path.clone(), bytes: entry.model.bytes };
        self.reference.load(order).await?;
        let outputs = run_all(&*self.reference, &session, inputs).await;
        if let Err(error) = self.reference.unload(session).await {
            tracing::debug!(%error, "the reference kept a session");
        }
        outputs
    }
}

async fn run_all(
    backend: &dyn Backend,
    session: &SessionName,
    inputs: &[Vec<Tensor>],
) -> Result<Vec<Vec<Tensor>>, BackendError> {
    let mut outputs = Vec::with_capacity(inputs.len());
    for inputs in inputs {
        let (session, inputs) = (session.clone(), inputs.clone());
        let step = Step { session, inputs, outputs: Vec::new(), cancelled: CancellationToken::new() };
        outputs.push(backend.execute(step).await?.outputs);
    }
    Ok(outputs)
}

#[allow(clippy::needless_pass_by_value, reason = "`map_err` passes it so")]
fn stored(error: StoreError) -> BackendError {
    BackendError::Execute {
        message: format!("the verdict: {error}"),
        code: Code::Internal,
        retry: Retry::Same,
    }
}

#[cfg(test)]
mod tests;
