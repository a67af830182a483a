//! The order of requests as tables, and who gets how much of one lane's time.

use std::{collections::BTreeMap, time::Duration};

use rand::{RngExt, SeedableRng, rngs::StdRng};
use tokio::time::Instant;

use super::{PRIORITY_LAST, Place, Queue};
use crate::domain::Caller;

const STEP: Duration = Duration::from_secs(1);

fn caller(id: &str, weight: u32) -> Caller {
    Caller { id: id.into(), weight }
}

fn place(caller: &Caller, priority: u32, arrived: Instant, within: Duration) -> Place {
    Place { caller: caller.clone(), priority, again: false, arrived, deadline: arrived + within }
}

/// Serves everything, in order.
fn order(queue: &mut Queue<u32, &'static str>, now: Instant) -> String {
    let mut served = Vec::new();
    let mut pass = queue.pass(now);
    while let Some((lot, number)) = pass.next(queue) {
        served.extend(queue.remove(number));
        pass.again(lot, queue);
    }
    assert!(queue.is_empty() && queue.next_deadline().is_none());
    served.join(" ")
}

/// Requests as `name: priority, arrival, time allowed, whether tried before`, in seconds; and who is served when.
#[test]
fn class_then_deadline_then_arrival() {
    type Asked = (&'static str, u32, u64, u64, bool);
    let cases: [(&str, &[Asked], u64, &str); 8] = [
        ("arrival", &[("a", 0, 0, 60, false), ("b", 0, 0, 60, false), ("c", 8, 0, 60, false)], 0, "a b c"),
        ("class", &[("a", 9, 0, 60, false), ("b", 0, 0, 60, false), ("c", 1, 0, 60, false)], 0, "c b a"),
        ("deadline", &[("a", 0, 0, 60, false), ("b", 0, 0, 2, false), ("c", 0, 0, 30, false)], 0, "b c a"),
        ("class before deadline", &[("a", 2, 0, 1, false), ("b", 1, 0, 60, false)], 0, "b a"),
        ("tried before", &[("a", 0, 0, 9, false), ("b", 0, 0, 60, true), ("c", 7, 0, 60, false)], 0, "c b a"),
        // Each second of waiting is worth a class.
        ("ageing", &[("a", 9, 0, 60, false), ("b", 8, 2, 60, false), ("c", 6, 2, 60, false)], 2, "c a b"),
        // The best class is the end of it, and there deadlines decide.
        ("aged to the front", &[("a", 9, 0, 90, false), ("b", 1, 50, 30, false)], 50, "b a"),
        ("beyond the last", &[("a", u32::MAX, 0, 60, false), ("b", PRIORITY_LAST, 0, 50, false)], 0, "b a"),
    ];
    let began = Instant::now();
    let seconds = Duration::from_secs;
    for (what, asked, now, wanted) in cases {
        // As one lot, and as one for each.
        for apart in [false, true] {
            let mut queue = Queue::new(STEP);
            for (number, (name, priority, at, within, again)) in asked.iter().enumerate() {
                let at = began + seconds(*at);
                let place =
                    Place { again: *again, ..place(&caller("local", 1), *priority, at, seconds(*within)) };
                queue.insert(if apart { number as u32 } else { 0 }, place, *name, at);
            }
            assert_eq!(order(&mut queue, began + seconds(now)), wanted, "{what}, apart: {apart}");
        }
    }
}

#[test]
fn a_lot_that_waits_keeps_no_other_from_its_turn() {
    let now = Instant::now();
    let mut queue = Queue::new(STEP);
    for (lot, priority, name) in [(1, 1, "a"), (2, 8, "b"), (1, 1, "c"), (2, 8, "d"), (3, 9, "e")] {
        queue.insert(lot, place(&caller("local", 1), priority, now, STEP), name, now);
    }
    let (mut pass, mut seen) = (queue.pass(now), Vec::new());
    while let Some((lot, number)) = pass.next(&queue) {
        seen.push(*queue.get(number).expect("it is queued"));
        if *lot == 2 {
            queue.remove(number);
            pass.again(lot, &queue);
        }
    }
    // Of the lots that wait, only the first is looked at.
    assert_eq!(seen, ["a", "b", "d", "e"]);
    assert_eq!(order(&mut queue, now), "a c e");
}

#[test]
fn what_is_over_is_found_by_its_time() {
    let now = Instant::now();
    let mut queue = Queue::new(STEP);
    let seconds = Duration::from_secs;
    for (name, within) in [("a", 3), ("b", 1), ("c", 2)] {
        queue.insert(0, place(&caller("local", 1), 0, now, seconds(within)), name, now);
    }
    assert_eq!(queue.next_deadline(), Some(now + seconds(1)));
    assert_eq!(queue.expired(now), None);
    let mut over = Vec::new();
    while let Some(name) = queue.expired(now + seconds(2)) {
        over.push(name);
    }
    assert_eq!(over, ["b", "c"]);
    assert_eq!(queue.remove_where(|name| *name == "a"), ["a"]);
    assert!(queue.is_empty());
}

#[test]
fn what_is_ahead_goes_by_class_deadline_and_share() {
    let now = Instant::now();
    let mut queue = Queue::new(STEP);
    let (busy, light) = (caller("busy", 1), caller("light", 3));
    let seconds = Duration::from_secs;
    for _ in 0..100 {
        queue.insert(0, place(&busy, 0, now, seconds(60)), (), now);
    }
    let mut ahead = |caller: &Caller, priority, within| {
        let number = queue.insert(0, place(caller, priority, now, seconds(within)), (), now);
        let ahead = queue.ahead(number);
        queue.remove(number);
        ahead
    };
    assert_eq!(ahead(&busy, 0, 60), 100, "behind its like");
    assert_eq!(ahead(&busy, 0, 1), 0, "its deadline comes first");
    assert_eq!(ahead(&busy, 7, 60), 0, "its class comes first");
    assert_eq!(ahead(&busy, 9, 60), 100, "all others are of a better class");
    assert_eq!(ahead(&light, 0, 60), 0, "of four turns it has three");
    assert_eq!(ahead(&caller("other", 1), 0, 60), 1, "of two turns it has one");
}

/// One lane serves callers for a time; each keeps some requests queued, of some cost in microseconds, of which a
/// guess is charged ahead. Answers what each got.
fn serve(callers: &[(&Caller, u64)], micros: u64, seed: u64) -> BTreeMap<String, u64> {
    let mut random = StdRng::seed_from_u64(seed);
    let (mut now, end) = (Instant::now(), Instant::now() + Duration::from_micros(micros));
    let mut queue = Queue::new(STEP);
    let mut got = BTreeMap::new();
    for (at, (caller, _)) in callers.iter().enumerate() {
        for _ in 0..3 {
            queue.insert(at % 2, place(caller, 0, now, Duration::from_secs(60)), at, now);
        }
    }
    while now < end {
        let (_, number) = queue.pass(now).next(&queue).expect("all keep asking");
        let at = queue.remove(number).expect("it is queued");
        let (caller, cost) = callers[at];
        // It takes between half and one and a half of what is expected.
        let took = random.random_range(cost / 2..=cost * 3 / 2);
        queue.shares().charge(caller, cost as f64);
        queue.shares().charge(caller, took as f64 - cost as f64);
        now += Duration::from_micros(took);
        *got.entry(caller.id.to_string()).or_default() += took;
        queue.insert(at % 2, place(caller, 0, now, Duration::from_secs(60)), at, now);
    }
    got
}

#[test]
fn lane_time_is_shared_by_weight_within_a_twentieth() {
    for seed in 0..4 {
        let (one, three) = (caller("one", 1), caller("three", 3));
        // Whatever each one's requests cost.
        for (cheap, dear) in [(100, 100), (100, 2_000), (2_000, 100)] {
            let got = serve(&[(&one, cheap), (&three, dear)], 1_000_000, seed);
            let ratio = got["three"] as f64 / got["one"] as f64;
            assert!((2.85..=3.15).contains(&ratio), "{ratio} with seed {seed}, costs {cheap} and {dear}");
        }
    }
}

#[test]
fn who_asks_alone_gets_everything_and_owes_nothing() {
    let (one, other) = (caller("one", 1), caller("other", 1));
    let now = Instant::now();
    let mut queue = Queue::new(STEP);
    let ask = |queue: &mut Queue<u32, &'static str>, caller: &Caller, name| {
        queue.insert(0, place(caller, 0, now, Duration::from_secs(60)), name, now)
    };
    for _ in 0..1000 {
        let number = ask(&mut queue, &one, "alone");
        queue.remove(number);
        queue.shares().charge(&one, 1_000.0);
    }
    // Being idle meanwhile was no merit of the other's: they take turns from the first.
    let mut served = Vec::new();
    for _ in 0..6 {
        ask(&mut queue, &one, "one");
        ask(&mut queue, &other, "other");
    }
    for _ in 0..6 {
        let (_, number) = queue.pass(now).next(&queue).expect("both ask");
        let name = queue.remove(number).expect("it is queued");
        queue.shares().charge(if name == "one" { &one } else { &other }, 1_000.0);
        served.push(name);
    }
    assert_eq!(served.iter().filter(|name| **name == "one").count(), 3, "{served:?}");
}

#[test]
fn a_step_more_of_waiting_comes_before_a_share_until_both_are_in_the_best_class() {
    let (flood, light) = (caller("flood", 1), caller("light", 1));
    let (began, seconds) = (Instant::now(), Duration::from_secs);
    let mut queue = Queue::new(STEP);
    queue.insert(0, place(&flood, 0, began, seconds(60)), "flood", began);
    queue.shares().charge(&flood, 1_000_000.0);
    queue.insert(1, place(&light, 0, began + seconds(1), seconds(60)), "light", began + seconds(1));
    // The virtual time is the flood's own counter, so only what it is charged from now on tells them apart.
    queue.shares().charge(&flood, 1_000_000.0);
    for (now, first) in [(1, "flood"), (4, "flood"), (7, "flood"), (8, "light")] {
        let (_, number) = queue.pass(began + seconds(now)).next(&queue).expect("both wait");
        assert_eq!(queue.get(number), Some(&first), "after {now} s");
    }
}

/// A flood of better requests from everybody, and one that nobody prefers.
#[test]
fn nothing_waits_for_ever() {
    for seed in 0..20 {
        let mut random = StdRng::seed_from_u64(seed);
        let (flood, last) = (caller("flood", 9), caller("last", 1));
        let began = Instant::now();
        let mut queue = Queue::new(STEP);
        let waits = Duration::from_secs(600);
        let number = queue.insert(0, place(&last, PRIORITY_LAST, began, waits), "last", began);
        let mut now = began;
        while queue.get(number).is_some() {
            for _ in 0..2 {
                let place = place(&flood, random.random_range(1..=8), now, Duration::from_secs(60));
                queue.insert(random.random_range(0..3), place, "flood", now);
            }
            let (_, next) = queue.pass(now).next(&queue).expect("it is full");
            queue.remove(next);
            queue.shares().charge(&flood, 100_000.0);
            now += Duration::from_millis(100);
            assert!(now - began < Duration::from_secs(u64::from(PRIORITY_LAST)), "seed {seed}");
        }
    }
}

/// Whatever is asked, moved, served and taken out in any order, the queue's indices agree.
#[test]
fn every_request_leaves_once() {
    for seed in 0..50 {
        let mut random = StdRng::seed_from_u64(seed);
        let mut now = Instant::now();
        let mut queue = Queue::new(STEP);
        let (mut inside, mut came, mut left) = (Vec::new(), 0, 0);
        for _ in 0..500 {
            now += Duration::from_millis(random.random_range(0..800));
            match random.random_range(0..5) {
                0..3 => {
                    let caller = caller(["a", "b", "c"][random.random_range(0..3)], 1);
                    let place = Place {
                        again: random.random_bool(0.1),
                        ..place(
                            &caller,
                            random.random_range(0..40),
                            now,
                            Duration::from_secs(random.random_range(1..90)),
                        )
                    };
                    inside.push(queue.insert(random.random_range(0..4), place, (), now));
                    came += 1;
                }
                3 if !inside.is_empty() => {
                    let number = inside.swap_remove(random.random_range(0..inside.len()));
                    left += usize::from(queue.remove(number).is_some());
                }
                _ => {
                    left += std::iter::from_fn(|| queue.expired(now)).count();
                    let served = queue.pass(now).next(&queue);
                    left += usize::from(served.and_then(|(_, number)| queue.remove(number)).is_some());
                }
            }
            assert_eq!(queue.len(), came - left, "seed {seed}");
        }
        let mut pass = queue.pass(now);
        while let Some((lot, number)) = pass.next(&queue) {
            queue.remove(number).expect("what is first is there");
            left += 1;
            pass.again(lot, &queue);
        }
        assert_eq!((came, queue.len(), queue.lots.len()), (left, 0, 0), "seed {seed}");
        assert!(queue.rises.is_empty() && queue.deadlines.is_empty(), "seed {seed}");
    }
}

/// Callers that come once each, while one waits all the time and is never served.
#[test]
fn what_is_remembered_of_callers_is_bounded() {
    let now = Instant::now();
    let mut queue = Queue::new(STEP);
    queue.insert(0, place(&caller("stuck", 1), 0, now, STEP), (), now);
    for number in 0..10_000 {
        let passing = caller(&number.to_string(), 1);
        let number = queue.insert(1, place(&passing, 0, now, STEP), (), now);
        queue.remove(number);
        queue.shares().charge(&passing, 1_000.0);
        assert!(queue.shares().len() <= 4097, "{} accounts", queue.shares().len());
    }
}
