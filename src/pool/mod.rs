//! Keeps browsers at target, turns their pages' Workers into lanes, and grants leases.
//!
//! - One actor decides which instances live ([`actor`]); a task per instance lives one life ([`instance`]).
//! - Lanes that come, go, or are held are told to whoever holds the other end of the channel: the scheduler.
//!
//! The pool never sees a request.

mod actor;
mod breaker;
mod gpu;
mod instance;
mod lanes;
mod lease;
mod page;
mod scale;
mod slot;
mod status;
#[cfg(test)]
mod tests;

use std::{
    collections::BTreeMap,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize},
    },
    time::Duration,
};

use tokio::sync::{mpsc, oneshot};

use crate::{
    backend::{Backend, lowered::Lowered},
    bridge::Bridge,
    domain::{BackendKind, InstanceId, LaneId, LeaseId},
    driver::{Driver, recipe::GpuMode},
    events::Events,
    tasks::Tasks,
};

pub use lease::{LeaseError, Leased};
pub use scale::Bounds;
pub use status::{InstanceState, InstanceStatus, LaneState, LaneStatus, Launches, PoolStatus};

/// Lives end and lanes come a few times a minute; leases wait for their answers.
const INBOX: usize = 1024;

/// The instances of one recipe that are wanted.
#[derive(Clone)]
pub struct Fleet {
    /// The recipe's name.
    pub browser: String,
    /// How the version that the browser answers must begin.
    pub version: Option<String>,
    pub driver: Arc<dyn Driver>,
    pub instances: Bounds,
    /// A lane each, in the order in which they are started.
    pub backends: Vec<BackendKind>,
    /// `None` for hardware flags first, and software ones when those give no adapter.
    pub gpu: Option<GpuMode>,
    /// Threads of each WASM lane.
    pub threads: u32,
    pub webnn_device: Option<String>,
    /// The bytes that an engine's heap may grow to.
    pub memory_max: u64,
    pub limits: InstanceLimits,
}

/// When an instance is drained and launched anew, or not launched any more.
#[derive(Clone, Copy, Debug)]
pub struct InstanceLimits {
    /// Bytes that its processes hold together.
    pub memory: Option<u64>,
    /// Steps.
    pub runs: Option<u64>,
    /// How long an instance beyond the least may do nothing.
    pub idle: Duration,
    /// Launches after a loss, per recipe and hour.
    pub restarts: usize,
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
    /// Who may use the instance from now on; `free` resolves once none of its lanes does anything.
    Held {
        instance: InstanceId,
        hold: Hold,
        free: Option<oneshot::Sender<()>>,
    },
    /// The instance has stopped giving signs of life, or gives them again.
    Suspect {
        instance: InstanceId,
        suspect: bool,
    },
    /// The instance is not wanted any more.
    Gone {
        instance: InstanceId,
    },
}

/// Who may use an instance's lanes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Hold {
    Open,
    /// Nobody: it is to be closed.
    Draining,
    /// Requests that name the lease.
    Leased(LeaseId),
}

/// The pool's handle.
#[derive(Clone)]
pub struct Pool {
    status: status::StatusBoard,
    leases: lease::Leases,
    inbox: mpsc::Sender<actor::Message>,
}

/// What the actor and every instance's task share.
#[derive(Clone)]
struct Shared {
    bridge: Bridge,
    status: status::StatusBoard,
    gpu: gpu::Remembered,
    events: mpsc::Sender<PoolEvent>,
    /// What lanes on our own kernels share.
    lowered: Lowered,
    /// Every page gets the next one, so that a link of an earlier page is known as such.
    epochs: Arc<AtomicU64>,
    tasks: Tasks,
}

/// What the pool is connected to.
pub struct Surroundings<'a> {
    pub bridge: Bridge,
    pub home: &'a Path,
    pub events: mpsc::Sender<PoolEvent>,
    /// Requests that no lane has room for, as the scheduler counts them.
    pub backlog: Arc<AtomicUsize>,
    pub told: Events,
}

impl Pool {
    /// Starts the actor; when this answers, `events` holds what is to come.
    pub async fn start(fleets: Vec<Fleet>, surroundings: Surroundings<'_>, tasks: &Tasks) -> Self {
        let Surroundings { bridge, home, events, backlog, told } = surroundings;
        let status = status::StatusBoard::new(told);
        let gpu = gpu::Remembered::read(home);
        let epochs = Arc::new(AtomicU64::new(1));
        let shared = Shared {
            bridge,
            status: status.clone(),
            gpu,
            events,
            lowered: Lowered::default(),
            epochs,
            tasks: tasks.clone(),
        };
        for fleet in &fleets {
            for number in 1..=fleet.instances.least {
                shared.starting(fleet, &fleet.instance(number), None).await;
            }
        }
        let (inbox, messages) = mpsc::channel(INBOX);
        let recipes = fleets.iter().map(|fleet| fleet.browser.clone());
        let leases = lease::Leases::new(recipes, inbox.clone());
        let actor = actor::Actor::new(fleets, shared, inbox.clone(), leases.clone(), backlog);
        tasks.spawn("pool", actor.run(messages));
        Self { status, leases, inbox }
    }

    pub fn status(&self) -> PoolStatus {
        self.status.read()
    }

    /// By recipe.
    pub fn launches(&self) -> BTreeMap<String, Launches> {
        self.status.launches()
    }

    /// Resolves when every instance is ready or has failed with a reason.
    pub async fn settled(&self) {
        self.status.settled().await;
    }

    /// Waits at most `within` for an instance of `browser` that is the caller's alone for `ttl`.
    pub async fn lease(&self, browser: &str, ttl: Duration, within: Duration) -> Result<Leased, LeaseError> {
        self.leases.acquire(browser, ttl, within).await
    }

    pub fn leases(&self) -> Vec<Leased> {
        self.leases.list()
    }

    /// Ends a lease; says whether it was held.
    pub async fn release(&self, lease: &LeaseId) -> bool {
        self.leases.release(lease).await
    }

    /// Keeps what `fleets` say from now on, and lets go what they leave out; what lives keeps its driver and its lanes.
    /// Says whether the pool is there to do it.
    pub async fn target(&self, fleets: Vec<Fleet>) -> bool {
        let (done, answer) = oneshot::channel();
        self.inbox.send(actor::Message::Target { fleets, done }).await.is_ok() && answer.await.is_ok()
    }

    /// Drains an instance and launches it anew, also one that had failed, each of its lanes with so many threads until the
    /// next restart, or with their share; says whether there is such an instance.
    pub async fn restart(&self, id: InstanceId, threads: Option<u32>) -> bool {
        let (known, answer) = oneshot::channel();
        self.inbox.send(actor::Message::Restart { id, threads, known }).await.is_ok()
            && answer.await.unwrap_or(false)
    }
}

impl Fleet {
    fn instance(&self, number: u32) -> InstanceId {
        InstanceId::new(format!("{}-{number}", self.browser))
    }

    /// Whether a browser that answered this version is the wanted one.
    fn admits(&self, version: &str) -> bool {
        let Some(wanted) = &self.version else { return true };
        let mut parts = version.split('.');
        wanted.split('.').all(|part| parts.next() == Some(part))
    }
}

impl Shared {
    /// Says that an instance's lanes may come; whoever asks for one waits from now on.
    async fn starting(&self, fleet: &Fleet, id: &InstanceId, reason: Option<String>) {
        self.status.starting(fleet, id, reason);
        let (instance, browser, backends) = (id.clone(), fleet.browser.clone(), fleet.backends.clone());
        self.tell(PoolEvent::Starting { instance, browser, backends }).await;
    }

    async fn fail(&self, fleet: &Fleet, id: &InstanceId, reason: String) {
        tracing::error!(instance = %id, reason, "instance failed");
        self.status.failed(id, &reason);
        let (instance, browser) = (id.clone(), fleet.browser.clone());
        self.tell(PoolEvent::Failed { instance, browser, reason }).await;
    }

    async fn tell(&self, event: PoolEvent) {
        // The scheduler outlives the pool but for the daemon's last moments.
        let _ = self.events.send(event).await;
    }
}
