//! Starts one lane in a page that is there: a ticket, a Worker, its link, its report.

use std::{sync::Arc, time::Duration};

use tokio::sync::oneshot;

use super::{Fleet, Shared, page::END_FOLLOWS};
use crate::{
    backend::{
        Backend,
        page::{
            PageLane,
            weft::{Kernels, WeftLane},
        },
    },
    bridge::{Expected, LinkClosed, LinkSender},
    domain::{BackendKind, Environment, InstanceId, LaneId},
    driver::Instance,
    protocol::link::{Capability, DaemonToPage, LaneToDaemon},
};

/// Importing and compiling an engine takes seconds on a loaded machine; a GPU process may start cold besides.
const READY_WITHIN: Duration = Duration::from_secs(120);

pub(super) struct Started {
    pub(super) lane: LaneId,
    pub(super) backend: BackendKind,
    pub(super) outcome: Result<(Arc<dyn Backend>, Capability), Unavailable>,
}

/// Why there is no lane.
pub(super) struct Unavailable {
    pub(super) reason: String,
    /// The browser offers no GPU adapter; other flags may.
    pub(super) no_adapter: bool,
    /// A link was closed, which may be the first sign that the page or its browser is gone.
    pub(super) closed: bool,
}

impl Unavailable {
    fn closed(reason: String) -> Self {
        Self { reason, no_adapter: false, closed: true }
    }
}

impl From<String> for Unavailable {
    fn from(reason: String) -> Self {
        Self { reason, no_adapter: false, closed: false }
    }
}

/// One start of a lane's Worker.
pub(super) struct Start {
    /// The Worker's name, new at every start.
    pub(super) worker: String,
    pub(super) epoch: u64,
    pub(super) host: Host,
    /// Tells that the page reported the Worker's end.
    pub(super) exited: oneshot::Receiver<String>,
}

/// What a lane inherits from its instance.
#[derive(Clone)]
pub(super) struct Host {
    pub(super) version: String,
    pub(super) sandbox: Option<bool>,
    pub(super) flags: Vec<String>,
}

impl Host {
    pub(super) fn of(instance: &dyn Instance) -> Self {
        Self {
            version: instance.version().to_owned(),
            sandbox: instance.sandbox(),
            flags: instance.flags().to_vec(),
        }
    }
}

/// Which lane is asked for.
pub(super) struct Order<'a> {
    pub(super) fleet: &'a Fleet,
    pub(super) instance: &'a InstanceId,
    pub(super) lane: LaneId,
    pub(super) backend: &'a BackendKind,
}

/// The name of an instance's lane.
pub(super) fn id(instance: &InstanceId, backend: &BackendKind) -> LaneId {
    LaneId::of(instance, backend)
}

/// Asks the page for a lane; the future resolves with the lane or why there is none.
pub(super) fn start(
    order: Order<'_>,
    start: Start,
    control: &LinkSender,
    shared: &Shared,
) -> impl Future<Output = Started> + Send + use<> {
    let Start { worker, epoch, host, exited } = start;
    let expected = shared.bridge.expect_lane(epoch);
    let Order { fleet, instance, lane, backend } = order;
    let order = DaemonToPage::StartLane {
        lane: worker,
        ticket: expected.ticket.clone(),
        backend: backend.clone(),
        threads: fleet.threads,
        webnn_device: (*backend == BackendKind::Webnn).then(|| fleet.webnn_device.clone()).flatten(),
        memory_max: fleet.memory_max,
    };
    let sent = control.control(&order);
    let (browser, instance) = (fleet.browser.clone(), instance.clone());
    let (backend, shared) = (backend.clone(), shared.clone());
    async move {
        let work = async {
            sent.map_err(|closed| Unavailable::closed(closed.reason))?;
            tokio::select! {
                reason = exited => Err(match reason {
                    Ok(reason) => reason.into(),
                    Err(_) => Unavailable::closed("the page is gone".to_owned()),
                }),
                ready = tokio::time::timeout(READY_WITHIN, ready(expected, browser, instance, &lane, host, &shared)) => {
                    ready.unwrap_or_else(|_| Err(format!("no report within {} s", READY_WITHIN.as_secs()).into()))
                }
            }
        };
        let outcome = work.await;
        if matches!(outcome, Err(Unavailable { closed: true, .. })) {
            // The end of the page or of its browser ends this wait: then the lane is not absent, but comes back.
            tokio::time::sleep(END_FOLLOWS).await;
        }
        Started { lane, backend, outcome }
    }
}

async fn ready(
    mut expected: Expected,
    browser: String,
    instance: InstanceId,
    lane: &LaneId,
    host: Host,
    shared: &Shared,
) -> Result<(Arc<dyn Backend>, Capability), Unavailable> {
    let opened = expected.session().await;
    let mut session = opened.ok_or_else(|| "the Worker did not open its link".to_owned())?;
    let closed = |closed: LinkClosed| Unavailable::closed(closed.reason);
    session.sender.control(&crate::protocol::link::DaemonToLane::Welcome).map_err(closed)?;
    let mut capability = match session.receiver.receive::<LaneToDaemon>().await.map_err(closed)?.message {
        LaneToDaemon::LaneReady { capability } => *capability,
        LaneToDaemon::LaneUnavailable { reason, no_adapter } => {
            return Err(Unavailable { reason, no_adapter, closed: false });
        }
        other => return Err(format!("the Worker reported {other:?} before it was ready").into()),
    };
    let kernels = Kernels::of(&capability);
    if let Some(kernels) = &kernels {
        // The page knows no kernels before it is sent some.
        capability.engine.clone_from(&kernels.engine);
    }
    let environment = Environment {
        instance,
        lane: lane.clone(),
        browser,
        browser_version: host.version,
        backend: capability.backend.clone(),
        adapter: capability.adapter.clone(),
        webnn_device: capability.webnn_device.clone(),
        sandbox: host.sandbox,
        engine: capability.engine.clone(),
        threads: capability.threads,
        flags: host.flags,
    };
    let page = PageLane::start(environment, capability.memory_max, session, &shared.tasks);
    let lane: Arc<dyn Backend> = match kernels {
        Some(kernels) => Arc::new(WeftLane::over(page, kernels, shared.lowered.clone())),
        None => Arc::new(page),
    };
    Ok((lane, capability))
}
