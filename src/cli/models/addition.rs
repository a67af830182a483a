//! What `weft models add` is told: a file, a folder, an address or a catalogue, as models to add.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use anyhow::{Context, bail};
use serde::Deserialize;
use serde_json::{Value, json};

use super::super::Misuse;
use crate::{
    config::Surroundings,
    domain::{Digest, ModelKind, ModelName},
    models::source::{Local, Locator, SourceError, local},
};

#[derive(Deserialize)]
struct Catalogue {
    model: Vec<Listed>,
}

/// What belongs to a model.
#[derive(Deserialize)]
struct Companion {
    file: String,
    path: PathBuf,
    sha256: Digest,
}

/// The keys of `fixtures/models.toml` that adding needs.
#[derive(Deserialize)]
struct Listed {
    name: String,
    package: String,
    version: String,
    file: String,
    path: PathBuf,
    sha256: Digest,
    #[serde(default)]
    companion: Vec<Companion>,
    licence: String,
    #[serde(default)]
    kind: ModelKind,
    tolerance: f64,
    inputs: Option<PathBuf>,
    #[serde(default)]
    batch: Value,
}

/// A file of this machine, and what it must be where that is said.
pub(super) struct Piece {
    pub(super) path: PathBuf,
    pub(super) digest: Option<Digest>,
}

/// Where a model's files come from.
pub(super) enum Origin {
    /// This machine.
    Disk { model: Piece, files: BTreeMap<String, Piece>, source: String },
    /// The daemon downloads it; the digest is what it must be where that is said.
    Elsewhere { source: String, offline: bool, digest: Option<Digest> },
}

/// One model to add.
pub(super) struct Addition {
    pub(super) name: String,
    pub(super) file: Origin,
    pub(super) licence: Option<String>,
    /// Of weights, what they are made into says it.
    pub(super) kind: Option<ModelKind>,
    pub(super) tolerance: Option<f64>,
    pub(super) inputs: Option<PathBuf>,
    /// As the daemon takes it, which checks it.
    pub(super) batch: Value,
}

/// A file's name without what tells its format; a folder's where its files have everybody's names.
fn called(given: &Path, model: &Path) -> anyhow::Result<String> {
    let usual = ["model", "pytorch_model"];
    let stem =
        |path: &Path| path.file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default();
    let name = stem(model);
    let name = name.split(".safetensors").next().unwrap_or_default().to_owned();
    if given.is_dir() && usual.contains(&name.as_str()) {
        return Ok(std::path::absolute(given)?
            .file_name()
            .map_or(name, |name| name.to_string_lossy().into_owned()));
    }
    Ok(name)
}

pub(super) fn additions(
    source: &str,
    offline: bool,
    given: Option<String>,
    tolerance: Option<f64>,
    kind: Option<ModelKind>,
    inputs: Option<PathBuf>,
) -> anyhow::Result<Vec<Addition>> {
    let (file, wanted) = match source.split_once('#') {
        Some((file, wanted)) => (file, Some(wanted)),
        None => (source, None),
    };
    let locator: Locator = source.parse().map_err(|error: SourceError| Misuse(error.to_string()))?;
    let path = PathBuf::from(file);
    let catalogue = path.extension().is_some_and(|extension| extension == "toml");
    if !catalogue || !matches!(locator, Locator::Path(_)) {
        let (name, file) = match locator {
            Locator::Path(path) => {
                let Local { model, files } = local(&path)?;
                let source = std::path::absolute(&model)?.display().to_string();
                let piece = |path| Piece { path, digest: None };
                let files = files.into_iter().map(|(name, path)| (name, piece(path))).collect();
                (called(&path, &model)?, Origin::Disk { model: piece(model), files, source })
            }
            // As it was said: the daemon needs the query that is not shown.
            locator => {
                (locator.name(), Origin::Elsewhere { source: source.to_owned(), offline, digest: None })
            }
        };
        let name = given.unwrap_or(name);
        let batch = json!({});
        return Ok(vec![Addition { name, file, licence: None, kind, tolerance, inputs, batch }]);
    }
    if given.is_some() || tolerance.is_some() || kind.is_some() || inputs.is_some() {
        return Err(Misuse("a catalogue states names, tolerances, kinds and inputs itself".to_owned()).into());
    }
    let cache = Surroundings::read()?.cache;
    let text = std::fs::read_to_string(&path).with_context(|| format!("the catalogue {file}"))?;
    let catalogue: Catalogue = toml::from_str(&text).with_context(|| format!("the catalogue {file}"))?;
    let listed =
        catalogue.model.into_iter().filter(|listed| wanted.is_none_or(|wanted| listed.name == wanted));
    let additions: Vec<_> = listed.map(|listed| listed.addition(&cache, &path, offline)).collect();
    if additions.is_empty() {
        bail!("the catalogue {file} has no model {:?}", wanted.unwrap_or("at all"));
    }
    Ok(additions)
}

impl Addition {
    /// Finds what is plainly wrong before a daemon is asked.
    pub(super) fn check(&self) -> anyhow::Result<()> {
        self.name.parse::<ModelName>().map_err(|error| Misuse(format!("{error}; say --name")))?;
        let Origin::Disk { model, files, .. } = &self.file else { return Ok(()) };
        for Piece { path, .. } in [model].into_iter().chain(files.values()) {
            std::fs::metadata(path).with_context(|| path.display().to_string())?;
        }
        Ok(())
    }
}

impl Listed {
    fn addition(self, cache: &Path, catalogue: &Path, offline: bool) -> Addition {
        let beside = catalogue.parent().unwrap_or(Path::new("."));
        let inputs = self.inputs.as_ref().map(|inputs| beside.join(inputs));
        let batch = if self.batch.is_null() { json!({}) } else { self.batch.clone() };
        let (name, licence) = (self.name.clone(), Some(self.licence.clone()));
        let (kind, tolerance) = (Some(self.kind), Some(self.tolerance));
        Addition { name, file: self.origin(cache, offline), licence, kind, tolerance, inputs, batch }
    }

    /// Where setup put it, or else the package that setup would take it from.
    fn origin(self, cache: &Path, offline: bool) -> Origin {
        let there = |path: &PathBuf| cache.join(path).exists();
        if !there(&self.path) || !self.companion.iter().all(|companion| there(&companion.path)) {
            let source = format!("pypi:{}=={}/{}", self.package, self.version, self.file);
            return Origin::Elsewhere { source, offline, digest: Some(self.sha256) };
        }
        let piece = |path: &Path, digest| Piece { path: cache.join(path), digest: Some(digest) };
        let folder = self.file.rsplit_once('/').map_or("", |(folder, _)| folder);
        let companion = |Companion { file, path, sha256 }: Companion| {
            let below = file.strip_prefix(folder).map(|below| below.trim_start_matches('/').to_owned());
            (below.unwrap_or(file), piece(&path, sha256))
        };
        let files = self.companion.into_iter().map(companion).collect();
        let source = format!("{} {}", self.package, self.version);
        Origin::Disk { model: piece(&self.path, self.sha256), files, source }
    }
}
