//! When requests arrive that wait for nobody: a Poisson process from a seed.

use std::time::Duration;

use rand::{RngExt, SeedableRng, rngs::StdRng};

/// The times of arrival from a beginning on, without end.
pub struct Arrivals {
    random: StdRng,
    per_second: f64,
    at: f64,
}

impl Arrivals {
    /// So many per second on average; the rate is more than 0.
    #[must_use]
    pub fn new(per_second: f64, seed: u64) -> Self {
        Self { random: StdRng::seed_from_u64(seed), per_second, at: 0.0 }
    }
}

impl Iterator for Arrivals {
    type Item = Duration;

    fn next(&mut self) -> Option<Duration> {
        self.at += -(1.0 - self.random.random::<f64>()).ln() / self.per_second;
        Duration::try_from_secs_f64(self.at).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arrivals_come_by_chance_at_their_rate() {
        let time = Duration::from_secs(20);
        let times = || {
            Arrivals::new(500.0, 1).take_while(|at| *at < time).map(|at| at.as_secs_f64()).collect::<Vec<_>>()
        };
        let found = times();
        assert!((9_700..10_300).contains(&found.len()), "{} arrivals", found.len());
        assert!(found.is_sorted());
        // Of exponential gaps 1 - 1/e are shorter than their mean, and their deviation is their mean.
        let gaps: Vec<_> = found.windows(2).map(|pair| (pair[1] - pair[0]) * 500.0).collect();
        let short = gaps.iter().filter(|gap| **gap < 1.0).count() as f64 / gaps.len() as f64;
        assert!((0.61..0.655).contains(&short), "{short}");
        assert_eq!(found, times(), "one seed gives one order");
    }

    #[test]
    fn a_rate_beyond_all_time_has_no_arrivals() {
        assert_eq!(Arrivals::new(1e-300, 1).next(), None);
    }
}
