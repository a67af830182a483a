//! Starts one lane in a page that is there: a ticket, a Worker, its link, its report.

use std::{sync::Arc, time::Duration};

use tokio::sync::oneshot;

use super::{Shared, Target};
use crate::{
    backend::{Backend, page::PageLane},
    bridge::{Expected, LinkSender},
    domain::{BackendKind, Environment, LaneId},
    driver::Instance,
    protocol::link::{Capability, DaemonToPage, LaneToDaemon},
};

/// Importing and compiling an engine takes seconds on a loaded machine; a GPU process may start cold besides.
const READY_WITHIN: Duration = Duration::from_secs(120);

pub(super) struct Started {
    pub(super) lane: LaneId,
    pub(super) backend: BackendKind,
    pub(super) outcome: Result<(Arc<dyn Backend>, Capability), String>,
}

/// What a lane inherits from its instance.
#[derive(Clone)]
pub(super) struct Host {
    pub(super) version: String,
    pub(super) sandbox: bool,
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

/// Asks the page for a lane; the future resolves with the lane or why there is none.
/// `exited` tells that the page reported the Worker's end.
pub(super) fn start(
    target: &Target,
    backend: &BackendKind,
    epoch: u64,
    host: Host,
    control: &LinkSender,
    exited: oneshot::Receiver<String>,
    shared: &Shared,
) -> impl Future<Output = Started> + Send + use<> {
    let expected = shared.bridge.expect_lane(epoch);
    let lane = target.lane(backend);
    let order = DaemonToPage::StartLane {
        lane: lane.clone(),
        ticket: expected.ticket.clone(),
        backend: backend.clone(),
        threads: target.threads,
        webnn_device: (*backend == BackendKind::Webnn).then(|| target.webnn_device.clone()).flatten(),
    };
    let sent = control.control(&order);
    let (target, backend, shared) = (target.clone(), backend.clone(), shared.clone());
    async move {
        let work = async {
            sent.map_err(|closed| closed.reason)?;
            tokio::select! {
                reason = exited => Err(reason.unwrap_or_else(|_| "the page is gone".to_owned())),
                ready = tokio::time::timeout(READY_WITHIN, ready(expected, &target, &lane, host, &shared)) => {
                    ready.unwrap_or_else(|_| Err(format!("no report within {} s", READY_WITHIN.as_secs())))
                }
            }
        };
        let outcome = work.await;
        Started { lane, backend, outcome }
    }
}

async fn ready(
    mut expected: Expected,
    target: &Target,
    lane: &LaneId,
    host: Host,
    shared: &Shared,
) -> Result<(Arc<dyn Backend>, Capability), String> {
    let mut session = expected.session().await.ok_or("the Worker did not open its link")?;
    session.sender.control(&crate::protocol::link::DaemonToLane::Welcome).map_err(|closed| closed.reason)?;
    let capability =
        match session.receiver.receive::<LaneToDaemon>().await.map_err(|closed| closed.reason)?.message {
            LaneToDaemon::LaneReady { capability } => capability,
            LaneToDaemon::LaneUnavailable { reason } => return Err(reason),
            other => return Err(format!("the Worker reported {other:?} before it was ready")),
        };
    let environment = Environment {
        instance: target.id.clone(),
        lane: lane.clone(),
        browser: target.browser.clone(),
        browser_version: host.version,
        backend: capability.backend.clone(),
        adapter: capability.adapter.clone(),
        webnn_device: capability.webnn_device.clone(),
        sandbox: host.sandbox,
        engine: capability.engine.clone(),
        threads: capability.threads,
        flags: host.flags,
    };
    Ok((Arc::new(PageLane::start(environment, session, &shared.tasks)), capability))
}
