//! What requests of a plan cost the machine that its lanes share, by the times in which many were under way. Pure.

use std::collections::BTreeMap;

use crate::{
    domain::{LaneId, StageRun, StagedAnswer},
    predict::{LaneKind, Load, LoadSample},
};

/// Requests under way at once, in the middle, that keep a machine busy.
const MANY: i64 = 4;

/// Answers that came in such times, from which their rate can be told.
const ANSWERS_LEAST: i64 = 32;

/// A lane that computes for a larger share of the time between two answers is what requests wait for, not the machine.
const LANE_MOST: f64 = 0.8;

/// Nothing where too few answers came while many were under way, or where one lane held them up.
pub(super) fn load(answers: &[StagedAnswer]) -> Option<LoadSample> {
    let micros = period(answers)?;
    let count = answers.len() as f64;
    let (mut load, mut lanes) = (Load::default(), BTreeMap::<&LaneId, f64>::new());
    for run in answers.iter().flat_map(|answer| &answer.stages) {
        let lane = &run.provenance;
        let computed = run.timing_us.compute as f64 / f64::from(lane.batch.max(1)) / count;
        *lanes.entry(&lane.lane).or_default() += computed;
        load.compute_us += computed * kind(run).processors();
        if lane.backend.is_native() {
            load.natives += 1.0 / count;
        } else {
            load.pages += 1.0 / count;
            load.bytes += (run.bytes_in + run.bytes_out) as f64 / count;
        }
    }
    let fullest = lanes.into_values().fold(0.0, f64::max);
    (fullest <= LANE_MOST * micros).then_some(LoadSample { load, micros })
}

fn kind(StageRun { provenance, .. }: &StageRun) -> LaneKind {
    LaneKind {
        browser: provenance.browser.clone(),
        backend: provenance.backend.clone(),
        threads: provenance.threads,
        software: provenance.software_adapter,
    }
}

/// Microseconds from one answer to the next while many requests were under way.
fn period(answers: &[StagedAnswer]) -> Option<f64> {
    let begun = answers.iter().map(|answer| (answer.accepted_at_us, 1));
    let ended =
        answers.iter().map(|answer| (answer.accepted_at_us + answer.total_us.max(1).cast_signed(), -1));
    let mut changes: Vec<_> = begun.chain(ended).collect();
    changes.sort_unstable();
    let (mut busy_us, mut came) = (0, 0);
    let mut stretch = Stretch::default();
    for (at, change) in changes {
        if stretch.under_way > 0 {
            stretch.us += at - stretch.until;
            stretch.request_us += (at - stretch.until) * stretch.under_way;
        }
        stretch.until = at;
        stretch.under_way += change;
        if change < 0 {
            stretch.came += 1;
            stretch.first.get_or_insert(at);
        }
        if stretch.under_way == 0 {
            let Stretch { first, until, us, request_us, came: answers, .. } = std::mem::take(&mut stretch);
            if request_us >= MANY * us {
                busy_us += until - first.unwrap_or(until);
                came += answers - 1;
            }
        }
    }
    (came >= ANSWERS_LEAST).then(|| busy_us as f64 / came as f64)
}

/// A time in which requests were under way without a pause.
#[derive(Default)]
struct Stretch {
    under_way: i64,
    /// When its first answer came, and until when it is known.
    first: Option<i64>,
    until: i64,
    us: i64,
    request_us: i64,
    came: i64,
}

#[cfg(test)]
mod tests {
    use super::period;
    use crate::domain::{PlanId, StagedAnswer};

    /// Requests that begin so many microseconds apart and take so long.
    fn answers(count: i64, apart_us: i64, total_us: u64) -> Vec<StagedAnswer> {
        let answer = |at| StagedAnswer {
            plan: PlanId::new("plan"),
            accepted_at_us: at * apart_us,
            total_us,
            stages: Vec::new(),
        };
        (0..count).map(answer).collect()
    }

    #[test]
    fn only_what_came_while_many_were_under_way_tells_of_the_machine() {
        assert_eq!(period(&answers(100, 1000, 900)), None, "one at a time");
        assert_eq!(period(&answers(100, 1000, 3500)), None, "few at a time");
        assert_eq!(period(&answers(20, 1000, 8500)), None, "too few");
        let busy = period(&answers(100, 1000, 8500)).unwrap();
        assert!((busy / 1000.0 - 1.0).abs() < 1e-9, "{busy}");
        // A pause is not the machine's.
        let late = |mut answer: StagedAnswer| {
            answer.accepted_at_us += 60_000_000;
            answer
        };
        let alone = answers(50, 1000, 900).into_iter().map(late);
        let both: Vec<_> = answers(100, 1000, 8500).into_iter().chain(alone).collect();
        assert_eq!(period(&both), Some(busy));
    }
}
