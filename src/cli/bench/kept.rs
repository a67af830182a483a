//! Results in the home, each a file of its own.

use std::{
    fs::{self, File},
    io::Write as _,
    path::{Path, PathBuf},
};

use anyhow::{Context, bail};

use super::super::Common;
use crate::{bench::Results, config::Surroundings};

/// Below the home.
const FOLDER: &str = "bench";

pub(super) struct Kept {
    folder: PathBuf,
}

impl Kept {
    pub(super) fn of(common: &Common) -> anyhow::Result<Self> {
        Ok(Self { folder: common.home(&Surroundings::read()?).join(FOLDER) })
    }

    /// Keeps a result, whole or not at all; answers with where it lies.
    pub(super) fn put(&self, results: &Results) -> anyhow::Result<PathBuf> {
        let path = self.folder.join(format!("{}.json", results.id));
        fs::create_dir_all(&self.folder).with_context(|| self.folder.display().to_string())?;
        write(&path, results)?;
        Ok(path)
    }

    /// A result by its id, or in a file.
    pub(super) fn read(&self, name: &str) -> anyhow::Result<Results> {
        let plain = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
        let kept = self.folder.join(format!("{name}.json"));
        let path = match Path::new(name) {
            file if file.is_file() => file.to_owned(),
            _ if name.chars().all(plain) && kept.is_file() => kept,
            _ => bail!(
                "no result is called {name:?} and no file either; `weft bench list` shows what there is"
            ),
        };
        read(&path)
    }

    /// The newest first; what cannot be read is left out.
    pub(super) fn all(&self) -> anyhow::Result<Vec<Results>> {
        let Ok(files) = fs::read_dir(&self.folder) else { return Ok(Vec::new()) };
        let paths = files.map(|file| Ok(file?.path())).collect::<anyhow::Result<Vec<_>>>()?;
        let json = paths.iter().filter(|path| path.extension().is_some_and(|end| end == "json"));
        let mut results: Vec<_> = json.filter_map(|path| read(path).ok()).collect();
        results.sort_by_key(|results| -results.started_at_us);
        Ok(results)
    }
}

/// Writes beside the place and moves there, so that no half of a result is ever found.
pub(super) fn write(path: &Path, results: &Results) -> anyhow::Result<()> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let kept = (|| {
        let mut file = tempfile::NamedTempFile::new_in(folder)?;
        serde_json::to_writer(&mut file, results)?;
        file.write_all(b"\n")?;
        file.persist(path)?;
        anyhow::Ok(())
    })();
    kept.with_context(|| format!("keeping the result as {}", path.display()))
}

fn read(path: &Path) -> anyhow::Result<Results> {
    let text = fs::read(path).with_context(|| path.display().to_string())?;
    Results::read(&text).with_context(|| format!("{} is not a result of this weft", path.display()))
}

/// A step summary of a CI is a file that every step adds to.
pub(super) fn append(path: &Path, text: &str) -> anyhow::Result<()> {
    let file = File::options().append(true).create(true).open(path);
    file.and_then(|mut file| file.write_all(text.as_bytes())).with_context(|| path.display().to_string())
}
