//! The part of the store that standing plans and their reviews have.

#[cfg(test)]
mod tests;

use duckdb::{Connection, Row, params};

use super::{
    Store, StoreError, all,
    rows::{Cells, json},
};
use crate::domain::{Digest, PlanId, Review};

/// Reviews of one model: at one in 256 answers, those of the latest 25,600.
const REVIEWS_KEPT: u32 = 100;

#[derive(Clone, Debug, PartialEq)]
pub struct StoredStanding {
    /// The whole model's file.
    pub model: Digest,
    pub plan: PlanId,
    /// How the model is to be split, as JSON.
    pub wanted: String,
    /// A plan that was measured to be better, once.
    pub better_once: Option<PlanId>,
    /// Microseconds since the Unix epoch.
    pub kept_at_us: i64,
}

impl Store {
    /// Has a plan stand for its model in place of the one that did, with the review that found it, if one did.
    pub async fn put_standing_plan(
        &self,
        standing: StoredStanding,
        review: Option<Review>,
    ) -> Result<(), StoreError> {
        self.change("standing plan", move |connection| {
            let StoredStanding { model, plan, wanted, better_once, kept_at_us } = &standing;
            let better_once = better_once.as_ref().map(PlanId::as_str);
            let columns = params![model.to_string(), plan.as_str(), wanted, better_once, kept_at_us];
            connection.execute(include_str!("queries/put_standing_plan.sql"), columns)?;
            review.map_or(Ok(()), |review| insert(connection, &review))
        })
        .await
    }

    /// Forgets what stands for a model, with its reviews.
    pub async fn remove_standing_plan(&self, model: Digest) -> Result<(), StoreError> {
        self.change("standing plan", move |connection| {
            let model = model.to_string();
            connection.execute(include_str!("queries/remove_reviews.sql"), [&model])?;
            connection.execute(include_str!("queries/remove_standing_plan.sql"), [&model]).map(drop)
        })
        .await
    }

    pub async fn standing_plans(&self) -> Result<Vec<StoredStanding>, StoreError> {
        let sql = include_str!("queries/standing_plans.sql");
        self.read("standing plans", move |connection| all(connection, sql, None, read_standing)).await
    }

    /// A model's reviews, the newest first.
    pub async fn reviews(&self, model: Digest) -> Result<Vec<Review>, StoreError> {
        let sql = include_str!("queries/reviews.sql");
        let read = |row: &Row<'_>| Cells::new(row).json();
        let model = model.to_string();
        self.read("reviews", move |connection| all(connection, sql, Some(&model), read)).await
    }
}

/// Keeps a review, and of its model no more than the newest.
fn insert(connection: &Connection, review: &Review) -> duckdb::Result<()> {
    let model = review.model.to_string();
    let columns = params![model, review.at_us, json(review)];
    connection.execute(include_str!("queries/put_review.sql"), columns)?;
    let newest = params![model, model, REVIEWS_KEPT];
    connection.execute(include_str!("queries/prune_reviews.sql"), newest).map(drop)
}

fn read_standing(row: &Row<'_>) -> duckdb::Result<StoredStanding> {
    let mut cells = Cells::new(row);
    Ok(StoredStanding {
        model: cells.parse()?,
        plan: PlanId::new(cells.next::<String>()?),
        wanted: cells.next()?,
        better_once: cells.next::<Option<String>>()?.map(PlanId::new),
        kept_at_us: cells.next()?,
    })
}
