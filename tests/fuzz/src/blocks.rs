//! What must hold for any CAR, any node and any tree of nodes whatever.

use std::sync::Arc;

use bytes::Bytes;

use crate::content::{
    Address, Ask, Assembly, CarError, Child, Cid, Codec, Given, Layouter, Missing, Node, Piece, Reader,
    answer,
};

/// A CAR as it comes, or what a request may say.
pub(crate) fn car(input: &[u8]) {
    let whole = read([input]);
    let cut = usize::from(input.first().copied().unwrap_or_default()) + 1;
    assert_eq!(read(input.chunks(cut)), whole, "the same in pieces of {cut} bytes");
    if let Ok(text) = std::str::from_utf8(input) {
        said(text);
    }
}

type Read = (Vec<(Cid, Bytes)>, Result<bool, CarError>);

/// The blocks up to the end or what is wrong, and whether it may end so.
fn read<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> Read {
    let (mut reader, mut blocks) = (Reader::default(), Vec::new());
    for piece in pieces {
        reader.push(piece);
        loop {
            match reader.block() {
                Ok(Some(block)) => blocks.push(block),
                Ok(None) => break,
                Err(error) => return (blocks, Err(error)),
            }
        }
    }
    (blocks, Ok(reader.may_end()))
}

fn said(text: &str) {
    if let Ok(address) = text.parse::<Address>() {
        assert_eq!(address.to_string().parse(), Ok(address), "{text:?}");
    }
    let file = b"five!";
    let mut layouter = Layouter::default();
    layouter.update(file);
    let layout = Arc::new(layouter.finish());
    let root = layout.cid(layout.root());
    let car = Given { format: Some("car"), ..Given::default() };
    for given in [
        Given { entity_bytes: Some(text), ..car.clone() },
        Given { dag_scope: Some(text), ..car },
        Given { accept: Some(text), ..Given::default() },
    ] {
        let Ok(ask) = Ask::read(&given) else { continue };
        let query = ask.query();
        let again: Vec<_> = query.split('&').filter_map(|pair| pair.split_once('=')).collect();
        let value = |name| again.iter().find(|(of, _)| *of == name).map(|(_, value)| *value);
        let again = Given {
            format: value("format"),
            dag_scope: value("dag-scope"),
            entity_bytes: value("entity-bytes"),
            car_dups: value("car-dups"),
            ..Given::default()
        };
        assert_eq!(Ask::read(&again).as_ref(), Ok(&ask), "{query}");
        let Ok(Some(answer)) = answer(&layout, &root, &ask) else { continue };
        let lengths = answer.pieces.map(|piece| match piece {
            Piece::Bytes(bytes) => bytes.len() as u64,
            Piece::File(range) => {
                assert!(range.start <= range.end && range.end <= file.len() as u64, "{range:?}");
                range.end - range.start
            }
        });
        assert_eq!(lengths.sum::<u64>(), answer.length);
    }
}

/// A node's bytes.
pub(crate) fn dagpb(input: &[u8]) {
    if let Ok(node) = Node::decode(Bytes::copy_from_slice(input)) {
        let parts = node.children.iter().map(|child| child.bytes).sum::<u64>();
        assert_eq!(node.bytes, node.inline.len() as u64 + parts);
        assert!(node.children.iter().all(|child| child.bytes > 0));
        assert_eq!(Node::decode(node.encode()), Ok(node), "what we write we also read");
    }
}

/// Little enough to be put together often, and to stay below the room's limit of blocks at any depth.
const LIMIT: u64 = 1 << 9;

/// What the room allows.
const DEPTH_MAX: usize = 16;

/// A block, and how long the file is that it means when it means one.
struct Built {
    cid: Cid,
    block: Bytes,
    bytes: Option<u64>,
    /// Of a leaf.
    inline: Vec<u8>,
    /// Of a node: the blocks that it links to, by their numbers.
    linked: Vec<usize>,
    /// Nodes with links, from it down to a leaf.
    depth: usize,
}

/// A program that builds good and bad blocks from the leaves up; the last one's file is put together from them.
pub(crate) fn tree(mut program: &[u8]) {
    let mut built: Vec<Built> = Vec::new();
    while let Some((operation, rest)) = program.split_first() {
        let take = usize::from(operation >> 2).min(rest.len());
        let (operands, rest) = rest.split_at(take);
        program = rest;
        built.push(match operation & 3 {
            0 => leaf(operands, Codec::Raw),
            1 => leaf(operands, Codec::DagPb),
            // Its sizes are what its children have, or one more for one of them.
            kind => node(operands, &built, kind == 3),
        });
        if built.len() == 64 {
            break;
        }
    }
    let Some(top) = built.last() else { return };
    let mut assembly = Assembly::new(top.cid, LIMIT);
    let mut file = Vec::new();
    while let Some(wanted) = assembly.next() {
        // A link may lead to a block that nobody has built.
        let Some(found) = built.iter().find(|built| built.cid == wanted) else { return };
        let before = assembly.present();
        let writes = match assembly.accept(&wanted, &found.block) {
            Ok(writes) => writes,
            Err(refused) => {
                assert_eq!(top.bytes, None, "a good file is refused: {refused}");
                return;
            }
        };
        for write in writes.expect("what is missing has not come") {
            let end = write.at as usize + write.bytes.len();
            assert!(end as u64 <= assembly.bytes().expect("the root came first"));
            file.resize(file.len().max(end), 0);
            file[write.at as usize..end].copy_from_slice(&write.bytes);
        }
        assert!(assembly.present() >= before && Some(assembly.present()) <= assembly.bytes());
        if let Missing::Bytes(range) = assembly.missing() {
            assert!(range.start < range.end && Some(range.end) <= assembly.bytes(), "{range:?}");
        }
        assert_eq!(assembly.accept(&wanted, &found.block), Ok(None), "once is enough");
    }
    assert_eq!(assembly.missing(), Missing::Nothing);
    assert_eq!((assembly.present(), assembly.bytes()), (file.len() as u64, Some(file.len() as u64)));
    assert_eq!(top.bytes, Some(file.len() as u64));
    let mut wanted = Vec::new();
    put_together(top, &built, &mut wanted);
    assert!(wanted == file, "the bytes are others");
}

fn put_together(top: &Built, built: &[Built], file: &mut Vec<u8>) {
    file.extend(&top.inline);
    for number in &top.linked {
        put_together(&built[*number], built, file);
    }
}

fn leaf(bytes: &[u8], codec: Codec) -> Built {
    let inline = Bytes::copy_from_slice(bytes);
    let node = Node { inline: inline.clone(), children: Vec::new(), bytes: bytes.len() as u64 };
    let block = if codec == Codec::Raw { inline } else { node.encode() };
    let (cid, inline, linked) = (Cid::of(codec, &block), bytes.to_vec(), Vec::new());
    Built { cid, block, bytes: Some(node.bytes), inline, linked, depth: 0 }
}

/// Links to earlier blocks, by their numbers.
fn node(numbers: &[u8], built: &[Built], wrong: bool) -> Built {
    let numbers = if built.is_empty() { &[] } else { numbers };
    let linked: Vec<_> = numbers.iter().map(|number| usize::from(*number) % built.len()).collect();
    let below = || linked.iter().map(|number| &built[*number]);
    let children = below().map(|built| Child { cid: built.cid, bytes: built.bytes.unwrap_or(1), total: 0 });
    let mut children: Vec<_> = children.collect();
    if let Some(child) = children.last_mut().filter(|_| wrong) {
        child.bytes += 1;
    }
    let depth = below().map(|built| built.depth + 1).max().unwrap_or(0);
    let good = (children.is_empty() || !wrong) && children.iter().all(|child| child.bytes > 0);
    let parts: Option<u64> = below().map(|built| built.bytes).sum();
    // One that is too deep is no file either, and sixty-four blocks may well be.
    let bytes = parts.filter(|bytes| good && *bytes <= LIMIT && depth <= DEPTH_MAX);
    let block = Node::of(children).encode();
    Built { cid: Cid::of(Codec::DagPb, &block), block, bytes, inline: Vec::new(), linked, depth }
}
