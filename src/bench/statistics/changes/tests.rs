//! Against Apache Otava 0.8.0, on its tests' own series and on drawn ones.

use serde::Deserialize;

use super::{Found, found, found_with};

/// `fixtures/statistics/changes.py` makes it.
const CASES: &str = include_str!("../../../../fixtures/statistics/changes.json");

#[derive(Deserialize)]
struct Cases {
    series: Vec<Vec<f64>>,
    cases: Vec<Case>,
}

#[derive(Deserialize)]
struct Case {
    name: String,
    series: usize,
    window: usize,
    probability: f64,
    magnitude: f64,
    /// Place, mean before, mean after, probability.
    changes: Vec<(usize, f64, f64, f64)>,
}

#[test]
fn changes_are_those_of_otava() {
    let Cases { series, cases } = serde_json::from_str(CASES).unwrap();
    assert!(cases.len() > 30);
    for case in cases {
        let found = found_with(&series[case.series], case.window, case.probability, case.magnitude);
        let places: Vec<_> = found.iter().map(|found| found.at).collect();
        let wanted: Vec<_> = case.changes.iter().map(|change| change.0).collect();
        assert_eq!(places, wanted, "{}", case.name);
        for (Found { before, after, probability, .. }, wanted) in found.into_iter().zip(case.changes) {
            let near = |found: f64, wanted: f64| (found - wanted).abs() <= 1e-6 * wanted.abs().max(1e-9);
            let alike = near(before, wanted.1) && near(after, wanted.2) && near(probability, wanted.3);
            assert!(alike, "{}: {before}, {after}, {probability:e} for {wanted:?}", case.name);
        }
    }
}

#[test]
fn what_is_too_short_or_does_not_vary_has_no_change() {
    let cases: [(&[f64], usize); 6] = [
        (&[], 0),
        (&[1.0], 0),
        (&[1.0, 2.0], 0),
        (&[0.0; 40], 0),
        (&[3.0; 40], 0),
        (&[3.0, 3.0, 3.0, 3.0, 4.0, 4.0, 4.0, 4.0], 1),
    ];
    for (series, count) in cases {
        assert_eq!(found(series, 0.05).len(), count, "{series:?}");
    }
}
