//! Another weft.

use std::collections::BTreeMap;

use futures_util::future::BoxFuture;
use serde::Deserialize;
use url::Url;

use super::{
    Found, Locator, Remote, Shelf, Source, SourceError,
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
    #[serde(default)]
    external: BTreeMap<Digest, u64>,
    #[serde(default)]
    companions: BTreeMap<String, Digest>,
}

/// What the model's own file is called here: it has no name of its own there.
const MODEL: &str = "model.onnx";

impl Source for Peer {
    fn find<'a>(&'a self, web: &'a Web) -> BoxFuture<'a, Result<Found, SourceError>> {
        Box::pin(async move {
            let Self { daemon, model, version } = self;
            let asked = version.map_or_else(|| model.to_string(), |version| format!("{model}@{version}"));
            let url = below(daemon, ["api", "v1", "models", &asked])?;
            let told: Told = web.json(&url).await?;
            let digest = told.digest;
            if version.is_some_and(|version| version != digest) {
                return Err(SourceError::Mismatch {
                    place: super::locator::place(&url),
                    algorithm: "sha256",
                    is: digest.to_string(),
                    wanted: version.unwrap_or(digest).to_string(),
                });
            }
            let file = |digest: Digest, bytes| {
                let url = below(daemon, ["api", "v1", "blobs", &digest.to_string()])?;
                Ok::<_, SourceError>(Remote { url, expected: Some(Expected::Sha256(digest)), bytes })
            };
            let mut files = BTreeMap::from([(MODEL.to_owned(), file(digest, Some(told.bytes))?)]);
            for (digest, bytes) in told.external {
                files.insert(digest.to_string(), file(digest, Some(bytes))?);
            }
            for (name, digest) in told.companions {
                files.insert(name, file(digest, None)?);
            }
            let (daemon, model, version) = (daemon.clone(), model.clone(), *version);
            let source = Locator::Peer { daemon, model, version };
            let shelf = Shelf::Loose { place: source.to_string(), files };
            Ok(Found { shelf, path: Some(MODEL.to_owned()), source, revision: Some(digest.to_string()) })
        })
    }
}
