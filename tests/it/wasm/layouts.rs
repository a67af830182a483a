//! Maps, gathering, reductions, softmax and norms.

use weft::kernels::{
    host::Host,
    ir::{
        Binary, Call, Element, Expr, Gather, Map, Norm, NormKind, Reduce, ReduceOp, Slot, Softmax, To, Unary,
        View,
    },
};

use super::{Case, case, check, dense, view};

const SIZES: [usize; 6] = [1, 3, 17, 129, 256, 1000];

/// Functions in 32 bits.
const FUNCTIONS: f64 = 1e-6;

#[allow(clippy::unnecessary_box_returns, reason = "expressions hold theirs in boxes")]
fn input(at: usize) -> Box<Expr> {
    Box::new(Expr::Input(at))
}

/// A map over dense inputs.
fn mapped(mut case: Case, inputs: &[Slot], shape: &[usize], element: Element, expr: Expr) -> Case {
    let output = case.made(element, shape.iter().product());
    let inputs = inputs.iter().map(|slot| view(*slot, &dense(shape))).collect();
    case.call(Call::Map(Map { shape: shape.to_vec(), inputs, output: view(output, &dense(shape)), expr }))
}

#[test]
fn functions() {
    let all = [
        Unary::Abs,
        Unary::Neg,
        Unary::Sign,
        Unary::Exp,
        Unary::Log,
        Unary::Sqrt,
        Unary::Reciprocal,
        Unary::Floor,
        Unary::Ceil,
        Unary::Round,
        Unary::Sin,
        Unary::Cos,
        Unary::Tan,
        Unary::Asin,
        Unary::Acos,
        Unary::Atan,
        Unary::Sinh,
        Unary::Cosh,
        Unary::Tanh,
        Unary::Asinh,
        Unary::Acosh,
        Unary::Atanh,
        Unary::Erf,
        Unary::Sigmoid,
        Unary::Softplus,
        Unary::Gelu,
        Unary::GeluTanh,
        Unary::Silu,
        Unary::Relu,
        Unary::IsNan,
        Unary::IsInf,
    ];
    let mut values: Vec<f32> = (-400..=400).map(|at| at as f32 * 0.0371).collect();
    values.extend([
        0.0,
        1.0,
        -1.0,
        0.5,
        2.5,
        1e-8,
        -1e-8,
        1e-30,
        3e-39,
        80.0,
        -80.0,
        1e5,
        3e38,
        f32::NAN,
        f32::INFINITY,
    ]);
    let cases = all.map(|op| {
        let mut case = case(format!("{op:?}"));
        let flags = matches!(op, Unary::IsNan | Unary::IsInf);
        let kept = values.iter().copied().filter(|value| {
            // Of these the interpreter, in 32 bits, is further from the truth.
            let large = value.is_finite() && value.abs() > 100.0;
            let lost = matches!(op, Unary::Gelu | Unary::GeluTanh) && *value < -4.0;
            !(large || lost) || flags
        });
        let given = case.given(Host::F32(kept.collect()));
        let len = case.routine.slots[0].len;
        let element = if flags { Element::I32 } else { Element::F32 };
        let mut case = mapped(case, &[given], &[len], element, Expr::Unary(op, input(0)));
        case.usual = Some(0.5);
        case.tolerance = if flags { 0.0 } else { FUNCTIONS };
        case
    });
    check(&cases);
}

#[test]
fn operations_on_floats() {
    let all = [
        Binary::Add,
        Binary::Sub,
        Binary::Mul,
        Binary::Div,
        Binary::Mod,
        Binary::Fmod,
        Binary::Pow,
        Binary::Min,
        Binary::Max,
        Binary::Equal,
        Binary::Less,
        Binary::LessOrEqual,
        Binary::Greater,
        Binary::GreaterOrEqual,
    ];
    let sides = [-3.5f32, -2.0, -0.75, -0.5, 0.25, 0.5, 1.0, 1.5, 2.0, 3.0, 7.25];
    let cases = all.map(|op| {
        let mut case = case(format!("{op:?}"));
        let pairs = || sides.iter().flat_map(|a| sides.iter().map(move |b| (*a, *b)));
        let a = case.given(Host::F32(pairs().map(|(a, _)| a).collect()));
        let b = case.given(Host::F32(pairs().map(|(_, b)| b).collect()));
        let compares = op as u32 >= Binary::Equal as u32;
        let element = if compares { Element::I32 } else { Element::F32 };
        mapped(case, &[a, b], &[121], element, Expr::Binary(op, input(0), input(1)))
    });
    check(&cases);
}

#[test]
fn operations_on_whole_numbers() {
    let binary = [
        Binary::Add,
        Binary::Sub,
        Binary::Mul,
        Binary::Div,
        Binary::Mod,
        Binary::Fmod,
        Binary::Pow,
        Binary::Min,
        Binary::Max,
        Binary::Equal,
        Binary::Less,
        Binary::LessOrEqual,
        Binary::Greater,
        Binary::GreaterOrEqual,
        Binary::BitAnd,
        Binary::BitOr,
        Binary::BitXor,
    ];
    let sides = [-7i64, -2, -1, 0, 1, 2, 3, 5, 9];
    let pairs = || sides.iter().flat_map(|a| sides.iter().map(move |b| (*a, *b)));
    let mut cases: Vec<Case> = binary
        .into_iter()
        .map(|op| {
            let mut case = case(format!("whole {op:?}"));
            let a = case.given(Host::I64(pairs().map(|(a, _)| a).collect()));
            let b = case.given(Host::I64(pairs().map(|(_, b)| b).collect()));
            mapped(case, &[a, b], &[81], Element::I32, Expr::Binary(op, input(0), input(1)))
        })
        .collect();
    for op in [Binary::And, Binary::Or, Binary::Xor] {
        let mut case = case(format!("{op:?}"));
        let a = case.given(Host::I64(vec![0, 0, 1, 1]));
        let b = case.given(Host::I64(vec![0, 1, 0, 1]));
        cases.push(mapped(case, &[a, b], &[4], Element::I32, Expr::Binary(op, input(0), input(1))));
    }
    for op in [Unary::Abs, Unary::Neg, Unary::Sign, Unary::Not] {
        let mut case = case(format!("whole {op:?}"));
        let a = case.given(Host::I64(sides.to_vec()));
        cases.push(mapped(case, &[a], &[9], Element::I32, Expr::Unary(op, input(0))));
    }
    let floats = || Host::F32(vec![-2.7, -0.4, 0.0, 0.4, 2.7, 1e12, -1e12, f32::NAN]);
    // What does not fit is another matter in 64 bits.
    let some = || Host::F32(vec![-2.7, -0.4, 0.0, 0.4, 2.7, f32::NAN]);
    for (name, given, element, to) in [
        ("to whole", some(), Element::I32, To::Int),
        ("to flag", floats(), Element::I32, To::Flag),
        ("to float", Host::I64(sides.to_vec()), Element::F32, To::Float),
        ("whole to flag", Host::I64(sides.to_vec()), Element::I32, To::Flag),
    ] {
        let mut case = case(name);
        let len = given.len();
        let a = case.given(given);
        cases.push(mapped(case, &[a], &[len], element, Expr::Cast(to, input(0))));
    }
    let mut case = case("select");
    let by = case.given(Host::I64((0..129).map(|at| at % 3).collect()));
    let (a, b) = (case.floats(129), case.floats(129));
    let expr = Expr::Select(
        input(0),
        input(1),
        Box::new(Expr::Binary(Binary::Mul, input(2), Box::new(Expr::Float(0.5)))),
    );
    cases.push(mapped(case, &[by, a, b], &[129], Element::F32, expr));
    check(&cases);
}

/// A copy from one view to another.
fn copied(
    name: &str,
    len: usize,
    shape: &[usize],
    from: (usize, &[i64]),
    to: (usize, &[i64]),
    made: usize,
) -> Case {
    let mut case = case(name);
    let given = case.floats(len);
    let output = case.made(Element::F32, made);
    if shape.iter().product::<usize>() < made {
        // What lies beside it is another call's.
        let (inputs, expr) = (Vec::new(), Expr::Float(7.0));
        let around = Map { shape: vec![made], inputs, output: view(output, &[1]), expr };
        case.routine.calls.push(Call::Map(around));
    }
    let lies = |slot, (offset, strides): (usize, &[i64])| View { slot, offset, strides: strides.to_vec() };
    case.call(Call::Map(Map {
        shape: shape.to_vec(),
        inputs: vec![lies(given, from)],
        output: lies(output, to),
        expr: Expr::Input(0),
    }))
}

#[test]
fn copies() {
    let mut cases = vec![
        copied("one", 1, &[], (0, &[]), (0, &[]), 1),
        copied("turned", 17 * 129, &[129, 17], (0, &[1, 129]), (0, &dense(&[129, 17])), 17 * 129),
        copied(
            "turned in the middle",
            3 * 17 * 5 * 4,
            &[3, 5, 17, 4],
            (0, &[340, 4, 20, 1]),
            (0, &dense(&[3, 5, 17, 4])),
            1020,
        ),
        copied("repeated", 17, &[129, 17], (0, &[0, 1]), (0, &dense(&[129, 17])), 129 * 17),
        copied("repeated within", 129, &[129, 17], (0, &[1, 0]), (0, &dense(&[129, 17])), 129 * 17),
        copied("reversed", 1000, &[1000], (999, &[-1]), (0, &[1]), 1000),
        copied("every third", 1000, &[333], (1, &[3]), (0, &[1]), 333),
        copied("into the middle", 17 * 3, &[17, 3], (0, &[3, 1]), (2, &[7, 1]), 17 * 7),
        copied(
            "six ways",
            720,
            &[2, 3, 4, 5, 3, 2],
            (0, &[1, 2, 6, 24, 120, 360]),
            (0, &dense(&[2, 3, 4, 5, 3, 2])),
            720,
        ),
    ];
    for size in SIZES {
        cases.push(copied(&format!("{size}"), size, &[size], (0, &[1]), (0, &[1]), size));
        cases.push(copied(&format!("{size} beside others"), size, &[size], (0, &[1]), (3, &[1]), size + 7));
        let mut case = case(format!("a row for {size} rows"));
        let (a, b) = (case.floats(size * 5), case.floats(5));
        let output = case.made(Element::F32, size * 5);
        let sum = Expr::Binary(Binary::Add, input(0), input(1));
        let expr = Expr::Unary(
            Unary::Tanh,
            Box::new(Expr::Binary(Binary::Mul, Box::new(sum), Box::new(Expr::Float(0.3)))),
        );
        cases.push(case.call(Call::Map(Map {
            shape: vec![size, 5],
            inputs: vec![view(a, &[5, 1]), view(b, &[0, 1])],
            output: view(output, &[5, 1]),
            expr,
        })));
    }
    check(&cases);
}

#[test]
fn gathers() {
    let one = |name: &str, indices: Vec<i64>, outer: usize, axis: usize, inner: usize| {
        let mut case = case(name);
        let data = case.floats(outer * axis * inner);
        let count = indices.len();
        let indices = case.given(Host::I64(indices));
        let output = case.made(Element::F32, outer * count * inner);
        case.call(Call::Gather(Gather { data, indices, output, outer, axis, count, inner }))
    };
    check(&[
        one("rows", vec![0, 16, -1, -17, 3], 1, 17, 129),
        one("of the middle", vec![2, 0, 1], 5, 3, 7),
        one("single elements", (0..1000).map(|at| at % 129).collect(), 1, 129, 1),
        one("beyond the end", vec![0, 17], 1, 17, 3),
        one("beyond the beginning", vec![-18], 1, 17, 3),
        one("after a fault", vec![1], 1, 17, 3),
    ]);
}

const RUNS: [[usize; 3]; 7] =
    [[1, 1, 1], [3, 17, 1], [2, 129, 3], [1, 1000, 1], [2, 5, 129], [4, 3, 64], [1, 2, 1000]];

#[test]
fn reductions() {
    let all = [
        ReduceOp::Sum,
        ReduceOp::Mean,
        ReduceOp::Max,
        ReduceOp::Min,
        ReduceOp::Prod,
        ReduceOp::SumSquare,
        ReduceOp::L1,
        ReduceOp::L2,
        ReduceOp::LogSumExp,
        ReduceOp::ArgMax,
        ReduceOp::ArgMin,
    ];
    let mut cases = Vec::new();
    for [outer, len, inner] in RUNS {
        for op in all {
            let mut case = case(format!("{op:?} {outer} {len} {inner}"));
            let input = case.floats(outer * len * inner);
            let places = matches!(op, ReduceOp::ArgMax | ReduceOp::ArgMin);
            let output = case.made(if places { Element::I32 } else { Element::F32 }, outer * inner);
            cases.push(case.call(Call::Reduce(Reduce { op, input, output, outer, len, inner })));
        }
        for op in [ReduceOp::Sum, ReduceOp::Max, ReduceOp::Min, ReduceOp::Prod] {
            let mut case = case(format!("whole {op:?} {outer} {len} {inner}"));
            let input = case.indices(outer * len * inner, if op == ReduceOp::Prod { 2 } else { 90 });
            let output = case.made(Element::I32, outer * inner);
            cases.push(case.call(Call::Reduce(Reduce { op, input, output, outer, len, inner })));
        }
    }
    check(&cases);
}

#[test]
fn softmaxes_and_norms() {
    let mut cases = Vec::new();
    for [outer, len, inner] in RUNS {
        for log in [false, true] {
            let mut case = case(format!("softmax {log} {outer} {len} {inner}"));
            let input = case.floats(outer * len * inner);
            let output = case.made(Element::F32, outer * len * inner);
            cases.push(case.call(Call::Softmax(Softmax { input, output, outer, len, inner, log })));
        }
    }
    for (rows, len) in [(1, 1), (3, 17), (17, 3), (5, 129), (2, 1000), (4, 384)] {
        for (kind, parts) in
            [(NormKind::Layer, 0), (NormKind::Layer, 3), (NormKind::Rms, 1), (NormKind::Rms, 2)]
        {
            let mut case = case(format!("{kind:?} {parts} {rows} {len}"));
            let input = case.floats(rows * len);
            let scale = (parts > 0).then(|| case.floats(len));
            let bias = (parts == 3).then(|| case.floats(len));
            let skip = (parts > 1).then(|| case.floats(rows * len));
            let output = case.made(Element::F32, rows * len);
            let sum = (parts == 3).then(|| case.made(Element::F32, rows * len));
            let norm = Norm { kind, input, skip, scale, bias, output, sum, rows, len, epsilon: 1e-5 };
            cases.push(case.call(Call::Norm(norm)).within(1e-5));
        }
    }
    check(&cases);
}
