//! When a plan is replaced.

use super::super::{is_worth_a_trial, verdict};
use crate::domain::{
    Costs,
    ReviewVerdict::{self, BetterOnce, Kept, Replaced},
};

fn costs(standing: impl Into<Option<f64>>, candidate: impl Into<Option<f64>>) -> Costs {
    Costs { standing: standing.into(), candidate: candidate.into() }
}

#[test]
fn what_is_forecast_to_save_a_tenth_is_tried() {
    let cases = [
        (costs(100.0, 90.0), true),
        (costs(100.0, 90.1), false),
        (costs(100.0, 100.0), false),
        (costs(100.0, 250.0), false),
        (costs(0.0, 0.0), true),
        // A lane of the standing plan is gone, and nobody knows what it takes now.
        (costs(None, 50.0), true),
        (costs(50.0, None), true),
        (costs(None, None), true),
    ];
    for (forecast, tried) in cases {
        assert_eq!(is_worth_a_trial(forecast), tried, "{forecast:?}");
    }
}

#[test]
fn what_was_measured_to_save_a_tenth_twice_replaces() {
    let cases: [(Costs, bool, ReviewVerdict); 8] = [
        (costs(100.0, 90.0), false, BetterOnce),
        (costs(100.0, 90.0), true, Replaced),
        (costs(100.0, 10.0), false, BetterOnce),
        (costs(100.0, 90.1), false, Kept),
        (costs(100.0, 90.1), true, Kept),
        (costs(100.0, 200.0), true, Kept),
        (costs(None, 10.0), true, Kept),
        (costs(100.0, f64::NAN), true, Kept),
    ];
    for (measured, before, wanted) in cases {
        assert_eq!(verdict(measured, before), wanted, "{measured:?}, better before: {before}");
    }
}
