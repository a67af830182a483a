//! Blocks computed by hand; what is rewritten, what stays and why; recipes.

use std::collections::BTreeMap;

use bytes::Bytes;
use half::f16;

use super::{
    Bits, Precision, PrecisionError, Recipe, Variant, apply,
    blocks::{Matrix, blocks, columns},
    weights::float_tensor,
};
use crate::onnx::{
    OnnxError,
    build::{bytes, integers, model, node, number, port, size, symbol, with},
    proto::{
        AttributeProto, EXTERNAL, FunctionProto, GraphProto, ModelProto, NodeProto, OperatorSetIdProto,
        StringStringEntryProto, TensorProto, attribute, element,
    },
    read::decode,
};

#[test]
fn recipes_are_read_and_checked() {
    let int4 = |block, symmetric| Precision::Blocks { bits: Bits::Four, block, symmetric };
    let cases = [
        ("int4", int4(32, true)),
        ("int4,block=16,asymmetric", int4(16, false)),
        ("int4, symmetric, block=256", int4(256, true)),
        ("int2", Precision::Blocks { bits: Bits::Two, block: 32, symmetric: true }),
        ("int8,block=128", Precision::Blocks { bits: Bits::Eight, block: 128, symmetric: true }),
        ("fp16", Precision::Fp16),
        ("fp32", Precision::Fp32),
        ("int8-dynamic", Precision::Int8Dynamic),
    ];
    for (text, expected) in cases {
        let parsed = Precision::parse(text).unwrap_or_else(|error| panic!("{text}: {error}"));
        assert_eq!(parsed, expected, "{text}");
        assert_eq!(Precision::parse(&parsed.to_string()).expect("what is written can be read"), expected);
    }
    let refused = [
        ("", "precision \"\" is unknown"),
        ("int3", "precision \"int3\" is unknown"),
        ("int4,block=33", "\"int4\" has no option \"block=33\""),
        ("int4,block=8", "no option \"block=8\""),
        ("int4,symmetric,asymmetric", "or has it twice"),
        ("int4,block=16,block=16", "or has it twice"),
        ("int4,", "no option \"\""),
        ("fp16,block=16", "\"fp16\" has no option \"block=16\""),
        ("int8-dynamic,symmetric", "no option \"symmetric\""),
    ];
    for (text, message) in refused {
        let error = Recipe::parse(text).expect_err(text).to_string();
        assert!(error.contains(message), "{text}: {error}");
    }
}

#[test]
fn the_first_pattern_that_matches_a_layer_counts() {
    let recipe = Recipe::from_toml(
        r#"
        default = "int4"
        [[layer]]
        name = "*.0.*"
        precision = "fp32"
        [[layer]]
        name = "layers.*.down"
        precision = "int8,block=128"
        [[layer]]
        name = "head"
        precision = "int8-dynamic"
        "#,
    )
    .expect("a recipe");
    let cases = [
        ("layers.0.down", "w", "fp32"),
        ("", "layers.0.up", "fp32"),
        ("layers.1.down", "w", "int8,block=128,symmetric"),
        ("layers.1.down.bias", "w", "int4,block=32,symmetric"),
        ("head", "", "int8-dynamic"),
        ("heads", "a head", "int4,block=32,symmetric"),
    ];
    for (node, weight, expected) in cases {
        assert_eq!(recipe.of(node, weight).to_string(), expected, "{node} {weight}");
    }
    let many =
        format!("default = \"int4\"\n{}", "[[layer]]\nname = \"a\"\nprecision = \"int8\"\n".repeat(257));
    let refused: [(&str, &str); 6] = [
        ("default = 4", "the recipe cannot be read"),
        ("default = \"int4\"\nblock = 16", "unknown field"),
        ("default = \"int5\"", "\"int5\" is unknown"),
        ("default = \"int4\"\n[[layer]]\nname = \"a\"\nprecision = \"fp16\"", "fp16 is for a whole model"),
        (&many, "the recipe names 257 layers"),
        (&" ".repeat(70_000), "the recipe has 70000 bytes"),
    ];
    for (text, message) in refused {
        let error = Recipe::from_toml(text).expect_err(message).to_string();
        assert!(error.contains(message), "{message}: {error}");
    }
}

/// `values` as one column.
fn column(values: &[f32]) -> Matrix {
    Matrix { inputs: values.len(), outputs: 1, values: values.to_vec() }
}

#[test]
fn blocks_are_as_computed_by_hand() {
    let steps = |from: i16, to: i16| (from..=to).map(f32::from).collect::<Vec<_>>();
    let quarters = [-2.0, -1.0, 0.0, 1.0].repeat(4);
    let cases: Vec<(&str, Vec<f32>, Bits, bool, Vec<u8>, Vec<f32>, Vec<u8>)> = vec![
        (
            "each step once: number = value + 8",
            steps(-8, 7),
            Bits::Four,
            true,
            vec![0x10, 0x32, 0x54, 0x76, 0x98, 0xba, 0xdc, 0xfe],
            vec![1.0],
            vec![],
        ),
        (
            "the farthest is positive: the scale is negative, so that it too has a number",
            steps(-7, 8),
            Bits::Four,
            true,
            vec![0xef, 0xcd, 0xab, 0x89, 0x67, 0x45, 0x23, 0x01],
            vec![-1.0],
            vec![],
        ),
        (
            "rounded to the nearest",
            [4.0, 0.24, 0.26, -0.26].repeat(4),
            Bits::Four,
            true,
            [0x80, 0x97].repeat(4),
            vec![-0.5],
            vec![],
        ),
        (
            "from the least to the most: number = value + 5",
            steps(-5, 10),
            Bits::Four,
            false,
            vec![0x10, 0x32, 0x54, 0x76, 0x98, 0xba, 0xdc, 0xfe],
            vec![1.0],
            vec![5],
        ),
        ("none below zero", [3.0, 1.0].repeat(8), Bits::Two, false, vec![0x77; 4], vec![1.0], vec![0]),
        ("two bits", quarters, Bits::Two, true, vec![0xe4; 4], vec![1.0], vec![]),
        ("eight bits", [-128.0, 127.0].repeat(8), Bits::Eight, true, [0, 255].repeat(8), vec![1.0], vec![]),
        ("nothing but zeros", vec![0.0; 16], Bits::Four, true, vec![0x88; 8], vec![0.0], vec![]),
        ("nothing but zeros", vec![0.0; 16], Bits::Eight, false, vec![0; 16], vec![0.0], vec![0]),
    ];
    for (name, values, bits, symmetric, packed, scales, zeros) in cases {
        let made = blocks(&column(&values), "w", bits, 16, symmetric).tensors;
        assert_eq!(made[0].raw_data, packed, "{name}");
        assert_eq!(made[0].dims[..2], [1, 1], "{name}");
        assert_eq!(made[1], float_tensor("w/scales", &[1], &scales), "{name}");
        assert_eq!(made.get(2).map_or(Vec::new(), |zeros| zeros.raw_data.to_vec()), zeros, "{name}");
    }
}

#[test]
fn columns_lie_one_after_the_other_and_their_last_block_is_filled_with_zeros() {
    // 17 inputs and 2 outputs: the second column is the first, negated.
    let values: Vec<f32> = (0i16..17).flat_map(|at| [f32::from(-at), f32::from(at)]).collect();
    let matrix = Matrix { inputs: 17, outputs: 2, values };
    let made = blocks(&matrix, "w", Bits::Eight, 16, false).tensors;
    assert_eq!(made[0].dims, [2, 2, 16]);
    let last = |column: usize| made[0].raw_data[column * 32 + 16..][..16].to_vec();
    // -16 is the least and 0 the most: a step is 16/255, zero is 255.
    assert_eq!(last(0), [&[0][..], &[255; 15]].concat());
    assert_eq!(last(1), [&[255][..], &[0; 15]].concat());
    assert_eq!(
        made[1],
        float_tensor("w/scales", &[4], &[15.0 / 255.0, 16.0 / 255.0, 15.0 / 255.0, 16.0 / 255.0])
    );
    assert_eq!(made[2].raw_data.as_ref(), [255, 255, 0, 0]);

    // Three blocks of four bits: their zero points take a byte and a half, and each column begins a byte.
    let values: Vec<f32> = (0i16..48).flat_map(|at| [f32::from(at / 16), f32::from(-(at / 16))]).collect();
    let matrix = Matrix { inputs: 48, outputs: 2, values };
    let made = blocks(&matrix, "w", Bits::Four, 16, false).tensors;
    assert_eq!(made[2].raw_data.as_ref(), [0x00, 0x00, 0xf0, 0x0f]);
}

#[test]
fn columns_of_eight_bits_are_as_computed_by_hand() {
    let values = vec![127.0, 0.0, -63.0, 0.0, 1.0, 0.0];
    let made = columns(&Matrix { inputs: 3, outputs: 2, values }, "w");
    assert_eq!(made.tensors[0].raw_data.as_ref(), [255, 128, 65, 128, 129, 128]);
    assert_eq!(made.tensors[0].dims, [3, 2]);
    assert_eq!(made.tensors[1], float_tensor("w/scales", &[2], &[1.0, 0.0]));
    assert!(made.error.abs() < 1e-9);
}

const WIDTH: usize = 4;

fn square(name: &str) -> TensorProto {
    float_tensor(name, &[WIDTH, WIDTH], &[0.5; WIDTH * WIDTH])
}

/// `y` of `f32[n, 4]` from `x` of the same, by these nodes.
fn graph(nodes: Vec<NodeProto>, initializer: Vec<TensorProto>) -> GraphProto {
    GraphProto {
        node: nodes,
        initializer,
        input: vec![port("x", element::FLOAT, &[symbol("n"), size(4)])],
        output: vec![port("y", element::FLOAT, &[symbol("n"), size(4)])],
        ..GraphProto::default()
    }
}

/// Each node is named after what it makes, as exporters do, and must have that name for itself.
fn made(mut graph: GraphProto, recipe: &str) -> Result<(GraphProto, Variant), PrecisionError> {
    graph.node.iter_mut().for_each(|node| node.name = node.output[0].clone());
    let variant = apply(&bytes(&model(graph)), &alone(), &Recipe::parse(recipe)?)?;
    let (_, graph) = decode(&variant.bytes)?;
    let mut names: Vec<_> = graph.node.iter().map(|node| node.name.as_str()).collect();
    names.sort_unstable();
    assert!(names.windows(2).all(|pair| pair[0] != pair[1] && !pair[0].is_empty()), "{names:?}");
    Ok((graph, variant))
}

/// Of a model whose weights lie in its own file.
fn alone() -> BTreeMap<String, Bytes> {
    BTreeMap::new()
}

fn operators(graph: &GraphProto) -> Vec<&str> {
    graph.node.iter().map(|node| node.op_type.as_str()).collect()
}

fn names(tensors: &[TensorProto]) -> Vec<&str> {
    tensors.iter().map(|tensor| tensor.name.as_str()).collect()
}

#[test]
fn a_product_becomes_one_of_blocks_under_its_own_name() {
    let mut product = node("MatMul", &["x", "w"], &["y"]);
    product.name = "layer".to_owned();
    let source = bytes(&model(graph(vec![product], vec![square("w")])));
    let recipe = Recipe::parse("int4,block=16,asymmetric").expect("a recipe");
    let variant = apply(&source, &alone(), &recipe).expect("a product");
    assert_eq!(
        apply(&source, &alone(), &recipe).expect("a product").bytes,
        variant.bytes,
        "the same each time"
    );
    let (model, graph) = decode(&variant.bytes).expect("a model");
    let [product] = graph.node.as_slice() else { panic!("{:?}", operators(&graph)) };
    assert_eq!((product.op_type.as_str(), product.domain.as_str()), ("MatMulNBits", "com.microsoft"));
    assert_eq!((product.name.as_str(), product.output.as_slice()), ("layer", ["y".to_owned()].as_slice()));
    assert_eq!(product.input, ["x", "w/int4/blocks", "w/int4/scales", "w/int4/zeros"]);
    let numbers: Vec<_> = product.attribute.iter().map(|number| (number.name.as_str(), number.i)).collect();
    assert_eq!(numbers, [("K", 4), ("N", 4), ("bits", 4), ("block_size", 16)]);
    assert!(product.attribute.iter().all(|number| number.r#type == attribute::INT));
    assert_eq!(names(&graph.initializer), ["w/int4/blocks", "w/int4/scales", "w/int4/zeros"]);
    let imported: Vec<_> = model.opset_import.iter().map(|set| (set.domain.as_str(), set.version)).collect();
    assert_eq!(imported, [("", 17), ("com.microsoft", 1)]);
    let report = &variant.report;
    assert_eq!((report.bytes_before, report.bytes_after), (source.len() as u64, variant.bytes.len() as u64));
    // Each column: a block of 8 bytes, a scale of 4 and a zero point, for 4 weights.
    assert!((report.bits_per_changed_weight - f64::from((8 + 4 + 1) * 8) / 4.0).abs() < 1e-9);
    assert!(report.left.is_empty());
}

#[test]
fn weights_beside_a_model_make_the_same_variant_as_those_within() {
    let within = square("w");
    let mut outside = within.clone();
    outside.raw_data = Bytes::new();
    outside.data_location = EXTERNAL;
    let place = [("location", "weights"), ("offset", "8"), ("length", "64")];
    outside.external_data = place
        .map(|(key, value)| StringStringEntryProto { key: key.to_owned(), value: value.to_owned() })
        .to_vec();
    let file = [&[0; 8][..], &within.raw_data, &[0; 8]].concat();
    let source = |weight| bytes(&model(graph(vec![node("MatMul", &["x", "w"], &["y"])], vec![weight])));
    let recipe = Recipe::parse("int4,block=16").expect("a recipe");
    let apply = |weight, files: &BTreeMap<_, _>| apply(&source(weight), files, &recipe);
    let beside = |bytes: Vec<u8>| BTreeMap::from([("weights".to_owned(), Bytes::from(bytes))]);

    let variant = apply(outside.clone(), &beside(file.clone())).expect("a product");
    let wanted = apply(within, &alone()).expect("a product");
    assert_eq!(variant.bytes, wanted.bytes);
    assert_eq!(variant.report.bytes_before, (source(outside.clone()).len() + file.len()) as u64);

    let refused = [
        (alone(), "\"w\" lies in the file \"weights\", which did not come with the model"),
        (beside(file[..71].to_vec()), "\"w\" lies beyond the end of the file \"weights\""),
    ];
    for (files, says) in refused {
        let error = apply(outside.clone(), &files).expect_err(says).to_string();
        assert!(error.contains(says), "{error}");
    }
}

#[test]
fn what_no_file_takes_is_told_before_it_is_read() {
    let least = |recipe: &str| Recipe::parse(recipe).expect("a recipe").bytes_least(64 << 20);
    let cases = [
        ("fp32", 64 << 20),
        ("fp16", 32 << 20),
        ("int8,block=16", 20 << 20),
        ("int4", 10 << 20),
        ("int2,block=256", (4 << 20) + (1 << 18)),
    ];
    for (recipe, wanted) in cases {
        assert_eq!(least(recipe), wanted, "{recipe}");
    }
}

#[test]
fn a_gemm_becomes_a_product_and_a_sum() {
    let gemm = with(node("Gemm", &["x", "w", "b"], &["y"]), number("transB", 1));
    let alpha = AttributeProto { name: "alpha".to_owned(), f: 2.0, ..AttributeProto::default() };
    let beta = AttributeProto { name: "beta".to_owned(), f: 1.0, ..AttributeProto::default() };
    let weight: Vec<f32> = (0..16u8).map(f32::from).collect();
    let initializer = vec![float_tensor("w", &[4, 4], &weight), float_tensor("b", &[4], &[1.0; 4])];
    let source = graph(vec![with(with(gemm, alpha), beta)], initializer.clone());
    let (read, variant) = made(source, "int8-dynamic").expect("a product");
    assert_eq!(operators(&read), ["DynamicQuantizeLinear", "MatMulInteger", "Cast", "Mul", "Mul", "Add"]);
    assert_eq!(read.node.last().expect("a sum").output, ["y"]);
    assert_eq!(read.initializer[0], initializer[1], "what stays, stays byte for byte");
    // Row by row the transposed weight, doubled: the first column's largest is 2 * 3.
    let scales: Vec<f32> = [3.0, 7.0, 11.0, 15.0].iter().map(|most| 2.0 * most / 127.0).collect();
    let at = read.initializer.iter().position(|tensor| tensor.name.ends_with("scales")).expect("scales");
    assert_eq!(read.initializer[at], float_tensor("w/int8-dynamic/scales", &[4], &scales));
    let left: Vec<_> =
        variant.report.left.iter().map(|left| (left.name.as_str(), left.reason.as_str())).collect();
    assert_eq!(left, [("b", "is read by Gemm")]);
}

#[test]
fn a_weight_and_an_activation_are_quantised_once() {
    let nodes = vec![
        node("MatMul", &["x", "w"], &["a"]),
        node("MatMul", &["x", "w"], &["b"]),
        node("Add", &["a", "b"], &["y"]),
    ];
    let (read, variant) = made(graph(nodes.clone(), vec![square("w")]), "int8-dynamic").expect("products");
    let count = |operator: &str| operators(&read).iter().filter(|found| **found == operator).count();
    assert_eq!((count("DynamicQuantizeLinear"), count("MatMulInteger")), (1, 2));
    assert_eq!(variant.report.changed.len(), 1);

    let kept = [nodes, vec![node("Gather", &["w", "x"], &["z"])]].concat();
    let (read, variant) = made(graph(kept, vec![square("w")]), "int4,block=16").expect("products");
    assert!(names(&read.initializer).contains(&"w"), "who else reads it still can");
    assert_eq!(variant.report.left[0].reason, "is read by Gather, MatMul");
}

#[test]
fn products_in_graphs_within_read_the_weight_where_it_lies() {
    let inner = |operator: &str, weight: &str| GraphProto {
        node: vec![node(operator, &["x", weight], &["z"])],
        output: vec![port("z", element::FLOAT, &[symbol("n"), size(4)])],
        ..GraphProto::default()
    };
    let branch = |name: &str, graph| AttributeProto {
        name: name.to_owned(),
        g: Some(graph),
        r#type: attribute::GRAPH,
        ..AttributeProto::default()
    };
    let own = GraphProto { initializer: vec![square("v")], ..inner("MatMul", "v") };
    let choice = with(
        with(node("If", &["c"], &["y"]), branch("then_branch", inner("MatMul", "w"))),
        branch("else_branch", own),
    );
    let mut source = graph(vec![choice], vec![square("w")]);
    source.input.push(port("c", element::BOOL, &[]));
    let (read, variant) = made(source, "int4,block=16").expect("products");
    assert_eq!(variant.report.changed.len(), 2);
    assert_eq!(names(&read.initializer), ["w/int4/blocks", "w/int4/scales"]);
    let within: Vec<_> = read.node[0].attribute.iter().filter_map(|attribute| attribute.g.as_ref()).collect();
    assert_eq!(operators(within[0]), ["MatMulNBits"]);
    assert_eq!(names(&within[1].initializer), ["v/int4/blocks", "v/int4/scales"]);
}

#[test]
fn what_cannot_be_changed_says_why() {
    let product = |inputs: &[&str]| vec![node("MatMul", inputs, &["y"])];
    let gemm = |name: &str, i: i64, f: f32| {
        let attribute = AttributeProto { name: name.to_owned(), i, f, ..AttributeProto::default() };
        vec![with(node("Gemm", &["x", "w", "b"], &["y"]), attribute)]
    };
    let deep = float_tensor("w", &[1, 4, 4], &[0.5; 16]);
    let infinite = float_tensor("w", &[4, 4], &[f32::INFINITY; 16]);
    let half = TensorProto { data_type: element::FLOAT16, raw_data: Bytes::from(vec![0; 32]), ..square("w") };
    let short = TensorProto { raw_data: Bytes::from(vec![0; 60]), ..square("w") };
    let cases: Vec<(&str, GraphProto, &str, &str)> = vec![
        ("none", graph(vec![node("Neg", &["x"], &["y"])], vec![]), "int4", "it has no weights of floats"),
        (
            "other operators",
            graph(vec![node("Add", &["x", "w"], &["y"])], vec![square("w")]),
            "int4",
            "\"w\", is read by Add",
        ),
        ("left", graph(product(&["w", "x"]), vec![square("w")]), "int4", "is multiplied from the left"),
        ("dimensions", graph(product(&["x", "w"]), vec![deep]), "int4", "is not of two dimensions"),
        ("values", graph(product(&["x", "w"]), vec![infinite]), "int4", "has values that are not finite"),
        ("half already", graph(product(&["x", "w"]), vec![half]), "int4", "is not of fp32"),
        (
            "damaged",
            graph(product(&["x", "w"]), vec![short]),
            "int4",
            "has not as many elements as its shape says",
        ),
        ("narrow", graph(product(&["x", "w"]), vec![square("w")]), "int4,block=32", "would be no smaller"),
        ("recipe", graph(product(&["x", "w"]), vec![square("w")]), "fp32", "is left by the recipe"),
        (
            "transposed",
            graph(gemm("transA", 1, 0.0), vec![square("w")]),
            "int4",
            "is multiplied with something transposed",
        ),
        ("bias", graph(gemm("beta", 0, 0.5), vec![square("w")]), "int8-dynamic", "multiplies its bias"),
        (
            "no weights to halve",
            graph(vec![node("Neg", &["x"], &["y"])], vec![]),
            "fp16",
            "it has no weights of floats",
        ),
    ];
    for (name, graph, recipe, message) in cases {
        let error = made(graph, recipe).expect_err(name).to_string();
        assert!(error.contains(message) && error.contains(recipe), "{name}: {error}");
    }
    let old = ModelProto {
        opset_import: vec![OperatorSetIdProto { domain: String::new(), version: 10 }],
        ..model(graph(product(&["x", "w"]), vec![square("w")]))
    };
    let error = apply(&bytes(&old), &alone(), &Recipe::parse("int8-dynamic").expect("a recipe"))
        .expect_err("too old");
    assert_eq!(
        error.to_string(),
        "the model is of opset 10, and int8-dynamic needs 11; export it with a later one"
    );
    let error = apply(&Bytes::from_static(b"no model"), &alone(), &Recipe::parse("int4").expect("a recipe"));
    assert!(matches!(error, Err(PrecisionError::Model(OnnxError::NotProtobuf { .. }))));
}

#[test]
fn half_precision_is_within_and_the_model_looks_the_same_from_outside() {
    let nodes = vec![
        node("MatMul", &["x", "w"], &["a"]),
        node("Softmax", &["a"], &["b"]),
        node("Mul", &["b", "f"], &["y"]),
    ];
    let weights = vec![square("w"), float_tensor("f", &[], &[3.4e38])];
    let source = graph(nodes, weights);
    let (read, variant) = made(source.clone(), "fp16").expect("weights");
    assert_eq!((read.input, read.output), (source.input, source.output));
    let written: Vec<_> = read
        .node
        .iter()
        .map(|node| (node.op_type.as_str(), node.input.join(" "), node.output.join(" ")))
        .collect();
    let expected = [
        ("Cast", "x", "x/fp16"),
        ("MatMul", "x/fp16 w/fp16", "a/fp16"),
        ("Cast", "a/fp16", "a"),
        ("Softmax", "a", "b"),
        // It reads nothing but what is in fp32 already.
        ("Mul", "b f", "y"),
    ];
    assert_eq!(written, expected.map(|(operator, from, to)| (operator, from.to_owned(), to.to_owned())));
    assert_eq!(names(&read.initializer), ["f", "w/fp16"]);
    assert_eq!(read.initializer[1].data_type, element::FLOAT16);
    assert_eq!(read.initializer[1].raw_data, f16::from_f32(0.5).to_le_bytes().repeat(16));
    let kept: Vec<_> =
        variant.report.kept_operators.iter().map(|(name, count)| (name.as_str(), *count)).collect();
    assert_eq!(kept, [("Mul", 1), ("Softmax", 1)]);
    assert_eq!(variant.report.left[0].name, "f");
}

#[test]
fn values_beyond_half_precision_are_clamped_and_counted() {
    // By itself 1e-12 is an epsilon and must not become zero; among others it may.
    let cases: [(&[f32], &[f32], u64, u64); 4] = [
        (&[1e5, -1e9, 2.0, 1e-9], &[65504.0, -65504.0, 2.0, 0.0], 2, 1),
        (&[1e-12], &[5.960_464_5e-8], 0, 1),
        (&[f32::INFINITY], &[f32::INFINITY], 0, 0),
        (&[0.0, -0.0], &[0.0, -0.0], 0, 0),
    ];
    for (values, expected, clamped, vanished) in cases {
        let tensor = float_tensor("w", &[values.len()], values);
        let (read, variant) =
            made(graph(vec![node("Add", &["x", "w"], &["y"])], vec![tensor]), "fp16").expect("weights");
        let halves: Vec<f32> = read.initializer[0]
            .raw_data
            .as_chunks::<2>()
            .0
            .iter()
            .map(|bytes| f16::from_le_bytes(*bytes).to_f32())
            .collect();
        assert_eq!(halves, expected);
        let changed = &variant.report.changed[0];
        assert_eq!((changed.clamped, changed.vanished), (clamped, vanished), "{values:?}");
    }
}

/// A variance: nothing of it passes through half precision, where the squares of numbers over 256 are infinite.
#[test]
fn a_norm_written_out_stays_in_fp32_up_to_its_divisor() {
    let nodes = vec![
        node("ReduceMean", &["x"], &["mean"]),
        node("Sub", &["x", "mean"], &["d"]),
        node("Mul", &["d", "d"], &["square"]),
        node("ReduceMean", &["square"], &["variance"]),
        node("Add", &["variance", "epsilon"], &["above"]),
        node("Sqrt", &["above"], &["deviation"]),
        node("Div", &["d", "deviation"], &["n"]),
        node("MatMul", &["n", "w"], &["y"]),
    ];
    let weights = vec![float_tensor("epsilon", &[], &[1e-12]), square("w")];
    let (read, variant) = made(graph(nodes, weights), "fp16").expect("weights");
    let fp32 = ["ReduceMean", "Mul", "ReduceMean", "Add", "Sqrt"];
    let of = |operator: &str, form: &str| {
        read.node.iter().any(|node| node.op_type == operator && node.output[0].ends_with(form))
    };
    assert!(of("Sub", "/fp16") && of("Div", "/fp16") && of("MatMul", "/fp16"));
    assert_eq!(variant.report.kept_operators.values().sum::<u64>(), fp32.len() as u64);
    assert_eq!(names(&read.initializer), ["epsilon", "w/fp16"]);
    assert_eq!((variant.report.left.len(), variant.report.changed.len()), (1, 1));
}

#[test]
fn graphs_within_take_and_give_half_precision() {
    let loops = GraphProto {
        node: vec![node("MatMul", &["carried", "w"], &["next"]), node("Identity", &["go"], &["on"])],
        input: vec![
            port("at", element::INT64, &[]),
            port("go", element::BOOL, &[]),
            port("carried", element::FLOAT, &[symbol("n"), size(4)]),
        ],
        output: vec![port("on", element::BOOL, &[]), port("next", element::FLOAT, &[symbol("n"), size(4)])],
        ..GraphProto::default()
    };
    let body = AttributeProto {
        name: "body".to_owned(),
        g: Some(loops),
        r#type: attribute::GRAPH,
        ..AttributeProto::default()
    };
    let source = graph(
        vec![with(node("Loop", &["count", "", "x"], &["y"]), body)],
        vec![square("w"), integers("count", &[], &[3])],
    );
    let (read, _) = made(source, "fp16").expect("weights");
    let [_, run, _] = read.node.as_slice() else { panic!("{:?}", operators(&read)) };
    assert_eq!(
        (run.input.join(","), run.output.join(",")),
        ("count,,x/fp16".to_owned(), "y/fp16".to_owned())
    );
    let body = run.attribute[0].g.as_ref().expect("a body");
    assert_eq!(operators(body), ["MatMul", "Identity"]);
    assert_eq!(body.node[0].input, ["carried/fp16", "w/fp16"]);
    let types = |ports: &[crate::onnx::proto::ValueInfoProto]| {
        let code = |port: &crate::onnx::proto::ValueInfoProto| {
            format!("{:?}", port.r#type).contains("elem_type: 10")
        };
        ports.iter().map(|port| (port.name.clone(), code(port))).collect::<Vec<_>>()
    };
    assert_eq!(types(&body.input)[2], ("carried/fp16".to_owned(), true));
    assert_eq!(types(&body.output)[1], ("next/fp16".to_owned(), true));
}

#[test]
fn half_precision_refuses_what_it_cannot_judge() {
    let mut foreign = node("Fancy", &["x"], &["z"]);
    foreign.domain = "example".to_owned();
    let nodes = vec![foreign, node("Add", &["z", "w"], &["y"])];
    let error = made(graph(nodes.clone(), vec![square("w")]), "fp16").expect_err("an operator of nobody's");
    assert!(error.to_string().starts_with("cannot tell of what type \"z\" is, which Fancy makes"), "{error}");
    let mut told = graph(nodes, vec![square("w")]);
    told.value_info.push(port("z", element::FLOAT, &[symbol("n"), size(4)]));
    let (read, _) = made(told, "fp16").expect("a type that the graph says");
    assert_eq!(operators(&read), ["Fancy", "Cast", "Add", "Cast"]);
    assert_eq!(read.node[0].input, ["x"], "in fp32");

    let short = TensorProto { raw_data: Bytes::from(vec![0; 60]), ..square("w") };
    let error =
        made(graph(vec![node("Add", &["x", "w"], &["y"])], vec![short]), "fp16").expect_err("damaged");
    assert_eq!(error.to_string(), "weight \"w\" has not as many elements as its shape says");

    let functions = ModelProto { functions: vec![FunctionProto::default()], ..model(graph(vec![], vec![])) };
    let error = apply(&bytes(&functions), &alone(), &Recipe::parse("fp16").expect("a recipe"));
    assert!(matches!(error, Err(PrecisionError::Functions)));
}

#[test]
fn scales_of_a_resize_stay_fp32() {
    let nodes = vec![node("Resize", &["x", "", "scales"], &["z"]), node("MatMul", &["z", "w"], &["y"])];
    let weights = vec![float_tensor("scales", &[2], &[2.0, 1.0]), square("w")];
    let (read, _) = made(graph(nodes, weights), "fp16").expect("weights");
    assert_eq!(read.node[1].input, ["x/fp16", "", "scales"]);
    assert_eq!(names(&read.initializer), ["scales", "w/fp16"]);
}
