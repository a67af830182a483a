//! Hand-built graphs: what is refused and under which name, and what is read from those that are not.

use super::{
    CheckError, OnnxError, Values, analyse,
    build::{bytes, integers, model, node, number, port, size, symbol, typed, weights, with},
    open, open_whole,
    proto::{
        AttributeProto, EXTERNAL, GraphProto, ModelProto, NodeProto, OperatorSetIdProto,
        StringStringEntryProto, TensorProto, TensorTypeProto, TypeValue, element,
    },
    rename_files,
};
use crate::domain::{Dim, Tolerance};
use bytes::Bytes;

/// `y = Relu(x)`, both `f32[batch, 4]`.
fn relu() -> GraphProto {
    GraphProto {
        node: vec![node("Relu", &["x"], &["y"])],
        input: vec![port("x", element::FLOAT, &[symbol("batch"), size(4)])],
        output: vec![port("y", element::FLOAT, &[symbol("batch"), size(4)])],
        ..GraphProto::default()
    }
}

fn edited(edit: impl FnOnce(&mut GraphProto)) -> Bytes {
    let mut graph = relu();
    edit(&mut graph);
    bytes(&model(graph))
}

fn external() -> TensorProto {
    let location = StringStringEntryProto { key: "location".to_owned(), value: "model.weights".to_owned() };
    TensorProto {
        external_data: vec![location],
        data_location: EXTERNAL,
        ..weights("w", element::FLOAT, &[4])
    }
}

/// `If` within `If`, `depth` times.
fn nested(depth: usize) -> Bytes {
    let mut graph = relu();
    for _ in 0..depth {
        let inner =
            AttributeProto { name: "then_branch".to_owned(), g: Some(graph), ..AttributeProto::default() };
        graph = GraphProto { node: vec![with(node("If", &["c"], &["z"]), inner)], ..relu() };
    }
    bytes(&model(graph))
}

#[test]
fn what_cannot_be_used_is_refused_by_name() {
    let no_graph = ModelProto { graph: None, ..model(relu()) };
    let opset = |version| ModelProto {
        opset_import: vec![OperatorSetIdProto { domain: String::new(), version }],
        ..model(relu())
    };
    let foreign = ModelProto {
        opset_import: vec![OperatorSetIdProto { domain: "com.microsoft".to_owned(), version: 1 }],
        ..model(relu())
    };
    let truncated = bytes(&model(relu()));
    let cases: Vec<(&str, Bytes, &str)> = vec![
        ("empty", Bytes::new(), "the file is empty"),
        ("text", Bytes::from_static(b"<html>not found</html>"), "not an ONNX file: "),
        ("truncated", truncated.slice(..truncated.len() - 3), "not an ONNX file: "),
        ("zeros", Bytes::from_static(&[0; 64]), "not an ONNX file: "),
        ("another protobuf", Bytes::from_static(&[0x12, 0x01, b'x']), "it names no IR version"),
        ("no graph", bytes(&no_graph), "the model has no graph"),
        ("opset 0", bytes(&opset(0)), "imports version 0 of the standard operators"),
        ("opset -1", bytes(&opset(-1)), "imports version -1 of the standard operators"),
        ("no standard opset", bytes(&foreign), "imports no version of the standard operators"),
        (
            "external without a name",
            edited(|g| g.initializer.push(TensorProto { external_data: Vec::new(), ..external() })),
            "in an external file that it does not name",
        ),
        ("no outputs", edited(|g| g.output.clear()), "the graph has no outputs"),
        (
            "input made again",
            edited(|g| g.node.push(node("Neg", &["y"], &["x"]))),
            "\"x\" is given to more than one value",
        ),
        (
            "weight made again",
            edited(|g| g.initializer.push(weights("y", element::FLOAT, &[4]))),
            "\"y\" is given to more than one value",
        ),
        (
            "input twice",
            edited(|g| g.input.push(g.input[0].clone())),
            "\"x\" is given to more than one input",
        ),
        (
            "output twice",
            edited(|g| g.output.push(g.output[0].clone())),
            "\"y\" is given to more than one output",
        ),
        (
            "node twice",
            edited(|g| g.node.push(g.node[0].clone())),
            "\"y\" is given to more than one node output",
        ),
        ("unnamed input", edited(|g| g.input[0].name.clear()), "an unnamed input"),
        (
            "sequence",
            edited(|g| g.input[0] = typed("x", TypeValue::Sequence(Box::default()))),
            "input \"x\" is a sequence",
        ),
        (
            "map output",
            edited(|g| g.output[0] = typed("y", TypeValue::Map(Box::default()))),
            "output \"y\" is a map",
        ),
        ("no type", edited(|g| g.input[0].r#type = None), "input \"x\" is a value without a type"),
        (
            "complex",
            edited(|g| g.input[0] = port("x", element::COMPLEX64, &[])),
            "input \"x\" has element type 14",
        ),
        (
            "no rank",
            edited(|g| {
                g.input[0] = typed("x", TypeValue::Tensor(TensorTypeProto { elem_type: 1, shape: None }));
            }),
            "input \"x\" has no declared rank",
        ),
        ("nested too deep", nested(60), "deeper than 100 messages"),
    ];
    for (case, bytes, expected) in cases {
        let error = analyse(&bytes).expect_err(case).to_string();
        assert!(error.contains(expected), "{case}: {error}");
    }
}

#[test]
fn damaged_files_never_panic() {
    let good = edited(|g| {
        g.node.push(with(node("Gather", &["w", "x"], &["z"]), number("axis", -1)));
        g.initializer.push(integers("w", &[2], &[1, 2]));
    });
    let mut accepted = 0;
    for at in 0..good.len() {
        for bit in 0..8 {
            let mut damaged = good.to_vec();
            damaged[at] ^= 1 << bit;
            accepted += usize::from(analyse(&damaged.into()).is_ok());
        }
    }
    // Most damage breaks the file, but a letter of a name may change.
    assert!(accepted > 0 && accepted < good.len() * 8, "{accepted} of {}", good.len() * 8);
}

#[test]
fn files_are_refused_by_name() {
    let home = tempfile::tempdir().expect("a temporary directory");
    let path = |name: &str| home.path().join(name);
    std::fs::write(path("empty.onnx"), []).expect("writable");
    std::fs::File::create(path("huge.onnx"))
        .and_then(|file| file.set_len(super::FILE_BYTES_MAX + 1))
        .expect("sparse file");
    let refused = |name: &str| open(&path(name)).expect_err(name);

    assert!(matches!(open(home.path()), Err(OnnxError::Directory { .. })));
    assert!(matches!(refused("absent.onnx"), OnnxError::Read { .. }));
    assert!(matches!(refused("huge.onnx"), OnnxError::TooLarge { .. }));
    assert!(matches!(refused("empty.onnx"), OnnxError::Empty));

    // What its weights lie in is asked for only with the files beside it.
    let weighing = edited(|g| {
        g.node.push(node("Add", &["y", "w"], &["z"]));
        g.initializer.push(external());
    });
    std::fs::write(path("external.onnx"), weighing).expect("writable");
    open(&path("external.onnx")).expect("a good model");
    let missing = open_whole(&path("external.onnx"));
    assert!(matches!(missing, Err(OnnxError::Check(CheckError::FileMissing { .. }))), "{missing:?}");
    #[cfg(unix)]
    {
        std::fs::write(path("elsewhere"), [0; 16]).expect("writable");
        std::os::unix::fs::symlink(path("elsewhere"), path("model.weights")).expect("a link");
        let linked = open_whole(&path("external.onnx"));
        assert!(matches!(linked, Err(OnnxError::Check(CheckError::FileLink { .. }))), "{linked:?}");
        std::fs::remove_file(path("model.weights")).expect("a link");
    }
    std::fs::write(path("model.weights"), [0; 15]).expect("writable");
    let short = open_whole(&path("external.onnx"));
    assert!(matches!(short, Err(OnnxError::Check(CheckError::OutOfFile { .. }))), "{short:?}");
    std::fs::write(path("model.weights"), [0; 16]).expect("writable");
    open_whole(&path("external.onnx")).expect("its weights are there");
}

#[test]
fn a_signature_has_the_inputs_that_no_initialiser_gives() {
    let analysis = analyse(&edited(|g| {
        g.input[0] = port("x", element::FLOAT, &[symbol("batch"), None, size(-1), symbol(""), size(4)]);
        g.input.push(port("w", element::FLOAT, &[size(4)]));
        g.initializer.push(weights("w", element::FLOAT, &[4]));
    }))
    .expect("a good model");
    let shape = vec![
        Dim::Symbol("batch".to_owned()),
        Dim::Free(None),
        Dim::Free(None),
        Dim::Free(None),
        Dim::Fixed(4),
    ];
    assert_eq!(analysis.signature.inputs.len(), 1);
    assert_eq!(analysis.signature.inputs[0].shape, shape);
    assert_eq!((analysis.opset, analysis.producer.as_str()), (17, "test"));
}

#[test]
fn operators_weights_and_precision_are_counted_in_subgraphs_too() {
    let constant = |data_type| {
        let value = AttributeProto {
            name: "value".to_owned(),
            t: Some(weights("", data_type, &[3, 5])),
            ..AttributeProto::default()
        };
        with(node("Constant", &[], &["c"]), value)
    };
    for (data_type, parameter_bytes, tolerance) in [
        (element::FLOAT, 16 + 60, Tolerance::FP32),
        (element::FLOAT16, 16 + 30, Tolerance::FP16),
        (element::UINT4, 16 + 8, Tolerance::FP32),
    ] {
        let analysis = analyse(&edited(|g| {
            let inner = GraphProto {
                node: vec![constant(data_type), node("Relu", &["c"], &["d"])],
                ..GraphProto::default()
            };
            let branch = AttributeProto {
                name: "then_branch".to_owned(),
                g: Some(inner),
                ..AttributeProto::default()
            };
            g.node.push(with(node("If", &["x"], &["z"]), branch));
            g.node.push(NodeProto { domain: "com.microsoft".to_owned(), ..node("Gelu", &["x"], &["g"]) });
            g.initializer.push(weights("w", element::FLOAT, &[4]));
        }))
        .expect("a good model");
        let operators: Vec<_> =
            analysis.operators.iter().map(|(name, count)| (name.as_str(), *count)).collect();
        assert_eq!(operators, [("Constant", 1), ("If", 1), ("Relu", 2), ("com.microsoft.Gelu", 1)]);
        assert_eq!(analysis.parameter_bytes, parameter_bytes);
        assert_eq!(analysis.tolerance, tolerance);
    }
}

/// The values implied for an input `i` of the given type, read by the given nodes.
fn implied(elem_type: i32, initializers: &[TensorProto], nodes: &[NodeProto]) -> Values {
    let graph = GraphProto {
        input: vec![port("i", elem_type, &[size(1)])],
        node: nodes.to_vec(),
        initializer: initializers.to_vec(),
        output: vec![port("y", element::FLOAT, &[])],
        ..GraphProto::default()
    };
    analyse(&bytes(&model(graph))).expect("a good model").ranges.remove(0).values
}

type Case<'a> = (&'a str, i32, Vec<TensorProto>, Vec<NodeProto>, Values);

#[test]
#[allow(clippy::too_many_lines, reason = "a table")]
fn a_graph_implies_the_values_of_its_inputs() {
    let table = || weights("table", element::FLOAT, &[30, 8]);
    let one = || TensorProto { float_data: vec![1.0], ..weights("one", element::FLOAT, &[]) };
    let to = |code: i32| number("to", code.into());
    let flag = Values::Integers { low: 0, high: 1 };
    let branch = GraphProto { node: vec![node("Gather", &["table", "i"], &["g"])], ..GraphProto::default() };
    let branch =
        AttributeProto { name: "then_branch".to_owned(), g: Some(branch), ..AttributeProto::default() };
    let cases: Vec<Case<'_>> = vec![
        ("unused", element::INT64, vec![], vec![], flag.clone()),
        ("bool", element::BOOL, vec![], vec![], flag.clone()),
        (
            "pixels",
            element::UINT8,
            vec![],
            vec![node("Cast", &["i"], &["c"])],
            Values::Integers { low: 0, high: 255 },
        ),
        (
            "float",
            element::FLOAT,
            vec![],
            vec![node("Relu", &["i"], &["y"])],
            Values::Reals { low: -1.0, high: 1.0 },
        ),
        ("text", element::STRING, vec![], vec![], Values::Text),
        (
            "tokens",
            element::INT32,
            vec![table()],
            vec![
                with(node("Cast", &["i"], &["c"]), to(element::INT64)),
                node("Gather", &["table", "c"], &["y"]),
            ],
            Values::Integers { low: 0, high: 29 },
        ),
        (
            "second axis, counted from the end",
            element::INT64,
            vec![table()],
            vec![with(node("Gather", &["table", "i"], &["y"]), number("axis", -1))],
            Values::Integers { low: 0, high: 7 },
        ),
        (
            "the smaller of two tables",
            element::INT64,
            vec![table(), weights("small", element::FLOAT, &[2, 8])],
            vec![node("Gather", &["table", "i"], &["a"]), node("Gather", &["small", "i"], &["b"])],
            flag.clone(),
        ),
        (
            "more rows than the type can count",
            element::UINT8,
            vec![weights("table", element::FLOAT, &[1000, 8])],
            vec![node("Gather", &["table", "i"], &["y"])],
            Values::Integers { low: 0, high: 255 },
        ),
        (
            "one-hot",
            element::INT64,
            vec![integers("depth", &[1], &[12])],
            vec![node("OneHot", &["i", "depth", "values"], &["y"])],
            Values::Integers { low: 0, high: 11 },
        ),
        (
            "one-hot by comparison",
            element::INT64,
            vec![integers("all", &[5], &[0, 1, 2, 3, 4])],
            vec![
                node("Reshape", &["i", "s"], &["r"]),
                node("Expand", &["r", "s"], &["e"]),
                node("Equal", &["e", "all"], &["y"]),
            ],
            Values::Integers { low: 0, high: 4 },
        ),
        (
            "selector",
            element::INT64,
            vec![integers("rate", &[], &[16000])],
            vec![node("Equal", &["rate", "i"], &["y"])],
            Values::OneOf(vec![16000]),
        ),
        (
            "selector of two",
            element::INT64,
            vec![integers("a", &[], &[16000]), integers("b", &[], &[8000])],
            vec![node("Equal", &["i", "a"], &["p"]), node("Equal", &["i", "b"], &["q"])],
            Values::OneOf(vec![8000, 16000]),
        ),
        (
            "compared with the ends of the type",
            element::INT64,
            vec![integers("ends", &[2], &[i64::MIN, i64::MAX])],
            vec![node("Equal", &["i", "ends"], &["y"])],
            Values::OneOf(vec![i64::MIN, i64::MAX]),
        ),
        (
            "mask",
            element::INT64,
            vec![one()],
            vec![
                node("Unsqueeze", &["i", "axes"], &["u"]),
                with(node("Cast", &["u"], &["c"]), to(element::FLOAT)),
                node("Sub", &["one", "c"], &["y"]),
            ],
            flag.clone(),
        ),
        (
            "boolean mask",
            element::INT64,
            vec![],
            vec![with(node("Cast", &["i"], &["y"]), to(element::BOOL))],
            flag,
        ),
        (
            "within a subgraph",
            element::INT64,
            vec![table()],
            vec![with(node("If", &["c"], &["y"]), branch)],
            Values::Integers { low: 0, high: 29 },
        ),
    ];
    for (case, elem_type, initializers, nodes, expected) in cases {
        assert_eq!(implied(elem_type, &initializers, &nodes), expected, "{case}");
    }
}

#[test]
fn files_of_weights_are_named_and_renamed_in_subgraphs_too() {
    let at = |name: &str, file: &str| {
        let location = StringStringEntryProto { key: "location".to_owned(), value: file.to_owned() };
        let offset = StringStringEntryProto { key: "offset".to_owned(), value: "4096".to_owned() };
        TensorProto { name: name.to_owned(), external_data: vec![location, offset], ..external() }
    };
    let mut inner = relu();
    inner.initializer.push(at("w3", "inner.bin"));
    let branch =
        AttributeProto { name: "then_branch".to_owned(), g: Some(inner), ..AttributeProto::default() };
    let model = edited(|g| {
        g.initializer.extend([at("w0", "a.bin"), at("w1", "a.bin"), at("w2", "b.bin")]);
        g.node.push(with(node("If", &["x"], &["z"]), branch));
    });
    assert_eq!(analyse(&model).expect("a model").external, ["a.bin", "b.bin", "inner.bin"]);
    let names = [("a.bin", "A"), ("inner.bin", "I"), ("absent.bin", "?")];
    let names = names.map(|(from, to)| (from.to_owned(), to.to_owned())).into();
    let renamed = rename_files(&model, &names).expect("a model");
    assert_eq!(analyse(&renamed).expect("a model").external, ["A", "b.bin", "I"]);
    let back = [("A", "a.bin"), ("I", "inner.bin")].map(|(from, to)| (from.to_owned(), to.to_owned())).into();
    assert_eq!(rename_files(&renamed, &back).expect("a model"), model, "nothing else changed");
}
