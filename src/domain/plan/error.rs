//! Why stages are no plan.

use super::STAGES_MAX;
use crate::domain::{Datatype, Failure};

/// What is wrong with the stages that a plan was to be made of. Stages are counted from 0.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PlanError {
    #[error("a plan has at least one stage")]
    Empty,
    #[error("a plan has at most {STAGES_MAX} stages, not {stages}")]
    TooMany { stages: usize },
    #[error("stage {stage} names a lane: leave out browser and backend, which the lane has")]
    TwoPlaces { stage: usize },
    #[error("stage {stage} makes {value:?}, which the caller gives")]
    Given { value: String, stage: usize },
    #[error("stages {first} and {second} both make {value:?}")]
    Twice { value: String, first: usize, second: usize },
    #[error("stage {stage} reads {value:?}, which neither the caller gives nor a stage makes")]
    Missing { value: String, stage: usize },
    #[error("stage {stage} reads {value:?}, which stage {by} makes: list that one first")]
    Late { value: String, stage: usize, by: usize },
    #[error("stage {stage} reads {value:?} of stage {by}, which waits for stage {stage}")]
    Cycle { value: String, stage: usize, by: usize },
    #[error("stage {stage} reads {value:?} as {read}, and it is made as {made}")]
    Datatype { value: String, stage: usize, made: Datatype, read: Datatype },
    #[error("no stage makes the output {value:?}")]
    Unmade { value: String },
    #[error("stage {stage} makes the output {value:?} as {made}, and the whole model as {wanted}")]
    Output { value: String, stage: usize, made: Datatype, wanted: Datatype },
    #[error("spares are of no use where nothing may run a stage elsewhere: give a fallback, or no spares")]
    Spares,
    #[error("nobody reads what stage {stage} makes")]
    Idle { stage: usize },
}

impl From<PlanError> for Failure {
    fn from(error: PlanError) -> Self {
        Self::invalid(error.to_string())
    }
}
