//! What must hold for any archive whatever: no name leads out of it, and no more comes out than may.

use std::{collections::BTreeMap, fs, io::Write};

use flate2::{Compression, write::GzEncoder};

use crate::source::archive::{Form, Unpack};

/// Bytes that may come out of one.
const LIMIT: u64 = 1 << 14;

/// A zip, a tar, or a compressed tar.
pub(crate) fn archive(input: &[u8]) {
    let Some((kind, bytes)) = input.split_first() else { return };
    match kind % 3 {
        0 => opened(Form::Zip, bytes),
        1 => opened(Form::TarGz, bytes),
        _ => {
            let mut compressed = GzEncoder::new(Vec::new(), Compression::none());
            compressed.write_all(bytes).expect("into memory");
            opened(Form::TarGz, &compressed.finish().expect("into memory"));
        }
    }
}

fn opened(form: Form, bytes: &[u8]) {
    let folder = tempfile::tempdir().expect("a folder");
    let (archive, out) = (folder.path().join("archive"), folder.path().join("out"));
    fs::write(&archive, bytes).expect("a file");
    fs::create_dir(&out).expect("a folder");
    let unpack = Unpack { archive: &archive, limit: LIMIT };
    let Ok(names) = unpack.names(form) else { return };
    for name in &names {
        assert!(
            !name.starts_with(['/', '\\']) && !name.split(['/', '\\']).any(|part| part == ".."),
            "{name:?}"
        );
    }
    let targets = names.iter().take(4).enumerate();
    let wanted: BTreeMap<_, _> =
        targets.map(|(number, name)| (name.clone(), out.join(number.to_string()))).collect();
    let taken = unpack.take(form, &wanted);
    let mut came = 0;
    for file in fs::read_dir(&out).expect("a folder") {
        let file = file.expect("a file");
        assert!(
            wanted.values().any(|target| *target == file.path()),
            "nobody wanted {}",
            file.path().display()
        );
        came += file.metadata().expect("a file").len();
    }
    assert!(came <= LIMIT, "{came} bytes");
    if taken.is_ok() {
        assert!(wanted.values().all(|target| target.is_file()), "{names:?}");
    }
    assert_eq!(fs::read_dir(folder.path()).expect("a folder").count(), 2, "nothing lies beside");
}
