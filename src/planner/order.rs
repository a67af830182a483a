//! What somebody wants of a split.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{Objective, Strategy};
use crate::domain::{Activations, LaneId};

/// How a model is split: by which strategy, for what, over which lanes
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct SplitOrder {
    pub strategy: Strategy,
    pub objective: Objective,
    /// How many stages; as many as are good without it.
    pub stages: Option<usize>,
    /// The lanes to split over, for even stages in this order; all that compute in hardware without it.
    pub lanes: Vec<LaneId>,
    /// In which precision floats pass between the stages.
    pub activations: Activations,
}

impl Default for SplitOrder {
    fn default() -> Self {
        Self {
            strategy: Strategy::Auto,
            objective: Objective::Latency,
            stages: None,
            lanes: Vec::new(),
            activations: Activations::default(),
        }
    }
}
