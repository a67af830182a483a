//! Which of several lanes a request prefers.

use std::fmt;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// How a lane is chosen among those that a request admits.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, ToSchema,
)]
#[serde(rename_all = "kebab-case")]
pub enum Policy {
    /// Whichever lane is expected to answer first, native ones and browsers alike.
    Fastest,
    /// Browsers; a native lane only where none of them can answer.
    #[default]
    BrowserFirst,
    /// Native lanes while they have room, then browsers.
    NativeFirst,
    /// All lanes evenly, however fast each is.
    Spread,
    /// Only what the request names.
    Pin,
}

impl Policy {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Fastest => "fastest",
            Self::BrowserFirst => "browser-first",
            Self::NativeFirst => "native-first",
            Self::Spread => "spread",
            Self::Pin => "pin",
        }
    }
}

impl fmt::Display for Policy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
