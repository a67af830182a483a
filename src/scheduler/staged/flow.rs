//! How many requests of one plan may be on their way to each of its stages. Pure.
//!
//! A stage starts only where those that read what it makes have room, so that a slow stage holds back the first one and
//! values do not pile up before it. Room is given in the order in which requests came: the oldest always has some, so
//! that requests cannot wait for each other.

use std::collections::{BTreeMap, BTreeSet};

use crate::domain::Plan;

/// Requests between the start of a stage and the end of one that reads what it makes: two steps of eight, which is what
/// a lane takes at a time.
pub(super) const CREDITS: usize = 16;

/// A request's number: smaller ones came earlier.
pub(super) type Number = u64;

/// Requests under way, each with whatever wakes it.
pub(super) struct Flow<W> {
    /// Of each stage, those that read what it makes.
    readers: Vec<Vec<usize>>,
    /// Of each stage, the requests that have yet to leave it.
    ahead: Vec<BTreeSet<Number>>,
    wakes: BTreeMap<Number, W>,
    next: Number,
}

impl<W: Clone> Flow<W> {
    pub(super) fn new(plan: &Plan) -> Self {
        let stages = plan.stages.len();
        Self {
            readers: (0..stages).map(|stage| plan.readers(stage)).collect(),
            ahead: vec![BTreeSet::new(); stages],
            wakes: BTreeMap::new(),
            next: 0,
        }
    }

    pub(super) fn enter(&mut self, wake: W) -> Number {
        let number = self.next;
        self.next += 1;
        for ahead in &mut self.ahead {
            ahead.insert(number);
        }
        self.wakes.insert(number, wake);
        number
    }

    /// Whether those that read what the stage makes have room for this request.
    pub(super) fn may_start(&self, number: Number, stage: usize) -> bool {
        let before = |reader: &usize| self.ahead[*reader].range(..number).take(CREDITS).count();
        self.readers[stage].iter().all(|reader| before(reader) < CREDITS)
    }

    /// A request has left a stage; answers with the wake of the one that has room by that.
    pub(super) fn passed(&mut self, number: Number, stage: usize) -> Option<W> {
        if !self.ahead[stage].remove(&number) {
            return None;
        }
        // Of those that go on, the one that has just come within reach.
        let reached = self.ahead[stage].iter().nth(CREDITS - 1)?;
        (*reached > number).then(|| self.wakes.get(reached).cloned()).flatten()
    }

    /// A request has ended, however far it came.
    pub(super) fn leave(&mut self, number: Number) -> Vec<W> {
        self.wakes.remove(&number);
        (0..self.ahead.len()).filter_map(|stage| self.passed(number, stage)).collect()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.wakes.is_empty()
    }
}
