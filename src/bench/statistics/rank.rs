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
    chance(u, mean, deviation)
}

/// The probability that differences of pairs lie around zero as these do: Wilcoxon's signed-rank test, two-sided, by its
/// normal approximation, corrected for ties and for continuity. Differences of zero are left out.
#[must_use]
pub fn signed_rank(differences: &[f64]) -> f64 {
    let mut all: Vec<_> = differences.iter().copied().filter(|difference| *difference != 0.0).collect();
    all.sort_by(|a, b| a.abs().total_cmp(&b.abs()));
    let (mut above, mut ties, mut before) = (0.0, 0.0, 0);
    for equal in all.chunk_by(|a, b| a.abs().total_cmp(&b.abs()).is_eq()) {
        let count = equal.len() as f64;
        let rank = before as f64 + f64::midpoint(count, 1.0);
        above += rank * equal.iter().filter(|difference| **difference > 0.0).count() as f64;
        ties += count.powi(3) - count;
        before += equal.len();
    }
    let n = all.len() as f64;
    let mean = n * (n + 1.0) / 4.0;
    let deviation = ((n * (n + 1.0) * (2.0 * n + 1.0) - ties / 2.0) / 24.0).sqrt();
    chance(above, mean, deviation)
}

/// How often what is drawn around `mean` is off it by as much as `found`, or by more.
fn chance(found: f64, mean: f64, deviation: f64) -> f64 {
    if deviation > 0.0 {
        let off = ((found - mean).abs() - 0.5).max(0.0) / deviation;
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
    fn probabilities_of_pairs_are_those_of_scipy() {
        // scipy 1.17.1: wilcoxon(differences, zero_method="wilcox", correction=True, method="asymptotic").
        let cases: [(&[f64], f64); 4] = [
            (&[1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 9.0], 0.00915168885265007),
            (&[-1.5, 2.25, 0.5, -0.25, 3.0, 4.5, -2.0, 1.75, 0.75, 2.5], 0.10291753940285298),
            (&[1.0, 1.0, -1.0, 2.0, 2.0, -2.0, 3.0, 3.0, 3.0, -1.0, 0.0, 0.0], 0.09888690877928374),
            (&[0.1, -0.1, 0.2, -0.2, 0.3, -0.3, 0.4, -0.4, 0.5, -0.5], 1.0),
        ];
        for (differences, wanted) in cases {
            let mirrored: Vec<_> = differences.iter().map(|difference| -difference).collect();
            for found in [signed_rank(differences), signed_rank(&mirrored)] {
                assert!((found - wanted).abs() < 1e-9, "{found} for {wanted}");
            }
        }
        assert_eq!([signed_rank(&[0.0; 9]), signed_rank(&[])].map(f64::to_bits), [1.0f64.to_bits(); 2]);
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
