//! Nodes of files: dag-pb with `UnixFS` in it.
//!
//! dag-pb puts its second field first, and a block is named by its very bytes, so writing follows that order by hand.

use bytes::{Buf, Bytes};
use prost::{
    DecodeError, Message,
    encoding::{WireType, decode_key, decode_varint, encode_key},
};

use super::cid::{Cid, CidError};

/// Several times what any chunker makes of 1,024 or 174 links.
const LINKS_MAX: usize = 8192;

const DATA: u32 = 1;
const LINKS: u32 = 2;

const RAW: i32 = 0;
const FOLDER: i32 = 1;
const FILE: i32 = 2;
const SHARDED_FOLDER: i32 = 5;

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NodeError {
    #[error("it is no dag-pb node: {0}")]
    Protobuf(#[from] DecodeError),
    #[error("it is no dag-pb node: field {0} is none of its fields")]
    Field(u32),
    #[error("it has more than {LINKS_MAX} links")]
    Links,
    #[error("one of its links cannot be followed: {0}")]
    Link(#[from] CidError),
    #[error("it is a folder, and a file is wanted: say the CID of the file in it")]
    Folder,
    #[error("it is no file, but UnixFS of type {0}")]
    Kind(i32),
    #[error("its sizes do not fit: {0}")]
    Sizes(String),
}

/// A part of a file: bytes of its own, then what its children hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    pub inline: Bytes,
    pub children: Vec<Child>,
    /// Of the file, in this node and below.
    pub bytes: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Child {
    pub cid: Cid,
    /// Of the file, in it and below.
    pub bytes: u64,
    /// Of all blocks below, which nobody but the link tells.
    pub total: u64,
}

#[derive(Clone, PartialEq, Message)]
struct Link {
    #[prost(bytes = "bytes", tag = "1")]
    hash: Bytes,
    /// Empty for a part of a file, and written nevertheless.
    #[prost(string, optional, tag = "2")]
    name: Option<String>,
    #[prost(uint64, optional, tag = "3")]
    total: Option<u64>,
}

#[derive(Clone, PartialEq, Message)]
struct UnixFs {
    #[prost(int32, required, tag = "1")]
    kind: i32,
    #[prost(bytes = "bytes", optional, tag = "2")]
    data: Option<Bytes>,
    #[prost(uint64, optional, tag = "3")]
    bytes: Option<u64>,
    #[prost(uint64, repeated, packed = "false", tag = "4")]
    sizes: Vec<u64>,
}

impl Node {
    /// A node that holds nothing but links.
    pub fn of(children: Vec<Child>) -> Self {
        let bytes = children.iter().map(|child| child.bytes).sum();
        Self { inline: Bytes::new(), children, bytes }
    }

    pub fn encode(&self) -> Bytes {
        let file = UnixFs {
            kind: FILE,
            data: (!self.inline.is_empty()).then(|| self.inline.clone()),
            bytes: Some(self.bytes),
            sizes: self.children.iter().map(|child| child.bytes).collect(),
        };
        let mut block = Vec::new();
        for child in &self.children {
            let hash = child.cid.to_bytes().into();
            let link = Link { hash, name: Some(String::new()), total: Some(child.total) };
            encode_key(LINKS, WireType::LengthDelimited, &mut block);
            link.encode_length_delimited(&mut block).expect("a vector grows");
        }
        encode_key(DATA, WireType::LengthDelimited, &mut block);
        file.encode_length_delimited(&mut block).expect("a vector grows");
        block.into()
    }

    pub fn decode(mut block: Bytes) -> Result<Self, NodeError> {
        let (mut links, mut file) = (Vec::new(), None);
        while block.has_remaining() {
            match decode_key(&mut block)? {
                (LINKS, WireType::LengthDelimited) if links.len() == LINKS_MAX => {
                    return Err(NodeError::Links);
                }
                (LINKS, WireType::LengthDelimited) => links.push(Link::decode(field(&mut block)?)?),
                (DATA, WireType::LengthDelimited) => file = Some(UnixFs::decode(field(&mut block)?)?),
                (other, _) => return Err(NodeError::Field(other)),
            }
        }
        let Some(file) = file else { return Err(NodeError::Sizes("it states none".to_owned())) };
        match file.kind {
            RAW | FILE => {}
            FOLDER | SHARDED_FOLDER => return Err(NodeError::Folder),
            kind => return Err(NodeError::Kind(kind)),
        }
        Self::file(file, &links)
    }

    fn file(file: UnixFs, links: &[Link]) -> Result<Self, NodeError> {
        let wrong = |problem: String| Err(NodeError::Sizes(problem));
        if links.len() != file.sizes.len() {
            return wrong(format!("{} links have {} sizes", links.len(), file.sizes.len()));
        }
        let inline = file.data.unwrap_or_default();
        let sum = file.sizes.iter().try_fold(inline.len() as u64, |sum, size| sum.checked_add(*size));
        let Some(bytes) = sum else { return wrong("they have no sum".to_owned()) };
        if file.bytes.is_some_and(|stated| stated != bytes) || (file.bytes.is_none() && !links.is_empty()) {
            return wrong(format!("{:?} bytes are stated, and the parts have {bytes}", file.bytes));
        }
        let mut children = Vec::with_capacity(links.len());
        for (link, bytes) in links.iter().zip(file.sizes) {
            // Links to nothing could lead to any number of others without the file growing.
            if bytes == 0 {
                return wrong("a link leads to no bytes".to_owned());
            }
            let cid = Cid::from_bytes(&link.hash)?;
            children.push(Child { cid, bytes, total: link.total.unwrap_or_default() });
        }
        Ok(Self { inline, children, bytes })
    }
}

/// A length, and as many bytes.
fn field(block: &mut Bytes) -> Result<Bytes, NodeError> {
    let length = decode_varint(block)?;
    match usize::try_from(length).ok().filter(|length| *length <= block.len()) {
        Some(length) => Ok(block.split_to(length)),
        None => Err(NodeError::Sizes(format!("a field of {length} bytes is cut off"))),
    }
}
