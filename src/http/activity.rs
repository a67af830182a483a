//! What changes all the time: what waits and runs, what lanes hold, and what became of the last minute's requests.
//!
//! Told once a second to all who follow it together, and not even looked up while nobody does.

use std::{sync::Arc, time::Duration};

use axum::{Json, extract::State};
use serde::Serialize;
use serde_json::json;
use tokio::{
    sync::watch,
    time::{self, MissedTickBehavior},
};
use utoipa::ToSchema;

use super::Api;
use crate::{
    domain::{InstanceId, LaneId, LaneMemory},
    protocol::client::Topic,
    tasks,
    telemetry::LastMinute,
};

/// Often enough to watch, and next to nothing to compute.
const EVERY: Duration = Duration::from_secs(1);

/// What goes on at the moment
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Activity {
    /// Microseconds since the Unix epoch.
    at_us: i64,
    /// Requests that are accepted and not answered, and those of them that no lane has taken yet.
    pending: usize,
    queued: usize,
    /// Rows that could not be written since the daemon started.
    lost_runs: u64,
    last_minute: LastMinute,
    instances: Vec<InstanceActivity>,
    /// Those that serve.
    lanes: Vec<LaneActivity>,
}

#[derive(Debug, Serialize, ToSchema)]
struct InstanceActivity {
    instance: InstanceId,
    executed: u64,
    memory_bytes: Option<u64>,
}

#[derive(Debug, Serialize, ToSchema)]
struct LaneActivity {
    lane: LaneId,
    /// `ready`, `loading` or `executing`.
    state: &'static str,
    running: usize,
    /// The models that it holds, by the names of their sessions, or is loading.
    sessions: Vec<SessionActivity>,
    /// Null where it does not say, as natively.
    memory: Option<LaneMemory>,
}

#[derive(Debug, Serialize, ToSchema)]
struct SessionActivity {
    session: String,
    state: &'static str,
}

impl Activity {
    async fn of(api: &Api) -> Self {
        let status = api.pool.status();
        let memory = |lane: &LaneId| status.values().find_map(|instance| instance.lanes.get(lane)?.memory);
        let lanes = api.scheduler.lanes().await.into_iter().map(|load| {
            let (state, memory) = (load.state(), memory(&load.lane));
            let sessions = load.sessions.into_iter();
            let sessions = sessions.map(|held| SessionActivity { session: held.session, state: held.state });
            LaneActivity {
                lane: load.lane,
                state,
                running: load.running,
                sessions: sessions.collect(),
                memory,
            }
        });
        let lanes = lanes.collect();
        let instances = status.values().map(|instance| InstanceActivity {
            instance: instance.instance.clone(),
            executed: instance.executed,
            memory_bytes: instance.memory_bytes,
        });
        Self {
            at_us: tasks::now_us(),
            pending: api.scheduler.pending(),
            queued: api.scheduler.backlog(),
            lost_runs: api.store.lost_runs(),
            last_minute: api.metrics.last_minute(),
            instances: instances.collect(),
            lanes,
        }
    }
}

/// Counts who follows.
#[derive(Clone, Default)]
pub(super) struct Followers(Arc<watch::Sender<usize>>);

pub(super) struct Following(Followers);

impl Followers {
    pub(super) fn follow(&self) -> Following {
        self.0.send_modify(|followers| *followers += 1);
        Following(self.clone())
    }
}

impl Drop for Following {
    fn drop(&mut self) {
        self.0.0.send_modify(|followers| *followers -= 1);
    }
}

/// Tells those who follow, until the daemon stops.
pub(super) async fn tell(api: Arc<Api>) {
    let stopping = api.tasks.stopping();
    let mut followers = api.watched.followers.0.subscribe();
    let mut ticks = time::interval(EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let telling = async {
        while followers.wait_for(|followers| *followers > 0).await.is_ok() {
            ticks.tick().await;
            let activity = Activity::of(&api).await;
            api.events.publish(Topic::Activity, || json!(activity));
        }
    };
    tokio::select! {
        () = stopping.cancelled() => {}
        () = telling => {}
    }
}

/// What goes on at the moment
#[utoipa::path(get, path = "/api/v1/activity", tag = "observation", responses((status = 200, body = Activity)))]
pub(super) async fn show(State(api): State<Arc<Api>>) -> Json<Activity> {
    Json(Activity::of(&api).await)
}
