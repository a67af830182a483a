//! The vocabulary: plain types that every other room speaks. No IO, no async, no clock.

mod accuracy;
mod anatomy;
mod backend;
mod batch;
mod body;
mod caller;
mod chain;
mod environment;
mod failure;
mod ids;
mod memory;
mod model;
mod plan;
mod policy;
mod prior;
mod run;
mod schema;
mod scope;
mod sequence;
mod tensor;
mod verdict;
mod verification;

pub use accuracy::{Accuracy, FirstClass, MeasuredOn, OutputAccuracy, Perplexity};
pub use anatomy::{Anatomy, Cost, ProofCost, Uses};
pub use backend::BackendKind;
pub use batch::{Batching, join, rows, split};
pub use body::Body;
pub use caller::Caller;
pub use chain::{Chain, ChainError, OperatorClass, Part, Passing, Share, Unit};
pub use environment::{Adapter, Environment, PageEnvironment};
pub use failure::{Code, Failure, Retry};
pub use ids::{
    Digest, InstanceId, LaneId, LeaseId, MODEL_NAME_MAX, ModelName, ModelRef, PlanId, RequestId, RunId,
};
pub use memory::{FetchedBytes, LaneMemory};
pub use model::{Conversion, Dim, DimBinding, Model, Port, Signature};
pub use plan::{
    Activations, Costs, Made, Place, Plan, PlanError, PlanFallback, PlanStage, Read, Recovery, Review,
    ReviewVerdict, STAGES_MAX, Shard, Spares,
};
pub use policy::Policy;
pub use prior::{ModelKind, Priors};
pub use run::{Fallback, LoadTiming, Placement, Provenance, RunRecord, StageRun, StagedAnswer, Timing};
pub use scope::{Scope, Scopes};
pub use sequence::{Sequence, SequenceId};
pub use tensor::{Datatype, Tensor, TensorError};
pub use verdict::{Tolerance, Verdict, VerdictKey, VerdictStatus};
pub use verification::{Stage, StageKind, Verification};

#[cfg(test)]
mod tests;
