//! What a file must turn out to be.

use std::{fs::File, io, path::Path};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use sha2::{Sha256, Sha512};

use crate::domain::Digest;

/// Enough for the hash to be what takes the time.
const CHUNK: usize = 1 << 20;

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Expected {
    Sha256(Digest),
    Sha512(Box<[u8; 64]>),
}

impl Expected {
    /// npm's `integrity`: algorithms with digests, of which the strongest counts.
    pub(super) fn integrity(text: &str) -> Option<Self> {
        let digest = text.split_whitespace().find_map(|part| part.strip_prefix("sha512-"))?;
        let bytes = BASE64_STANDARD.decode(digest.split('?').next()?).ok()?;
        Some(Self::Sha512(Box::new(bytes.try_into().ok()?)))
    }

    pub(super) fn algorithm(&self) -> &'static str {
        match self {
            Self::Sha256(_) => "sha256",
            Self::Sha512(_) => "sha512",
        }
    }

    pub(super) fn text(&self) -> String {
        match self {
            Self::Sha256(digest) => digest.to_string(),
            Self::Sha512(bytes) => BASE64_STANDARD.encode(bytes.as_slice()),
        }
    }

    /// What the file is instead; nothing when it is this.
    pub(super) fn differs(&self, path: &Path) -> io::Result<Option<Self>> {
        let is = match self {
            Self::Sha256(_) => Self::Sha256(Digest::new(hash::<Sha256>(path)?.into())),
            Self::Sha512(_) => Self::Sha512(Box::new(hash::<Sha512>(path)?.into())),
        };
        Ok((is != *self).then_some(is))
    }
}

fn hash<H: sha2::Digest>(path: &Path) -> io::Result<sha2::digest::Output<H>> {
    let (mut file, mut hash) = (File::open(path)?, H::new());
    let mut chunk = vec![0; CHUNK];
    loop {
        match io::Read::read(&mut file, &mut chunk)? {
            0 => return Ok(hash.finalize()),
            read => hash.update(&chunk[..read]),
        }
    }
}
