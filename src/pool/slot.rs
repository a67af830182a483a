//! What the actor knows of one instance that it keeps.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::{
    backend::{Activity, Backend},
    domain::{LaneId, LeaseId},
};

/// Launches in a row that never served before the instance is given up.
pub(super) const FRUITLESS_MAX: u32 = 4;

/// A browser that served for so long was a good one and is launched again at once; others ever more slowly.
const LIVED_FOR: Duration = Duration::from_secs(5);

const BACKOFF_FIRST: Duration = Duration::from_millis(250);
const BACKOFF_MAX: Duration = Duration::from_secs(15);

/// A browser that does nothing grows slowly, and looking costs milliseconds for each of its processes.
const WEIGHED_AT_REST: Duration = Duration::from_secs(30);

pub(super) struct Slot {
    pub(super) phase: Phase,
    pub(super) lanes: BTreeMap<LaneId, Arc<dyn Backend>>,
    /// Launches in a row that never served.
    pub(super) fruitless: u32,
    /// Lives in a row that ended early.
    short: u32,
    /// Not to be launched again.
    pub(super) leaving: bool,
    pub(super) lease: Option<(LeaseId, Instant)>,
    /// Of each of its lanes from the next launch on, where somebody asked for it.
    pub(super) threads: Option<u32>,
    /// deadpool has a token for it.
    pub(super) offered: bool,
    pub(super) memory: Option<u64>,
    /// When memory was looked up; the launch and the steps until then.
    weighed: Option<(Instant, (Instant, u64))>,
    /// Share of its lanes' time that went into steps before the last look.
    pub(super) utilisation: f64,
    /// What its lanes had done at the last look.
    seen: Activity,
}

pub(super) enum Phase {
    /// To be launched then.
    Waiting {
        until: Instant,
    },
    Running {
        close: CancellationToken,
        since: Instant,
        served: bool,
        /// Why it is to be closed once its lanes are free.
        draining: Option<String>,
    },
    Failed,
}

impl Slot {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            phase: Phase::Waiting { until: now },
            lanes: BTreeMap::new(),
            fruitless: 0,
            short: 0,
            leaving: false,
            lease: None,
            threads: None,
            offered: false,
            memory: None,
            weighed: None,
            utilisation: 0.0,
            seen: Activity::default(),
        }
    }

    /// Whether it serves and nothing else is planned for it.
    pub(super) fn steady(&self) -> bool {
        matches!(self.phase, Phase::Running { served: true, draining: None, .. }) && self.lease.is_none()
    }

    /// Whether memory is to be looked up now: at every look after a launch or a step, else seldom.
    pub(super) fn weigh(&mut self, now: Instant) -> bool {
        let Phase::Running { since, .. } = self.phase else { return false };
        let Activity { executed, in_flight, .. } = self.activity();
        let done = (since, executed);
        let rests = |(at, then)| then == done && in_flight == 0 && now - at < WEIGHED_AT_REST;
        let due = !self.weighed.is_some_and(rests);
        if due {
            self.weighed = Some((now, done));
        }
        due
    }

    /// How long to wait before the next launch.
    pub(super) fn pause(&mut self, lived: Duration, served: bool) -> Duration {
        self.fruitless = if served { 0 } else { self.fruitless + 1 };
        self.short = if served && lived >= LIVED_FOR { 0 } else { self.short + 1 };
        match self.short {
            0 => Duration::ZERO,
            short => BACKOFF_MAX.min(BACKOFF_FIRST * 2u32.saturating_pow(short - 1)),
        }
    }

    /// Everything that its lanes have done since their start.
    pub(super) fn activity(&self) -> Activity {
        self.lanes.values().map(|lane| lane.activity()).fold(Activity::default(), Activity::and)
    }

    /// How long nothing has been asked of it since it was launched.
    pub(super) fn idle(&self, now: Instant) -> Duration {
        let Phase::Running { since, .. } = self.phase else { return Duration::ZERO };
        self.activity().idle(now.into_std(), since.into_std())
    }

    /// Lanes that compute on the processor.
    pub(super) fn cpu_lanes(&self) -> usize {
        let on_cpu = |lane: &&Arc<dyn Backend>| !lane.environment().backend.on_gpu();
        self.lanes.values().filter(on_cpu).count()
    }

    /// Takes note of the share of its lanes' time that went into steps since the last look, `elapsed` ago.
    pub(super) fn measure(&mut self, elapsed: Duration) -> f64 {
        let now = self.activity();
        let before = std::mem::replace(&mut self.seen, now);
        // A lane that was started anew counts from zero.
        let spent = now.busy_us.checked_sub(before.busy_us).unwrap_or(now.busy_us);
        let lanes = self.lanes.len().max(1) as f64;
        self.utilisation = (spent as f64 / elapsed.as_micros().max(1) as f64 / lanes).min(1.0);
        if now.in_flight > 0 && now.executed == before.executed {
            // A step that takes longer than a look is not counted before its end.
            self.utilisation = 1.0;
        }
        self.utilisation
    }
}
