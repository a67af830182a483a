//! Shares of trials with the bounds that so many trials give them.

use statrs::distribution::{Beta, ContinuousCDF};

/// The probability beyond each of the 95 % bounds.
const TAIL: f64 = 0.025;

/// So many of so many.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Share {
    pub(crate) hits: usize,
    pub(crate) of: usize,
}

impl Share {
    pub(crate) fn of(cases: impl Iterator<Item = bool>) -> Self {
        cases.fold(Self::default(), |Self { hits, of }, hit| Self {
            hits: hits + usize::from(hit),
            of: of + 1,
        })
    }

    /// Clopper and Pearson's exact 95 % bounds of the probability of a hit.
    pub(crate) fn bounds(self) -> [f64; 2] {
        let (hits, misses) = (self.hits as f64, (self.of - self.hits) as f64);
        let reached = |a: f64, b: f64, share: f64| Beta::new(a, b).unwrap().inverse_cdf(share);
        [
            if self.hits == 0 { 0.0 } else { reached(hits, misses + 1.0, TAIL) },
            if self.hits == self.of { 1.0 } else { reached(hits + 1.0, misses, 1.0 - TAIL) },
        ]
    }

    /// As tables have it.
    pub(crate) fn told(self) -> String {
        let [low, high] = self.bounds();
        format!("{} of {} ({low:.3}–{high:.3})", self.hits, self.of)
    }
}

#[test]
fn bounds_are_those_of_counting() {
    // The probabilities at which the binomial sums, taken term by term, leave 0.025 on a side.
    let cases = [
        (0, 10, 0.0, 0.308_497),
        (5, 10, 0.187_086, 0.812_914),
        (10, 10, 0.691_503, 1.0),
        (196, 216, 0.860_622, 0.942_522),
        (8, 200, 0.017_425, 0.077_292),
        (40, 648, 0.044_462, 0.083_111),
    ];
    for (hits, of, low, high) in cases {
        let found = Share { hits, of }.bounds();
        for (found, wanted) in found.into_iter().zip([low, high]) {
            assert!((found - wanted).abs() < 1e-5, "{found} for {wanted}: {hits} of {of}");
        }
    }
}
