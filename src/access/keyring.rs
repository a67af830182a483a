//! The keys that tokens are signed with, from a folder: `KID.pem` is an Ed25519 public key, `KID.secret` an HS256
//! secret. A file that comes, changes or goes is noticed within [`LOOK_EVERY`], so keys rotate without a restart.

use std::{
    collections::HashMap,
    fs, io,
    path::{Path, PathBuf},
    sync::{Arc, RwLock},
    time::{Duration, SystemTime},
};

use tokio_util::sync::CancellationToken;

use super::{
    AccessError,
    token::{self, Claims, Rules, TokenError, TokenKey},
};

/// How often the folder is looked at: a key that was taken away is trusted for no longer.
pub const LOOK_EVERY: Duration = Duration::from_secs(5);

/// Two or three are there while keys rotate.
const KEYS_MAX: usize = 64;

/// A secret or a key in PEM form has some hundreds of bytes.
const FILE_MAX: u64 = 16 << 10;

#[derive(Debug)]
pub(super) struct Keyring {
    folder: PathBuf,
    rules: Rules,
    /// By the names that tokens call them by.
    keys: RwLock<HashMap<String, Arc<Trusted>>>,
}

struct Trusted {
    key: TokenKey,
    stamp: Stamp,
    /// Cancelled when the key is trusted no more.
    withdrawn: CancellationToken,
}

impl std::fmt::Debug for Trusted {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Trusted").field("stamp", &self.stamp).finish_non_exhaustive()
    }
}

/// What changes when a file does.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Stamp {
    path: PathBuf,
    modified: Option<SystemTime>,
    len: u64,
}

impl Keyring {
    /// Every file must be good at the start; one that goes bad later is only trusted no more.
    pub(super) fn open(folder: PathBuf, rules: Rules) -> Result<Self, AccessError> {
        let files = files(&folder)?;
        let keys = files
            .into_iter()
            .map(|(name, stamp)| Ok((name, Arc::new(Trusted::read(stamp)?))))
            .collect::<Result<_, AccessError>>()?;
        Ok(Self { folder, rules, keys: RwLock::new(keys) })
    }

    /// What a token says, and what is cancelled when its key is withdrawn.
    pub(super) fn verify(&self, token: &str, now_s: u64) -> Result<(Claims, CancellationToken), TokenError> {
        let name = token::key_name(token)?;
        let trusted = self.keys.read().expect("no holder of the keyring panics").get(&name).cloned();
        let trusted = trusted.ok_or(TokenError::UnknownKey)?;
        let claims = token::verify(token, &trusted.key, &self.rules, now_s)?;
        Ok((claims, trusted.withdrawn.clone()))
    }

    /// Looks at the folder again; blocks for as long as the disk does.
    pub(super) fn look(&self) {
        let files = files(&self.folder).unwrap_or_else(|error| {
            tracing::error!(%error, "no token is trusted until its keys can be read");
            HashMap::new()
        });
        let before = self.keys.read().expect("no holder of the keyring panics").clone();
        let mut now = HashMap::new();
        for (name, stamp) in files {
            let same = before.get(&name).filter(|trusted| trusted.stamp == stamp);
            let read = same.map_or_else(|| Trusted::read(stamp).map(Arc::new), |same| Ok(same.clone()));
            match read {
                Ok(trusted) => {
                    if same.is_none() {
                        tracing::info!(key = name, "tokens signed with this key are trusted");
                    }
                    now.insert(name, trusted);
                }
                Err(error) => tracing::warn!(%error, "a key of tokens is not trusted"),
            }
        }
        self.keys.write().expect("no holder of the keyring panics").clone_from(&now);
        for (name, trusted) in before {
            if !now.get(&name).is_some_and(|kept| Arc::ptr_eq(kept, &trusted)) {
                tracing::info!(key = name, "tokens signed with this key are trusted no more");
                trusted.withdrawn.cancel();
            }
        }
    }
}

impl Trusted {
    fn read(stamp: Stamp) -> Result<Self, AccessError> {
        let path = &stamp.path;
        let wrong = |message: String| AccessError::TokenKey { path: path.clone(), message };
        if stamp.len > FILE_MAX {
            return Err(wrong(format!(
                "has {} bytes, more than the {FILE_MAX} that a key may have",
                stamp.len
            )));
        }
        let text = fs::read(path).map_err(|error| wrong(error.to_string()))?;
        let key = if path.extension().is_some_and(|extension| extension == "pem") {
            TokenKey::eddsa(&text)
        } else {
            // Editors end a file with a line's end, which is no part of the secret.
            TokenKey::hs256(text.strip_suffix(b"\n").unwrap_or(&text))
        };
        let key = key.map_err(|error| wrong(error.to_string()))?;
        Ok(Self { key, withdrawn: CancellationToken::new(), stamp })
    }
}

fn files(folder: &Path) -> Result<HashMap<String, Stamp>, AccessError> {
    let wrong = |message: String| AccessError::TokenKey { path: folder.to_owned(), message };
    let unread = |error: io::Error| wrong(error.to_string());
    let mut files = HashMap::new();
    for entry in fs::read_dir(folder).map_err(unread)? {
        let path = entry.map_err(unread)?.path();
        let kind = path.extension().and_then(|extension| extension.to_str());
        let (Some("pem" | "secret"), Some(name)) = (kind, path.file_stem().and_then(|name| name.to_str()))
        else {
            continue;
        };
        let name = name.to_owned();
        let about = fs::metadata(&path).map_err(unread)?;
        let stamp = Stamp { modified: about.modified().ok(), len: about.len(), path: path.clone() };
        if files.insert(name.clone(), stamp).is_some() {
            return Err(wrong(format!("holds both {name}.pem and {name}.secret: a key has one algorithm")));
        }
        if files.len() > KEYS_MAX {
            return Err(wrong(format!("holds more than {KEYS_MAX} keys")));
        }
    }
    Ok(files)
}
