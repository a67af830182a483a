//! Expressions, and what hand-built graphs make of their inputs' dimensions.

use super::{Expr, Size, Sizes, infer};
use crate::onnx::{
    build::{branch, constant, integers, model, node, number, numbers, port, size, symbol, weights, with},
    proto::{
        AttributeProto, DimensionValue, GraphProto, ModelProto, NodeProto, TensorProto, attribute, element,
    },
};

fn n() -> Expr {
    Expr::symbol("n").expect("a short name")
}

fn m() -> Expr {
    Expr::symbol("m").expect("a short name")
}

fn number_of(value: i64) -> Expr {
    Expr::constant(value)
}

fn told(size: Size) -> String {
    size.map_or_else(|| "?".to_owned(), |size| size.to_string())
}

#[test]
fn expressions_are_simplified_and_told() {
    let sum = |a: &Expr, b: &Expr| a.plus(b).expect("a small sum");
    let times = |a: &Expr, b: &Expr| a.times(b).expect("a small product");
    let one_more = sum(&n(), &number_of(1));
    let cases: Vec<(Size, &str)> = vec![
        (Some(number_of(0)), "0"),
        (Some(number_of(-7)), "-7"),
        (n().minus(&n()), "0"),
        (Some(times(&n(), &times(&m(), &n()))), "m·n^2"),
        (times(&one_more, &one_more).plus(&m()), "n^2 + m + 2·n + 1"),
        (number_of(3).minus(&times(&number_of(2), &n())), "-2·n + 3"),
        // Whole quotients.
        (times(&number_of(768), &times(&n(), &m())).over(&times(&number_of(64), &m())), "12·n"),
        (times(&one_more, &m()).over(&m()), "n + 1"),
        (times(&one_more, &times(&m(), &number_of(6))).over(&times(&one_more, &number_of(2))), "3·m"),
        (one_more.over(&one_more), "1"),
        // Rounded ones.
        (n().over(&number_of(2)), "floor((n)/(2))"),
        (sum(&times(&number_of(4), &n()), &number_of(3)).over(&number_of(2)), "2·n + 1"),
        (n().minus(&number_of(1)).and_then(|less| less.over(&number_of(2))), "floor((n + 1)/(2)) - 1"),
        (n().over_up(&number_of(4)), "floor((n + 3)/(4))"),
        (number_of(-7).over(&number_of(2)), "-4"),
        (n().over(&number_of(2)).and_then(|half| half.over(&number_of(3))), "floor((n)/(6))"),
        (n().over(&number_of(2)).and_then(|half| half.over_up(&number_of(2))), "floor((n + 2)/(4))"),
        (n().over(&m()), "floor((n)/(m))"),
        (times(&number_of(8), &times(&n(), &m())).over(&times(&number_of(16), &n())), "floor((m)/(2))"),
        (times(&number_of(6), &one_more).over(&number_of(4)), "floor((3·n + 1)/(2)) + 1"),
        (n().over(&number_of(0)), "?"),
        (n().over(&n().minus(&number_of(3)).expect("small")), "?"),
        // The larger and the smaller of two.
        (n().larger(&one_more), "n + 1"),
        (n().larger(&m()), "max(m, n)"),
        (m().larger(&n()), "max(m, n)"),
        (number_of(3).smaller(&number_of(5)), "3"),
        (n().smaller(&number_of(5)), "n - max(5, n) + 5"),
    ];
    for (at, (size, wanted)) in cases.into_iter().enumerate() {
        assert_eq!(told(size), wanted, "case {at}");
    }
}

#[test]
fn expressions_have_values_at_sizes() {
    let sizes: Sizes = [("n".to_owned(), 7), ("m".to_owned(), 3)].into();
    let cases = [
        (n().times(&m()), Some(21)),
        (n().over(&number_of(2)), Some(3)),
        (n().over_up(&number_of(2)), Some(4)),
        (n().over(&m()), Some(2)),
        (n().larger(&m()), Some(7)),
        (n().smaller(&m()), Some(3)),
        (m().minus(&n()), None),
        (Expr::symbol("k"), None),
    ];
    for (at, (size, wanted)) in cases.into_iter().enumerate() {
        assert_eq!(size.and_then(|size| size.at(&sizes)), wanted, "case {at}");
    }
    let large: Sizes = [("n".to_owned(), u64::MAX)].into();
    let power = (0..6).try_fold(n(), |power, _| power.times(&n())).expect("few factors");
    assert_eq!(power.at(&large), None, "beyond what can be counted");
}

#[test]
fn expressions_that_grow_too_large_are_not_known() {
    assert_eq!(Expr::symbol(&"n".repeat(65)), None);
    let names: Vec<_> = (0..70).map(|at| Expr::symbol(&format!("s{at}")).expect("a short name")).collect();
    let sum = names.iter().try_fold(Expr::default(), |sum, name| sum.plus(name));
    assert_eq!(sum, None, "too many terms");
    let nested = names.iter().take(6).try_fold(n(), |nested, name| nested.larger(name));
    assert_eq!(nested, None, "too deep");
    let power = (0..40).try_fold(n(), |power, _| power.times(&n()));
    assert_eq!(power, None, "too high a power");
    let most = number_of(i64::MAX);
    let beyond = (0..4).try_fold(most.clone(), |product, _| product.times(&most));
    assert_eq!(beyond, None, "beyond what can be counted");
}

/// `x` is `f32` of these dimensions, `ids` `i64[n, m]`.
fn shape(x: &[Option<DimensionValue>], initializer: Vec<TensorProto>, nodes: Vec<NodeProto>) -> String {
    let graph = GraphProto {
        input: vec![port("x", element::FLOAT, x), port("ids", element::INT64, &[symbol("n"), symbol("m")])],
        output: vec![port("y", element::FLOAT, &[])],
        initializer,
        node: nodes,
        ..GraphProto::default()
    };
    output(&model(graph))
}

#[test]
fn what_is_cut_off_a_table_is_as_long_as_asked_or_one() {
    let table = weights("table", element::FLOAT, &[512, 4]);
    let bound = |name: &str, value: i64| integers(name, &[1], &[value]);
    let nodes = vec![
        node("Shape", &["x"], &["shape"]),
        node("Slice", &["shape", "one", "two", "zero"], &["length"]),
        node("Slice", &["table", "zero", "length", "zero"], &["rows"]),
        y("Add", &["rows"]),
    ];
    let weights = vec![table, bound("zero", 0), bound("one", 1), bound("two", 2)];
    assert_eq!(shape(&[symbol("n"), symbol("m"), size(4)], weights, nodes), "[n, m, 4]");
}

#[test]
fn a_question_mark_is_no_name() {
    let any = [symbol("?"), symbol("?")];
    assert_eq!(shape(&any, vec![], vec![y("Transpose", &[])]), "[x[1], x[0]]");
}

fn output(model: &ModelProto) -> String {
    let shapes = infer(model, model.graph.as_ref().expect("a graph"));
    match &shapes.outputs[0].dims {
        None => "unknown".to_owned(),
        Some(dims) => format!("[{}]", dims.iter().cloned().map(told).collect::<Vec<_>>().join(", ")),
    }
}

fn text(name: &str, value: &str) -> AttributeProto {
    AttributeProto {
        name: name.to_owned(),
        s: value.to_owned().into(),
        r#type: attribute::STRING,
        ..AttributeProto::default()
    }
}

/// A node from `x`, and what else it takes, to `y`.
fn y(operator: &str, others: &[&str]) -> NodeProto {
    node(operator, &[&["x"], others].concat(), &["y"])
}

type Case<'a> = (&'a str, Vec<Option<DimensionValue>>, Vec<TensorProto>, Vec<NodeProto>, &'a str);

fn judge(cases: Vec<Case<'_>>) {
    for (case, x, weights, nodes, wanted) in cases {
        assert_eq!(shape(&x, weights, nodes), wanted, "{case}");
    }
}

fn floats(name: &str, dims: &[i64]) -> TensorProto {
    weights(name, element::FLOAT, dims)
}

fn list(name: &str, values: &[i64]) -> TensorProto {
    integers(name, &[i64::try_from(values.len()).expect("few")], values)
}

#[test]
fn products_and_convolutions() {
    let image = || vec![symbol("n"), size(3), symbol("h"), size(32)];
    judge(vec![
        (
            "a matrix",
            vec![symbol("n"), symbol("m"), size(8)],
            vec![floats("w", &[8, 5])],
            vec![y("MatMul", &["w"])],
            "[n, m, 5]",
        ),
        ("a vector", vec![symbol("n"), size(8)], vec![floats("w", &[8])], vec![y("MatMul", &["w"])], "[n]"),
        ("no rank", vec![], vec![floats("w", &[8])], vec![y("MatMul", &["w"])], "unknown"),
        (
            "gemm",
            vec![size(8), symbol("n")],
            vec![floats("w", &[5, 8])],
            vec![with(with(y("Gemm", &["w"]), number("transA", 1)), number("transB", 1))],
            "[n, 5]",
        ),
        (
            "a convolution",
            image(),
            vec![floats("w", &[16, 3, 3, 3])],
            vec![y("Conv", &["w"])],
            "[n, 16, h - 2, 30]",
        ),
        (
            "strides, pads and holes",
            image(),
            vec![floats("w", &[16, 3, 3, 3])],
            vec![with(
                with(with(y("Conv", &["w"]), numbers("strides", &[2, 2])), numbers("pads", &[1, 1, 1, 1])),
                numbers("dilations", &[1, 2]),
            )],
            "[n, 16, floor((h + 1)/(2)), 15]",
        ),
        (
            "same",
            image(),
            vec![floats("w", &[16, 3, 3, 3])],
            vec![with(with(y("Conv", &["w"]), numbers("strides", &[2, 2])), text("auto_pad", "SAME_UPPER"))],
            "[n, 16, floor((h + 1)/(2)), 16]",
        ),
        (
            "a pool that rounds up",
            vec![size(1), size(3), size(6), size(5)],
            vec![],
            vec![with(
                with(with(y("MaxPool", &[]), numbers("kernel_shape", &[2, 2])), numbers("strides", &[3, 2])),
                number("ceil_mode", 1),
            )],
            // The third window of the first axis would begin beyond its end.
            "[1, 3, 2, 3]",
        ),
        ("a global pool", image(), vec![], vec![y("GlobalAveragePool", &[])], "[n, 3, 1, 1]"),
        (
            "a transposed convolution",
            image(),
            vec![floats("w", &[3, 4, 2, 2])],
            vec![with(with(y("ConvTranspose", &["w"]), numbers("strides", &[2, 2])), number("group", 2))],
            "[n, 8, 2·h, 64]",
        ),
        (
            "a recurrence",
            vec![symbol("t"), symbol("n"), size(8)],
            vec![floats("w", &[1, 16, 8]), floats("r", &[1, 16, 4])],
            vec![with(y("LSTM", &["w", "r"]), number("hidden_size", 4))],
            "[t, 1, n, 4]",
        ),
        (
            "an equation",
            vec![symbol("n"), size(3), size(8)],
            vec![floats("w", &[3, 8, 5])],
            vec![with(y("Einsum", &["w"]), text("equation", "b h d, h d e -> b e h"))],
            "[n, 5, 3]",
        ),
    ]);
}

#[test]
fn elements_that_are_moved() {
    let x = || vec![symbol("n"), symbol("m"), size(8)];
    judge(vec![
        ("reshape", x(), vec![list("s", &[0, -1, 2, 4])], vec![y("Reshape", &["s"])], "[n, m, 2, 4]"),
        ("to rows", x(), vec![list("s", &[-1, 4])], vec![y("Reshape", &["s"])], "[2·m·n, 4]"),
        ("flatten", x(), vec![], vec![with(y("Flatten", &[]), number("axis", 2))], "[m·n, 8]"),
        ("transpose", x(), vec![], vec![with(y("Transpose", &[]), numbers("perm", &[2, 0, 1]))], "[8, n, m]"),
        ("broadcast", x(), vec![floats("w", &[1, 8])], vec![y("Add", &["w"])], "[n, m, 8]"),
        (
            "broadcast of unlike names",
            vec![symbol("k"), symbol("m")],
            vec![],
            vec![y("Add", &["ids"])],
            "[?, m]",
        ),
        (
            "concat",
            x(),
            vec![floats("w", &[1, 1, 8])],
            vec![with(y("Concat", &["x", "w"]), number("axis", 1))],
            "[1, 2·m + 1, 8]",
        ),
        (
            "slice",
            x(),
            vec![list("a", &[1, -3, 0]), list("b", &[1 << 40, 1 << 40, -1]), list("c", &[0, 2, 1])],
            vec![y("Slice", &["a", "b", "c"])],
            "[max(1, n) - 1, max(0, m - 1), 3]",
        ),
        (
            "every other",
            x(),
            vec![list("a", &[0]), list("b", &[1 << 40]), list("c", &[1]), list("d", &[2])],
            vec![y("Slice", &["a", "b", "c", "d"])],
            "[n, floor((m + 1)/(2)), 8]",
        ),
        ("pad", x(), vec![list("p", &[0, 2, 0, 0, 3, -1])], vec![y("Pad", &["p"])], "[n, m + 5, 7]"),
        ("rows of a table", vec![size(100), size(8)], vec![], vec![y("Gather", &["ids"])], "[n, m, 8]"),
        (
            "squeeze",
            vec![size(1), symbol("n"), size(1)],
            vec![list("a", &[0])],
            vec![y("Squeeze", &["a"])],
            "[n, 1]",
        ),
        ("squeeze of what is not told", x(), vec![], vec![y("Squeeze", &[])], "unknown"),
        ("unsqueeze", x(), vec![list("a", &[-1, 0])], vec![y("Unsqueeze", &["a"])], "[1, n, m, 8, 1]"),
        ("expand", x(), vec![list("s", &[3, 1, 1, 1])], vec![y("Expand", &["s"])], "[3, n, m, 8]"),
        ("tile", x(), vec![list("t", &[1, 2, 3])], vec![y("Tile", &["t"])], "[n, 2·m, 24]"),
        (
            "reduce",
            x(),
            vec![],
            vec![with(with(y("ReduceMean", &[]), numbers("axes", &[-1])), number("keepdims", 0))],
            "[n, m]",
        ),
        ("reduce all", x(), vec![], vec![y("ReduceSum", &[])], "[1, 1, 1]"),
        ("top", x(), vec![list("k", &[5])], vec![with(y("TopK", &["k"]), number("axis", 1))], "[n, 5, 8]"),
        (
            "one-hot",
            vec![symbol("n")],
            vec![list("d", &[7]), floats("v", &[2])],
            vec![y("OneHot", &["d", "v"])],
            "[n, 7]",
        ),
        ("an operator that is not known", x(), vec![], vec![y("Unique", &[])], "unknown"),
        (
            "another domain's",
            x(),
            vec![],
            vec![NodeProto { domain: "org.example".to_owned(), ..y("Relu", &[]) }],
            "unknown",
        ),
    ]);
}

#[test]
fn shapes_that_graphs_compute_are_followed() {
    let x = || vec![symbol("n"), symbol("m"), size(8)];
    let zero = || integers("zero", &[], &[0]);
    let shape_of = || node("Shape", &["x"], &["s"]);
    let first = || node("Gather", &["s", "zero"], &["first"]);
    judge(vec![
        (
            "a dimension put into another shape",
            x(),
            vec![zero(), list("axis", &[0]), list("rest", &[-1, 16])],
            vec![
                shape_of(),
                first(),
                node("Unsqueeze", &["first", "axis"], &["u"]),
                with(node("Concat", &["u", "rest"], &["wanted"]), number("axis", 0)),
                node("Reshape", &["x", "wanted"], &["y"]),
            ],
            "[n, floor((m)/(2)), 16]",
        ),
        (
            "arithmetic",
            x(),
            vec![list("two", &[2])],
            vec![shape_of(), node("Mul", &["s", "two"], &["t"]), node("ConstantOfShape", &["t"], &["y"])],
            "[2·n, 2·m, 16]",
        ),
        (
            "part of a shape",
            x(),
            vec![list("a", &[1]), list("b", &[3])],
            vec![
                shape_of(),
                node("Slice", &["s", "a", "b"], &["t"]),
                node("ConstantOfShape", &["t"], &["y"]),
            ],
            "[m, 8]",
        ),
        (
            "as many as a product",
            x(),
            vec![integers("zero", &[], &[0]), integers("one", &[], &[1])],
            vec![
                shape_of(),
                with(node("ReduceProd", &["s"], &["all"]), number("keepdims", 0)),
                node("Range", &["zero", "all", "one"], &["y"]),
            ],
            "[8·m·n]",
        ),
        (
            "a constant node",
            x(),
            vec![],
            vec![constant("s", list("", &[-1])), node("Reshape", &["x", "s"], &["y"])],
            "[8·m·n]",
        ),
        (
            "a branch by a condition that is known",
            x(),
            vec![zero(), integers("three", &[], &[3])],
            vec![
                node("Shape", &["x"], &["s"]),
                node("Size", &["s"], &["rank"]),
                node("Equal", &["rank", "three"], &["c"]),
                with(
                    with(node("If", &["c"], &["y"]), branch("else_branch", body("Identity"))),
                    branch("then_branch", body("GlobalMaxPool")),
                ),
            ],
            "[n, m, 1]",
        ),
        (
            "branches that agree in part",
            x(),
            vec![],
            vec![
                node("ReduceMax", &["ids"], &["c"]),
                with(
                    with(node("If", &["c"], &["y"]), branch("else_branch", body("Identity"))),
                    branch("then_branch", body("GlobalMaxPool")),
                ),
            ],
            "[n, m, ?]",
        ),
    ]);
}

/// A graph of one node that takes the outer `x`.
fn body(operator: &str) -> GraphProto {
    GraphProto {
        node: vec![node(operator, &["x"], &["inner"])],
        output: vec![port("inner", element::FLOAT, &[])],
        ..GraphProto::default()
    }
}

#[test]
fn a_dimension_without_a_name_is_called_by_its_place() {
    judge(vec![("free", vec![None, size(-1), size(4)], vec![], vec![y("Relu", &[])], "[x[0], x[1], 4]")]);
}

#[test]
fn work_on_a_model_is_bounded() {
    // Each node joins what the last one gave with itself: lists that double, and sums that grow.
    let mut nodes = vec![node("Shape", &["x"], &["s0"])];
    for at in 0..5000 {
        let (from, to) = (format!("s{at}"), format!("s{}", at + 1));
        let operator = if at < 6 { "Concat" } else { "Mul" };
        nodes.push(with(node(operator, &[&from, &from], &[&to]), number("axis", 0)));
    }
    nodes.push(node("ConstantOfShape", &["s5000"], &["y"]));
    let begun = std::time::Instant::now();
    assert_eq!(shape(&[symbol("n"), symbol("m"), symbol("k")], vec![], nodes), "unknown");
    assert!(begun.elapsed().as_secs() < 20, "{:?}", begun.elapsed());
}

#[test]
fn what_a_file_repeats_without_end_is_not_followed() {
    let many: Vec<i64> = (0..1_000_000).collect();
    let names: Vec<_> = (0..200_000).map(|at| format!("p{at}")).collect();
    let mut outputs: Vec<_> = names.iter().map(String::as_str).collect();
    outputs.push("y");
    let letters: String = (0..200u32).filter_map(|at| char::from_u32('\u{4e00}' as u32 + at)).collect();
    let same = vec!["x"; 200];
    let begun = std::time::Instant::now();
    for (case, nodes) in [
        ("axes", vec![with(y("Unsqueeze", &[]), numbers("axes", &many))]),
        ("parts", vec![node("Split", &["x"], &outputs)]),
        ("letters", vec![with(node("Einsum", &same, &["y"]), text("equation", &format!("{letters}->a")))]),
    ] {
        let said = shape(&[symbol("n")], vec![], nodes);
        assert!(said == "unknown" || said == "[?]", "{case}: {said}");
    }
    assert!(begun.elapsed().as_secs() < 20, "{:?}", begun.elapsed());
}
