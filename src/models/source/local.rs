//! A file, or a folder that holds the model.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use super::{
    SourceError,
    choose::{choose, companions, folder},
    pieces,
};

/// Levels of a folder that are looked at, and files: more is no model's folder.
const DEPTH_MAX: usize = 4;
const FILES_MAX: usize = 10_000;

/// A model's files on this disk.
pub struct Local {
    pub model: PathBuf,
    /// What comes with it, by name.
    pub files: BTreeMap<String, PathBuf>,
}

/// The model that a path means, with its files: the one in a folder with all that belongs to it; a file with those that
/// its weights lie in, and weights with what says how to make a model of them. Blocks for as long as the disk takes.
pub fn local(path: &Path) -> Result<Local, SourceError> {
    let keep = |source| SourceError::Keep { path: path.to_owned(), source };
    let (root, files, model) = if std::fs::metadata(path).map_err(keep)?.is_dir() {
        let mut files = Vec::new();
        list(path, "", DEPTH_MAX, &mut files).map_err(keep)?;
        let model = choose(&path.display().to_string(), &files, None)?;
        (path, files, model)
    } else {
        let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        let root = path.parent().unwrap_or(Path::new(""));
        let mut files = Vec::new();
        // What lies beside a lone model need not be its own.
        if pieces::is_weights(&name) {
            let folder = if root.as_os_str().is_empty() { Path::new(".") } else { root };
            list(folder, "", 2, &mut files).map_err(keep)?;
        }
        (root, files, name)
    };
    let mut beside: BTreeMap<_, _> =
        companions(&files, &model).into_iter().map(|(name, at)| (name, root.join(at))).collect();
    for piece in pieces::named(&model, &root.join(&model))? {
        let at = root.join(folder(&model)).join(&piece);
        // What is missing is told by whoever is given the rest.
        if at.is_file() {
            beside.insert(piece, at);
        }
    }
    Ok(Local { model: root.join(model), files: beside })
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
