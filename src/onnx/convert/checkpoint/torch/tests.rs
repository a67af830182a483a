//! Files that PyTorch wrote, compared with what PyTorch reads from them; and pickles written by hand, to be refused.

use std::{
    collections::BTreeMap,
    io::{Cursor, Write},
    path::Path,
};

use bytes::Bytes;
use serde::Deserialize;
use zip::{CompressionMethod, ZipWriter, write::SimpleFileOptions};

use super::{Checkpoint, MEMBERS_MAX, Stored, TorchCheckpoint, TorchError};
use crate::onnx::convert::{ConvertError, checkpoint::Element};

fn fixture(name: &str) -> Bytes {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/checkpoints/torch").join(name);
    std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display())).into()
}

#[derive(Deserialize)]
struct Expected {
    element: String,
    shape: Vec<u64>,
    bytes: String,
}

fn unhex(text: &str) -> Vec<u8> {
    let byte =
        |pair: &[u8; 2]| u8::from_str_radix(std::str::from_utf8(pair).expect("text"), 16).expect("hex");
    text.as_bytes().as_chunks::<2>().0.iter().map(byte).collect()
}

#[test]
fn what_pytorch_wrote_is_read_as_pytorch_reads_it() {
    let expected: BTreeMap<String, BTreeMap<String, Expected>> =
        serde_json::from_slice(&fixture("expected.json")).expect("expectations");
    assert_eq!(expected.len(), 6);
    for (file, tensors) in expected {
        let checkpoint =
            TorchCheckpoint::open(&fixture(&file)).unwrap_or_else(|error| panic!("{file}: {error}"));
        assert_eq!(
            checkpoint.tensors().keys().collect::<Vec<_>>(),
            tensors.keys().collect::<Vec<_>>(),
            "{file}"
        );
        for (name, expected) in tensors {
            let Stored { element, shape } = &checkpoint.tensors()[&name];
            assert_eq!(
                (format!("{element:?}"), shape),
                (expected.element, &expected.shape),
                "{file}: {name}"
            );
            let bytes = checkpoint.bytes(&name).expect("a tensor");
            assert_eq!(bytes, unhex(&expected.bytes), "{file}: {name}");
        }
    }
}

#[test]
fn weights_are_not_copied_where_they_lie_in_order() {
    let file = fixture("views.pt");
    let checkpoint = TorchCheckpoint::open(&file).expect("a checkpoint");
    let within = |name| {
        let bytes = checkpoint.bytes(name).expect("a tensor");
        file.as_ptr_range().contains(&bytes.as_ptr())
    };
    assert!(within("shared"));
    assert!(!within("transposed"));
}

#[test]
fn files_that_are_no_checkpoint_are_refused_by_name() {
    let cases = [
        ("code.pt", "the pickle would run __builtin__.eval; only weights are read"),
        ("complex.pt", "the pickle would run torch.ComplexFloatStorage; only weights are read"),
        ("legacy.pt", "a bare pickle, which PyTorch wrote before version 1.6"),
        ("several.pt", "several dictionaries of tensors, \"critic\" and \"generator\""),
        ("truncated.pt", "not a readable zip file: "),
        ("damaged.pt", "member \"module/data/0\" is damaged: "),
        ("big.pt", "the weights are stored in \"big\" byte order"),
        ("expected.json", "neither a zip file nor a pickle"),
    ];
    for (name, message) in cases {
        let error = TorchCheckpoint::open(&fixture(name)).expect_err(name).to_string();
        assert!(error.contains(message), "{name}: {error}");
    }
}

#[test]
fn a_weight_that_is_not_there_is_named() {
    let checkpoint = TorchCheckpoint::open(&fixture("module.pt")).expect("a checkpoint");
    assert!(
        matches!(checkpoint.bytes("9.weight"), Err(ConvertError::NoTensor { name }) if name == "9.weight")
    );
}

#[test]
fn weights_in_several_files_are_one_checkpoint() {
    let open = |name| TorchCheckpoint::open(&fixture(name)).expect("a checkpoint");
    let joined = TorchCheckpoint::join([open("module.pt"), open("views.pt")]).expect("no name twice");
    assert_eq!(joined.tensors().len(), 16);
    assert_eq!(
        joined.bytes("0.bias").expect("a tensor"),
        open("module.pt").bytes("0.bias").expect("a tensor")
    );
    let twice = TorchCheckpoint::join([open("module.pt"), open("parameters.pt")]).expect_err("names twice");
    assert_eq!(twice.to_string(), "weight \"0.bias\" is in more than one of the files");
}

/// An archive of these members, in the folder `m`.
fn archive(members: &[(&str, &[u8])], method: CompressionMethod) -> Bytes {
    let mut zip = ZipWriter::new(Cursor::new(Vec::new()));
    for (name, bytes) in members {
        let options = SimpleFileOptions::default().compression_method(method);
        zip.start_file(format!("m/{name}"), options).expect("a member");
        zip.write_all(bytes).expect("its bytes");
    }
    zip.finish().expect("an archive").into_inner().into()
}

/// A pickle of `{"w": tensor}` on a storage of 4 elements, of which the archive holds as many bytes as here.
fn tensor(bytes: usize, offset: &[u8], shape: &[u8], strides: &[u8]) -> Bytes {
    let storage = b"((X\x07\0\0\0storagectorch\nFloatStorage\nX\x01\0\0\x000X\x03\0\0\0cpuK\x04tQ";
    let pickle = [
        b"\x80\x02}X\x01\0\0\0wctorch._utils\n_rebuild_tensor_v2\n".as_slice(),
        storage,
        offset,
        shape,
        strides,
        b"\x89}tRs.",
    ];
    archive(&[("data.pkl", &pickle.concat()), ("data/0", &vec![0; bytes])], CompressionMethod::Stored)
}

#[test]
fn views_beyond_their_storage_are_refused() {
    let good = tensor(16, b"K\x01", b"K\x01K\x03\x86", b"K\x03K\x01\x86");
    let checkpoint = TorchCheckpoint::open(&good).expect("a view within");
    assert_eq!(checkpoint.tensors()["w"], Stored { element: Element::F32, shape: vec![1, 3] });
    assert_eq!(checkpoint.bytes("w").expect("a tensor").len(), 12);
    let beyond = "weight \"w\" reaches beyond its storage";
    let whole = b"\x8a\x08\xff\xff\xff\xff\xff\xff\xff\x7f";
    let cases: Vec<(&str, Bytes, &str)> = vec![
        ("offset", tensor(16, b"K\x02", b"K\x03\x85", b"K\x01\x85"), beyond),
        ("shape", tensor(16, b"K\x00", b"K\x05\x85", b"K\x01\x85"), beyond),
        ("stride", tensor(16, b"K\x00", b"K\x02\x85", b"K\x04\x85"), beyond),
        (
            "overflow",
            tensor(
                16,
                b"K\x00",
                &[whole.as_slice(), b"\x85"].concat(),
                &[whole.as_slice(), b"\x85"].concat(),
            ),
            beyond,
        ),
        ("scalar", tensor(16, b"K\x04", b")", b")"), beyond),
        (
            "bytes",
            tensor(15, b"K\x00", b"K\x01\x85", b"K\x01\x85"),
            "needs 16 bytes of storage \"0\", which has 15",
        ),
        (
            "expanded",
            tensor(16, b"K\x00", b"J\x01\0\0\x01\x85", b"K\x00\x85"),
            "repeats its storage's elements",
        ),
        (
            "negative",
            tensor(16, b"K\x00", b"J\xff\xff\xff\xff\x85", b"K\x01\x85"),
            "not a whole number from 0",
        ),
        ("ranks", tensor(16, b"K\x00", b"K\x01\x85", b")"), "another number of strides"),
        ("no tuple", tensor(16, b"K\x00", b"K\x01", b")"), "no tuple of at most 8"),
    ];
    for (name, file, message) in cases {
        let error = TorchCheckpoint::open(&file).expect_err(name).to_string();
        assert!(error.contains(message), "{name}: {error}");
    }
}

#[test]
fn pickles_that_torch_does_not_write_are_refused() {
    let deep = [b"\x80\x02".as_slice(), &[b'('; 300]].concat();
    let wide = [b"\x80\x02".as_slice(), &vec![b'N'; 70_000]].concat();
    let many = [b"\x80\x02]".as_slice(), &b"(NNNNNNNNe".repeat(70_000), b"."].concat();
    let cases: &[(&str, &[u8], &str)] = &[
        ("empty", b"", "from byte 0: it is cut short"),
        ("cut", b"\x80\x02}", "from byte 3: it is cut short"),
        ("protocol", b"\x80\x04}.", "not of protocol 2"),
        ("code", b"\x80\x02cos\nsystem\nX\x02\0\0\0id\x85R.", "would run os.system;"),
        ("instance", b"\x80\x02(X\x02\0\0\0idios\nsystem\n.", "operation 0x69 at byte 10"),
        ("module", b"\x80\x02ctorch\nload\n.", "would run torch.load;"),
        ("long name", &[b"c".as_slice(), &[b'a'; 4000], b"\nb\n."].concat(), "would run aaaa"),
        ("text", b"\x80\x02X\xff\xff\xff\xffabc.", "it is cut short"),
        ("not UTF-8", b"\x80\x02X\x01\0\0\0\xff.", "a text is not UTF-8"),
        ("no value", b"\x80\x02.", "a value is missing"),
        ("below the mark", b"\x80\x02N(\x85.", "a value is missing"),
        ("no mark", b"\x80\x02Nt.", "a mark is missing"),
        ("left over", b"\x80\x02NN.", "values left over"),
        ("memo", b"\x80\x02h\x01.", "it recalls what it never kept"),
        ("call of a number", b"\x80\x02K\x01)R.", "it calls what cannot be called"),
        ("arguments", b"\x80\x02ccollections\nOrderedDict\nK\x01R.", "arguments that are no tuple"),
        ("other arguments", b"\x80\x02ccollections\nOrderedDict\nK\x01\x85R.", "does not write"),
        ("attributes", b"\x80\x02]}b.", "attributes of something other than a dictionary"),
        ("members", b"\x80\x02)Na.", "members for something that has none"),
        ("odd", b"\x80\x02}(NNNu.", "a key without a value"),
        ("reference", b"\x80\x02NQ.", "refers to something that is no storage"),
        ("number", b"\x80\x02K\x01.", "holds no dictionary of tensors"),
        ("nothing", b"\x80\x02}.", "holds no dictionary of tensors"),
        ("itself", b"\x80\x02}q\0X\x01\0\0\0ah\0s.", "holds no dictionary of tensors"),
        ("deep", &deep, "nested too deeply"),
        ("wide", &wide, "more values at once than a checkpoint needs"),
        ("many", &many, "more values than a checkpoint has"),
    ];
    for (name, pickle, message) in cases {
        let file = archive(&[("data.pkl", pickle)], CompressionMethod::Stored);
        let error = TorchCheckpoint::open(&file).expect_err(name).to_string();
        assert!(error.contains(message), "{name}: {error}");
        assert!(error.len() < 300, "{name}: {error}");
    }
}

#[test]
fn archives_that_torch_does_not_write_are_refused() {
    let pickle: &[u8] = b"\x80\x02}.";
    let packed = archive(&[("data.pkl", &[0; 1000])], CompressionMethod::Deflated);
    let long = archive(&[("data.pkl", &vec![0; super::PICKLE_BYTES_MAX + 1])], CompressionMethod::Stored);
    let names: Vec<_> = (0..=MEMBERS_MAX).map(|at| format!("data/{at}")).collect();
    let many: Vec<_> = names.iter().map(|name| (name.as_str(), pickle)).collect();
    let cases = [
        ("packed", packed, "\"m/data.pkl\" is compressed or encrypted"),
        ("long", long, "a checkpoint's has at most"),
        (
            "elsewhere",
            archive(&[("a/data.pkl", pickle)], CompressionMethod::Stored),
            "no member data.pkl in a folder",
        ),
        ("many", archive(&many, CompressionMethod::Stored), "a checkpoint has at most 100000"),
        ("short", Bytes::from_static(b"PK\x03\x04"), "not a readable zip file"),
        ("empty", Bytes::new(), "neither a zip file nor a pickle"),
    ];
    for (name, file, message) in cases {
        let error = TorchCheckpoint::open(&file).expect_err(name).to_string();
        assert!(error.contains(message), "{name}: {error}");
    }
    let storage = TorchError::NoStorage { tensor: "w".to_owned(), key: "0".to_owned() };
    assert_eq!(storage.to_string(), "weight \"w\" needs storage \"0\", which is missing");
}

#[test]
fn the_dictionary_of_weights_is_found_where_training_scripts_put_it() {
    let inner = b"}X\x01\0\0\0wctorch._utils\n_rebuild_tensor_v2\n((X\x07\0\0\0storagectorch\nFloatStorage\nX\x01\0\0\x000X\x03\0\0\0cpuK\x04tQK\x00K\x04\x85K\x01\x85\x89}tRs";
    let within = |names: &[&str]| {
        let key = |name: &str| [b"X", (name.len() as u32).to_le_bytes().as_slice(), name.as_bytes()].concat();
        let open: Vec<u8> = names.iter().flat_map(|name| [b"}".to_vec(), key(name)].concat()).collect();
        let pickle = [b"\x80\x02".as_slice(), &open, inner, &vec![b's'; names.len()], b"."].concat();
        let file = archive(&[("data.pkl", &pickle), ("data/0", &[0; 16])], CompressionMethod::Stored);
        TorchCheckpoint::open(&file).map(|opened| opened.tensors().len()).map_err(|error| error.to_string())
    };
    assert_eq!(within(&[]), Ok(1));
    assert_eq!(within(&["model"]), Ok(1));
    assert_eq!(within(&["whatever", "model", "state_dict"]), Ok(1));
    let deep = within(&["a", "b", "c", "d"]).expect_err("too deep");
    assert!(deep.contains("holds no dictionary of tensors"), "{deep}");
}
