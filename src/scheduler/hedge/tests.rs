//! The decision and the budget, as tables.

use std::time::Duration;

use super::{Budget, SAVED_MAX, Started, after};
use crate::{
    domain::{BackendKind, LeaseId, Policy},
    scheduler::Wants,
};

#[test]
fn a_request_that_its_lane_alone_may_answer_is_never_hedged() {
    let any = Wants::default;
    let plain = |wants| Started { requests: 1, attempt: 1, sequence: false, wants, steps: 1, p95: Some(5e3) };
    let pinned = Wants { policy: Policy::Pin, backends: vec![BackendKind::Wasm], ..any() };
    let leased = Wants { lease: Some(LeaseId::new("a-lease")), ..any() };
    let named = Wants { backends: vec![BackendKind::Wasm], browsers: vec!["a".to_owned()], ..any() };
    let any = any();
    let cases = [
        ("whatever serves", plain(&any), Some(5)),
        ("one of several lanes", plain(&named), Some(5)),
        ("behind another step", Started { steps: 2, ..plain(&any) }, Some(10)),
        ("nothing known yet", Started { p95: None, ..plain(&any) }, None),
        ("a shared step", Started { requests: 2, ..plain(&any) }, None),
        ("a retry", Started { attempt: 2, ..plain(&any) }, None),
        ("a sequence", Started { sequence: true, ..plain(&any) }, None),
        ("pinned", plain(&pinned), None),
        ("leased", plain(&leased), None),
    ];
    for (what, started, millis) in cases {
        assert_eq!(after(&started), millis.map(Duration::from_millis), "{what}");
    }
}

#[test]
fn hedges_are_a_share_of_the_requests_that_were() {
    // A hedge is wanted for every request: how many of so many get one.
    let cases = [(0, 1_000, 0), (1, 99, 0), (1, 100, 1), (5, 19, 0), (5, 20, 1), (5, 1_000, 50), (100, 7, 7)];
    for (percent, requests, hedges) in cases {
        let mut budget = Budget::default();
        let spent = (0..requests).filter(|_| {
            budget.earn(1, percent);
            budget.spend()
        });
        assert_eq!(spent.count(), hedges, "{percent} % of {requests}");
    }
    // What quiet times leave is bounded, whatever was earned.
    let mut budget = Budget::default();
    budget.earn(usize::MAX, 100);
    budget.earn(1_000, u32::MAX);
    assert_eq!((0..1_000).filter(|_| budget.spend()).count(), SAVED_MAX as usize);
}
