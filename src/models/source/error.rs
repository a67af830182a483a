//! Why a model could not be brought.

use std::{path::PathBuf, time::Duration};

use super::archive::ArchiveError;
use crate::{
    content::{Cid, DagError},
    domain::{Code, Failure, Retry},
    models::ModelError,
};

/// Places are shown without their queries, which may hold a signature.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    #[error("{text:?} is no source: {problem}")]
    Malformed { text: String, problem: String },
    #[error(
        "offline: {source_text} is not here already; without `--offline` and `models.offline` it is downloaded"
    )]
    Offline { source_text: String },
    #[error("{place} cannot be reached: {message}")]
    Unreachable { place: String, message: String },
    #[error("{place} broke off after {got} bytes{}: {message}", of(*.total))]
    Broken { place: String, got: u64, total: Option<u64>, message: String },
    #[error("{place} is not there (404)")]
    NotThere { place: String },
    #[error("{place} refuses us ({status}): a token for its host belongs in [models.tokens] of weft.toml")]
    Refused { place: String, status: u16 },
    #[error("{place} answered {status}{}", asks(*.after))]
    Status { place: String, status: u16, after: Option<Duration> },
    #[error("{place} was redirected more than {most} times")]
    Redirects { place: String, most: usize },
    #[error("{from} leads to {to}, which is not encrypted")]
    Downgrade { from: String, to: String },
    #[error("{place} changed while it was downloaded")]
    Changed { place: String },
    #[error("{place} has {}, over the limit of {limit} (models.download_max)", size(*.bytes))]
    TooLarge { place: String, bytes: Option<u64>, limit: u64 },
    #[error("{place} has {is} bytes, {wanted} were promised")]
    Length { place: String, is: u64, wanted: u64 },
    #[error("{place} says neither how long it is nor what it must be: its end could not be told from a loss")]
    Endless { place: String },
    #[error("{place} has {algorithm} {is}, {wanted} was promised")]
    Mismatch { place: String, algorithm: &'static str, is: String, wanted: String },
    #[error("{place} gave no sense: {problem}")]
    Answer { place: String, problem: String },
    #[error("the archive {place} {problem}")]
    Archive { place: String, problem: ArchiveError },
    #[error("{place} has no {path:?}{}", listed(.there))]
    NoFile { place: String, path: String, there: Vec<String> },
    #[error("{file} is unusable: {problem}")]
    Pieces { file: String, problem: String },
    #[error("{place} has no .onnx file, and no weights to make one of")]
    NoModel { place: String },
    #[error("{place} has several models, say which: {}", .there.join(", "))]
    Several { place: String, there: Vec<String> },
    #[error("could not use {}: {source}", path.display())]
    Keep { path: PathBuf, source: std::io::Error },
    #[error("the token for {origin} could not be read from {}: {source}", path.display())]
    TokenFile { origin: String, path: PathBuf, source: std::io::Error },
    #[error("{place} is not trusted: {message}; authorities of one's own belong in models.certificates")]
    Untrusted { place: String, message: String },
    #[error("certificates: {problem}")]
    Certificates { problem: String },
    #[error("{place} is being downloaded already, for another source")]
    Busy { place: String },
    #[error("{most} downloads are under way already")]
    Full { most: usize },
    #[error("no download is called {id:?}; ended ones are forgotten in time")]
    Unknown { id: String },
    #[error("the download {id} has not ended well: it brought no file")]
    NotDone { id: String },
    #[error("the download was cancelled")]
    Cancelled,
    #[error("the daemon is stopping; the download goes on from here when it is asked for again")]
    Stopping,
    #[error(
        "ipfs:{cid}: no gateway is known: [models] of weft.toml names some, as gateways = [\"https://…\"]"
    )]
    NoGateways { cid: Cid },
    #[error("{place} lied: {problem}")]
    Lied { place: String, problem: String },
    #[error("ipfs:{cid} is no file that can be had: {problem}")]
    Dag { cid: Cid, problem: Box<DagError> },
    #[error("no gateway gave all of ipfs:{cid}: {}", .told.join("; "))]
    Gateways { cid: Cid, told: Vec<String>, passes: Option<Duration> },
    #[error(transparent)]
    Model(#[from] ModelError),
}

fn of(total: Option<u64>) -> String {
    total.map(|total| format!(" of {total}")).unwrap_or_default()
}

fn asks(after: Option<Duration>) -> String {
    after.map(|after| format!(" and wants to be left alone for {} s", after.as_secs())).unwrap_or_default()
}

fn size(bytes: Option<u64>) -> String {
    bytes.map_or("more bytes than it said".to_owned(), |bytes| format!("{bytes} bytes"))
}

fn listed(there: &[String]) -> String {
    if there.is_empty() { String::new() } else { format!("; it has {}", there.join(", ")) }
}

impl SourceError {
    pub(super) fn archive(place: &str, problem: ArchiveError) -> Self {
        match problem {
            ArchiveError::Keep { path, source } => Self::Keep { path, source },
            problem => Self::Archive { place: place.to_owned(), problem },
        }
    }

    /// How long to wait at least before another try, where one may help by itself.
    pub(super) fn passes(&self) -> Option<Duration> {
        match self {
            Self::Unreachable { .. } | Self::Broken { .. } | Self::Changed { .. } => Some(Duration::ZERO),
            Self::Status { status: 408 | 429 | 500..=599, after, .. } => Some(after.unwrap_or_default()),
            Self::Gateways { passes, .. } => *passes,
            _ => None,
        }
    }

    /// Whether no other gateway would do better.
    pub(super) fn is_for_all(&self) -> bool {
        matches!(
            self,
            Self::Keep { .. } | Self::TokenFile { .. } | Self::Certificates { .. } | Self::Dag { .. }
        )
    }

    /// Whether the file is good, and only the path in it was not.
    pub(super) fn is_choice(&self) -> bool {
        matches!(self, Self::NoFile { .. } | Self::NoModel { .. } | Self::Several { .. })
    }

    fn retry(&self) -> Retry {
        match self {
            Self::Busy { .. } | Self::Full { .. } | Self::Keep { .. } | Self::Stopping => Retry::Same,
            Self::Model(error) => error.retry(),
            error if error.passes().is_some() => Retry::Same,
            _ => Retry::Never,
        }
    }

    fn code(&self) -> Code {
        match self {
            Self::Dag { problem, .. } if matches!(**problem, DagError::Bytes { .. }) => Code::TooLarge,
            Self::Keep { .. } | Self::TokenFile { .. } | Self::Certificates { .. } => Code::Internal,
            Self::TooLarge { .. } | Self::Archive { problem: ArchiveError::Bomb { .. }, .. } => {
                Code::TooLarge
            }
            Self::Busy { .. } | Self::Full { .. } | Self::Stopping => Code::Overloaded,
            Self::Cancelled => Code::Cancelled,
            Self::Offline { .. }
            | Self::Lied { .. }
            | Self::Gateways { .. }
            | Self::Unreachable { .. }
            | Self::Untrusted { .. }
            | Self::Broken { .. }
            | Self::Status { .. }
            | Self::Redirects { .. }
            | Self::Downgrade { .. }
            | Self::Changed { .. }
            | Self::Length { .. }
            | Self::Endless { .. }
            | Self::Mismatch { .. }
            | Self::Answer { .. }
            | Self::Archive { .. } => Code::SourceUnavailable,
            _ => Code::InvalidRequest,
        }
    }
}

impl From<SourceError> for Failure {
    fn from(error: SourceError) -> Self {
        match error {
            SourceError::Model(error) => error.into(),
            error => Failure::new(error.code(), error.retry(), error.to_string()),
        }
    }
}
