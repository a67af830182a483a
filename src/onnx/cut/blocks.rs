//! Blocks that a graph repeats one behind the other, as transformers do their layers.

/// Units of one block: more than any model's layer has. Looking for longer ones would take as long as the graph is long, squared.
const PERIOD_MAX: usize = 1024;

/// Kinds of blocks in one graph.
const RUNS_MAX: usize = 16;

/// Units that are alike have the same kind.
pub(super) struct Row<'r> {
    pub(super) kinds: &'r [u64],
    /// Whether a unit has weights that it multiplies by.
    pub(super) heavy: &'r [bool],
    /// Bytes that are under way before each unit.
    pub(super) width: &'r [u64],
}

/// The number of the block that each unit lies in.
pub(super) fn blocks(row: &Row<'_>) -> Vec<Option<u32>> {
    let mut blocks = vec![None; row.kinds.len()];
    let mut count = 0;
    // Encoder and decoder each repeat their own.
    for _ in 0..RUNS_MAX {
        let Some(run) = best(row, &blocks) else { break };
        for start in run.starts() {
            blocks[start..start + run.period].fill(Some(count));
            count += 1;
        }
    }
    blocks
}

#[derive(Clone, Copy)]
struct Run {
    from: usize,
    period: usize,
    times: usize,
}

impl Run {
    fn starts(self) -> impl Iterator<Item = usize> {
        (0..self.times).map(move |at| self.from + at * self.period)
    }
}

/// The repetition that covers most units which no other has; of several, that of the shortest block.
fn best(row: &Row<'_>, taken: &[Option<u32>]) -> Option<Run> {
    let count = row.kinds.len();
    let mut best: Option<(usize, Run)> = None;
    for period in 1..=(count / 2).min(PERIOD_MAX) {
        let mut from = 0;
        while from + period < count {
            let same = |at: &usize| {
                row.kinds[*at] == row.kinds[at + period]
                    && taken[*at].is_none()
                    && taken[at + period].is_none()
            };
            let length = (from..count - period).take_while(same).count();
            if length >= period && row.heavy[from..from + period].contains(&true) {
                let run = phase(row, from, from + length + period, period);
                let covered = run.times * period;
                if best.is_none_or(|(most, _)| covered > most) {
                    best = Some((covered, run));
                }
            }
            from += length + 1;
        }
    }
    best.map(|(_, run)| run)
}

/// Where blocks begin within a repetition: as many as there is room for, with as little under way between them as can be.
fn phase(row: &Row<'_>, from: usize, to: usize, period: usize) -> Run {
    let times = (to - from) / period;
    let room = (to - from) % period;
    let between =
        |start: usize| (0..times).map(|at| row.width[start + at * period]).fold(0, u64::saturating_add);
    let from = (from..=from + room).min_by_key(|start| between(*start)).unwrap_or(from);
    Run { from, period, times }
}
