//! Benchmark suites that are being measured, as those who measure them tell: known while their connections live.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard},
};

use axum::{Json, extract::State};
use serde::Serialize;
use serde_json::json;
use utoipa::ToSchema;

use super::{Api, resources::List};
use crate::{
    domain::{Code, Failure, LeaseId, Retry},
    events::Events,
    pool::Pool,
    protocol::client::{SuiteProgress, Topic},
    tasks::{self, Tasks},
};

/// A machine measures one at a time, or measures nothing well.
const SUITES_MAX: usize = 16;

/// A suite that is being measured
#[derive(Clone, Debug, Serialize, ToSchema)]
pub(super) struct Suite {
    #[serde(flatten)]
    progress: SuiteProgress,
    /// Whose connection tells it.
    #[schema(value_type = String)]
    caller: Arc<str>,
    /// Microseconds since the Unix epoch: when it was first told, and when last.
    began_at_us: i64,
    told_at_us: i64,
}

/// Clones share the list.
#[derive(Clone, Default)]
pub(super) struct Suites(Arc<Mutex<BTreeMap<String, Suite>>>);

/// What one connection tells; dropping it ends the suite.
pub(super) struct Telling {
    id: String,
    /// Given back then: whoever was killed cannot.
    leases: Vec<String>,
    suites: Suites,
    events: Events,
    pool: Pool,
    tasks: Tasks,
}

impl Suites {
    /// Takes note of how far a suite has come, in place of what this connection told before.
    pub(super) fn tell(
        &self,
        api: &Api,
        caller: &Arc<str>,
        telling: &mut Option<Telling>,
        progress: SuiteProgress,
    ) -> Result<(), Failure> {
        if telling.as_ref().is_some_and(|telling| telling.id != progress.id) {
            *telling = None;
        }
        let mut list = self.list();
        let now = tasks::now_us();
        let began_at_us = match list.get(&progress.id) {
            Some(suite) if telling.is_some() => suite.began_at_us,
            Some(_) => {
                return Err(Failure::invalid(format!("another connection tells of {:?}", progress.id)));
            }
            None if list.len() == SUITES_MAX => {
                let message = format!("{SUITES_MAX} suites are being measured, which is the limit");
                return Err(Failure::new(Code::Overloaded, Retry::Same, message));
            }
            None => now,
        };
        let (id, leases) = (progress.id.clone(), progress.leases.clone());
        let suite = Suite { progress, caller: caller.clone(), began_at_us, told_at_us: now };
        api.events.publish(Topic::Suites, || json!({"progress": &suite}));
        list.insert(id.clone(), suite);
        drop(list);
        let begun = || {
            let Api { events, pool, tasks, .. } = api;
            let (events, pool, tasks) = (events.clone(), pool.clone(), tasks.clone());
            Telling { id, leases: Vec::new(), suites: self.clone(), events, pool, tasks }
        };
        telling.get_or_insert_with(begun).leases = leases;
        Ok(())
    }

    fn list(&self) -> MutexGuard<'_, BTreeMap<String, Suite>> {
        self.0.lock().expect("no holder of the suites panics")
    }
}

impl Drop for Telling {
    fn drop(&mut self) {
        self.suites.list().remove(&self.id);
        self.events.publish(Topic::Suites, || json!({"ended": {"id": &self.id}}));
        if self.leases.is_empty() {
            return;
        }
        let (leases, pool) = (std::mem::take(&mut self.leases), self.pool.clone());
        self.tasks.spawn("a suite's leases", async move {
            for lease in leases {
                // Most were given back already.
                pool.release(&LeaseId::new(lease)).await;
            }
        });
    }
}

/// Benchmark suites that are being measured
///
/// As far as those who measure them tell; one whose connection is gone is gone.
#[utoipa::path(get, path = "/api/v1/suites", tag = "runs", responses((status = 200, body = List<Suite>)))]
pub(super) async fn list(State(api): State<Arc<Api>>) -> Json<List<Suite>> {
    let suites = api.watched.suites.list().values().cloned().collect();
    List::whole(suites)
}
