//! Which queued requests become one step, and when. Pure: it is told the time.
//!
//! A lane that is free takes what waits for it, up to the model's limit. A model with a delay has its requests wait
//! for others while a lane is free, but never so long that one of them would be late for it.

use std::time::Duration;

use tokio::time::Instant;

use super::{Request, queue::Place};
use crate::domain::{Batching, rows};

/// Bytes of a step's inputs at most; one request alone may be larger.
const BYTES_MAX: usize = 64 << 20;

/// What a step may take longer than it is expected to without making its requests late.
const MARGIN: Duration = Duration::from_millis(2);

/// Whether the model's requests may share a step at all.
pub(super) fn joins(batching: &Batching) -> bool {
    batching.barred.is_none() && batching.max > 1
}

/// Whether `other` may share a step with `first`. The queue keeps apart what differs in more than its inputs.
pub(super) fn alike(first: &Request, other: &Request) -> bool {
    let same = |tensor: &crate::domain::Tensor| {
        let found = other.inputs.iter().find(|other| other.name == tensor.name);
        found.is_some_and(|found| {
            found.datatype == tensor.datatype && found.shape.get(1..) == tensor.shape.get(1..)
        })
    };
    rows(&first.inputs) > 0 && rows(&other.inputs) > 0 && first.inputs.iter().all(same)
}

/// What a step has taken in so far.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Fill {
    pub(super) rows: u64,
    pub(super) bytes: usize,
}

impl Fill {
    pub(super) fn first(request: &Request) -> Self {
        Self { rows: rows(&request.inputs), bytes: bytes(request) }
    }

    /// With one request more; `None` when the step is full without it.
    pub(super) fn with(self, request: &Request, batching: &Batching) -> Option<Self> {
        let rows =
            self.rows.checked_add(rows(&request.inputs)).filter(|rows| *rows <= u64::from(batching.max))?;
        let bytes = self.bytes.checked_add(bytes(request)).filter(|bytes| *bytes <= BYTES_MAX)?;
        Some(Self { rows, bytes })
    }
}

fn bytes(request: &Request) -> usize {
    request.inputs.iter().map(|tensor| tensor.body.len()).sum()
}

/// Those that wait for the same step.
#[derive(Clone, Copy, Debug)]
pub(super) struct Waiting {
    pub(super) oldest: Instant,
    pub(super) earliest_deadline: Instant,
    /// When the first of them has spent half of its time.
    pub(super) half_spent: Instant,
}

impl Waiting {
    pub(super) fn of(place: &Place) -> Self {
        let Place { arrived, deadline, .. } = *place;
        let half_spent = arrived + (deadline - arrived) / 2;
        Self { oldest: arrived, earliest_deadline: deadline, half_spent }
    }

    pub(super) fn and(self, other: Self) -> Self {
        Self {
            oldest: self.oldest.min(other.oldest),
            earliest_deadline: self.earliest_deadline.min(other.earliest_deadline),
            half_spent: self.half_spent.min(other.half_spent),
        }
    }
}

/// When a step that has room for more is to be sent to a lane that is free; `None` for at once.
pub(super) fn held_until(
    batching: &Batching,
    waiting: Waiting,
    expected: Duration,
    now: Instant,
) -> Option<Instant> {
    if batching.delay.is_zero() {
        return None;
    }
    let waited = waiting.oldest + batching.delay;
    let latest = waiting.earliest_deadline.checked_sub(expected + MARGIN).unwrap_or(now);
    // What a step takes is but a guess, so that waiting for others may cost nobody more than half of its time.
    let until = waited.min(latest).min(waiting.half_spent);
    (until > now).then_some(until)
}

/// How many of the first requests make the largest step whose rows a lane has a session for, in a lane that has one
/// per size. `sums` has the rows of the first, the first two, and so on.
pub(super) fn sized(sums: &[u64], has: impl Fn(u64) -> bool) -> usize {
    (1..sums.len()).rev().find(|at| has(sums[*at])).map_or(1, |at| at + 1)
}

#[cfg(test)]
mod tests;
