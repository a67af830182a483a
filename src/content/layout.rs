//! How a file is laid out in blocks: leaves of 1 MiB, and above them a balanced tree.
//!
//! Everything follows from the leaves' digests, so those alone are kept, and a lane that loads a file piece by piece
//! may check each piece by them.

use std::{collections::HashMap, ops::Range};

use bytes::Bytes;
use sha2::{Digest as _, Sha256};

use super::{
    cid::{Cid, Codec},
    dagpb::{Child, Node},
};
use crate::domain::Digest;

/// Bytes of a leaf; the profile `unixfs-v1-2025` has it so.
pub const LEAF: usize = 1 << 20;

/// Links of a node; the profile has it so.
const LINKS: usize = 1024;

/// Ahead of the leaves' digests in what is kept: the file's size and the root's digest.
const KEPT_HEAD: usize = 8 + DIGEST;
const DIGEST: usize = 32;

/// A block of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Place {
    /// Leaves are level 0.
    level: usize,
    at: usize,
}

/// Where every block of a file is.
#[derive(Debug)]
pub struct Layout {
    bytes: u64,
    leaves: Vec<Digest>,
    /// From the level above the leaves up to the root; none where one leaf is all.
    levels: Vec<Vec<Inner>>,
    /// The first place of each digest.
    places: HashMap<Digest, Place>,
}

#[derive(Debug)]
struct Inner {
    cid: Cid,
    block: Bytes,
    /// What a link to it states: its block and all blocks below.
    total: u64,
}

/// Lays a file out as its bytes come.
#[derive(Default)]
pub struct Layouter {
    bytes: u64,
    leaf: Sha256,
    leaves: Vec<Digest>,
}

impl Layouter {
    pub fn update(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let filled = (self.bytes % LEAF as u64) as usize;
            let (now, rest) = bytes.split_at(bytes.len().min(LEAF - filled));
            self.leaf.update(now);
            self.bytes += now.len() as u64;
            if filled + now.len() == LEAF {
                self.end_leaf();
            }
            bytes = rest;
        }
    }

    pub fn finish(mut self) -> Layout {
        if !self.bytes.is_multiple_of(LEAF as u64) || self.bytes == 0 {
            self.end_leaf();
        }
        Layout::new(self.bytes, self.leaves)
    }

    fn end_leaf(&mut self) {
        let digest = std::mem::take(&mut self.leaf).finalize();
        self.leaves.push(Digest::new(digest.into()));
    }
}

/// How many leaves so many bytes have. Nothing is a leaf too.
fn leaves_of(bytes: u64) -> u64 {
    bytes.div_ceil(LEAF as u64).max(1)
}

impl Layout {
    fn new(bytes: u64, leaves: Vec<Digest>) -> Self {
        let mut layout = Self { bytes, leaves, levels: Vec::new(), places: HashMap::new() };
        while layout.count(layout.levels.len()) > 1 {
            let below = layout.levels.len();
            let count = layout.count(below).div_ceil(LINKS);
            let level = (0..count).map(|at| layout.inner(Place { level: below + 1, at })).collect();
            layout.levels.push(level);
        }
        for place in layout.all() {
            layout.places.entry(layout.cid(place).digest).or_insert(place);
        }
        layout
    }

    fn inner(&self, place: Place) -> Inner {
        let children: Vec<_> = self.children(place).map(|child| self.child(child)).collect();
        let below: u64 = children.iter().map(|child| child.total).sum();
        let block = Node::of(children).encode();
        Inner { cid: Cid::of(Codec::DagPb, &block), total: below + block.len() as u64, block }
    }

    fn child(&self, place: Place) -> Child {
        let range = self.range(place);
        let bytes = range.end - range.start;
        let total = if place.level == 0 { bytes } else { self.node(place).total };
        Child { cid: self.cid(place), bytes, total }
    }

    /// Blocks of a level.
    fn count(&self, level: usize) -> usize {
        if level == 0 { self.leaves.len() } else { self.levels[level - 1].len() }
    }

    fn all(&self) -> impl Iterator<Item = Place> + use<> {
        let counts: Vec<_> = (0..=self.levels.len()).map(|level| self.count(level)).collect();
        let places = counts.into_iter().enumerate();
        places.flat_map(|(level, count)| (0..count).map(move |at| Place { level, at }))
    }

    fn node(&self, place: Place) -> &Inner {
        &self.levels[place.level - 1][place.at]
    }

    /// Bytes of the file.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    pub fn root(&self) -> Place {
        Place { level: self.levels.len(), at: 0 }
    }

    pub fn cid(&self, place: Place) -> Cid {
        if place.level == 0 {
            return Cid { codec: Codec::Raw, digest: self.leaves[place.at] };
        }
        self.node(place).cid
    }

    /// The pieces that a file is checked by, in order.
    pub fn leaves(&self) -> impl ExactSizeIterator<Item = (Range<u64>, Digest)> {
        let range = |at| self.range(Place { level: 0, at });
        self.leaves.iter().enumerate().map(move |(at, digest)| (range(at), *digest))
    }

    /// The block of that digest.
    pub fn find(&self, digest: &Digest) -> Option<Place> {
        self.places.get(digest).copied()
    }

    /// The bytes of the file that are in this block or below it.
    pub fn range(&self, place: Place) -> Range<u64> {
        let level = u32::try_from(place.level).expect("a tree has few levels");
        let span = LEAF as u64 * (LINKS as u64).pow(level);
        let from = place.at as u64 * span;
        from..(from + span).min(self.bytes)
    }

    /// A node's block; a leaf's is in the file.
    pub(super) fn block(&self, place: Place) -> Option<Bytes> {
        (place.level > 0).then(|| self.node(place).block.clone())
    }

    fn children(&self, place: Place) -> impl DoubleEndedIterator<Item = Place> + use<> {
        let Place { level, at } = place;
        let children = match level {
            0 => 0..0,
            _ => at * LINKS..((at + 1) * LINKS).min(self.count(level - 1)),
        };
        children.map(move |at| Place { level: level - 1, at })
    }

    /// A block and those below it that hold some of these bytes, each ahead of its children.
    pub(super) fn walk(&self, from: Place, bytes: &Range<u64>) -> Vec<Place> {
        let (mut walked, mut waiting) = (Vec::new(), vec![from]);
        while let Some(place) = waiting.pop() {
            walked.push(place);
            let meets = |child: &Place| {
                let range = self.range(*child);
                !bytes.is_empty() && range.start < bytes.end && bytes.start < range.end
            };
            waiting.extend(self.children(place).rev().filter(meets));
        }
        walked
    }

    /// What is worth keeping: the rest follows from it.
    pub fn kept(&self) -> Vec<u8> {
        let mut kept = Vec::with_capacity(KEPT_HEAD + DIGEST * self.leaves.len());
        kept.extend_from_slice(&self.bytes.to_le_bytes());
        kept.extend_from_slice(self.cid(self.root()).digest.bytes());
        self.leaves.iter().for_each(|leaf| kept.extend_from_slice(leaf.bytes()));
        kept
    }

    /// What was kept, unless it is damaged: the root's digest is over everything else.
    pub fn from_kept(kept: &[u8]) -> Option<Self> {
        let (bytes, rest) = kept.split_first_chunk()?;
        let (root, rest) = rest.split_first_chunk::<DIGEST>()?;
        let (leaves, cut) = rest.as_chunks::<DIGEST>();
        let bytes = u64::from_le_bytes(*bytes);
        if !cut.is_empty() || leaves.len() as u64 != leaves_of(bytes) {
            return None;
        }
        let layout = Self::new(bytes, leaves.iter().map(|leaf| Digest::new(*leaf)).collect());
        (layout.cid(layout.root()).digest.bytes() == root).then_some(layout)
    }
}
