//! The Hugging Face Hub, or whatever speaks as it does.

use std::collections::BTreeMap;

use futures_util::future::BoxFuture;
use serde::Deserialize;

use super::{
    Found, Locator, Remote, Shelf, Source, SourceError,
    digest::Expected,
    web::{Web, below},
};
use crate::domain::Digest;

/// The branch that every repository has.
const BRANCH: &str = "main";

/// Digits of a commit.
const COMMIT_DIGITS: usize = 40;

pub(super) struct Hub {
    pub(super) repository: String,
    pub(super) revision: Option<String>,
    pub(super) path: Option<String>,
}

/// The parts that are needed of `/api/models/{repository}/revision/{revision}`.
#[derive(Deserialize)]
struct Repository {
    sha: String,
    siblings: Vec<Sibling>,
}

#[derive(Deserialize)]
struct Sibling {
    rfilename: String,
    size: Option<u64>,
    /// Absent for small files, which git keeps itself.
    lfs: Option<Lfs>,
}

#[derive(Deserialize)]
struct Lfs {
    sha256: Digest,
}

impl Source for Hub {
    fn find<'a>(&'a self, web: &'a Web) -> BoxFuture<'a, Result<Found, SourceError>> {
        Box::pin(async move {
            let Self { repository, revision, path } = self;
            let base = &web.settings.hub;
            let asked = revision.as_deref().unwrap_or(BRANCH);
            let parts = ["api", "models"].into_iter().chain(repository.split('/')).chain(["revision", asked]);
            let mut url = below(base, parts)?;
            url.set_query(Some("blobs=true"));
            let told: Repository = web.json(&url).await?;
            let place = super::locator::place(&url);
            if told.sha.len() != COMMIT_DIGITS || !told.sha.chars().all(|c| c.is_ascii_hexdigit()) {
                let problem = "it names no commit".to_owned();
                return Err(SourceError::Answer { place, problem });
            }
            let mut files = BTreeMap::new();
            for Sibling { rfilename, size, lfs } in told.siblings {
                // By the commit, so that a branch that moves meanwhile changes nothing.
                let parts = repository.split('/').chain(["resolve", &told.sha]).chain(rfilename.split('/'));
                let url = below(base, parts)?;
                let expected = lfs.map(|lfs| Expected::Sha256(lfs.sha256));
                files.insert(rfilename, Remote { url, expected, bytes: size });
            }
            let shelf = Shelf::Loose { place: format!("hf:{repository}"), files };
            let (repository, revision, path) = (repository.clone(), revision.clone(), path.clone());
            let source = Locator::Hub { repository, revision, path: None };
            Ok(Found { shelf, path, source, revision: Some(told.sha) })
        })
    }
}
