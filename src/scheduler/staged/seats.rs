//! Where each stage of each plan ran last, and which lanes were lost meanwhile. Pure: it is told the time.

use std::{collections::BTreeMap, time::Duration};

use tokio::time::Instant;

use crate::domain::{LaneId, PlanId};

/// Stages that are known, and lanes; beyond these, what is forgotten is told once more.
const KNOWN_MAX: usize = 4096;

/// A stage of a plan.
pub(super) type StageOf = (PlanId, usize);

#[derive(Default)]
pub(super) struct Seats {
    seats: BTreeMap<StageOf, Seat>,
    /// When each lane was lost the last time.
    lost: BTreeMap<LaneId, Instant>,
}

/// Where the latest step of a stage ran that was answered.
struct Seat {
    lane: LaneId,
    started: Instant,
    answered: Instant,
    /// Whether that is not where its plan wants it.
    elsewhere: bool,
}

/// A step of a stage that was answered.
#[derive(Clone, Copy)]
pub(super) struct Ran<'a> {
    pub(super) lane: &'a LaneId,
    pub(super) elsewhere: bool,
    pub(super) started: Instant,
    pub(super) answered: Instant,
}

/// That a stage runs in another lane than before, or again after its lane was lost.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Moved {
    /// From the loss of its lane, if it was lost, until this answer.
    pub(super) took: Option<Duration>,
}

impl Seats {
    pub(super) fn lose(&mut self, lane: &LaneId, now: Instant) {
        if self.lost.len() >= KNOWN_MAX {
            self.lost.clear();
        }
        self.lost.insert(lane.clone(), now);
    }

    /// Takes note of an answer; says what is news about it.
    pub(super) fn ran(&mut self, stage: &StageOf, ran: Ran<'_>) -> Option<Moved> {
        let Ran { lane, elsewhere, started, answered } = ran;
        let before = self.seats.get(stage);
        let lost = before.and_then(|seat| self.lost.get(&seat.lane).filter(|lost| **lost > seat.answered));
        // An answer from before the loss, or before what is known already, says nothing of where the stage is now.
        if before.is_some_and(|seat| started < seat.started) || lost.is_some_and(|lost| started < *lost) {
            return None;
        }
        let took = lost.map(|lost| answered - *lost);
        let moved = match before {
            None => elsewhere,
            Some(seat) if elsewhere => !seat.elsewhere || seat.lane != *lane,
            Some(seat) => seat.elsewhere,
        };
        if self.seats.len() >= KNOWN_MAX && before.is_none() {
            self.seats.clear();
        }
        self.seats.insert(stage.clone(), Seat { lane: lane.clone(), started, answered, elsewhere });
        (moved || took.is_some()).then_some(Moved { took })
    }
}
