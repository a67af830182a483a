//! Where models come from.
//!
//! A source says where the files lie that are meant, of which revision, and what they must turn out to be; one
//! downloader brings them, and one reader takes them out of an archive. Nothing here decides what a model is called or whether it is good.

pub mod archive;
mod backoff;
mod bring;
mod choose;
mod dag;
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
mod pieces;
mod progress;
mod python;
mod settings;
#[cfg(test)]
mod tests;
mod tls;
mod web;

use std::collections::BTreeMap;

use futures_util::future::BoxFuture;
use url::Url;

use self::{archive::Form, digest::Expected, web::Web};
pub use self::{
    backoff::Backoff,
    downloads::{Downloads, Order},
    error::SourceError,
    local::{Local, local},
    locator::Locator,
    pieces::is_weights,
    progress::{Download, DownloadId, State},
    settings::{Settings, Token, origin},
};
use crate::{content::Cid, domain::Digest};

/// One kind of place that models come from.
trait Source: Send + Sync {
    /// Says which file is meant, and asks whoever keeps it where that cannot be told without.
    fn find<'a>(&'a self, web: &'a Web) -> BoxFuture<'a, Result<Found, SourceError>>;
}

/// The files that are meant.
#[derive(Debug)]
struct Found {
    shelf: Shelf,
    /// Which of them is the model, when that is said.
    path: Option<String>,
    /// The source as it was said.
    source: Locator,
    /// What pins it: a commit, a version, a digest.
    revision: Option<String>,
}

/// Where files lie together.
#[derive(Debug)]
enum Shelf {
    /// Each has an address of its own.
    Loose {
        place: String,
        files: BTreeMap<String, Remote>,
    },
    /// One, whose server does not tell what lies beside it.
    Lone {
        name: String,
        remote: Remote,
    },
    Packed {
        archive: Remote,
        form: Form,
    },
    /// One, in blocks that any gateway may have.
    Blocks(Cid),
}

/// A file of a web server, and what is known of it beforehand.
#[derive(Clone, Debug)]
struct Remote {
    url: Url,
    expected: Option<Expected>,
    bytes: Option<u64>,
}

/// A model's files that are there now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Brought {
    pub digest: Digest,
    pub bytes: u64,
    /// What its source calls the model's own file.
    pub file: String,
    /// What came with it, by name.
    pub files: BTreeMap<String, Digest>,
    pub source: String,
    pub revision: Option<String>,
    /// Whether the source as it is kept can be asked for them again.
    pub again: bool,
}
