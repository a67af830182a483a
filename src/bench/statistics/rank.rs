//! Whether two series differ at all, and what many such questions at once leave of the answers.

use libm::erfc;

/// The probability that two samples of one kind differ as these do: Mann and Whitney's test, two-sided, by its normal
/// approximation, corrected for ties and for continuity.
#[must_use]
pub fn mann_whitney(one: &[f64], other: &[f64]) -> f64 {
    let mut all: Vec<_> =
        one.iter().map(|sample| (*sample, true)).chain(other.iter().map(|sample| (*sample, false))).collect();
    all.sort_by(|a, b| a.0.total_cmp(&b.0));
    let (mut rank_sum, mut ties, mut before) = (0.0, 0.0, 0);
    for equal in all.chunk_by(|a, b| a.0.total_cmp(&b.0).is_eq()) {
        let count = equal.len() as f64;
        let rank = before as f64 + f64::midpoint(count, 1.0);
        rank_sum += rank * equal.iter().filter(|(_, first)| *first).count() as f64;
        ties += count.powi(3) - count;
        before += equal.len();
    }
    let (n, m) = (one.len() as f64, other.len() as f64);
    let u = rank_sum - n * (n + 1.0) / 2.0;
    let (mean, all) = (n * m / 2.0, n + m);
    let deviation = (n * m / 12.0 * (all + 1.0 - ties / (all * (all - 1.0)))).sqrt();
    if deviation > 0.0 {
        let off = ((u - mean).abs() - 0.5).max(0.0) / deviation;
        erfc(off / std::f64::consts::SQRT_2)
    } else {
        // All are equal.
        1.0
    }
}

/// Probabilities of many tests as if each were the only one: Benjamini and Hochberg's correction, after which a bound
/// holds for the share of false alarms among all alarms.
#[must_use]
pub fn corrected(probabilities: &[f64]) -> Vec<f64> {
    let mut order: Vec<_> = (0..probabilities.len()).collect();
    order.sort_by(|a, b| probabilities[*b].total_cmp(&probabilities[*a]));
    let (mut corrected, mut least) = (vec![1.0; probabilities.len()], 1.0f64);
    for (at, index) in order.iter().enumerate() {
        let rank = (probabilities.len() - at) as f64;
        least = least.min(probabilities[*index] * probabilities.len() as f64 / rank);
        corrected[*index] = least;
    }
    corrected
}

#[cfg(test)]
#[allow(clippy::unreadable_literal, reason = "as scipy prints them")]
mod tests {
    use super::*;

    #[test]
    fn probabilities_are_those_of_scipy() {
        // scipy 1.17.1: mannwhitneyu(one, other, alternative="two-sided", method="asymptotic").
        let cases: [(&[f64], &[f64], f64); 5] = [
            (
                &[1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 9.0],
                &[10.0, 11.0, 12.0, 13.0, 14.0, 15.0, 16.0, 17.0, 18.0],
                0.00041229480206169127,
            ),
            (
                &[3.1, 2.2, 5.9, 4.4, 1.0, 2.7, 3.3, 2.8, 9.5],
                &[2.9, 3.0, 3.6, 8.1, 7.7, 6.4, 5.2, 4.1, 3.9, 10.2],
                0.09416637543787974,
            ),
            (
                &[1.0, 1.0, 2.0, 2.0, 3.0, 3.0, 4.0, 4.0, 5.0],
                &[1.0, 2.0, 2.0, 3.0, 3.0, 3.0, 4.0, 5.0, 5.0, 5.0],
                0.45275875007867306,
            ),
            (
                &[5.0, 5.0, 5.0, 5.0, 5.0, 5.0, 5.0, 5.0, 5.0],
                &[5.0, 5.0, 5.0, 5.0, 5.0, 5.0, 5.0, 5.0, 5.0],
                1.0,
            ),
            (
                &[5.0, 5.0, 5.0, 5.0, 5.0, 5.0, 5.0, 5.0, 5.0],
                &[6.0, 6.0, 6.0, 6.0, 6.0, 6.0, 6.0, 6.0, 6.0, 6.0, 6.0, 6.0],
                9.391579956570258e-06,
            ),
        ];
        for (one, other, wanted) in cases {
            for found in [mann_whitney(one, other), mann_whitney(other, one)] {
                assert!((found - wanted).abs() < 1e-9 * wanted.max(1e-3), "{found} for {wanted}");
            }
        }
    }

    #[test]
    fn corrected_probabilities_are_those_of_scipy() {
        // scipy 1.17.1: false_discovery_control(probabilities).
        let probabilities = [0.01, 0.04, 0.03, 0.005, 0.5, 0.04, 0.9];
        let wanted = [
            0.035,
            0.055999999999999994,
            0.055999999999999994,
            0.035,
            0.5833333333333334,
            0.055999999999999994,
            0.9,
        ];
        for (found, wanted) in corrected(&probabilities).into_iter().zip(wanted) {
            assert!((found - wanted).abs() < 1e-12, "{found} for {wanted}");
        }
        assert!(corrected(&[]).is_empty());
    }
}
