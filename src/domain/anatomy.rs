//! What a model is made of and what it costs, as the registry keeps it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Anatomy {
    /// Nodes per operator.
    pub operators: BTreeMap<String, u64>,
    /// Elements of all weights.
    pub parameters: u64,
    pub parameter_bytes: u64,
    pub cost: Cost,
}

/// What one run takes. Sums leave out nodes of which it is not known.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Cost {
    /// Floating-point operations, over the names of the inputs' dimensions, as `739058445·batch`; a dimension without a
    /// name is called by its place, as `x[0]`. Absent where the sum is too long to be told.
    pub flops: Option<String>,
    /// Bytes of the values that nodes read and write, without weights; over the same names.
    pub activation_bytes: Option<String>,
    /// Nodes, those within subgraphs included.
    pub nodes: u64,
    /// Of these, nodes whose operations are known.
    pub known: u64,
    /// With the dimensions that the verification ran with, where those leave nothing open.
    pub proof: Option<ProofCost>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ProofCost {
    pub flops: u64,
    pub activation_bytes: u64,
}

/// How often and when a model was asked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Uses {
    /// Requests that it has answered, over all daemons of this home.
    pub uses: u64,
    /// When a request was last answered or refused, in milliseconds since the Unix epoch; 0 for never.
    pub last_used_ms: u64,
}
