//! Costs that were worked out by hand.

use bytes::Bytes;

use super::{Costs, costs};
use crate::onnx::{
    Sizes,
    build::{branch, bytes, constant, model, node, number, numbers, port, size, symbol, weights, with},
    proto::{GraphProto, NodeProto, TensorProto, element},
};

/// `x` is `f32[n, 8]`, `image` `f32[n, 3, 10, 10]`.
fn of(weights: Vec<TensorProto>, nodes: Vec<NodeProto>) -> Costs {
    costs(&file(weights, nodes)).expect("a good model")
}

fn file(initializer: Vec<TensorProto>, nodes: Vec<NodeProto>) -> Bytes {
    let image = [symbol("n"), size(3), size(10), size(10)];
    bytes(&model(GraphProto {
        input: vec![
            port("x", element::FLOAT, &[symbol("n"), size(8)]),
            port("image", element::FLOAT, &image),
        ],
        output: vec![port("y", element::FLOAT, &[])],
        initializer,
        node: nodes,
        ..GraphProto::default()
    }))
}

fn floats(name: &str, dims: &[i64]) -> TensorProto {
    weights(name, element::FLOAT, dims)
}

/// Operations, bytes of weights, bytes of activations of the only node.
fn told(weights: Vec<TensorProto>, node: NodeProto) -> [String; 3] {
    let Costs { nodes } = of(weights, vec![node]);
    let text = |expr: &Option<crate::onnx::Expr>| expr.as_ref().map_or("?".to_owned(), ToString::to_string);
    [text(&nodes[0].flops), text(&nodes[0].weight_bytes), text(&nodes[0].activation_bytes)]
}

#[test]
fn operators_cost_what_the_hand_says() {
    let y = |operator: &str, inputs: &[&str]| node(operator, inputs, &["y"]);
    let cases = [
        // Two for each of n·5 sums of eight products; 160 bytes of weights; n·8 and n·5 floats.
        ("MatMul", vec![floats("w", &[8, 5])], y("MatMul", &["x", "w"]), ["80·n", "160", "52·n"]),
        (
            "Gemm",
            vec![floats("w", &[8, 5]), floats("b", &[5])],
            y("Gemm", &["x", "w", "b"]),
            ["85·n", "180", "52·n"],
        ),
        // Eight by eight places of four channels, each 27 products and a bias.
        (
            "Conv",
            vec![floats("w", &[4, 3, 3, 3]), floats("b", &[4])],
            y("Conv", &["image", "w", "b"]),
            ["14080·n", "448", "2224·n"],
        ),
        // One weight per channel and place of the kernel.
        (
            "depthwise",
            vec![floats("w", &[3, 1, 3, 3])],
            with(y("Conv", &["image", "w"]), number("group", 3)),
            ["3456·n", "108", "1968·n"],
        ),
        (
            "MaxPool",
            vec![],
            with(
                with(y("MaxPool", &["image"]), numbers("kernel_shape", &[2, 2])),
                numbers("strides", &[2, 2]),
            ),
            ["300·n", "0", "1500·n"],
        ),
        ("Relu", vec![], y("Relu", &["x"]), ["8·n", "0", "64·n"]),
        ("Add", vec![floats("w", &[8])], y("Add", &["x", "w"]), ["8·n", "32", "64·n"]),
        ("Softmax", vec![], y("Softmax", &["x"]), ["40·n", "0", "64·n"]),
        ("Cast", vec![], with(y("Cast", &["x"]), number("to", element::FLOAT16.into())), ["0", "0", "48·n"]),
        ("Transpose", vec![], y("Transpose", &["x"]), ["0", "0", "64·n"]),
        ("ReduceSum", vec![], y("ReduceSum", &["image"]), ["300·n", "0", "1200·n + 4"]),
        // Ten steps of n rows: four gates of 5 with 3·10 + 5 inputs, and nine operations for each of 5.
        (
            "LSTM",
            vec![floats("w", &[1, 20, 10]), floats("r", &[1, 20, 5])],
            with(y("LSTM", &["t", "w", "r"]), number("hidden_size", 5)),
            ["?", "1200", "?"],
        ),
        ("unknown", vec![], y("Unique", &["x"]), ["?", "0", "?"]),
        // Made of weights alone, and so once.
        ("weights", vec![floats("w", &[8])], y("Relu", &["w"]), ["0", "32", "0"]),
    ];
    for (case, weights, node, wanted) in cases {
        assert_eq!(told(weights, node), wanted, "{case}");
    }
}

#[test]
fn a_recurrence_costs_its_gates_for_each_step() {
    let nodes = vec![
        with(node("Transpose", &["image"], &["t4"]), numbers("perm", &[2, 0, 1, 3])),
        constant("shape", crate::onnx::build::integers("", &[3], &[10, -1, 30])),
        node("Reshape", &["t4", "shape"], &["t"]),
        with(node("LSTM", &["t", "w", "r"], &["y"]), number("hidden_size", 5)),
    ];
    let Costs { nodes } = of(vec![floats("w", &[1, 20, 30]), floats("r", &[1, 20, 5])], nodes);
    // Ten steps of n rows: four gates of 5, each a sum of 30 + 5 products; nine operations for each of 5.
    let wanted = 10 * (2 * 4 * 5 * 35 + 9 * 5);
    assert_eq!(nodes[3].flops.as_ref().map(ToString::to_string), Some(format!("{wanted}·n")));
}

#[test]
fn totals_add_what_is_known_and_say_how_much_is_not() {
    let nodes = vec![
        node("MatMul", &["x", "w"], &["a"]),
        node("Relu", &["a"], &["b"]),
        node("Unique", &["b"], &["c"]),
        node("Relu", &["c"], &["y"]),
    ];
    let total = of(vec![floats("w", &[8, 5])], nodes).total();
    let text = |expr: &Option<crate::onnx::Expr>| expr.as_ref().map(ToString::to_string).unwrap_or_default();
    assert_eq!((text(&total.flops), text(&total.activation_bytes)), ("85·n".to_owned(), "92·n".to_owned()));
    assert_eq!((total.nodes, total.known), (4, 2));
    let sizes: Sizes = [("n".to_owned(), 3)].into();
    assert_eq!(total.at(&sizes), Some((255, 276)));
    assert_eq!(total.at(&Sizes::new()), None);
}

#[test]
fn a_choice_costs_its_dearer_branch() {
    let body = |operator: &str| GraphProto {
        node: vec![node(operator, &["x"], &["inner"])],
        output: vec![port("inner", element::FLOAT, &[])],
        ..GraphProto::default()
    };
    let choice = |then: &str, other: &str| {
        let both = with(node("If", &["c"], &["y"]), branch("then_branch", body(then)));
        vec![node("ReduceMax", &["x"], &["c"]), with(both, branch("else_branch", body(other)))]
    };
    let text = |costs: &Costs| costs.nodes[1].flops.as_ref().map(ToString::to_string);
    let dearer = of(vec![], choice("Softmax", "Relu"));
    // Their costs differ by a multiple of n, of which it is not told that it is positive.
    assert_eq!(text(&dearer), Some("max(8·n, 40·n)".to_owned()));
    assert_eq!((dearer.nodes[1].nodes, dearer.nodes[1].known), (3, 3));
    let unknown = of(vec![], choice("Softmax", "Unique"));
    assert_eq!(text(&unknown), None);
    assert_eq!((unknown.nodes[1].nodes, unknown.nodes[1].known), (3, 1));
}

#[test]
fn nodes_are_called_by_their_name_or_first_output() {
    let named = NodeProto { name: "first".to_owned(), ..node("Relu", &["x"], &["a"]) };
    let foreign = NodeProto { domain: "com.microsoft".to_owned(), ..node("QuickGelu", &["a"], &["y"]) };
    let Costs { nodes } = of(vec![], vec![named, foreign]);
    let called: Vec<_> = nodes.iter().map(|node| (node.name.as_str(), node.operator.as_str())).collect();
    assert_eq!(called, [("first", "Relu"), ("y", "com.microsoft.QuickGelu")]);
    assert_eq!(nodes[1].flops.as_ref().map(ToString::to_string), Some("8·n".to_owned()));
}
