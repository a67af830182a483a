//! The Hugging Face Hub, or whatever speaks as it does.

use futures_util::future::BoxFuture;
use serde::Deserialize;

use super::{
    Found, Locator, Remote, Source, SourceError,
    choose::choose,
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
            let files: Vec<_> = told.siblings.iter().map(|sibling| sibling.rfilename.clone()).collect();
            let found = choose(&format!("hf:{repository}"), &files, path.as_deref())?;
            let sibling = told.siblings.into_iter().find(|sibling| sibling.rfilename == found);
            let sibling = sibling.expect("the chosen one is of these");
            // By the commit, so that a branch that moves meanwhile changes nothing.
            let parts = repository.split('/').chain(["resolve", &told.sha]).chain(found.split('/'));
            let url = below(base, parts)?;
            let expected = sibling.lfs.map(|lfs| Expected::Sha256(lfs.sha256));
            let remote = Remote { url, expected, bytes: sibling.size, packed: None };
            let (repository, revision) = (repository.clone(), revision.clone());
            let source = Locator::Hub { repository, revision, path: Some(found) };
            Ok(Found { remote, source, revision: Some(told.sha) })
        })
    }
}
