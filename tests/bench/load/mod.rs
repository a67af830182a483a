//! The daemon under load: everything at once, more than it can do, many connections, and beside what others serve by.

pub(crate) mod batching;
pub(crate) mod closed;
mod dense;
pub(crate) mod fairness;
pub(crate) mod idle;
mod looped;
pub(crate) mod native;
pub(crate) mod open;
mod pace;
pub(crate) mod peer;
pub(crate) mod saturation;
pub(crate) mod serving;

/// Each of which more lies beyond it than chance alone decides: ten samples.
const BEYOND_MIN: f64 = 10.0;

/// The percentiles that so many samples support.
fn supported(samples: usize) -> Vec<f64> {
    [0.5, 0.9, 0.95, 0.99, 0.999].into_iter().filter(|q| (1.0 - q) * samples as f64 >= BEYOND_MIN).collect()
}

fn floats(series: &[u64]) -> Vec<f64> {
    series.iter().map(|micros| *micros as f64).collect()
}
