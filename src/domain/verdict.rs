//! Whether a model computes the right numbers in one environment.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{BackendKind, Digest, DimBinding, Environment};

/// How far an output may be from the reference: `max|y - ref| <= relative * max|ref|`.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(transparent)]
pub struct Tolerance(pub f64);

impl Tolerance {
    /// Rounding differs between kernels in the last few of 23 mantissa bits, over some thousand additions.
    pub const FP32: Self = Self(1e-3);
    /// The same for 10 mantissa bits.
    pub const FP16: Self = Self(1e-2);
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum VerdictStatus {
    /// Native ONNX Runtime on the CPU: what the others are compared with.
    Reference,
    Verified,
    /// The outputs differ from the reference.
    Mismatch,
    /// The outputs agree, but hardly vary over the inputs, so a broken backend would agree as well.
    Unproven,
}

impl VerdictStatus {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Reference => "reference",
            Self::Verified => "verified",
            Self::Mismatch => "mismatch",
            Self::Unproven => "unproven",
        }
    }
}

/// Everything that can change what a model computes. Two equal keys share a verdict.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct VerdictKey {
    pub model: Digest,
    pub browser: String,
    pub browser_version: String,
    pub backend: BackendKind,
    pub engine: String,
    pub adapter: Option<String>,
    pub webnn_device: Option<String>,
    pub flags: Vec<String>,
    pub threads: u32,
    /// Dimensions fixed when the session was created.
    #[schema(value_type = BTreeMap<String, u64>)]
    pub shapes: DimBinding,
    /// Of the inputs that were compared.
    pub inputs: Digest,
}

impl VerdictKey {
    pub fn new(model: Digest, environment: &Environment, shapes: DimBinding, inputs: Digest) -> Self {
        Self {
            model,
            browser: environment.browser.clone(),
            browser_version: environment.browser_version.clone(),
            backend: environment.backend.clone(),
            engine: environment.engine.clone(),
            adapter: environment.adapter.as_ref().map(|adapter| {
                format!(
                    "{} {} {} {}",
                    adapter.vendor, adapter.architecture, adapter.device, adapter.description
                )
            }),
            webnn_device: environment.webnn_device.clone(),
            flags: environment.flags.clone(),
            threads: environment.threads,
            shapes,
            inputs,
        }
    }

    /// The key as one line, for the store.
    pub fn canonical(&self) -> String {
        serde_json::to_string(self).expect("a key holds only strings and numbers")
    }
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Verdict {
    pub status: VerdictStatus,
    /// Largest `max|y - ref| / max|ref|` over the outputs and inputs, absent when values were non-finite.
    pub error: Option<f64>,
    pub tolerance: super::Tolerance,
    /// Input sets compared.
    pub inputs: u32,
    /// What was seen, in one line.
    pub detail: String,
}
