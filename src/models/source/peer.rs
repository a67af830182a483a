//! Another weft.

use futures_util::future::BoxFuture;
use serde::Deserialize;
use url::Url;

use super::{
    Found, Locator, Remote, Source, SourceError,
    digest::Expected,
    web::{Web, below},
};
use crate::domain::{Digest, ModelName};

pub(super) struct Peer {
    /// Ends in a slash.
    pub(super) daemon: Url,
    pub(super) model: ModelName,
    pub(super) version: Option<Digest>,
}

/// The parts that are needed of `/api/v1/models/{name}`.
#[derive(Deserialize)]
struct Told {
    digest: Digest,
    bytes: u64,
}

impl Source for Peer {
    fn find<'a>(&'a self, web: &'a Web) -> BoxFuture<'a, Result<Found, SourceError>> {
        Box::pin(async move {
            let Self { daemon, model, version } = self;
            let url = below(daemon, ["api", "v1", "models", model.as_str()])?;
            let Told { digest, bytes } = web.json(&url).await?;
            if version.is_some_and(|version| version != digest) {
                return Err(SourceError::Mismatch {
                    place: super::locator::place(&url),
                    algorithm: "sha256",
                    is: digest.to_string(),
                    wanted: version.unwrap_or(digest).to_string(),
                });
            }
            let url = below(daemon, ["api", "v1", "blobs", &digest.to_string()])?;
            let expected = Some(Expected::Sha256(digest));
            let remote = Remote { url, expected, bytes: Some(bytes), packed: None };
            let (daemon, model, version) = (daemon.clone(), model.clone(), *version);
            let source = Locator::Peer { daemon, model, version };
            Ok(Found { remote, source, revision: Some(digest.to_string()) })
        })
    }
}
