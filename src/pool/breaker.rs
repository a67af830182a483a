//! A recipe's circuit breaker: after several launches in a row that came to nothing, none is tried for a while,
//! then one at a time. Pure.

use std::{collections::VecDeque, time::Duration};

use tokio::time::Instant;

/// Fruitless launches in a row, over all instances of the recipe, that open the circuit.
const FAILURES_MAX: u32 = 5;

/// A browser that cannot start now, for want of memory or of a file, may in half a minute.
const OPEN_FOR: Duration = Duration::from_secs(30);

/// What restarts are counted over.
const WINDOW: Duration = Duration::from_secs(3600);

#[derive(Debug)]
pub(super) struct Breaker {
    circuit: Circuit,
    /// Launches in a row that came to nothing.
    failures: u32,
    /// When instances were started anew after a loss, within [`WINDOW`].
    restarts: VecDeque<Instant>,
    restarts_max: usize,
}

#[derive(Debug, PartialEq, Eq)]
enum Circuit {
    Closed,
    Open {
        until: Instant,
    },
    /// One launch is under way, and its outcome decides.
    Trial,
}

impl Breaker {
    pub(super) fn new(restarts_max: usize) -> Self {
        Self { circuit: Circuit::Closed, failures: 0, restarts: VecDeque::new(), restarts_max }
    }

    /// Allows so many restarts from now on.
    pub(super) fn allow(&mut self, restarts_max: usize) {
        self.restarts_max = restarts_max;
    }

    /// Whether a launch may begin now; after an open circuit the first one that asks is the trial.
    pub(super) fn permits(&mut self, now: Instant) -> bool {
        match self.circuit {
            Circuit::Closed => true,
            Circuit::Open { until } if until <= now => {
                self.circuit = Circuit::Trial;
                true
            }
            Circuit::Open { .. } | Circuit::Trial => false,
        }
    }

    pub(super) fn served(&mut self) {
        self.circuit = Circuit::Closed;
        self.failures = 0;
    }

    pub(super) fn fruitless(&mut self, now: Instant) {
        self.failures += 1;
        if self.circuit == Circuit::Trial || self.failures >= FAILURES_MAX {
            self.circuit = Circuit::Open { until: now + OPEN_FOR };
        }
    }

    /// A trial that was called off says nothing.
    pub(super) fn called_off(&mut self, now: Instant) {
        if self.circuit == Circuit::Trial {
            self.circuit = Circuit::Open { until: now };
        }
    }

    /// Whether the outcome of one launch decides about the others.
    pub(super) fn on_trial(&self) -> bool {
        self.circuit == Circuit::Trial
    }

    /// When the next launch may be tried; `None` unless the circuit is open.
    pub(super) fn opens(&self) -> Option<Instant> {
        match self.circuit {
            Circuit::Open { until } => Some(until),
            Circuit::Closed | Circuit::Trial => None,
        }
    }

    /// Counts a restart; says whether it is one too many.
    pub(super) fn restart(&mut self, now: Instant) -> bool {
        while self.restarts.front().is_some_and(|first| now - *first > WINDOW) {
            self.restarts.pop_front();
        }
        if self.restarts.len() >= self.restarts_max {
            return false;
        }
        self.restarts.push_back(now);
        true
    }

    /// Somebody has seen to it.
    pub(super) fn reset(&mut self) {
        *self = Self::new(self.restarts_max);
    }
}
