//! Results in the home's store: with the running daemon, else directly on the home; and results in files.

use std::{
    fs::{self, File},
    io::{BufWriter, Write as _},
    path::{Path, PathBuf},
    sync::Arc,
};

use anyhow::{Context, anyhow, bail};
use nix::fcntl::Flock;
use serde_json::json;

use super::{
    super::{Common, client::Client},
    aside::Aside,
};
use crate::{
    bench::{Archive, Comparison, History, Results, compare},
    config::Surroundings,
    daemon::{STORE, lock_home},
    store::{BenchFilter, HistoryFilter, Store, StoredBench},
};

/// Fewer digits may be anything.
const COMMIT_DIGITS: usize = 7;

/// Runs of a list.
pub(super) const LISTED: u32 = 1000;

pub(super) enum Kept {
    Daemon(Box<Client>),
    Home { archive: Archive, store: Arc<Store>, _lock: Flock<File> },
}

impl Kept {
    pub(super) async fn open(common: &Common) -> anyhow::Result<Self> {
        if let Some(client) = Client::find(common).await? {
            return Ok(Self::Daemon(Box::new(client)));
        }
        let keeping = common.config(None, |_| {}, Vec::new())?.bench;
        let home = common.home(&Surroundings::read()?);
        let lock = lock_home(&home)?;
        let store = Arc::new(Store::open(&home.join(STORE))?);
        Ok(Self::Home { archive: Archive::new(store.clone(), keeping), store, _lock: lock })
    }

    pub(super) async fn close(self) -> anyhow::Result<()> {
        match self {
            Self::Daemon(_) => Ok(()),
            Self::Home { store, .. } => Ok(store.close().await?),
        }
    }

    /// Says whether the same was kept already.
    pub(super) async fn put(&self, results: &Results, imported: bool) -> anyhow::Result<bool> {
        match self {
            Self::Daemon(client) => put(client, results, imported).await,
            Self::Home { archive, .. } => Ok(archive.keep(results.clone(), imported).await?),
        }
    }

    /// The suites that are being measured, by the ids of their results.
    pub(super) async fn measured(&self) -> anyhow::Result<Vec<String>> {
        let Self::Daemon(client) = self else { return Ok(Vec::new()) };
        let suites = client.get("/api/v1/suites").await?;
        let ids = suites["items"].as_array().into_iter().flatten().filter_map(|suite| suite["id"].as_str());
        Ok(ids.map(str::to_owned).collect())
    }

    pub(super) async fn list(&self, filter: BenchFilter) -> anyhow::Result<Vec<StoredBench>> {
        match self {
            Self::Daemon(client) => {
                let complete = filter.complete.to_string();
                let limit = LISTED.to_string();
                let query = query(&[
                    ("limit", Some(&limit)),
                    ("id", filter.id.as_ref()),
                    ("suite", filter.suite.as_ref()),
                    ("commit", filter.commit.as_ref()),
                    ("branch", filter.branch.as_ref()),
                    ("complete", Some(&complete)),
                ]);
                let page = client.get(&format!("/api/v1/bench/runs?{query}")).await?;
                Ok(serde_json::from_value(page["items"].clone())?)
            }
            Self::Home { archive, .. } => Ok(archive.list(filter, LISTED, None).await?.0),
        }
    }

    pub(super) async fn history(&self, filter: HistoryFilter) -> anyhow::Result<History> {
        match self {
            Self::Daemon(client) => {
                let limit = filter.runs.to_string();
                let query = query(&[
                    ("suite", Some(&filter.suite)),
                    ("limit", Some(&limit)),
                    ("branch", filter.branch.as_ref()),
                    ("model", filter.model.as_ref()),
                    ("browser", filter.browser.as_ref()),
                    ("backend", filter.backend.as_ref()),
                    ("scenario", filter.scenario.as_ref()),
                ]);
                Ok(serde_json::from_value(client.get(&format!("/api/v1/bench/history?{query}")).await?)?)
            }
            Self::Home { archive, .. } => Ok(archive.history(filter, None).await?),
        }
    }

    async fn read(&self, id: &str) -> anyhow::Result<Results> {
        match self {
            Self::Daemon(client) => {
                let document = client.text(&format!("/api/v1/bench/runs/{}", encoded(id))).await?;
                Results::read(document.as_bytes()).with_context(|| format!("the daemon's result {id:?}"))
            }
            Self::Home { archive, .. } => Ok(archive.read(id).await?),
        }
    }

    async fn compare(&self, base: &str, head: &str, noise: f64) -> anyhow::Result<Comparison> {
        match self {
            Self::Daemon(client) => {
                let order = json!({"base": base, "head": head, "noise": noise});
                Ok(serde_json::from_value(client.post("/api/v1/bench/comparisons", &order).await?)?)
            }
            Self::Home { archive, .. } => Ok(archive.compare(base, head, noise).await?),
        }
    }

    /// The run of this id; else the newest whole one of weft's commit or of the branch, of this suite where one is said.
    async fn find(&self, name: &str, suite: Option<&str>) -> anyhow::Result<String> {
        let is_commit = name.len() >= COMMIT_DIGITS && name.chars().all(|c| c.is_ascii_hexdigit());
        let whole = BenchFilter { suite: suite.map(str::to_owned), complete: true, ..BenchFilter::default() };
        let by_id = BenchFilter { id: Some(name.to_owned()), ..BenchFilter::default() };
        let by_commit = BenchFilter { commit: Some(name.to_ascii_lowercase()), ..whole.clone() };
        let by_branch = BenchFilter { branch: Some(name.to_owned()), ..whole };
        for filter in [Some(by_id), is_commit.then_some(by_commit), Some(by_branch)].into_iter().flatten() {
            if let Some(newest) = self.list(filter).await?.first() {
                return Ok(newest.id.clone());
            }
        }
        let suite = suite.map(|suite| format!(" of the suite {suite}")).unwrap_or_default();
        bail!(
            "nothing is called {name:?}: no file, and no result{suite} of that id, commit or branch; `weft bench list` \
             shows what there is"
        )
    }
}

/// Keeps a result in the daemon's store; says whether the same was there already.
pub(super) async fn put(client: &Client, results: &Results, imported: bool) -> anyhow::Result<bool> {
    let path = format!("/api/v1/bench/runs?imported={imported}");
    let answer = client.post_as(&path, "application/json", serde_json::to_vec(results)?).await?;
    answer["already"].as_bool().context("the daemon says what it kept")
}

/// A result by its file, id, commit or branch.
pub(super) async fn read(common: &Common, name: &str) -> anyhow::Result<Results> {
    if let Some(file) = file(common, name)? {
        return read_file(&file);
    }
    let kept = Kept::open(common).await?;
    let read = async {
        let id = kept.find(name, None).await?;
        kept.read(&id).await
    };
    let results = read.await;
    kept.close().await?;
    results
}

/// Compares two results, each named by its file, id, commit or branch; a base that is named by a commit or branch is of
/// the head's suite.
pub(super) async fn compared(
    common: &Common,
    base: &str,
    head: &str,
    noise: f64,
) -> anyhow::Result<Comparison> {
    let (base_file, head_file) = (file(common, base)?, file(common, head)?);
    if let (Some(base), Some(head)) = (&base_file, &head_file) {
        return Ok(compare(&read_file(base)?, &read_file(head)?, noise));
    }
    let kept = Kept::open(common).await?;
    let comparison = compared_with(&kept, (base, base_file), (head, head_file), noise).await;
    kept.close().await?;
    comparison
}

async fn compared_with(
    kept: &Kept,
    (base, base_file): (&str, Option<PathBuf>),
    (head, head_file): (&str, Option<PathBuf>),
    noise: f64,
) -> anyhow::Result<Comparison> {
    let head_id = if head_file.is_none() { Some(kept.find(head, None).await?) } else { None };
    let now = match (&head_file, &head_id) {
        (Some(file), _) => read_file(file)?,
        (None, id) => kept.read(id.as_deref().unwrap_or(head)).await?,
    };
    if let Some(file) = base_file {
        return Ok(compare(&read_file(&file)?, &now, noise));
    }
    let base_id = kept.find(base, Some(&now.suite)).await?;
    match head_id {
        Some(head_id) => kept.compare(&base_id, &head_id, noise).await,
        None => Ok(compare(&kept.read(&base_id).await?, &now, noise)),
    }
}

/// The file of this name, or of the result that lies beside the store.
fn file(common: &Common, name: &str) -> anyhow::Result<Option<PathBuf>> {
    let named = Some(PathBuf::from(name)).filter(|path| path.is_file());
    if named.is_some() { Ok(named) } else { Ok(Aside::of(common)?.find(name)) }
}

/// Writes beside the place and moves there, so that no half of a result is ever found.
pub(super) fn write(path: &Path, results: &Results) -> anyhow::Result<()> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let kept = (|| {
        let mut file = BufWriter::new(tempfile::NamedTempFile::new_in(folder)?);
        serde_json::to_writer(&mut file, results)?;
        file.write_all(b"\n")?;
        file.into_inner()?.persist(path)?;
        anyhow::Ok(())
    })();
    kept.with_context(|| format!("keeping the result as {}", path.display()))
}

pub(super) fn read_file(path: &Path) -> anyhow::Result<Results> {
    let text = fs::read(path).with_context(|| path.display().to_string())?;
    Results::read(&text).map_err(|error| anyhow!("{} is not a result of this weft: {error}", path.display()))
}

/// A step summary of a CI is a file that every step adds to.
pub(super) fn append(path: &Path, text: &str) -> anyhow::Result<()> {
    let file = File::options().append(true).create(true).open(path);
    file.and_then(|mut file| file.write_all(text.as_bytes())).with_context(|| path.display().to_string())
}

fn query(parts: &[(&str, Option<&String>)]) -> String {
    let mut query = url::form_urlencoded::Serializer::new(String::new());
    for (name, value) in parts {
        if let Some(value) = value {
            query.append_pair(name, value);
        }
    }
    query.finish()
}

/// As a part of a path.
fn encoded(name: &str) -> String {
    url::form_urlencoded::byte_serialize(name.as_bytes()).collect::<String>().replace('+', "%20")
}
