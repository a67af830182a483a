//! The plans' part of the store.

use duckdb::{Row, params};

use super::{
    Store, StoreError, all,
    rows::{Cells, json},
};
use crate::domain::{Plan, PlanId};

#[derive(Clone, Debug, PartialEq)]
pub struct StoredPlan {
    pub id: PlanId,
    pub plan: Plan,
    /// Microseconds since the Unix epoch.
    pub made_at_us: i64,
}

impl Store {
    /// Keeps a plan; one that is there already stays as it is.
    pub async fn put_plan(&self, stored: StoredPlan) -> Result<(), StoreError> {
        self.change("plan", move |connection| {
            let columns = params![stored.id.as_str(), json(&stored.plan), stored.made_at_us];
            connection.execute(include_str!("queries/put_plan.sql"), columns).map(drop)
        })
        .await
    }

    pub async fn remove_plan(&self, id: PlanId) -> Result<(), StoreError> {
        self.change("plan", move |connection| {
            connection.execute(include_str!("queries/remove_plan.sql"), [id.as_str()]).map(drop)
        })
        .await
    }

    /// In the order in which they were made.
    pub async fn plans(&self) -> Result<Vec<StoredPlan>, StoreError> {
        self.read("plans", |connection| all(connection, include_str!("queries/plans.sql"), None, read_plan))
            .await
    }
}

fn read_plan(row: &Row<'_>) -> duckdb::Result<StoredPlan> {
    let mut cells = Cells::new(row);
    let id = PlanId::new(cells.next::<String>()?);
    Ok(StoredPlan { id, plan: cells.json()?, made_at_us: cells.next()? })
}
