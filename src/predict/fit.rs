//! Least squares for sums of a few terms that cannot be negative, where some samples are far off and some terms never vary.
//!
//! Coefficients are fitted as multiples of what was thought before, and drawn towards one common multiple of that as far
//! as the samples say nothing: a lane three times slower than thought is so in what it has not run yet, too.

use super::speed::Within;

/// One sample: each term's amount, and the microseconds that all took.
pub(super) struct Row {
    pub(super) amounts: Vec<f64>,
    pub(super) micros: f64,
}

pub(super) struct Fit {
    /// Microseconds per amount of each term, with the bounds of 19 of 20.
    pub(super) terms: Vec<(f64, Within)>,
    /// How far samples are from the fit to the others, as shares of it.
    pub(super) within: Option<Within>,
}

/// Timings of the same step differ by this share at least, so fewer samples than terms prove no perfect fit.
const NOISE_LEAST: f64 = 0.02;

/// From the median absolute deviation to a standard deviation, for a bell curve.
const TO_DEVIATION: f64 = 1.4826;

/// Deviations beyond which a sample pulls less (Huber), and not at all (Tukey): 95 % as good as plain least squares
/// where nothing is off.
const PULLS_LESS: f64 = 1.345;
const PULLS_NOT: f64 = 4.685;

/// Rounds of weighting anew: Huber's first, since Tukey's needs a good start.
const ROUNDS: usize = 12;
const ROUNDS_HUBER: usize = 6;

/// Sweeps of the solver at most; it stops where a sweep changes nothing that matters.
const SWEEPS: usize = 20_000;
const SETTLED: f64 = 1e-11;

/// Samples from which bounds of nine of ten can be told.
const BOUNDED_FROM: usize = 8;

/// Fits `rows`, where each term was thought to take `before` microseconds per amount, more than nothing.
pub(super) fn fit(rows: &[Row], before: &[f64]) -> Option<Fit> {
    let sum = |row: &Row, of: &[f64]| row.amounts.iter().zip(of).map(|(amount, us)| amount * us).sum::<f64>();
    let rows: Vec<_> = rows.iter().filter(|row| row.micros > 0.0 && sum(row, before) > 0.0).collect();
    let ratios = rows.iter().map(|row| row.micros / sum(row, before)).collect();
    let common = median(ratios)?;
    let before: Vec<_> = before.iter().map(|us| us * common).collect();
    let mut multiples = vec![1.0; before.len()];
    let mut weights = vec![1.0; rows.len()];
    let mut last = None;
    for round in 0..ROUNDS {
        let now: Vec<_> = before.iter().zip(&multiples).map(|(us, multiple)| us * multiple).collect();
        // Timings err by shares, so each row is measured in what it is forecast to take.
        let shares: Vec<Vec<f64>> = rows
            .iter()
            .map(|row| row.amounts.iter().zip(&before).map(|(x, us)| x * us / sum(row, &now)).collect())
            .collect();
        let targets: Vec<_> = rows.iter().map(|row| row.micros / sum(row, &now)).collect();
        let off = targets.iter().map(|target| (target - 1.0).abs()).collect();
        let deviation = (TO_DEVIATION * median(off)?).max(NOISE_LEAST);
        for (weight, target) in weights.iter_mut().zip(&targets) {
            *weight = pull((target - 1.0).abs() / deviation, round < ROUNDS_HUBER);
        }
        let normal = Normal::new(&shares, &targets, &weights, deviation * deviation);
        multiples = normal.solve(multiples);
        last = Some((normal, shares, targets, deviation));
    }
    let (normal, shares, targets, deviation) = last?;
    let inverse = normal.inverse();
    let terms = before.iter().zip(&multiples).enumerate().map(|(at, (us, multiple))| {
        let reach = 1.96 * deviation * inverse[at][at].sqrt();
        (us * multiple, Within { low: us * (multiple - reach).max(0.0), high: us * (multiple + reach) })
    });
    let alone: Vec<_> = shares
        .iter()
        .zip(targets.iter().zip(&weights))
        .map(|(shares, (target, weight))| left_out(shares, *target, *weight, &multiples, &inverse))
        .collect();
    Some(Fit { terms: terms.collect(), within: bounds(alone) })
}

/// How much a sample so many deviations off counts.
fn pull(off: f64, huber: bool) -> f64 {
    if huber {
        return (PULLS_LESS / off).min(1.0);
    }
    let rest = 1.0 - (off / PULLS_NOT).powi(2);
    if rest > 0.0 { rest * rest } else { 0.0 }
}

/// What a sample took as a share of what the fit to the others forecasts.
fn left_out(shares: &[f64], target: f64, weight: f64, multiples: &[f64], inverse: &[Vec<f64>]) -> f64 {
    let forecast: f64 = shares.iter().zip(multiples).map(|(share, multiple)| share * multiple).sum();
    let through = |row: &Vec<f64>| row.iter().zip(shares).map(|(entry, share)| entry * share).sum::<f64>();
    let leverage: f64 = inverse.iter().zip(shares).map(|(row, share)| share * through(row)).sum();
    let off = (target - forecast) / (1.0 - weight * leverage).max(NOISE_LEAST);
    target / (target - off).max(target * NOISE_LEAST)
}

/// Bounds of nine of ten, by rank among one more than there are.
fn bounds(mut shares: Vec<f64>) -> Option<Within> {
    if shares.len() < BOUNDED_FROM {
        return None;
    }
    shares.sort_by(f64::total_cmp);
    let more = (shares.len() + 1) as f64;
    let low = ((more * 0.05).floor() as usize).max(1) - 1;
    let high = ((more * 0.95).ceil() as usize).min(shares.len()) - 1;
    Some(Within { low: shares[low].min(1.0), high: shares[high].max(1.0) })
}

fn median(mut values: Vec<f64>) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    Some(if values.len().is_multiple_of(2) {
        (values.get(middle.checked_sub(1)?)? + values[middle]) / 2.0
    } else {
        values[middle]
    })
}

/// The equations of weighted least squares, with a pull of every multiple towards 1.
struct Normal {
    matrix: Vec<Vec<f64>>,
    right: Vec<f64>,
}

impl Normal {
    fn new(shares: &[Vec<f64>], targets: &[f64], weights: &[f64], pull: f64) -> Self {
        let terms = shares.first().map_or(0, Vec::len);
        let mut matrix = vec![vec![0.0; terms]; terms];
        let mut right = vec![pull; terms];
        for (shares, (target, weight)) in shares.iter().zip(targets.iter().zip(weights)) {
            for (at, share) in shares.iter().enumerate() {
                right[at] += weight * share * target;
                for (entry, other) in matrix[at].iter_mut().zip(shares) {
                    *entry += weight * share * other;
                }
            }
        }
        for (at, row) in matrix.iter_mut().enumerate() {
            row[at] += pull;
        }
        Self { matrix, right }
    }

    /// The best multiples of which none is negative: one at a time, over and over.
    fn solve(&self, mut multiples: Vec<f64>) -> Vec<f64> {
        for _ in 0..SWEEPS {
            let mut change: f64 = 0.0;
            for (at, row) in self.matrix.iter().enumerate() {
                let sum: f64 = row.iter().zip(&multiples).map(|(entry, multiple)| entry * multiple).sum();
                let better = (multiples[at] + (self.right[at] - sum) / row[at]).max(0.0);
                change = change.max((better - multiples[at]).abs());
                multiples[at] = better;
            }
            if change < SETTLED {
                break;
            }
        }
        multiples
    }

    /// By Gauss and Jordan; the pull makes every pivot positive.
    fn inverse(&self) -> Vec<Vec<f64>> {
        let terms = self.matrix.len();
        let mut left = self.matrix.clone();
        let mut inverse = vec![vec![0.0; terms]; terms];
        for (at, row) in inverse.iter_mut().enumerate() {
            row[at] = 1.0;
        }
        for at in 0..terms {
            let pivot = left[at][at];
            for entry in left[at].iter_mut().chain(&mut inverse[at]) {
                *entry /= pivot;
            }
            let (of_left, of_inverse) = (left[at].clone(), inverse[at].clone());
            for row in (0..terms).filter(|row| *row != at) {
                let factor = left[row][at];
                let entries = left[row].iter_mut().chain(&mut inverse[row]);
                for (entry, own) in entries.zip(of_left.iter().chain(&of_inverse)) {
                    *entry -= factor * own;
                }
            }
        }
        inverse
    }
}
