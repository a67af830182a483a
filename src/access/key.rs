//! API keys: `weft_ID_SECRET`, an id of 12 hex digits to find the key by and a secret of 64.
//!
//! The secret is 256 random bits, so a plain SHA-256 keeps it: whoever steals the digests has nothing to guess from,
//! and a slow hash would only cost the daemon.

use std::fmt::Write as _;

use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;

use crate::domain::Digest;

pub const PREFIX: &str = "weft_";
const ID_LEN: usize = 12;
const SECRET_LEN: usize = 64;

/// A key as somebody presents it, well-formed and not looked up.
#[derive(Clone, Copy)]
pub(super) struct Presented<'a> {
    whole: &'a str,
    pub(super) id: &'a str,
}

impl<'a> Presented<'a> {
    pub(super) fn read(text: &'a str) -> Option<Self> {
        let (id, secret) = text.strip_prefix(PREFIX)?.split_once('_')?;
        let hex = |text: &str, len| {
            text.len() == len && text.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
        };
        (hex(id, ID_LEN) && hex(secret, SECRET_LEN)).then_some(Self { whole: text, id })
    }

    /// Whether this is the key with that digest; takes the same time wherever they differ.
    pub(super) fn is(self, digest: &Digest) -> bool {
        of(self.whole).bytes().ct_eq(digest.bytes()).into()
    }
}

/// A new id, and the key that is shown once.
pub(super) fn make() -> (String, String) {
    let id = hex(&rand::random::<[u8; ID_LEN / 2]>());
    let key = format!("{PREFIX}{id}_{}", hex(&rand::random::<[u8; SECRET_LEN / 2]>()));
    (id, key)
}

/// 256 random bits.
pub(super) fn secret() -> String {
    hex(&rand::random::<[u8; SECRET_LEN / 2]>())
}

/// What is kept of a secret.
pub(super) fn of(secret: &str) -> Digest {
    Digest::new(Sha256::digest(secret).into())
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}
