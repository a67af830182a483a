//! Where models come from.
//!
//! A source says which file is meant, of which revision, and what it must turn out to be; one downloader brings it,
//! and one reader takes it out of an archive. Nothing here decides what a model is called or whether it is good.

mod archive;
mod backoff;
mod choose;
mod digest;
mod downloads;
mod error;
mod fetch;
mod hub;
mod local;
mod locator;
mod npm;
mod parts;
mod peer;
mod progress;
mod python;
mod settings;
#[cfg(test)]
mod tests;
mod tls;
mod web;

use std::path::PathBuf;

use futures_util::future::BoxFuture;
use url::Url;

use self::{archive::Form, digest::Expected, web::Web};
pub use self::{
    backoff::Backoff,
    downloads::{Downloads, Order},
    error::SourceError,
    locator::Locator,
    progress::{Download, DownloadId, State},
    settings::{Settings, Token, origin},
};
use crate::domain::Digest;

/// One kind of place that models come from.
trait Source: Send + Sync {
    /// Says which file is meant, and asks whoever keeps it where that cannot be told without.
    fn find<'a>(&'a self, web: &'a Web) -> BoxFuture<'a, Result<Found, SourceError>>;
}

/// A file that is meant.
#[derive(Debug)]
struct Found {
    remote: Remote,
    /// The source with its path, as far as it is known.
    source: Locator,
    /// What pins it: a commit, a version, a digest.
    revision: Option<String>,
}

/// A file of a web server, and what is known of it beforehand.
#[derive(Debug)]
struct Remote {
    url: Url,
    expected: Option<Expected>,
    bytes: Option<u64>,
    /// The archive that the model lies in.
    packed: Option<Packed>,
}

#[derive(Debug)]
struct Packed {
    form: Form,
    /// The one ONNX file there is, when it is not said.
    path: Option<String>,
}

/// A file that is there now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Brought {
    pub digest: Digest,
    pub bytes: u64,
    pub source: String,
    pub revision: Option<String>,
}

/// The file that a path means: itself, or the one model in a folder.
pub fn local(path: &std::path::Path) -> Result<PathBuf, SourceError> {
    local::find(path)
}
