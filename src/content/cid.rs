//! Names of blocks: CIDs as far as files need them.

use std::{fmt, io, str::FromStr};

use bytes::Bytes;
use cid::{CidGeneric, multihash::Multihash};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::domain::Digest;

/// Room for every hash function there is, and what an inline CID may hold.
const HASH_MAX: usize = 64;

/// Twice what the longest of them takes in the widest usual base.
const TEXT_MAX: usize = 256;

const RAW: u64 = 0x55;
const DAG_PB: u64 = 0x70;
const IDENTITY: u64 = 0x00;
const SHA2_256: u64 = 0x12;

pub(super) type Multi = CidGeneric<HASH_MAX>;

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CidError {
    #[error("{text:?} is no CID: {problem}")]
    Malformed { text: String, problem: String },
    #[error("{cid} has the hash function {code:#x}; sha2-256 (0x12) is the only one known here")]
    Hash { cid: String, code: u64 },
    #[error("{cid} has the codec {code:#x}; raw (0x55) and dag-pb (0x70) are the only ones known here")]
    Codec { cid: String, code: u64 },
    #[error("{cid} has a digest of {length} bytes; sha2-256 has 32")]
    Digest { cid: String, length: usize },
    #[error("{cid} is inline and no raw block")]
    Inline { cid: String },
}

/// How a block is to be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Codec {
    /// Bytes of a file.
    Raw,
    /// A node with links.
    DagPb,
}

/// A block by its SHA-256.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Cid {
    pub codec: Codec,
    pub digest: Digest,
}

/// What a CID leads to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Address {
    Block(Cid),
    /// The bytes themselves, which the CID holds in place of a hash.
    Inline(Bytes),
}

impl Cid {
    /// Of a block's bytes.
    pub fn of(codec: Codec, block: &[u8]) -> Self {
        Self { codec, digest: Digest::new(Sha256::digest(block).into()) }
    }

    /// Whether this is what `block` is called.
    pub fn names(&self, block: &[u8]) -> bool {
        Self::of(self.codec, block).digest == self.digest
    }

    pub(super) fn multi(&self) -> Multi {
        let codec = match self.codec {
            Codec::Raw => RAW,
            Codec::DagPb => DAG_PB,
        };
        let hash = Multihash::wrap(SHA2_256, self.digest.bytes()).expect("32 bytes are fewer than 64");
        Multi::new_v1(codec, hash)
    }

    pub fn to_bytes(self) -> Vec<u8> {
        self.multi().to_bytes()
    }

    /// From the bytes that stand in a link.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, CidError> {
        let multi = Multi::try_from(bytes).map_err(|error| malformed("a link", &error))?;
        Self::try_from(&multi)
    }
}

impl TryFrom<&Multi> for Cid {
    type Error = CidError;

    fn try_from(multi: &Multi) -> Result<Self, CidError> {
        let cid = || multi.to_string();
        let hash = multi.hash();
        if hash.code() != SHA2_256 {
            return Err(CidError::Hash { cid: cid(), code: hash.code() });
        }
        let length = hash.digest().len();
        let digest = hash.digest().try_into().map_err(|_| CidError::Digest { cid: cid(), length })?;
        let codec = match multi.codec() {
            RAW => Codec::Raw,
            DAG_PB => Codec::DagPb,
            code => return Err(CidError::Codec { cid: cid(), code }),
        };
        Ok(Self { codec, digest: Digest::new(digest) })
    }
}

fn malformed(text: &str, error: &cid::Error) -> CidError {
    CidError::Malformed { text: text.to_owned(), problem: error.to_string() }
}

impl FromStr for Address {
    type Err = CidError;

    fn from_str(text: &str) -> Result<Self, CidError> {
        if text.len() > TEXT_MAX {
            let text: String = text.chars().take(TEXT_MAX).collect();
            let problem = format!("it has over {TEXT_MAX} characters");
            return Err(CidError::Malformed { text, problem });
        }
        let multi: Multi = text.parse().map_err(|error| malformed(text, &error))?;
        if multi.hash().code() != IDENTITY {
            return Cid::try_from(&multi).map(Self::Block);
        }
        if multi.codec() != RAW {
            return Err(CidError::Inline { cid: text.to_owned() });
        }
        Ok(Self::Inline(Bytes::copy_from_slice(multi.hash().digest())))
    }
}

impl FromStr for Cid {
    type Err = CidError;

    /// Of version 0 too, which becomes what it is in version 1.
    fn from_str(text: &str) -> Result<Self, CidError> {
        match text.parse()? {
            Address::Block(cid) => Ok(cid),
            Address::Inline(_) => Err(CidError::Hash { cid: text.to_owned(), code: IDENTITY }),
        }
    }
}

impl fmt::Display for Cid {
    /// Version 1 in base 32.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.multi(), f)
    }
}

impl Address {
    pub(super) fn multi(&self) -> Multi {
        match self {
            Self::Block(cid) => cid.multi(),
            Self::Inline(bytes) => {
                let hash = Multihash::wrap(IDENTITY, bytes).expect("it was read with as many bytes");
                Multi::new_v1(RAW, hash)
            }
        }
    }

    /// From the front of `bytes`; says how many it took.
    pub(super) fn read(bytes: &[u8]) -> Result<(Self, usize), CidError> {
        let mut rest = io::Cursor::new(bytes);
        let multi = Multi::read_bytes(&mut rest).map_err(|error| malformed("a block's name", &error))?;
        let address = if multi.hash().code() == IDENTITY {
            Self::Inline(Bytes::copy_from_slice(multi.hash().digest()))
        } else {
            Self::Block(Cid::try_from(&multi)?)
        };
        Ok((address, rest.position() as usize))
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.multi(), f)
    }
}

impl Serialize for Cid {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Cid {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}
