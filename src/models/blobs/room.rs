//! Which files go to make room for another. Pure.

use std::{cmp::Reverse, fmt};

use super::homes::{Claim, Stay};
use crate::domain::Digest;

/// A file of the folder.
#[derive(Clone, Copy, Debug)]
pub(super) struct Kept {
    pub(super) digest: Digest,
    /// With what is kept beside it.
    pub(super) bytes: u64,
    /// What this home's names want with it.
    pub(super) own: Option<Claim>,
    /// What those of other homes want.
    pub(super) others: Option<Claim>,
    /// Whether it is loaded, given out, or being added, by this daemon.
    pub(super) in_use: bool,
}

impl Kept {
    /// What it may not go for, if anything.
    fn reason(&self) -> Option<Reason> {
        let stays = |claim: Option<Claim>, stay| claim.is_some_and(|claim| claim.stay == stay);
        if stays(self.own, Stay::Pinned) {
            Some(Reason::Pinned)
        } else if stays(self.own, Stay::Only) {
            Some(Reason::Only)
        } else if self.others.is_some_and(|claim| claim.stay != Stay::Again) {
            Some(Reason::Others)
        } else {
            self.in_use.then_some(Reason::InUse)
        }
    }

    fn used_ms(&self) -> u64 {
        self.own.into_iter().chain(self.others).map(|claim| claim.used_ms).max().unwrap_or(0)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reason {
    Pinned,
    Only,
    Others,
    InUse,
}

/// What stands in the way, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Full {
    pub wanted: u64,
    pub limit: u64,
    pub pinned: u64,
    pub only: u64,
    pub others: u64,
    pub in_use: u64,
}

impl Full {
    /// Whether room may come by itself.
    pub fn passes(&self) -> bool {
        let staying = self.pinned + self.only + self.others;
        self.limit.checked_sub(staying).is_some_and(|left| self.wanted <= left)
    }
}

impl fmt::Display for Full {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { wanted, limit, pinned, only, others, in_use } = self;
        write!(
            f,
            "the cache is full: there is no room for {wanted} bytes in its {limit} (models.cache_max)"
        )?;
        let held = [
            (pinned, "pinned (`weft models unpin NAME`)"),
            (
                only,
                "of models that cannot be downloaded again, as uploads and conversions (`weft models remove NAME`)",
            ),
            (in_use, "loaded or otherwise in use (`weft models unload NAME`)"),
            (others, "kept for other homes"),
        ];
        for (bytes, what) in held.into_iter().filter(|(bytes, _)| **bytes > 0) {
            write!(f, "; {bytes} bytes are {what}")?;
        }
        Ok(())
    }
}

/// What may go for `wanted` bytes to fit, least recently used first, and how many bytes must.
pub(super) fn room(kept: &[Kept], wanted: u64, limit: u64) -> Result<(Vec<Kept>, u64), Full> {
    let held: u64 = kept.iter().map(|file| file.bytes).sum();
    let missing = held.saturating_add(wanted).saturating_sub(limit);
    if missing == 0 {
        return Ok((Vec::new(), 0));
    }
    let mut full = Full { wanted, limit, ..Full::default() };
    let mut may_go = Vec::new();
    for file in kept {
        match file.reason() {
            None => may_go.push(*file),
            Some(Reason::Pinned) => full.pinned += file.bytes,
            Some(Reason::Only) => full.only += file.bytes,
            Some(Reason::Others) => full.others += file.bytes,
            Some(Reason::InUse) => full.in_use += file.bytes,
        }
    }
    if may_go.iter().map(|file| file.bytes).sum::<u64>() < missing {
        return Err(full);
    }
    // Of a model's files the largest first: the fewer go, the better.
    may_go.sort_by_key(|file| (file.used_ms(), Reverse(file.bytes), file.digest));
    Ok((may_go, missing))
}

#[cfg(test)]
mod tests;
