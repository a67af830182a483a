//! Results that are in no store: drafts of runs that go on or were killed, and what a daemon did not keep.

use std::{
    ffi::OsStr,
    fs,
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use anyhow::Context as _;
use serde::Serialize;

use super::{
    super::{Common, output},
    kept,
    resumed::Resumed,
};
use crate::{
    bench::{Cell, Results},
    config::Surroundings,
};

/// Below the home.
const FOLDER: &str = "bench";

/// How the names of drafts and of other results end.
const DRAFT: &str = ".draft.json";
const RESULT: &str = ".json";

/// The newest are left when another run begins: each may have what a document may have, 32 MiB.
const DRAFTS_MAX: usize = 8;

/// Whoever has written at a file for so long was killed.
const HALF_WRITTEN: Duration = Duration::from_secs(3600);

#[derive(Clone)]
pub(super) struct Aside(PathBuf);

/// A result that lies there, for a list.
#[derive(Serialize)]
pub(super) struct Lying {
    pub(super) id: String,
    pub(super) suite: String,
    pub(super) started_at_us: i64,
    pub(super) complete: bool,
    pub(super) cells: usize,
    /// Those that had their turn.
    pub(super) measured: usize,
    pub(super) path: PathBuf,
}

impl Aside {
    pub(super) fn of(common: &Common) -> anyhow::Result<Self> {
        Ok(Self(common.home(&Surroundings::read()?).join(FOLDER)))
    }

    /// Has room for another run's draft.
    pub(super) fn begin(&self) -> anyhow::Result<()> {
        fs::create_dir_all(&self.0).with_context(|| self.0.display().to_string())?;
        self.prune(SystemTime::now());
        Ok(())
    }

    /// The file of a result that lies there.
    pub(super) fn find(&self, id: &str) -> Option<PathBuf> {
        self.files(id).into_iter().find(|file| file.is_file())
    }

    /// What lies there, the newest first, without what is being measured.
    pub(super) fn list(&self, measured: &[String]) -> Vec<Lying> {
        let files = fs::read_dir(&self.0).into_iter().flatten().flatten().map(|entry| entry.path());
        let read = files.filter(|file| ends_with(file, RESULT)).filter_map(|path| {
            let results = kept::read_file(&path).inspect_err(|error| output::progress(&format!("{error:#}")));
            results.ok().map(|results| Lying::of(&results, path))
        });
        let mut list: Vec<_> = read.filter(|lying| !measured.contains(&lying.id)).collect();
        list.sort_by_key(|lying| -lying.started_at_us);
        list
    }

    /// Has a result lie there that could not be kept.
    pub(super) fn keep(&self, results: &Results) -> anyhow::Result<PathBuf> {
        let [result, draft] = self.names(&results.id);
        kept::write(&result, results)?;
        remove(&draft);
        Ok(result)
    }

    /// What is in the store or in another result lies nowhere else.
    pub(super) fn forget(&self, id: &str) {
        self.files(id).iter().for_each(|file| remove(file));
    }

    fn names(&self, id: &str) -> [PathBuf; 2] {
        [RESULT, DRAFT].map(|end| self.0.join(format!("{id}{end}")))
    }

    /// None for what is no file's name: a document may say anything.
    fn files(&self, id: &str) -> Vec<PathBuf> {
        let is_name = Path::new(id).file_name() == Some(OsStr::new(id));
        if is_name { self.names(id).to_vec() } else { Vec::new() }
    }

    fn prune(&self, now: SystemTime) {
        let mut drafts = Vec::new();
        for entry in fs::read_dir(&self.0).into_iter().flatten().flatten() {
            let path = entry.path();
            let Ok(written) = entry.metadata().and_then(|of| of.modified()) else { continue };
            let age = now.duration_since(written).unwrap_or_default();
            if ends_with(&path, DRAFT) {
                drafts.push((written, path));
            } else if !ends_with(&path, RESULT) && age > HALF_WRITTEN {
                remove(&path);
            }
        }
        drafts.sort();
        let beyond = drafts.len().saturating_sub(DRAFTS_MAX);
        drafts[..beyond].iter().for_each(|(_, draft)| remove(draft));
    }
}

impl Lying {
    fn of(results: &Results, path: PathBuf) -> Self {
        let Results { id, suite, started_at_us, complete, cells, .. } = results;
        Self {
            id: id.clone(),
            suite: suite.clone(),
            started_at_us: *started_at_us,
            complete: *complete,
            cells: cells.len(),
            measured: cells.iter().filter(|cell| cell.state.outcome.had_its_turn()).count(),
            path,
        }
    }
}

fn ends_with(path: &Path, end: &str) -> bool {
    path.file_name().and_then(OsStr::to_str).is_some_and(|name| name.ends_with(end))
}

fn remove(file: &Path) {
    // It may never have been there.
    let _ = fs::remove_file(file);
}

/// What is measured already, in a file: a kill costs no more than what is being measured.
pub(super) struct Draft {
    results: Results,
    aside: Aside,
    resumed: Option<Resumed>,
}

impl Draft {
    pub(super) fn new(results: Results, aside: Aside, resumed: Option<Resumed>) -> Self {
        Self { results, aside, resumed }
    }

    pub(super) fn id(&self) -> &str {
        &self.results.id
    }

    /// Cells that an earlier run has measured.
    pub(super) fn measured(&self) -> &[Cell] {
        self.resumed.as_ref().map_or(&[], |resumed| &resumed.measured)
    }

    /// Between measurements, which a write would disturb.
    pub(super) fn save(&self, cells: &[Cell]) {
        let mut results = Results { cells: cells.to_vec(), ..self.results.clone() };
        self.join(&mut results);
        let [_, draft] = self.aside.names(self.id());
        match kept::write(&draft, &results) {
            Ok(()) => self.resumed.iter().for_each(|resumed| self.aside.forget(resumed.id())),
            Err(error) => output::progress(&format!("{error:#}")),
        }
    }

    /// Adds what an earlier run has told.
    pub(super) fn join(&self, results: &mut Results) {
        if let Some(resumed) = &self.resumed {
            resumed.join(results);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_drafts_are_left_and_results_stay() {
        let folder = tempfile::tempdir().unwrap();
        let aside = Aside(folder.path().join(FOLDER));
        aside.begin().unwrap();
        let now = SystemTime::now();
        let write = |name: &str, age: u64| {
            let file = fs::File::create(aside.0.join(name)).unwrap();
            file.set_modified(now - Duration::from_secs(age)).unwrap();
        };
        for draft in 0..12 {
            write(&format!("{draft}.draft.json"), draft * 100);
        }
        for (name, age) in [("unkept.json", 1_000_000), (".tmpOld", 4000), (".tmpNew", 10)] {
            write(name, age);
        }
        aside.prune(now);
        let mut left: Vec<_> = fs::read_dir(&aside.0)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        left.sort();
        let mut wanted: Vec<_> = (0..DRAFTS_MAX).map(|draft| format!("{draft}.draft.json")).collect();
        wanted.extend([".tmpNew", "unkept.json"].map(str::to_owned));
        wanted.sort();
        assert_eq!(left, wanted);
        assert_eq!(aside.find("3"), Some(aside.0.join("3.draft.json")));
        assert_eq!(aside.find("unkept"), Some(aside.0.join("unkept.json")));
        for strange in ["bench/3", "../bench/3", "..", "", "/", "8"] {
            assert_eq!(aside.find(strange), None, "{strange}");
            aside.forget(strange);
        }
        aside.forget("3");
        assert_eq!(fs::read_dir(&aside.0).unwrap().count(), wanted.len() - 1);
    }
}
