//! A wheel of a Python package index.

use futures_util::future::BoxFuture;
use serde::Deserialize;

use super::{
    Found, Locator, Remote, Shelf, Source, SourceError,
    archive::Form,
    digest::Expected,
    web::{Web, below, lead},
};
use crate::domain::Digest;

/// How the file names of wheels end that fit every platform.
const ANY_PLATFORM: &str = "-none-any.whl";

pub(super) struct Wheel {
    pub(super) package: String,
    pub(super) version: String,
    pub(super) path: Option<String>,
}

/// The parts that are needed of `/pypi/{package}/{version}/json`.
#[derive(Deserialize)]
struct Release {
    urls: Vec<File>,
}

#[derive(Clone, Deserialize)]
struct File {
    filename: String,
    packagetype: String,
    url: String,
    size: Option<u64>,
    digests: Digests,
}

#[derive(Clone, Deserialize)]
struct Digests {
    sha256: Digest,
}

impl Source for Wheel {
    fn find<'a>(&'a self, web: &'a Web) -> BoxFuture<'a, Result<Found, SourceError>> {
        Box::pin(async move {
            let Self { package, version, path } = self;
            let index = below(&web.settings.pypi, ["pypi", package, version, "json"])?;
            let release: Release = web.json(&index).await?;
            let mut wheels: Vec<_> =
                release.urls.into_iter().filter(|file| file.packagetype == "bdist_wheel").collect();
            // The same one every time; data files hardly differ between platforms.
            wheels.sort_by_key(|file| (!file.filename.ends_with(ANY_PLATFORM), file.filename.clone()));
            let place = super::locator::place(&index);
            let Some(wheel) = wheels.into_iter().next() else {
                let problem = format!("{package} {version} has no wheel");
                return Err(SourceError::Answer { place, problem });
            };
            let url = lead(&index, &wheel.url)?;
            let expected = Some(Expected::Sha256(wheel.digests.sha256));
            let shelf =
                Shelf::Packed { archive: Remote { url, expected, bytes: wheel.size }, form: Form::Zip };
            let (package, version, path) = (package.clone(), version.clone(), path.clone());
            let revision = Some(version.clone());
            Ok(Found { shelf, path, source: Locator::Wheel { package, version, path: None }, revision })
        })
    }
}
