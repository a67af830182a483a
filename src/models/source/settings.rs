//! How the daemon downloads.

use std::{collections::BTreeMap, fmt, path::PathBuf};

use url::Url;

use super::{Backoff, SourceError};

#[derive(Clone, Debug)]
pub struct Settings {
    /// Nothing is downloaded: what is asked for is here already, or refused.
    pub offline: bool,
    pub hub: Url,
    pub pypi: Url,
    pub npm: Url,
    /// Asked for blocks, in this order.
    pub gateways: Vec<Url>,
    /// Shown to the origin of that name alone.
    pub tokens: BTreeMap<String, Token>,
    /// Certificates to trust beside the system's.
    pub certificates: Option<PathBuf>,
    /// The largest file, archives and what comes out of them included.
    pub download_max: u64,
    pub backoff: Backoff,
}

/// A secret, or the file that holds it.
#[derive(Clone)]
pub enum Token {
    Text(String),
    /// Read at each use, so that a new one counts at once.
    File(PathBuf),
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text(_) => f.write_str("Text(…)"),
            Self::File(path) => f.debug_tuple("File").field(path).finish(),
        }
    }
}

/// Scheme, host and port, which is whom a token is for.
pub fn origin(url: &Url) -> String {
    url.origin().ascii_serialization()
}

impl Settings {
    /// What to show the server at `url`.
    pub(super) fn token(&self, url: &Url) -> Result<Option<String>, SourceError> {
        let origin = origin(url);
        match self.tokens.get(&origin) {
            None => Ok(None),
            Some(Token::Text(text)) => Ok(Some(text.clone())),
            Some(Token::File(path)) => {
                let text = std::fs::read_to_string(path);
                let text =
                    text.map_err(|source| SourceError::TokenFile { origin, path: path.clone(), source })?;
                Ok(Some(text.trim().to_owned()))
            }
        }
    }
}
