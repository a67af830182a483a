//! When a step is sent, and with what, as tables.

use std::time::Duration;

use tokio::time::Instant;

use super::{MARGIN, Waiting, held_until, joins, sized};
use crate::domain::Batching;

fn batching(max: u32, delay_ms: u64) -> Batching {
    Batching { max, delay: Duration::from_millis(delay_ms), barred: None }
}

#[test]
fn a_step_waits_for_others_only_as_long_as_nobody_is_late_for_it() {
    // The delay, how long the oldest has waited, when the first deadline is, how long a step
    // takes, and how much longer it is held, all in milliseconds.
    let cases = [
        ("no delay", 0, 0, 1000, 5, None),
        ("fresh", 10, 0, 1000, 5, Some(10)),
        ("half waited", 10, 4, 1000, 5, Some(6)),
        ("waited", 10, 10, 1000, 5, None),
        ("waited longer", 10, 30, 1000, 5, None),
        ("a deadline before the delay's end", 10, 0, 12, 5, Some(5)),
        ("a deadline that the step just meets", 10, 0, 7, 5, None),
        ("a deadline that it misses", 10, 0, 1, 5, None),
        ("a deadline that is over", 10, 0, 0, 500, None),
    ];
    assert_eq!(MARGIN, Duration::from_millis(2), "the table reckons with it");
    for (what, delay, waited, deadline, takes, wanted) in cases {
        let ms = Duration::from_millis;
        let oldest = Instant::now();
        let now = oldest + ms(waited);
        let (earliest_deadline, half_spent) = (now + ms(deadline), oldest + ms(1000));
        let waiting = Waiting { oldest, earliest_deadline, half_spent };
        let held = held_until(&batching(8, delay), waiting, ms(takes), now);
        assert_eq!(held.map(|until| until - now), wanted.map(ms), "{what}");
    }
    let now = Instant::now();
    let half_spent = now + Duration::from_millis(4);
    let waiting = Waiting { oldest: now, earliest_deadline: now + Duration::from_secs(9), half_spent };
    assert_eq!(held_until(&batching(8, 10), waiting, Duration::ZERO, now), Some(half_spent));
}

#[test]
fn a_lane_with_a_session_per_size_gets_the_largest_that_it_has() {
    let cases: [(&[u64], &[u64], usize); 6] = [
        (&[1, 2, 3, 4], &[], 1),
        (&[1, 2, 3, 4], &[1], 1),
        (&[1, 2, 3, 4], &[1, 2, 4, 8], 4),
        (&[1, 2, 3], &[1, 2, 4, 8], 2),
        (&[2, 4, 6], &[3, 6], 3),
        (&[2], &[8], 1),
    ];
    for (sums, built, wanted) in cases {
        assert_eq!(sized(sums, |rows| built.contains(&rows)), wanted, "{sums:?} of {built:?}");
    }
}

#[test]
fn only_proven_models_with_room_for_more_than_one_join() {
    let cases = [
        (batching(8, 0), true),
        (batching(2, 5), true),
        (batching(1, 0), false),
        (Batching::barred("no"), false),
    ];
    for (batching, wanted) in cases {
        assert_eq!(joins(&batching), wanted, "{batching:?}");
    }
}
