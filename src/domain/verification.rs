//! What was tried with a model's file before it may serve.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// The stages, in their order; the first that fails is the last.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Verification {
    /// When it began, in microseconds since the Unix epoch.
    pub at_us: i64,
    pub stages: Vec<Stage>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Stage {
    pub stage: StageKind,
    pub ok: bool,
    pub took_us: u64,
    /// What was seen, in one line.
    pub detail: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum StageKind {
    /// The file is the one that its digest names.
    Digest,
    /// It is put together as ONNX wants it.
    Structure,
    /// Native ONNX Runtime takes it.
    Load,
    /// It answers the inputs that came with it, or inputs made up for it.
    Run,
    /// None of its outputs is NaN or infinite.
    Finite,
    /// The same inputs are answered the same twice.
    Repeatable,
    /// Whether several requests in one step are answered as each alone. Passes either way.
    Batching,
}

impl StageKind {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Digest => "digest",
            Self::Structure => "structure",
            Self::Load => "load",
            Self::Run => "run",
            Self::Finite => "finite",
            Self::Repeatable => "repeatable",
            Self::Batching => "batching",
        }
    }
}

impl Verification {
    pub fn begun(at_us: i64) -> Self {
        Self { at_us, stages: Vec::new() }
    }

    /// Takes a stage down.
    pub fn note(&mut self, stage: StageKind, took: Duration, outcome: Result<String, String>) {
        let took_us = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        let ok = outcome.is_ok();
        let detail = outcome.unwrap_or_else(|problem| problem);
        self.stages.push(Stage { stage, ok, took_us, detail });
    }

    /// Why the model may not serve, in one line.
    pub fn failure(&self) -> Option<String> {
        let failed = self.stages.iter().find(|stage| !stage.ok)?;
        Some(format!("{}: {}", failed.stage.as_str(), failed.detail))
    }
}
