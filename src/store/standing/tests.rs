//! Standing plans and their reviews in the store.

#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

use super::StoredStanding;
use crate::{
    domain::{Costs, Digest, PlanId, Review, ReviewVerdict},
    store::Store,
};

#[tokio::test]
async fn what_stands_for_a_model_is_kept_with_its_latest_reviews() {
    let store = Store::open_in_memory().unwrap();
    let standing = |byte: u8, plan: &str, better_once: Option<&str>| StoredStanding {
        model: Digest::new([byte; 32]),
        plan: PlanId::new(plan),
        wanted: "{}".into(),
        better_once: better_once.map(PlanId::new),
        kept_at_us: i64::from(byte),
    };
    let review = |byte: u8, at_us: i64| Review {
        model: Digest::new([byte; 32]),
        at_us,
        standing: PlanId::single(),
        candidate: (at_us % 2 == 0).then(|| PlanId::new("plan-1")),
        forecast_us: Costs { standing: Some(1.5), candidate: None },
        measured_us: Costs::default(),
        verdict: ReviewVerdict::BetterOnce,
        says: "it's better".into(),
    };
    store.put_standing_plan(standing(1, "single", None), None).await.unwrap();
    store.put_standing_plan(standing(2, "plan-2", None), Some(review(2, 0))).await.unwrap();
    for at_us in 0..102 {
        store.put_standing_plan(standing(1, "plan-1", Some("single")), Some(review(1, at_us))).await.unwrap();
    }
    let kept = [standing(1, "plan-1", Some("single")), standing(2, "plan-2", None)];
    assert_eq!(store.standing_plans().await.unwrap(), kept);
    let latest: Vec<_> = (2..102).rev().map(|at_us| review(1, at_us)).collect();
    assert_eq!(store.reviews(Digest::new([1; 32])).await.unwrap(), latest);
    store.remove_standing_plan(Digest::new([1; 32])).await.unwrap();
    assert_eq!(store.standing_plans().await.unwrap(), kept[1..]);
    assert_eq!(store.reviews(Digest::new([1; 32])).await.unwrap(), []);
    assert_eq!(store.reviews(Digest::new([2; 32])).await.unwrap(), [review(2, 0)]);
}
