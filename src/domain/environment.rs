//! What a lane runs in, as measured; the part of a verdict's key that the machine decides.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{BackendKind, InstanceId, LaneId};

/// A GPU adapter as WebGPU described it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
pub struct Adapter {
    pub vendor: String,
    pub architecture: String,
    pub device: String,
    pub description: String,
    pub software: bool,
}

/// What a page measured about its browser.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[allow(clippy::struct_excessive_bools, reason = "each is one probe's outcome, reported under its own name")]
pub struct PageEnvironment {
    pub user_agent: String,
    pub cross_origin_isolated: bool,
    pub shared_array_buffer: bool,
    pub hardware_concurrency: u32,
    pub simd: bool,
    pub relaxed_simd: bool,
    pub threads: bool,
    pub jspi: bool,
    pub visibility: String,
    /// Why the browser keeps no weights between loads; absent where it does.
    pub cache_fault: Option<String>,
}

/// Where a lane computes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Environment {
    pub instance: InstanceId,
    pub lane: LaneId,
    /// The recipe's name, or `native`.
    pub browser: String,
    pub browser_version: String,
    pub backend: BackendKind,
    pub adapter: Option<Adapter>,
    pub webnn_device: Option<String>,
    /// Whether the browser's sandbox is on, where that is known; on for native lanes, which run no foreign code.
    pub sandbox: Option<bool>,
    /// The inference library and the file of it that runs.
    pub engine: String,
    pub threads: u32,
    /// Command-line flags and prefs that can change what a browser computes.
    pub flags: Vec<String>,
}

impl Environment {
    pub fn software_adapter(&self) -> bool {
        self.adapter.as_ref().is_some_and(|adapter| adapter.software)
    }
}
