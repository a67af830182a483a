//! Content addresses and the gateway, as `ipfs-unixfs-importer`, `@ipld/car` and `@helia/verified-fetch` see them.

use std::{collections::HashMap, path::Path};

use weft::content::{Assembly, Layouter, Reader};

use crate::{FOLDER, add, graphs, run, served};

const LEAF: usize = 1 << 20;

/// One leaf more than a node has links.
const TWO_LEVELS: usize = 1024 * LEAF + 1;

/// Whether the packages are there, which `npm ci` brings.
/// Missing ones are a skip by name; in CI, which installs them, they are a failure.
fn there() -> bool {
    let packages = Path::new(FOLDER).join("content/node_modules");
    if packages.is_dir() {
        return true;
    }
    let message = format!("skipped: {} is missing; `make test-setup` brings it", packages.display());
    assert_ne!(std::env::var("CI").as_deref(), Ok("true"), "{message}");
    eprintln!("{message}");
    false
}

async fn node(script: &str, arguments: &[&str]) -> String {
    run(Path::new("node"), &format!("content/{script}"), arguments).await
}

/// The root of the same bytes that the script lays out: each leaf begins with its number.
fn root(size: usize) -> String {
    let mut leaf: Vec<_> = (0..LEAF).map(|at| ((at * 7 + (at >> 12)) & 255) as u8).collect();
    let mut layouter = Layouter::default();
    for (number, from) in (0..size).step_by(LEAF).enumerate() {
        leaf[..4].copy_from_slice(&u32::try_from(number).unwrap().to_le_bytes());
        layouter.update(&leaf[..LEAF.min(size - from)]);
    }
    let layout = layouter.finish();
    layout.cid(layout.root()).to_string()
}

#[tokio::test]
async fn ipfs_unixfs_importer_computes_the_same_cids() {
    if !there() {
        return;
    }
    let sizes = [0, 1, LEAF - 1, LEAF, LEAF + 1, 5 * LEAF, TWO_LEVELS];
    let texts = sizes.map(|size| size.to_string());
    let said = node("cids.mjs", &texts.each_ref().map(String::as_str)).await;
    let ours: Vec<_> = sizes.iter().map(|size| format!("{size} {}\n", root(*size))).collect();
    let ours = ours.concat();
    assert_eq!(said, ours);
}

#[tokio::test]
async fn files_that_others_laid_out_in_the_old_way_are_read() {
    if !there() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("file.car");
    // Two levels, of 174 links and leaves of 256 KiB in nodes, with a CID of version 0.
    let size = 50 * LEAF + 5;
    let said = node("old.mjs", &[&size.to_string(), path.to_str().unwrap()]).await;
    assert!(said.starts_with("Qm"), "{said}");
    let mut reader = Reader::default();
    reader.push(&std::fs::read(&path).unwrap());
    let mut blocks = HashMap::new();
    while let Some((cid, block)) = reader.block().unwrap() {
        blocks.insert(cid, block);
    }
    let mut assembly = Assembly::new(said.trim().parse().unwrap(), 1 << 30);
    let mut file = vec![0; size];
    while let Some(next) = assembly.next() {
        for write in assembly.accept(&next, &blocks[&next]).unwrap().unwrap() {
            file[write.at as usize..][..write.bytes.len()].copy_from_slice(&write.bytes);
        }
    }
    assert_eq!((assembly.present(), assembly.bytes()), (size as u64, Some(size as u64)));
    let mut layouter = Layouter::default();
    layouter.update(&file);
    let layout = layouter.finish();
    assert_eq!(layout.cid(layout.root()).to_string(), root(size));
}

/// A model of so many bytes of description, each leaf of its own.
fn described(bytes: usize) -> Vec<u8> {
    let told: Vec<_> = (0..bytes).map(|at| b' ' + ((at + at / LEAF) % 90) as u8).collect();
    let mut model = graphs::neg();
    model.push(6 << 3 | 2);
    prost::encode_length_delimiter(told.len(), &mut model).unwrap();
    model.extend_from_slice(&told);
    model
}

#[tokio::test]
async fn helias_verified_fetch_and_ipld_car_read_the_gateway() {
    if !there() {
        return;
    }
    let served = served().await;
    let folder = tempfile::tempdir().unwrap();
    for (name, model) in [("small", graphs::neg()), ("large", described(5 * LEAF))] {
        let mut layouter = Layouter::default();
        layouter.update(&model);
        let layout = layouter.finish();
        let (cid, path) = (layout.cid(layout.root()).to_string(), folder.path().join(name));
        std::fs::write(&path, &model).unwrap();
        add(&served.url, name, model).await;
        let said = node("fetch.mjs", &[&served.url, &cid, path.to_str().unwrap()]).await;
        assert_eq!(said, "fetched\n");
    }
    served.stop().await.unwrap();
}
