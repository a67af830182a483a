//! The life of one wanted instance: launch, page, lanes, watch, and again after a loss.
//!
//! States: *starting* until the page has reported and every lane is up or impossible; *ready* while it serves;
//! *failed* for good when it cannot be launched, or never came to serve in several launches.

use std::{collections::HashMap, sync::Arc, time::Duration};

use futures_util::{StreamExt, future::BoxFuture, stream::FuturesUnordered};
use tokio::{sync::oneshot, time::Instant};
use tokio_util::sync::CancellationToken;

use super::{
    InstanceState, LaneState, PoolEvent, Shared, Target,
    lanes::{self, Host, Started, Unavailable},
};
use crate::{
    backend::Backend,
    bridge::{Message, Session},
    domain::{BackendKind, LaneId, PageEnvironment, Retry},
    driver::{DriverError, Instance, LaunchOrder, recipe::GpuMode},
    protocol::link::{DaemonToPage, PageToDaemon},
};

/// A cold browser on a loaded machine.
const LAUNCH_WITHIN: Duration = Duration::from_secs(60);

/// From navigation to the page's first report.
const PAGE_WITHIN: Duration = Duration::from_secs(60);

/// Heartbeats come every second; ten missed in a row mean that the page is hung, not busy, since lanes have
/// Workers of their own.
const HEARTBEAT_WITHIN: Duration = Duration::from_secs(10);

/// Launches in a row that never served before the instance is given up.
const FRUITLESS_MAX: u32 = 4;

/// A browser that lived as long was a good one; one that did not is launched again ever more slowly.
const LIVED_FOR: Duration = Duration::from_secs(30);

/// Worker restarts in one page before the whole browser is launched anew.
const LANE_RESTARTS_MAX: u32 = 3;

const BACKOFF_FIRST: Duration = Duration::from_millis(250);
const BACKOFF_MAX: Duration = Duration::from_secs(15);

impl Message for PageToDaemon {}

impl Target {
    pub(super) fn lane(&self, backend: &BackendKind) -> LaneId {
        LaneId::new(format!("{}/{backend}", self.id))
    }
}

/// How one launch ended.
enum Ended {
    Stopped,
    /// Hardware flags gave no WebGPU adapter; software ones are tried next.
    NoAdapter,
    Lost {
        reason: String,
        served: bool,
    },
    Never {
        reason: String,
    },
}

pub(super) async fn keep(target: Target, shared: Shared) {
    let stopping = shared.tasks.stopping();
    let (mut epoch, mut fruitless, mut short) = (0, 0, 0);
    loop {
        epoch += 1;
        let launched = Instant::now();
        let reason = match launch(&target, epoch, &shared, &stopping).await {
            Ended::Stopped => return,
            Ended::NoAdapter => {
                shared.starting(&target).await;
                continue;
            }
            Ended::Never { reason } => return shared.fail(&target, reason).await,
            Ended::Lost { reason, served } => {
                fruitless = if served { 0 } else { fruitless + 1 };
                reason
            }
        };
        if fruitless >= FRUITLESS_MAX {
            return shared
                .fail(&target, format!("{FRUITLESS_MAX} launches in a row came to nothing: {reason}"))
                .await;
        }
        short = if launched.elapsed() < LIVED_FOR { short + 1 } else { 0 };
        let pause = BACKOFF_MAX.min(BACKOFF_FIRST * 2u32.saturating_pow(short));
        shared.starting(&target).await;
        tracing::warn!(instance = %target.id, reason, pause_ms = pause.as_millis(), "instance lost, launching again");
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            () = stopping.cancelled() => return,
        }
    }
}

impl Shared {
    /// Says that the target's lanes may come; whoever asks for one waits from now on.
    pub(super) async fn starting(&self, target: &Target) {
        self.status.starting(target);
        let instance = target.id.clone();
        let (browser, backends) = (target.browser.clone(), target.backends.clone());
        self.tell(PoolEvent::Starting { instance, browser, backends }).await;
    }

    async fn tell(&self, event: PoolEvent) {
        // The scheduler outlives the pool but for the daemon's last moments.
        let _ = self.events.send(event).await;
    }

    async fn fail(&self, target: &Target, reason: String) {
        tracing::error!(instance = %target.id, reason, "instance failed");
        self.status.instance(&target.id, |status| {
            status.state = InstanceState::Failed;
            status.reason = Some(reason.clone());
            for lane in status.lanes.values_mut().filter(|lane| lane.state != LaneState::Absent) {
                lane.state = LaneState::Absent;
                lane.reason = Some(reason.clone());
            }
        });
        let (instance, browser) = (target.id.clone(), target.browser.clone());
        self.tell(PoolEvent::Failed { instance, browser, reason }).await;
    }
}

async fn launch(target: &Target, epoch: u64, shared: &Shared, stopping: &CancellationToken) -> Ended {
    let software = shared.gpu.needs_software(&target.browser);
    let gpu = target.gpu.unwrap_or(if software { GpuMode::Software } else { GpuMode::Hardware });
    let wanted = target.backends.contains(&BackendKind::Webgpu);
    let may_switch = wanted && target.gpu.is_none() && gpu == GpuMode::Hardware;
    let mut page = shared.bridge.open_page(epoch);
    let order =
        LaunchOrder { name: target.id.to_string(), url: page.url.clone(), gpu, deadline: LAUNCH_WITHIN };
    let launched = tokio::select! {
        launched = target.driver.launch(order) => launched,
        () = stopping.cancelled() => return Ended::Stopped,
    };
    let instance = match launched {
        Ok(instance) => instance,
        Err(error) => return launch_failed(&error),
    };
    shared.gpu.launched(&target.browser, instance.version());
    shared.status.instance(&target.id, |status| {
        status.browser_version = Some(instance.version().to_owned());
        status.sandbox = instance.sandbox();
        status.gpu = Some(gpu.to_string());
        status.launches += 1;
    });
    let ended = tokio::select! {
        ended = serve(target, epoch, may_switch, &mut page.control, &*instance, shared) => ended,
        () = stopping.cancelled() => Ended::Stopped,
    };
    instance.close().await;
    ended
}

fn launch_failed(error: &DriverError) -> Ended {
    let reason = error.to_string();
    if error.retry() == Retry::Never {
        Ended::Never { reason }
    } else {
        Ended::Lost { reason, served: false }
    }
}

/// From the page's link to its end.
async fn serve(
    target: &Target,
    epoch: u64,
    may_switch: bool,
    control: &mut crate::bridge::Expected,
    instance: &dyn Instance,
    shared: &Shared,
) -> Ended {
    let mut lost = instance.lost();
    let report = async {
        let mut session = control.session().await.ok_or("the page did not open its link")?;
        session.sender.control(&DaemonToPage::Welcome).map_err(|closed| closed.reason)?;
        match session.receiver.receive::<PageToDaemon>().await.map_err(|closed| closed.reason)?.message {
            PageToDaemon::PageReady { environment } => Ok((session, environment)),
            other => Err(format!("the page reported {other:?} before it was ready")),
        }
    };
    let reported: Result<(Session, PageEnvironment), String> = tokio::select! {
        reported = tokio::time::timeout(PAGE_WITHIN, report) => {
            reported.unwrap_or_else(|_| Err(format!("no report of its page within {} s", PAGE_WITHIN.as_secs())))
        }
        reason = &mut lost => Err(reason),
    };
    let (session, environment) = match reported {
        Ok(reported) => reported,
        Err(reason) => return Ended::Lost { reason, served: false },
    };
    shared.status.instance(&target.id, |status| status.page = Some(environment));
    let mut watch = Watch {
        target,
        epoch,
        may_switch,
        host: Host::of(instance),
        session,
        shared,
        starting: FuturesUnordered::new(),
        exits: HashMap::new(),
        workers: HashMap::new(),
        lanes: HashMap::new(),
        losses: FuturesUnordered::new(),
        restarts: 0,
        worker_starts: 0,
    };
    let ended = watch.run(lost).await;
    let reason = match &ended {
        Ended::Lost { reason, .. } => reason.clone(),
        _ => "its browser is launched anew".to_owned(),
    };
    for (lane, backend) in std::mem::take(&mut watch.lanes) {
        backend.abandon(reason.clone());
        shared.tell(PoolEvent::LaneDown { lane, reason: reason.clone() }).await;
    }
    ended
}

/// One page's control link and lanes.
struct Watch<'a> {
    target: &'a Target,
    epoch: u64,
    may_switch: bool,
    host: Host,
    session: Session,
    shared: &'a Shared,
    starting: FuturesUnordered<BoxFuture<'static, Started>>,
    /// Who waits for the start of a Worker, by the Worker's name.
    exits: HashMap<String, oneshot::Sender<String>>,
    /// The latest Worker of each lane; every start has a name of its own, so that a late word of an earlier Worker is
    /// not taken for the present one's.
    workers: HashMap<LaneId, String>,
    lanes: HashMap<LaneId, Arc<dyn Backend>>,
    losses: FuturesUnordered<BoxFuture<'static, (LaneId, BackendKind, String)>>,
    restarts: u32,
    worker_starts: u64,
}

impl Watch<'_> {
    async fn run(&mut self, mut lost: BoxFuture<'static, String>) -> Ended {
        // Where no adapter may mean another launch, nothing else is begun before that is known.
        let trial = |backend: &&BackendKind| self.may_switch && **backend == BackendKind::Webgpu;
        let first = self.target.backends.iter().find(trial).cloned();
        match first {
            Some(webgpu) => self.start(&webgpu),
            None => self.start_others(None),
        }
        let mut served = false;
        let mut heartbeat_due = Instant::now() + HEARTBEAT_WITHIN;
        loop {
            let reason = tokio::select! {
                reason = &mut lost => reason,
                message = self.session.receiver.receive::<PageToDaemon>() => match message {
                    Ok(received) => {
                        heartbeat_due = Instant::now() + HEARTBEAT_WITHIN;
                        self.page_said(received.message);
                        continue;
                    }
                    Err(closed) => closed.reason,
                },
                () = tokio::time::sleep_until(heartbeat_due) => {
                    format!("no heartbeat for {} s", HEARTBEAT_WITHIN.as_secs())
                }
                Some(started) = self.starting.next() => {
                    served |= started.outcome.is_ok();
                    if self.started(started).await {
                        return Ended::NoAdapter;
                    }
                    continue;
                }
                Some((lane, backend, reason)) = self.losses.next() => {
                    if self.lane_lost(&lane, &backend, &reason).await {
                        continue;
                    }
                    format!("its lanes were lost {LANE_RESTARTS_MAX} times, at last: {reason}")
                }
            };
            return Ended::Lost { reason, served };
        }
    }

    fn start(&mut self, backend: &BackendKind) {
        let (exit, exited) = oneshot::channel();
        let lane = self.target.lane(backend);
        self.worker_starts += 1;
        let worker = format!("{lane}#{}", self.worker_starts);
        self.exits.insert(worker.clone(), exit);
        self.workers.insert(lane, worker.clone());
        let start = lanes::Start { worker, epoch: self.epoch, host: self.host.clone(), exited };
        self.starting.push(Box::pin(lanes::start(
            self.target,
            backend,
            start,
            &self.session.sender,
            self.shared,
        )));
    }

    fn start_others(&mut self, started: Option<&BackendKind>) {
        for backend in self.target.backends.iter().filter(|backend| Some(*backend) != started) {
            self.start(backend);
        }
    }

    /// Ends a lane's Worker; a page that is gone needs no telling.
    fn stop_worker(&self, lane: &LaneId) {
        if let Some(worker) = self.workers.get(lane) {
            let _ = self.session.sender.control(&DaemonToPage::StopLane { lane: worker.clone() });
        }
    }

    fn page_said(&mut self, message: PageToDaemon) {
        match message {
            PageToDaemon::Heartbeat { .. } | PageToDaemon::PageReady { .. } => {}
            PageToDaemon::LaneExited { lane: worker, message } => {
                if let Some(exit) = self.exits.remove(&worker) {
                    // It may just have become ready; then its link tells the same.
                    let _ = exit.send(message.clone());
                }
                let lane = self.workers.iter().find(|(_, latest)| **latest == worker).map(|(lane, _)| lane);
                if let Some(backend) = lane.and_then(|lane| self.lanes.get(lane)) {
                    backend.abandon(message);
                }
            }
        }
    }

    /// Takes a lane up, or notes why there is none; says whether the browser should try its next GPU mode.
    async fn started(&mut self, started: Started) -> bool {
        let Started { lane, backend, outcome } = started;
        if let Some(worker) = self.workers.get(&lane) {
            self.exits.remove(worker);
        }
        match outcome {
            Ok((up, capability)) => {
                if std::mem::take(&mut self.may_switch) {
                    self.start_others(Some(&backend));
                }
                let loss = (up.lost(), lane.clone(), backend);
                self.losses.push(Box::pin(async move { (loss.1, loss.2, loss.0.await) }));
                self.lanes.insert(lane.clone(), up.clone());
                self.shared.tell(PoolEvent::LaneUp(up)).await;
                self.shared.status.lane(&self.target.id, &lane, |status| {
                    status.state = LaneState::Ready;
                    status.reason = None;
                    status.capability = Some(capability);
                });
                false
            }
            Err(Unavailable { reason, no_adapter }) if backend == BackendKind::Webgpu && self.may_switch => {
                self.shared.gpu.learn(&self.target.browser, &self.host.version, no_adapter);
                tracing::info!(instance = %self.target.id, reason, "no WebGPU with hardware flags, trying software");
                true
            }
            Err(Unavailable { reason, .. }) => {
                tracing::warn!(%lane, reason, "lane unavailable");
                // Its Worker may still be there, waiting for nothing.
                self.stop_worker(&lane);
                let (instance, browser) = (self.target.id.clone(), self.target.browser.clone());
                self.shared
                    .tell(PoolEvent::Absent { instance, browser, backend, reason: reason.clone() })
                    .await;
                self.shared.status.lane(&self.target.id, &lane, |status| {
                    status.state = LaneState::Absent;
                    status.reason = Some(reason);
                });
                false
            }
        }
    }

    /// Restarts a lost lane's Worker; says whether the page may go on.
    async fn lane_lost(&mut self, lane: &LaneId, backend: &BackendKind, reason: &str) -> bool {
        tracing::warn!(%lane, reason, "lane lost");
        self.lanes.remove(lane);
        self.shared.tell(PoolEvent::LaneDown { lane: lane.clone(), reason: reason.to_owned() }).await;
        self.restarts += 1;
        if self.restarts > LANE_RESTARTS_MAX {
            return false;
        }
        self.shared.status.lane(&self.target.id, lane, |status| {
            status.state = LaneState::Starting;
            status.reason = Some(reason.to_owned());
        });
        self.stop_worker(lane);
        self.start(backend);
        true
    }
}
