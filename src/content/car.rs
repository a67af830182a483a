//! CARs, version 1: a header, then blocks, each behind its length and its name.

use bytes::{Buf, Bytes, BytesMut};
use serde::{Deserialize, Serialize};
use unsigned_varint::{decode, encode};

use super::{
    BLOCK_MAX,
    cid::{Address, Cid, CidError, Multi},
};

pub(super) const VERSION: u64 = 1;

/// A name ahead of a block: four numbers of a byte or two each and a hash.
const NAME_MAX: usize = 96;

/// Room for dozens of roots; gateways say one.
const HEADER_MAX: usize = 4096;

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CarError {
    #[error("a length that is no number")]
    Length,
    #[error("a header of {0} bytes, over {HEADER_MAX}")]
    HeaderSize(u64),
    #[error("a header that is none: {0}")]
    Header(String),
    #[error("a header of version {0}; {VERSION} was asked for")]
    Version(u64),
    #[error("a block of {0} bytes, over {BLOCK_MAX}")]
    BlockSize(u64),
    #[error("a block whose name is cut off")]
    Name,
    #[error("a block whose name is not understood: {0}")]
    Cid(#[from] CidError),
}

#[derive(Serialize, Deserialize)]
struct Header {
    roots: Vec<Multi>,
    version: u64,
}

/// What a CAR begins with.
pub(super) fn header(root: &Address) -> Bytes {
    let header = Header { roots: vec![root.multi()], version: VERSION };
    let header = serde_ipld_dagcbor::to_vec(&header).expect("a header holds a list and a number");
    let mut bytes = encode::usize(header.len(), &mut encode::usize_buffer()).to_vec();
    bytes.extend_from_slice(&header);
    bytes.into()
}

/// What stands ahead of a block of so many bytes.
pub(super) fn prefix(cid: &Cid, length: u64) -> Vec<u8> {
    let name = cid.to_bytes();
    let mut bytes = encode::u64(name.len() as u64 + length, &mut encode::u64_buffer()).to_vec();
    bytes.extend_from_slice(&name);
    bytes
}

/// Reads a CAR as it comes. Whether the blocks are what they are called is for whoever wants them.
#[derive(Default)]
pub struct Reader {
    buffer: BytesMut,
    begun: bool,
}

impl Reader {
    pub fn push(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    /// The next whole block, when it is there. Inline ones say nothing that their link did not, and are passed over.
    pub fn block(&mut self) -> Result<Option<(Cid, Bytes)>, CarError> {
        if !self.begun {
            let Some(header) = self.section(HEADER_MAX, CarError::HeaderSize)? else { return Ok(None) };
            let header: Header = serde_ipld_dagcbor::from_slice(&header)
                .map_err(|error| CarError::Header(error.to_string()))?;
            if header.version != VERSION {
                return Err(CarError::Version(header.version));
            }
            self.begun = true;
        }
        while let Some(mut block) = self.section(NAME_MAX + BLOCK_MAX, CarError::BlockSize)? {
            let (address, length) = Address::read(&block)?;
            block.advance(length);
            if block.len() > BLOCK_MAX {
                return Err(CarError::BlockSize(block.len() as u64));
            }
            if let Address::Block(cid) = address {
                return Ok(Some((cid, block)));
            }
        }
        Ok(None)
    }

    /// Whether a CAR may end here.
    pub fn may_end(&self) -> bool {
        self.begun && self.buffer.is_empty()
    }

    /// As many bytes as their length ahead of them says.
    fn section(&mut self, most: usize, over: fn(u64) -> CarError) -> Result<Option<Bytes>, CarError> {
        let (length, rest) = match decode::u64(&self.buffer) {
            Ok(read) => read,
            Err(decode::Error::Insufficient) => return Ok(None),
            Err(_) => return Err(CarError::Length),
        };
        if length == 0 {
            return Err(CarError::Length);
        }
        let Some(length) = usize::try_from(length).ok().filter(|length| *length <= most) else {
            return Err(over(length));
        };
        if rest.len() < length {
            return Ok(None);
        }
        let ahead = self.buffer.len() - rest.len();
        self.buffer.advance(ahead);
        Ok(Some(self.buffer.split_to(length).freeze()))
    }
}
