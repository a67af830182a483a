//! Figures worked out by hand, and what makes none.

use super::{FirstClass, OutputAccuracy, compare};
use crate::domain::{Datatype, Tensor};

fn floats(shape: &[u64], values: &[f32]) -> Tensor {
    let body = values.iter().flat_map(|value| value.to_le_bytes()).collect::<Vec<_>>().into();
    Tensor { name: "y".to_owned(), datatype: Datatype::Fp32, shape: shape.to_vec(), body }
}

fn integers(values: &[i64]) -> Tensor {
    let body = values.iter().flat_map(|value| value.to_le_bytes()).collect::<Vec<_>>().into();
    let shape = vec![values.len() as u64];
    Tensor { name: "y".to_owned(), datatype: Datatype::Int64, shape, body }
}

fn one(wanted: &[Tensor], got: &[Tensor], scores: &[String]) -> Result<OutputAccuracy, String> {
    let sets = |tensors: &[Tensor]| tensors.iter().map(|tensor| vec![tensor.clone()]).collect::<Vec<_>>();
    compare(&sets(wanted), &sets(got), scores).map(|mut outputs| outputs.remove(0))
}

fn near(found: Option<f64>, wanted: f64) {
    assert!(found.is_some_and(|found| (found - wanted).abs() < 1e-7), "{found:?} for {wanted}");
}

#[test]
fn figures_are_over_all_inputs_together() {
    let wanted = [floats(&[1, 2], &[3.0, 0.0]), floats(&[1, 2], &[0.0, -4.0])];
    let got = [floats(&[1, 2], &[3.0, 1.0]), floats(&[1, 2], &[0.0, -2.0])];
    let found = one(&wanted, &got, &[]).expect("numbers");
    assert_eq!((found.elements, found.equal, found.first_class), (4, None, None));
    near(found.error, 2.0 / 4.0);
    near(found.rms_error, (5.0f64 / 25.0).sqrt());
    near(found.cosine, (9.0 + 8.0) / (25.0f64 * 14.0).sqrt());
}

#[test]
fn the_first_class_counts_row_by_row_and_only_of_scores() {
    let wanted = [floats(&[1, 2, 3], &[0.1, 0.7, 0.2, 0.5, 0.5, 0.0])];
    let got = [floats(&[1, 2, 3], &[0.2, 0.6, 0.2, 0.4, 0.6, 0.0])];
    let counts = |scores: &[String]| one(&wanted, &got, scores).expect("numbers").first_class;
    assert_eq!(counts(&["y".to_owned()]), Some(FirstClass { rows: 2, same: 1 }));
    assert_eq!(counts(&["z".to_owned()]), None);
}

#[test]
fn integers_are_equal_or_not_and_zeros_have_no_share() {
    let found = one(&[integers(&[1, 2, 3])], &[integers(&[1, 5, 3])], &[]).expect("numbers");
    assert_eq!((found.elements, found.equal, found.error, found.cosine), (3, Some(2), None, None));
    let zeros = |got: f32| one(&[floats(&[1], &[0.0])], &[floats(&[1], &[got])], &[]).expect("numbers");
    assert_eq!((zeros(0.0).error, zeros(0.0).cosine), (Some(0.0), None));
    assert_eq!(zeros(0.5).error, None);
}

#[test]
fn what_cannot_be_compared_is_no_figure() {
    let cases = [
        (floats(&[1], &[1.0]), floats(&[1], &[f32::NAN]), "y for input 1: element 0 is NaN for 1"),
        (floats(&[1], &[f32::INFINITY]), floats(&[1], &[1.0]), "element 0 of the reference is inf"),
        (floats(&[1], &[1.0]), floats(&[1, 1], &[1.0]), "FP32[1, 1] for FP32[1]"),
        (floats(&[1], &[1.0]), integers(&[1]), "INT64[1] for FP32[1]"),
    ];
    for (wanted, got, says) in cases {
        let problem = one(&[wanted], &[got], &[]).expect_err(says);
        assert!(problem.contains(says), "{problem}");
    }
    let other = Tensor { name: "z".to_owned(), ..floats(&[1], &[1.0]) };
    let problem = one(&[floats(&[1], &[1.0])], &[other], &[]).expect_err("another output");
    assert_eq!(problem, "y is missing for input 1");
}
