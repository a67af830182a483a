//! A file that is put together from blocks: which are wanted, whether one that came is good, and where its bytes go.
//!
//! A block counts only when a block before it links to it, beginning with the one that was asked for.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    ops::Range,
};

use bytes::Bytes;

use super::{
    BLOCK_MAX,
    cid::{Cid, Codec},
    dagpb::{Node, NodeError},
};
use crate::domain::Digest;

/// Links from the root to a leaf. 1,024 links in each node hold any file in three.
const DEPTH_MAX: u32 = 16;

/// Blocks of a file: 64 GiB, the largest there is here, in the 256 KiB of the smallest usual chunker.
const BLOCKS_MAX: usize = 1 << 18;

/// A block that is not taken, and who gave it is not to be believed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    #[error("the block {cid} is not what it is called")]
    Wrong { cid: Cid },
    #[error("the block {cid} belongs to nothing that was asked for")]
    Extra { cid: Cid },
    #[error("the block {cid} has {bytes} bytes, over {BLOCK_MAX}")]
    Large { cid: Cid, bytes: usize },
    /// Nobody lied: this is what the CID means.
    #[error(transparent)]
    Dag(#[from] DagError),
}

/// A CID that means no file that can be had.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DagError {
    #[error("{cid}: {problem}")]
    Node { cid: Cid, problem: NodeError },
    #[error("{cid} has {is} bytes, and the link to it says {wanted}")]
    Size { cid: Cid, is: u64, wanted: u64 },
    #[error("{bytes} bytes, over the limit of {limit}")]
    Bytes { bytes: u64, limit: u64 },
    #[error("it has more than {BLOCKS_MAX} blocks")]
    Blocks,
    #[error("it is more than {DEPTH_MAX} nodes deep")]
    Depth,
}

/// Bytes of the file, and where they go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Write {
    pub at: u64,
    pub bytes: Bytes,
}

/// What has not come.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Missing {
    Nothing,
    /// Not even the root is there.
    All,
    /// The first bytes that are not there, as far as they go.
    Bytes(Range<u64>),
}

pub struct Assembly {
    limit: u64,
    /// Of the file, once the root is there.
    bytes: Option<u64>,
    missing: BTreeMap<u64, Slot>,
    /// Where each block that is missing goes; the same bytes may stand in several places.
    places: HashMap<Cid, Vec<u64>>,
    had: HashSet<Cid>,
    blocks: usize,
    present: u64,
}

#[derive(Clone, Copy, Debug)]
struct Slot {
    cid: Cid,
    /// Known to whoever links to it.
    bytes: Option<u64>,
    depth: u32,
}

impl Assembly {
    /// Of the file that `root` means, of at most `limit` bytes.
    pub fn new(root: Cid, limit: u64) -> Self {
        let slot = Slot { cid: root, bytes: None, depth: 0 };
        Self {
            limit,
            bytes: None,
            missing: BTreeMap::from([(0, slot)]),
            places: HashMap::from([(root, vec![0])]),
            had: HashSet::new(),
            blocks: 1,
            present: 0,
        }
    }

    /// Of the whole file.
    pub fn bytes(&self) -> Option<u64> {
        self.bytes
    }

    /// How many of its bytes have come.
    pub fn present(&self) -> u64 {
        self.present
    }

    pub fn missing(&self) -> Missing {
        let mut slots = self.missing.iter();
        let Some((from, slot)) = slots.next() else { return Missing::Nothing };
        let Some(bytes) = slot.bytes else { return Missing::All };
        let mut end = from + bytes;
        for (at, slot) in slots {
            if *at != end {
                break;
            }
            end += slot.bytes.expect("only the root's size is not known");
        }
        Missing::Bytes(*from..end)
    }

    /// The block that holds the first missing byte, or leads to it.
    pub fn next(&self) -> Option<Cid> {
        self.missing.first_key_value().map(|(_, slot)| slot.cid)
    }

    /// A missing block that can only be a node: what lies below it is not known without it.
    pub fn next_node(&self) -> Option<Cid> {
        let node = |slot: &&Slot| {
            slot.cid.codec == Codec::DagPb && slot.bytes.is_none_or(|bytes| bytes > BLOCK_MAX as u64)
        };
        self.missing.values().find(node).map(|slot| slot.cid)
    }

    /// The missing leaves whose digest is that of the file's bytes there.
    pub fn leaves(&self) -> Vec<(Range<u64>, Digest)> {
        let leaf = |(at, slot): (&u64, &Slot)| {
            let bytes = slot.bytes.filter(|_| slot.cid.codec == Codec::Raw)?;
            Some((*at..at + bytes, slot.cid.digest))
        };
        self.missing.iter().filter_map(leaf).collect()
    }

    /// Notes that a leaf is in the file already.
    pub fn found(&mut self, at: u64) {
        let Some(slot) = self.missing.remove(&at) else { return };
        self.present += slot.bytes.unwrap_or_default();
        if let Some(places) = self.places.get_mut(&slot.cid) {
            places.retain(|place| *place != at);
            if places.is_empty() {
                self.places.remove(&slot.cid);
            }
        }
        self.had.insert(slot.cid);
    }

    /// Takes a block that came, and says what to write where; nothing when it had come before.
    pub fn accept(&mut self, cid: &Cid, block: &Bytes) -> Result<Option<Vec<Write>>, Refused> {
        if block.len() > BLOCK_MAX {
            return Err(Refused::Large { cid: *cid, bytes: block.len() });
        }
        if !cid.names(block) {
            return Err(Refused::Wrong { cid: *cid });
        }
        let Some(places) = self.places.remove(cid) else {
            // On the way to a range there are blocks that have come before.
            return if self.had.contains(cid) { Ok(None) } else { Err(Refused::Extra { cid: *cid }) };
        };
        self.had.insert(*cid);
        let node = match cid.codec {
            Codec::Raw => Node { inline: block.clone(), children: Vec::new(), bytes: block.len() as u64 },
            Codec::DagPb => {
                Node::decode(block.clone()).map_err(|problem| DagError::Node { cid: *cid, problem })?
            }
        };
        let mut writes = Vec::new();
        for at in places {
            let slot = self.missing.remove(&at).expect("each place is a slot's");
            self.fill(at, slot, &node)?;
            if !node.inline.is_empty() {
                writes.push(Write { at, bytes: node.inline.clone() });
            }
        }
        Ok(Some(writes))
    }

    /// How many blocks have come.
    pub fn had(&self) -> usize {
        self.had.len()
    }

    /// Puts a node's children where it was missing.
    fn fill(&mut self, at: u64, slot: Slot, node: &Node) -> Result<(), DagError> {
        match slot.bytes {
            Some(wanted) if wanted != node.bytes => {
                return Err(DagError::Size { cid: slot.cid, is: node.bytes, wanted });
            }
            None if node.bytes > self.limit => {
                return Err(DagError::Bytes { bytes: node.bytes, limit: self.limit });
            }
            None => self.bytes = Some(node.bytes),
            Some(_) => {}
        }
        let depth = slot.depth + 1;
        if !node.children.is_empty() && depth > DEPTH_MAX {
            return Err(DagError::Depth);
        }
        self.blocks += node.children.len();
        if self.blocks > BLOCKS_MAX {
            return Err(DagError::Blocks);
        }
        let inline = node.inline.len() as u64;
        self.present += inline;
        let mut at = at + inline;
        for child in &node.children {
            self.missing.insert(at, Slot { cid: child.cid, bytes: Some(child.bytes), depth });
            self.places.entry(child.cid).or_default().push(at);
            at += child.bytes;
        }
        Ok(())
    }
}
