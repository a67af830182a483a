//! Planted faults that the comparison must catch, and what seeded inputs look like.

use super::{compare, compare_part, seeded, shape_candidates};
use crate::{
    domain::{Datatype, Dim, Port, Signature, Tensor, Tolerance, VerdictStatus},
    onnx::{InputRange, Values},
};

fn tensor(name: &str, datatype: Datatype, shape: &[u64], bytes: Vec<u8>) -> Tensor {
    Tensor { name: name.to_owned(), datatype, shape: shape.to_vec(), body: bytes.into() }
}

fn floats(values: &[f32]) -> Tensor {
    let bytes = values.iter().flat_map(|value| value.to_le_bytes()).collect();
    tensor("y", Datatype::Fp32, &[1, values.len() as u64], bytes)
}

fn whole(values: &[i64]) -> Tensor {
    let bytes = values.iter().flat_map(|value| value.to_le_bytes()).collect();
    tensor("n", Datatype::Int64, &[values.len() as u64], bytes)
}

/// One output per input.
fn sets(outputs: impl IntoIterator<Item = Tensor>) -> Vec<Vec<Tensor>> {
    outputs.into_iter().map(|output| vec![output]).collect()
}

fn rows<const N: usize>(rows: [&[f32]; N]) -> Vec<Vec<Tensor>> {
    sets(rows.map(floats))
}

const NAN: f32 = f32::NAN;
const INF: f32 = f32::INFINITY;

type Case<'a> = (&'a str, Vec<Vec<Tensor>>, Vec<Vec<Tensor>>, VerdictStatus, &'a str);

#[test]
#[allow(clippy::too_many_lines, reason = "a table")]
fn answers_are_judged_by_the_reference() {
    use VerdictStatus::{Mismatch, Unproven, Verified};
    let good: [&[f32]; 3] = [&[0.1, 0.9], &[0.5, -0.5], &[-0.8, 0.2]];
    let cases: Vec<Case<'_>> = vec![
        ("equal", rows(good), rows(good), Verified, "3 inputs agree (error 0, tolerance 1e-3)"),
        (
            "off by less than the tolerance",
            rows(good),
            rows([&[0.1, 0.9], &[0.5002, -0.5], &[-0.8, 0.2]]),
            Verified,
            "3 inputs agree (error 0.0004, tolerance 1e-3)",
        ),
        (
            "a small element off by much of itself but little of its tensor",
            rows([&[1e-6, 0.9], &[0.5, -0.5], &[-0.8, 0.2]]),
            rows([&[5e-4, 0.9], &[0.5, -0.5], &[-0.8, 0.2]]),
            Verified,
            "3 inputs agree (error 0.000554, tolerance 1e-3)",
        ),
        (
            "off in the last input alone",
            rows(good),
            rows([&[0.1, 0.9], &[0.5, -0.5], &[-0.8, 0.21]]),
            Mismatch,
            "y: 0.21 for 0.2 at [0, 1] (error 0.0125, tolerance 1e-3)",
        ),
        (
            "another answer altogether",
            rows([&[0.00999], &[0.5], &[0.9]]),
            rows([&[0.872], &[0.5], &[0.9]]),
            Mismatch,
            "y: 0.872 for 0.00999 at [0, 0] (error 86.3, tolerance 1e-3)",
        ),
        (
            "sign flipped",
            rows(good),
            rows([&[-0.1, -0.9], &[-0.5, 0.5], &[0.8, -0.2]]),
            Mismatch,
            "y: -0.9 for 0.9 at [0, 1] (error 2, tolerance 1e-3)",
        ),
        (
            "answers of another input",
            rows(good),
            rows([good[1], good[2], good[0]]),
            Mismatch,
            "y: -0.8 for 0.5 at [0, 0] (error 2.6, tolerance 1e-3)",
        ),
        (
            "NaN where the reference has it",
            rows([&[NAN, 0.9], good[1], good[2]]),
            rows([&[NAN, 0.9], good[1], good[2]]),
            Verified,
            "3 inputs agree",
        ),
        (
            "NaN moved",
            rows([&[NAN, 0.9], good[1], good[2]]),
            rows([&[0.9, NAN], good[1], good[2]]),
            Mismatch,
            "input 1, y: 0.9 for NaN at [0, 0]",
        ),
        (
            "NaN for a number",
            rows(good),
            rows([good[0], &[0.5, NAN], good[2]]),
            Mismatch,
            "input 2, y: NaN for -0.5 at [0, 1]",
        ),
        (
            "infinity of the other sign",
            rows([&[INF, 0.9], good[1], good[2]]),
            rows([&[-INF, 0.9], good[1], good[2]]),
            Mismatch,
            "input 1, y: -inf for inf at [0, 0]",
        ),
        (
            "zeros for zeros",
            rows([&[0.0, 0.0], good[1], good[2]]),
            rows([&[-0.0, 0.0], good[1], good[2]]),
            Verified,
            "3 inputs agree",
        ),
        (
            "a tiny value where the reference is zero throughout",
            rows([&[0.0, 0.0], good[1], good[2]]),
            rows([&[0.0, 1e-9], good[1], good[2]]),
            Mismatch,
            "input 1, y: 1e-9 for 0 at [0, 1], where the reference is zero throughout",
        ),
        (
            "tiny reference, tiny error",
            rows([&[1e-20], &[3e-20], &[-1e-20]]),
            rows([&[1e-20], &[3.1e-20], &[-1e-20]]),
            Mismatch,
            "y: 3.1e-20 for 3e-20 at [0, 0] (error 0.0333",
        ),
        (
            "constant outputs",
            rows([&[0.5], &[0.5], &[0.5]]),
            rows([&[0.5], &[0.5], &[0.5]]),
            Unproven,
            "y: varies by 0 of its size over the inputs, 0.02 is needed",
        ),
        (
            "hardly varying outputs",
            rows([&[0.5], &[0.501], &[0.502]]),
            rows([&[0.5], &[0.501], &[0.502]]),
            Unproven,
            "y: varies by 0.00398 of its size",
        ),
        (
            "nothing but zeros",
            rows([&[0.0], &[0.0], &[0.0]]),
            rows([&[0.0], &[0.0], &[0.0]]),
            Unproven,
            "y: varies by 0 of its size",
        ),
        (
            "nothing but NaN",
            rows([&[NAN], &[NAN], &[NAN]]),
            rows([&[NAN], &[NAN], &[NAN]]),
            Unproven,
            "y: varies by 0 of its size",
        ),
        (
            "a constant that is wrong",
            rows([&[0.5], &[0.5], &[0.5]]),
            rows([&[0.6], &[0.5], &[0.5]]),
            Mismatch,
            "y: 0.6 for 0.5",
        ),
        (
            "two inputs",
            rows([good[0], good[1]]),
            rows([good[0], good[1]]),
            Unproven,
            "2 inputs, at least 3 are needed",
        ),
        (
            "two inputs, one wrong",
            rows([good[0], good[1]]),
            rows([good[0], good[0]]),
            Mismatch,
            "y: 0.9 for -0.5",
        ),
        ("no inputs", vec![], vec![], Unproven, "0 inputs, at least 3 are needed"),
        ("an answer missing", rows(good), rows([good[0], good[1]]), Mismatch, "2 answers for 3 inputs"),
        ("an output missing", rows(good), vec![vec![], vec![], vec![]], Mismatch, "input 1, y: missing"),
        (
            "another output",
            vec![vec![]],
            rows([good[0]]),
            Mismatch,
            "input 1, y: the reference has no such output",
        ),
        (
            "another shape",
            rows(good),
            rows([good[0], &[0.5], good[2]]),
            Mismatch,
            "input 2, y: FP32[1, 1] for FP32[1, 2]",
        ),
        (
            "another datatype",
            sets([tensor("y", Datatype::Int32, &[1], vec![0; 4])]),
            sets([tensor("y", Datatype::Fp32, &[1], vec![0; 4])]),
            Mismatch,
            "input 1, y: FP32[1] for INT32[1]",
        ),
        (
            "fewer bytes",
            sets([floats(&[1.0])]),
            sets([tensor("y", Datatype::Fp32, &[1, 1], vec![0; 3])]),
            Mismatch,
            "takes 4 bytes, 3 came",
        ),
        (
            "equal integers",
            sets([whole(&[1, 2]), whole(&[3, 4]), whole(&[5, 6])]),
            sets([whole(&[1, 2]), whole(&[3, 4]), whole(&[5, 6])]),
            Verified,
            "3 inputs agree",
        ),
        (
            "integer off by one",
            sets([whole(&[1, -2])]),
            sets([whole(&[1, -3])]),
            Mismatch,
            "input 1, n: -3 for -2 at [1]",
        ),
        (
            "constant integers",
            sets([whole(&[1]), whole(&[1]), whole(&[1])]),
            sets([whole(&[1]), whole(&[1]), whole(&[1])]),
            Unproven,
            "no output varies over the inputs",
        ),
        (
            "other text",
            sets([tensor("t", Datatype::Bytes, &[1], b"\x01\0\0\0a".to_vec())]),
            sets([tensor("t", Datatype::Bytes, &[1], b"\x01\0\0\0b".to_vec())]),
            Mismatch,
            "t: other text than the reference",
        ),
    ];
    for (case, reference, candidate, status, detail) in cases {
        let verdict = compare(&reference, &candidate, Tolerance::FP32);
        assert_eq!(verdict.status, status, "{case}: {}", verdict.detail);
        assert!(verdict.detail.contains(detail), "{case}: {}", verdict.detail);
        assert_eq!(verdict.inputs as usize, reference.len(), "{case}");
    }
}

#[test]
fn a_constant_answer_never_passes_where_verified_is_possible() {
    let reference = [[0.2f32], [0.6], [0.4]].map(|row| floats(&row));
    for constant in [0.0, 0.2, 0.4, 0.5, 0.6] {
        let verdict = compare(
            &sets(reference.clone()),
            &rows([&[constant], &[constant], &[constant]]),
            Tolerance::FP16,
        );
        assert_eq!(verdict.status, VerdictStatus::Mismatch, "{constant}: {}", verdict.detail);
    }
}

#[test]
fn one_steady_output_is_enough_for_doubt() {
    let outputs = |value: f32| vec![floats(&[value]), Tensor { name: "steady".to_owned(), ..floats(&[1.0]) }];
    let answers: Vec<_> = [0.1, 0.5, 0.9].map(outputs).into();
    let verdict = compare(&answers, &answers, Tolerance::FP32);
    assert_eq!(verdict.status, VerdictStatus::Unproven);
    assert!(verdict.detail.starts_with("steady: varies by 0"), "{}", verdict.detail);
}

#[test]
fn a_part_s_outputs_need_not_vary_and_agree_the_closer() {
    let outputs = |value: f32, steady: f32| {
        vec![floats(&[value]), Tensor { name: "steady".to_owned(), ..floats(&[steady]) }]
    };
    let answers = |steady: [f32; 3]| -> Vec<_> {
        [0.1, 0.5, 0.9].into_iter().zip(steady).map(|(value, steady)| outputs(value, steady)).collect()
    };
    // What the reference makes, what the lane makes, and how that is judged.
    let cases = [
        ([1.0, 1.0, 1.0], [1.0, 1.0, 1.0], VerdictStatus::Verified),
        ([1.0, 1.0, 1.0], [1.0, 1.000_000_5, 1.0], VerdictStatus::Verified),
        ([1.0, 1.0, 1.0], [1.0, 1.000_01, 1.0], VerdictStatus::Mismatch),
        ([1.0, 1.001, 1.002], [1.000_05, 1.001, 1.002], VerdictStatus::Verified),
        ([1.0, 1.001, 1.002], [1.001, 1.001, 1.001], VerdictStatus::Mismatch),
        ([1.0, 0.5, 0.2], [1.000_5, 0.5, 0.2], VerdictStatus::Verified),
    ];
    for (wanted, got, status) in cases {
        let verdict = compare_part(&answers(wanted), &answers(got), Tolerance::FP32);
        assert_eq!(verdict.status, status, "{got:?} for {wanted:?}: {}", verdict.detail);
    }
    let few = compare_part(&answers([1.0; 3])[..2], &answers([1.0; 3])[..2], Tolerance::FP32);
    assert_eq!(few.status, VerdictStatus::Unproven, "{}", few.detail);
}

type Encode<'a> = &'a dyn Fn([f32; 2]) -> Vec<u8>;

#[test]
fn half_precision_is_decoded() {
    let fp16 = |values: [f32; 2]| {
        values.iter().flat_map(|value| half::f16::from_f32(*value).to_le_bytes()).collect()
    };
    let bf16 = |values: [f32; 2]| {
        values.iter().flat_map(|value| half::bf16::from_f32(*value).to_le_bytes()).collect()
    };
    let fp64 = |values: [f32; 2]| values.iter().flat_map(|value| f64::from(*value).to_le_bytes()).collect();
    let encodings: [(Datatype, Encode<'_>); 3] =
        [(Datatype::Fp16, &fp16), (Datatype::Bf16, &bf16), (Datatype::Fp64, &fp64)];
    for (datatype, encode) in encodings {
        let answers = |rows: [[f32; 2]; 3]| sets(rows.map(|row| tensor("y", datatype, &[2], encode(row))));
        let reference = answers([[1.0, 2.0], [-3.0, 4.0], [0.5, 0.25]]);
        assert_eq!(
            compare(&reference, &reference, Tolerance::FP16).status,
            VerdictStatus::Verified,
            "{datatype}"
        );
        let off = compare(&reference, &answers([[1.0, 2.0], [-3.0, 4.0], [0.5, 0.5]]), Tolerance::FP16);
        assert!(off.detail.starts_with("y: 0.5 for 0.25 at [1] (error 0.5,"), "{datatype}: {}", off.detail);
    }
}

fn port(name: &str, datatype: Datatype, shape: &[Dim]) -> Port {
    Port { name: name.to_owned(), datatype, shape: shape.to_vec() }
}

fn symbol(name: &str) -> Dim {
    Dim::Symbol(name.to_owned())
}

#[test]
fn seeded_inputs_are_valid_reproducible_and_different() {
    let cases = [
        (Datatype::Fp32, Values::Reals { low: -1.0, high: 1.0 }),
        (Datatype::Fp16, Values::Reals { low: -1.0, high: 1.0 }),
        (Datatype::Bf16, Values::Reals { low: 0.0, high: 1.0 }),
        (Datatype::Fp64, Values::Reals { low: -1.0, high: 1.0 }),
        (Datatype::Bool, Values::Integers { low: 0, high: 1 }),
        (Datatype::Uint8, Values::Integers { low: 0, high: 255 }),
        (Datatype::Int8, Values::Integers { low: -128, high: 127 }),
        (Datatype::Uint16, Values::Integers { low: 0, high: 9 }),
        (Datatype::Int16, Values::Integers { low: -5, high: 9 }),
        (Datatype::Uint32, Values::Integers { low: 0, high: 9 }),
        (Datatype::Int32, Values::Integers { low: 0, high: 256 }),
        (Datatype::Uint64, Values::Integers { low: 0, high: 9 }),
        (Datatype::Int64, Values::OneOf(vec![8000, 16000])),
        (Datatype::Bytes, Values::Text),
    ];
    for (datatype, values) in cases {
        let signature =
            Signature { inputs: vec![port("x", datatype, &[symbol("n"), Dim::Fixed(500)])], outputs: vec![] };
        let ranges = [InputRange { name: "x".to_owned(), values: values.clone() }];
        let made = |seed| seeded(&signature, &ranges, &[vec![2, 500]], seed, 4);
        let sets = made(7);
        assert_eq!(sets, made(7), "{datatype}");
        assert_ne!(sets, made(8), "{datatype}");
        for (at, set) in sets.iter().enumerate() {
            signature.bind(set).expect("a set fits the signature");
            assert!(sets[..at].iter().all(|earlier| earlier != set), "{datatype}: set {at} repeats");
            if datatype == Datatype::Int32 {
                let bytes = set[0].body.contiguous();
                let numbers = bytes.as_chunks::<4>().0.iter().map(|chunk| i32::from_le_bytes(*chunk));
                assert!(numbers.into_iter().all(|number| (0..=256).contains(&number)));
            }
            if let Values::OneOf(choices) = &values {
                let bytes = set[0].body.contiguous();
                let mut numbers = bytes.as_chunks::<8>().0.iter().map(|chunk| i64::from_le_bytes(*chunk));
                assert!(numbers.all(|number| choices.contains(&number)));
            }
        }
    }
}

#[test]
fn open_dimensions_get_sizes_to_try() {
    let silero = Signature {
        inputs: vec![
            port("input", Datatype::Fp32, &[symbol("N"), symbol("sequence")]),
            port("state", Datatype::Fp32, &[Dim::Fixed(2), symbol("N"), Dim::Fixed(128)]),
            port("sr", Datatype::Int64, &[]),
        ],
        outputs: vec![],
    };
    let candidates = shape_candidates(&silero);
    assert_eq!(candidates[0], [vec![1, 16], vec![2, 1, 128], vec![]]);
    assert!(candidates.contains(&vec![vec![1, 512], vec![2, 1, 128], vec![]]));

    let nameless = Signature {
        inputs: vec![
            port("input", Datatype::Fp32, &[Dim::Free(None), Dim::Free(None)]),
            port("state", Datatype::Fp32, &[Dim::Fixed(2), Dim::Free(None), Dim::Fixed(128)]),
        ],
        outputs: vec![],
    };
    let candidates = shape_candidates(&nameless);
    assert_eq!(candidates[0], [vec![1, 16], vec![2, 16, 128]]);
    assert!(candidates.contains(&vec![vec![1, 256], vec![2, 1, 128]]));

    let vast = |dim: Dim| Signature {
        inputs: vec![port("x", Datatype::Fp32, &[Dim::Fixed(1 << 40), dim])],
        outputs: vec![],
    };
    assert!(shape_candidates(&vast(Dim::Fixed(1 << 40))).is_empty());
    assert!(shape_candidates(&vast(Dim::Free(None))).is_empty());

    let fixed = Signature { inputs: vec![port("x", Datatype::Fp32, &[Dim::Fixed(3)])], outputs: vec![] };
    assert_eq!(shape_candidates(&fixed), [[vec![3]]]);
}
