//! What samples say: quantiles with their intervals, how two series compare, and which samples are far off. Pure.
//!
//! Intervals are of 95 %, by bootstrap. Those of quantiles are what ever more resamples would come to, and those of
//! pairs and trends are drawn from a given seed, so that the same samples have the same interval.

pub mod changes;
mod paired;
mod rank;
mod redrawn;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

pub use paired::{Ratio, Trend, ratio, trend};
pub use rank::{corrected, mann_whitney, signed_rank};
use redrawn::Redrawn;

/// Resamples per interval, where they are drawn: enough that its bounds move by less than the digits that are printed.
const RESAMPLES: usize = 2000;

/// The share of resamples beyond each bound of a 95 % interval.
const TAIL: f64 = 0.025;

/// How often a percentile may be claimed of too few samples.
const CLAIMED_WRONGLY: f64 = 0.01;

/// Tukey's fence, in distances between the quartiles.
const FENCE: f64 = 1.5;

/// A figure with its 95 % interval.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Interval {
    pub value: f64,
    pub low: f64,
    pub high: f64,
}

impl Interval {
    /// Half of its width, as a share of the figure.
    #[must_use]
    pub fn spread(&self) -> f64 {
        (self.high - self.low) / 2.0 / self.value
    }
}

/// The smallest sample that at least the share `q` of all samples does not exceed.
#[must_use]
pub fn quantile(samples: &[f64], q: f64) -> f64 {
    let mut samples = samples.to_vec();
    let rank = (q * samples.len() as f64).ceil() as usize;
    let at = rank.clamp(1, samples.len()) - 1;
    *samples.select_nth_unstable_by(at, f64::total_cmp).1
}

#[must_use]
pub fn median(samples: &[f64]) -> f64 {
    quantile(samples, 0.5)
}

/// A quantile with its interval.
#[must_use]
pub fn bounded(samples: &[f64], q: f64) -> Interval {
    let redrawn = Redrawn::quantile(samples, q);
    Interval { value: quantile(samples, q), low: redrawn.reached(TAIL), high: redrawn.reached(1.0 - TAIL) }
}

/// The ratio of one series' median to that of another that was not measured in pairs with it; of times, which are
/// not negative.
#[must_use]
pub fn apart(head: &[f64], base: &[f64]) -> Interval {
    let (over, under) = (Redrawn::quantile(head, 0.5), Redrawn::quantile(base, 0.5));
    Interval {
        value: median(head) / median(base),
        low: over.ratio_reached(&under, TAIL),
        high: over.ratio_reached(&under, 1.0 - TAIL),
    }
}

/// Medians of so many stretches of samples at most, none shorter than `STRETCH_MIN`.
const STRETCHES_MAX: usize = 40;
const STRETCH_MIN: usize = 5;

/// With fewer stretches nothing could be told from chance.
const STRETCHES_MIN: usize = 9;

/// Medians of stretches of samples in their order; of a few samples, these themselves.
/// Samples that follow each other share what the machine does just then, so that they tell less than as many that do not:
/// a test that takes each for a witness of its own finds differences in what only came at another moment.
#[must_use]
pub fn stretches(samples: &[f64]) -> Vec<f64> {
    let count = (samples.len() / STRETCH_MIN).min(STRETCHES_MAX);
    if count < STRETCHES_MIN {
        return samples.to_vec();
    }
    let from = |stretch: usize| stretch * samples.len() / count;
    (0..count).map(|stretch| median(&samples[from(stretch)..from(stretch + 1)])).collect()
}

/// About half the width of the median's interval, as a share of the median: quick enough to ask after each sample.
#[must_use]
pub fn rough_spread(samples: &[f64]) -> f64 {
    // Ranks of the interval's ends: the median's own is off by half the root of the number, 1.96 times.
    let reach = 0.98 / (samples.len() as f64).sqrt();
    let (low, high) = (quantile(samples, 0.5 - reach), quantile(samples, 0.5 + reach));
    (high - low) / 2.0 / median(samples)
}

/// Whether so many samples may claim this percentile, one of them being beyond it: as many as `MLPerf` asks for, 64 for
/// the 90th and 662 for the 99th.
#[must_use]
pub fn supports(samples: usize, q: f64) -> bool {
    let n = samples as f64;
    let at_most_one = q.powf(n) + n * (1.0 - q) * q.powf(n - 1.0);
    samples > 1 && at_most_one <= CLAIMED_WRONGLY
}

/// Which samples lie beyond Tukey's fences. They are told, and stay.
#[must_use]
pub fn outliers(samples: &[f64]) -> Vec<usize> {
    if samples.is_empty() {
        return Vec::new();
    }
    let (first, third) = (quantile(samples, 0.25), quantile(samples, 0.75));
    let reach = FENCE * (third - first);
    let beyond = |sample: f64| sample < first - reach || sample > third + reach;
    samples.iter().enumerate().filter(|(_, sample)| beyond(**sample)).map(|(at, _)| at).collect()
}

#[cfg(test)]
mod tests {
    use rand::{RngExt, SeedableRng, rngs::StdRng};

    use super::*;

    #[test]
    fn stretches_are_of_samples_that_follow_each_other() {
        let of = |samples: u32| -> Vec<u32> {
            let counted: Vec<_> = (0..samples).map(f64::from).collect();
            stretches(&counted).into_iter().map(|median| median as u32).collect()
        };
        assert_eq!(of(44), (0..44).collect::<Vec<_>>(), "too few for nine of five");
        for (samples, count, first, last) in
            [(45, 9, 2, 42), (199, 39, 2, 195), (200, 40, 2, 197), (500, 40, 5, 493)]
        {
            let stretches = of(samples);
            assert_eq!((stretches.len(), stretches[0], stretches[count - 1]), (count, first, last));
        }
    }

    #[test]
    fn a_quantile_is_the_sample_at_its_rank() {
        let hundred: Vec<f64> = (1..=100).rev().map(f64::from).collect();
        let cases: [(&[f64], f64, f64); 8] = [
            (&[7.0], 0.5, 7.0),
            (&[3.0, 1.0, 2.0], 0.5, 2.0),
            (&[4.0, 1.0, 3.0, 2.0], 0.5, 2.0),
            (&[2.0, 1.0], 0.0, 1.0),
            (&[2.0, 1.0], 1.0, 2.0),
            (&hundred, 0.99, 99.0),
            (&hundred, 0.991, 100.0),
            (&hundred, 0.025, 3.0),
        ];
        for (samples, q, wanted) in cases {
            let found = quantile(samples, q);
            assert!((found - wanted).abs() < f64::EPSILON, "{q} of {} samples is {found}", samples.len());
        }
    }

    #[test]
    fn percentiles_need_as_many_samples_as_mlperf_says() {
        for (q, least) in [(0.9, 64), (0.99, 662)] {
            assert!(supports(least, q) && !supports(least - 1, q), "{q}");
        }
        assert!(!supports(0, 0.5) && !supports(1, 0.5));
    }

    #[test]
    fn an_interval_of_samples_that_do_not_vary_has_no_width() {
        let found = bounded(&[3.0; 20], 0.5);
        assert_eq!(found, Interval { value: 3.0, low: 3.0, high: 3.0 });
        assert_eq!(apart(&[3.0; 20], &[2.0; 9]), Interval { value: 1.5, low: 1.5, high: 1.5 });
    }

    #[test]
    fn the_rough_interval_is_about_as_wide_as_the_other() {
        for count in [20, 100, 1000] {
            let mut random = StdRng::seed_from_u64(count);
            let samples: Vec<f64> = (0..count).map(|_| random.random_range(9.0..11.0)).collect();
            let (rough, exact) = (rough_spread(&samples), bounded(&samples, 0.5).spread());
            assert!(rough < 2.0 * exact && exact < 2.0 * rough, "{rough} and {exact} of {count}");
        }
    }

    #[test]
    fn intervals_hold_the_truth_as_often_as_they_say() {
        let held = (0..40).filter(|seed| {
            let mut random = StdRng::seed_from_u64(*seed);
            let samples: Vec<f64> = (0..40).map(|_| random.random_range(0.0..2.0)).collect();
            let found = bounded(&samples, 0.5);
            found.low <= 1.0 && 1.0 <= found.high
        });
        let held = held.count();
        assert!(held >= 34, "{held} of 40");
    }

    /// `fixtures/statistics/scipy.py` makes them.
    #[derive(Deserialize)]
    struct OfScipy {
        one: Vec<f64>,
        two: Vec<f64>,
        probability: f64,
        median: [f64; 2],
        p90: [f64; 2],
        ratio: [f64; 2],
    }

    #[test]
    fn intervals_and_probabilities_are_those_of_scipy() {
        let cases = include_str!("../../../fixtures/statistics/scipy.json");
        let cases: Vec<OfScipy> = serde_json::from_str(cases).unwrap();
        assert_eq!(cases.len(), 5);
        for OfScipy { one, two, probability, median, p90, ratio } in cases {
            // Ends of quantiles are samples, those of ratios lie close together and are drawn.
            let pairs = [(bounded(&one, 0.5), median, 1e-12), (bounded(&one, 0.9), p90, 1e-12)];
            for (found, wanted, off) in pairs.into_iter().chain([(apart(&one, &two), ratio, 5e-3)]) {
                for (found, wanted) in [(found.low, wanted[0]), (found.high, wanted[1])] {
                    assert!(
                        (found / wanted - 1.0).abs() <= off,
                        "{} samples: {found} for {wanted}",
                        one.len()
                    );
                }
            }
            let found = mann_whitney(&one, &two);
            assert!((found / probability - 1.0).abs() < 1e-9, "{found} for {probability}");
        }
    }

    #[test]
    fn what_is_far_off_is_found_and_nothing_else() {
        let mut samples: Vec<f64> = (0..40).map(f64::from).collect();
        assert_eq!(outliers(&samples), Vec::<usize>::new());
        samples.extend([200.0, -90.0]);
        assert_eq!(outliers(&samples), [40, 41]);
        assert_eq!(outliers(&[]), Vec::<usize>::new());
    }
}
