//! What somebody who has shown a credential may do, and for how long.

use std::{sync::Arc, time::Duration};

use tokio_util::sync::CancellationToken;

use super::account::{Account, Entered, Exceeded, Standing};
use crate::{
    domain::{Caller, Scope, Scopes},
    tasks,
};

/// A wall clock that was set anew is noticed after so long.
const CLOCK_LOOK: Duration = Duration::from_secs(30);

/// Cheap to clone; clones count together.
#[derive(Clone, Debug)]
pub struct Grant {
    pub(super) account: Arc<Account>,
    pub(super) scopes: Scopes,
    /// Microseconds since the Unix epoch.
    pub(super) expires_at_us: Option<i64>,
    pub(super) withdrawn: CancellationToken,
}

/// Why a grant holds no more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Ended {
    #[error("the key was revoked, or the token's key is trusted no more")]
    Withdrawn,
    #[error("the key or token has expired")]
    Expired,
}

impl Ended {
    /// For a close frame.
    pub fn reason(self) -> &'static str {
        match self {
            Self::Withdrawn => "key revoked",
            Self::Expired => "credential expired",
        }
    }
}

impl Grant {
    pub fn caller(&self) -> &Caller {
        &self.account.caller
    }

    pub fn holds(&self, scope: Scope) -> bool {
        self.scopes.holds(scope)
    }

    /// Counts a request in, or says which limit it would exceed.
    pub fn enter(&self) -> Result<Entered, Exceeded> {
        self.account.enter(now_s())
    }

    /// Counts a message that asks for nothing that takes time.
    pub fn count(&self) -> Result<(), Exceeded> {
        self.account.count(now_s())
    }

    pub fn standings(&self) -> Vec<Standing> {
        self.account.standings(now_s())
    }

    /// Whether it holds at this moment.
    pub fn check(&self) -> Result<(), Ended> {
        if self.withdrawn.is_cancelled() {
            return Err(Ended::Withdrawn);
        }
        if self.left().is_some_and(|left| left.is_zero()) { Err(Ended::Expired) } else { Ok(()) }
    }

    /// Resolves when it holds no more.
    pub async fn ended(&self) -> Ended {
        loop {
            if let Err(ended) = self.check() {
                return ended;
            }
            let expiry = async {
                match self.left() {
                    Some(left) => tokio::time::sleep(left.min(CLOCK_LOOK)).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = self.withdrawn.cancelled() => {}
                () = expiry => {}
            }
        }
    }

    fn left(&self) -> Option<Duration> {
        let left = self.expires_at_us?.saturating_sub(tasks::now_us());
        Some(Duration::from_micros(u64::try_from(left).unwrap_or(0)))
    }
}

/// Seconds since the Unix epoch.
pub(super) fn now_s() -> u64 {
    u64::try_from(tasks::now_us()).unwrap_or(0) / 1_000_000
}
