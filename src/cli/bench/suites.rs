//! Where suites and their inputs come from: files, or what comes with weft.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use anyhow::{Context, bail};
use sha2::{Digest as _, Sha256};

use crate::{
    bench::{Lent, Suite},
    config::{Library, Surroundings, unpacked},
    domain::{BackendKind, Digest},
    models::GateInputs,
};

/// A file of the fixtures' that is in the program.
macro_rules! embedded {
    ($path:literal) => {
        include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/fixtures/", $path))
    };
}

/// Suites that come with weft: their names and texts.
pub(super) const SHIPPED: [(&str, &str); 6] = [
    ("smoke", embedded!("workloads/smoke.toml")),
    ("standard", embedded!("workloads/standard.toml")),
    ("precision", embedded!("workloads/precision.toml")),
    ("sharding", embedded!("workloads/sharding.toml")),
    ("roadmap-13", embedded!("workloads/roadmap-13.toml")),
    ("vendors", embedded!("workloads/vendors.toml")),
];

/// What those suites are asked with.
const INPUTS: [(&str, &str); 13] = [
    ("silero-vad.json", embedded!("inputs/silero-vad.json")),
    ("magika.json", embedded!("inputs/magika.json")),
    ("roadmap-13/bert.json", embedded!("inputs/roadmap-13/bert.json")),
    ("roadmap-13/t5-encoder.json", embedded!("inputs/roadmap-13/t5-encoder.json")),
    ("roadmap-13/llama.json", embedded!("inputs/roadmap-13/llama.json")),
    ("roadmap-13/qwen2.json", embedded!("inputs/roadmap-13/qwen2.json")),
    ("roadmap-13/vit.json", embedded!("inputs/roadmap-13/vit.json")),
    ("roadmap-13/whisper-encoder.json", embedded!("inputs/roadmap-13/whisper-encoder.json")),
    ("roadmap-13/wav2vec2.json", embedded!("inputs/roadmap-13/wav2vec2.json")),
    ("roadmap-13/clip-vision.json", embedded!("inputs/roadmap-13/clip-vision.json")),
    ("roadmap-13/detr.json", embedded!("inputs/roadmap-13/detr.json")),
    ("roadmap-13/xclip.json", embedded!("inputs/roadmap-13/xclip.json")),
    ("roadmap-13/clap.json", embedded!("inputs/roadmap-13/clap.json")),
];

/// Where a shipped suite's paths lead from: in a checkout, and from an unpacked weft's folder.
const CHECKOUT: &str = "fixtures/workloads";
const UNPACKED: &str = "share/weft/workloads";

/// A suite with where its paths lead from.
pub(super) struct Found {
    pub(super) suite: Suite,
    pub(super) sha256: Digest,
    folder: PathBuf,
    shipped: bool,
    /// Why libraries that are there give no lane on these.
    pub(super) unusable: BTreeMap<BackendKind, String>,
}

pub(super) fn parsed((name, text): &(&str, &str)) -> Suite {
    Suite::parse(name, text).expect("a test reads what is shipped")
}

/// The suite of this name, or in this file.
pub(super) fn find(name: &str) -> anyhow::Result<Found> {
    if let Some((_, text)) = SHIPPED.iter().find(|(shipped, _)| *shipped == name) {
        let suite = Suite::parse(name, text)?;
        return Ok(Found::new(suite, text, workloads(), true));
    }
    let path = Path::new(name);
    if !path.is_file() {
        let known: Vec<_> = SHIPPED.iter().map(|(name, _)| *name).collect();
        bail!("no suite is called {name:?} and no file either; there are {}", known.join(", "));
    }
    let text = std::fs::read_to_string(path).with_context(|| name.to_owned())?;
    let folder = path.parent().unwrap_or(Path::new("")).to_owned();
    Ok(Found::new(Suite::parse(name, &text)?, &text, folder, false))
}

fn workloads() -> PathBuf {
    unpacked(UNPACKED).unwrap_or_else(|| CHECKOUT.into())
}

impl Found {
    fn new(suite: Suite, text: &str, folder: PathBuf, shipped: bool) -> Self {
        let sha256 = Digest::new(Sha256::digest(text).into());
        Self { suite, sha256, folder, shipped, unusable: BTreeMap::new() }
    }

    /// A model's inputs.
    pub(super) fn inputs(&self, file: &str) -> anyhow::Result<GateInputs> {
        let embedded = INPUTS.iter().find(|(name, _)| self.shipped && file.ends_with(name));
        let text = match embedded {
            Some((_, text)) => (*text).to_owned(),
            None => std::fs::read_to_string(self.folder.join(file))
                .with_context(|| format!("the inputs {}", self.folder.join(file).display()))?,
        };
        let inputs: GateInputs = serde_json::from_str(&text).with_context(|| format!("the inputs {file}"))?;
        if inputs.inputs.is_empty() {
            bail!("the inputs {file} are none");
        }
        Ok(inputs)
    }

    /// Where a model comes from; what looks like a path leads from the suite's folder.
    pub(super) fn source(&self, source: &str) -> String {
        let below = self.folder.join(source);
        let file = below.to_string_lossy();
        let (path, _) = file.split_once('#').unwrap_or((&file, ""));
        if Path::new(path).exists() { file.into_owned() } else { source.to_owned() }
    }

    /// The libraries that it lends a daemon, and where they are looked for.
    pub(super) fn lends(&self) -> anyhow::Result<BTreeMap<&str, (&Lent, PathBuf)>> {
        if self.suite.libraries.is_empty() {
            return Ok(BTreeMap::new());
        }
        let cache = Surroundings::read()?.cache;
        let libraries = self.suite.libraries.iter();
        Ok(libraries.map(|(name, lent)| (name.as_str(), (lent, lent.at(&cache)))).collect())
    }

    /// Those of them that are there, as a configuration names them.
    pub(super) fn libraries(&self) -> anyhow::Result<BTreeMap<String, Library>> {
        let there = self.lends()?.into_iter().filter(|(_, (_, path))| path.is_file());
        let named = there.map(|(name, (lent, path))| {
            (name.to_owned(), Library { path, providers: lent.providers.clone() })
        });
        Ok(named.collect())
    }

    /// What became of the library that would give a native lane on this backend.
    pub(super) fn looked_for(&self, backend: &BackendKind) -> anyhow::Result<String> {
        if let Some(why) = self.unusable.get(backend) {
            return Ok(why.clone());
        }
        Ok(match self.lends()?.into_values().find(|(lent, _)| lent.has(backend)) {
            Some((_, path)) if path.is_file() => format!("the daemon was started without {}", path.display()),
            Some((lent, path)) => format!("there is no {}: {}", path.display(), lent.install),
            None => "[native.libraries] of the daemon's configuration names none that has it".to_owned(),
        })
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn the_roadmaps_suite_has_thirteen_kinds_at_eight_endpoints() {
        let suite = find("roadmap-13").unwrap().suite;
        let models: BTreeSet<_> = suite.cells.iter().map(|cell| cell.model).collect();
        let lanes: BTreeSet<_> = suite.cells.iter().map(|cell| (&cell.browser, &cell.backend)).collect();
        assert_eq!((suite.models.len(), models.len(), lanes.len(), suite.cells.len()), (13, 13, 8, 104));
        for cell in &suite.cells {
            let model = &suite.models[cell.model];
            assert_eq!(cell.excluded.is_some(), !model.seeded, "{}", model.name);
        }
    }

    #[test]
    fn what_is_shipped_is_whole() {
        for (name, _) in SHIPPED {
            let found = find(name).unwrap();
            assert_eq!(found.suite.name, name);
            for model in &found.suite.models {
                let inputs = model.inputs.as_deref().map(|inputs| found.inputs(inputs).unwrap().tensors());
                assert!(inputs.is_none_or(|inputs| inputs.is_ok()), "{}", model.name);
            }
        }
    }
}
