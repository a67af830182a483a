//! Joining and splitting, as tables.

use super::{join, rows, split};
use crate::domain::{Body, Datatype, Dim, Port, Signature, Tensor};

fn tensor(name: &str, datatype: Datatype, shape: &[u64], body: impl Into<Body>) -> Tensor {
    Tensor { name: name.to_owned(), datatype, shape: shape.to_vec(), body: body.into() }
}

/// Rows of two bytes.
fn pairs(bytes: &[u8]) -> Tensor {
    tensor("x", Datatype::Uint8, &[bytes.len() as u64 / 2, 2], bytes.to_vec())
}

fn texts(words: &[&str]) -> Vec<u8> {
    words.iter().flat_map(|word| [&(word.len() as u32).to_le_bytes(), word.as_bytes()].concat()).collect()
}

#[test]
fn requests_are_joined_along_the_first_axis_without_a_copy() {
    let mask = |bytes: &[u8]| tensor("mask", Datatype::Bool, &[bytes.len() as u64], bytes.to_vec());
    let first = [pairs(&[1, 2]), mask(&[1])];
    // Inputs have names, not an order.
    let second = [mask(&[0, 1]), pairs(&[3, 4, 5, 6])];
    let joined = join(&[&first, &second]);
    assert_eq!(joined, [pairs(&[1, 2, 3, 4, 5, 6]), mask(&[1, 0, 1])]);
    let parts: Vec<_> = joined[0].body.parts().iter().map(|part| part.as_ptr()).collect();
    let given = [&first[0], &second[1]].map(|tensor| tensor.body.parts()[0].as_ptr());
    assert_eq!(parts, given, "the parts are the requests' own memory");
    assert_eq!((rows(&first), rows(&second), rows(&joined), rows(&[])), (1, 2, 3, 0));
}

#[test]
fn outputs_are_split_into_the_requests_own() {
    let y = |shape: &[u64], bytes: &[u8]| tensor("y", Datatype::Uint8, shape, bytes.to_vec());
    let cases: [(Tensor, &[u64], Vec<Tensor>); 5] = [
        (pairs(&[1, 2, 3, 4, 5, 6]), &[1, 2], vec![pairs(&[1, 2]), pairs(&[3, 4, 5, 6])]),
        (y(&[2], &[7, 8]), &[1, 1], vec![y(&[1], &[7]), y(&[1], &[8])]),
        (y(&[2, 0], &[]), &[1, 1], vec![y(&[1, 0], &[]), y(&[1, 0], &[])]),
        (
            tensor("t", Datatype::Bytes, &[3, 2], texts(&["a", "", "ccc", "dd", "e", "f"])),
            &[2, 1],
            vec![
                tensor("t", Datatype::Bytes, &[2, 2], texts(&["a", "", "ccc", "dd"])),
                tensor("t", Datatype::Bytes, &[1, 2], texts(&["e", "f"])),
            ],
        ),
        (
            tensor("t", Datatype::Bytes, &[2, 0], Vec::new()),
            &[1, 1],
            vec![
                tensor("t", Datatype::Bytes, &[1, 0], Vec::new()),
                tensor("t", Datatype::Bytes, &[1, 0], Vec::new()),
            ],
        ),
    ];
    for (output, rows, wanted) in cases {
        let parts = split(std::slice::from_ref(&output), rows).expect("a good output");
        assert_eq!(parts, wanted.into_iter().map(|tensor| vec![tensor]).collect::<Vec<_>>(), "{output:?}");
    }
    let both = split(&[pairs(&[1, 2, 3, 4]), y(&[2], &[7, 8])], &[1, 1]).expect("two outputs");
    assert_eq!(both[1], [pairs(&[3, 4]), y(&[1], &[8])]);
}

#[test]
fn outputs_of_another_length_belong_to_nobody() {
    let cases = [
        (pairs(&[1, 2]), "of a step of 2 rows has shape [1, 2]"),
        (tensor("x", Datatype::Uint8, &[], vec![1]), "has shape []"),
        (tensor("x", Datatype::Uint8, &[2, 2], vec![1, 2, 3]), "takes 4 bytes, 3 came"),
        (tensor("x", Datatype::Bytes, &[2], vec![9, 0, 0, 0, 1]), "a length points beyond"),
    ];
    for (output, says) in cases {
        let refused = split(&[output], &[1, 1]).expect_err(says);
        assert!(refused.contains(says), "{refused}");
    }
}

/// Dimensions as `n`, `4` or `?`.
fn ports(ports: &[&str]) -> Vec<Port> {
    let dim = |text: &str| match text.parse() {
        Ok(size) => Dim::Fixed(size),
        Err(_) if text == "?" => Dim::Free(None),
        Err(_) => Dim::Symbol(text.to_owned()),
    };
    let port = |(at, dims): (usize, &&str)| Port {
        name: at.to_string(),
        datatype: Datatype::Fp32,
        shape: dims.split_whitespace().map(dim).collect(),
    };
    ports.iter().enumerate().map(port).collect()
}

#[test]
fn the_batch_axis_is_the_first_of_everything_and_nothing_else() {
    let cases: [(&[&str], &[&str], Option<&str>); 16] = [
        (&["n 4"], &["n 4"], Some("n")),
        // magika: the exporter names each port's dimensions anew.
        (&["unk__214 2048"], &["unk__215 214"], Some("unk__214")),
        (&["n 4"], &["? 4"], Some("n")),
        (&["n s", "n s", "n"], &["n s 8", "n"], Some("n")),
        (&["n s"], &["s 8"], None),
        (&["n"], &["n"], None),
        (&["n 4"], &["4"], None),
        (&["n 4"], &[""], None),
        (&["n n"], &["n n"], None),
        (&["n 4"], &["n n"], None),
        (&["n 4", "4"], &["n 4"], None),
        (&["n 4", ""], &["n 4"], None),
        (&["n 4", "m 4"], &["n 4"], None),
        (&["? 4"], &["? 4"], None),
        // silero-VAD: its state's batch is the second axis.
        (&["batch 576", "2 batch 128", ""], &["batch 1", "2 batch 128"], None),
        (&[], &["n 4"], None),
    ];
    for (inputs, outputs, wanted) in cases {
        let signature = Signature { inputs: ports(inputs), outputs: ports(outputs) };
        assert_eq!(signature.batch_symbol(), wanted, "{inputs:?} {outputs:?}");
    }
}
