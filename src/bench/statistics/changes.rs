//! Where a series changes: E-divisive with means, as Apache Otava finds change points.
//!
//! Matteson and James's divisive estimation in windows, with Student's test for significance (Fleming et al., "Hunter",
//! <https://doi.org/10.1145/3578244.3583719>): candidates that are weakly significant are found first, and those that are
//! not significant or too small beside their neighbours are taken away again.

use statrs::function::beta::beta_reg;

/// Otava's defaults.
const WINDOW: usize = 50;
const PROBABILITY_MAX: f64 = 0.001;

/// Where the values from `at` on differ from those before, back to the change before and until the next.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Found {
    pub at: usize,
    /// The two means.
    pub before: f64,
    pub after: f64,
    /// How probable such a difference is by chance.
    pub probability: f64,
}

/// Changes of more than the share `magnitude` of the smaller mean.
#[must_use]
pub fn found(series: &[f64], magnitude: f64) -> Vec<Found> {
    found_with(series, WINDOW, PROBABILITY_MAX, magnitude)
}

fn found_with(series: &[f64], window: usize, probability: f64, magnitude: f64) -> Vec<Found> {
    let weak = match probability {
        small if small < 0.05 => small * 10.0,
        small if small < 0.5 => small * 2.0,
        large => large,
    };
    merged(split(series, window, weak), series, probability, magnitude)
}

/// Weakly significant changes, found in windows that overlap.
fn split(series: &[f64], window: usize, probability: f64) -> Vec<Found> {
    let (mut start, mut places) = (0, Vec::new());
    while start < series.len() {
        let end = (start + window).min(series.len());
        let within = divided(&series[start..end], probability);
        let last = within.last().map_or(0, |at| start + at);
        places.extend(within.into_iter().map(|at| start + at));
        start = last.max(start + window / 2);
    }
    places.sort_unstable();
    places.dedup();
    (0..places.len()).map(|at| judged(series, &places, at)).collect()
}

/// Divides a series where its parts differ most, as long as they differ significantly; the places, in order.
fn divided(series: &[f64], probability: f64) -> Vec<usize> {
    let mut places: Vec<usize> = Vec::new();
    loop {
        let ends = places.iter().copied().chain([series.len()]);
        let intervals = std::iter::once(0).chain(places.iter().copied()).zip(ends);
        let candidates = intervals.filter(|(from, to)| to - from > 1).map(|(from, to)| {
            let (at, distance) = most_different(&series[from..to]);
            (distance, from + at, from, to)
        });
        // The first of those that are as different.
        let best = candidates.reduce(|best, next| if next.0 > best.0 { next } else { best });
        let Some((_, at, from, to)) = best else { return places };
        if compared(&series[from..at], &series[at..to], at).probability > probability {
            return places;
        }
        places.insert(places.partition_point(|place| *place < at), at);
    }
}

/// Takes changes away, the least credible one first, until all are significant and large enough.
fn merged(mut changes: Vec<Found>, series: &[f64], probability: f64, magnitude: f64) -> Vec<Found> {
    while !changes.is_empty() {
        let first = |better: fn(&Found, &Found) -> bool| {
            (1..changes.len())
                .fold(0, |best, at| if better(&changes[at], &changes[best]) { at } else { best })
        };
        let mut weakest = first(|one, best| one.probability > best.probability);
        if changes[weakest].probability < probability {
            weakest = first(|one, best| one.magnitude() < best.magnitude());
            if changes[weakest].magnitude() > magnitude {
                break;
            }
        }
        changes.remove(weakest);
        // As Otava does, the change before is not judged anew.
        let places: Vec<_> = changes.iter().map(|change| change.at).collect();
        for at in [weakest, weakest + 1].into_iter().filter(|at| *at < places.len()) {
            changes[at] = judged(series, &places, at);
        }
    }
    changes
}

/// The change at one of these places, from the one before it until the next.
fn judged(series: &[f64], places: &[usize], at: usize) -> Found {
    let from = at.checked_sub(1).map_or(0, |before| places[before]);
    let to = places.get(at + 1).copied().unwrap_or(series.len());
    let place = places[at];
    compared(&series[from..place], &series[place..to], place)
}

impl Found {
    fn magnitude(&self) -> f64 {
        let change = |from: f64, to: f64| if from == 0.0 { 0.0 } else { (to / from - 1.0).abs() };
        change(self.before, self.after).max(change(self.after, self.before))
    }
}

/// Student's test for equal variances, of deviations over the number of values, as Otava has it.
fn compared(left: &[f64], right: &[f64], at: usize) -> Found {
    let [(before, varies_before), (after, varies_after)] = [left, right].map(|side| {
        let mean = side.iter().sum::<f64>() / side.len() as f64;
        (mean, side.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / side.len() as f64)
    });
    let (n, m) = (left.len() as f64, right.len() as f64);
    let freedom = n + m - 2.0;
    let probability = if freedom > 0.0 {
        let pooled = ((n - 1.0) * varies_before + (m - 1.0) * varies_after) / freedom;
        let t = (before - after) / (pooled * (1.0 / n + 1.0 / m)).sqrt();
        // Two that do not vary are either the same or certainly different.
        if t.is_nan() {
            1.0
        } else if t.is_infinite() {
            0.0
        } else {
            beta_reg(freedom / 2.0, 0.5, freedom / (freedom + t * t))
        }
    } else {
        1.0
    };
    Found { at, before, after, probability }
}

/// Where a series is to be divided so that what is before differs most from some of what follows, and by how much.
fn most_different(series: &[f64]) -> (usize, f64) {
    let count = series.len();
    let distance = |one: usize, other: usize| (series[one] - series[other]).abs();
    // Distances of each value to those before it, added up from the first value on.
    let mut before = vec![0.0; count + 1];
    for at in 1..count {
        before[at + 1] = before[at] + (0..at).map(|other| distance(other, at)).sum::<f64>();
    }
    // By the end of what follows: distances of the first values to all later ones until there, added up.
    let mut onward = vec![vec![0.0; count + 1]; count + 1];
    for first in 0..count {
        let (earlier, later) = onward.split_at_mut(first + 1);
        let mut sum = 0.0;
        for end in first + 2..=count {
            sum += distance(first, end - 1);
            later[0][end] = earlier[first][end] + sum;
        }
    }
    let mut best = (1, f64::NEG_INFINITY);
    for at in 1..count {
        for end in at + 1..=count {
            let (left, right) = (at as f64, (end - at) as f64);
            let between = 2.0 / end as f64 * (onward[at][end] - before[at]);
            let within = |own: f64, other: f64, sum: f64| {
                if own > 1.0 { 2.0 * other / (end as f64 * (own - 1.0)) * sum } else { 0.0 }
            };
            let on_the_left = within(left, right, before[at]);
            let on_the_right = within(right, left, onward[end - 1][end] - onward[at][end]);
            let differs = between - on_the_left - on_the_right;
            if differs > best.1 {
                best = (at, differs);
            }
        }
    }
    best
}

#[cfg(test)]
mod tests;
