//! What the pool shows of itself: every instance and lane with its state and the reason for it.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard},
};

use serde::{Deserialize, Serialize};
use serde_json::json;
use tokio::sync::watch;
use utoipa::{
    ToSchema,
    openapi::schema::{Object, ObjectBuilder, Type},
};

use super::{Fleet, lanes};
use crate::{
    backend::Backend,
    domain::{BackendKind, InstanceId, LaneId, LaneMemory, LeaseId, PageEnvironment},
    driver::{Instance, recipe::GpuMode},
    events::Events,
    protocol::{client::Topic, link::Capability},
    tasks::Tasks,
};

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum InstanceState {
    Starting,
    /// Its page has reported, and each lane is up or known to be impossible.
    Ready,
    /// It serves, but a lane is being started anew, or its page is silent; `reason` says which.
    Degraded,
    /// It was lost or its page was stuck, and it is on its way back.
    Recovering,
    /// It takes no new steps, and is launched anew or let go once its lanes are free.
    Draining,
    /// Given up; `reason` says why.
    Failed,
}

impl InstanceState {
    /// Whether what can be known of it now is known.
    fn settled(self) -> bool {
        matches!(self, Self::Ready | Self::Degraded | Self::Failed)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LaneState {
    Starting,
    Ready,
    /// It was lost, and its Worker is being started anew.
    Recovering,
    /// The backend does not work here; `reason` says why.
    Absent,
}

#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct InstanceStatus {
    pub instance: InstanceId,
    pub browser: String,
    pub browser_version: Option<String>,
    #[schema(schema_with = instance_state)]
    pub state: InstanceState,
    pub reason: Option<String>,
    pub sandbox: Option<bool>,
    /// `hardware` or `software`: the flags that it was launched with.
    pub gpu: Option<String>,
    pub page: Option<PageEnvironment>,
    pub launches: u32,
    /// Steps that its lanes have answered since they started.
    pub executed: u64,
    /// What its processes hold, as the kernel shares it out among them; null where the browser is not ours.
    pub memory_bytes: Option<u64>,
    /// Who has it to itself.
    pub lease: Option<LeaseId>,
    /// The browser's first process.
    pub process: Option<i32>,
    /// Why its page is not trusted at the moment.
    #[serde(skip)]
    suspect: Option<String>,
    pub lanes: BTreeMap<LaneId, LaneStatus>,
}

#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct LaneStatus {
    pub lane: LaneId,
    pub instance: InstanceId,
    pub browser: String,
    pub backend: BackendKind,
    #[schema(schema_with = lane_state)]
    pub state: LaneState,
    pub reason: Option<String>,
    pub capability: Option<Capability>,
    /// What it last said it holds; absent while it is not ready.
    #[serde(default)]
    pub memory: Option<LaneMemory>,
}

/// As the API shows it: one that is ready and computes is `busy`.
fn instance_state() -> Object {
    let states = ["starting", "ready", "busy", "degraded", "recovering", "draining", "failed"];
    ObjectBuilder::new().schema_type(Type::String).enum_values(Some(states)).build()
}

/// As the API shows it: one that is ready may be `loading` a model or `executing` a step.
fn lane_state() -> Object {
    let states = ["starting", "ready", "loading", "executing", "recovering", "absent"];
    ObjectBuilder::new().schema_type(Type::String).enum_values(Some(states)).build()
}

impl InstanceStatus {
    /// Follows from the lanes and the signs of life, once all lanes have been tried.
    fn settle(&mut self) {
        let open = self.lanes.values().any(|lane| lane.state == LaneState::Starting);
        if open
            || self.page.is_none()
            || matches!(self.state, InstanceState::Draining | InstanceState::Failed)
        {
            return;
        }
        let lane = self.lanes.values().find(|lane| lane.state == LaneState::Recovering);
        self.reason = self.suspect.clone().or(lane.and_then(|lane| lane.reason.clone()));
        self.state = if self.reason.is_some() { InstanceState::Degraded } else { InstanceState::Ready };
    }
}

/// A recipe's launches since the daemon's start, also those of instances that are gone.
#[derive(Clone, Copy, Debug, Default)]
pub struct Launches {
    pub launches: u64,
    /// Those that were the first of their instance.
    pub first: u64,
}

pub type PoolStatus = BTreeMap<InstanceId, InstanceStatus>;

#[derive(Clone)]
pub(super) struct StatusBoard {
    instances: Arc<Mutex<PoolStatus>>,
    settled: Arc<watch::Sender<bool>>,
    launches: Arc<Mutex<BTreeMap<String, Launches>>>,
    events: Events,
}

impl StatusBoard {
    pub(super) fn new(events: Events) -> Self {
        let settled = Arc::new(watch::Sender::new(true));
        Self { instances: Arc::default(), settled, launches: Arc::default(), events }
    }

    pub(super) fn read(&self) -> PoolStatus {
        self.board().clone()
    }

    pub(super) async fn settled(&self) {
        // The sender lives as long as this handle.
        let _ = self.settled.subscribe().wait_for(|settled| *settled).await;
    }

    pub(super) fn starting(&self, fleet: &Fleet, id: &InstanceId, reason: Option<String>) {
        let lanes = fleet.backends.iter().map(|backend| {
            let lane = lanes::id(id, backend);
            let status = LaneStatus {
                lane: lane.clone(),
                instance: id.clone(),
                browser: fleet.browser.clone(),
                backend: backend.clone(),
                state: LaneState::Starting,
                reason: None,
                capability: None,
                memory: None,
            };
            (lane, status)
        });
        let lanes = lanes.collect();
        let before = self.board().get(id).cloned();
        let launches = before.as_ref().map_or(0, |status| status.launches);
        let state = if launches == 0 { InstanceState::Starting } else { InstanceState::Recovering };
        let status = InstanceStatus {
            instance: id.clone(),
            browser: fleet.browser.clone(),
            browser_version: None,
            state,
            reason,
            sandbox: None,
            gpu: None,
            page: None,
            launches,
            executed: 0,
            memory_bytes: None,
            lease: None,
            process: None,
            suspect: None,
            lanes,
        };
        self.board().insert(id.clone(), status);
        self.changed(id);
    }

    /// Counts one more launch of this instance.
    pub(super) fn launching(&self, id: &InstanceId) {
        if let Some(status) = self.board().get_mut(id) {
            status.launches += 1;
            let mut launches = self.launches.lock().expect("no holder of the launches panics");
            let launches = launches.entry(status.browser.clone()).or_default();
            launches.launches += 1;
            launches.first += u64::from(status.launches == 1);
        }
    }

    pub(super) fn launches(&self) -> BTreeMap<String, Launches> {
        self.launches.lock().expect("no holder of the launches panics").clone()
    }

    /// A browser is there; its page is yet to report.
    pub(super) fn launched(&self, id: &InstanceId, instance: &dyn Instance, gpu: GpuMode) {
        self.instance(id, |status| {
            status.browser_version = Some(instance.version().to_owned());
            status.sandbox = instance.sandbox();
            status.process = instance.process();
            status.gpu = Some(gpu.to_string());
        });
    }

    pub(super) fn failed(&self, id: &InstanceId, reason: &str) {
        self.instance(id, |status| {
            status.state = InstanceState::Failed;
            status.reason = Some(reason.to_owned());
            for lane in status.lanes.values_mut().filter(|lane| lane.state != LaneState::Absent) {
                lane.state = LaneState::Absent;
                lane.reason = Some(reason.to_owned());
            }
        });
    }

    /// Why a page is not trusted at the moment; `None` once it has given a sign of life.
    pub(super) fn suspect(&self, id: &InstanceId, reason: Option<String>) {
        self.instance(id, |status| {
            status.suspect = reason;
            status.settle();
        });
    }

    /// Says why nothing happens, unless that has been said.
    pub(super) fn reason(&self, id: &InstanceId, reason: &str) {
        if self.board().get(id).is_some_and(|status| status.reason.as_deref() != Some(reason)) {
            self.instance(id, |status| status.reason = Some(reason.to_owned()));
        }
    }

    /// Figures that change all the time are told with the next change of state.
    pub(super) fn figures(&self, id: &InstanceId, change: impl FnOnce(&mut InstanceStatus)) {
        if let Some(status) = self.board().get_mut(id) {
            change(status);
        }
    }

    pub(super) fn process(&self, id: &InstanceId) -> Option<i32> {
        self.board().get(id)?.process
    }

    /// The lanes of this instance that serve.
    pub(super) fn lanes(&self, id: &InstanceId) -> Vec<LaneId> {
        let board = self.board();
        let lanes = board.get(id).into_iter().flat_map(|status| status.lanes.values());
        lanes.filter(|lane| lane.state == LaneState::Ready).map(|lane| lane.lane.clone()).collect()
    }

    pub(super) fn knows(&self, id: &InstanceId) -> bool {
        self.board().contains_key(id)
    }

    pub(super) fn remove(&self, id: &InstanceId) {
        self.board().remove(id);
        self.changed(id);
    }

    pub(super) fn instance(&self, id: &InstanceId, change: impl FnOnce(&mut InstanceStatus)) {
        if let Some(status) = self.board().get_mut(id) {
            change(status);
        }
        self.changed(id);
    }

    pub(super) fn lane(&self, id: &InstanceId, lane: &LaneId, change: impl FnOnce(&mut LaneStatus)) {
        if let Some(status) = self.board().get_mut(id) {
            if let Some(lane) = status.lanes.get_mut(lane) {
                change(lane);
                if lane.state != LaneState::Ready {
                    lane.memory = None;
                }
            }
            status.settle();
        }
        self.changed(id);
    }

    /// Shows what a lane that is ready says it holds, until the lane is gone.
    pub(super) fn follow(&self, id: &InstanceId, lane: &Arc<dyn Backend>, tasks: &Tasks) {
        let Some(mut told) = lane.memory() else { return };
        let (board, id, name) = (self.clone(), id.clone(), lane.environment().lane.clone());
        let lost = lane.lost();
        tasks.spawn("lane memory", async move {
            let show = async {
                loop {
                    let memory = *told.borrow_and_update();
                    board.lane(&id, &name, |status| status.memory = Some(memory));
                    if told.changed().await.is_err() {
                        return;
                    }
                }
            };
            tokio::select! {
                _ = lost => {}
                () = show => {}
            }
        });
    }

    fn changed(&self, id: &InstanceId) {
        let board = self.board();
        let settled = board.values().all(|status| status.state.settled());
        self.events.publish(Topic::Pool, || match board.get(id) {
            Some(status) => json!(status),
            None => json!({"instance": id, "state": "gone"}),
        });
        drop(board);
        self.settled.send_replace(settled);
    }

    fn board(&self) -> MutexGuard<'_, PoolStatus> {
        self.instances.lock().expect("no holder of the status board panics")
    }
}
