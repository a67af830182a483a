//! How many instances a recipe should have, from how busy those are that it has. Pure.

use std::time::Duration;

use tokio::time::Instant;

/// Weight of the newest sample in the running mean of the utilisation.
const EWMA_WEIGHT: f64 = 0.2;

/// Above this share of their lanes' time, one more instance is wanted.
const BUSY: f64 = 0.7;

/// Below this share, both now and on average, one fewer is.
const IDLE: f64 = 0.3;

/// What a change brings shows only after the new instance has loaded its models.
const COOLDOWN: Duration = Duration::from_secs(30);

/// Bounds on the instances of one recipe.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    pub least: u32,
    pub most: u32,
}

/// What is known when the decision falls.
#[derive(Clone, Copy, Debug)]
pub(super) struct Seen {
    pub(super) now: Instant,
    pub(super) instances: u32,
    /// Share of the lanes' time since the last look that was spent on steps.
    pub(super) utilisation: f64,
    /// Requests that no lane has room for.
    pub(super) waiting: usize,
    /// How long the instance that would go has done nothing.
    pub(super) idle: Duration,
    /// Whether the machine bears one more.
    pub(super) room: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Decision {
    Grow,
    Shrink,
    Stay,
    /// One more is wanted, and the machine would not bear it.
    Refused,
}

#[derive(Debug)]
pub(super) struct Scale {
    bounds: Bounds,
    /// An instance beyond the least goes after it has done nothing for so long.
    idle_after: Duration,
    mean: f64,
    changed: Option<Instant>,
}

impl Scale {
    pub(super) fn new(bounds: Bounds, idle_after: Duration) -> Self {
        Self { bounds, idle_after, mean: 0.0, changed: None }
    }

    /// Decides by other bounds from now on.
    pub(super) fn adopt(&mut self, bounds: Bounds, idle_after: Duration) {
        self.bounds = bounds;
        self.idle_after = idle_after;
    }

    pub(super) fn decide(&mut self, seen: Seen) -> Decision {
        self.mean += (seen.utilisation - self.mean) * EWMA_WEIGHT;
        let cooling = self.changed.is_some_and(|changed| seen.now - changed < COOLDOWN);
        if self.bounds.least == self.bounds.most || cooling {
            return Decision::Stay;
        }
        let pressed = seen.waiting > 0 && seen.utilisation > BUSY;
        let decision = if pressed && seen.instances < self.bounds.most {
            if !seen.room {
                return Decision::Refused;
            }
            Decision::Grow
        } else if seen.instances > self.bounds.least
            && seen.waiting == 0
            && seen.utilisation < IDLE
            && self.mean < IDLE
            && seen.idle >= self.idle_after
        {
            Decision::Shrink
        } else {
            return Decision::Stay;
        };
        self.changed = Some(seen.now);
        decision
    }
}
