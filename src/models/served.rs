//! What became of a model's requests, counted as they are answered.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use crate::domain::{Timing, Uses};

/// So many times, so long altogether.
#[derive(Debug, Default)]
pub struct Tally {
    count: AtomicU64,
    ns: AtomicU64,
}

impl Tally {
    fn add(&self, took: Duration) {
        self.count.fetch_add(1, Ordering::Relaxed);
        self.ns.fetch_add(took.as_nanos() as u64, Ordering::Relaxed);
    }

    pub fn count(&self) -> u64 {
        self.count.load(Ordering::Relaxed)
    }

    pub fn ns(&self) -> u64 {
        self.ns.load(Ordering::Relaxed)
    }
}

/// Since the model was added, or the daemon started.
#[derive(Debug, Default)]
pub struct Served {
    /// Requests answered before this daemon.
    before: u64,
    /// Uses that the store knows of.
    written: AtomicU64,
    last_ms: AtomicU64,
    /// Answers until the last review of the model's standing plan.
    reviewed: AtomicU64,
    steps: AtomicU64,
    rows: AtomicU64,
    pub success: Tally,
    pub fail: Tally,
    pub queue: Tally,
    /// Transfer and decoding.
    pub compute_input: Tally,
    pub compute_infer: Tally,
    pub compute_output: Tally,
}

impl Served {
    /// Goes on from what the store knows.
    pub fn after(Uses { uses, last_used_ms }: Uses) -> Self {
        Self { before: uses, written: uses.into(), last_ms: last_used_ms.into(), ..Self::default() }
    }

    pub fn uses(&self) -> Uses {
        Uses { uses: self.before + self.success.count(), last_used_ms: self.last_ms() }
    }

    /// Answers since the last review of the model's standing plan.
    pub fn unreviewed(&self) -> u64 {
        self.success.count().saturating_sub(self.reviewed.load(Ordering::Relaxed))
    }

    pub fn reviewed(&self) {
        self.reviewed.store(self.success.count(), Ordering::Relaxed);
    }

    /// What the store does not know yet.
    pub(super) fn unwritten(&self) -> Option<Uses> {
        let uses = self.uses();
        (uses.uses != self.written.load(Ordering::Relaxed)).then_some(uses)
    }

    pub(super) fn wrote(&self, uses: Uses) {
        self.written.store(uses.uses, Ordering::Relaxed);
    }

    /// Counts an answer; `now_us` is the time since the Unix epoch.
    pub fn succeeded(&self, timing: Timing, now_us: i64) {
        let Timing { queue, transfer, decode, compute, encode, total } = timing;
        let tallies = [
            (&self.success, total),
            (&self.queue, queue),
            (&self.compute_input, transfer + decode),
            (&self.compute_infer, compute),
            (&self.compute_output, encode),
        ];
        for (tally, us) in tallies {
            tally.add(Duration::from_micros(us));
        }
        self.asked(now_us);
    }

    /// Counts a step that a lane has run, for how many rows it ran.
    pub fn executed(&self, rows: u64) {
        self.steps.fetch_add(1, Ordering::Relaxed);
        self.rows.fetch_add(rows, Ordering::Relaxed);
    }

    pub fn steps(&self) -> u64 {
        self.steps.load(Ordering::Relaxed)
    }

    /// What the steps have computed: each row is one inference, and so is a request that no other may join.
    pub fn rows(&self) -> u64 {
        self.rows.load(Ordering::Relaxed)
    }

    pub fn failed(&self, took: Duration, now_us: i64) {
        self.fail.add(took);
        self.asked(now_us);
    }

    fn asked(&self, now_us: i64) {
        self.last_ms.fetch_max(u64::try_from(now_us / 1000).unwrap_or(0), Ordering::Relaxed);
    }

    /// When a request was last answered, in milliseconds since the Unix epoch; 0 for never.
    pub fn last_ms(&self) -> u64 {
        self.last_ms.load(Ordering::Relaxed)
    }
}
