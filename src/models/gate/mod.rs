//! The correctness gate: a model serves in an environment only after its outputs there agreed with the reference.
//!
//! Verdicts are kept by everything that can change them; a known one is not proven again.

mod compare;
mod seeded;
mod shared;

use std::{sync::Arc, time::Duration};

pub(super) use compare::floats;
pub use compare::{INPUTS_MIN, compare, compare_part, not_finite};
pub use seeded::{seeded, shape_candidates};
pub use shared::{alike, shared_barred};

use super::{
    Entry, Reference,
    reference::{self, Loaded},
    within,
};
use crate::{
    backend::{Backend, BackendError, SessionName},
    domain::{Code, Retry, Tensor, Verdict, VerdictKey, VerdictStatus, join},
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
        let shared = shared_step(entry, session, &inputs);
        let compared = super::digest_of(inputs.iter().chain(shared.as_ref().map(|shared| &shared.inputs)));
        let key = VerdictKey::new(entry.model.digest, environment, session.shapes.clone(), compared);
        if let Some(kept) = self.store.verdict(&key).await.map_err(stored)?
            && kept.verdict.tolerance == entry.model.tolerance
        {
            return Ok(kept.verdict);
        }
        let expected = self.reference.with(entry, async |loaded, _| loaded.run_all(&inputs).await).await?;
        let expected = expected.map_err(reference::failed)?;
        let running = Loaded { backend: candidate, session };
        let actual = within(PROOF_WITHIN, candidate, "proving", running.run_all(&inputs)).await?;
        let is_part = entry.model.conversion.as_ref().is_some_and(|made| made.shard_of.is_some());
        let compare = if is_part { compare_part } else { compare };
        let mut verdict = compare(&expected, &actual, entry.model.tolerance);
        if let Some(shared) = shared.filter(|_| verdict.status == VerdictStatus::Verified) {
            let outputs = within(PROOF_WITHIN, candidate, "proving", running.run(shared.inputs)).await?;
            let pick =
                |from: &[Vec<Tensor>]| shared.of.iter().map(|at| from[*at].clone()).collect::<Vec<_>>();
            let barred = shared_barred(&pick(&inputs), &pick(&expected), &outputs, entry.model.tolerance);
            if let Some(detail) = barred {
                verdict.status = VerdictStatus::Mismatch;
                verdict.detail = format!("requests in one step: {detail}");
            }
        }
        let kept = StoredVerdict { key, verdict: verdict.clone(), proven_at_us: tasks::now_us() };
        self.store.put_verdict(kept).await.map_err(stored)?;
        Ok(verdict)
    }
}

/// Several of the gate's inputs as one step.
struct SharedStep {
    of: Vec<usize>,
    inputs: Vec<Tensor>,
}

/// What shows that requests may share steps in this session; nothing where they never will.
fn shared_step(entry: &Entry, session: &SessionName, inputs: &[Vec<Tensor>]) -> Option<SharedStep> {
    let batching = &entry.model.batching;
    // A session of fixed dimensions takes what its own inputs have proven, and nothing else.
    if batching.barred.is_some() || batching.max == 1 || !session.shapes.is_empty() {
        return None;
    }
    let of = alike(&entry.model.signature, inputs)?;
    let requests: Vec<_> = of.iter().map(|at| inputs[*at].as_slice()).collect();
    Some(SharedStep { inputs: join(&requests), of })
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
