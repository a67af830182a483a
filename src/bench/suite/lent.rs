//! What a suite says of ONNX Runtime libraries beside the daemon's own.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use serde::Deserialize;
use toml::Spanned;

use super::{RawSuite, SuiteError, Told};
use crate::domain::BackendKind;

/// How a path in the folder begins where setup puts what it brings.
const CACHE: &str = "{cache}/";

#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Lent {
    path: String,
    /// In short, as `openvino`.
    pub providers: Vec<String>,
    /// What brings it.
    pub install: String,
}

impl Lent {
    /// Where it is looked for.
    #[must_use]
    pub fn at(&self, cache: &Path) -> PathBuf {
        self.path.strip_prefix(CACHE).map_or_else(|| PathBuf::from(&self.path), |below| cache.join(below))
    }

    /// Whether a lane on this backend would come from it.
    #[must_use]
    pub fn has(&self, backend: &BackendKind) -> bool {
        matches!(backend, BackendKind::Ort(provider) if self.providers.contains(provider))
    }
}

impl Told<'_> {
    pub(super) fn libraries(&self, raw: &RawSuite) -> Result<BTreeMap<String, Lent>, SuiteError> {
        let backends = raw.matrix.get_ref().backend();
        for library in raw.library.values() {
            let Lent { path, providers, .. } = library.get_ref();
            let named = Path::new(path).is_absolute() || path.starts_with(CACHE);
            self.check(named, &library.span(), "a library's path is absolute, or begins with {cache}/")?;
            self.check(
                !providers.is_empty(),
                &library.span(),
                "a library is there for at least one provider",
            )?;
            for provider in providers {
                let known = backends.contains(&BackendKind::Ort(provider.clone()));
                let message = format!("the matrix does not have the backend `ort-{provider}`");
                self.check(known, &library.span(), &message)?;
            }
        }
        let lent = raw.library.iter();
        Ok(lent.map(|(name, library)| (name.clone(), Spanned::get_ref(library).clone())).collect())
    }
}
