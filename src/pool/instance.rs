//! One life of one instance: launch, page, and page again while the browser itself is well.
//!
//! The ladder: a lost lane is started anew in its page ([`page`]), a page that is stuck is loaded anew, and what
//! neither helps is the end of this life; the actor launches the next one.

use std::{sync::atomic::Ordering, time::Duration};

use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::{
    Fleet, PoolEvent, Shared,
    actor::Message,
    page::{self, PageEnd},
    status::InstanceState,
};
use crate::{
    bridge::Page,
    domain::{BackendKind, InstanceId, Retry},
    driver::{DriverError, Instance, LaunchOrder, recipe::GpuMode},
};

/// A cold browser on a loaded machine.
const LAUNCH_WITHIN: Duration = Duration::from_secs(60);

/// The browser is there already and has the page's files in its cache; one that has lost its spare processes as well
/// may never open a page again, and another is launched in as much time.
const RELOAD_WITHIN: Duration = Duration::from_secs(5);

/// A browser whose page was loaded anew so often in one life has a deeper fault.
const RELOADS_MAX: u32 = 2;

/// How a life ended.
#[derive(Debug)]
pub(super) enum End {
    /// The daemon stops.
    Stopped,
    /// It was asked to.
    Closed,
    /// Hardware flags gave no WebGPU adapter; software ones are tried next.
    NoAdapter,
    Lost {
        reason: String,
    },
    /// Launching it again cannot help.
    Never {
        reason: String,
    },
}

pub(super) async fn live(
    fleet: &Fleet,
    id: &InstanceId,
    close: CancellationToken,
    shared: &Shared,
    inbox: &mpsc::Sender<Message>,
) -> End {
    let ended = || if shared.tasks.stopping().is_cancelled() { End::Stopped } else { End::Closed };
    let software = shared.gpu.needs_software(&fleet.browser);
    let gpu = fleet.gpu.unwrap_or(if software { GpuMode::Software } else { GpuMode::Hardware });
    let page = Opened::new(fleet, shared);
    let url = page.page.url.clone();
    let order = LaunchOrder { name: id.to_string(), url, gpu, deadline: LAUNCH_WITHIN };
    let launched = tokio::select! {
        launched = fleet.driver.launch(order) => launched,
        () = close.cancelled() => return ended(),
    };
    let instance = match launched {
        Ok(instance) => instance,
        Err(error) => return launch_failed(&error),
    };
    if !fleet.admits(instance.version()) {
        let wanted = fleet.version.as_deref().unwrap_or_default();
        let reason = format!("its recipe wants version {wanted}, and it answered {}", instance.version());
        instance.close().await;
        return End::Never { reason };
    }
    shared.gpu.launched(&fleet.browser, instance.version());
    shared.status.launching(id);
    shared.status.launched(id, &*instance, gpu);
    let mut life = Life { fleet, id, gpu, instance: &*instance, shared, inbox, reloads: 0 };
    let end = tokio::select! {
        end = life.pages(page) => end,
        () = close.cancelled() => ended(),
    };
    if matches!(end, End::Closed) {
        life.closed().await;
    }
    instance.close().await;
    end
}

fn launch_failed(error: &DriverError) -> End {
    let reason = error.to_string();
    if error.retry() == Retry::Never { End::Never { reason } } else { End::Lost { reason } }
}

/// A page that the bridge is ready to serve, and the epoch that its links must show.
pub(super) struct Opened {
    pub(super) page: Page,
    pub(super) epoch: u64,
}

impl Opened {
    fn new(fleet: &Fleet, shared: &Shared) -> Self {
        let epoch = shared.epochs.fetch_add(1, Ordering::Relaxed);
        let bridge = &shared.bridge;
        let page =
            if fleet.driver.elsewhere() { bridge.open_far_page(epoch) } else { bridge.open_page(epoch) };
        Self { page, epoch }
    }
}

/// A launched browser.
pub(super) struct Life<'a> {
    pub(super) fleet: &'a Fleet,
    pub(super) id: &'a InstanceId,
    gpu: GpuMode,
    pub(super) instance: &'a dyn Instance,
    pub(super) shared: &'a Shared,
    pub(super) inbox: &'a mpsc::Sender<Message>,
    reloads: u32,
}

impl Life<'_> {
    /// Serves with one page after the other until the browser is lost or beyond reloading.
    async fn pages(&mut self, mut opened: Opened) -> End {
        loop {
            let reason = match page::serve(self, &mut opened).await {
                PageEnd::NoAdapter => return End::NoAdapter,
                PageEnd::Lost { reason } => return End::Lost { reason },
                PageEnd::Stuck { reason } => reason,
            };
            self.reloads += 1;
            if self.reloads > RELOADS_MAX {
                return End::Lost {
                    reason: format!("its page was loaded anew {RELOADS_MAX} times: {reason}"),
                };
            }
            tracing::warn!(instance = %self.id, reason, "page stuck, loading it anew");
            self.shared.starting(self.fleet, self.id, Some(reason.clone())).await;
            self.shared.status.launched(self.id, self.instance, self.gpu);
            self.shared.status.instance(self.id, |status| status.state = InstanceState::Recovering);
            opened = Opened::new(self.fleet, self.shared);
            let url = opened.page.url.clone();
            if let Err(error) = self.instance.navigate(url, RELOAD_WITHIN).await {
                return End::Lost { reason: format!("{reason}; loading its page anew: {error}") };
            }
        }
    }

    /// The backend by which it is seen whether hardware flags give a GPU, where a launch with software ones may follow:
    /// WebGPU where it is wanted, else WebNN, which Chromium disables when it finds no GPU to its taste.
    pub(super) fn on_trial(&self) -> Option<BackendKind> {
        let may_switch = self.fleet.gpu.is_none() && self.gpu == GpuMode::Hardware && self.reloads == 0;
        let mut telling = [BackendKind::Webgpu, BackendKind::WeftWgsl, BackendKind::Webnn].into_iter();
        telling.find(|backend| may_switch && self.fleet.backends.contains(backend))
    }

    /// Takes down the lanes of a page that was in the middle of its work.
    async fn closed(&self) {
        for lane in self.shared.status.lanes(self.id) {
            let reason = "its browser was drained".to_owned();
            self.shared.tell(PoolEvent::LaneDown { lane, reason }).await;
        }
    }
}
