//! Makes a session servable: loads the model into a lane, then has the gate judge it. Off the request path.

use std::{sync::Arc, time::Duration};

use crate::{
    backend::{Backend, BackendError, LoadOrder, SessionName},
    domain::{Code, Failure, Placement, Retry, VerdictStatus},
    models::{Entry, gate::Gate},
};

/// A large model over a slow disk still loads in this; a lane that takes longer is taken for hung.
const LOAD_WITHIN: Duration = Duration::from_secs(300);

/// Three runs on a software adapter, where one of a small convolutional model takes seven seconds.
const PROOF_WITHIN: Duration = Duration::from_secs(600);

pub(super) struct Prepared {
    pub(super) placement: Placement,
    pub(super) verdict: VerdictStatus,
}

/// Loads and judges; a failure says whether trying later can help.
pub(super) async fn prepare(
    backend: &dyn Backend,
    entry: Arc<Entry>,
    session: SessionName,
    gate: Arc<Gate>,
) -> Result<Prepared, Failure> {
    let lane = backend.environment().lane.clone();
    let order = LoadOrder { session: session.clone(), path: entry.path.clone(), bytes: entry.model.bytes };
    let loaded = within(LOAD_WITHIN, backend, "loading", backend.load(order)).await?;
    let verdict = within(PROOF_WITHIN, backend, "proving", gate.judge(&entry, backend, &session)).await?;
    tracing::info!(
        model = %entry.model.name, %lane, verdict = verdict.status.as_str(), placement = ?loaded.placement,
        load_ms = loaded.load_us / 1000, detail = verdict.detail, "prepared"
    );
    match verdict.status {
        VerdictStatus::Reference | VerdictStatus::Verified => {
            Ok(Prepared { placement: loaded.placement, verdict: verdict.status })
        }
        VerdictStatus::Mismatch => Err(Failure::new(
            Code::Quarantined,
            Retry::Elsewhere,
            format!("{lane} computes {} wrongly: {}", entry.model.name, verdict.detail),
        )),
        VerdictStatus::Unproven => Err(Failure::new(
            Code::NoBackend,
            Retry::Elsewhere,
            format!("{lane} is unproven for {}: {}", entry.model.name, verdict.detail),
        )),
    }
}

async fn within<T>(
    limit: Duration,
    backend: &dyn Backend,
    doing: &str,
    work: impl Future<Output = Result<T, BackendError>>,
) -> Result<T, Failure> {
    match tokio::time::timeout(limit, work).await {
        Ok(result) => result.map_err(Failure::from),
        Err(_) => {
            let reason = format!("{doing} a model took over {} s", limit.as_secs());
            backend.abandon(reason.clone());
            Err(BackendError::Lost { reason }.into())
        }
    }
}
