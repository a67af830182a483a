//! Sequences, as scripts: what becomes of each request when.

use std::time::Duration;

use tokio::time::Instant;

use super::{IDLE, LIVE_MAX, SequenceKey, Sequences, Turn};
use crate::domain::{Code, Digest, LaneId, Sequence, SequenceId};

fn key(id: u64) -> SequenceKey {
    let (model, version) = ("m".parse().expect("a name"), Digest::new([0; 32]));
    SequenceKey { caller: "me".into(), model, version, plan: None, id: SequenceId::Number(id) }
}

/// `s` starts a sequence, `e` ends it, `-` goes on.
fn sequence(flag: char) -> Sequence {
    Sequence { id: SequenceId::Number(1), start: flag == 's', end: flag == 'e' }
}

fn told(turn: Turn<&'static str>) -> String {
    match turn {
        Turn::Goes(request) => format!("{request} goes"),
        Turn::Waits => "waits".to_owned(),
        Turn::Refused(request, failure) => format!("{request} refused {}", failure.code),
    }
}

enum Act {
    /// A request with its flag comes.
    Comes(&'static str, char),
    /// The one under way ends: whether it is the last, and the lane that answered it.
    Done(bool, Option<&'static str>),
    Loses(&'static str),
    /// The time moves on by so many idle times, and idle ones are swept.
    Idles(u32),
}

#[test]
#[allow(clippy::too_many_lines, reason = "a table")]
fn a_sequence_goes_on_in_order_and_in_its_lane() {
    use Act::{Comes, Done, Idles, Loses};
    let cases: Vec<(&str, Vec<(Act, &str)>, Option<&str>)> = vec![
        (
            "one after the other, in the lane that answered first",
            vec![
                (Comes("a", 's'), "a goes"),
                (Comes("b", '-'), "waits"),
                (Comes("c", '-'), "waits"),
                (Done(false, Some("l1")), "b goes"),
                (Done(false, Some("l2")), "c goes"),
                (Done(false, Some("l2")), ""),
                (Comes("d", '-'), "d goes"),
            ],
            Some("l1"),
        ),
        ("nothing goes on that was not begun", vec![(Comes("a", '-'), "a refused invalid_request")], None),
        (
            "nothing goes on that has ended",
            vec![
                (Comes("a", 's'), "a goes"),
                (Done(true, Some("l1")), ""),
                (Comes("b", '-'), "b refused invalid_request"),
                (Comes("c", 's'), "c goes"),
            ],
            None,
        ),
        (
            "what waits behind the end is refused, up to a new beginning",
            vec![
                (Comes("a", 's'), "a goes"),
                (Comes("b", '-'), "waits"),
                (Comes("c", 's'), "waits"),
                (Comes("d", '-'), "waits"),
                (Done(true, Some("l1")), "b refused invalid_request, c goes"),
                (Done(false, Some("l2")), "d goes"),
            ],
            Some("l2"),
        ),
        (
            "until one was answered no lane holds anything",
            vec![
                (Comes("a", 's'), "a goes"),
                (Loses("l1"), ""),
                (Done(false, None), ""),
                (Comes("b", '-'), "b goes"),
            ],
            None,
        ),
        (
            "with its lane it is lost until it is begun anew",
            vec![
                (Comes("a", 's'), "a goes"),
                (Done(false, Some("l1")), ""),
                (Loses("l2"), ""),
                (Comes("b", '-'), "b goes"),
                (Comes("c", '-'), "waits"),
                (Loses("l1"), ""),
                (Done(false, None), "c refused lane_lost"),
                (Comes("d", '-'), "d refused lane_lost"),
                (Comes("e", 's'), "e goes"),
                (Done(false, Some("l2")), ""),
                (Comes("f", '-'), "f goes"),
            ],
            Some("l2"),
        ),
        (
            "idle ones are forgotten, busy ones are not",
            vec![
                (Comes("a", 's'), "a goes"),
                (Idles(2), ""),
                (Done(false, Some("l1")), ""),
                (Idles(1), ""),
                (Comes("b", '-'), "b refused invalid_request"),
            ],
            None,
        ),
    ];
    for (what, script, tied) in cases {
        let (mut sequences, mut now) = (Sequences::default(), Instant::now());
        for (at, (act, wanted)) in script.into_iter().enumerate() {
            let said = match act {
                Comes(request, flag) => vec![sequences.enter(&key(1), &sequence(flag), request, now)],
                Done(end, lane) => {
                    if let Some(lane) = lane {
                        sequences.answered(&key(1), &LaneId::new(lane), true);
                    }
                    sequences.done(&key(1), end, now)
                }
                Loses(lane) => {
                    sequences.lose(&LaneId::new(lane));
                    Vec::new()
                }
                Idles(times) => {
                    now += IDLE * times;
                    sequences.sweep(now);
                    Vec::new()
                }
            };
            assert_eq!(
                said.into_iter().map(told).collect::<Vec<_>>().join(", "),
                wanted,
                "{what}, step {at}"
            );
        }
        assert_eq!(sequences.tied(&key(1)), tied.map(LaneId::new).as_ref(), "{what}");
    }
}

#[test]
fn sequences_are_bounded_and_say_when_something_is_due() {
    let (mut sequences, now) = (Sequences::default(), Instant::now());
    let deadline = |request: &u64| now + Duration::from_millis(*request);
    assert_eq!(sequences.next_due(deadline), None);
    for id in 0..LIVE_MAX as u64 {
        assert_eq!(sequences.enter(&key(id), &sequence('s'), id, now), Turn::Goes(id));
    }
    let refused = sequences.enter(&key(9999), &sequence('s'), 0, now);
    assert!(matches!(&refused, Turn::Refused(_, failure) if failure.code == Code::Overloaded), "{refused:?}");
    assert_eq!(sequences.next_due(deadline), None, "nothing waits, and what is under way is not idle");
    sequences.done(&key(7), false, now);
    assert_eq!(sequences.next_due(deadline), Some(now + IDLE));
    for late in [30, 20] {
        assert_eq!(sequences.enter(&key(3), &sequence('-'), late, now), Turn::Waits);
    }
    assert_eq!(sequences.next_due(deadline), Some(now + Duration::from_millis(20)));
    assert_eq!(sequences.remove_where(|late| *late == 20), [20]);
    assert_eq!(sequences.next_due(deadline), Some(now + Duration::from_millis(30)));
    assert_eq!(sequences.done(&key(3), false, now), [Turn::Goes(30)]);
    sequences.sweep(now + IDLE);
    assert_eq!(
        sequences.enter(&key(9999), &sequence('s'), 0, now),
        Turn::Goes(0),
        "the idle one has made room"
    );
}
