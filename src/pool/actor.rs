//! The pool's loop: compares wanted with actual instances, on signal and on a slow tick.
//!
//! - A task per instance lives one life ([`instance::live`]) and tells how it ended; what follows is decided here.
//! - Callers of [`Leases`] have instances to themselves.
//! - The scheduler is told to keep off lanes that are drained or leased, and tells when they are free.

mod target;

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use tokio::{
    sync::{mpsc, oneshot},
    time::{Instant, MissedTickBehavior, interval},
};

use super::{
    Bounds, Fleet, Hold, PoolEvent, Shared,
    breaker::Breaker,
    instance::{self, End},
    lease::Leases,
    scale::{Decision, Scale, Seen},
    slot::{FRUITLESS_MAX, Phase, Slot},
    status::InstanceState,
};
use crate::{
    backend::Backend,
    domain::{InstanceId, LaneId, LeaseId},
    driver::{machine::Machine, procs},
    tasks::aside,
};

/// Memory, age and utilisation change slowly, and looking costs a walk through the process table.
const TICK: Duration = Duration::from_secs(5);

/// A step that goes on longer is given up; requests of the lane were waiting meanwhile.
const DRAIN_WITHIN: Duration = Duration::from_secs(60);

/// What a browser with one engine in it holds, until one has been weighed.
const BROWSER_MEMORY: u64 = 512 << 20;

/// Left to the system and to what the lanes there are may yet load.
const MEMORY_KEPT: u64 = 512 << 20;

/// What the timer is set to when nothing is due.
const FAR: Duration = Duration::from_secs(3600);

pub(super) enum Message {
    /// A lane of this instance serves.
    Served {
        id: InstanceId,
        lane: Arc<dyn Backend>,
    },
    LaneGone {
        id: InstanceId,
        lane: LaneId,
    },
    /// Every lane is up or known to be impossible.
    Ready {
        id: InstanceId,
    },
    Over {
        id: InstanceId,
        end: End,
    },
    /// The lanes are free, or time is up.
    Drained {
        id: InstanceId,
    },
    Memory {
        id: InstanceId,
        bytes: Option<u64>,
    },
    Lease {
        instance: InstanceId,
        lease: LeaseId,
        expires: Instant,
        granted: oneshot::Sender<bool>,
    },
    Release {
        instance: InstanceId,
        lease: LeaseId,
    },
    /// Other numbers of instances are wanted.
    Target {
        fleets: Vec<Fleet>,
        done: oneshot::Sender<()>,
    },
    /// Launches it anew, also when it had failed; answers whether there is such an instance.
    Restart {
        id: InstanceId,
        threads: Option<u32>,
        known: oneshot::Sender<bool>,
    },
}

/// What the machine has left.
struct Room {
    machine: Machine,
    /// Taken by lanes that compute.
    busy_cores: f64,
}

impl Room {
    /// Whether the machine bears one more browser like the largest, which holds `most` bytes.
    fn bears(&self, most: Option<u64>) -> bool {
        let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get) as f64;
        let memory = most.unwrap_or(BROWSER_MEMORY) + MEMORY_KEPT;
        self.busy_cores < cores && self.machine.memory_left().is_none_or(|left| left >= memory)
    }
}

/// One recipe's instances.
struct Group {
    fleet: Fleet,
    breaker: Breaker,
    scale: Scale,
    slots: BTreeMap<InstanceId, Slot>,
}

pub(super) struct Actor {
    shared: Shared,
    inbox: mpsc::Sender<Message>,
    leases: Leases,
    /// Requests that no lane has room for, as the scheduler counts them.
    backlog: Arc<AtomicUsize>,
    groups: Vec<Group>,
    looked: Instant,
}

impl Actor {
    pub(super) fn new(
        fleets: Vec<Fleet>,
        shared: Shared,
        inbox: mpsc::Sender<Message>,
        leases: Leases,
        backlog: Arc<AtomicUsize>,
    ) -> Self {
        let now = Instant::now();
        let groups = fleets.into_iter().map(|fleet| Group::new(fleet, now)).collect();
        Self { shared, inbox, leases, backlog, groups, looked: now }
    }

    pub(super) async fn run(mut self, mut messages: mpsc::Receiver<Message>) {
        let stopping = self.shared.tasks.stopping();
        let mut ticks = interval(TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        ticks.reset();
        loop {
            let due = self.due();
            tokio::select! {
                biased;
                () = stopping.cancelled() => return,
                Some(message) = messages.recv() => self.message(message).await,
                _ = ticks.tick() => self.look().await,
                () = tokio::time::sleep_until(due) => {}
            }
            self.reconcile();
        }
    }

    async fn message(&mut self, message: Message) {
        let now = Instant::now();
        match message {
            Message::Served { id, lane } => self.served(&id, lane),
            Message::LaneGone { id, lane } => {
                if let Some((_, slot)) = self.slot(&id) {
                    slot.lanes.remove(&lane);
                }
            }
            Message::Ready { id } => self.ready(&id),
            Message::Over { id, end } => self.over(&id, end, now).await,
            Message::Drained { id } => {
                if let Some((_, Slot { phase: Phase::Running { close, draining: Some(_), .. }, .. })) =
                    self.slot(&id)
                {
                    close.cancel();
                }
            }
            Message::Memory { id, bytes } => self.memory(&id, bytes).await,
            Message::Lease { instance, lease, expires, granted } => {
                self.lease(&instance, lease, expires, granted).await;
            }
            Message::Release { instance, lease } => self.release(&instance, &lease).await,
            Message::Target { fleets, done } => {
                self.target(fleets, now).await;
                // Whoever asked may have left.
                let _ = done.send(());
            }
            Message::Restart { id, threads, known } => {
                // Whoever asked may have left.
                let _ = known.send(self.restart(&id, threads, now).await);
            }
        }
    }

    fn slot(&mut self, id: &InstanceId) -> Option<(&mut Breaker, &mut Slot)> {
        self.groups.iter_mut().find_map(|group| Some((&mut group.breaker, group.slots.get_mut(id)?)))
    }

    fn served(&mut self, id: &InstanceId, lane: Arc<dyn Backend>) {
        let Some((breaker, slot)) = self.slot(id) else { return };
        breaker.served();
        slot.fruitless = 0;
        if let Phase::Running { served, .. } = &mut slot.phase {
            *served = true;
        }
        slot.lanes.insert(lane.environment().lane.clone(), lane);
    }

    fn ready(&mut self, id: &InstanceId) {
        for group in &mut self.groups {
            let browser = &group.fleet.browser;
            let Some(slot) = group.slots.get_mut(id) else { continue };
            if slot.steady() && !std::mem::replace(&mut slot.offered, true) {
                self.leases.offer(browser, id.clone());
            }
        }
    }

    /// Decides what follows a life.
    async fn over(&mut self, id: &InstanceId, end: End, now: Instant) {
        let shared = self.shared.clone();
        let Some((breaker, slot)) = self.slot(id) else { return };
        let Phase::Running { since, served, ref draining, .. } = slot.phase else { return };
        let drained = draining.is_some();
        slot.lanes.clear();
        slot.memory = None;
        if slot.leaving {
            return self.gone(id).await;
        }
        if !matches!(end, End::Lost { .. }) {
            breaker.called_off(now);
        }
        let (reason, until) = match end {
            End::Stopped => return,
            End::Never { reason } => {
                slot.phase = Phase::Failed;
                return self.fail(id, reason).await;
            }
            End::NoAdapter => ("launching again with a software adapter".to_owned(), now),
            End::Closed => (draining.clone().unwrap_or_default(), now),
            End::Lost { reason } => {
                if !served {
                    breaker.fruitless(now);
                }
                let pause = slot.pause(now - since, served);
                (reason, now + pause)
            }
        };
        let failed = if slot.fruitless >= FRUITLESS_MAX {
            Some(format!("{FRUITLESS_MAX} launches in a row came to nothing: {reason}"))
        } else if !drained && !breaker.restart(now) {
            Some(format!("its recipe was launched again too often within an hour, at last: {reason}"))
        } else {
            None
        };
        if let Some(reason) = failed {
            slot.phase = Phase::Failed;
            return self.fail(id, reason).await;
        }
        slot.phase = Phase::Waiting { until };
        if drained {
            tracing::info!(instance = %id, reason, "instance drained, launching again");
        } else {
            tracing::warn!(instance = %id, reason, pause_ms = (until - now).as_millis(), "instance lost, launching again");
        }
        self.starting(id, Some(reason)).await;
        if drained {
            shared.tell(PoolEvent::Held { instance: id.clone(), hold: Hold::Open, free: None }).await;
        }
    }

    /// Says that this instance's lanes may come; whoever asks for one waits from now on.
    async fn starting(&mut self, id: &InstanceId, reason: Option<String>) {
        for group in self.groups.iter().filter(|group| group.slots.contains_key(id)) {
            self.shared.starting(&group.fleet, id, reason.clone()).await;
        }
    }

    async fn fail(&mut self, id: &InstanceId, reason: String) {
        for group in self.groups.iter().filter(|group| group.slots.contains_key(id)) {
            self.shared.fail(&group.fleet, id, reason.clone()).await;
        }
    }

    /// Forgets an instance that is not wanted any more.
    async fn gone(&mut self, id: &InstanceId) {
        for group in &mut self.groups {
            group.slots.remove(id);
        }
        self.shared.status.remove(id);
        self.shared.tell(PoolEvent::Gone { instance: id.clone() }).await;
    }

    /// Launches what is wanted and due.
    fn reconcile(&mut self) {
        let now = Instant::now();
        let mut launches = Vec::new();
        for group in &mut self.groups {
            for (id, slot) in &mut group.slots {
                let due = matches!(slot.phase, Phase::Waiting { until } if until <= now);
                if !due {
                    continue;
                }
                if !group.breaker.permits(now) {
                    self.shared.status.reason(
                        id,
                        "its recipe failed to launch several times in a row; the next try is due soon",
                    );
                    continue;
                }
                let close = self.shared.tasks.stopping();
                let (since, served, draining) = (now, false, None);
                slot.phase = Phase::Running { close: close.clone(), since, served, draining };
                let threads = slot.threads.unwrap_or(group.fleet.threads);
                launches.push((Fleet { threads, ..group.fleet.clone() }, id.clone(), close));
            }
        }
        for (fleet, id, close) in launches {
            let (shared, inbox) = (self.shared.clone(), self.inbox.clone());
            self.shared.tasks.spawn("instance", async move {
                let end = instance::live(&fleet, &id, close, &shared, &inbox).await;
                // The actor outlives every instance but those of a stopping daemon.
                let _ = inbox.send(Message::Over { id, end }).await;
            });
        }
    }

    /// When the next launch is due.
    fn due(&self) -> Instant {
        let waiting = |group: &Group| {
            let opens = group.breaker.opens();
            let untils = group.slots.values().filter_map(|slot| match slot.phase {
                Phase::Waiting { until } => Some(opens.map_or(until, |opens| opens.max(until))),
                _ => None,
            });
            untils.min()
        };
        // A trial under way ends with a message of its own.
        let due = self.groups.iter().filter(|group| !group.breaker.on_trial()).filter_map(waiting).min();
        due.unwrap_or_else(|| Instant::now() + FAR)
    }

    /// The slow look: who has done enough, holds too much, idles, or is pressed.
    async fn look(&mut self) {
        let now = Instant::now();
        let elapsed = now - std::mem::replace(&mut self.looked, now);
        let (mut drains, mut expired) = (Vec::new(), Vec::new());
        let room = Room {
            machine: Machine::read(),
            busy_cores: self.groups.iter_mut().map(|group| group.measure(elapsed)).sum(),
        };
        for group in &mut self.groups {
            for (id, slot) in &group.slots {
                if let Some((lease, expires)) = &slot.lease
                    && *expires <= now
                {
                    expired.push((id.clone(), lease.clone()));
                }
                let runs = slot.activity().executed;
                self.shared.status.figures(id, |status| status.executed = runs);
                if slot.steady() && group.fleet.limits.runs.is_some_and(|most| runs >= most) {
                    drains.push((id.clone(), format!("it has run {runs} steps"), false));
                }
            }
            let waiting = self.backlog.load(Ordering::Relaxed);
            if let Some((id, reason)) = group.rescale(now, waiting, &room) {
                drains.push((id, reason, true));
            }
        }
        for (id, lease) in expired {
            tracing::info!(instance = %id, %lease, "the lease is over");
            self.release(&id, &lease).await;
            self.leases.ended(&lease);
        }
        for (id, reason, leaving) in drains {
            if let Some((_, slot)) = self.slot(&id) {
                slot.leaving |= leaving;
            }
            self.drain(&id, reason).await;
        }
        self.grown().await;
        self.weigh(now);
    }

    /// Announces what `rescale` has added.
    async fn grown(&mut self) {
        for group in &self.groups {
            for id in group.slots.keys() {
                if !self.shared.status.knows(id) {
                    self.shared.starting(&group.fleet, id, None).await;
                }
            }
        }
    }

    /// Has the memory of running browsers looked up, off the runtime.
    fn weigh(&mut self, now: Instant) {
        for (id, slot) in self.groups.iter_mut().flat_map(|group| &mut group.slots) {
            let Some(process) = self.shared.status.process(id).filter(|_| slot.weigh(now)) else { continue };
            let (id, inbox) = (id.clone(), self.inbox.clone());
            self.shared.tasks.spawn("memory", async move {
                let bytes = aside("memory", move || procs::memory(process)).await.unwrap_or_else(|error| {
                    tracing::warn!(%error, "a browser's memory could not be looked up");
                    None
                });
                let _ = inbox.send(Message::Memory { id, bytes }).await;
            });
        }
    }

    async fn memory(&mut self, id: &InstanceId, bytes: Option<u64>) {
        self.shared.status.figures(id, |status| status.memory_bytes = bytes);
        let Some(group) = self.groups.iter_mut().find(|group| group.slots.contains_key(id)) else { return };
        let most = group.fleet.limits.memory;
        let Some(slot) = group.slots.get_mut(id) else { return };
        slot.memory = bytes;
        if let (Some(bytes), Some(most)) = (bytes, most)
            && bytes > most
            && slot.steady()
        {
            self.drain(id, format!("it holds {} MiB, more than {}", bytes >> 20, most >> 20)).await;
        }
    }

    /// Keeps new steps off an instance and closes it once its lanes are free.
    async fn drain(&mut self, id: &InstanceId, why: String) {
        let shared = self.shared.clone();
        let inbox = self.inbox.clone();
        let Some((_, slot)) = self.slot(id) else { return };
        let Phase::Running { draining: draining @ None, .. } = &mut slot.phase else { return };
        *draining = Some(why.clone());
        shared.status.instance(id, |status| {
            status.state = InstanceState::Draining;
            status.reason = Some(why);
        });
        let (free, freed) = oneshot::channel();
        let hold = Hold::Draining;
        shared.tell(PoolEvent::Held { instance: id.clone(), hold, free: Some(free) }).await;
        let id = id.clone();
        shared.tasks.spawn("drain", async move {
            // Late or free, the browser is closed: what still runs there is tried again elsewhere.
            let _ = tokio::time::timeout(DRAIN_WITHIN, freed).await;
            let _ = inbox.send(Message::Drained { id }).await;
        });
    }

    async fn lease(
        &mut self,
        id: &InstanceId,
        lease: LeaseId,
        expires: Instant,
        granted: oneshot::Sender<bool>,
    ) {
        let shared = self.shared.clone();
        let slot = self.slot(id).map(|(_, slot)| slot);
        if !slot.as_ref().is_some_and(|slot| slot.steady()) {
            if let Some(slot) = slot {
                slot.offered = false;
            }
            // Whoever asked may have left.
            let _ = granted.send(false);
            return;
        }
        let Some(slot) = slot else { return };
        slot.lease = Some((lease.clone(), expires));
        shared.status.instance(id, |status| status.lease = Some(lease.clone()));
        let (free, freed) = oneshot::channel();
        let hold = Hold::Leased(lease);
        shared.tell(PoolEvent::Held { instance: id.clone(), hold, free: Some(free) }).await;
        shared.tasks.spawn("lease", async move {
            // A caller that has left meanwhile gives it back by its own end, or the lease runs out.
            let _ = granted.send(freed.await.is_ok());
        });
    }

    async fn release(&mut self, id: &InstanceId, lease: &LeaseId) {
        let shared = self.shared.clone();
        let Some((_, slot)) = self.slot(id) else { return };
        if slot.lease.as_ref().is_none_or(|(held, _)| held != lease) {
            return;
        }
        slot.lease = None;
        shared.status.instance(id, |status| status.lease = None);
        let leaving = slot.leaving;
        shared.tell(PoolEvent::Held { instance: id.clone(), hold: Hold::Open, free: None }).await;
        if leaving {
            self.drain(id, target::UNWANTED.to_owned()).await;
        }
    }

    async fn restart(&mut self, id: &InstanceId, threads: Option<u32>, now: Instant) -> bool {
        let Some((breaker, slot)) = self.slot(id) else { return false };
        slot.threads = threads;
        match slot.phase {
            Phase::Running { .. } => self.drain(id, "somebody asked for it".to_owned()).await,
            Phase::Waiting { .. } | Phase::Failed => {
                breaker.reset();
                slot.fruitless = 0;
                slot.phase = Phase::Waiting { until: now };
                self.starting(id, None).await;
            }
        }
        true
    }
}

impl Group {
    fn new(fleet: Fleet, now: Instant) -> Self {
        Self {
            breaker: Breaker::new(fleet.limits.restarts),
            scale: Scale::new(fleet.instances, fleet.limits.idle),
            slots: (1..=fleet.instances.least)
                .map(|number| (fleet.instance(number), Slot::new(now)))
                .collect(),
            fleet,
        }
    }

    /// Takes note of how busy the lanes were; answers how many cores that took.
    fn measure(&mut self, elapsed: Duration) -> f64 {
        let spent = self.slots.values_mut().map(|slot| {
            let threads = f64::from(slot.threads.unwrap_or(self.fleet.threads));
            slot.measure(elapsed) * slot.cpu_lanes() as f64 * threads
        });
        spent.sum()
    }

    /// Adds an instance, or answers which one is to go and why.
    fn rescale(&mut self, now: Instant, waiting: usize, room: &Room) -> Option<(InstanceId, String)> {
        let instances = self.slots.values().filter(|slot| !slot.leaving).count() as u32;
        let last = self.slots.iter().rev().find(|(_, slot)| slot.steady());
        let idle = last.map_or(Duration::ZERO, |(_, slot)| slot.idle(now));
        let shares = self.slots.values().map(|slot| slot.utilisation);
        let seen = Seen {
            now,
            instances,
            utilisation: shares.sum::<f64>() / self.slots.len().max(1) as f64,
            waiting,
            idle,
            room: room.bears(self.slots.values().filter_map(|slot| slot.memory).max()),
        };
        match self.scale.decide(seen) {
            Decision::Grow => {
                let free = (1..).map(|number| self.fleet.instance(number));
                let id = free.into_iter().find(|id| !self.slots.contains_key(id))?;
                tracing::info!(instance = %id, waiting, utilisation = seen.utilisation, "one more instance");
                self.slots.insert(id, Slot::new(now));
                None
            }
            Decision::Shrink => {
                let id = last.map(|(id, _)| id.clone())?;
                Some((id, format!("it has done nothing for {} s", idle.as_secs())))
            }
            Decision::Refused => {
                tracing::warn!(
                    browser = self.fleet.browser,
                    "one more instance is wanted, but this machine would not bear it"
                );
                None
            }
            Decision::Stay => None,
        }
    }
}
