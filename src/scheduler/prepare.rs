//! Makes a session servable: loads the model into a lane, then has the gate judge it. Off the request path.

use std::{sync::Arc, time::Duration};

use crate::{
    backend::{Backend, BackendError, SessionName},
    domain::{Code, Failure, LaneMemory, LoadTiming, Placement, Retry, Verdict, VerdictStatus},
    models::{Entry, Loader, ModelError, within},
    telemetry::Metrics,
};

/// A large model over a slow disk still loads in this; a lane that takes longer is taken for hung.
const LOAD_WITHIN: Duration = Duration::from_secs(300);

pub(super) struct Prepared {
    pub(super) placement: Placement,
    pub(super) verdict: VerdictStatus,
    /// By how much the load made the lane grow.
    pub(super) grown: LaneMemory,
    pub(super) load: LoadTiming,
}

/// Why a session cannot be used.
pub(super) struct Refusal {
    pub(super) failure: Failure,
    /// Whether trying later can help.
    pub(super) passing: bool,
}

impl From<BackendError> for Refusal {
    fn from(error: BackendError) -> Self {
        let lasting = matches!(error, BackendError::Uncovered { .. }) || error.retry() == Retry::Never;
        Self { passing: !lasting, failure: error.into() }
    }
}

impl From<ModelError> for Refusal {
    fn from(error: ModelError) -> Self {
        Self { passing: error.retry() != Retry::Never, failure: error.into() }
    }
}

/// Loads and judges; a session that may not serve is unloaded again.
pub(super) async fn prepare(
    backend: &dyn Backend,
    entry: Arc<Entry>,
    session: SessionName,
    loader: &Loader,
    metrics: &Metrics,
) -> Result<Prepared, Refusal> {
    entry.check_usable().map_err(|failure| Refusal { failure, passing: false })?;
    let native = backend.environment().backend.is_native();
    let order = loader.order(&entry, session.clone(), native).await?;
    let loaded = within(LOAD_WITHIN, backend, "loading", backend.load(order)).await?;
    metrics.loaded(&entry.model.name, backend.environment(), loaded.load_us, loaded.fetched);
    let judged = loader.gate.judge(&entry, backend, &session).await.map_err(Refusal::from);
    let verdict = judged.and_then(|verdict| {
        tracing::info!(
            model = %entry.model.name, lane = %backend.environment().lane, verdict = verdict.status.as_str(),
            placement = ?loaded.placement, load_ms = loaded.load_us / 1000, fetched = ?loaded.fetched, detail = verdict.detail, "prepared"
        );
        serving(&entry, backend, verdict)
    });
    if verdict.is_err()
        && let Err(error) = backend.unload(session).await
    {
        tracing::debug!(%error, "a refused session was not unloaded");
    }
    let load =
        LoadTiming { total_us: loaded.load_us, lane_us: loaded.lane_us, fetched_bytes: loaded.fetched };
    Ok(Prepared { placement: loaded.placement, verdict: verdict?, grown: loaded.grown, load })
}

fn serving(entry: &Entry, backend: &dyn Backend, verdict: Verdict) -> Result<VerdictStatus, Refusal> {
    let (lane, model, detail) = (&backend.environment().lane, &entry.model.name, verdict.detail);
    let (code, message) = match verdict.status {
        VerdictStatus::Reference | VerdictStatus::Verified => return Ok(verdict.status),
        VerdictStatus::Mismatch => (Code::Quarantined, format!("{lane} computes {model} wrongly: {detail}")),
        VerdictStatus::Unproven => (Code::NoBackend, format!("{lane} is unproven for {model}: {detail}")),
    };
    Err(Refusal { failure: Failure::new(code, Retry::Elsewhere, message), passing: false })
}
