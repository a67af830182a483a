//! Where suites and their inputs come from: files, or what comes with weft.

use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use sha2::{Digest as _, Sha256};

use crate::{bench::Suite, config::unpacked, domain::Digest, models::GateInputs};

/// Suites that come with weft: their names and texts.
pub(super) const SHIPPED: [(&str, &str); 5] = [
    ("smoke", include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/fixtures/workloads/smoke.toml"))),
    ("standard", include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/fixtures/workloads/standard.toml"))),
    ("precision", include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/fixtures/workloads/precision.toml"))),
    ("sharding", include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/fixtures/workloads/sharding.toml"))),
    ("vendors", include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/fixtures/workloads/vendors.toml"))),
];

/// What those suites are asked with.
const INPUTS: [(&str, &str); 2] = [
    (
        "silero-vad.json",
        include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/fixtures/inputs/silero-vad.json")),
    ),
    ("magika.json", include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/fixtures/inputs/magika.json"))),
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
}

pub(super) fn parsed((name, text): &(&str, &str)) -> Suite {
    Suite::parse(name, text).expect("a test reads what is shipped")
}

/// The suite of this name, or in this file.
pub(super) fn find(name: &str) -> anyhow::Result<Found> {
    if let Some((_, text)) = SHIPPED.iter().find(|(shipped, _)| *shipped == name) {
        let suite = Suite::parse(name, text)?;
        return Ok(Found { suite, sha256: digest(text), folder: workloads(), shipped: true });
    }
    let path = Path::new(name);
    if !path.is_file() {
        let known: Vec<_> = SHIPPED.iter().map(|(name, _)| *name).collect();
        bail!("no suite is called {name:?} and no file either; there are {}", known.join(", "));
    }
    let text = std::fs::read_to_string(path).with_context(|| name.to_owned())?;
    let folder = path.parent().unwrap_or(Path::new("")).to_owned();
    Ok(Found { suite: Suite::parse(name, &text)?, sha256: digest(&text), folder, shipped: false })
}

fn workloads() -> PathBuf {
    unpacked(UNPACKED).unwrap_or_else(|| CHECKOUT.into())
}

fn digest(text: &str) -> Digest {
    Digest::new(Sha256::digest(text).into())
}

impl Found {
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
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_shipped_is_whole() {
        for (name, _) in SHIPPED {
            let found = find(name).unwrap();
            assert_eq!(found.suite.name, name);
            for model in &found.suite.models {
                assert!(found.inputs(&model.inputs).unwrap().tensors().is_ok(), "{}", model.name);
            }
        }
    }
}
