//! What came of a look at whether there is a better plan than the one that stands for a model.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::domain::{Digest, PlanId};

/// A look at whether there is a better plan than the one that stands for a model
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Review {
    /// The whole model's file.
    pub model: Digest,
    /// Microseconds since the Unix epoch.
    pub at_us: i64,
    /// The plan that stood when it began; `single` for the whole model in one lane.
    pub standing: PlanId,
    /// The one that was made and compared with it; null where none was thought to be better.
    pub candidate: Option<PlanId>,
    /// As forecast from what was learned since.
    pub forecast_us: Costs,
    /// The medians of what both took in turns.
    pub measured_us: Costs,
    pub verdict: ReviewVerdict,
    /// The same for people.
    pub says: String,
}

/// Microseconds that the objective judges by; null where they are not known
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Costs {
    pub standing: Option<f64>,
    /// Of the best that was found, whether it was made or not.
    pub candidate: Option<f64>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum ReviewVerdict {
    /// Nothing better was found.
    Kept,
    /// The candidate was better, which it must be in another review before it is believed.
    BetterOnce,
    /// The candidate was better a second time, and stands from now on.
    Replaced,
    /// It could not be carried through.
    GivenUp,
}
