//! Finds a recipe's program. A shim to a confined browser is none.

use std::{
    ffi::OsStr,
    fs,
    io::Read as _,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
};

use super::{Places, Recipe, Source};
use crate::driver::DriverError;

/// Wrapper scripts are a few KiB; browsers are many MiB.
const SHIM_MAX: u64 = 64 * 1024;

impl Recipe {
    /// The first candidate that is a browser of its own, not a shim to a confined one.
    pub fn locate(&self, places: &Places) -> Result<PathBuf, DriverError> {
        let missing = |hint| DriverError::NotInstalled { product: self.product.clone(), hint };
        if !self.exists_here() {
            let platforms: Vec<_> =
                self.platforms.iter().map(|platform| format!("{platform:?}").to_lowercase()).collect();
            return Err(missing(format!("it exists on {} only", platforms.join(" and "))));
        }
        let Source::Find(find) = &self.source else {
            return Err(missing("its recipe names an endpoint and no program".to_owned()));
        };
        let mut refused = Vec::new();
        for candidate in find.iter().flat_map(|place| places.candidates(place)) {
            match inspect(&candidate) {
                Found::Program => return Ok(candidate),
                Found::Snap => refused.push(candidate.display().to_string()),
                Found::Nothing => {}
            }
        }
        let mut hint = self.install.clone();
        if !refused.is_empty() {
            hint = format!(
                "{} only leads to a snap, whose confinement hides our profile directory from it; {hint}",
                refused.join(", ")
            );
        }
        Err(missing(hint))
    }
}

/// Where a program lies on a search path.
pub fn on_path(program: &str, path: &OsStr) -> Option<PathBuf> {
    let mut candidates = std::env::split_paths(path).map(|folder| folder.join(program));
    candidates.find(|candidate| runs(candidate).is_some())
}

impl Places {
    fn candidates(&self, place: &str) -> Vec<PathBuf> {
        match place.strip_prefix("{cache}/") {
            Some(rest) => vec![self.cache.join(rest)],
            None if place.contains('/') => vec![PathBuf::from(place)],
            None => std::env::split_paths(&self.path).map(|folder| folder.join(place)).collect(),
        }
    }
}

enum Found {
    Program,
    Snap,
    Nothing,
}

fn inspect(candidate: &Path) -> Found {
    let Some((target, size)) = runs(candidate) else { return Found::Nothing };
    let in_snap = |path: &Path| path.starts_with("/snap") || path.starts_with("/var/lib/snapd");
    let runs_snap = target.file_name().is_some_and(|name| name == "snap");
    if in_snap(candidate) || in_snap(&target) || runs_snap || is_snap_script(&target, size) {
        return Found::Snap;
    }
    Found::Program
}

/// A program's own file and its size, links followed.
fn runs(candidate: &Path) -> Option<(PathBuf, u64)> {
    let target = candidate.canonicalize().ok()?;
    let metadata = fs::metadata(&target).ok()?;
    let runs = metadata.is_file() && metadata.permissions().mode() & 0o111 != 0;
    runs.then_some((target, metadata.len()))
}

fn is_snap_script(target: &Path, size: u64) -> bool {
    if size > SHIM_MAX {
        return false;
    }
    let mut text = Vec::new();
    let read = fs::File::open(target).and_then(|file| file.take(SHIM_MAX).read_to_end(&mut text));
    let mentions = |word: &[u8]| text.windows(word.len()).any(|window| window == word);
    read.is_ok() && text.starts_with(b"#!") && (mentions(b"/snap/") || mentions(b"snap install"))
}
