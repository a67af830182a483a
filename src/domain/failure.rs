//! What a caller is told when something did not work: one closed list of codes, and whether to try again.

use std::fmt;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// The error codes of the public contract.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Code {
    InvalidRequest,
    UnknownModel,
    ModelNotReady,
    NoBackend,
    Quarantined,
    Overloaded,
    RateLimited,
    DeadlineExceeded,
    Cancelled,
    LaneLost,
    OutOfMemory,
    Unauthorized,
    TooLarge,
    SourceUnavailable,
    Internal,
}

impl Code {
    pub const ALL: [Self; 15] = [
        Self::InvalidRequest,
        Self::UnknownModel,
        Self::ModelNotReady,
        Self::NoBackend,
        Self::Quarantined,
        Self::Overloaded,
        Self::RateLimited,
        Self::DeadlineExceeded,
        Self::Cancelled,
        Self::LaneLost,
        Self::OutOfMemory,
        Self::Unauthorized,
        Self::TooLarge,
        Self::SourceUnavailable,
        Self::Internal,
    ];

    /// The spelling that the wire and the store use.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::InvalidRequest => "invalid_request",
            Self::UnknownModel => "unknown_model",
            Self::ModelNotReady => "model_not_ready",
            Self::NoBackend => "no_backend",
            Self::Quarantined => "quarantined",
            Self::Overloaded => "overloaded",
            Self::RateLimited => "rate_limited",
            Self::DeadlineExceeded => "deadline_exceeded",
            Self::Cancelled => "cancelled",
            Self::LaneLost => "lane_lost",
            Self::OutOfMemory => "out_of_memory",
            Self::Unauthorized => "unauthorized",
            Self::TooLarge => "too_large",
            Self::SourceUnavailable => "source_unavailable",
            Self::Internal => "internal",
        }
    }
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Whether trying again can help, and where.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Retry {
    /// The same lane may answer when asked again.
    Same,
    /// Another lane may answer.
    Elsewhere,
    /// The request itself is at fault, or its caller gave up.
    Never,
}

/// The end of a request that did not succeed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error, ToSchema)]
#[error("{code}: {message}")]
pub struct Failure {
    pub code: Code,
    pub message: String,
    pub retry: Retry,
    /// In how many seconds trying again may help, where that can be told.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_after_s: Option<u64>,
}

impl Failure {
    pub fn new(code: Code, retry: Retry, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), retry, retry_after_s: None }
    }

    /// The request does not fit; trying again cannot help.
    pub fn invalid(message: impl Into<String>) -> Self {
        Self::new(Code::InvalidRequest, Retry::Never, message)
    }
}
