//! The correctness gate: a model serves in an environment only after its outputs there agreed with the reference.
//!
//! Verdicts are kept by everything that can change them; a known one is not proven again.

mod compare;
mod seeded;

use std::{sync::Arc, time::Duration};

pub use compare::{INPUTS_MIN, compare};
pub use seeded::{seeded, shape_candidates};

use super::{
    Entry, Reference,
    reference::{self, Loaded},
    within,
};
use crate::{
    backend::{Backend, BackendError, SessionName},
    domain::{Code, Retry, Verdict, VerdictKey, VerdictStatus},
    store::{Store, StoreError, StoredVerdict},
    tasks,
};

/// Three runs on a software adapter, where one of a small convolutional model takes seven seconds.
const PROOF_WITHIN: Duration = Duration::from_secs(600);

pub struct Gate {
    reference: Arc<Reference>,
    store: Arc<Store>,
}

impl Gate {
    pub fn new(reference: Arc<Reference>, store: Arc<Store>) -> Self {
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
        if Reference::is(&environment.backend) {
            return Ok(Verdict {
                status: VerdictStatus::Reference,
                error: None,
                tolerance: entry.model.tolerance,
                inputs: 0,
                detail: "this is what the others are compared with".to_owned(),
            });
        }
        let inputs = entry.gate_inputs(&session.shapes);
        let key = VerdictKey::new(
            entry.model.digest,
            environment,
            session.shapes.clone(),
            super::digest_of(&inputs),
        );
        if let Some(kept) = self.store.verdict(&key).await.map_err(stored)?
            && kept.verdict.tolerance == entry.model.tolerance
        {
            return Ok(kept.verdict);
        }
        let expected = self.reference.with(entry, async |loaded| loaded.run_all(&inputs).await).await?;
        let expected = expected.map_err(reference::failed)?;
        let running = Loaded { backend: candidate, session };
        let actual = within(PROOF_WITHIN, candidate, "proving", running.run_all(&inputs)).await?;
        let verdict = compare(&expected, &actual, entry.model.tolerance);
        let kept = StoredVerdict { key, verdict: verdict.clone(), proven_at_us: tasks::now_us() };
        self.store.put_verdict(kept).await.map_err(stored)?;
        Ok(verdict)
    }
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
