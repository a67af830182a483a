//! What the gateway answers, as pieces of known length: nothing of the file is read before it is sent.

use std::{collections::HashSet, ops::Range, sync::Arc};

use bytes::Bytes;

use super::{
    ask::{Ask, AskError, Format, Scope},
    car,
    cid::{Address, Cid, Codec},
    layout::{Layout, Place},
};

/// Bytes that are there, or a range of the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Piece {
    Bytes(Bytes),
    File(Range<u64>),
}

pub struct Answer {
    pub content_type: &'static str,
    /// Without quotes.
    pub etag: String,
    pub length: u64,
    pub pieces: Box<dyn Iterator<Item = Piece> + Send>,
}

/// What is asked for of a file; nothing when the block is not one that its CID could mean.
pub fn answer(layout: &Arc<Layout>, cid: &Cid, ask: &Ask) -> Result<Option<Answer>, AskError> {
    let Some(place) = layout.find(&cid.digest) else { return Ok(None) };
    // A node may be had as plain bytes; bytes are no node.
    if cid.codec == Codec::DagPb && layout.cid(place).codec == Codec::Raw {
        return Ok(None);
    }
    if ask.format == Format::Raw {
        let piece = body(layout, place);
        return Ok(Some(raw(&Address::Block(*cid), piece)));
    }
    let all = layout.range(place);
    let (scope, bytes) = match ask.entity {
        Some(_) if all.is_empty() => ("block".to_owned(), None),
        Some(entity) => {
            let size = all.end - all.start;
            let part = entity.within(size).ok_or_else(|| AskError::Malformed {
                name: "entity-bytes",
                value: ask.query(),
                wanted: "a range that begins or ends within the file",
            })?;
            (
                format!("entity.{}-{}", part.start, part.end),
                Some(all.start + part.start..all.start + part.end),
            )
        }
        None if ask.scope == Scope::Block => ("block".to_owned(), None),
        None => (ask.scope.name().to_owned(), Some(all)),
    };
    let places = match bytes {
        // Bytes that are asked for as such link to nothing.
        Some(bytes) if cid.codec == Codec::DagPb => layout.walk(place, &bytes),
        _ => vec![place],
    };
    Ok(Some(car_of(layout, cid, places, &scope, ask.dups)))
}

/// What is asked for of an inline CID.
pub fn inline(address: &Address, bytes: &Bytes, ask: &Ask) -> Answer {
    if ask.format == Format::Raw {
        return raw(address, Piece::Bytes(bytes.clone()));
    }
    let header = car::header(address);
    Answer {
        content_type: car_type(ask.dups),
        etag: format!("{address}.car"),
        length: header.len() as u64,
        pieces: Box::new(std::iter::once(Piece::Bytes(header))),
    }
}

fn raw(address: &Address, piece: Piece) -> Answer {
    Answer {
        content_type: "application/vnd.ipld.raw",
        etag: format!("{address}.raw"),
        length: piece.length(),
        pieces: Box::new(std::iter::once(piece)),
    }
}

fn car_type(dups: bool) -> &'static str {
    if dups {
        "application/vnd.ipld.car; version=1; order=dfs; dups=y"
    } else {
        "application/vnd.ipld.car; version=1; order=dfs; dups=n"
    }
}

fn car_of(layout: &Arc<Layout>, cid: &Cid, mut places: Vec<Place>, scope: &str, dups: bool) -> Answer {
    if !dups {
        let mut sent = HashSet::new();
        places.retain(|place| sent.insert(layout.cid(*place).digest));
    }
    let header = car::header(&Address::Block(*cid));
    // As it is called by whoever asks, which may be a node taken as plain bytes.
    let (root, root_place) = (*cid, places[0]);
    let layout = layout.clone();
    let pieces = move |place: Place| {
        let cid = if place == root_place { root } else { layout.cid(place) };
        let body = body(&layout, place);
        let prefix = Bytes::from(car::prefix(&cid, body.length()));
        [Piece::Bytes(prefix), body]
    };
    let length = places.iter().flat_map(|place| pieces(*place)).map(|piece| piece.length()).sum::<u64>();
    Answer {
        content_type: car_type(dups),
        etag: format!("{scope}.{}.{cid}.car", if dups { "y" } else { "n" }),
        length: header.len() as u64 + length,
        pieces: Box::new(std::iter::once(Piece::Bytes(header)).chain(places.into_iter().flat_map(pieces))),
    }
}

fn body(layout: &Layout, place: Place) -> Piece {
    match layout.block(place) {
        Some(block) => Piece::Bytes(block),
        None => Piece::File(layout.range(place)),
    }
}

impl Piece {
    pub fn length(&self) -> u64 {
        match self {
            Self::Bytes(bytes) => bytes.len() as u64,
            Self::File(range) => range.end - range.start,
        }
    }
}
