//! What models are judged by, each set in a file of the home: too much for the store, whose memory is bounded.

use std::{
    collections::BTreeSet,
    fs::{self, File},
    io::{self, Write as _},
    path::{Path, PathBuf},
    sync::Arc,
};

use sha2::{Digest as _, Sha256};

use super::{GateInputs, ModelError};
use crate::domain::{Digest, Failure};

/// Below the home.
const FOLDER: &str = "inputs";

/// Marks a file that is still being written.
const PARTIAL: &str = "partial";

/// Bytes of what all models are judged by, which the daemon holds in memory.
const ALL_MAX: usize = 256 << 20;

/// Clones share the folder.
#[derive(Clone)]
pub(super) struct Inputs(Arc<Path>);

impl Inputs {
    pub(super) fn open(home: &Path) -> Result<Self, ModelError> {
        let folder = home.join(FOLDER);
        fs::create_dir_all(&folder).map_err(|source| ModelError::Keep { path: folder.clone(), source })?;
        Ok(Self(folder.into()))
    }

    /// Keeps a set in a file; says what that is called. Blocks for as long as the disk takes.
    pub(super) fn keep(&self, inputs: &GateInputs) -> Result<String, ModelError> {
        let text = serde_json::to_vec(inputs).expect("gate inputs hold only strings, numbers and lists");
        let name = Digest::new(Sha256::digest(&text).into()).to_string();
        let path = self.0.join(&name);
        if path.exists() {
            return Ok(name);
        }
        let partial = path.with_extension(PARTIAL);
        let write = || -> io::Result<()> {
            let mut file = File::create(&partial)?;
            file.write_all(&text)?;
            file.sync_all()?;
            fs::rename(&partial, &path)
        };
        write().map_err(|source| ModelError::Keep { path: path.clone(), source })?;
        Ok(name)
    }

    /// Reads a set by its file's name, or as an earlier weft kept it: as the text itself.
    pub(super) fn read(&self, kept: Option<&str>) -> Result<GateInputs, ModelError> {
        let text = match kept {
            None => return Ok(GateInputs::default()),
            Some(text) if text.starts_with('{') => text.to_owned(),
            Some(name) => {
                let path = self.named(name);
                fs::read_to_string(&path).map_err(|source| ModelError::Keep { path, source })?
            }
        };
        serde_json::from_str(&text).map_err(|error| {
            ModelError::Inputs(Failure::invalid(format!("the stored inputs do not parse: {error}")))
        })
    }

    /// Removes all other files.
    pub(super) fn keep_only(&self, names: &BTreeSet<String>) {
        let entries = fs::read_dir(&self.0).into_iter().flatten().flatten();
        let others =
            entries.filter(|entry| entry.file_name().to_str().is_none_or(|name| !names.contains(name)));
        for other in others {
            if let Err(error) = fs::remove_file(other.path()) {
                tracing::warn!(path = %other.path().display(), %error, "inputs of no model stay");
            }
        }
    }

    fn named(&self, name: &str) -> PathBuf {
        // What the store says leads nowhere else.
        self.0.join(Path::new(name).file_name().unwrap_or_default())
    }
}

/// Whether there is room for so many bytes more.
pub(super) fn check_room(kept: usize, more: usize) -> Result<(), ModelError> {
    if more > 0 && kept.saturating_add(more) > ALL_MAX {
        return Err(ModelError::NoRoom { kept, more, limit: ALL_MAX });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shapes(rows: u64) -> GateInputs {
        GateInputs { inputs: Vec::new(), shapes: vec![vec![rows, 4]] }
    }

    #[test]
    fn a_set_is_found_by_its_name_or_as_text() {
        let home = tempfile::tempdir().unwrap();
        let inputs = Inputs::open(home.path()).unwrap();
        let [one, two] = [shapes(1), shapes(2)].map(|set| inputs.keep(&set).unwrap());
        assert_eq!(inputs.keep(&shapes(1)).unwrap(), one);
        let read = |kept: Option<&str>| inputs.read(kept).map(|set| set.shapes);
        let text = serde_json::to_string(&shapes(3)).unwrap();
        assert_eq!(read(Some(&one)).unwrap(), [[1, 4]]);
        assert_eq!(read(Some(&text)).unwrap(), [[3, 4]]);
        assert!(read(None).unwrap().is_empty());
        fs::write(home.path().join("outside"), &text).unwrap();
        assert!(matches!(read(Some("../outside")), Err(ModelError::Keep { .. })));
        inputs.keep_only(&BTreeSet::from([two.clone()]));
        assert!(matches!(read(Some(&one)), Err(ModelError::Keep { .. })));
        assert_eq!(read(Some(&two)).unwrap(), [[2, 4]]);
        assert!(matches!(read(Some("{")), Err(ModelError::Inputs(_))));
    }

    #[test]
    fn all_sets_together_are_bounded() {
        let cases = [(0, ALL_MAX, true), (1, ALL_MAX, false), (ALL_MAX, 0, true), (usize::MAX, 1, false)];
        for (kept, more, fits) in cases {
            assert_eq!(check_room(kept, more).is_ok(), fits, "{more} beside {kept}");
        }
    }
}
