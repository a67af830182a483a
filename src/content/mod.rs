//! Content-addressed blocks: CIDs of files, CARs, and what a trustless gateway answers.
//!
//! Files are laid out as the profile `unixfs-v1-2025` says (IPIP-499), so that the same bytes have the CID that other
//! tools give them.
//! This room computes: it reads no file, asks no server and keeps nothing.

mod answer;
mod ask;
mod car;
mod cid;
mod dagpb;
mod layout;
#[cfg(test)]
mod tests;

pub use self::{
    answer::{Answer, Piece, answer, inline},
    ask::{Ask, AskError, Format, Given},
    car::{CarError, Reader},
    cid::{Address, Cid, CidError, Codec},
    dagpb::{Node, NodeError},
    layout::{LEAF, Layout, Layouter, Place},
};

/// The largest block that is read: what other implementations exchange at most.
pub const BLOCK_MAX: usize = 2 << 20;
