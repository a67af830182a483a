//! Which slow requests get a second copy in another lane, after how long, and how many may. Pure.

use std::time::Duration;

use super::Wants;
use crate::domain::Policy;

/// What one hedge costs: the budget is counted in hundredths, since a request earns so many percent of one.
const COST: u32 = 100;

/// Hedges that quiet times save up: enough for what one lane that hangs holds up, too few to double a busy pool's load.
const SAVED_MAX: u32 = 4;

/// What may still be hedged: a share of the requests that were given to lanes, never of those to come.
#[derive(Debug, Default)]
pub(super) struct Budget(u32);

impl Budget {
    /// So many requests were given to lanes.
    pub(super) fn earn(&mut self, requests: usize, percent: u32) {
        let earned = u32::try_from(requests).unwrap_or(u32::MAX).saturating_mul(percent);
        self.0 = self.0.saturating_add(earned).min(SAVED_MAX * COST);
    }

    /// Takes one, if there is one.
    pub(super) fn spend(&mut self) -> bool {
        let left = self.0.checked_sub(COST);
        self.0 = left.unwrap_or(self.0);
        left.is_some()
    }
}

/// What of a step decides, when its lane gets it.
pub(super) struct Started<'a> {
    /// In the step.
    pub(super) requests: usize,
    pub(super) attempt: u32,
    pub(super) sequence: bool,
    pub(super) wants: &'a Wants,
    /// Steps in the lane, this one included.
    pub(super) steps: usize,
    /// What 95 of 100 steps of the model take at most, in microseconds, once enough were seen.
    pub(super) p95: Option<f64>,
}

/// How long the lane has before its request may get a second copy; `None` where it never may.
pub(super) fn after(started: &Started<'_>) -> Option<Duration> {
    let Started { requests, attempt, sequence, wants, steps, p95 } = *started;
    // A sequence's state is in its lane, and who has chosen the lane wants no other.
    let bound = sequence || wants.policy == Policy::Pin || wants.lease.is_some();
    // What shares a step would take its whole step along, and what was tried before has had its second chance.
    if bound || requests != 1 || attempt != 1 {
        return None;
    }
    // It may wait for the lane's other step, which is nothing that another lane is needed for.
    p95.map(|p95| Duration::from_micros((p95 * steps as f64) as u64))
}

#[cfg(test)]
mod tests;
