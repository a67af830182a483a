//! The models that can be asked for: files by digest, names, and the gate that judges what computes them.
//!
//! A file is taken in whole and verified before a name points to it; nothing half-written is ever served.
//! This room never chooses a lane and never looks at a request.

mod accuracy;
mod blobs;
mod cache;
pub mod convert;
mod entry;
mod files;
pub mod foreign;
pub mod gate;
mod inputs;
mod layouts;
mod loader;
mod plans;
mod recipes;
mod reference;
mod registry;
mod served;
mod shards;
pub mod source;
mod standing;
mod uses;
mod verify;
mod versions;

pub use accuracy::tune;
pub use blobs::{Blobs, Full, Held, Upload};
pub use cache::Cache;
pub use entry::{Entry, GateInputs, History};
pub use files::FILES_MAX;
pub use layouts::Layouts;
pub use loader::Loader;
pub use plans::{KeptPlan, Plans, PlansError, Proof};
pub use reference::Reference;
pub use registry::{BatchLimits, NewModel, Registry};
pub use served::{Served, Tally};
pub use shards::{Cut, Open, Opening};
pub use standing::{InUse, Retired, StandingOrder, StandingPlan};
pub use versions::NotFound;

use std::{path::PathBuf, time::Duration};

use sha2::{Digest as _, Sha256};

use crate::{
    backend::{Backend, BackendError},
    domain::{Code, Digest, Failure, ModelName, Retry, Tensor},
    onnx::{OnnxError, convert::ConvertError, precision::PrecisionError},
    store::StoreError,
};

#[derive(Debug, thiserror::Error)]
pub enum ModelError {
    #[error("could not keep the file at {}: {source}", path.display())]
    Keep { path: PathBuf, source: std::io::Error },
    #[error("the file is over the limit of {limit} bytes")]
    TooLarge { limit: u64 },
    #[error("{0}; or raise the limit")]
    Full(Full),
    #[error("the upload broke off: {message}")]
    Upload { message: String },
    #[error("no file with digest {digest} was uploaded")]
    NoFile { digest: Digest },
    #[error("the file {digest} has the digest {found}: it was changed on the disk; add the model again")]
    Changed { digest: Digest, found: Digest },
    #[error("its file has {found} bytes, not {bytes}: it was changed on the disk; add the model again")]
    Resized { bytes: u64, found: u64 },
    #[error("its file {digest} is gone; add the model again")]
    Gone { digest: Digest },
    #[error(
        "what it is judged by takes {more} bytes, and with the {kept} of other models that is more than the {limit} that are \
         kept: give smaller inputs, or remove models, plans and shards that nobody uses"
    )]
    NoRoom { kept: usize, more: usize, limit: usize },
    #[error("{name} has {limit} versions already; remove one with `weft models remove {name}@VERSION`")]
    Versions { name: ModelName, limit: usize },
    #[error("its files: {problem}")]
    Files { problem: String },
    #[error("its weights are in the file {file:?}, which did not come with it")]
    WeightsMissing { file: String },
    #[error("weights alone do not say what they are: their config.json did not come with them")]
    NoConfig,
    #[error("it cannot be converted: {0}")]
    Convert(#[from] ConvertError),
    #[error("it cannot be converted: {0}")]
    Foreign(Box<foreign::ForeignError>),
    #[error("no variant can be made of it: {0}")]
    Precision(#[from] PrecisionError),
    #[error("the accuracy of the variant cannot be measured: {who} does not run: {source}")]
    Measure { who: &'static str, source: BackendError },
    #[error("the variant does not answer as a variant of the model: {problem}")]
    Accuracy { problem: String },
    #[error(transparent)]
    Read(#[from] OnnxError),
    #[error("ONNX Runtime cannot load it: {0}")]
    Load(#[source] BackendError),
    #[error("ONNX Runtime cannot run it: {0}")]
    Run(#[source] BackendError),
    #[error("its outputs are not usable: {problem}")]
    Outputs { problem: String },
    #[error("its gate inputs do not fit: {0}")]
    Inputs(#[source] Failure),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("the blocks of the file {digest} are not known: {problem}")]
    Layout { digest: Digest, problem: String },
    #[error("the daemon is stopping")]
    Stopping,
}

impl ModelError {
    pub fn retry(&self) -> Retry {
        match self {
            Self::Keep { .. } | Self::Upload { .. } | Self::Layout { .. } | Self::Stopping => Retry::Same,
            Self::Store(error) => error.retry(),
            Self::Load(error) | Self::Run(error) | Self::Measure { source: error, .. } => error.retry(),
            Self::Full(full) if full.passes() => Retry::Same,
            Self::Full(_)
            | Self::TooLarge { .. }
            | Self::NoRoom { .. }
            | Self::NoFile { .. }
            | Self::Changed { .. }
            | Self::Resized { .. }
            | Self::Gone { .. }
            | Self::Versions { .. }
            | Self::Files { .. }
            | Self::WeightsMissing { .. }
            | Self::NoConfig
            | Self::Convert(_)
            | Self::Foreign(_)
            | Self::Precision(_)
            | Self::Accuracy { .. }
            | Self::Read(_)
            | Self::Outputs { .. }
            | Self::Inputs(_) => Retry::Never,
        }
    }
}

impl From<foreign::ForeignError> for ModelError {
    fn from(error: foreign::ForeignError) -> Self {
        Self::Foreign(Box::new(error))
    }
}

impl From<ModelError> for Failure {
    fn from(error: ModelError) -> Self {
        let code = match &error {
            ModelError::Keep { .. } | ModelError::Layout { .. } | ModelError::Store(_) => Code::Internal,
            ModelError::TooLarge { .. }
            | ModelError::NoRoom { .. }
            | ModelError::Read(OnnxError::TooLarge { .. }) => Code::TooLarge,
            ModelError::Full(full) if !full.passes() => Code::TooLarge,
            ModelError::Full(_) | ModelError::Stopping => Code::Overloaded,
            _ => Code::InvalidRequest,
        };
        Failure::new(code, error.retry(), error.to_string())
    }
}

/// What identifies gate inputs: a verdict on other inputs says nothing about these.
fn digest_of<'a>(inputs: impl Iterator<Item = &'a Vec<Tensor>>) -> Digest {
    let mut hash = Sha256::new();
    for tensor in inputs.flatten() {
        hash.update(format!("{} {} {:?};", tensor.name, tensor.datatype, tensor.shape));
        tensor.body.parts().iter().for_each(|part| hash.update(part));
    }
    Digest::new(hash.finalize().into())
}

/// Waits for a lane's work; one that takes longer is given up.
pub async fn within<T>(
    limit: Duration,
    backend: &dyn Backend,
    doing: &str,
    work: impl Future<Output = Result<T, BackendError>>,
) -> Result<T, BackendError> {
    match tokio::time::timeout(limit, work).await {
        Ok(result) => result,
        Err(_) => {
            let reason = format!("{doing} a model took over {} s", limit.as_secs());
            backend.abandon(reason.clone());
            Err(BackendError::Lost { reason })
        }
    }
}
