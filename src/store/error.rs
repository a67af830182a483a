//! What can go wrong in the store, by phase.

use std::path::PathBuf;

use crate::domain::{Code, Failure, Retry};

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    #[error("could not open {path}: {message}")]
    Open { path: PathBuf, message: String },
    #[error("{path} is in use by another process: {message}")]
    InUse { path: PathBuf, message: String },
    /// The file can be opened, but what it holds cannot be understood.
    #[error("{path} is corrupt or no database of ours, move it away to start afresh: {message}")]
    Corrupt { path: PathBuf, message: String },
    #[error(
        "{path} has schema {found}, but this weft knows no later one than {known}: use the weft that wrote it"
    )]
    Newer { path: PathBuf, found: u32, known: u32 },
    #[error("{path} was migrated to schema {version} by another text than this weft's")]
    Altered { path: PathBuf, version: u32 },
    #[error("could not bring {path} to schema {version}: {message}")]
    Migrate { path: PathBuf, version: u32, message: String },
    #[error("could not write {what}: {message}")]
    Write { what: &'static str, message: String },
    #[error("could not read {what}: {message}")]
    Read { what: &'static str, message: String },
    #[error("{asked} runs were asked for, a page holds at most {limit}")]
    PageTooLong { asked: u32, limit: u32 },
    #[error("the store is closed")]
    Closed,
}

impl StoreError {
    pub fn retry(&self) -> Retry {
        match self {
            Self::InUse { .. } | Self::Write { .. } | Self::Read { .. } => Retry::Same,
            Self::Open { .. }
            | Self::Corrupt { .. }
            | Self::Newer { .. }
            | Self::Altered { .. }
            | Self::Migrate { .. }
            | Self::PageTooLong { .. }
            | Self::Closed => Retry::Never,
        }
    }
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        let code = match &error {
            StoreError::PageTooLong { .. } => Code::InvalidRequest,
            _ => Code::Internal,
        };
        Failure::new(code, error.retry(), error.to_string())
    }
}
