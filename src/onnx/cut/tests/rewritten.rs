//! Graphs that are written anew for being cut: products in several ways, values that pass in half precision.

use std::collections::BTreeMap;

use super::{WIDTH, decoded, graph, passing, read};
use crate::onnx::{
    build::{bytes, model, node, port, size, symbol},
    cut::{Shard, Whole, tensor},
    proto::element,
    read::decode,
};

#[test]
fn products_are_split_where_they_can_be() {
    let pair = [
        node("MatMul", &["x", "u"], &["a"]),
        node("Relu", &["a"], &["b"]),
        node("MatMul", &["b", "v"], &["out"]),
    ];
    let file = |outputs: &[&str]| bytes(&model(graph(&pair, &["x"], outputs, &["u", "v"])));
    let (_, halves) = decode(&tensor::split(&file(&["out"]), 2).expect("a pair")).expect("a model");
    let made: Vec<_> = halves.node.iter().map(|node| node.op_type.as_str()).collect();
    assert_eq!(made, ["MatMul", "Relu", "MatMul", "MatMul", "Relu", "MatMul", "Sum"]);
    let weights: Vec<_> =
        halves.initializer.iter().map(|tensor| (tensor.name.as_str(), tensor.dims.clone())).collect();
    let (columns, rows) = (vec![4, 2], vec![2, 4]);
    let wanted = [("u/columns0", &columns), ("u/columns1", &columns), ("v/rows0", &rows), ("v/rows1", &rows)];
    assert_eq!(weights, wanted.map(|(name, dims)| (name, dims.clone())));

    // One way, a width that three do not divide, a caller who wants what lies between.
    for (outputs, ways) in [(&["out"][..], 1), (&["out"], 3), (&["out", "b"], 2)] {
        let error = tensor::split(&file(outputs), ways).expect_err("no pair").to_string();
        assert!(
            error.starts_with(&format!(
                "no two products with only elementwise work between them can be split {ways} ways"
            )),
            "{error}"
        );
    }
}

#[test]
fn values_pass_in_half_precision_under_other_names() {
    // A name is taken, one value is the caller's as well, and one is no float.
    let nodes = [
        node("Neg", &["x"], &["a"]),
        node("Exp", &["a"], &["b"]),
        node("Greater", &["b", "a"], &["larger"]),
        node("Where", &["larger", "a", "b"], &["a/half"]),
        node("Add", &["a/half", "b"], &["out"]),
    ];
    let made = || read(graph(&nodes, &["x"], &["out", "b"], &[]));
    let (plain, whole) = (made(), made().in_half());
    let bytes = |whole: &Whole| {
        passing(whole.chain())
            .into_iter()
            .map(|(name, told)| (name.to_owned(), told.3))
            .collect::<BTreeMap<_, _>>()
    };
    let (before, after) = (bytes(&plain), bytes(&whole));
    for (name, share) in [("x", 1.0), ("a", 2.0), ("b", 1.0), ("larger", 1.0), ("a/half", 2.0), ("out", 1.0)]
    {
        assert!((before[name] / after[name] - share).abs() < 1e-9, "{name}");
    }
    for (half, units) in [(true, vec![1]), (false, vec![1]), (true, vec![2, 3]), (false, vec![4])] {
        assert!((plain.bytes_read(&units, half) - whole.bytes_read(&units, half)).abs() < 1e-9, "{units:?}");
    }
    let shards = whole.at(&[1, 2, 3, 4]).expect("frontiers");
    let told = |shard: &Shard<'_>| {
        let (_, graph) = decoded(shard);
        let operators: Vec<_> = graph.node.iter().map(|node| node.op_type.clone()).collect();
        let names = |names: &mut dyn Iterator<Item = &str>| names.collect::<Vec<_>>().join(" ");
        (names(&mut shard.inputs()), operators.join(" "), names(&mut shard.outputs()))
    };
    let wanted = [
        ("x", "Neg Cast", "a/half/2"),
        ("a/half/2", "Cast Exp", "b"),
        ("a/half/2 b", "Cast Greater", "larger"),
        ("a/half/2 b larger", "Cast Where Cast", "a/half/half"),
        ("b a/half/half", "Cast Add", "out"),
    ];
    let found: Vec<_> = shards.iter().map(told).collect();
    let found: Vec<_> = found.iter().map(|(a, b, c)| (a.as_str(), b.as_str(), c.as_str())).collect();
    assert_eq!(found, wanted);
    let (model, graph) = decoded(&shards[1]);
    assert_eq!(graph.input[0], port("a/half/2", element::FLOAT16, &[symbol("n"), size(WIDTH)]));
    assert!(
        model.metadata_props.iter().any(|entry| entry.key == "shard_activations" && entry.value == "fp16")
    );
}
