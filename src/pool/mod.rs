//! Keeps browsers at target and turns their pages' Workers into lanes.
//!
//! - One task per wanted instance launches, watches and relaunches it ([`instance`]).
//! - Lanes that come and go are told to whoever holds the other end of the channel: the scheduler.
//!
//! The pool never sees a request.

mod gpu;
mod instance;
mod lanes;
mod status;

use std::{path::Path, sync::Arc};

use tokio::sync::mpsc;

use crate::{
    backend::Backend,
    bridge::Bridge,
    domain::{BackendKind, InstanceId, LaneId},
    driver::{Driver, recipe::GpuMode},
    events::Events,
    tasks::Tasks,
};

pub use status::{InstanceState, InstanceStatus, LaneState, LaneStatus, PoolStatus};

/// One instance to keep running.
#[derive(Clone)]
pub struct Target {
    pub id: InstanceId,
    /// The recipe's name.
    pub browser: String,
    pub driver: Arc<dyn Driver>,
    /// A lane each, in the order in which they are started.
    pub backends: Vec<BackendKind>,
    /// `None` for hardware flags first, and software ones when those give no adapter.
    pub gpu: Option<GpuMode>,
    /// Threads of each WASM lane.
    pub threads: u32,
    pub webnn_device: Option<String>,
}

/// What the scheduler is told.
pub enum PoolEvent {
    /// Lanes of these kinds may come.
    Starting {
        instance: InstanceId,
        browser: String,
        backends: Vec<BackendKind>,
    },
    LaneUp(Arc<dyn Backend>),
    LaneDown {
        lane: LaneId,
        reason: String,
    },
    /// A kind that this instance cannot have, and why.
    Absent {
        instance: InstanceId,
        browser: String,
        backend: BackendKind,
        reason: String,
    },
    /// The instance is given up.
    Failed {
        instance: InstanceId,
        browser: String,
        reason: String,
    },
}

/// The pool's handle.
#[derive(Clone)]
pub struct Pool {
    status: status::StatusBoard,
}

/// What every instance's task shares.
#[derive(Clone)]
struct Shared {
    bridge: Bridge,
    status: status::StatusBoard,
    gpu: gpu::Remembered,
    events: mpsc::Sender<PoolEvent>,
    tasks: Tasks,
}

impl Pool {
    /// Starts a task for each target; when this answers, `events` holds what is to come.
    pub async fn start(
        targets: Vec<Target>,
        bridge: Bridge,
        home: &Path,
        events: mpsc::Sender<PoolEvent>,
        told: Events,
        tasks: &Tasks,
    ) -> Self {
        let status = status::StatusBoard::new(told);
        let gpu = gpu::Remembered::read(home);
        let shared = Shared { bridge, status: status.clone(), gpu, events, tasks: tasks.clone() };
        for target in targets {
            shared.starting(&target).await;
            tasks.spawn("instance", instance::keep(target, shared.clone()));
        }
        Self { status }
    }

    pub fn status(&self) -> PoolStatus {
        self.status.read()
    }

    /// Resolves when every instance is ready or has failed with a reason.
    pub async fn settled(&self) {
        self.status.settled().await;
    }
}
