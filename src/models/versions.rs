//! Names and the files that each stands for, the latest added first. Pure.

use std::{collections::BTreeMap, sync::Arc};

use super::Entry;
use crate::domain::{Digest, ModelName};

/// Digits that a version is shortened to at least: enough that nobody meets two by chance.
const DIGITS_MIN: usize = 8;

/// Versions that an error names.
const SHOWN: usize = 8;

/// Why nothing is meant.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotFound {
    #[error("no model is called {name:?}")]
    Name { name: String },
    #[error(
        "model {name} has no version {version:?}, only {known}; a version is a digest or its first {DIGITS_MIN} digits \
         or more"
    )]
    Version { name: ModelName, version: String, known: String },
    #[error("model {name} has several versions that begin with {version:?}: {known}")]
    Ambiguous { name: ModelName, version: String, known: String },
}

#[derive(Debug, Default)]
pub(super) struct Versions(BTreeMap<ModelName, Vec<Arc<Entry>>>);

impl Versions {
    /// Adds what is older than all that its name has.
    pub(super) fn push(&mut self, entry: Entry) {
        self.0.entry(entry.model.name.clone()).or_default().push(Arc::new(entry));
    }

    /// Makes it the latest of its name, in place of an entry of the same file.
    pub(super) fn add(&mut self, entry: Arc<Entry>) {
        let versions = self.0.entry(entry.model.name.clone()).or_default();
        versions.retain(|other| other.model.digest != entry.model.digest);
        versions.insert(0, entry);
    }

    /// Puts it where the entry of the same name and file is, if that is still there.
    pub(super) fn replace(&mut self, entry: &Arc<Entry>) {
        let versions = self.0.get_mut(&entry.model.name).into_iter().flatten();
        for version in versions.filter(|version| version.model.digest == entry.model.digest) {
            *version = entry.clone();
        }
    }

    /// Takes out one version, or all.
    pub(super) fn remove(&mut self, name: &ModelName, version: Option<Digest>) -> Vec<Arc<Entry>> {
        let Some(versions) = self.0.get_mut(name) else { return Vec::new() };
        let goes = |entry: &mut Arc<Entry>| version.is_none_or(|version| entry.model.digest == version);
        let removed = versions.extract_if(.., goes).collect();
        if versions.is_empty() {
            self.0.remove(name);
        }
        removed
    }

    /// The latest of a name or the version that is asked for; a digest is as good as a name.
    pub(super) fn find(&self, name: &ModelName, version: Option<&str>) -> Result<&Arc<Entry>, NotFound> {
        let Some(versions) = self.0.get(name) else {
            let by_digest = name.as_str().parse().ok().filter(|_| version.is_none());
            let found = by_digest.and_then(|digest| self.of_file(digest));
            return found.ok_or_else(|| NotFound::Name { name: name.as_str().to_owned() });
        };
        let Some(version) = version else { return Ok(&versions[0]) };
        let known = |entries: &mut dyn Iterator<Item = &Arc<Entry>>| {
            let digests: Vec<_> = entries.take(SHOWN).map(|entry| entry.model.digest.to_string()).collect();
            digests.join(", ")
        };
        let long = version.len() >= DIGITS_MIN;
        let meant = |entry: &&Arc<Entry>| long && entry.model.digest.begins_with(version);
        let mut found = versions.iter().filter(meant);
        let (name, told) = (|| name.clone(), || version.to_owned());
        match (found.next(), found.next()) {
            (Some(entry), None) => Ok(entry),
            (None, _) => {
                let known = known(&mut versions.iter());
                Err(NotFound::Version { name: name(), version: told(), known })
            }
            (Some(_), Some(_)) => {
                let known = known(&mut versions.iter().filter(meant));
                Err(NotFound::Ambiguous { name: name(), version: told(), known })
            }
        }
    }

    fn of_file(&self, digest: Digest) -> Option<&Arc<Entry>> {
        self.all().find(|entry| entry.model.digest == digest)
    }

    pub(super) fn all(&self) -> impl Iterator<Item = &Arc<Entry>> {
        self.0.values().flatten()
    }

    /// Of each name the version that it stands for.
    pub(super) fn latest(&self) -> impl Iterator<Item = &Arc<Entry>> {
        self.0.values().filter_map(|versions| versions.first())
    }

    pub(super) fn count(&self, name: &ModelName) -> usize {
        self.0.get(name).map_or(0, Vec::len)
    }
}

#[cfg(test)]
mod tests;
