//! What becomes of hand-built graphs: units, their order and structure, and what shards hold.

mod rewritten;

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;

use super::{CutError, Piece, Shard, Whole};
use crate::{
    domain::{Chain, Digest, Part},
    onnx::{
        Sizes,
        build::{branch, bytes, constant, integers, model, node, number, port, size, symbol, weights, with},
        external,
        proto::{
            ElementTypeProto, FunctionProto, GraphProto, ModelProto, NodeProto, OperatorSetIdProto,
            TensorProto, TypeValue, element,
        },
        read::decode,
    },
};

const WIDTH: i64 = 4;

/// `f32[n, 4]`.
fn rows(name: &str) -> crate::onnx::proto::ValueInfoProto {
    port(name, element::FLOAT, &[symbol("n"), size(WIDTH)])
}

fn square(name: &str) -> TensorProto {
    let mut tensor = weights(name, element::FLOAT, &[WIDTH, WIDTH]);
    tensor.raw_data = vec![1; (WIDTH * WIDTH * 4) as usize].into();
    tensor
}

/// From `inputs` to `outputs`, all `f32[n, 4]`, with these weights of `f32[4, 4]`.
fn graph(nodes: &[NodeProto], inputs: &[&str], outputs: &[&str], weights: &[&str]) -> GraphProto {
    GraphProto {
        name: "test".to_owned(),
        node: nodes.to_vec(),
        initializer: weights.iter().map(|name| square(name)).collect(),
        input: inputs.iter().map(|name| rows(name)).collect(),
        output: outputs.iter().map(|name| rows(name)).collect(),
        ..GraphProto::default()
    }
}

fn read(graph: GraphProto) -> Whole {
    whole(&model(graph)).expect("a graph that can be cut")
}

fn whole(model: &ModelProto) -> Result<Whole, CutError> {
    Whole::read(&bytes(model), Digest::new([1; 32]), &Sizes::from([("n".to_owned(), 2)]))
}

fn decoded(shard: &Shard<'_>) -> (ModelProto, GraphProto) {
    decode(&shard.bytes()).expect("a shard is a model")
}

/// The operators of each unit, in their order.
fn operators(whole: &Whole) -> Vec<String> {
    let of = |unit: &Vec<usize>| {
        let operators = unit.iter().map(|node| whole.graph.node[*node].op_type.as_str());
        operators.filter(|operator| *operator != "Constant").collect::<Vec<_>>().join(" ")
    };
    whole.units.iter().map(of).collect()
}

/// Where each named value comes from and goes to.
fn passing(chain: &Chain) -> BTreeMap<&str, (Option<u32>, Vec<u32>, bool, f64)> {
    let told = |value: &'_ crate::domain::Passing| (value.from, value.to.clone(), value.output, value.bytes);
    chain.values.iter().map(|value| (value.name.as_str(), told(value))).collect()
}

#[test]
fn each_branch_is_followed_to_its_end() {
    // Two branches, whose nodes the file has in turns, and an output of the first step that nobody waits for.
    let nodes = [
        node("MatMul", &["x", "w"], &["a1"]),
        node("MatMul", &["y", "w"], &["b1"]),
        node("Relu", &["a1"], &["a2"]),
        node("Tanh", &["b1"], &["b2"]),
        node("Abs", &["a2"], &["a3"]),
        node("Neg", &["b2"], &["b3"]),
        node("Add", &["a3", "b3"], &["out"]),
        node("Exp", &["a1"], &["side"]),
    ];
    let whole = read(graph(&nodes, &["x", "y"], &["out", "side"], &["w"]));
    assert_eq!(operators(&whole), ["MatMul", "Exp", "Relu", "Abs", "MatMul", "Tanh", "Neg", "Add"]);
    let values = passing(whole.chain());
    assert_eq!(values["x"], (None, vec![0], false, 32.0));
    assert_eq!(values["a1"], (Some(0), vec![1, 2], false, 32.0));
    assert_eq!(values["out"], (Some(7), vec![], true, 32.0));
    assert!(!values.contains_key("w"), "weights pass nowhere");
    assert_eq!(whole.chain().units[0].weights, whole.chain().units[4].weights, "both read the same");
    assert_eq!(whole.chain().weights, [64]);
}

#[test]
fn what_belongs_together_stays_together() {
    let shape = |of: &str| {
        vec![
            node("Shape", &[of], &["shape"]),
            constant("zero", integers("", &[], &[0])),
            node("Gather", &["shape", "zero"], &["count"]),
            constant("axis", integers("", &[1], &[0])),
            node("Unsqueeze", &["count", "axis"], &["first"]),
            constant("rest", integers("", &[1], &[4])),
            node("Concat", &["first", "rest"], &["wanted"]),
        ]
    };
    let concat = |mut nodes: Vec<NodeProto>| {
        for node in nodes.iter_mut().filter(|node| node.op_type == "Concat") {
            node.attribute.push(number("axis", 0));
        }
        nodes
    };
    let sequence = |name: &str, inputs: &[&str], output: &str| node(name, inputs, &[output]);
    let cases: [(&str, Vec<NodeProto>, &[&str]); 5] = [
        (
            "a shape of what is read there goes with its reader",
            [
                vec![node("MatMul", &["x", "w"], &["h"])],
                shape("h"),
                vec![node("Reshape", &["h", "wanted"], &["out"])],
            ]
            .concat(),
            &["MatMul", "Shape Gather Unsqueeze Concat Reshape"],
        ),
        (
            "a shape of what nobody reads any more stays with its maker",
            [
                vec![node("MatMul", &["x", "w"], &["h"]), node("Relu", &["h"], &["r"])],
                shape("h"),
                vec![node("Exp", &["r"], &["e"]), node("Reshape", &["e", "wanted"], &["out"])],
            ]
            .concat(),
            &["MatMul Shape", "Relu", "Exp", "Gather Unsqueeze Concat Reshape"],
        ),
        (
            "sequences are not carried",
            vec![
                sequence("SequenceConstruct", &["x", "x"], "s"),
                constant("at", integers("", &[], &[1])),
                sequence("Relu", &["x"], "r"),
                sequence("SequenceInsert", &["s", "r"], "t"),
                sequence("SequenceAt", &["t", "at"], "u"),
                sequence("Identity", &["u"], "out"),
            ],
            &["Relu", "SequenceConstruct SequenceInsert SequenceAt Identity"],
        ),
        (
            "nor is what would then go round",
            vec![
                node("Unknown", &["x"], &["a"]),
                node("Relu", &["x"], &["b"]),
                node("Unknown", &["a", "b"], &["c"]),
                node("Neg", &["c"], &["d"]),
                node("Add", &["d", "x"], &["out"]),
            ]
            .into_iter()
            .map(|mut node| {
                if node.op_type == "Unknown" {
                    node.domain = "example".to_owned();
                }
                node
            })
            .collect(),
            &["Relu", "Unknown Unknown Neg Add"],
        ),
        (
            "what is made of weights alone is made wherever it is needed",
            vec![
                node("Transpose", &["w"], &["t"]),
                node("MatMul", &["x", "t"], &["a"]),
                node("MatMul", &["a", "t"], &["out"]),
            ],
            &["Transpose MatMul", "Transpose MatMul"],
        ),
    ];
    for (case, nodes, wanted) in cases {
        let mut model = model(graph(&concat(nodes), &["x"], &["out"], &["w"]));
        model.opset_import.push(OperatorSetIdProto { domain: "example".to_owned(), version: 1 });
        let whole = whole(&model).unwrap_or_else(|error| panic!("{case}: {error}"));
        whole.chain().check().expect("a good chain");
        assert_eq!(operators(&whole), wanted, "{case}");
    }
}

/// One layer as transformers have it, from `x` to `y`, all of whose names end alike.
fn layer(at: usize, x: &str, y: &str) -> Vec<NodeProto> {
    let name = |name: &str| format!("{name}{at}");
    let add = |operator: &str, inputs: &[&str], output: &str| {
        let inputs: Vec<_> = inputs
            .iter()
            .map(|input| {
                if ["x", "y"].contains(input) || input.starts_with('w') {
                    (*input).to_owned()
                } else {
                    name(input)
                }
            })
            .map(|input| if input == "x" { x.to_owned() } else { input })
            .collect();
        let inputs: Vec<_> = inputs.iter().map(String::as_str).collect();
        let output = if output == "y" { y.to_owned() } else { name(output) };
        node(operator, &inputs, &[&output])
    };
    vec![
        add("MatMul", &["x", "wq"], "q"),
        add("MatMul", &["x", "wk"], "k"),
        add("Transpose", &["k"], "kt"),
        add("MatMul", &["q", "kt"], "scores"),
        add("Softmax", &["scores"], "shares"),
        add("MatMul", &["x", "wv"], "v"),
        add("MatMul", &["shares", "v"], "mixed"),
        add("MatMul", &["mixed", "wo"], "o"),
        add("Add", &["x", "o"], "a"),
        add("MatMul", &["a", "wu"], "up"),
        add("Relu", &["up"], "act"),
        add("MatMul", &["act", "wd"], "down"),
        add("Add", &["a", "down"], "y"),
    ]
}

#[test]
fn layers_have_their_parts() {
    let mut nodes = vec![node("Gather", &["table", "ids"], &["h0"])];
    for at in 0..3 {
        nodes.extend(layer(at, &format!("h{at}"), &format!("h{}", at + 1)));
    }
    nodes.push(node("MatMul", &["h3", "wh"], &["out"]));
    let weights = ["table", "wq", "wk", "wv", "wo", "wu", "wd", "wh"];
    let mut graph = graph(&nodes, &[], &["out"], &weights);
    graph.input = vec![port("ids", element::INT64, &[symbol("n")])];
    let whole = read(graph);
    let of = |part: Part| whole.chain().units.iter().filter(|unit| unit.part == part).count();
    let told = (of(Part::Embedding), of(Part::Attention), of(Part::FeedForward), of(Part::Head));
    assert_eq!(told, (1, 3 * 9, 3 * 4, 1));
    let blocks: Vec<_> = whole.chain().units.iter().map(|unit| unit.block).collect();
    let block = |number: u32| vec![Some(number); 13];
    assert_eq!(blocks, [vec![None], block(0), block(1), block(2), vec![None]].concat());
}

#[test]
fn towers_are_apart_until_they_meet() {
    let tower = |x: &str, y: &str| {
        let mid = format!("{y}-mid");
        vec![node("MatMul", &[x, "w"], &[&mid]), node("MatMul", &[&mid, "w"], &[y])]
    };
    let met = vec![node("Add", &["a", "b"], &["c"]), node("Relu", &["c"], &["out"])];
    let towers = |nodes: Vec<NodeProto>, inputs: &[&str]| {
        let whole = read(graph(&nodes, inputs, &["out"], &["w"]));
        whole.chain().units.iter().map(|unit| unit.tower).collect::<Vec<_>>()
    };
    let apart = [tower("x", "a"), tower("y", "b"), met.clone()].concat();
    assert_eq!(towers(apart, &["x", "y"]), [Some(0), Some(0), Some(1), Some(1), None, None]);
    // A little work on the other input makes no tower.
    let light = [tower("x", "a"), vec![node("Neg", &["y"], &["b"])], met].concat();
    assert_eq!(towers(light, &["x", "y"]), [None; 5]);
}

#[test]
fn shards_hold_what_they_need_and_no_more() {
    let mut captures = node("If", &["condition"], &["c"]);
    for (name, weight) in [("then_branch", "inner"), ("else_branch", "first")] {
        let made = format!("{name}-made");
        let inner = GraphProto {
            node: vec![node("MatMul", &["b", weight], &[&made])],
            output: vec![rows(&made)],
            ..GraphProto::default()
        };
        captures = with(captures, branch(name, inner));
    }
    let nodes = [
        node("MatMul", &["x", "first"], &["a"]),
        node("ReduceSum", &["a"], &["sum"]),
        node("Relu", &["a"], &["b"]),
        node("Cast", &["sum"], &["condition"]),
        captures,
        node("MatMul", &["c", "first"], &["out"]),
    ]
    .map(|node| match node.op_type.as_str() {
        "ReduceSum" => with(node, number("keepdims", 0)),
        "Cast" => with(node, number("to", element::BOOL.into())),
        _ => node,
    });
    let mut whole_graph = graph(&nodes, &["x"], &["out", "b"], &["first", "inner"]);
    whole_graph.value_info = vec![rows("b")];
    let whole = read(whole_graph);
    assert_eq!(operators(&whole), ["MatMul", "ReduceSum Cast", "Relu", "If", "MatMul"]);
    let shards = whole.at(&[2, 3]).expect("frontiers");
    let names = |ports: &[crate::onnx::proto::ValueInfoProto]| {
        ports.iter().map(|port| port.name.clone()).collect::<Vec<_>>()
    };
    let told: Vec<_> = shards
        .iter()
        .map(|shard| {
            let (_, graph) = decoded(shard);
            let weights = graph.initializer.iter().map(|tensor| tensor.name.clone()).collect::<Vec<_>>();
            (names(&graph.input), names(&graph.output), weights, shard.weight_bytes())
        })
        .collect();
    let owned = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
    assert_eq!(
        told,
        [
            (owned(&["x"]), owned(&["a", "condition"]), owned(&["first"]), 64),
            (owned(&["a"]), owned(&["b"]), vec![], 0),
            (owned(&["b", "condition"]), owned(&["out"]), owned(&["first", "inner"]), 128),
        ]
    );
    let (model, graph) = decoded(&shards[1]);
    let note = |key: &str| {
        model.metadata_props.iter().find(|entry| entry.key == key).map(|entry| entry.value.as_str())
    };
    assert_eq!(note("shard_of"), Some("01".repeat(32).as_str()));
    assert_eq!(note("shard_units"), Some("2"));
    assert_eq!(graph.input[0], rows("a"), "its dimensions keep their names");
    assert_eq!(shards[1].bytes(), whole.at(&[2, 3]).expect("frontiers")[1].bytes(), "the same each time");
    assert_eq!(
        whole.groups(&[vec![1, 0], vec![2], vec![4, 3]]).expect("the same")[1].bytes(),
        shards[1].bytes()
    );
}

#[test]
fn inputs_and_weights_that_are_outputs_come_out() {
    let nodes =
        [node("Neg", &["x"], &["a"]), node("Exp", &["a"], &["out"]), node("Transpose", &["w"], &["turned"])];
    let mut with_outputs = graph(&nodes, &["x"], &["out", "x", "turned"], &["w"]);
    with_outputs.output.push(port("w", element::FLOAT, &[size(WIDTH), size(WIDTH)]));
    let whole = read(with_outputs);
    whole.chain().check().expect("a good chain");
    let units = whole.chain().units.len();
    let shards = whole.at(&(1..units).collect::<Vec<_>>()).expect("frontiers");
    let made: Vec<&str> = shards.iter().flat_map(Shard::outputs).collect();
    for output in ["out", "x", "turned", "w"] {
        assert_eq!(made.iter().filter(|name| **name == output).count(), 1, "{output} in {made:?}");
    }
}

#[test]
fn old_files_list_their_weights_as_inputs() {
    let nodes = [node("MatMul", &["x", "w"], &["a"]), node("MatMul", &["a", "v"], &["out"])];
    let mut graph = graph(&nodes, &["w", "x", "v"], &["out"], &["w", "v"]);
    for input in graph.input.iter_mut().filter(|input| input.name != "x") {
        *input = port(&input.name, element::FLOAT, &[size(WIDTH), size(WIDTH)]);
    }
    let mut model = model(graph);
    model.ir_version = 3;
    let whole = whole(&model).expect("a good model");
    let shards = whole.at(&[1]).expect("a frontier");
    assert_eq!(shards[1].inputs().collect::<Vec<_>>(), ["a"]);
    let (model, graph) = decoded(&shards[1]);
    assert_eq!(model.ir_version, 3);
    assert_eq!(graph.input.iter().map(|port| port.name.as_str()).collect::<Vec<_>>(), ["a", "v"]);
}

#[test]
fn functions_and_domains_go_where_they_are_called() {
    let call = |name: &str, input: &str, output: &str| NodeProto {
        domain: "own".to_owned(),
        ..node(name, &[input], &[output])
    };
    let function = |name: &str, inner: NodeProto| FunctionProto {
        name: name.to_owned(),
        domain: "own".to_owned(),
        input: vec!["i".to_owned()],
        output: vec!["o".to_owned()],
        node: vec![inner],
        opset_import: ["", "own"]
            .map(|domain| OperatorSetIdProto {
                domain: domain.to_owned(),
                version: if domain.is_empty() { 17 } else { 1 },
            })
            .to_vec(),
        ..FunctionProto::default()
    };
    let nodes = [node("Neg", &["x"], &["a"]), call("Outer", "a", "b"), node("Exp", &["b"], &["out"])];
    let mut graph = graph(&nodes, &["x"], &["out"], &[]);
    graph.value_info = vec![rows("b")];
    let mut model = model(graph);
    model.opset_import.push(OperatorSetIdProto { domain: "own".to_owned(), version: 1 });
    model.functions = vec![
        function("Inner", node("Relu", &["i"], &["o"])),
        function("Unused", node("Abs", &["i"], &["o"])),
        function("Outer", call("Inner", "i", "o")),
    ];
    let whole = whole(&model).expect("a good model");
    let told: Vec<_> = whole
        .at(&[1, 2])
        .expect("frontiers")
        .iter()
        .map(|shard| {
            let (model, _) = decoded(shard);
            let functions = model.functions.iter().map(|function| function.name.clone()).collect::<Vec<_>>();
            (functions, model.opset_import.len())
        })
        .collect();
    let called = vec!["Inner".to_owned(), "Outer".to_owned()];
    assert_eq!(told, [(vec![], 1), (called, 2), (vec![], 1)]);
}

#[test]
fn weights_beside_the_model_stay_or_come_together() {
    let outside = |name: &str, offset: u64| {
        let mut tensor = weights(name, element::FLOAT, &[WIDTH, WIDTH]);
        external::place(&mut tensor, "all.bin", offset, 64);
        tensor
    };
    let nodes = [
        node("MatMul", &["x", "u"], &["a"]),
        node("MatMul", &["a", "v"], &["b"]),
        node("MatMul", &["b", "w"], &["c"]),
        node("MatMul", &["c", "v"], &["out"]),
    ];
    let mut graph = graph(&nodes, &["x"], &["out"], &[]);
    graph.initializer = vec![outside("u", 0), outside("v", 64), outside("w", 1 << 32)];
    let whole = read(graph);
    let shards = whole.at(&[1]).expect("a frontier");
    let piece = |from: u64, to: u64| Piece { file: "all.bin".to_owned(), from, bytes: 64, to };
    assert_eq!(shards[0].pieces(), [piece(0, 0)]);
    assert_eq!(shards[1].pieces(), [piece(64, 0), piece(1 << 32, 4096)]);
    assert_eq!(shards[1].weight_bytes(), 128);
    let places = |file: Bytes| {
        let (_, graph) = decode(&file).expect("a model");
        let place = |tensor: &TensorProto| {
            let (file, from, bytes) = external::range(tensor).expect("it lies outside");
            (tensor.name.clone(), file.to_owned(), from, bytes)
        };
        graph.initializer.iter().map(place).collect::<Vec<_>>()
    };
    let at = |name: &str, file: &str, from: u64| (name.to_owned(), file.to_owned(), from, 64);
    assert_eq!(places(shards[1].bytes()), [at("v", "all.bin", 64), at("w", "all.bin", 1 << 32)]);
    let mut file = Vec::new();
    shards[1].write_beside("own.bin", &mut file).expect("memory takes it");
    assert_eq!(places(file.into()), [at("v", "own.bin", 0), at("w", "own.bin", 4096)]);
}

#[test]
fn what_cannot_be_cut_is_said() {
    let three =
        [node("Neg", &["x"], &["a"]), node("Exp", &["a"], &["b"]), node("Add", &["a", "b"], &["out"])];
    let whole = read(graph(&three, &["x"], &["out"], &[]));
    let cases: [(Result<Vec<Shard<'_>>, CutError>, &str); 9] = [
        (whole.at(&[1, 2, 3]), "4 stages need 3 frontiers, and the graph has 2"),
        (
            whole.at(&[2, 1]),
            "no stage may be empty, and stages come in order: [2, 1] are no frontiers of 3 units",
        ),
        (whole.at(&[0]), "no stage may be empty, and stages come in order: [0] are no frontiers of 3 units"),
        (
            whole.groups(&[vec![0, 2], vec![1]]),
            "the groups need each other's values in a circle: 0 -> 1 -> 0",
        ),
        (
            whole.groups(&[vec![1, 2], vec![0]]),
            "group 0 reads \"a\", which group 1 makes after it; put group 1 ahead",
        ),
        (
            whole.groups(&[vec![0], vec![1]]),
            "the groups hold unit 2 0 times, and each unit belongs to one group",
        ),
        (
            whole.groups(&[vec![0, 1], vec![1, 2]]),
            "the groups hold unit 1 2 times, and each unit belongs to one group",
        ),
        (whole.groups(&[vec![0, 1, 2], vec![]]), "group 1 is empty"),
        (whole.groups(&[vec![0, 1, 2, 3]]), "there is no unit 3: the chain has 3"),
    ];
    for (result, wanted) in cases {
        assert_eq!(result.err().expect(wanted).to_string(), wanted);
    }
}

#[test]
fn values_that_nobody_can_carry_are_named() {
    let mut sequence = rows("s");
    let element = sequence.r#type.take().map(Box::new);
    sequence.r#type = Some(crate::onnx::proto::TypeProto {
        value: Some(TypeValue::Sequence(Box::new(ElementTypeProto { elem_type: element }))),
        ..Default::default()
    });
    let through = |value: crate::onnx::proto::ValueInfoProto| {
        let foreign = |name: &str, input: &str, output: &str| NodeProto {
            domain: "example".to_owned(),
            ..node(name, &[input], &[output])
        };
        let nodes = [foreign("A", "x", "s"), foreign("B", "s", "out")];
        let mut graph = graph(&nodes, &["x"], &["out"], &[]);
        graph.value_info = vec![value];
        let mut model = model(graph);
        model.opset_import.push(OperatorSetIdProto { domain: "example".to_owned(), version: 1 });
        let whole = whole(&model).expect("one unit is a chain, too");
        assert_eq!(whole.chain().units.len(), 1);
        whole.at(&[1]).err().expect("no frontier").to_string()
    };
    let ends = |value, why: &str| {
        let wanted =
            format!("2 stages need 1 frontiers, and the graph has 0; nodes stay together where \"s\" {why}");
        assert_eq!(through(value), wanted);
    };
    ends(sequence, "is a sequence, which is no tensor");
    ends(rows("unrelated"), "is of a type that cannot be told; export the model with its inferred shapes");
    ends(port("s", element::COMPLEX64, &[size(2)]), "has element type 14, which the protocol cannot carry");
    ends(port("s", element::STRING, &[size(2)]), "is text, whose size is not known ahead");
    ends(
        port("s", element::FLOAT, &[size(2), None]),
        "is of a size that cannot be told; export the model with its inferred shapes",
    );
    let mut rankless = rows("s");
    if let Some(TypeValue::Tensor(tensor)) = rankless.r#type.as_mut().and_then(|of| of.value.as_mut()) {
        tensor.shape = None;
    }
    ends(rankless, "has dimensions whose number cannot be told; export the model with its inferred shapes");
}

#[test]
fn sizes_and_models_are_checked_first() {
    let good = bytes(&model(graph(&[node("Neg", &["x"], &["out"])], &["x"], &["out"], &[])));
    let refused = |file: &Bytes, sizes: &Sizes| match Whole::read(file, Digest::new([0; 32]), sizes) {
        Ok(_) => panic!("it can be cut"),
        Err(error) => error.to_string(),
    };
    let error = refused(&good, &Sizes::new());
    assert_eq!(error, "the size of \"n\" is not said, which input \"x\" has");
    let nothing = bytes(&model(graph(&[], &["x"], &["x"], &[])));
    let sizes = Sizes::from([("n".to_owned(), 2)]);
    let error = refused(&nothing, &sizes);
    assert_eq!(error, "the graph has no nodes that an output depends on, so there is nothing to cut");
    let dangling = bytes(&model(graph(&[node("Neg", &["no"], &["out"])], &["x"], &["out"], &[])));
    let error = refused(&dangling, &sizes);
    assert_eq!(error, "node 0 (Neg) uses the value \"no\", which nothing gives");
    let unknown = bytes(&model(graph(&[node("Negate", &["x"], &["out"])], &["x"], &["out"], &[])));
    let error = refused(&unknown, &sizes);
    assert!(
        error.starts_with("node 0 (Negate): version 17 of the standard operators has no \"Negate\""),
        "{error}"
    );
}

#[test]
fn a_thousand_nodes_are_told_apart_in_order() {
    let mut nodes = Vec::new();
    for at in 0..80 {
        nodes.extend(layer(at, &format!("h{at}"), &format!("h{}", at + 1)));
    }
    let weights = ["wq", "wk", "wv", "wo", "wu", "wd"];
    let whole = read(graph(&nodes, &["h0"], &["h80"], &weights));
    let chain = whole.chain();
    assert_eq!(chain.units.len(), 80 * 13);
    let blocks: BTreeSet<_> = chain.units.iter().filter_map(|unit| unit.block).collect();
    assert_eq!(blocks.len(), 80);
    // Between layers nothing but their result is under way.
    for at in (13..80 * 13).step_by(13) {
        let crossing = chain.values.iter().filter(|value| {
            value.from.is_some_and(|from| (from as usize) < at)
                && value.to.iter().any(|to| *to as usize >= at)
        });
        assert_eq!(crossing.count(), 1, "before unit {at}");
    }
}
