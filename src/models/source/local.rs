//! A file, or a folder that holds the model.

use std::path::{Path, PathBuf};

use super::{SourceError, choose::choose};

/// Levels of a folder that are looked at, and files: more is no model's folder.
const DEPTH_MAX: usize = 4;
const FILES_MAX: usize = 10_000;

/// The file that a path means.
pub(super) fn find(path: &Path) -> Result<PathBuf, SourceError> {
    let keep = |source| SourceError::Keep { path: path.to_owned(), source };
    if !std::fs::metadata(path).map_err(keep)?.is_dir() {
        return Ok(path.to_owned());
    }
    let mut files = Vec::new();
    list(path, "", DEPTH_MAX, &mut files).map_err(keep)?;
    Ok(path.join(choose(&path.display().to_string(), &files, None)?))
}

/// Links to folders are not followed: they may lead in circles.
fn list(folder: &Path, below: &str, depth: usize, files: &mut Vec<String>) -> std::io::Result<()> {
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        let Ok(name) = entry.file_name().into_string() else { continue };
        if entry.file_type()?.is_dir() {
            if depth > 1 {
                list(&entry.path(), &format!("{below}{name}/"), depth - 1, files)?;
            }
        } else if files.len() < FILES_MAX {
            files.push(format!("{below}{name}"));
        }
    }
    Ok(())
}
