//! What is told and kept of one attempt at a request.

use std::{collections::BTreeMap, sync::Arc};

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{
    Adapter, BackendKind, Digest, Environment, Failure, FetchedBytes, InstanceId, LaneId, ModelName, PlanId,
    RequestId, RunId, VerdictStatus,
};

/// Graph nodes per execution provider, as the engine reported them.
pub type Placement = BTreeMap<String, u64>;

/// Where the microseconds of a request went.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Timing {
    /// From acceptance until the step was handed to the lane.
    pub queue: u64,
    /// The daemon's send-to-reply time less the lane's own receipt-to-reply time.
    pub transfer: u64,
    pub decode: u64,
    /// The engine's run with its outputs read back.
    pub compute: u64,
    pub encode: u64,
    /// From acceptance to the answer.
    pub total: u64,
}

impl Timing {
    /// The sums of what stages took, and `total` for all of them: stages beside each other take longer than that.
    pub fn of_stages(stages: &[StageRun], total: u64) -> Self {
        let sum = |part: fn(&Self) -> u64| stages.iter().map(|stage| part(&stage.timing_us)).sum();
        Self {
            queue: sum(|timing| timing.queue),
            transfer: sum(|timing| timing.transfer),
            decode: sum(|timing| timing.decode),
            compute: sum(|timing| timing.compute),
            encode: sum(|timing| timing.encode),
            total,
        }
    }
}

/// What it took to bring a session about.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, ToSchema)]
pub struct LoadTiming {
    /// From the daemon's order until the lane's word.
    pub total_us: u64,
    /// Parts that the lane told by its own clock: `fetch`, `create`; none natively.
    pub lane_us: BTreeMap<String, u64>,
    pub fetched_bytes: FetchedBytes,
}

/// What was wanted when something else answered, and why.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Fallback {
    pub wanted: String,
    pub reason: String,
}

/// Where and how an answer was computed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Provenance {
    pub instance: InstanceId,
    pub lane: LaneId,
    pub browser: String,
    pub browser_version: String,
    pub backend: BackendKind,
    #[schema(value_type = BTreeMap<String, u64>)]
    pub placement: Placement,
    pub adapter: Option<Adapter>,
    pub software_adapter: bool,
    pub webnn_device_requested: Option<String>,
    pub sandbox: Option<bool>,
    pub engine: String,
    pub threads: u32,
    pub model_digest: Digest,
    pub verdict: VerdictStatus,
    pub plan: String,
    pub attempt: u32,
    /// How weft made the model's file; nothing when it came as it is.
    #[schema(value_type = Option<String>)]
    pub converted: Option<Arc<str>>,
    /// Requests that shared its step; 1 when it had none beside it.
    pub batch: u32,
    pub fallback: Option<Fallback>,
    /// Of an answer that several stages made, each of them; absent for all others.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    // A stage has none of its own; the document lists what it is by itself.
    #[schema(no_recursion)]
    pub stages: Vec<StageRun>,
}

/// Where and how one stage of an answer was computed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct StageRun {
    /// Its place in the plan, from 0.
    pub stage: usize,
    pub run: RunId,
    #[serde(flatten)]
    pub provenance: Provenance,
    /// Bytes of the tensors that it read.
    pub bytes_in: u64,
    /// Bytes of the tensors that it made.
    pub bytes_out: u64,
    /// From when its inputs were there.
    pub timing_us: Timing,
}

/// An answer that stages of a plan made.
#[derive(Clone, Debug, PartialEq)]
pub struct StagedAnswer {
    pub plan: PlanId,
    /// Microseconds since the Unix epoch, when the request was accepted.
    pub accepted_at_us: i64,
    /// From then to the answer.
    pub total_us: u64,
    pub stages: Vec<StageRun>,
}

impl Provenance {
    /// What the lane alone decides; attempt, batch and fallback are the request's.
    pub fn new(
        lane: &Environment,
        placement: Placement,
        model_digest: Digest,
        verdict: VerdictStatus,
    ) -> Self {
        Self {
            instance: lane.instance.clone(),
            lane: lane.lane.clone(),
            browser: lane.browser.clone(),
            browser_version: lane.browser_version.clone(),
            backend: lane.backend.clone(),
            placement,
            software_adapter: lane.software_adapter(),
            adapter: lane.adapter.clone(),
            webnn_device_requested: lane.webnn_device.clone(),
            sandbox: lane.sandbox,
            engine: lane.engine.clone(),
            threads: lane.threads,
            model_digest,
            verdict,
            plan: "single".to_owned(),
            attempt: 1,
            converted: None,
            batch: 1,
            fallback: None,
            stages: Vec::new(),
        }
    }

    /// Of what these stages of a plan made together, in their order; nothing without any.
    /// Where one lane is told it is the last stage's; nodes are those of all, and one that was compared with the
    /// reference makes the whole so.
    pub fn of_stages(stages: Vec<StageRun>, model: Digest, plan: &PlanId) -> Option<Self> {
        let last = stages.last()?.provenance.clone();
        let each = || stages.iter().map(|stage| &stage.provenance);
        let mut placement = Placement::new();
        for (provider, nodes) in each().flat_map(|stage| &stage.placement) {
            *placement.entry(provider.clone()).or_default() += nodes;
        }
        let compared = each().map(|stage| stage.verdict).find(|verdict| *verdict != VerdictStatus::Reference);
        Some(Self {
            placement,
            software_adapter: each().any(|stage| stage.software_adapter),
            model_digest: model,
            verdict: compared.unwrap_or(last.verdict),
            plan: plan.to_string(),
            attempt: each().map(|stage| stage.attempt).max().unwrap_or(1),
            fallback: each().find_map(|stage| stage.fallback.clone()),
            stages,
            ..last
        })
    }
}

/// One row of the run history: an attempt with its outcome.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct RunRecord {
    pub run: RunId,
    /// The request that it was made for; absent in rows of earlier versions.
    pub request: Option<RequestId>,
    /// Microseconds since the Unix epoch, when the request was accepted.
    pub accepted_at_us: i64,
    /// Whose request it was.
    pub caller: String,
    pub model: ModelName,
    /// Absent when no lane was ever chosen.
    pub provenance: Option<Provenance>,
    pub timing: Timing,
    /// Absent on success.
    pub error: Option<Failure>,
}
