//! The fuzzer's corpus, replayed: what it once found stays found.

use std::path::Path;

use crate::{archives, blocks, properties};

#[test]
fn the_corpus_holds_no_surprise() {
    let properties = [
        ("archive", archives::archive as fn(&[u8])),
        ("car", blocks::car),
        ("control", properties::control),
        ("cut", properties::cut),
        ("dagpb", blocks::dagpb),
        ("frame", properties::frame),
        ("gguf", properties::gguf),
        ("jwt", properties::jwt),
        ("oip", properties::oip),
        ("onnx", properties::onnx),
        ("precision", properties::precision),
        ("safetensors", properties::safetensors),
        ("torch", properties::torch),
        ("tree", blocks::tree),
        ("websocket", properties::websocket),
    ];
    for (target, property) in properties {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fuzz/corpus").join(target);
        let files: Vec<_> =
            std::fs::read_dir(&folder).expect("a corpus").map(|file| file.expect("a file").path()).collect();
        assert!(files.len() >= 5, "{} files in {}", files.len(), folder.display());
        for file in files {
            property(&std::fs::read(&file).unwrap_or_else(|error| panic!("{}: {error}", file.display())));
        }
    }
}
