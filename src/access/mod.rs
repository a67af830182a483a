//! Who may do what: API keys, tokens and browsers' sessions, with scopes and limits.
//!
//! - `http` shows what a client sent, and gets a [`Grant`] or why there is none.
//! - Keys live in the store and, all of them, in memory: nobody waits for the disk to be let in.
//! - A [`Grant`] tells by itself when it ends, so open connections end with it.
//!
//! Never sees a request's content, and never keeps a secret that would open anything.

mod account;
mod grant;
mod key;
mod keyring;
mod keys;
mod sessions;
mod spent;
#[cfg(test)]
mod tests;
pub mod token;

use std::{
    collections::HashMap,
    path::PathBuf,
    sync::{Arc, Mutex},
    time::Duration,
};

use tokio_util::sync::CancellationToken;

use self::{account::Account, keyring::Keyring, sessions::Sessions, spent::Before, token::TokenError};
use crate::{
    domain::{Caller, Code, Failure, Retry, Scopes},
    store::{Store, StoreError},
    tasks::Tasks,
};

pub use account::{Allowance, Entered, Exceeded, Standing};
pub use grant::{Ended, Grant};
pub use key::PREFIX as KEY_PREFIX;
pub use keyring::LOOK_EVERY;
pub use keys::{Keys, NewKey};
pub use token::Rules;

/// Subjects of tokens that are counted at a time; those that ask for nothing make room.
const SUBJECTS_MAX: usize = 10_000;

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AccessError {
    #[error("{}: {message}", path.display())]
    TokenKey { path: PathBuf, message: String },
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("{0}")]
    Invalid(String),
    #[error("no key is called {0:?}: `weft keys list` shows their ids and names")]
    UnknownKey(String),
    #[error("several keys are called {0:?}: name the one by its id")]
    Ambiguous(String),
    #[error("there are {0} keys, which is the limit")]
    TooMany(usize),
}

impl From<AccessError> for Failure {
    fn from(error: AccessError) -> Self {
        match error {
            AccessError::Store(error) => error.into(),
            error => Self::invalid(error.to_string()),
        }
    }
}

/// Why somebody is not let in.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Denied {
    #[error("a key or token is wanted: Authorization: Bearer …")]
    Nothing,
    #[error("the Authorization header is not one Bearer credential")]
    Unreadable,
    #[error("no such key")]
    NoKey,
    #[error(transparent)]
    Ended(#[from] Ended),
    #[error("tokens are not taken here: access.tokens is not configured")]
    NoTokens,
    #[error(transparent)]
    Token(#[from] TokenError),
    #[error("the session is over: log in again")]
    NoSession,
    #[error("{SUBJECTS_MAX} subjects of tokens ask at once, which is the limit")]
    TooManySubjects,
}

impl From<Denied> for Failure {
    fn from(denied: Denied) -> Self {
        match denied {
            Denied::TooManySubjects => Self::new(Code::Overloaded, Retry::Same, denied.to_string()),
            denied => Self::new(Code::Unauthorized, Retry::Never, denied.to_string()),
        }
    }
}

/// What is configured about access.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Whether everybody has to show a credential.
    pub required: bool,
    /// How long a browser's session lasts.
    pub session: Duration,
    pub tokens: Option<TokenSettings>,
}

/// Tokens that somebody else signs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenSettings {
    /// Where the keys lie that they are signed with.
    pub keys: PathBuf,
    pub rules: Rules,
    /// What each subject may.
    pub allowance: Allowance,
}

/// What a client shows of itself.
#[derive(Clone, Copy)]
pub enum Credential<'a> {
    /// A key or a token.
    Bearer(&'a str),
    /// A session's cookie.
    Cookie(&'a str),
}

/// The handle. Clones share everything.
#[derive(Clone)]
pub struct Access {
    shared: Arc<Shared>,
}

struct Shared {
    required: bool,
    keys: Keys,
    /// The daemon's owner, who can read its home.
    owner: Grant,
    owner_key: String,
    nobody: Grant,
    tokens: Option<(Keyring, Allowance)>,
    subjects: Mutex<HashMap<String, Arc<Account>>>,
    before: Before,
    sessions: Sessions,
}

impl Access {
    pub async fn open(settings: Settings, store: Arc<Store>, tasks: &Tasks) -> Result<Self, AccessError> {
        let tokens = settings.tokens.map(|TokenSettings { keys, rules, allowance }| {
            Ok::<_, AccessError>((Keyring::open(keys, rules)?, allowance))
        });
        let (_, owner_key) = key::make();
        let endless = |name, scopes| Grant {
            account: Arc::new(Account::new(name, Allowance::default())),
            scopes,
            expires_at_us: None,
            withdrawn: CancellationToken::new(),
        };
        let access = Self {
            shared: Arc::new(Shared {
                required: settings.required,
                before: Before::read(&store).await?,
                keys: Keys::open(store.clone()).await?,
                owner: endless(Caller::LOCAL, Scopes::all()),
                owner_key,
                nobody: endless("nobody", Scopes::default()),
                tokens: tokens.transpose()?,
                subjects: Mutex::default(),
                sessions: Sessions::new(settings.session),
            }),
        };
        if access.shared.tokens.is_some() {
            tasks.spawn("keys of tokens", access.clone().attend(tasks.stopping()));
        }
        tasks.spawn("spent quotas", access.clone().keep_spent(store, tasks.stopping()));
        Ok(access)
    }

    /// Whether nobody is let in without a credential.
    pub fn is_required(&self) -> bool {
        self.shared.required
    }

    /// The key of whoever can read the daemon's home; another one at each start.
    pub fn owner_key(&self) -> &str {
        &self.shared.owner_key
    }

    /// What somebody may who need not say who they are.
    pub fn owner(&self) -> Grant {
        self.shared.owner.clone()
    }

    /// What somebody may of whom nothing is known.
    pub fn nobody(&self) -> Grant {
        self.shared.nobody.clone()
    }

    pub fn keys(&self) -> &Keys {
        &self.shared.keys
    }

    /// What the credential is good for.
    pub fn admit(&self, credential: Credential<'_>) -> Result<Grant, Denied> {
        match credential {
            Credential::Cookie(secret) => self.shared.sessions.find(secret),
            Credential::Bearer(text) if text.starts_with(KEY_PREFIX) => self.admit_key(text),
            Credential::Bearer(text) => self.admit_token(text),
        }
    }

    fn admit_key(&self, text: &str) -> Result<Grant, Denied> {
        let presented = key::Presented::read(text).ok_or(Denied::NoKey)?;
        if presented.is(&key::of(&self.shared.owner_key)) {
            return Ok(self.owner());
        }
        self.shared.keys.admit(presented)
    }

    fn admit_token(&self, text: &str) -> Result<Grant, Denied> {
        let (keyring, allowance) = self.shared.tokens.as_ref().ok_or(Denied::NoTokens)?;
        let (claims, withdrawn) = keyring.verify(text, grant::now_s())?;
        let account = self.subject(&format!("token/{}", claims.subject), *allowance)?;
        let expires_at_us = i64::try_from(claims.expires_at_s.saturating_mul(1_000_000)).ok();
        Ok(Grant { account, scopes: claims.scopes, expires_at_us, withdrawn })
    }

    /// All of a subject's tokens count together.
    fn subject(&self, caller: &str, allowance: Allowance) -> Result<Arc<Account>, Denied> {
        let mut subjects = self.shared.subjects.lock().expect("no holder of the subjects panics");
        if let Some(account) = subjects.get(caller) {
            return Ok(account.clone());
        }
        if subjects.len() >= SUBJECTS_MAX {
            subjects.retain(|_, account| Arc::strong_count(account) > 1 || !account.is_idle());
        }
        if subjects.len() >= SUBJECTS_MAX {
            return Err(Denied::TooManySubjects);
        }
        let account = Arc::new(Account::new(caller, allowance));
        self.shared.before.continue_in(&account);
        subjects.insert(caller.to_owned(), account.clone());
        Ok(account)
    }

    /// A browser's session with the rights of `grant`: the cookie's value, and how long it is good for.
    pub fn begin_session(&self, grant: &Grant) -> (String, Duration) {
        self.shared.sessions.begin(grant)
    }

    pub fn end_session(&self, secret: &str) {
        self.shared.sessions.end(secret);
    }

    async fn attend(self, stopping: CancellationToken) {
        loop {
            tokio::select! {
                () = stopping.cancelled() => return,
                () = tokio::time::sleep(LOOK_EVERY) => {}
            }
            let access = self.clone();
            let look = move || access.shared.tokens.iter().for_each(|(keyring, _)| keyring.look());
            // Only a runtime that ends does not run it.
            let _ = tokio::task::spawn_blocking(look).await;
        }
    }
}
