//! What became of the requests of the last minute: how many, how long they took, what failed.
//!
//! Seconds are counted by the caller; nothing here reads a clock.

use std::collections::{BTreeMap, VecDeque};

use serde::Serialize;
use utoipa::ToSchema;

use crate::domain::Code;

const SECONDS: usize = 60;

/// Steps of an octave: a percentile is at most a thirty-second too large.
const STEPS: u64 = 32;
const STEP_BITS: u32 = STEPS.ilog2();

/// Up to `u32::MAX` microseconds, over an hour; whatever took longer counts as that.
const CLASSES: usize = (32 - STEP_BITS as usize + 1) * STEPS as usize;

/// Answers and failures, by second and as a whole
#[derive(Clone, Debug, Default, PartialEq, Serialize, ToSchema)]
pub struct LastMinute {
    pub answered: u64,
    /// By error code, requests that never got as far as a row included.
    pub failed: BTreeMap<&'static str, u64>,
    /// From acceptance to the answer; null without answers.
    pub p50_us: Option<u64>,
    pub p95_us: Option<u64>,
    /// Answers of each second, the oldest first; the second that is not over is left out.
    pub answered_by_second: Vec<u64>,
    pub failed_by_second: Vec<u64>,
}

/// The last seconds in which anything happened, the oldest first.
#[derive(Default)]
pub(super) struct Minute(VecDeque<Second>);

struct Second {
    number: u64,
    answered: u64,
    times: Box<[u32]>,
    failed: BTreeMap<&'static str, u64>,
}

impl Minute {
    pub(super) fn answered(&mut self, now: u64, us: u64) {
        let second = self.second(now);
        second.answered += 1;
        second.times[class(us)] += 1;
    }

    pub(super) fn failed(&mut self, now: u64, code: Code) {
        *self.second(now).failed.entry(code.as_str()).or_default() += 1;
    }

    /// Seconds never go back: who comes late counts in the newest.
    fn second(&mut self, now: u64) -> &mut Second {
        if self.0.back().is_none_or(|newest| newest.number < now) {
            if self.0.len() > SECONDS {
                self.0.pop_front();
            }
            let times = vec![0; CLASSES].into_boxed_slice();
            self.0.push_back(Second { number: now, answered: 0, times, failed: BTreeMap::new() });
        }
        self.0.back_mut().expect("it was just pushed")
    }

    pub(super) fn read(&self, now: u64) -> LastMinute {
        let first = now.saturating_sub(SECONDS as u64);
        let mut told = LastMinute {
            answered_by_second: vec![0; SECONDS],
            failed_by_second: vec![0; SECONDS],
            ..LastMinute::default()
        };
        let mut times = vec![0u64; CLASSES];
        for second in self.0.iter().filter(|second| (first..now).contains(&second.number)) {
            // A daemon younger than a minute has had nothing before.
            let at = SECONDS - usize::try_from(now - second.number).unwrap_or(SECONDS);
            told.answered += second.answered;
            told.answered_by_second[at] = second.answered;
            told.failed_by_second[at] = second.failed.values().sum();
            for (code, count) in &second.failed {
                *told.failed.entry(code).or_default() += count;
            }
            times.iter_mut().zip(&second.times).for_each(|(sum, count)| *sum += u64::from(*count));
        }
        told.p50_us = percentile(&times, told.answered, 50);
        told.p95_us = percentile(&times, told.answered, 95);
        told
    }
}

/// Equal up to `2 * STEPS`, then by octaves.
fn class(us: u64) -> usize {
    let us = us.min(u64::from(u32::MAX));
    let shift = us.checked_ilog2().unwrap_or(0).saturating_sub(STEP_BITS);
    usize::try_from(u64::from(shift) * STEPS + (us >> shift)).expect("less than CLASSES")
}

/// The largest of a class.
fn largest(class: usize) -> u64 {
    let class = class as u64;
    let shift = (class / STEPS).saturating_sub(1);
    ((class - shift * STEPS + 1) << shift) - 1
}

/// The nearest rank.
fn percentile(times: &[u64], count: u64, percent: u64) -> Option<u64> {
    let rank = (count * percent).div_ceil(100);
    let mut below = 0;
    let found = times.iter().position(|times| {
        below += times;
        below >= rank && below > 0
    });
    found.map(largest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_told_at_most_a_thirty_second_too_large() {
        for us in (0..2000).chain([65_535, 1_000_000, 59_999_999, u64::from(u32::MAX)]) {
            let told = largest(class(us));
            assert!(told >= us && told <= us + us / STEPS, "{us} is told as {told}");
        }
        assert_eq!(class(u64::MAX), CLASSES - 1);
    }

    #[test]
    fn the_last_sixty_seconds_count() {
        let mut minute = Minute::default();
        assert_eq!(minute.read(5).p50_us, None);
        minute.answered(0, 1_000_000);
        for us in 1..=20 {
            minute.answered(30, us);
        }
        minute.failed(59, Code::LaneLost);
        minute.failed(59, Code::LaneLost);
        minute.failed(60, Code::Overloaded);
        let told = minute.read(60);
        assert_eq!((told.answered, told.p50_us, told.p95_us), (21, Some(11), Some(20)));
        assert_eq!(told.failed, BTreeMap::from([("lane_lost", 2)]));
        assert_eq!((told.answered_by_second[0], told.answered_by_second[30]), (1, 20));
        assert_eq!(told.failed_by_second[59], 2);
        let later = minute.read(61);
        assert_eq!((later.answered, later.p95_us), (20, Some(19)));
        assert_eq!(later.failed, BTreeMap::from([("lane_lost", 2), ("overloaded", 1)]));
        assert_eq!(minute.read(1000).failed, BTreeMap::new());
    }

    #[test]
    fn what_is_kept_is_bounded() {
        let mut minute = Minute::default();
        for second in 0..500 {
            minute.answered(second, 7);
        }
        assert_eq!(minute.0.len(), SECONDS + 1);
        assert_eq!(minute.read(500).answered, 60);
    }
}
