//! Tables of cases for what the pool decides.

use std::time::Duration;

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::{
    breaker::Breaker,
    scale::{Bounds, Decision, Scale, Seen},
    slot::{FRUITLESS_MAX, Phase, Slot},
};

const SECOND: Duration = Duration::from_secs(1);

#[test]
fn a_circuit_opens_after_five_fruitless_launches_and_closes_after_one_that_serves() {
    let start = Instant::now();
    let mut breaker = Breaker::new(60);
    for _ in 0..5 {
        assert!(breaker.permits(start));
        assert_eq!(breaker.opens(), None);
        breaker.fruitless(start);
    }
    assert!(!breaker.permits(start + 29 * SECOND));
    assert_eq!(breaker.opens(), Some(start + 30 * SECOND));
    assert!(breaker.permits(start + 30 * SECOND), "the trial");
    assert!(!breaker.permits(start + 30 * SECOND), "one at a time");
    breaker.fruitless(start + 31 * SECOND);
    assert_eq!(breaker.opens(), Some(start + 61 * SECOND), "a trial that fails opens it again");
    assert!(breaker.permits(start + 61 * SECOND));
    breaker.served();
    assert!(breaker.permits(start + 61 * SECOND) && breaker.permits(start + 61 * SECOND));
}

#[test]
fn a_trial_that_is_called_off_leaves_room_for_the_next() {
    let now = Instant::now();
    let mut breaker = Breaker::new(60);
    (0..5).for_each(|_| breaker.fruitless(now));
    let later = now + 30 * SECOND;
    assert!(breaker.permits(later) && breaker.on_trial());
    breaker.called_off(later);
    assert!(breaker.permits(later));
}

#[test]
fn restarts_are_counted_over_an_hour() {
    let start = Instant::now();
    let mut breaker = Breaker::new(2);
    assert!(breaker.restart(start));
    assert!(breaker.restart(start + 1800 * SECOND));
    assert!(!breaker.restart(start + 3600 * SECOND), "both lie within the hour");
    assert!(breaker.restart(start + 3601 * SECOND), "the first does no longer");
    breaker.reset();
    assert!(breaker.restart(start + 3601 * SECOND));
}

#[test]
fn a_recipe_grows_when_pressed_and_shrinks_when_idle() {
    let now = Instant::now();
    let quiet = Seen { now, instances: 2, utilisation: 0.0, waiting: 0, idle: 700 * SECOND, room: true };
    let pressed = Seen { utilisation: 0.9, waiting: 3, idle: Duration::ZERO, ..quiet };
    let bounds = Bounds { least: 1, most: 3 };
    let cases = [
        ("pressed", bounds, pressed, Decision::Grow),
        ("pressed at its most", Bounds { least: 1, most: 2 }, pressed, Decision::Stay),
        ("pressed without room", bounds, Seen { room: false, ..pressed }, Decision::Refused),
        ("busy, and nobody waits", bounds, Seen { waiting: 0, ..pressed }, Decision::Stay),
        ("waiting for a model to load", bounds, Seen { utilisation: 0.1, ..pressed }, Decision::Stay),
        ("idle", bounds, quiet, Decision::Shrink),
        ("idle at its least", Bounds { least: 2, most: 3 }, quiet, Decision::Stay),
        ("idle for a moment", bounds, Seen { idle: 10 * SECOND, ..quiet }, Decision::Stay),
        ("of fixed size", Bounds { least: 2, most: 2 }, pressed, Decision::Stay),
    ];
    for (case, bounds, seen, decision) in cases {
        assert_eq!(Scale::new(bounds, 600 * SECOND).decide(seen), decision, "{case}");
    }
}

#[test]
fn a_change_of_size_shows_before_the_next() {
    let now = Instant::now();
    let pressed = Seen { now, instances: 1, utilisation: 0.9, waiting: 3, idle: Duration::ZERO, room: true };
    let mut scale = Scale::new(Bounds { least: 1, most: 8 }, 600 * SECOND);
    assert_eq!(scale.decide(pressed), Decision::Grow);
    assert_eq!(scale.decide(Seen { now: now + 29 * SECOND, instances: 2, ..pressed }), Decision::Stay);
    assert_eq!(scale.decide(Seen { now: now + 30 * SECOND, instances: 2, ..pressed }), Decision::Grow);
}

#[test]
fn a_good_browser_is_launched_again_at_once_and_a_bad_one_ever_more_slowly() {
    let mut slot = Slot::new(Instant::now());
    assert_eq!(slot.pause(60 * SECOND, true), Duration::ZERO);
    let pauses: Vec<_> = (0..8).map(|_| slot.pause(SECOND, false).as_millis()).collect();
    assert_eq!(pauses, [250, 500, 1000, 2000, 4000, 8000, 15000, 15000]);
    assert!(slot.fruitless > FRUITLESS_MAX);
    assert_eq!(slot.pause(SECOND, true).as_millis(), 15000, "it served, but not for long");
    assert_eq!(slot.fruitless, 0);
    assert_eq!(slot.pause(6 * SECOND, true), Duration::ZERO);
}

#[test]
fn a_browser_at_rest_is_weighed_seldom() {
    let start = Instant::now();
    let mut slot = Slot::new(start);
    assert!(!slot.weigh(start), "it does not run");
    let launched = |slot: &mut Slot, since: Instant| {
        let close = CancellationToken::new();
        slot.phase = Phase::Running { close, since, served: true, draining: None };
    };
    launched(&mut slot, start);
    for (seconds, due) in [(0, true), (5, false), (25, false), (30, true), (35, false)] {
        assert_eq!(slot.weigh(start + seconds * SECOND), due, "after {seconds} s");
    }
    launched(&mut slot, start + 36 * SECOND);
    assert!(slot.weigh(start + 40 * SECOND), "another browser");
}
