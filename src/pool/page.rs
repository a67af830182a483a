//! One page of a launched browser: its control link, its signs of life, and its lanes.

use std::{collections::HashMap, sync::Arc, time::Duration};

use futures_util::{FutureExt as _, StreamExt, future::BoxFuture, stream::FuturesUnordered};
use tokio::{sync::oneshot, time::Instant};

use super::{
    PoolEvent,
    actor::Message,
    instance::{Life, Opened},
    lanes::{self, Host, Started, Unavailable},
    status::{InstanceState, LaneState},
};
use crate::{
    backend::Backend,
    bridge::{self, Session},
    domain::{BackendKind, LaneId, PageEnvironment},
    driver::Instance,
    protocol::link::{DaemonToPage, PageToDaemon},
};

/// From navigation to the page's first report.
const PAGE_WITHIN: Duration = Duration::from_secs(60);

/// Heartbeats come every second. Three missed in a row happen on a loaded machine too, and cost no more than that
/// new steps wait.
const SUSPECT_AFTER: Duration = Duration::from_secs(3);

/// Ten missed in a row mean that the page is hung, not busy, since lanes have Workers of their own.
const HEARTBEAT_WITHIN: Duration = Duration::from_secs(10);

/// From the loss of a page's link to the driver's word on the browser itself.
pub(super) const END_FOLLOWS: Duration = Duration::from_millis(500);

/// Worker restarts in one page before the whole page is loaded anew.
const LANE_RESTARTS_MAX: u32 = 3;

impl bridge::Message for PageToDaemon {}

/// How a page ended.
pub(super) enum PageEnd {
    NoAdapter,
    /// The browser is well, as far as is known, and its page is not.
    Stuck {
        reason: String,
    },
    /// The browser is gone.
    Lost {
        reason: String,
    },
}

/// From the page's link to its end.
pub(super) async fn serve(life: &Life<'_>, opened: &mut Opened) -> PageEnd {
    let mut gone = gone(life.instance);
    let control = &mut opened.page.control;
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
        end = &mut gone => return end,
    };
    let (session, environment) = match reported {
        Ok(reported) => reported,
        Err(reason) => return PageEnd::Stuck { reason },
    };
    life.shared.status.instance(life.id, |status| status.page = Some(environment));
    let mut watch = Watch {
        life,
        epoch: opened.epoch,
        on_trial: life.on_trial(),
        host: Host::of(life.instance),
        session,
        starting: FuturesUnordered::new(),
        exits: HashMap::new(),
        workers: HashMap::new(),
        lanes: HashMap::new(),
        losses: FuturesUnordered::new(),
        restarts: 0,
        worker_starts: 0,
        suspect: false,
    };
    let end = watch.run(gone).await;
    watch.leave(&end).await;
    end
}

/// The driver's word on the end of the browser or of its page.
fn gone(instance: &dyn Instance) -> BoxFuture<'static, PageEnd> {
    let (lost, crashed) = (instance.lost(), instance.crashed());
    async move {
        tokio::select! {
            biased;
            reason = lost => PageEnd::Lost { reason },
            reason = crashed => PageEnd::Stuck { reason },
        }
    }
    .boxed()
}

/// A dying browser or page closes its sockets first; that it died follows within milliseconds and says more.
async fn closed_with(gone: BoxFuture<'static, PageEnd>, reason: String) -> PageEnd {
    tokio::time::timeout(END_FOLLOWS, gone).await.unwrap_or(PageEnd::Stuck { reason })
}

/// One page's control link and lanes.
struct Watch<'a> {
    life: &'a Life<'a>,
    epoch: u64,
    /// The backend whose lane, if it cannot start, means another launch.
    on_trial: Option<BackendKind>,
    host: Host,
    session: Session,
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
    /// Whether the scheduler keeps off for want of signs of life.
    suspect: bool,
}

impl Watch<'_> {
    async fn run(&mut self, mut gone: BoxFuture<'static, PageEnd>) -> PageEnd {
        // Where another launch may follow, nothing else is begun before that is known.
        match self.on_trial.clone() {
            Some(first) => self.start(&first),
            None => self.start_others(None),
        }
        let mut heard = Instant::now();
        loop {
            let due = heard + if self.suspect { HEARTBEAT_WITHIN } else { SUSPECT_AFTER };
            let reason = tokio::select! {
                end = &mut gone => return end,
                message = self.session.receiver.receive::<PageToDaemon>() => match message {
                    Ok(received) => {
                        heard = Instant::now();
                        self.suspected(false).await;
                        self.page_said(received.message);
                        continue;
                    }
                    Err(closed) => return closed_with(gone, closed.reason).await,
                },
                () = tokio::time::sleep_until(due) => {
                    if !self.suspect {
                        self.suspected(true).await;
                        continue;
                    }
                    format!("no heartbeat for {} s", HEARTBEAT_WITHIN.as_secs())
                }
                Some(started) = self.starting.next() => {
                    if self.started(started).await {
                        return PageEnd::NoAdapter;
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
            return PageEnd::Stuck { reason };
        }
    }

    async fn suspected(&mut self, suspect: bool) {
        if std::mem::replace(&mut self.suspect, suspect) == suspect {
            return;
        }
        let Life { shared, id, .. } = self.life;
        let reason = format!("no heartbeat for {} s", SUSPECT_AFTER.as_secs());
        tracing::info!(instance = %id, suspect, "signs of life");
        shared.status.suspect(id, suspect.then_some(reason));
        shared.tell(PoolEvent::Suspect { instance: (*id).clone(), suspect }).await;
    }

    fn start(&mut self, backend: &BackendKind) {
        let (exit, exited) = oneshot::channel();
        let lane = lanes::id(self.life.id, backend);
        self.worker_starts += 1;
        let worker = format!("{lane}#{}", self.worker_starts);
        self.exits.insert(worker.clone(), exit);
        self.workers.insert(lane.clone(), worker.clone());
        let start = lanes::Start { worker, epoch: self.epoch, host: self.host.clone(), exited };
        let order = lanes::Order { fleet: self.life.fleet, instance: self.life.id, lane, backend };
        self.starting.push(Box::pin(lanes::start(order, start, &self.session.sender, self.life.shared)));
    }

    fn start_others(&mut self, started: Option<&BackendKind>) {
        for backend in self.life.fleet.backends.iter().filter(|backend| Some(*backend) != started) {
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
        let Life { shared, id, inbox, fleet, .. } = self.life;
        if let Some(worker) = self.workers.get(&lane) {
            self.exits.remove(worker);
        }
        match outcome {
            Ok((up, capability)) => {
                if self.on_trial.take().is_some() {
                    self.start_others(Some(&backend));
                }
                let loss = (up.lost(), lane.clone(), backend);
                self.losses.push(Box::pin(async move { (loss.1, loss.2, loss.0.await) }));
                self.lanes.insert(lane.clone(), up.clone());
                // The actor and the scheduler outlive every instance but those of a stopping daemon.
                let _ = inbox.send(Message::Served { id: (*id).clone(), lane: up.clone() }).await;
                shared.tell(PoolEvent::LaneUp(up.clone())).await;
                shared.status.lane(id, &lane, |status| {
                    status.state = LaneState::Ready;
                    status.reason = None;
                    status.capability = Some(capability);
                });
                shared.status.follow(id, &up, &shared.tasks);
            }
            Err(Unavailable { reason, no_adapter, .. }) if self.on_trial.as_ref() == Some(&backend) => {
                shared.gpu.learn(&fleet.browser, &self.host.version, no_adapter);
                tracing::info!(instance = %id, %backend, reason, "not there with hardware flags, trying software");
                return true;
            }
            Err(Unavailable { reason, .. }) => {
                tracing::warn!(%lane, reason, "lane unavailable");
                // Its Worker may still be there, waiting for nothing.
                self.stop_worker(&lane);
                let (instance, browser) = ((*id).clone(), fleet.browser.clone());
                shared.tell(PoolEvent::Absent { instance, browser, backend, reason: reason.clone() }).await;
                shared.status.lane(id, &lane, |status| {
                    status.state = LaneState::Absent;
                    status.reason = Some(reason);
                });
            }
        }
        if self.starting.is_empty() {
            let _ = inbox.send(Message::Ready { id: (*id).clone() }).await;
        }
        false
    }

    /// Restarts a lost lane's Worker; says whether the page may go on.
    async fn lane_lost(&mut self, lane: &LaneId, backend: &BackendKind, reason: &str) -> bool {
        let Life { shared, id, inbox, .. } = self.life;
        tracing::warn!(%lane, reason, "lane lost");
        let recycled = self.lanes.remove(lane).is_some_and(|lane| lane.recycled());
        let _ = inbox.send(Message::LaneGone { id: (*id).clone(), lane: lane.clone() }).await;
        shared.tell(PoolEvent::LaneDown { lane: lane.clone(), reason: reason.to_owned() }).await;
        // A lane that gave its memory back has not failed.
        self.restarts += u32::from(!recycled);
        if self.restarts > LANE_RESTARTS_MAX {
            return false;
        }
        shared.status.lane(id, lane, |status| {
            status.state = LaneState::Recovering;
            status.reason = Some(reason.to_owned());
        });
        self.stop_worker(lane);
        self.start(backend);
        true
    }

    /// Gives up the lanes of a page that has ended.
    async fn leave(&mut self, end: &PageEnd) {
        let Life { shared, id, inbox, .. } = self.life;
        let reason = match end {
            PageEnd::NoAdapter => "its browser is launched anew",
            PageEnd::Stuck { reason } | PageEnd::Lost { reason } => reason,
        };
        for (lane, backend) in std::mem::take(&mut self.lanes) {
            backend.abandon(reason.to_owned());
            let _ = inbox.send(Message::LaneGone { id: (*id).clone(), lane: lane.clone() }).await;
            shared.tell(PoolEvent::LaneDown { lane, reason: reason.to_owned() }).await;
        }
        self.suspected(false).await;
        if !matches!(end, PageEnd::NoAdapter) {
            shared.status.instance(id, |status| {
                status.state = InstanceState::Recovering;
                status.reason = Some(reason.to_owned());
            });
        }
    }
}
