//! The vocabulary: plain types that every other room speaks. No IO, no async, no clock.

mod backend;
mod body;
mod caller;
mod environment;
mod failure;
mod ids;
mod memory;
mod model;
mod run;
mod scope;
mod tensor;
mod verdict;

pub use backend::BackendKind;
pub use body::Body;
pub use caller::Caller;
pub use environment::{Adapter, Environment, PageEnvironment};
pub use failure::{Code, Failure, Retry};
pub use ids::{Digest, InstanceId, LaneId, LeaseId, ModelName, RunId};
pub use memory::LaneMemory;
pub use model::{Dim, DimBinding, Model, Port, Signature};
pub use run::{Fallback, Placement, Provenance, RunRecord, Timing};
pub use scope::{Scope, Scopes};
pub use tensor::{Datatype, Tensor, TensorError};
pub use verdict::{Tolerance, Verdict, VerdictKey, VerdictStatus};

#[cfg(test)]
mod tests;
