//! What the pool shows of itself: every instance and lane with its state and the reason for it.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard},
};

use serde::{Deserialize, Serialize};
use serde_json::json;
use tokio::sync::watch;

use super::Target;
use crate::{
    backend::Backend,
    domain::{BackendKind, InstanceId, LaneId, LaneMemory, PageEnvironment},
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
    /// Given up; `reason` says why.
    Failed,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LaneState {
    Starting,
    Ready,
    /// The backend does not work here; `reason` says why.
    Absent,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct InstanceStatus {
    pub instance: InstanceId,
    pub browser: String,
    pub browser_version: Option<String>,
    pub state: InstanceState,
    pub reason: Option<String>,
    pub sandbox: Option<bool>,
    /// `hardware` or `software`: the flags that it was launched with.
    pub gpu: Option<String>,
    pub page: Option<PageEnvironment>,
    pub launches: u32,
    pub lanes: BTreeMap<LaneId, LaneStatus>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct LaneStatus {
    pub lane: LaneId,
    pub instance: InstanceId,
    pub browser: String,
    pub backend: BackendKind,
    pub state: LaneState,
    pub reason: Option<String>,
    pub capability: Option<Capability>,
    /// What it last said it holds; absent while it is not ready.
    #[serde(default)]
    pub memory: Option<LaneMemory>,
}

pub type PoolStatus = BTreeMap<InstanceId, InstanceStatus>;

#[derive(Clone)]
pub(super) struct StatusBoard {
    instances: Arc<Mutex<PoolStatus>>,
    settled: Arc<watch::Sender<bool>>,
    events: Events,
}

impl StatusBoard {
    pub(super) fn new(events: Events) -> Self {
        Self { instances: Arc::default(), settled: Arc::new(watch::Sender::new(true)), events }
    }

    pub(super) fn read(&self) -> PoolStatus {
        self.board().clone()
    }

    pub(super) async fn settled(&self) {
        // The sender lives as long as this handle.
        let _ = self.settled.subscribe().wait_for(|settled| *settled).await;
    }

    pub(super) fn starting(&self, target: &Target) {
        let lanes = target.backends.iter().map(|backend| {
            let lane = target.lane(backend);
            let status = LaneStatus {
                lane: lane.clone(),
                instance: target.id.clone(),
                browser: target.browser.clone(),
                backend: backend.clone(),
                state: LaneState::Starting,
                reason: None,
                capability: None,
                memory: None,
            };
            (lane, status)
        });
        let lanes = lanes.collect();
        let launches = self.board().get(&target.id).map_or(0, |status| status.launches);
        let status = InstanceStatus {
            instance: target.id.clone(),
            browser: target.browser.clone(),
            browser_version: None,
            state: InstanceState::Starting,
            reason: None,
            sandbox: None,
            gpu: None,
            page: None,
            launches,
            lanes,
        };
        self.board().insert(target.id.clone(), status);
        self.changed(&target.id);
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
            let open = status.lanes.values().any(|lane| lane.state == LaneState::Starting);
            if !open && status.state == InstanceState::Starting {
                status.state = InstanceState::Ready;
            }
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
        let settled = board.values().all(|status| status.state != InstanceState::Starting);
        self.events.publish(Topic::Pool, || json!(board.get(id)));
        drop(board);
        self.settled.send_replace(settled);
    }

    fn board(&self) -> MutexGuard<'_, PoolStatus> {
        self.instances.lock().expect("no holder of the status board panics")
    }
}
