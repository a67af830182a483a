//! A tarball of an npm registry.

use futures_util::future::BoxFuture;
use serde::Deserialize;

use super::{
    Found, Locator, Remote, Shelf, Source, SourceError,
    archive::Form,
    digest::Expected,
    web::{Web, below, lead},
};

pub(super) struct Tarball {
    pub(super) package: String,
    pub(super) version: String,
    pub(super) path: Option<String>,
}

/// The parts that are needed of `/{package}/{version}`.
#[derive(Deserialize)]
struct Manifest {
    dist: Dist,
}

#[derive(Deserialize)]
struct Dist {
    tarball: String,
    integrity: Option<String>,
}

impl Source for Tarball {
    fn find<'a>(&'a self, web: &'a Web) -> BoxFuture<'a, Result<Found, SourceError>> {
        Box::pin(async move {
            let Self { package, version, path } = self;
            let index = below(&web.settings.npm, [package.as_str(), version])?;
            let dist = web.json::<Manifest>(&index).await?.dist;
            // Packages of before 2017 have a sha1 alone, which proves nothing any more.
            let Some(expected) = dist.integrity.as_deref().and_then(Expected::integrity) else {
                let place = super::locator::place(&index);
                let problem = "it states no sha512 to check the tarball by".to_owned();
                return Err(SourceError::Answer { place, problem });
            };
            let url = lead(&index, &dist.tarball)?;
            let archive = Remote { url, expected: Some(expected), bytes: None };
            let shelf = Shelf::Packed { archive, form: Form::TarGz };
            let (package, version, path) = (package.clone(), version.clone(), path.clone());
            let revision = Some(version.clone());
            Ok(Found { shelf, path, source: Locator::Tarball { package, version, path: None }, revision })
        })
    }
}
