//! How a source is written.

use std::{fmt, path::PathBuf, str::FromStr};

use url::Url;

use super::{Source, SourceError, dag::Dag, hub::Hub, npm::Tarball, peer::Peer, python::Wheel};
use crate::{
    content::{Cid, CidError},
    domain::{Digest, ModelName},
};

/// Longer is no path of a model.
const TEXT_MAX: usize = 2048;

/// Where a model comes from, as somebody said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Locator {
    /// A file or a folder, on the disk of whoever says it.
    Path(PathBuf),
    Web(Url),
    Hub {
        repository: String,
        revision: Option<String>,
        path: Option<String>,
    },
    Wheel {
        package: String,
        version: String,
        path: Option<String>,
    },
    Tarball {
        package: String,
        version: String,
        path: Option<String>,
    },
    Peer {
        daemon: Url,
        model: ModelName,
        version: Option<Digest>,
    },
    Ipfs(Cid),
}

impl FromStr for Locator {
    type Err = SourceError;

    fn from_str(text: &str) -> Result<Self, SourceError> {
        let wrong = |problem: String| SourceError::Malformed { text: shown(text), problem };
        if text.is_empty() || text.len() > TEXT_MAX || text.chars().any(char::is_control) {
            return Err(wrong(format!("it has 1 to {TEXT_MAX} printable characters")));
        }
        let parsed = match text.split_once(':') {
            Some(("http" | "https", _)) => web(text).map(Self::Web),
            Some(("hf", rest)) => hub(rest),
            Some(("pypi", rest)) => wheel(rest),
            Some(("npm", rest)) => tarball(rest),
            Some(("weft", rest)) => peer(rest),
            Some(("ipfs", rest)) => ipfs(rest),
            _ => Ok(Self::Path(text.into())),
        };
        parsed.map_err(wrong)
    }
}

/// A wrong address is told without what may be secret in it.
fn shown(text: &str) -> String {
    let text = text.split(['?', '#']).next().unwrap_or_default();
    match text.rsplit_once('@') {
        Some((before, host)) if before.contains("://") => {
            let scheme = before.split("://").next().unwrap_or_default();
            format!("{scheme}://…@{host}")
        }
        _ => text.to_owned(),
    }
}

fn web(text: &str) -> Result<Url, String> {
    let mut url = Url::parse(text).map_err(|error| error.to_string())?;
    if !matches!(url.scheme(), "http" | "https") || url.host_str().is_none_or(str::is_empty) {
        return Err("http:// or https:// and a host are wanted".to_owned());
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err(
            "passwords do not belong in an address: put a token into [models.tokens] of weft.toml".to_owned()
        );
    }
    url.set_fragment(None);
    Ok(url)
}

fn ipfs(rest: &str) -> Result<Locator, String> {
    let cid = rest.strip_prefix("//").unwrap_or(rest);
    if cid.contains(['/', '?', '#']) {
        return Err(
            "ipfs:CID is wanted, of the file itself: what is below a folder is not looked for".to_owned()
        );
    }
    cid.parse().map(Locator::Ipfs).map_err(|error: CidError| error.to_string())
}

fn hub(rest: &str) -> Result<Locator, String> {
    let form = || "hf:OWNER/NAME, hf:OWNER/NAME@REVISION or hf:OWNER/NAME@REVISION/PATH is wanted".to_owned();
    let (owner, rest) = rest.split_once('/').ok_or_else(form)?;
    let (name, path) = rest.split_once('/').map_or((rest, None), |(name, path)| (name, Some(path)));
    let (name, revision) = name.split_once('@').map_or((name, None), |(name, at)| (name, Some(at)));
    if !word(owner, "") || !word(name, "") {
        return Err(form());
    }
    // A branch of the hub may have slashes: `refs/pr/1`.
    let revision = revision.map(|revision| revision.replace("%2F", "/"));
    if revision.as_ref().is_some_and(|revision| !revision.split('/').all(|part| word(part, "+"))) {
        return Err("a revision is a commit, a branch or a tag, with %2F for its slashes".to_owned());
    }
    let repository = format!("{owner}/{name}");
    Ok(Locator::Hub { repository, revision, path: inside(path)? })
}

fn wheel(rest: &str) -> Result<Locator, String> {
    let form = || "pypi:NAME==VERSION or pypi:NAME==VERSION/PATH is wanted".to_owned();
    let (package, rest) = rest.split_once("==").ok_or_else(form)?;
    let (version, path) = rest.split_once('/').map_or((rest, None), |(version, path)| (version, Some(path)));
    if !word(package, "") || !word(version, "+!") {
        return Err(form());
    }
    let (package, version) = (package.to_owned(), version.to_owned());
    Ok(Locator::Wheel { package, version, path: inside(path)? })
}

fn tarball(rest: &str) -> Result<Locator, String> {
    let form =
        || "npm:NAME@VERSION, npm:NAME@VERSION/PATH or npm:@SCOPE/NAME@VERSION/PATH is wanted".to_owned();
    let (scope, unscoped) = match rest.strip_prefix('@') {
        Some(rest) => rest.split_once('/').map(|(scope, rest)| (Some(scope), rest)).ok_or_else(form)?,
        None => (None, rest),
    };
    let (name, rest) = unscoped.split_once('@').ok_or_else(form)?;
    let (version, path) = rest.split_once('/').map_or((rest, None), |(version, path)| (version, Some(path)));
    if !word(name, "") || !word(version, "+") || scope.is_some_and(|scope| !word(scope, "")) {
        return Err(form());
    }
    let package = scope.map_or(name.to_owned(), |scope| format!("@{scope}/{name}"));
    Ok(Locator::Tarball { package, version: version.to_owned(), path: inside(path)? })
}

fn peer(rest: &str) -> Result<Locator, String> {
    let (base, model) = rest
        .rsplit_once('/')
        .ok_or("weft:http://HOST:PORT/NAME or weft:http://HOST:PORT/NAME@DIGEST is wanted")?;
    let mut daemon = web(base)?;
    if daemon.query().is_some() {
        return Err("the address of a weft has no query".to_owned());
    }
    if !daemon.path().ends_with('/') {
        daemon.set_path(&format!("{}/", daemon.path()));
    }
    let (model, version) = model.split_once('@').map_or((model, None), |(model, at)| (model, Some(at)));
    let version = version.map(str::parse).transpose();
    let version = version.map_err(|_| "a model's version is its digest, 64 hex digits".to_owned())?;
    Ok(Locator::Peer { daemon, model: model.parse()?, version })
}

/// A part of a name as all of these registries have it, which no path can be built from.
fn word(text: &str, more: &str) -> bool {
    let allowed = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c) || more.contains(c);
    !text.is_empty() && text.len() <= 256 && text.chars().all(allowed) && text != "." && text != ".."
}

/// A path that stays inside of what it is in.
fn inside(path: Option<&str>) -> Result<Option<String>, String> {
    let Some(path) = path.filter(|path| !path.is_empty()) else { return Ok(None) };
    let stays = |part: &str| !part.is_empty() && part != "." && part != "..";
    if path.contains('\\') || !path.split('/').all(stays) {
        return Err(format!("the path {path:?} is not plain: no empty parts, no . or .., no backslash"));
    }
    Ok(Some(path.to_owned()))
}

impl fmt::Display for Locator {
    /// As it is parsed, but without the query of an address: it may hold a signature.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let tail = |path: &Option<String>| path.as_ref().map(|path| format!("/{path}")).unwrap_or_default();
        match self {
            Self::Path(path) => write!(f, "{}", path.display()),
            Self::Web(url) => f.write_str(&place(url)),
            Self::Hub { repository, revision, path } => {
                let revision = revision.as_ref().map(|revision| format!("@{}", revision.replace('/', "%2F")));
                write!(f, "hf:{repository}{}{}", revision.unwrap_or_default(), tail(path))
            }
            Self::Wheel { package, version, path } => write!(f, "pypi:{package}=={version}{}", tail(path)),
            Self::Tarball { package, version, path } => write!(f, "npm:{package}@{version}{}", tail(path)),
            Self::Peer { daemon, model, version } => {
                let version = version.map(|version| format!("@{version}")).unwrap_or_default();
                write!(f, "weft:{daemon}{model}{version}")
            }
            Self::Ipfs(cid) => write!(f, "ipfs:{cid}"),
        }
    }
}

/// An address without its query.
pub(super) fn place(url: &Url) -> String {
    let mut url = url.clone();
    url.set_query(None);
    url.to_string()
}

impl Locator {
    /// What to call the model when nobody says.
    pub fn name(&self) -> String {
        let stem = |path: &str| {
            let file = path.rsplit('/').next().unwrap_or_default();
            file.strip_suffix(".onnx").unwrap_or(file).to_owned()
        };
        let name = match self {
            Self::Path(path) => stem(&path.display().to_string()),
            Self::Web(url) => stem(url.path()),
            Self::Hub { repository, .. } => stem(repository),
            Self::Wheel { package, .. } => package.clone(),
            Self::Tarball { package, .. } => stem(package),
            Self::Peer { model, .. } => model.to_string(),
            Self::Ipfs(cid) => cid.to_string(),
        };
        let plain = |c: char| if c.is_ascii_alphanumeric() || "-_.".contains(c) { c } else { '-' };
        name.chars().map(plain).collect()
    }

    /// Whether a model of that source and revision is what this asks for.
    pub fn admits(&self, source: &str, revision: Option<&str>) -> bool {
        let Ok(there) = source.parse::<Self>() else { return false };
        let covers = |wanted: &Option<String>, there: &Option<String>| wanted.is_none() || wanted == there;
        match (self, &there) {
            (
                Self::Hub { repository, revision: wanted, path },
                Self::Hub { repository: other, revision: of, path: at },
            ) => {
                let pinned = wanted.as_deref() == revision;
                repository == other && covers(path, at) && (pinned || wanted == of || wanted.is_none())
            }
            (
                Self::Wheel { package, version, path },
                Self::Wheel { package: other, version: of, path: at },
            )
            | (
                Self::Tarball { package, version, path },
                Self::Tarball { package: other, version: of, path: at },
            ) => package == other && version == of && covers(path, at),
            (Self::Peer { daemon, model, version }, Self::Peer { daemon: other, model: called, .. }) => {
                let version = version.map(|version| version.to_string());
                daemon == other && model == called && (version.is_none() || version.as_deref() == revision)
            }
            (Self::Web(url), Self::Web(other)) => place(url) == place(other),
            (Self::Ipfs(cid), Self::Ipfs(other)) => cid == other,
            _ => false,
        }
    }

    /// What asks for it; a path is read by whoever says it, never by the daemon.
    pub(super) fn source(&self) -> Result<Box<dyn Source>, SourceError> {
        Ok(match self.clone() {
            Self::Path(path) => {
                let text = path.display().to_string();
                let problem = "a path is read by `weft models add`, which uploads the file".to_owned();
                return Err(SourceError::Malformed { text, problem });
            }
            Self::Web(url) => Box::new(super::web::Address(url)),
            Self::Hub { repository, revision, path } => Box::new(Hub { repository, revision, path }),
            Self::Wheel { package, version, path } => Box::new(Wheel { package, version, path }),
            Self::Tarball { package, version, path } => Box::new(Tarball { package, version, path }),
            Self::Peer { daemon, model, version } => Box::new(Peer { daemon, model, version }),
            Self::Ipfs(cid) => Box::new(Dag(cid)),
        })
    }

    /// Whether what it says can be asked for again: the query of an address is not kept.
    pub(super) fn is_kept(&self) -> bool {
        match self {
            Self::Path(_) => false,
            Self::Web(url) => url.query().is_none(),
            _ => true,
        }
    }

    /// The same at what pins it, where that can be asked for.
    pub(in crate::models) fn pinned(self, revision: Option<&str>) -> Self {
        match self {
            Self::Hub { repository, revision: said, path } => {
                Self::Hub { repository, revision: revision.map(str::to_owned).or(said), path }
            }
            Self::Peer { daemon, model, version } => {
                Self::Peer { daemon, model, version: revision.and_then(|text| text.parse().ok()).or(version) }
            }
            other => other,
        }
    }

    /// The same with the path that was found inside.
    pub(super) fn at(self, found: String) -> Self {
        let path = Some(found);
        match self {
            Self::Hub { repository, revision, .. } => Self::Hub { repository, revision, path },
            Self::Wheel { package, version, .. } => Self::Wheel { package, version, path },
            Self::Tarball { package, version, .. } => Self::Tarball { package, version, path },
            whole @ (Self::Path(_) | Self::Web(_) | Self::Peer { .. } | Self::Ipfs(_)) => whole,
        }
    }
}
