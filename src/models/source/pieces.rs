//! The files that a model's own file says its weights lie in.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
};

use serde::Deserialize;

use super::SourceError;
use crate::{models::FILES_MAX, onnx};

/// An index of the largest models has some ten thousand names.
const INDEX_MAX: u64 = 32 << 20;

/// The parts that are needed of `model.safetensors.index.json` and its like.
#[derive(Deserialize)]
struct Index {
    weight_map: BTreeMap<String, String>,
}

/// Whether weights have to be made into a model.
pub fn is_weights(file: &str) -> bool {
    let file = file.to_ascii_lowercase();
    [".safetensors", ".gguf", ".bin", ".pt", ".pth", ".index.json"].iter().any(|end| file.ends_with(end))
}

/// Whether weights say themselves how to make a model of them.
pub(super) fn describes_itself(file: &str) -> bool {
    Path::new(file).extension().is_some_and(|extension| extension.eq_ignore_ascii_case("gguf"))
}

/// Names relative to the file's folder. Blocks for as long as the disk takes.
pub(super) fn named(file: &str, path: &Path) -> Result<BTreeSet<String>, SourceError> {
    let names: BTreeSet<_> = if file.to_ascii_lowercase().ends_with(".index.json") {
        index(file, path)?
    } else if is_weights(file) {
        BTreeSet::new()
    } else {
        // What is no model is refused where it is given a name, by what is wrong with it.
        onnx::external_files(path).into_iter().collect()
    };
    let wrong = |problem: String| SourceError::Pieces { file: file.to_owned(), problem };
    if names.len() > FILES_MAX {
        return Err(wrong(format!("its weights lie in more than {FILES_MAX} files")));
    }
    let part = |part: &str| !part.is_empty() && part != "." && part != "..";
    let plain = |name: String| {
        let name = name.strip_prefix("./").unwrap_or(&name).to_owned();
        let stays = !name.contains(['\\', '\0', ':']) && name.split('/').all(part);
        if stays {
            Ok(name)
        } else {
            Err(wrong(format!("it names {name:?}, which is no plain relative path")))
        }
    };
    names.into_iter().map(plain).collect()
}

fn index(file: &str, path: &Path) -> Result<BTreeSet<String>, SourceError> {
    let keep = |source| SourceError::Keep { path: path.to_owned(), source };
    let wrong = |problem: String| SourceError::Pieces { file: file.to_owned(), problem };
    if std::fs::metadata(path).map_err(keep)?.len() > INDEX_MAX {
        return Err(wrong(format!("it has more than {INDEX_MAX} bytes")));
    }
    let text = std::fs::read(path).map_err(keep)?;
    let index: Index = serde_json::from_slice(&text).map_err(|error| wrong(error.to_string()))?;
    Ok(index.weight_map.into_values().collect())
}
