//! The ratio of two interleaved series, and a series' trend, with their bootstrap intervals.

use rand::{RngExt, SeedableRng, rngs::StdRng};

use super::{RESAMPLES, TAIL, quantile};

/// How one series compares with the other.
#[derive(Clone, Copy, Debug, PartialEq, serde::Serialize)]
pub struct Ratio {
    pub value: f64,
    /// The 95 % interval.
    pub low: f64,
    pub high: f64,
}

/// The ratio of `statistic` over the first members of `pairs` to that over the second.
///
/// Neighbouring pairs share a machine's moods, so runs of `block` pairs are drawn rather than single ones.
pub fn ratio(pairs: &[(f64, f64)], statistic: impl Fn(&[f64]) -> f64, block: usize, seed: u64) -> Ratio {
    let of = |pairs: &[(f64, f64)]| {
        let (first, second): (Vec<_>, Vec<_>) = pairs.iter().copied().unzip();
        statistic(&first) / statistic(&second)
    };
    let block = block.clamp(1, pairs.len());
    let mut random = StdRng::seed_from_u64(seed);
    let mut resample = Vec::with_capacity(pairs.len() + block);
    let ratios: Vec<_> = (0..RESAMPLES)
        .map(|_| {
            resample.clear();
            while resample.len() < pairs.len() {
                let from = random.random_range(0..=pairs.len() - block);
                resample.extend_from_slice(&pairs[from..from + block]);
            }
            resample.truncate(pairs.len());
            of(&resample)
        })
        .collect();
    Ratio { value: of(pairs), low: quantile(&ratios, TAIL), high: quantile(&ratios, 1.0 - TAIL) }
}

/// A straight line through a series.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Trend {
    /// Its slope, and the 95 % interval of that.
    pub value: f64,
    pub low: f64,
    pub high: f64,
    /// Where the line is at the series' first point.
    pub at_first: f64,
}

/// The least squares' line through `points`. What they are off it is drawn anew in runs of `block`, since neighbours
/// are off alike.
pub fn trend(points: &[(f64, f64)], block: usize, seed: u64) -> Trend {
    let (slope, at_zero) = line(points);
    let off: Vec<_> = points.iter().map(|(x, y)| y - (at_zero + slope * x)).collect();
    let block = block.clamp(1, points.len());
    let mut random = StdRng::seed_from_u64(seed);
    let slopes: Vec<_> = (0..RESAMPLES)
        .map(|_| {
            let mut drawn = Vec::with_capacity(points.len() + block);
            while drawn.len() < points.len() {
                let from = random.random_range(0..=off.len() - block);
                drawn.extend_from_slice(&off[from..from + block]);
            }
            let resample: Vec<_> =
                points.iter().zip(&drawn).map(|((x, _), off)| (*x, slope * x + off)).collect();
            line(&resample).0
        })
        .collect();
    let at_first = at_zero + slope * points[0].0;
    Trend { value: slope, low: quantile(&slopes, TAIL), high: quantile(&slopes, 1.0 - TAIL), at_first }
}

/// Slope, and where the line meets zero.
fn line(points: &[(f64, f64)]) -> (f64, f64) {
    let n = points.len() as f64;
    let (x, y) =
        (points.iter().map(|(x, _)| x).sum::<f64>() / n, points.iter().map(|(_, y)| y).sum::<f64>() / n);
    let across: f64 = points.iter().map(|(at, _)| (at - x).powi(2)).sum();
    let along: f64 = points.iter().map(|(at, value)| (at - x) * (value - y)).sum();
    // A single moment has no slope.
    let slope = if across > 0.0 { along / across } else { 0.0 };
    (slope, y - slope * x)
}

#[cfg(test)]
mod tests {
    use super::{super::median, *};

    #[test]
    fn series_in_a_fixed_proportion_have_no_spread() {
        let pairs: Vec<_> = (1..=200).map(|at| (f64::from(at) * 1.5, f64::from(at))).collect();
        for block in [1, 10, 1000] {
            let found = ratio(&pairs, median, block, 1);
            assert_eq!(found, Ratio { value: 1.5, low: 1.5, high: 1.5 }, "blocks of {block}");
        }
    }

    #[test]
    fn the_interval_holds_the_truth_and_narrows_with_samples() {
        let width = |samples: usize| {
            let mut random = StdRng::seed_from_u64(2);
            let pairs: Vec<_> = (0..samples)
                .map(|_| (random.random_range(100.0..140.0), random.random_range(80.0..120.0)))
                .collect();
            let found = ratio(&pairs, median, 5, 3);
            assert!(found.low <= found.value && found.value <= found.high, "{found:?}");
            assert!(found.low < 1.2 && 1.2 < found.high, "{found:?}");
            found.high - found.low
        };
        let (few, many) = (width(100), width(2_500));
        assert!(many < few / 3.0, "{few} with few samples, {many} with many");
    }

    #[test]
    fn blocks_widen_the_interval_of_a_drifting_series() {
        let pairs: Vec<_> =
            (0..1000).map(|at| (if at < 500 { 1.0 } else { 2.0 } + f64::from(at % 7), 1.0)).collect();
        let mean = |samples: &[f64]| samples.iter().sum::<f64>() / samples.len() as f64;
        let width = |block| {
            let found = ratio(&pairs, mean, block, 4);
            found.high - found.low
        };
        assert!(width(100) > 2.0 * width(1));
    }

    #[test]
    fn one_seed_gives_one_interval() {
        let pairs: Vec<_> = (0..50).map(|at| (f64::from(at * 7 % 13), 1.0 + f64::from(at % 5))).collect();
        assert_eq!(ratio(&pairs, median, 2, 9), ratio(&pairs, median, 2, 9));
        assert_ne!(ratio(&pairs, |s| s.iter().sum(), 2, 9), ratio(&pairs, |s| s.iter().sum(), 2, 10));
    }

    #[test]
    fn a_line_without_noise_has_its_slope_and_no_spread() {
        let points: Vec<_> = (0..50).map(|at| (f64::from(at), 7.0 + 3.0 * f64::from(at))).collect();
        let found = trend(&points, 5, 6);
        for slope in [found.value, found.low, found.high] {
            assert!((slope - 3.0).abs() < 1e-9, "{found:?}");
        }
        assert!((found.at_first - 7.0).abs() < 1e-9, "{found:?}");
    }

    #[test]
    fn a_trend_is_told_from_steps_that_go_up_and_down() {
        // Levels of five points that lean nowhere, on slopes of 0 and 0.5.
        let points = |seed: u64, slope: f64| -> Vec<_> {
            let mut random = StdRng::seed_from_u64(seed);
            let levels: Vec<f64> = (0..20).map(|_| random.random_range(0.0..10.0)).collect();
            (0..100).map(|at| (at as f64, levels[at / 5] + slope * at as f64)).collect()
        };
        let hit = |block: usize, slope: f64| {
            let holds = |seed: &u64| {
                let found = trend(&points(*seed, slope), block, 8);
                found.low <= slope && slope <= found.high
            };
            (0..30).filter(holds).count()
        };
        for slope in [0.0, 0.5] {
            let (blocks, points) = (hit(10, slope), hit(1, slope));
            assert!(
                blocks >= 25 && points + 5 <= blocks,
                "{blocks} of 30 in blocks, {points} point by point"
            );
        }
        let leaning = trend(&points(1, 0.5), 10, 8);
        assert!(leaning.low > 0.25, "{leaning:?}");
    }
}
