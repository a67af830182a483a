//! Weights, dense and sparse, here and in other files.

use bytes::Bytes;

use super::{graph, judge, said};
use crate::onnx::{
    build::{constant, integers, model, weights},
    proto::{EXTERNAL, GraphProto, SparseTensorProto, StringStringEntryProto, TensorProto, element},
};

/// A tensor of this type and these dimensions in place of the graph's weight.
fn weight(code: i32, dims: &[i64], fill: impl FnOnce(&mut TensorProto)) -> String {
    let mut graph = graph();
    let mut tensor = weights("v", code, dims);
    fill(&mut tensor);
    graph.initializer.push(tensor);
    said(&model(graph))
}

#[test]
fn a_weight_has_as_many_elements_as_its_shape_takes() {
    let raw = |count: usize| move |tensor: &mut TensorProto| tensor.raw_data = vec![0; count].into();
    let called = "initialiser \"v\" of the graph";
    let cases = [
        (weight(element::FLOAT, &[2, 3], raw(24)), "good".to_owned()),
        (weight(element::FLOAT, &[], raw(4)), "good".to_owned()),
        (weight(element::FLOAT, &[0, i64::MAX, i64::MAX], raw(0)), "good".to_owned()),
        (weight(element::FLOAT, &[2, 3], raw(23)), format!("{called} has 23 bytes, its shape takes 24")),
        (weight(element::FLOAT, &[2, 3], raw(0)), format!("{called} has 0 bytes, its shape takes 24")),
        (weight(element::DOUBLE, &[3], |t| t.double_data = vec![0.0; 3]), "good".to_owned()),
        (weight(element::COMPLEX64, &[3], |t| t.float_data = vec![0.0; 6]), "good".to_owned()),
        (
            weight(element::COMPLEX64, &[3], |t| t.float_data = vec![0.0; 3]),
            format!("{called} has 3 float_data, its shape takes 6"),
        ),
        (weight(element::FLOAT16, &[3], |t| t.int32_data = vec![0; 3]), "good".to_owned()),
        (weight(element::UINT4, &[3], |t| t.int32_data = vec![0; 2]), "good".to_owned()),
        (weight(element::UINT4, &[3], raw(2)), "good".to_owned()),
        (weight(element::INT2, &[5], raw(2)), "good".to_owned()),
        (weight(element::UINT32, &[1], |t| t.uint64_data = vec![0]), "good".to_owned()),
        (
            weight(element::STRING, &[1], |t| t.string_data = vec![Bytes::from_static(b"a")]),
            "good".to_owned(),
        ),
        (weight(element::STRING, &[1], |_| {}), format!("{called} has 0 texts, its shape takes 1")),
        (
            weight(element::STRING, &[1], raw(1)),
            format!("{called} has its elements as raw_data, which its element type does not use"),
        ),
        (
            weight(element::FLOAT, &[1], |t| t.int64_data = vec![0]),
            format!("{called} has its elements as int64_data, which its element type does not use"),
        ),
        (
            weight(element::FLOAT, &[1], |t| {
                t.float_data = vec![0.0];
                t.raw_data = vec![0; 4].into();
            }),
            format!("{called} has its elements in more than one place"),
        ),
        (weight(element::FLOAT, &[-1], raw(4)), format!("{called} has the negative dimension -1")),
        (
            weight(element::FLOAT, &[1 << 40, 1 << 40], raw(4)),
            format!("{called} has more elements than can be counted"),
        ),
        (
            weight(element::FLOAT, &[1 << 62], raw(4)),
            format!("{called} has more elements than can be counted"),
        ),
        (weight(0, &[1], raw(4)), format!("{called} has element type 0, which does not exist")),
        (weight(99, &[1], raw(4)), format!("{called} has element type 99, which does not exist")),
    ];
    for (at, (said, expected)) in cases.into_iter().enumerate() {
        assert_eq!(said, expected, "case {at}");
    }
    judge(&[(
        "a node's constant",
        |g| g.node.push(constant("k", weights("", element::FLOAT, &[2]))),
        "the attribute \"value\" of node 2 (Constant) has 0 bytes, its shape takes 8",
    )]);
}

#[test]
fn sparse_weights_have_an_index_for_each_value() {
    let sparse = |values: i64, indices: &[i64], code| {
        let mut indices = integers("", indices, &vec![0; indices.iter().product::<i64>() as usize]);
        indices.data_type = code;
        let sparse = SparseTensorProto {
            values: Some(TensorProto {
                float_data: vec![1.0; values as usize],
                ..weights("s", element::FLOAT, &[values])
            }),
            indices: Some(indices),
            dims: vec![10, 10],
        };
        said(&model(GraphProto { sparse_initializer: vec![sparse], ..graph() }))
    };
    assert_eq!(sparse(3, &[3], element::INT64), "good");
    assert_eq!(sparse(3, &[3, 2], element::INT64), "good");
    assert!(
        sparse(3, &[2], element::INT64)
            .ends_with("is sparse: its indices do not fit its values and dimensions")
    );
    assert!(sparse(3, &[3, 3], element::INT64).ends_with("its indices do not fit its values and dimensions"));
    let none = SparseTensorProto { dims: vec![1], ..SparseTensorProto::default() };
    let said = said(&model(GraphProto { sparse_initializer: vec![none], ..graph() }));
    assert!(said.ends_with("is sparse: it has no values"), "{said}");
}

#[test]
fn weights_in_other_files_lie_beside_the_model_and_within_them() {
    let external = |entries: &[(&str, &str)]| {
        weight(element::FLOAT, &[5], |tensor| {
            tensor.data_location = EXTERNAL;
            let entry = |(key, value): &(&str, &str)| StringStringEntryProto {
                key: (*key).into(),
                value: (*value).into(),
            };
            tensor.external_data = entries.iter().map(entry).collect();
        })
    };
    let cases: [(&[(&str, &str)], &str); 19] = [
        (&[("location", "w.bin")], "good"),
        (&[("location", "folder/w.bin"), ("offset", "80"), ("length", "20")], "good"),
        (
            &[("location", "w.bin"), ("offset", "81")],
            "takes the bytes 81 to 101 of the file \"w.bin\", which has 100",
        ),
        (
            &[("location", "w.bin"), ("offset", "18446744073709551615")],
            "takes the bytes 18446744073709551615 to",
        ),
        (
            &[("location", "w.bin"), ("offset", "-1")],
            "is in another file with the offset \"-1\", which is no number",
        ),
        (
            &[("location", "w.bin"), ("offset", "")],
            "is in another file with the offset \"\", which is no number",
        ),
        (&[("location", "w.bin"), ("offset", "99999999999999999999")], "is in another file with the offset"),
        (&[("location", "w.bin"), ("length", "0x14")], "is in another file with the length \"0x14\""),
        (&[("location", "w.bin"), ("length", "16")], "has 16 bytes, its shape takes 20"),
        (&[("location", "absent.bin")], "is in the file \"absent.bin\", which is missing"),
        (&[("location", "link.bin")], "is in the file \"link.bin\", which is a link or no plain file"),
        (&[("offset", "0")], "is in another file, but does not say in which"),
        (&[("location", "")], "is in another file, but does not say in which"),
        (&[("location", "/etc/passwd")], "is in the file \"/etc/passwd\": only a relative path"),
        (&[("location", "../w.bin")], "is in the file \"../w.bin\": only a relative path"),
        (
            &[("location", "folder/../../w.bin")],
            "is in the file \"folder/../../w.bin\": only a relative path",
        ),
        (&[("location", "folder\\w.bin")], "is in the file \"folder\\\\w.bin\": only a relative path"),
        (&[("location", "C:w.bin")], "is in the file \"C:w.bin\": only a relative path"),
        (&[("location", "folder//w.bin")], "is in the file \"folder//w.bin\": only a relative path"),
    ];
    for (entries, expected) in cases {
        let said = external(entries);
        let expected = if expected == "good" {
            expected.to_owned()
        } else {
            format!("initialiser \"v\" of the graph {expected}")
        };
        assert!(said.starts_with(&expected), "{entries:?}: {said}");
    }
}
