//! The plans' part of the store.

use duckdb::{Row, params};

use super::{
    Store, StoreError, all,
    rows::{Cells, json},
};
use crate::domain::{Digest, LaneId, Plan, PlanId, Recovery, StagedAnswer};

/// Recoveries of one plan: a lane that comes and goes makes one each time.
const RECOVERIES_KEPT: u32 = 100;

#[derive(Clone, Debug, PartialEq)]
pub struct StoredPlan {
    pub id: PlanId,
    pub plan: Plan,
    /// Microseconds since the Unix epoch.
    pub made_at_us: i64,
    /// How far its answers were from the whole model's, relative to the largest value; absent in rows of earlier versions.
    pub error: Option<f64>,
    /// Whether it was made to stand for its model, and goes when it stands no more.
    pub own: bool,
}

impl Store {
    /// Keeps a plan; one that is there already stays as it is.
    pub async fn put_plan(&self, stored: StoredPlan) -> Result<(), StoreError> {
        self.change("plan", move |connection| {
            let StoredPlan { id, plan, made_at_us, error, own } = &stored;
            let columns = params![id.as_str(), json(plan), made_at_us, error, own];
            connection.execute(include_str!("queries/put_plan.sql"), columns).map(drop)
        })
        .await
    }

    /// Has a plan stay whatever stands for its model.
    pub async fn adopt_plan(&self, id: PlanId) -> Result<(), StoreError> {
        self.change("plan", move |connection| {
            connection.execute(include_str!("queries/adopt_plan.sql"), [id.as_str()]).map(drop)
        })
        .await
    }

    pub async fn remove_plan(&self, id: PlanId) -> Result<(), StoreError> {
        self.change("plan", move |connection| {
            connection.execute(include_str!("queries/remove_recoveries.sql"), [id.as_str()])?;
            connection.execute(include_str!("queries/remove_plan.sql"), [id.as_str()]).map(drop)
        })
        .await
    }

    /// Keeps where a stage went, and of its plan no more than the newest.
    pub async fn put_recovery(&self, recovery: Recovery) -> Result<(), StoreError> {
        self.change("recovery", move |connection| {
            let Recovery { plan, stage, at_us, lane, fallback, took_us } = &recovery;
            let fallback = fallback.as_ref().map(json);
            let columns = params![plan.as_str(), *stage as u64, at_us, lane.as_str(), fallback, took_us];
            connection.execute(include_str!("queries/put_recovery.sql"), columns)?;
            let newest = params![plan.as_str(), plan.as_str(), RECOVERIES_KEPT];
            connection.execute(include_str!("queries/prune_recoveries.sql"), newest).map(drop)
        })
        .await
    }

    /// Where a plan's stages went, the newest first.
    pub async fn recoveries(&self, plan: PlanId) -> Result<Vec<Recovery>, StoreError> {
        let sql = include_str!("queries/recoveries.sql");
        self.read("recoveries", move |connection| all(connection, sql, Some(plan.as_str()), read_recovery))
            .await
    }

    /// A model's latest answers under each plan, the newest first and the last one included.
    pub async fn staged_answers(&self, whole: Digest) -> Result<Vec<StagedAnswer>, StoreError> {
        // What could not be written is told by the writer, and missing here.
        let _ = self.flush().await;
        let sql = include_str!("queries/staged_answers.sql");
        let whole = whole.to_string();
        self.read("staged answers", move |connection| all(connection, sql, Some(&whole), read_answer)).await
    }

    /// In the order in which they were made.
    pub async fn plans(&self) -> Result<Vec<StoredPlan>, StoreError> {
        self.read("plans", |connection| all(connection, include_str!("queries/plans.sql"), None, read_plan))
            .await
    }
}

fn read_plan(row: &Row<'_>) -> duckdb::Result<StoredPlan> {
    let mut cells = Cells::new(row);
    Ok(StoredPlan {
        id: PlanId::new(cells.next::<String>()?),
        plan: cells.json()?,
        made_at_us: cells.next()?,
        error: cells.next()?,
        own: cells.next()?,
    })
}

fn read_answer(row: &Row<'_>) -> duckdb::Result<StagedAnswer> {
    let mut cells = Cells::new(row);
    Ok(StagedAnswer {
        plan: PlanId::new(cells.next::<String>()?),
        accepted_at_us: cells.next()?,
        total_us: cells.next()?,
        stages: cells.json()?,
    })
}

fn read_recovery(row: &Row<'_>) -> duckdb::Result<Recovery> {
    let mut cells = Cells::new(row);
    Ok(Recovery {
        plan: PlanId::new(cells.next::<String>()?),
        stage: cells.next::<u64>()? as usize,
        at_us: cells.next()?,
        lane: LaneId::new(cells.next::<String>()?),
        fallback: cells.optional_json()?,
        took_us: cells.next()?,
    })
}
