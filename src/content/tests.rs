//! Tables of cases; the CIDs are what `ipfs-unixfs-importer` computes of the same bytes.

use std::sync::Arc;

use bytes::Bytes;

use super::{
    Address, Answer, Ask, AskError, Assembly, Child, Cid, CidError, Codec, Given, LEAF, Layout, Layouter,
    Missing, Node, NodeError, Piece, Reader, Refused, answer, inline,
};

/// Bytes of which no two leaves are alike.
fn bytes(length: usize) -> Vec<u8> {
    (0..length).map(|at| ((at * 7 + (at >> 12) + (at >> 20)) & 255) as u8).collect()
}

fn layout(file: &[u8]) -> Arc<Layout> {
    let mut layouter = Layouter::default();
    // Pieces that no leaf ends with.
    file.chunks(333_333).for_each(|piece| layouter.update(piece));
    Arc::new(layouter.finish())
}

fn root(layout: &Layout) -> Cid {
    layout.cid(layout.root())
}

fn ask(query: &[(&str, &str)], accept: Option<&str>) -> Result<Ask, AskError> {
    let said = |wanted: &str| query.iter().find(|(name, _)| *name == wanted).map(|(_, value)| *value);
    Ask::read(&Given {
        format: said("format"),
        dag_scope: said("dag-scope"),
        entity_bytes: said("entity-bytes"),
        car_version: said("car-version"),
        car_order: said("car-order"),
        car_dups: said("car-dups"),
        accept,
    })
}

/// An answer's whole body.
fn body(file: &[u8], answer: Answer) -> Vec<u8> {
    let length = answer.length;
    let mut body = Vec::new();
    for piece in answer.pieces {
        match piece {
            Piece::Bytes(bytes) => body.extend_from_slice(&bytes),
            Piece::File(range) => body.extend_from_slice(&file[range.start as usize..range.end as usize]),
        }
    }
    assert_eq!(body.len() as u64, length);
    body
}

fn blocks(car: &[u8]) -> Vec<(Cid, Bytes)> {
    let (mut reader, mut blocks) = (Reader::default(), Vec::new());
    for piece in car.chunks(100_000) {
        reader.push(piece);
        while let Some(block) = reader.block().unwrap() {
            blocks.push(block);
        }
    }
    assert!(reader.may_end());
    blocks
}

fn car(file: &[u8], query: &[(&str, &str)]) -> Vec<(Cid, Bytes)> {
    let layout = layout(file);
    let ask = ask(&[&[("format", "car")], query].concat(), None).unwrap();
    blocks(&body(file, answer(&layout, &root(&layout), &ask).unwrap().unwrap()))
}

#[test]
fn files_have_the_cids_that_other_tools_give_them() {
    let cases = [
        (0, "bafkreihdwdcefgh4dqkjv67uzcmw7ojee6xedzdetojuzjevtenxquvyku"),
        (1, "bafkreidogqfzz75tpkmjzjke425xqcrmpcib2p5tg44hnbirumdbpl5adu"),
        (LEAF - 1, "bafkreidmeuzbnbj2pvp4ivzbxsboj7s2oocde7n2hkraouzjqdjxx35gem"),
        (LEAF, "bafkreib623xeitcmfaz3d65oqmlxq5up3jyznqcswl2xkyqfrrjua7cmmy"),
        (LEAF + 1, "bafybeifdc3eoekicfot252lv26uti6qio4vo6za6kjckppqxt7qhnxryym"),
        (5 * LEAF, "bafybeigkitlkzvmlqfzwnvgbiwd3lhrwodjqyoclfrdnxzv3mlnxyuyibq"),
    ];
    for (length, cid) in cases {
        let layout = layout(&bytes(length));
        assert_eq!(root(&layout).to_string(), cid, "{length} bytes");
        assert_eq!(layout.bytes(), length as u64);
        assert_eq!(layout.leaves().len(), length.div_ceil(LEAF).max(1));
        let kept = Layout::from_kept(&layout.kept()).unwrap();
        assert_eq!(root(&kept), root(&layout));
    }
}

#[test]
fn what_was_kept_and_is_damaged_is_not_believed() {
    let kept = layout(&bytes(LEAF + 1)).kept();
    assert_eq!(kept.len(), 8 + 32 * 3);
    for at in 0..kept.len() {
        let mut damaged = kept.clone();
        damaged[at] ^= 1;
        assert!(Layout::from_kept(&damaged).is_none(), "byte {at}");
        assert!(Layout::from_kept(&kept[..at]).is_none(), "{at} bytes");
    }
}

#[test]
fn cids_are_read_in_every_form_that_a_file_may_have() {
    let v1 = "bafybeibm6jg3ux5qumhcn2b3flc3tyu6dmlb4xa7u5bf44yegnrjhc4yeq";
    let raw = "bafkreibm6jg3ux5qumhcn2b3flc3tyu6dmlb4xa7u5bf44yegnrjhc4yeq";
    let cases = [
        ("QmRN6wdp1S2A5EtjW9A3M1vKSBuQQGcgvuhoMUoEz4iiT5", v1),
        (v1, v1),
        ("zb2rhZfjRh2FHHB2RkHVEvL2vJnCTcu7kwRqgVsf9gpkLgteo", raw),
        ("bafkqaaa", "bafkqaaa"),
        ("bafkqablimvwgy3y", "bafkqablimvwgy3y"),
    ];
    for (text, written) in cases {
        assert_eq!(text.parse::<Address>().unwrap().to_string(), written);
    }
    let refused: [(&str, fn(&CidError) -> bool); 7] = [
        ("", |error| matches!(error, CidError::Malformed { .. })),
        ("nonsense", |error| matches!(error, CidError::Malformed { .. })),
        (&raw[..raw.len() - 1], |error| matches!(error, CidError::Malformed { .. })),
        (&"b".repeat(300), |error| matches!(error, CidError::Malformed { .. })),
        // sha2-512
        (
            "bafkrgqe3ohjcjplc6n4f3fwunlj6upltggn7xqujbsvnvyw764srszz4u4rshq6ztos4chl4plgg4ffyyxnayrtdi5oc4xb2332g645433aeg",
            |error| matches!(error, CidError::Hash { code: 0x13, .. }),
        ),
        // dag-cbor
        ("bafyreibm6jg3ux5qumhcn2b3flc3tyu6dmlb4xa7u5bf44yegnrjhc4yeq", |error| {
            matches!(error, CidError::Codec { code: 0x71, .. })
        }),
        // dag-pb, inline
        ("bafyaablimvwgy3y", |error| matches!(error, CidError::Inline { .. })),
    ];
    for (text, is) in refused {
        let error = text.parse::<Address>().unwrap_err();
        assert!(is(&error), "{text}: {error:?}");
    }
}

#[test]
fn how_is_said_by_the_query_and_else_by_accept() {
    let cases: [(&[(&str, &str)], Option<&str>, &str); 15] = [
        (&[("format", "raw")], None, "format=raw"),
        (&[("format", "raw")], Some("application/vnd.ipld.car"), "format=raw"),
        (&[("format", "car")], None, "format=car&dag-scope=all&car-dups=n"),
        (&[], Some("application/vnd.ipld.raw"), "format=raw"),
        (&[], Some("text/html, application/vnd.ipld.raw;q=0.5"), "format=raw"),
        (
            &[],
            Some("application/vnd.ipld.car; version=1; order=dfs; dups=y"),
            "format=car&dag-scope=all&car-dups=y",
        ),
        (
            &[],
            Some("application/vnd.ipld.car;order=foo, application/vnd.ipld.car;dups=y;q=0.5"),
            "format=car&dag-scope=all&car-dups=y",
        ),
        (&[], Some("application/vnd.ipld.car;q=0.1,application/vnd.ipld.raw;q=0.2"), "format=raw"),
        (
            &[("car-dups", "n")],
            Some("application/vnd.ipld.car;dups=y"),
            "format=car&dag-scope=all&car-dups=n",
        ),
        (
            &[("format", "car")],
            Some("application/vnd.ipld.car;dups=y"),
            "format=car&dag-scope=all&car-dups=y",
        ),
        (&[("format", "car"), ("dag-scope", "block")], None, "format=car&dag-scope=block&car-dups=n"),
        (
            &[("format", "car"), ("dag-scope", "all"), ("entity-bytes", "0:*")],
            None,
            "format=car&entity-bytes=0:*&car-dups=n",
        ),
        (&[("format", "car"), ("entity-bytes", "-5:-1")], None, "format=car&entity-bytes=-5:-1&car-dups=n"),
        (
            &[("format", "car"), ("car-order", "unk"), ("car-version", "1")],
            None,
            "format=car&dag-scope=all&car-dups=n",
        ),
        (&[("format", "car")], Some("text/html"), "format=car&dag-scope=all&car-dups=n"),
    ];
    for (query, accept, wanted) in cases {
        let ask = ask(query, accept).unwrap_or_else(|error| panic!("{query:?} {accept:?}: {error}"));
        assert_eq!(ask.query(), wanted, "{query:?} {accept:?}");
    }
    let refused: [(&[(&str, &str)], Option<&str>, fn(&AskError) -> bool); 13] = [
        (&[], None, |error| *error == AskError::Unsaid),
        (&[], Some("*/*"), |error| *error == AskError::Unsaid),
        (&[], Some("text/html"), |error| matches!(error, AskError::Unserved(_))),
        (&[], Some("application/vnd.ipld.raw;q=0"), |error| matches!(error, AskError::Unserved(_))),
        (&[], Some("application/vnd.ipld.car;version=2"), |error| matches!(error, AskError::Unserved(_))),
        (&[("format", "tar")], None, |error| matches!(error, AskError::Unserved(_))),
        (&[("format", "car"), ("car-version", "2")], None, |error| matches!(error, AskError::Unserved(_))),
        (&[("format", "car"), ("car-order", "bfs")], None, |error| matches!(error, AskError::Unserved(_))),
        (&[("format", "car"), ("car-dups", "x")], None, |error| matches!(error, AskError::Malformed { .. })),
        (&[("format", "car"), ("dag-scope", "x")], None, |error| matches!(error, AskError::Malformed { .. })),
        (&[("format", "car"), ("entity-bytes", "5")], None, |error| {
            matches!(error, AskError::Malformed { .. })
        }),
        (&[("format", "car"), ("entity-bytes", "*:5")], None, |error| {
            matches!(error, AskError::Malformed { .. })
        }),
        (&[("format", "car"), ("entity-bytes", "0:99999999999999999999")], None, |error| {
            matches!(error, AskError::Malformed { .. })
        }),
    ];
    for (query, accept, is) in refused {
        let error = ask(query, accept).unwrap_err();
        assert!(is(&error), "{query:?} {accept:?}: {error:?}");
    }
}

#[test]
fn a_car_has_what_the_scope_and_the_range_need_and_no_more() {
    let file = bytes(3 * LEAF + 5);
    let m = i64::try_from(LEAF).unwrap();
    // The leaves that come behind the root.
    let cases: [(&[(&str, &str)], &[usize]); 12] = [
        (&[], &[0, 1, 2, 3]),
        (&[("dag-scope", "entity")], &[0, 1, 2, 3]),
        (&[("dag-scope", "block")], &[]),
        (&[("entity-bytes", "0:*")], &[0, 1, 2, 3]),
        (&[("entity-bytes", "0:0")], &[0]),
        (&[("entity-bytes", &format!("{}:{}", m - 1, m))], &[0, 1]),
        (&[("entity-bytes", &format!("{m}:{}", 2 * m - 1))], &[1]),
        (&[("entity-bytes", "-5:*")], &[3]),
        (&[("entity-bytes", "-6:-6")], &[2]),
        (&[("entity-bytes", "-99999999:-1")], &[0, 1, 2, 3]),
        (&[("entity-bytes", &format!("{}:99999999", 3 * m))], &[3]),
        (&[("entity-bytes", "5:4")], &[]),
    ];
    let all = car(&file, &[]);
    for (query, leaves) in cases {
        let found = car(&file, query);
        let wanted: Vec<_> = [0].into_iter().chain(leaves.iter().map(|leaf| leaf + 1)).collect();
        assert_eq!(found.len(), wanted.len(), "{query:?}");
        for (block, wanted) in found.iter().zip(wanted) {
            assert!(*block == all[wanted], "{query:?}: {}", block.0);
            assert!(block.0.names(&block.1));
        }
    }
    for outside in ["3145733:*", "9999999:99999999", "-9999999:-9999998"] {
        let layout = layout(&file);
        let ask = ask(&[("format", "car"), ("entity-bytes", outside)], None).unwrap();
        assert!(
            matches!(answer(&layout, &root(&layout), &ask), Err(AskError::Malformed { .. })),
            "{outside}"
        );
    }
}

#[test]
fn the_same_block_comes_once_or_as_often_as_it_is_there() {
    let file = vec![7; 3 * LEAF];
    assert_eq!(car(&file, &[]).len(), 2);
    assert_eq!(car(&file, &[("car-dups", "y")]).len(), 4);
}

#[test]
fn more_leaves_than_a_node_has_links_make_another_level() {
    // 1,025 leaves by their digests alone.
    let mut kept = ((1024 * LEAF + 1) as u64).to_le_bytes().to_vec();
    let leaves: Vec<_> = (0..1025u64).map(|at| Cid::of(Codec::Raw, &at.to_le_bytes()).digest).collect();
    let inner = |range: std::ops::Range<usize>| {
        let child = |at: usize| {
            let bytes = if at == 1024 { 1 } else { LEAF as u64 };
            Child { cid: Cid { codec: Codec::Raw, digest: leaves[at] }, bytes, total: bytes }
        };
        Node::of(range.map(child).collect())
    };
    let child = |node: &Node| {
        let block = node.encode();
        let total = block.len() as u64 + node.bytes;
        Child { cid: Cid::of(Codec::DagPb, &block), bytes: node.bytes, total }
    };
    // The last leaf has a node of its own, so that all are as deep.
    let top = Node::of(vec![child(&inner(0..1024)), child(&inner(1024..1025))]).encode();
    kept.extend_from_slice(Cid::of(Codec::DagPb, &top).digest.bytes());
    for leaf in &leaves {
        kept.extend_from_slice(leaf.bytes());
    }
    let layout = Arc::new(Layout::from_kept(&kept).unwrap());
    assert_eq!(layout.bytes(), 1024 * LEAF as u64 + 1);
    let last = ask(&[("format", "car"), ("entity-bytes", "-1:*")], None).unwrap();
    let answer = answer(&layout, &root(&layout), &last).unwrap().unwrap();
    let sent: Vec<_> = answer.pieces.filter(|piece| matches!(piece, Piece::File(_))).collect();
    assert_eq!(sent, [Piece::File(1024 * LEAF as u64..1024 * LEAF as u64 + 1)]);
}

#[test]
fn a_block_is_answered_by_its_digest_and_a_leaf_is_no_node() {
    let file = bytes(2 * LEAF);
    let layout = layout(&file);
    let (raw, whole) = (ask(&[("format", "raw")], None).unwrap(), ask(&[("format", "car")], None).unwrap());
    let top = root(&layout);
    let (range, leaf) = layout.leaves().nth(1).unwrap();
    let leaf = Cid { codec: Codec::Raw, digest: leaf };
    let part = body(&file, answer(&layout, &leaf, &raw).unwrap().unwrap());
    assert!(part == file[range.start as usize..]);
    let node = body(&file, answer(&layout, &top, &raw).unwrap().unwrap());
    assert!(top.names(&node));
    let plain = Cid { codec: Codec::Raw, ..top };
    assert_eq!(
        blocks(&body(&file, answer(&layout, &plain, &whole).unwrap().unwrap())),
        [(plain, node.into())]
    );
    let false_node = Cid { codec: Codec::DagPb, ..leaf };
    let strange = Cid::of(Codec::Raw, b"elsewhere");
    for absent in [false_node, strange] {
        assert!(answer(&layout, &absent, &raw).unwrap().is_none());
        assert!(answer(&layout, &absent, &whole).unwrap().is_none());
    }
}

#[test]
fn inline_cids_are_their_own_answer() {
    let address: Address = "bafkqablimvwgy3y".parse().unwrap();
    let Address::Inline(bytes) = &address else { panic!("{address:?}") };
    let raw = inline(&address, bytes, &ask(&[("format", "raw")], None).unwrap());
    assert_eq!(body(&[], raw), b"hello");
    let car = inline(&address, bytes, &ask(&[("format", "car")], None).unwrap());
    assert_eq!(blocks(&body(&[], car)), []);
}

/// Feeds blocks until one is refused, and gives what was written.
fn assemble(root: Cid, limit: u64, blocks: &[(Cid, Bytes)]) -> Result<(Vec<u8>, Missing), Refused> {
    let mut assembly = Assembly::new(root, limit);
    let mut file = Vec::new();
    for (cid, block) in blocks {
        for write in assembly.accept(cid, block)?.unwrap_or_default() {
            let at = write.at as usize;
            file.resize(file.len().max(at + write.bytes.len()), 0);
            file[at..at + write.bytes.len()].copy_from_slice(&write.bytes);
        }
    }
    assert!(assembly.present() <= assembly.bytes().unwrap_or_default());
    Ok((file, assembly.missing()))
}

#[test]
fn a_file_comes_together_from_a_car_and_what_is_missing_is_told() {
    for length in [0, 1, LEAF, LEAF + 1, 3 * LEAF + 5] {
        let file = bytes(length);
        let (cid, blocks) = (root(&layout(&file)), car(&file, &[]));
        assert!(assemble(cid, 1 << 30, &blocks) == Ok((file.clone(), Missing::Nothing)), "{length}");
        let (_, missing) = assemble(cid, 1 << 30, &blocks[..blocks.len() - 1]).unwrap();
        match blocks.len() {
            1 => assert_eq!(missing, Missing::All),
            count => assert_eq!(missing, Missing::Bytes((count as u64 - 2) * LEAF as u64..length as u64)),
        }
    }
    // The same bytes everywhere: one block fills every place.
    let file = vec![7; 3 * LEAF];
    assert!(assemble(root(&layout(&file)), 1 << 30, &car(&file, &[])) == Ok((file, Missing::Nothing)));
}

#[test]
fn nodes_of_other_chunkers_are_read_too() {
    let leaf = |text: &'static [u8]| Node { inline: text.into(), children: vec![], bytes: text.len() as u64 };
    let (one, two) = (leaf(b"one ").encode(), leaf(b"two").encode());
    let child = |block: &Bytes, bytes| Child { cid: Cid::of(Codec::DagPb, block), bytes, total: 0 };
    let mut top = Node::of(vec![child(&one, 4), child(&two, 3), child(&one, 4)]);
    top.inline = "head ".into();
    top.bytes += 5;
    let top = top.encode();
    let named = |block: &Bytes| (Cid::of(Codec::DagPb, block), block.clone());
    let blocks = [named(&top), named(&two), named(&one)];
    let (file, missing) = assemble(blocks[0].0, 100, &blocks).unwrap();
    assert_eq!((file.as_slice(), missing), (&b"head one twoone "[..], Missing::Nothing));
}

#[test]
fn what_is_on_the_disk_already_is_not_asked_for_again() {
    let file = bytes(3 * LEAF);
    let blocks = car(&file, &[]);
    let mut assembly = Assembly::new(blocks[0].0, 1 << 30);
    assert_eq!((assembly.next_node(), assembly.missing()), (Some(blocks[0].0), Missing::All));
    assembly.accept(&blocks[0].0, &blocks[0].1).unwrap();
    assert_eq!(assembly.next_node(), None);
    let leaves = assembly.leaves();
    assert_eq!(leaves.len(), 3);
    for (range, _) in [&leaves[0], &leaves[2]] {
        assembly.found(range.start);
    }
    assert_eq!(assembly.missing(), Missing::Bytes(LEAF as u64..2 * LEAF as u64));
    assert_eq!(assembly.present(), 2 * LEAF as u64);
    // A gateway that knows no ranges sends all of it.
    assert!(assembly.accept(&blocks[1].0, &blocks[1].1).unwrap().is_none());
    assert_eq!(assembly.accept(&blocks[2].0, &blocks[2].1).unwrap().unwrap().len(), 1);
    assert_eq!(assembly.missing(), Missing::Nothing);
}

#[test]
fn a_block_that_is_wrong_or_unwanted_or_too_large_is_refused() {
    let blocks = car(&bytes(2 * LEAF), &[]);
    let (top, other) = (blocks[0].0, car(&bytes(5), &[]).remove(0));
    let wrong = (top, Bytes::from_static(b"wrong"));
    assert_eq!(assemble(top, 1 << 30, &[wrong]), Err(Refused::Wrong { cid: top }));
    assert_eq!(assemble(top, 1 << 30, std::slice::from_ref(&other)), Err(Refused::Extra { cid: other.0 }));
    // Ahead of what links to it.
    assert_eq!(assemble(top, 1 << 30, &blocks[1..]), Err(Refused::Extra { cid: blocks[1].0 }));
    let large = Bytes::from(vec![0; super::BLOCK_MAX + 1]);
    let named = Cid::of(Codec::Raw, &large);
    assert!(matches!(assemble(named, 1 << 30, &[(named, large)]), Err(Refused::Large { .. })));
}

/// The error that a file's root gives.
fn told(block: Bytes) -> String {
    let cid = Cid::of(Codec::DagPb, &block);
    match assemble(cid, 1000, &[(cid, block)]) {
        Err(Refused::Dag(error)) => error.to_string(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_cid_that_means_no_file_is_told_as_that() {
    let leaf = Cid::of(Codec::Raw, b"leaf");
    let child = |bytes| Child { cid: leaf, bytes, total: bytes };
    let with = |bytes: u64, inline: &'static [u8]| {
        let node = Node { inline: inline.into(), bytes, ..Node::of(vec![child(4)]) };
        node.encode()
    };
    let cases = [
        (Bytes::from_static(b"\x0a\x02\x08\x01"), "it is a folder"),
        (Bytes::from_static(b"\x0a\x02\x08\x05"), "it is a folder"),
        (Bytes::from_static(b"\x0a\x02\x08\x04"), "UnixFS of type 4"),
        (Bytes::from_static(b""), "it states none"),
        (Bytes::from_static(b"\x1a\x00"), "field 3 is none of its fields"),
        (Bytes::from_static(b"\x0a\x7f\x08\x02"), "is cut off"),
        (Bytes::from_static(b"\x12\x00\x0a\x02\x08\x02"), "1 links have 0 sizes"),
        (Bytes::from_static(b"\xff\xff\xff"), "no dag-pb node"),
        (with(5, b""), "sizes do not fit"),
        (with(4, b"inline"), "sizes do not fit"),
        (Node::of(vec![child(4), child(0)]).encode(), "leads to no bytes"),
        (Node::of(vec![child(u64::MAX)]).encode(), "over the limit of 1000"),
        (Node::of(vec![child(1); 8193]).encode(), "more than 8192 links"),
        (Node::of(vec![child(1001)]).encode(), "1001 bytes, over the limit of 1000"),
    ];
    for (block, says) in cases {
        let told = told(block);
        assert!(told.contains(says), "{told}: {says}");
    }
    // Its link says four bytes.
    let top = Node::of(vec![Child { cid: Cid::of(Codec::Raw, b"five!"), bytes: 4, total: 4 }]).encode();
    let blocks = [(Cid::of(Codec::DagPb, &top), top), (Cid::of(Codec::Raw, b"five!"), "five!".into())];
    assert!(
        matches!(assemble(blocks[0].0, 1000, &blocks), Err(Refused::Dag(error)) if error.to_string().contains("has 5 bytes"))
    );
}

#[test]
fn a_dag_may_be_neither_too_deep_nor_too_large() {
    let mut node = Node { inline: "x".into(), children: vec![], bytes: 1 };
    let mut blocks = Vec::new();
    for _ in 0..18 {
        let block = node.encode();
        let cid = Cid::of(Codec::DagPb, &block);
        node = Node::of(vec![Child { cid, bytes: 1, total: 1 }]);
        blocks.insert(0, (cid, block));
    }
    let error = assemble(blocks[0].0, 1000, &blocks).unwrap_err();
    assert!(error.to_string().contains("nodes deep"), "{error}");
    assert!(assemble(blocks[1].0, 1000, &blocks[1..]).is_ok());
    // One node, linked to over and over: 8,192 times 8,192 blocks.
    let level = |cid, bytes| Node::of(vec![Child { cid, bytes, total: 1 }; 8192]);
    let leaf = Cid::of(Codec::Raw, b"x");
    let low = level(leaf, 1);
    let low_cid = Cid::of(Codec::DagPb, &low.encode());
    let top = level(low_cid, 8192).encode();
    let blocks = [(Cid::of(Codec::DagPb, &top), top), (low_cid, low.encode())];
    let error = assemble(blocks[0].0, 1 << 30, &blocks).unwrap_err();
    assert!(error.to_string().contains("more than 262144 blocks"), "{error}");
}

#[test]
fn a_node_is_read_as_it_was_written() {
    let cid = Cid::of(Codec::Raw, b"leaf");
    let node = Node { inline: "in".into(), children: vec![Child { cid, bytes: 4, total: 9 }; 3], bytes: 14 };
    assert_eq!(Node::decode(node.encode()), Ok(node));
    assert!(matches!(Node::decode(Bytes::from_static(b"\x0a\x02\x08\x01")), Err(NodeError::Folder)));
}

#[test]
fn a_car_that_is_none_is_refused() {
    let file = bytes(5);
    let layout = layout(&file);
    let whole = ask(&[("format", "car")], None).unwrap();
    let good = body(&file, answer(&layout, &root(&layout), &whole).unwrap().unwrap());
    let mut version_2 = good.clone();
    let at = version_2.windows(7).position(|window| window == b"version").unwrap() + 7;
    version_2[at] = 2;
    let head = good.len() - 5 - 36 - 1;
    let with = |tail: &[u8]| [&good[..head], tail].concat();
    let sha3 = [&[37, 1, 0x55, 0x16, 0x20][..], &[0; 32], b"x"].concat();
    let cases = [
        (vec![0], "a length that is no number"),
        (vec![0xff; 11], "a length that is no number"),
        (vec![0xff, 0x7f], "a header of 16383 bytes"),
        (vec![3, 0xa0, 0, 0], "a header that is none"),
        (version_2, "a header of version 2"),
        (with(&[0xff, 0xff, 0xff, 0x7f]), "a block of 268435455 bytes"),
        (with(&[0]), "a length that is no number"),
        (with(&[2, 1, 0x55]), "not understood"),
        (with(&sha3), "hash function 0x16"),
    ];
    for (car, says) in cases {
        let mut reader = Reader::default();
        reader.push(&car);
        let mut read = || loop {
            match reader.block() {
                Ok(Some(_)) => {}
                other => return other,
            }
        };
        let error = read().unwrap_err().to_string();
        assert!(error.contains(says), "{error}: {says}");
    }
    for cut in 1..good.len() {
        let mut reader = Reader::default();
        reader.push(&good[..cut]);
        assert_eq!(reader.block().unwrap(), None, "{cut} bytes");
        assert_eq!(reader.may_end(), cut == head, "{cut} bytes");
    }
}
