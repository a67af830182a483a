//! Hand-built models: what is refused, under which name, and where; and what is not.

mod weights;

use bytes::Bytes;
use prost::Message as _;

use super::{
    Outside,
    operators::{self, OPERATORS},
};
use crate::onnx::{
    OnnxError,
    build::{branch, bytes, model, node, number, numbers, port, size, symbol, typed, weights, with},
    check,
    proto::{
        AttributeProto, FunctionProto, GraphProto, ModelProto, NodeProto, OperatorSetIdProto, TensorProto,
        TensorTypeProto, TypeValue, element,
    },
};

/// `y = Relu(x) + w`, all `f32[n, 4]`.
fn graph() -> GraphProto {
    let four = |name| port(name, element::FLOAT, &[symbol("n"), size(4)]);
    GraphProto {
        node: vec![node("Relu", &["x"], &["r"]), node("Add", &["r", "w"], &["y"])],
        initializer: vec![floats("w", 4)],
        input: vec![four("x")],
        output: vec![four("y")],
        ..GraphProto::default()
    }
}

fn floats(name: &str, count: usize) -> TensorProto {
    TensorProto {
        raw_data: vec![0; 4 * count].into(),
        ..weights(name, element::FLOAT, &[i64::try_from(count).expect("few")])
    }
}

/// What lies beside every model here.
fn outside(location: &str) -> Outside {
    match location {
        "w.bin" | "folder/w.bin" => Outside::Bytes(100),
        "link.bin" => Outside::NoFile,
        _ => Outside::Missing,
    }
}

fn said(model: &ModelProto) -> String {
    match check(&bytes(model), &outside) {
        Ok(()) => "good".to_owned(),
        Err(error) => error.to_string(),
    }
}

/// Each case: what it is, a change of [`graph`], what is said.
type Edit = fn(&mut GraphProto);

fn judge(cases: &[(&str, Edit, &str)]) {
    for (case, edit, expected) in cases {
        let mut graph = graph();
        edit(&mut graph);
        let said = said(&model(graph));
        assert!(said.starts_with(expected), "{case}: {said}");
    }
}

fn reading(operator: &str, from: &str, to: &str) -> NodeProto {
    node(operator, &[from], &[to])
}

/// A graph of one node, without inputs.
fn body(node: NodeProto) -> GraphProto {
    let output = port(&node.output[0], element::FLOAT, &[]);
    GraphProto { node: vec![node], output: vec![output], ..GraphProto::default() }
}

fn choice(then: GraphProto) -> NodeProto {
    let other = body(reading("Neg", "x", "other"));
    with(with(node("If", &["c"], &["z"]), branch("then_branch", then)), branch("else_branch", other))
}

fn chosen(graph: &mut GraphProto, then: GraphProto) {
    graph.input.push(port("c", element::BOOL, &[]));
    graph.node.insert(1, choice(then));
}

#[test]
fn every_value_has_one_origin_before_its_uses() {
    judge(&[
        ("good", |_| {}, "good"),
        (
            "dangling",
            |g| g.node[1].input[1] = "v".into(),
            "node 1 (Add) uses the value \"v\", which nothing gives",
        ),
        (
            "named node",
            |g| {
                g.node[0].name = "first".into();
                g.node[0].input[0] = "v".into();
            },
            "node 0 \"first\" (Relu) uses the value \"v\"",
        ),
        (
            "unordered",
            |g| g.node.reverse(),
            "node 0 (Add) uses the value \"r\" before node 1 (Relu) gives it; the nodes have to be in topological order",
        ),
        (
            "cyclic",
            |g| {
                g.node[0] = node("Add", &["x", "y"], &["r"]);
            },
            "nodes depend on each other in a circle: node 0 (Add) -> node 1 (Add) -> node 0 (Add)",
        ),
        (
            "of itself",
            |g| g.node[0].input[0] = "r".into(),
            "nodes depend on each other in a circle: node 0 (Relu) -> node 0 (Relu)",
        ),
        (
            "cyclic through a branch",
            |g| {
                chosen(g, body(reading("Neg", "y", "then")));
                g.node[0].input[0] = "z".into();
            },
            "nodes depend on each other in a circle: node ",
        ),
        (
            "two nodes",
            |g| g.node[1].output[0] = "r".into(),
            "the value \"r\" has two origins: node 0 (Relu) and node 1 (Add)",
        ),
        (
            "input and node",
            |g| g.node[0].output[0] = "x".into(),
            "the value \"x\" has two origins: an input of the graph and node 0 (Relu)",
        ),
        (
            "two inputs",
            |g| g.input.push(g.input[0].clone()),
            "the value \"x\" has two origins: an input of the graph and an input of the graph",
        ),
        (
            "two initialisers",
            |g| g.initializer.push(floats("w", 4)),
            "the value \"w\" has two origins: an initialiser of the graph and an initialiser",
        ),
        ("an input's default", |g| g.input.push(port("w", element::FLOAT, &[size(4)])), "good"),
        (
            "optional output",
            |g| g.node[1].output.push(String::new()),
            "node 1 (Add) has 2 outputs, \"Add\" takes 1",
        ),
        ("unnamed input", |g| g.input[0].name.clear(), "the graph has an unnamed input"),
        ("unnamed initialiser", |g| g.initializer[0].name.clear(), "the graph has an unnamed initialiser"),
        ("unnamed output", |g| g.output[0].name.clear(), "the graph has an unnamed output"),
        (
            "output of nothing",
            |g| g.output[0].name = "v".into(),
            "the output \"v\" of the graph is given by nothing",
        ),
        (
            "output twice",
            |g| g.output.push(g.output[0].clone()),
            "the output \"y\" is listed twice in the graph",
        ),
    ]);
}

#[test]
fn graphs_within_nodes_see_the_values_around_them() {
    judge(&[
        ("outer value", |g| chosen(g, body(reading("Neg", "r", "then"))), "good"),
        ("outer output as the branch's own", |g| chosen(g, body(reading("Neg", "x", "y"))), "good"),
        (
            "later outer value",
            |g| chosen(g, body(reading("Neg", "y", "then"))),
            "node 0 (Neg) in the attribute \"then_branch\" of node 1 (If) uses the value \"y\" before node 2 (Add) gives it",
        ),
        (
            "dangling",
            |g| chosen(g, body(reading("Neg", "v", "then"))),
            "node 0 (Neg) in the attribute \"then_branch\" of node 1 (If) uses the value \"v\", which nothing gives",
        ),
        (
            "shadowing",
            |g| chosen(g, body(reading("Neg", "x", "r"))),
            "the value \"r\" has two origins: node 0 (Relu) and node 0 (Neg) in the attribute \"then_branch\"",
        ),
        (
            "not seen from outside",
            |g| {
                chosen(g, body(reading("Neg", "x", "then")));
                g.node[2].input[0] = "then".into();
            },
            "node 2 (Add) uses the value \"then\", which nothing gives",
        ),
        (
            "within a branch within a branch",
            |g| {
                let inner = body(choice(body(reading("Neg", "v", "deep"))));
                chosen(g, inner);
            },
            "node 0 (Neg) in the attribute \"then_branch\" of node 0 (If) in the attribute \"then_branch\" of node 1 (If)",
        ),
    ]);
}

#[test]
fn operators_are_those_of_the_imported_version() {
    judge(&[
        ("none", |g| g.node[0].op_type.clear(), "node 0 () has no operator"),
        (
            "unknown",
            |g| g.node[0].op_type = "Rleu".into(),
            "node 0 (Rleu): version 17 of the standard operators has no \"Rleu\"; no version up to 28 has it, and its domain may be another",
        ),
        (
            "later",
            |g| g.node[0].op_type = "Gelu".into(),
            "node 0 (Gelu): version 17 of the standard operators has no \"Gelu\"; it is there from version 20 on",
        ),
        (
            "gone",
            |g| g.node[0].op_type = "Upsample".into(),
            "node 0 (Upsample): version 17 of the standard operators has no \"Upsample\"; versions 7 to 9 have it",
        ),
        ("too few", |g| drop(g.node[1].input.pop()), "node 1 (Add) has 1 inputs, \"Add\" takes 2"),
        ("too many", |g| g.node[0].input.push("x".into()), "node 0 (Relu) has 2 inputs, \"Relu\" takes 1"),
        ("left out", |g| g.node[1].input[0].clear(), "node 1 (Add) leaves out input 0, which \"Add\" needs"),
        (
            "a domain that is not imported",
            |g| g.node[0].domain = "com.microsoft".into(),
            "node 0 (Relu) is of the domain \"com.microsoft\", of which no version is imported",
        ),
        ("the other name of the standard domain", |g| g.node[0].domain = "ai.onnx".into(), "good"),
    ]);
    let set = |domain: &str, version| OperatorSetIdProto { domain: domain.to_owned(), version };
    let mut foreign = model(graph());
    foreign.graph.as_mut().expect("a graph").node[0].domain = "com.microsoft".into();
    foreign.opset_import.push(set("com.microsoft", 1));
    assert_eq!(said(&foreign), "good");
    foreign.opset_import.push(set("com.microsoft", 2));
    assert_eq!(said(&foreign), "the domain \"com.microsoft\" is imported as version 1 and as version 2");
    let mut later = model(graph());
    later.opset_import[0].version = 1 + operators::KNOWN.cast_signed();
    later.graph.as_mut().expect("a graph").node[0].op_type = "New".into();
    assert_eq!(said(&later), "good", "what is not known is not judged");
}

#[test]
fn the_table_of_operators_can_be_searched() {
    assert!(OPERATORS.is_sorted_by(|a, b| a.0 < b.0), "by name");
    assert!(OPERATORS.iter().all(|(_, rows)| rows.is_sorted_by(|a, b| a.0 < b.0)), "by version");
    let cases = [
        ("Conv", 1, Some([2, 3])),
        ("Gelu", 19, None),
        ("Gelu", 20, Some([1, 1])),
        ("Upsample", 6, None),
        ("Upsample", 8, Some([1, 1])),
        ("Upsample", 9, Some([2, 2])),
        ("Upsample", 10, None),
        ("Pad", 10, Some([1, 1])),
        ("Pad", 18, Some([2, 4])),
        ("Concat", 17, Some([1, usize::MAX])),
        ("Nonsense", 17, None),
    ];
    for (operator, version, inputs) in cases {
        let arity = operators::arity(operator, version).map(|arity| arity.counts()[0]);
        assert_eq!(arity, inputs, "{operator} {version}");
    }
}

fn function(name: &str, nodes: Vec<NodeProto>) -> FunctionProto {
    let set = |domain: &str| OperatorSetIdProto { domain: domain.to_owned(), version: 17 };
    FunctionProto {
        name: name.to_owned(),
        domain: "local".to_owned(),
        input: vec!["a".to_owned()],
        output: vec!["b".to_owned()],
        attribute: vec!["axis".to_owned()],
        node: nodes,
        opset_import: vec![set(""), set("local")],
        ..FunctionProto::default()
    }
}

fn local(operator: &str, inputs: &[&str], outputs: &[&str]) -> NodeProto {
    NodeProto { domain: "local".to_owned(), ..node(operator, inputs, outputs) }
}

#[test]
fn functions_are_checked_like_graphs() {
    let refer =
        AttributeProto { name: "axis".to_owned(), ref_attr_name: "axis".to_owned(), ..number("axis", 0) };
    let elsewhere = AttributeProto { ref_attr_name: "other".to_owned(), ..refer.clone() };
    let flatten = |attribute: &AttributeProto| with(reading("Flatten", "a", "b"), attribute.clone());
    let relu = || vec![reading("Relu", "a", "b")];
    let cases: [(&str, Vec<FunctionProto>, &str); 9] = [
        ("good", vec![function("F", relu())], "good"),
        ("twice", vec![function("F", relu()), function("F", relu())], "two functions are called \"local.F\""),
        (
            "dangling",
            vec![function("F", vec![reading("Relu", "x", "b")])],
            "node 0 (Relu) in the function \"local.F\" uses the value \"x\", which nothing gives",
        ),
        (
            "no output",
            vec![function("F", vec![reading("Relu", "a", "c")])],
            "the output \"b\" of the function \"local.F\" is given by nothing",
        ),
        (
            "calls itself",
            vec![function("F", vec![local("F", &["a"], &["b"])])],
            "the function \"local.F\" calls itself",
        ),
        (
            "calls itself through another",
            vec![
                function("F", vec![local("G", &["a"], &["b"])]),
                function("G", vec![local("F", &["a"], &["b"])]),
            ],
            "the function \"local.F\" calls itself",
        ),
        ("an attribute of the function", vec![function("F", vec![flatten(&refer)])], "good"),
        (
            "an attribute of no function",
            vec![function("F", vec![flatten(&elsewhere)])],
            "node 0 (Flatten) in the function \"local.F\": the attribute \"axis\" stands for \"other\"",
        ),
        ("called with too much", vec![function("G", relu()), function("F", relu())], "good"),
    ];
    for (case, functions, expected) in cases {
        let mut graph = graph();
        graph.node[0] = local("F", &["x"], &["r"]);
        let mut model = ModelProto { functions, ..model(graph) };
        model.opset_import.push(OperatorSetIdProto { domain: "local".to_owned(), version: 1 });
        let told = said(&model);
        assert!(told.starts_with(expected), "{case}: {told}");
        if case == "called with too much" {
            model.graph.as_mut().expect("a graph").node[0].input.push("w".to_owned());
            assert_eq!(said(&model), "node 0 (F) has 2 inputs, \"F\" takes 0 to 1");
        }
    }
}

#[test]
fn an_attribute_has_a_type_and_a_value_of_it() {
    judge(&[
        ("good", |g| g.node[0] = with(reading("Flatten", "x", "r"), number("axis", 1)), "good"),
        ("zero", |g| g.node[0] = with(reading("Flatten", "x", "r"), number("axis", 0)), "good"),
        (
            "no name",
            |g| g.node[0] = with(reading("Flatten", "x", "r"), number("", 1)),
            "node 0 (Flatten) has an attribute without a name",
        ),
        (
            "twice",
            |g| {
                let once = with(reading("Flatten", "x", "r"), number("axis", 1));
                g.node[0] = with(once, number("axis", 1));
            },
            "node 0 (Flatten) has the attribute \"axis\" twice",
        ),
        (
            "no type",
            |g| {
                let untyped = AttributeProto { r#type: 0, ..number("axis", 1) };
                g.node[0] = with(reading("Flatten", "x", "r"), untyped);
            },
            "node 0 (Flatten): the attribute \"axis\" has no type",
        ),
        (
            "no such type",
            |g| {
                let odd = AttributeProto { r#type: 15, ..number("axis", 1) };
                g.node[0] = with(reading("Flatten", "x", "r"), odd);
            },
            "node 0 (Flatten): the attribute \"axis\" has type 15, which does not exist",
        ),
        (
            "another value",
            |g| {
                let odd = AttributeProto { i: 1, ..numbers("axis", &[]) };
                g.node[0] = with(reading("Flatten", "x", "r"), odd);
            },
            "node 0 (Flatten): the attribute \"axis\" is of type ints and has a value of type int",
        ),
        (
            "two values",
            |g| {
                let odd = AttributeProto { f: 1.5, ..number("axis", 1) };
                g.node[0] = with(reading("Flatten", "x", "r"), odd);
            },
            "node 0 (Flatten): the attribute \"axis\" is of type int and has a value of type float",
        ),
        (
            "no graph",
            |g| {
                let mut graph = branch("then_branch", GraphProto::default());
                graph.g = None;
                g.node[0] = with(reading("If", "x", "r"), graph);
            },
            "node 0 (If): the attribute \"then_branch\" is of type graph and has no such value",
        ),
        (
            "a reference outside a function",
            |g| {
                let mut reference = number("axis", 0);
                reference.ref_attr_name = "axis".into();
                g.node[0] = with(reading("Flatten", "x", "r"), reference);
            },
            "node 0 (Flatten): the attribute \"axis\" stands for \"axis\", which is no attribute of a function around it",
        ),
    ]);
}

#[test]
fn what_is_declared_twice_is_declared_alike() {
    judge(&[
        ("alike", |g| g.value_info.push(port("x", element::FLOAT, &[symbol("m"), size(4)])), "good"),
        (
            "without a shape",
            |g| {
                let tensor = TensorTypeProto { elem_type: element::FLOAT, shape: None };
                g.value_info.push(typed("x", TypeValue::Tensor(tensor)));
            },
            "good",
        ),
        ("a size not told", |g| g.value_info.push(port("x", element::FLOAT, &[size(-1), size(4)])), "good"),
        (
            "types",
            |g| g.value_info.push(port("x", element::INT64, &[symbol("n"), size(4)])),
            "the value \"x\" is declared as element type 1 and as 7",
        ),
        (
            "ranks",
            |g| g.value_info.push(port("y", element::FLOAT, &[size(4)])),
            "the value \"y\" is declared with 2 and with 1 dimensions",
        ),
        (
            "sizes",
            |g| g.value_info.push(port("y", element::FLOAT, &[symbol("n"), size(5)])),
            "the value \"y\" is declared with the sizes 4 and 5 for its dimension 1",
        ),
        (
            "an initialiser as an input",
            |g| g.input.push(port("w", element::FLOAT, &[size(5)])),
            "the value \"w\" is declared with the sizes 4 and 5 for its dimension 0",
        ),
    ]);
}

/// `depth` graphs within each other, written without recursion.
fn nested(depth: usize) -> Bytes {
    let field = |number: u8, payload: &[u8]| {
        let mut bytes = vec![number << 3 | 2];
        prost::encoding::encode_varint(payload.len() as u64, &mut bytes);
        bytes.extend_from_slice(payload);
        bytes
    };
    // An attribute's graph is field 6, a node's attribute 5, a graph's node 1.
    let graph = (0..depth).fold(Vec::new(), |graph, _| field(1, &field(5, &field(6, &graph))));
    let mut model = model(graph_without_nodes()).encode_to_vec();
    model.extend(field(7, &graph));
    model.into()
}

fn graph_without_nodes() -> GraphProto {
    GraphProto { output: graph().output, ..GraphProto::default() }
}

#[test]
fn what_is_too_deep_or_too_many_is_refused_before_it_is_decoded() {
    let deep = check(&nested(10_000), &outside).expect_err("too deep");
    assert!(matches!(deep, OnnxError::Nested { .. }), "{deep}");
    let shallow = check(&nested(20), &outside).expect_err("its nodes have no operators");
    assert!(matches!(shallow, OnnxError::Check(_)), "{shallow}");

    // A type within types goes as deep.
    let types = (0..10_000).fold(vec![], |r#type: Vec<u8>, _| {
        let mut bytes = vec![4 << 3 | 2];
        prost::encoding::encode_varint(r#type.len() as u64, &mut bytes);
        bytes.extend(r#type);
        bytes
    });
    let mut ports = vec![2 << 3 | 2];
    prost::encoding::encode_varint(types.len() as u64, &mut ports);
    ports.extend(types);
    let mut inputs = vec![11 << 3 | 2];
    prost::encoding::encode_varint(ports.len() as u64, &mut inputs);
    inputs.extend(ports);
    let mut whole = vec![8, 8, 7 << 3 | 2];
    prost::encoding::encode_varint(inputs.len() as u64, &mut whole);
    whole.extend(inputs);
    assert!(matches!(check(&whole.into(), &outside), Err(OnnxError::Nested { .. })));

    // Two bytes make a node.
    let nodes: Vec<u8> = [1 << 3 | 2, 0].repeat(super::super::parts::PARTS_MAX);
    let mut many = vec![8, 8, 7 << 3 | 2];
    prost::encoding::encode_varint(nodes.len() as u64, &mut many);
    many.extend(nodes);
    assert!(matches!(check(&many.into(), &outside), Err(OnnxError::Parts { .. })));
}

#[test]
fn long_names_are_cut_in_messages() {
    let mut graph = graph();
    graph.node[1].input[1] = "v".repeat(10_000);
    assert!(said(&model(graph)).len() < 300);
}
