//! What is kept of sequences, and that their turns go round whoever leaves.

use tokio::time::Instant;

use super::{BYTES_MAX, Flows, InSequence, REQUESTS_MAX};
use crate::{
    domain::{Code, Datatype, Digest, PlanId, Sequence, SequenceId, Tensor},
    scheduler::sequence::SequenceKey,
};

fn key(id: u64) -> SequenceKey {
    let (model, plan) = ("m".parse().expect("a name"), Some(PlanId::new("p")));
    let version = Digest::new([0; 32]);
    SequenceKey { caller: "me".into(), model, version, plan, id: SequenceId::Number(id) }
}

fn enter(flows: &Flows, id: u64, start: bool) -> InSequence {
    InSequence::enter(flows, key(id), Sequence { id: SequenceId::Number(id), start, end: false })
}

fn inputs(bytes: usize) -> Vec<Tensor> {
    let (name, shape) = ("x".to_owned(), vec![bytes as u64]);
    vec![Tensor { name, datatype: Datatype::Uint8, shape, body: vec![0; bytes].into() }]
}

/// Takes its turn, which must have come.
async fn turn(sequence: &mut InSequence) {
    sequence.turn().await.expect("it is its turn");
}

#[tokio::test]
async fn what_was_asked_is_kept_until_the_sequence_begins_anew_or_is_too_long() {
    let flows = Flows::default();
    let mut first = enter(&flows, 1, true);
    turn(&mut first).await;
    assert_eq!(first.before().map(|before| before.is_none()), Ok(true));
    first.answered(inputs(10));
    drop(first);
    for bytes in [20, 30] {
        let mut next = enter(&flows, 1, false);
        turn(&mut next).await;
        assert_eq!(next.before().map(|before| before.is_none()), Ok(true), "it just goes on");
        next.answered(inputs(bytes));
    }
    let mut torn = enter(&flows, 1, false);
    turn(&mut torn).await;
    torn.tear();
    drop(torn);
    let mut after = enter(&flows, 1, false);
    turn(&mut after).await;
    let before = after.before().expect("all is kept").expect("it cannot just go on");
    let bytes: Vec<_> = before.iter().map(|inputs| inputs[0].body.len()).collect();
    assert_eq!(bytes, [10, 20, 30]);
    for _ in 0..REQUESTS_MAX {
        after.answered(inputs(1));
    }
    let lost = after.all().expect_err("it is too long by now");
    assert_eq!(lost.code, Code::LaneLost);
    drop(after);
    let mut anew = enter(&flows, 1, true);
    turn(&mut anew).await;
    assert_eq!((anew.before().map(|before| before.is_none()), anew.all()), (Ok(true), Ok(Vec::new())));
    // All sequences together keep so much.
    anew.answered(inputs(BYTES_MAX / 2));
    let mut other = enter(&flows, 2, true);
    turn(&mut other).await;
    other.before().expect("it begins");
    other.answered(inputs(BYTES_MAX / 2 + 1));
    assert_eq!((anew.all().is_ok(), other.all().is_ok()), (true, false));
    assert_eq!(flows.sequenced().bytes, BYTES_MAX / 2);
}

#[tokio::test]
async fn a_turn_goes_on_past_those_who_left() {
    let flows = Flows::default();
    let mut first = enter(&flows, 1, true);
    turn(&mut first).await;
    let left = enter(&flows, 1, false);
    let gone = enter(&flows, 1, false);
    let mut last = enter(&flows, 1, false);
    drop(left);
    drop(first);
    // It has become this one's turn, which it does not take.
    drop(gone);
    turn(&mut last).await;
    drop(last);
    let failure = enter(&flows, 9, false).turn().await.expect_err("it never began");
    assert_eq!(failure.code, Code::InvalidRequest);
    // Idle ones are forgotten with what they were asked.
    let mut sequenced = flows.sequenced();
    let later = Instant::now() + std::time::Duration::from_secs(3600);
    drop(sequenced.enter(&key(2), &Sequence { id: SequenceId::Number(2), start: true, end: false }, later));
    assert!(!sequenced.turns.lives(&key(1)) && sequenced.asked.is_empty());
}
