//! What a lane holds, as it told itself.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Bytes that a lane's Worker holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct LaneMemory {
    /// The engine's heap, which grows and never shrinks.
    pub wasm_bytes: u64,
    /// Buffers and textures of its GPU device, as they were asked for.
    pub gpu_bytes: u64,
}

impl LaneMemory {
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        Self {
            wasm_bytes: self.wasm_bytes.saturating_add(other.wasm_bytes),
            gpu_bytes: self.gpu_bytes.saturating_add(other.gpu_bytes),
        }
    }

    /// What is left without `other`; what it has more of counts as nothing.
    #[must_use]
    pub fn less(self, other: Self) -> Self {
        Self {
            wasm_bytes: self.wasm_bytes.saturating_sub(other.wasm_bytes),
            gpu_bytes: self.gpu_bytes.saturating_sub(other.gpu_bytes),
        }
    }
}

/// Where the bytes of a model's files came from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct FetchedBytes {
    pub network: u64,
    /// The browser's own, from an earlier load.
    pub cache: u64,
}
