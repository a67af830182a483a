//! What a model consists of: its file, those that its weights lie in, and those that belong to it.
//!
//! A model's file is rewritten so that it calls the files of its weights by their digests.
//! So its own digest stands for all of them, and it finds them beside it in the folder of the blobs.

use std::collections::BTreeMap;

use super::{Blobs, ModelError};
use crate::{domain::Digest, onnx};

/// Weights of the largest models lie in some two hundred files.
pub const FILES_MAX: usize = 1024;

/// Characters of a file's name, with its folders.
const NAME_MAX: usize = 256;

pub(super) struct Files {
    pub(super) digest: Digest,
    pub(super) external: BTreeMap<Digest, u64>,
    pub(super) companions: BTreeMap<String, Digest>,
}

impl Files {
    /// Sorts out `beside`, what came with the file of `digest`, by name. Blocks for as long as the disk takes.
    pub(super) fn settle(
        blobs: &Blobs,
        digest: Digest,
        mut beside: BTreeMap<String, Digest>,
    ) -> Result<Self, ModelError> {
        check(blobs, &beside)?;
        let (bytes, analysis) = onnx::open(&blobs.path(digest))?;
        let mut names = BTreeMap::new();
        let mut external = BTreeMap::new();
        for file in analysis.external {
            let settled = file.parse().ok().filter(|digest| blobs.has(*digest));
            let found = settled.or_else(|| beside.remove(&plain(&file)));
            let found: Digest = found.ok_or_else(|| ModelError::WeightsMissing { file: file.clone() })?;
            external.insert(found, blobs.bytes(found)?);
            if settled.is_none() {
                names.insert(file, found.to_string());
            }
        }
        let digest =
            if names.is_empty() { digest } else { blobs.put(&onnx::rename_files(&bytes, &names)?)?.digest };
        Ok(Self { digest, external, companions: beside })
    }
}

/// Exporters write `./weights.bin` as well.
fn plain(file: &str) -> String {
    file.strip_prefix("./").unwrap_or(file).to_owned()
}

fn check(blobs: &Blobs, beside: &BTreeMap<String, Digest>) -> Result<(), ModelError> {
    if beside.len() > FILES_MAX {
        return Err(ModelError::Files { problem: format!("at most {FILES_MAX} files belong to a model") });
    }
    for (name, digest) in beside {
        plain_path(name)?;
        if !blobs.has(*digest) {
            return Err(ModelError::NoFile { digest: *digest });
        }
    }
    Ok(())
}

/// Whether a name leads to a place below whatever folder it is put in.
pub(super) fn plain_path(name: &str) -> Result<(), ModelError> {
    let part = |part: &str| !part.is_empty() && part != "." && part != "..";
    if name.len() > NAME_MAX || name.contains(['\\', '\0']) || !name.split('/').all(part) {
        let problem = format!("{name:?} is no plain relative path of at most {NAME_MAX} bytes");
        return Err(ModelError::Files { problem });
    }
    Ok(())
}
